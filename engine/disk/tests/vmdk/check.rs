//! What a check finds in a VMDK: each fault in the file that holds it, where it is written. QEMU's check knows less, and is asked where it knows.

use super::made::{GRAIN, SECTOR, descriptor, esx, put_u32, put_u64, sample, stream, write};
use super::shared::run;
use cairn_base::Silent;
use cairn_disk::{Check, FormatHint, OpenOptions, Severity, Topic, examine};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

type Finding = (Topic, Option<u64>, String);

/// The faults, each with its file, and how many there are.
fn checked(path: &Path) -> (Vec<(PathBuf, Finding)>, u64) {
    let options = OpenOptions {
        hint: FormatHint::Vmdk,
        ..OpenOptions::default()
    };
    let mut check = Check::new(&Silent);
    examine(path, &options).unwrap().check(&mut check).unwrap();
    let faults = check.findings().iter();
    let faults = faults.filter(|found| found.severity == Severity::Fault);
    let told = faults.map(|found| {
        let file = found.file.clone().unwrap();
        (file, (found.topic, found.offset, found.what.clone()))
    });
    let counts = check.counts().iter();
    let counts = counts.filter(|count| count.severity == Severity::Fault);
    (told.collect(), counts.map(|count| count.found).sum())
}

/// The faults of an image that is one file.
fn faults(path: &Path) -> Vec<Finding> {
    let (found, _) = checked(path);
    assert!(found.iter().all(|(file, _)| file == path), "{found:?}");
    found.into_iter().map(|(_, fault)| fault).collect()
}

#[track_caller]
fn has(found: &[Finding], topic: Topic, at: usize, words: &str) {
    let is_it = |(its, offset, what): &&Finding| {
        *its == topic && *offset == Some(at as u64) && what.contains(words)
    };
    assert!(
        found.iter().any(|one| is_it(&one)),
        "{topic} {at} {words}: {found:?}"
    );
}

/// Whether `qemu-img check` finds errors.
fn qemu_finds_errors(path: &Path) -> bool {
    let output = Command::new("qemu-img")
        .args(["check", "-q", "-f", "vmdk"])
        .arg(path)
        .output()
        .unwrap();
    !output.status.success()
}

/// A VMDK of `content` as `qemu-img` makes it.
fn converted(folder: &Path, content: &[u8], subformat: &str) -> PathBuf {
    let raw = write(folder, "raw", content);
    let image = folder.join(format!("{subformat}.vmdk"));
    run(Command::new("qemu-img")
        .args(["convert", "-f", "raw", "-O", "vmdk", "-o"])
        .arg(format!("subformat={subformat}"))
        .args([&raw, &image]));
    image
}

#[test]
fn good_images_are_sound() {
    let work = tempfile::tempdir().unwrap();
    let content = sample((70 << 20) + 512 * 3, 5);
    for subformat in [
        "monolithicSparse",
        "monolithicFlat",
        "twoGbMaxExtentSparse",
        "twoGbMaxExtentFlat",
        "streamOptimized",
    ] {
        let image = converted(work.path(), &content, subformat);
        assert_eq!(checked(&image), (vec![], 0), "{subformat}");
    }
    let small = sample(7 * GRAIN, 2);
    let (bytes, _) = stream(&small);
    assert_eq!(faults(&write(work.path(), "s.vmdk", &bytes)), []);
    for sectors in [1, 8] {
        let small = sample(4 << 20, 3);
        write(work.path(), "a-s001.vmdk", &esx(&small, sectors));
        let line = format!("RW {} VMFSSPARSE \"a-s001.vmdk\"", small.len() / 512);
        let text = descriptor("vmfsSparse", "", &line);
        let image = write(work.path(), "a.vmdk", text.as_bytes());
        assert_eq!(checked(&image), (vec![], 0), "{sectors}");
    }
}

/// A sparse image whose parts are known.
struct Known {
    folder: tempfile::TempDir,
    good: Vec<u8>,
    directory: usize,
    copy: usize,
    /// The first grain table and its copy.
    table: usize,
    table_copy: usize,
    /// The first two grains that are there.
    grains: [usize; 2],
}

