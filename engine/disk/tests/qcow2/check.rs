//! What a check finds in a QCOW2, beside what `qemu-img check` finds in the same file.

use super::kit::{CLUSTER, Dice, L1, L2, Made, img, io, sample};
use cairn_base::{Error, Silent};
use cairn_disk::{Check, FormatHint, OpenOptions, Severity, Topic, examine};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const COPIED: u64 = 1 << 63;

/// What was found: faults and leaks one by one (topic, offset, words), and how many there are of each.
#[derive(Debug, Default)]
pub struct Found {
    pub faults: Vec<(Topic, Option<u64>, String)>,
    pub leaks: Vec<(Topic, Option<u64>, String)>,
    pub fault_count: u64,
    pub leak_count: u64,
    /// Why not everything was checked.
    pub failure: Option<Error>,
}

pub fn checked(path: &Path, options: &OpenOptions) -> Found {
    let mut check = Check::new(&Silent);
    let mut found = Found::default();
    let examined = examine(path, options).unwrap();
    found.failure = examined.check(&mut check).err();
    for one in check.findings() {
        assert_eq!(one.file.as_deref(), Some(path), "{one:?}");
        let told = (one.topic, one.offset, one.what.clone());
        match (one.severity, one.topic) {
            (Severity::Fault, _) => found.faults.push(told),
            (Severity::Remark, Topic::References) => found.leaks.push(told),
            (Severity::Remark, _) => {}
        }
    }
    for count in check.counts() {
        match (count.severity, count.topic) {
            (Severity::Fault, _) => found.fault_count += count.found,
            (Severity::Remark, Topic::References) => found.leak_count += count.found,
            (Severity::Remark, _) => {}
        }
    }
    assert_eq!(found.faults.is_empty(), check.is_sound());
    found
}

fn ours(path: &Path) -> Found {
    checked(path, &OpenOptions::default())
}

/// Errors and leaks that `qemu-img check` counts; none if it does not get that far.
pub fn theirs(path: &Path, format: &str) -> Option<(u64, u64)> {
    let output = Command::new("qemu-img")
        .args(["check", "--output=json", "-f", format])
        .arg(path)
        .current_dir(path.parent().unwrap())
        .output()
        .unwrap();
    if !matches!(output.status.code(), Some(0 | 2 | 3)) {
        return None;
    }
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let number = |name: &str| said[name].as_u64().unwrap_or(0);
    Some((
        number("corruptions") + number("check-errors"),
        number("leaks"),
    ))
}

/// Both say the same: clean, leaks, or errors.
#[track_caller]
fn agree(path: &Path, what: &str) -> Found {
    let found = ours(path);
    let (errors, leaks) = theirs(path, "qcow2").unwrap();
    assert_eq!(
        found.fault_count > 0,
        errors > 0,
        "{what}: {errors} {found:?}"
    );
    if errors == 0 {
        assert_eq!(found.leak_count, leaks, "{what}: {found:?}");
    }
    found
}

fn create(folder: &Path, name: &str, options: &str, size: &str) -> PathBuf {
    let mut arguments = vec!["create", "-q", "-f", "qcow2"];
    if !options.is_empty() {
        arguments.extend(["-o", options]);
    }
    arguments.extend([name, size]);
    img(folder, &arguments);
    folder.join(name)
}

fn writes(seed: u64, size: u64) -> Vec<String> {
    let mut dice = Dice(seed);
    let mut commands = Vec::new();
    for _ in 0..20 {
        let at = dice.below(size / 512 - 600) * 512;
        let length = (1 + dice.below(500)) * 512;
        commands.push(match dice.below(5) {
            0 => format!("write -z {at} {length}"),
            1 => format!("write -z -u {at} {length}"),
            2 => format!("discard {at} {length}"),
            _ => format!("write -P {} {at} {length}", dice.below(256)),
        });
    }
    commands
}

#[test]
fn good_images_are_sound_whatever_their_options() {
    let work = tempfile::tempdir().unwrap();
    for options in [
        "",
        "compat=0.10",
        "cluster_size=512",
        "cluster_size=4k,refcount_bits=1",
        "cluster_size=1k,refcount_bits=2",
        "refcount_bits=4",
        "refcount_bits=8,cluster_size=512",
        "refcount_bits=32",
        "refcount_bits=64,cluster_size=2M",
        "extended_l2=on",
        "extended_l2=on,cluster_size=16k",
        "preallocation=metadata",
        "preallocation=falloc,cluster_size=8k",
        "lazy_refcounts=on",
        "compression_type=zstd",
        "data_file=the.data",
        "data_file=the.data,data_file_raw=on",
    ] {
        let image = create(work.path(), "a.qcow2", options, "20M");
        assert_eq!(agree(&image, options).leak_count, 0);
        io(&image, "qcow2", &writes(3, 20 << 20));
        assert_eq!(agree(&image, options).leak_count, 0);
        // Snapshots need counts above 1, and no external data file.
        if options.contains("data_file") || options.contains("bits=1") || options.contains("bits=2")
        {
            continue;
        }
        for number in 0..3 {
            let name = format!("number {number}");
            img(work.path(), &["snapshot", "-c", &name, "a.qcow2"]);
            io(&image, "qcow2", &writes(7 + number, 20 << 20));
        }
        let found = agree(&image, options);
        assert_eq!((found.fault_count, found.leak_count), (0, 0), "{options}");
        let _ = fs::remove_file(work.path().join("the.data"));
    }
}

