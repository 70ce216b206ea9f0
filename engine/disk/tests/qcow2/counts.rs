//! Faults and leaks of a QCOW2 whose parts are known, each where it is written, and beside what `qemu-img check` says.

use super::check::{BIG, agree, create, ours, theirs};
use super::kit::{Dice, img, io};
use cairn_disk::Topic;
use std::fs;
use std::path::{Path, PathBuf};

const COPIED: u64 = 1 << 63;

/// A QCOW2 whose parts are known: an L2 table with the clusters of 0 to 7, a snapshot of these, and two of them written anew.
struct Known {
    path: PathBuf,
    good: Vec<u8>,
    l1: usize,
    l2: usize,
    refcounts: usize,
    refcount_table: usize,
    snapshot_l2: usize,
}

impl Known {
    fn new(folder: &Path, options: &str) -> Known {
        let path = create(folder, "known.qcow2", options, "64M");
        io(&path, "qcow2", &["write -P 1 0 512k".to_string()]);
        img(folder, &["snapshot", "-c", "s", "known.qcow2"]);
        io(&path, "qcow2", &["write -P 2 0 128k".to_string()]);
        let good = fs::read(&path).unwrap();
        let number = |at: usize| u64::from_be_bytes(good[at..at + 8].try_into().unwrap());
        let place = |at: usize| usize::try_from(number(at) & 0x00ff_ffff_ffff_fe00).unwrap();
        let l1 = place(40);
        let refcount_table = place(48);
        let snapshot_l1 = place(place(64));
        Known {
            l1,
            l2: place(l1),
            refcount_table,
            refcounts: place(refcount_table),
            snapshot_l2: place(snapshot_l1),
            path,
            good,
        }
    }

    fn number(&self, at: usize) -> u64 {
        u64::from_be_bytes(self.good[at..at + 8].try_into().unwrap())
    }

    /// The cluster of the file in which cluster `number` of the disk lies.
    fn host(&self, number: usize) -> usize {
        usize::try_from(self.number(self.l2 + 8 * number) & 0x00ff_ffff_ffff_fe00).unwrap() / BIG
    }

    fn put(&self, at: usize, bytes: &[u8]) {
        let mut image = self.good.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        fs::write(&self.path, image).unwrap();
    }

    fn put64(&self, at: usize, value: u64) {
        self.put(at, &value.to_be_bytes());
    }

    /// A fault of this topic at this offset, and whatever else follows from it; QEMU finds errors too.
    #[track_caller]
    fn has_fault(&self, topic: Topic, at: usize, words: &str) {
        let found = agree(&self.path, words);
        let is_it = |(its, offset, what): &(Topic, Option<u64>, String)| {
            *its == topic && *offset == Some(at as u64) && what.contains(words)
        };
        assert!(
            found.faults.iter().any(is_it),
            "{topic} {at} {words}: {found:?}"
        );
    }

    /// Leaked, and nothing else.
    #[track_caller]
    fn has_leak(&self, at: usize) {
        let found = agree(&self.path, "a leak");
        assert_eq!(found.fault_count, 0, "{found:?}");
        let places: Vec<_> = found.leaks.iter().map(|leak| leak.1).collect();
        assert_eq!(places, [Some(at as u64)], "{found:?}");
    }
}

#[test]
fn faults_are_told_where_they_are_written() {
    let work = tempfile::tempdir().unwrap();
    let known = Known::new(work.path(), "");
    assert_eq!(agree(&known.path, "good").leak_count, 0);
    let (first, second) = (known.number(known.l2), known.number(known.l2 + 8));
    assert_eq!(first & COPIED, COPIED);
    // Two clusters of the disk in one of the file.
    known.put64(known.l2 + 8, first);
    known.has_fault(
        Topic::Overlap,
        known.l2 + 8,
        "cluster 1 of the disk and cluster 0 of the disk",
    );
    // A cluster of the disk over a table.
    for table in [known.l1, known.l2, known.refcounts, known.refcount_table, 0] {
        if table != 0 {
            known.put64(known.l2 + 8, (table as u64) | COPIED);
            known.has_fault(Topic::Overlap, known.l2 + 8, "cluster 1 of the disk");
        }
    }
    // Outside, misaligned, reserved.
    known.put64(known.l2, (1 << 40) | COPIED);
    known.has_fault(Topic::Outside, known.l2, "cluster 0 of the disk");
    known.put64(known.l2, first | 512);
    known.has_fault(Topic::Misaligned, known.l2, "cluster 0 of the disk");
    known.put64(known.l2, first | (1 << 57));
    known.has_fault(Topic::Reserved, known.l2, "cluster 0 of the disk");
    known.put64(known.l1, (known.l2 as u64) | COPIED | 2);
    known.has_fault(Topic::Reserved, known.l1, "L2 table 0");
    known.put64(known.l1 + 8, (1 << 50) | COPIED);
    assert_eq!(known.number(known.l1 + 8), 0);
    // The disk of 64 MiB needs one entry only.
    assert_eq!(agree(&known.path, "behind the table").fault_count, 0);
    known.put64(known.refcount_table, known.refcounts as u64 | 1);
    known.has_fault(Topic::Reserved, known.refcount_table, "refcount block 0");
    known.put64(known.snapshot_l2 + 8 * 5, 1 << 45);
    known.has_fault(
        Topic::Outside,
        known.snapshot_l2 + 8 * 5,
        "cluster 5 of snapshot 1",
    );
    // COPIED says that the count is 1.
    known.put64(known.l2, first & !COPIED);
    known.has_fault(Topic::References, known.l2, "COPIED");
    let shared = known.number(known.l2 + 8 * 5);
    assert_eq!(shared & COPIED, 0);
    known.put64(known.l2 + 8 * 5, shared | COPIED);
    known.has_fault(Topic::References, known.l2 + 8 * 5, "COPIED");
    assert_ne!(first, second);
}