impl Known {
    fn new() -> Known {
        let folder = tempfile::tempdir().unwrap();
        let image = converted(folder.path(), &sample(70 << 20, 11), "monolithicSparse");
        let good = fs::read(image).unwrap();
        let sector = |at: usize| u64::from_le_bytes(good[at..at + 8].try_into().unwrap());
        let entry = |at: usize| u32::from_le_bytes(good[at..at + 4].try_into().unwrap());
        let (directory, copy) = (sector(56) as usize * 512, sector(48) as usize * 512);
        let table = entry(directory) as usize * 512;
        let there: Vec<usize> = (0..512).filter(|i| entry(table + 4 * i) != 0).collect();
        Known {
            table_copy: entry(copy) as usize * 512,
            grains: [there[0], there[1]],
            folder,
            good,
            directory,
            copy,
            table,
        }
    }

    fn entry(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.good[at..at + 4].try_into().unwrap())
    }

    fn with(&self, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
        let mut bytes = self.good.clone();
        change(&mut bytes);
        write(self.folder.path(), "b.vmdk", &bytes)
    }
}

#[test]
fn grains_are_told_by_their_entries() {
    let known = Known::new();
    let [first, second] = known.grains;
    let at = |table: usize, grain: usize| table + 4 * grain;
    let both = |bytes: &mut Vec<u8>, grain: usize, value: u32| {
        put_u32(bytes, at(known.table, grain), value);
        put_u32(bytes, at(known.table_copy, grain), value);
    };
    assert_eq!(faults(&known.with(|_| ())), []);
    // Two grains in one place.
    let of_first = known.entry(at(known.table, first));
    let path = known.with(|bytes| both(bytes, second, of_first));
    let words = format!("grain {second} and grain {first} share");
    has(
        &faults(&path),
        Topic::Overlap,
        at(known.table, second),
        &words,
    );
    // In part.
    let path = known.with(|bytes| both(bytes, second, of_first + 127));
    has(
        &faults(&path),
        Topic::Overlap,
        at(known.table, second),
        &format!("grain {second}"),
    );
    // Over tables and headers.
    for place in [known.table, known.table_copy, known.directory, known.copy] {
        let sector = (place / SECTOR) as u32;
        let path = known.with(|bytes| both(bytes, first, sector));
        let found = faults(&path);
        let words = format!("grain {first} and ");
        has(&found, Topic::Overlap, at(known.table, first), &words);
        let over = ["directory", "grain table"];
        let is_named = |fault: &Finding| over.iter().any(|name| fault.2.contains(name));
        assert!(found.iter().any(is_named), "{found:?}");
    }
    // Outside, which QEMU sees too.
    let end = (known.good.len() / SECTOR) as u32;
    for sector in [end, end - 1, 0xffff_fff0] {
        let path = known.with(|bytes| both(bytes, first, sector));
        has(
            &faults(&path),
            Topic::Outside,
            at(known.table, first),
            &format!("grain {first} "),
        );
        assert!(sector == end - 1 || qemu_finds_errors(&path), "{sector}");
    }
    assert!(!qemu_finds_errors(&known.with(|_| ())));
}

#[test]
fn a_table_of_two_entries_is_told_once() {
    let known = Known::new();
    for (what, directory) in [
        ("grain table", known.directory),
        ("copy of grain table", known.copy),
    ] {
        let first = known.entry(directory);
        assert_ne!(first, known.entry(directory + 4));
        let found = faults(&known.with(|bytes| put_u32(bytes, directory + 4, first)));
        // Neither its grains nor the differences from what is another table's.
        let words = format!("{what} 1 and {what} 0 share");
        has(&found, Topic::Overlap, directory + 4, &words);
        assert_eq!(found.len(), 1, "{found:?}");
    }
}