#[test]
fn compressed_clusters_and_bitmaps_are_counted() {
    let work = tempfile::tempdir().unwrap();
    sample(&work.path().join("raw"), 9 << 20, 5);
    for options in [
        "cluster_size=64k",
        "cluster_size=4k,compression_type=zstd",
        "cluster_size=2M",
        "extended_l2=on,cluster_size=32k",
    ] {
        let arguments = ["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", options];
        img(work.path(), &[&arguments[..], &["raw", "a.qcow2"]].concat());
        let image = work.path().join("a.qcow2");
        img(work.path(), &["snapshot", "-c", "s", "a.qcow2"]);
        img(work.path(), &["bitmap", "--add", "a.qcow2", "one"]);
        img(
            work.path(),
            &["bitmap", "--add", "-g", "512", "a.qcow2", "two"],
        );
        io(&image, "qcow2", &writes(11, 9 << 20));
        let found = agree(&image, options);
        assert_eq!((found.fault_count, found.leak_count), (0, 0), "{options}");
    }
}

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

const BIG: usize = 64 << 10;

impl Known {
    fn new(folder: &Path) -> Known {
        let path = create(folder, "known.qcow2", "", "64M");
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
    let known = Known::new(work.path());
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
            known.put64(known.l2 + 8, table as u64 | COPIED);
            known.has_fault(Topic::Overlap, known.l2 + 8, "cluster 1 of the disk");
        }
    }
    // Outside, misaligned, reserved.
    known.put64(known.l2, 1 << 40 | COPIED);
    known.has_fault(Topic::Outside, known.l2, "cluster 0 of the disk");
    known.put64(known.l2, first | 512);
    known.has_fault(Topic::Misaligned, known.l2, "cluster 0 of the disk");
    known.put64(known.l2, first | 1 << 57);
    known.has_fault(Topic::Reserved, known.l2, "cluster 0 of the disk");
    known.put64(known.l1, known.l2 as u64 | COPIED | 2);
    known.has_fault(Topic::Reserved, known.l1, "L2 table 0");
    known.put64(known.l1 + 8, 1 << 50 | COPIED);
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
    let known = Known::new(work.path());
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
    let byte = block[at] & !(mask << shift) | (count as u8) << shift;
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

#[test]
fn what_the_header_says_of_the_state() {
    let work = tempfile::tempdir().unwrap();
    let path = create(work.path(), "a.qcow2", "", "8M");
    let good = fs::read(&path).unwrap();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] |= byte;
        fs::write(&path, bytes).unwrap();
        ours(&path)
    };
    assert_eq!(with(79, 1).fault_count, 0);
    let corrupt = with(79, 2);
    assert_eq!(
        (corrupt.faults[0].0, corrupt.faults[0].1),
        (Topic::Structure, Some(72))
    );
    // Counts of 2 to the power of 7 bits.
    let wide = with(99, 3);
    assert_eq!(
        (wide.faults[0].0, wide.faults[0].1),
        (Topic::Structure, Some(96))
    );
    // Snapshots that are nowhere.
    for (at, topic) in [(60, Topic::Structure), (48, Topic::Outside)] {
        let found = with(at, 0x40);
        assert_eq!(
            (found.faults[0].0, found.faults[0].1),
            (topic, Some(at as u64)),
            "{found:?}"
        );
    }
}

#[test]
fn what_has_no_counts_at_all_is_still_looked_at() {
    let work = tempfile::tempdir().unwrap();
    // An image by hand without a refcount table.
    let made = Made::new(1 << 20).entry(1, 1 << 40 | COPIED);
    let path = made.write(&work.path().join("a.qcow2"));
    let found = ours(&path);
    let at = (L2 + 8) as u64;
    assert!(
        found
            .faults
            .iter()
            .any(|fault| (fault.0, fault.1) == (Topic::Outside, Some(at))),
        "{found:?}"
    );
    assert!(
        found
            .faults
            .iter()
            .any(|fault| (fault.0, fault.1) == (Topic::Structure, Some(56))),
        "{found:?}"
    );
    assert_eq!(L1, CLUSTER);
}