#[test]
fn counts_are_compared() {
    let work = tempfile::tempdir().unwrap();
    let known = Known::new(work.path(), "");
    let count_at = |cluster: usize| known.refcounts + 2 * cluster;
    // Too high where nobody looks is a leak; so is what is no longer referred to.
    let behind = known.good.len() / BIG - 1;
    let shared = known.host(5);
    let own = known.host(0);
    known.put(count_at(shared), &3u16.to_be_bytes());
    known.has_leak(count_at(shared));
    known.put64(known.l2, 0);
    known.has_leak(count_at(own));
    // Too low is damage: what is written there next is lost.
    known.put(count_at(own), &0u16.to_be_bytes());
    known.has_fault(Topic::References, count_at(own), "cluster 0 of the disk");
    known.put(count_at(shared), &1u16.to_be_bytes());
    known.has_fault(Topic::References, count_at(shared), "counted 1");
    assert!(behind > shared);
}

/// Where cluster `number` has its count, and what stands there with another count; as the specification has it ("Refcount blocks").
fn with_count(block: &[u8], bits: usize, number: usize, count: u64) -> (usize, Vec<u8>) {
    if bits >= 8 {
        let size = bits / 8;
        return (number * size, count.to_be_bytes()[8 - size..].to_vec());
    }
    let at = number * bits / 8;
    let shift = number * bits % 8;
    let mask = ((1u16 << bits) - 1) as u8;
    let byte = (block[at] & !(mask << shift)) | ((count as u8) << shift);
    (at, vec![byte])
}

#[test]
fn counts_of_all_widths_are_read() {
    let work = tempfile::tempdir().unwrap();
    for bits in [1usize, 2, 4, 8, 16, 32, 64] {
        let options = format!("refcount_bits={bits}");
        let path = create(work.path(), "a.qcow2", &options, "8M");
        io(&path, "qcow2", &["write -P 1 0 300k".to_string()]);
        let good = fs::read(&path).unwrap();
        let place = |at: usize| {
            let number = u64::from_be_bytes(good[at..at + 8].try_into().unwrap());
            usize::try_from(number & 0x00ff_ffff_ffff_fe00).unwrap()
        };
        let block = place(place(48));
        let host = place(place(place(40)) + 8 * 3) / BIG;
        for (count, is_leak) in [(0, false), (3, true), (u64::MAX, true)] {
            let most = u64::MAX >> (64 - bits);
            if is_leak && most < 3 {
                continue;
            }
            let (at, bytes) = with_count(&good[block..], bits, host, count.min(most));
            let mut image = good.clone();
            image[block + at..block + at + bytes.len()].copy_from_slice(&bytes);
            fs::write(&path, image).unwrap();
            let found = ours(&path);
            let at = Some((block + at) as u64);
            if is_leak {
                assert_eq!((found.leaks[0].1, found.leak_count), (at, 1), "{bits}");
                let said = format!("counted {} ", count.min(most));
                assert!(found.leaks[0].2.contains(&said), "{found:?}");
                // The one that is not alone any more says COPIED.
                assert_eq!(found.faults.len(), 1, "{bits}: {found:?}");
            } else {
                assert_eq!(found.leak_count, 0);
                let is_it = |fault: &(Topic, Option<u64>, String)| {
                    (fault.0, fault.1) == (Topic::References, at)
                };
                assert!(found.faults.iter().any(is_it), "{bits}: {found:?}");
            }
            // Counts that do not fit an int are beyond what QEMU prints, not beyond what it compares.
            agree(&path, &options);
        }
    }
}

/// Bits of tables are changed by chance; whenever QEMU can open the image as we do, both call it good, leaking or damaged.
#[test]
fn both_say_the_same_of_any_damage() {
    for (options, seed) in [("", 0x5eed), ("extended_l2=on", 0xfeed)] {
        let verdicts = damage_by_chance(options, seed);
        assert!(verdicts[1] > 3 && verdicts[2] > 30, "{verdicts:?}");
    }
}

/// How often both say that an image is good, leaks, and is damaged.
fn damage_by_chance(options: &str, seed: u64) -> [u32; 3] {
    let work = tempfile::tempdir().unwrap();
    let known = Known::new(work.path(), options);
    let tables = [
        known.l1,
        known.l2,
        known.refcounts,
        known.refcount_table,
        known.snapshot_l2,
    ];
    let mut dice = Dice(seed);
    let mut verdicts = [0; 3];
    for round in 0..120 {
        let mut bytes = known.good.clone();
        let mut changes = Vec::new();
        for _ in 0..=dice.below(2) {
            let table = tables[dice.below(5) as usize];
            // What is used of a table: the first entries.
            let used = match table {
                table if table == known.l1 || table == known.refcount_table => 8,
                table if table == known.refcounts => 40,
                _ => 80,
            };
            let at = table + dice.below(used) as usize;
            let bit = dice.below(8);
            bytes[at] ^= 1 << bit;
            changes.push((at, bit));
        }
        fs::write(&known.path, &bytes).unwrap();
        let Some((errors, leaks)) = theirs(&known.path, "qcow2") else {
            continue;
        };
        let found = ours(&known.path);
        assert_eq!(
            found.fault_count > 0,
            errors > 0,
            "{round} {changes:?}: {errors} {found:?}"
        );
        if errors == 0 {
            assert_eq!(found.leak_count, leaks, "{round} {changes:?}: {found:?}");
        }
        verdicts[match (errors, leaks) {
            (0, 0) => 0,
            (0, _) => 1,
            _ => 2,
        }] += 1;
    }
    verdicts
}