#[test]
fn copies_are_compared() {
    let known = Known::new();
    let [first, _] = known.grains;
    let at = |table: usize| table + 4 * first;
    let path = known.with(|bytes| put_u32(bytes, at(known.table_copy), 5));
    has(
        &faults(&path),
        Topic::Copies,
        at(known.table_copy),
        &format!("grain {first}"),
    );
    assert_eq!(faults(&path).len(), 1);
    // The table is the damaged one: that is where it is told too.
    let path = known.with(|bytes| put_u32(bytes, at(known.table), 0x7fff_ffff));
    let found = faults(&path);
    has(&found, Topic::Copies, at(known.table_copy), "2147483647");
    has(
        &found,
        Topic::Outside,
        at(known.table),
        &format!("grain {first} "),
    );
    // Directories.
    let path = known.with(|bytes| put_u32(bytes, known.directory + 4, 0));
    has(
        &faults(&path),
        Topic::Copies,
        known.directory + 4,
        "no grain table 1",
    );
    let path = known.with(|bytes| put_u32(bytes, known.copy + 4, 0));
    has(
        &faults(&path),
        Topic::Copies,
        known.copy + 4,
        "no grain table 1",
    );
    for (directory, name) in [
        (known.directory, "grain table 1"),
        (known.copy, "copy of grain table 1"),
    ] {
        let path = known.with(|bytes| put_u32(bytes, directory + 4, 0x7fff_ffff));
        has(&faults(&path), Topic::Outside, directory + 4, name);
    }
    // Two tables in one place.
    let first_table = known.entry(known.directory);
    let path = known.with(|bytes| put_u32(bytes, known.directory + 4, first_table));
    has(
        &faults(&path),
        Topic::Overlap,
        known.directory + 4,
        "grain table 1 and grain table 0",
    );
    // A directory that is nowhere, and a copy.
    let path = known.with(|bytes| put_u64(bytes, 56, 1 << 40));
    has(&faults(&path), Topic::Outside, 56, "grain directory");
    let path = known.with(|bytes| put_u64(bytes, 48, 1 << 40));
    has(
        &faults(&path),
        Topic::Outside,
        48,
        "copy of the grain directory",
    );
}

#[test]
fn streams_are_followed_by_their_markers() {
    let content = sample(7 * GRAIN, 2);
    let (good, parts) = stream(&content);
    let work = tempfile::tempdir().unwrap();
    let with = |at: usize, field: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + field.len()].copy_from_slice(field);
        write(work.path(), "b.vmdk", &bytes)
    };
    let number = |at: usize| u32::from_le_bytes(good[at..at + 4].try_into().unwrap()) as usize;
    let table = number(parts.directory) * SECTOR;
    let entry = (0..512)
        .find(|index| number(table + 4 * index) != 0)
        .unwrap();
    let marker = parts.grains[0];
    assert_eq!(number(table + 4 * entry) * SECTOR, marker);
    // Of a grain: another sector, lengths that cannot be.
    has(
        &faults(&with(marker, &[0x80])),
        Topic::Structure,
        table + 4 * entry,
        "marked as that of sector",
    );
    has(
        &faults(&with(marker + 8, &[0; 4])),
        Topic::Compressed,
        marker + 8,
        "0 bytes",
    );
    has(
        &faults(&with(marker + 8, &[0xff; 4])),
        Topic::Compressed,
        marker + 8,
        "which is not",
    );
    // It reaches into the next one.
    let long = (number(marker + 8) as u32 + 1024).to_le_bytes();
    assert!(
        faults(&with(marker + 8, &long))
            .iter()
            .any(|fault| fault.0 == Topic::Overlap)
    );
    // The last one is cut off by the end of the file: it is moved there.
    let last = ((good.len() - SECTOR) / SECTOR) as u32;
    let mut bytes = good.clone();
    put_u32(&mut bytes, table + 4 * entry, last);
    let path = write(work.path(), "b.vmdk", &bytes);
    assert!(
        faults(&path)
            .iter()
            .any(|fault| fault.1 == Some((table + 4 * entry) as u64))
    );
    // Of tables.
    has(
        &faults(&with(table - SECTOR + 12, &[9])),
        Topic::Structure,
        table - SECTOR,
        "grain table 0",
    );
    let before = parts.directory - SECTOR;
    has(
        &faults(&with(before, &[0])),
        Topic::Structure,
        before,
        "grain directory",
    );
}