/// Bits of tables are changed by chance; whenever QEMU can open the image as we do, both call it good, leaking or damaged.
#[test]
fn both_say_the_same_of_any_damage() {
    let work = tempfile::tempdir().unwrap();
    let known = Known::new(work.path());
    let tables = [
        known.l1,
        known.l2,
        known.refcounts,
        known.refcount_table,
        known.snapshot_l2,
    ];
    let mut dice = Dice(0x5eed);
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
    assert!(verdicts[1] > 3 && verdicts[2] > 30, "{verdicts:?}");
}

#[test]
fn an_external_data_file_has_its_clusters_in_order() {
    let work = tempfile::tempdir().unwrap();
    let path = create(work.path(), "a.qcow2", "data_file=the.data", "8M");
    io(&path, "qcow2", &["write -P 1 0 300k".to_string()]);
    let mut bytes = fs::read(&path).unwrap();
    let place = |bytes: &[u8], at: usize| {
        let number = u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
        usize::try_from(number & 0x00ff_ffff_ffff_fe00).unwrap()
    };
    let l2 = place(&bytes, place(&bytes, 40));
    assert_eq!(place(&bytes, l2 + 16), 2 * BIG);
    bytes[l2 + 16 + 5] = 3;
    fs::write(&path, &bytes).unwrap();
    let found = ours(&path);
    assert_eq!(
        (found.faults[0].0, found.faults[0].1),
        (Topic::State, Some(l2 as u64 + 16))
    );
    assert_eq!(found.fault_count, 1, "{found:?}");
    // A data file that was cut off.
    bytes[l2 + 16 + 5] = 2;
    fs::write(&path, &bytes).unwrap();
    let data = fs::File::options()
        .write(true)
        .open(work.path().join("the.data"));
    data.unwrap().set_len(2 * BIG as u64).unwrap();
    let found = ours(&path);
    let places: Vec<_> = found
        .faults
        .iter()
        .map(|fault| (fault.0, fault.1))
        .collect();
    let expected = [2, 3, 4].map(|number| (Topic::Outside, Some(l2 as u64 + 8 * number)));
    assert_eq!(places, expected, "{found:?}");
}

#[test]
fn an_image_of_no_bytes_and_a_disk_of_no_bytes() {
    let work = tempfile::tempdir().unwrap();
    let empty = work.path().join("empty");
    fs::write(&empty, b"").unwrap();
    // Nothing says that it is anything but a raw disk of no bytes: there is nothing to find damaged, and nothing to read.
    let found = ours(&empty);
    assert_eq!(found.fault_count, 0, "{found:?}");
    let failure = found.failure.unwrap();
    assert_eq!(failure.kind(), cairn_base::Kind::Unsupported);
    assert!(failure.to_string().contains("empty"), "{failure}");
    // One that is called a QCOW2, or said to be one, has lost its header.
    let named = work.path().join("empty.qcow2");
    fs::write(&named, b"").unwrap();
    assert_eq!(ours(&named).fault_count, 1);
    let told = OpenOptions {
        hint: FormatHint::Qcow2,
        ..OpenOptions::default()
    };
    assert_eq!(checked(&empty, &told).fault_count, 1);
    // QEMU makes disks of no bytes.
    let path = create(work.path(), "none.qcow2", "", "0");
    let found = ours(&path);
    assert_eq!(found.fault_count, 0, "{found:?}");
    assert_eq!(found.failure.unwrap().kind(), cairn_base::Kind::Unsupported);
}

#[test]
fn what_is_refused_for_safety_is_no_damage() {
    let work = tempfile::tempdir().unwrap();
    // By its content alone, and with a backing file: a guest may have written that.
    fs::write(work.path().join("secret"), [1; 4096]).unwrap();
    let made = Made::new(1 << 20).backing("secret", Some("raw"));
    let path = made.write(&work.path().join("disk.img"));
    let found = ours(&path);
    let failure = found.failure.unwrap();
    assert_eq!(failure.kind(), cairn_base::Kind::Denied, "{failure}");
    assert!(failure.to_string().contains("secret"), "{failure}");
    // A folder in place of a backing file.
    fs::create_dir(work.path().join("folder")).unwrap();
    let made = Made::new(1 << 20).backing("folder", Some("raw"));
    let path = made.write(&work.path().join("a.qcow2"));
    let failure = ours(&path).failure.unwrap();
    assert_eq!(failure.kind(), cairn_base::Kind::Unsupported, "{failure}");
    assert!(failure.to_string().contains("folder"), "{failure}");
}
