//! What a check finds in a VDI, beside what `qemu-img check` finds in the same file.

use super::check::{Found, checked, theirs};
use super::kit::{Dice, img, io};
use cairn_disk::{OpenOptions, Topic};
use std::fs;
use std::path::{Path, PathBuf};

const DATA: usize = 344;
const BLOCKS: usize = 384;
const ALLOCATED: usize = 388;

struct Known {
    path: PathBuf,
    good: Vec<u8>,
    table: usize,
}

impl Known {
    /// A disk of 9 blocks, of which 1, 3, 4 and the last one, a part of one, are there.
    fn new(folder: &Path) -> Known {
        let path = folder.join("a.vdi");
        let size = ((8 << 20) + 512).to_string();
        img(folder, &["create", "-q", "-f", "vdi", "a.vdi", &size]);
        let commands = ["write -P 1 1M 512", "write -P 3 3M 2M", "write -P 8 8M 512"];
        io(&path, "vdi", &commands.map(str::to_string));
        let good = fs::read(&path).unwrap();
        let table = u32::from_le_bytes(good[340..344].try_into().unwrap()) as usize;
        Known { path, good, table }
    }

    fn put(&self, at: usize, value: u32) {
        let mut bytes = self.good.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        fs::write(&self.path, bytes).unwrap();
    }

    /// What is found, of which QEMU says the same.
    #[track_caller]
    fn agree(&self) -> Found {
        let found = checked(&self.path, &OpenOptions::default());
        let (errors, _) = theirs(&self.path, "vdi").unwrap();
        assert_eq!(found.fault_count > 0, errors > 0, "{errors} {found:?}");
        found
    }

    #[track_caller]
    fn has_fault(&self, topic: Topic, at: usize, words: &str) {
        let found = self.agree();
        let is_it = |(its, offset, what): &(Topic, Option<u64>, String)| {
            *its == topic && *offset == Some(at as u64) && what.contains(words)
        };
        assert!(
            found.faults.iter().any(is_it),
            "{topic} {at} {words}: {found:?}"
        );
    }
}

#[test]
fn blocks_are_told_by_their_entries() {
    let work = tempfile::tempdir().unwrap();
    let known = Known::new(work.path());
    assert_eq!(known.agree().fault_count, 0);
    let entry = |block: usize| known.table + 4 * block;
    let number =
        |block: usize| u32::from_le_bytes(known.good[entry(block)..][..4].try_into().unwrap());
    known.put(entry(4), number(3));
    known.has_fault(Topic::Overlap, entry(4), "block 4 and block 3");
    known.put(entry(3), number(4));
    known.has_fault(Topic::Overlap, entry(4), "block 4 and block 3");
    for wild in [9, 0x7fff_ffff, 0xffff_fffd] {
        known.put(entry(3), wild);
        known.has_fault(Topic::Outside, entry(3), "block 3");
    }
    // A number that could be, of a block that is not in the file.
    known.put(entry(0), 7);
    let found = checked(&known.path, &OpenOptions::default());
    assert!(
        found
            .faults
            .iter()
            .any(|fault| (fault.0, fault.1) == (Topic::Outside, Some(entry(0) as u64))),
        "{found:?}"
    );
    // Lost blocks, and a count that says so.
    known.put(entry(3), u32::MAX);
    known.has_fault(Topic::References, ALLOCATED, "4 blocks");
    known.put(ALLOCATED, 5);
    known.has_fault(Topic::References, ALLOCATED, "5 blocks");
    // A table that is said to be longer than the file.
    known.put(BLOCKS, 1 << 30);
    let found = checked(&known.path, &OpenOptions::default());
    let places: Vec<_> = found.faults.iter().map(|one| (one.0, one.1)).collect();
    assert_eq!(places, [(Topic::Outside, Some(BLOCKS as u64))], "{found:?}");
    // Blocks over the table.
    known.put(DATA, 512);
    let found = checked(&known.path, &OpenOptions::default());
    assert!(
        found.faults.iter().any(|fault| fault.0 == Topic::Overlap),
        "{found:?}"
    );
}

#[test]
fn good_images_are_sound() {
    let work = tempfile::tempdir().unwrap();
    for options in [&[][..], &["-o", "static=on"]] {
        let arguments = ["create", "-q", "-f", "vdi"];
        img(
            work.path(),
            &[&arguments[..], options, &["a.vdi", "21M"]].concat(),
        );
        let path = work.path().join("a.vdi");
        io(&path, "vdi", &["write -P 1 5M 7M".to_string()]);
        let found = checked(&path, &OpenOptions::default());
        assert_eq!(found.fault_count, 0, "{options:?} {found:?}");
        assert_eq!(theirs(&path, "vdi"), Some((0, 0)));
    }
}

/// Entries of the table are changed by chance: both call the image good, or damaged.
#[test]
fn both_say_the_same_of_any_table() {
    let work = tempfile::tempdir().unwrap();
    let known = Known::new(work.path());
    let mut dice = Dice(77);
    let mut damaged = 0;
    for round in 0..60 {
        let mut bytes = known.good.clone();
        for _ in 0..=dice.below(3) {
            let at = known.table + 4 * dice.below(9) as usize;
            let value = match dice.below(3) {
                0 => u32::MAX,
                1 => u32::MAX - 1,
                _ => dice.below(4) as u32,
            };
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        fs::write(&known.path, bytes).unwrap();
        let found = checked(&known.path, &OpenOptions::default());
        let (errors, _) = theirs(&known.path, "vdi").unwrap();
        assert_eq!(
            found.fault_count > 0,
            errors > 0,
            "{round}: {errors} {found:?}"
        );
        damaged += u32::from(errors > 0);
    }
    assert!((20..60).contains(&damaged), "{damaged}");
}