#[test]
fn a_compressed_grain_that_is_cut_off_is_told() {
    // Here the directory stands in front, so that a stream that was cut off can be opened.
    let work = tempfile::tempdir().unwrap();
    let image = converted(work.path(), &sample(9 * GRAIN, 4), "streamOptimized");
    let good = fs::read(&image).unwrap();
    let number = |at: usize| u32::from_le_bytes(good[at..at + 4].try_into().unwrap()) as usize;
    let directory = u64::from_le_bytes(good[56..64].try_into().unwrap());
    assert_ne!(directory, u64::MAX);
    let table = number(directory as usize * SECTOR) * SECTOR;
    let last = (0..9)
        .max_by_key(|index| number(table + 4 * index))
        .unwrap();
    let marker = number(table + 4 * last) * SECTOR;
    let short = marker + 12 + number(marker + 8) - 1;
    let path = write(work.path(), "b.vmdk", &good[..short]);
    has(&faults(&path), Topic::Outside, marker + 8, "cut off");
    let path = write(work.path(), "b.vmdk", &good[..marker + 5]);
    has(
        &faults(&path),
        Topic::Outside,
        table + 4 * last,
        &format!("grain {last} "),
    );
}

#[test]
fn the_extent_that_holds_the_fault_is_named() {
    let work = tempfile::tempdir().unwrap();
    let content = sample(8 << 20, 6);
    let half = content.len() / 2;
    let names = ["a-s001.vmdk", "a-s002.vmdk"];
    for (name, part) in names.iter().zip(content.chunks(half)) {
        write(work.path(), name, &esx(part, 128));
    }
    let line = |name: &str| format!("RW {} VMFSSPARSE \"{name}\"", half / 512);
    let lines = names.map(line).join("\n");
    let text = descriptor("vmfsSparse", "", &lines);
    let image = write(work.path(), "a.vmdk", text.as_bytes());
    let second = work.path().join(names[1]);
    let mut bytes = fs::read(&second).unwrap();
    let entry = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let table = entry(&bytes, 4 * SECTOR) as usize * SECTOR;
    let grain = (0..64)
        .find(|index| entry(&bytes, table + 4 * index) != 0)
        .unwrap();
    put_u32(&mut bytes, table + 4 * grain, 0x7fff_0000);
    fs::write(&second, &bytes).unwrap();
    let (found, count) = checked(&image);
    assert_eq!((found.len(), count), (1, 1), "{found:?}");
    assert_eq!(found[0].0, second);
    assert_eq!(found[0].1.1, Some((table + 4 * grain) as u64));
    // A flat one that is shorter than the descriptor says: the disk is not opened.
    write(work.path(), "f-flat.vmdk", &[1; 4096]);
    let text = descriptor("monolithicFlat", "", "RW 9 FLAT \"f-flat.vmdk\" 0");
    let image = write(work.path(), "f.vmdk", text.as_bytes());
    let (found, _) = checked(&image);
    assert_eq!(found[0].0, work.path().join("f-flat.vmdk"), "{found:?}");
    assert!(found[0].1.2.contains("4096"), "{found:?}");
    // An extent that is a folder is none, and nothing is damaged.
    fs::remove_file(work.path().join("f-flat.vmdk")).unwrap();
    fs::create_dir(work.path().join("f-flat.vmdk")).unwrap();
    let mut check = Check::new(&Silent);
    let examined = examine(&image, &OpenOptions::default()).unwrap();
    let failure = examined.check(&mut check).unwrap_err();
    assert!(check.is_sound());
    assert_eq!(failure.kind(), cairn_base::Kind::Unsupported, "{failure}");
    assert!(failure.to_string().contains("f-flat.vmdk"), "{failure}");
}

#[test]
fn a_pointless_copy_is_remarked() {
    let known = Known::new();
    let directory = (known.directory / SECTOR) as u64;
    let path = known.with(|bytes| put_u64(bytes, 48, directory));
    assert_eq!(faults(&path), []);
}
