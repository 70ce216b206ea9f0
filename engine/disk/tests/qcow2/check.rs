//! What a check finds in a QCOW2, beside what `qemu-img check` finds in the same file.

use super::kit::{CLUSTER, Dice, L1, L2, Made, img, io, sample};
use cairn_base::{Error, Silent};
use cairn_disk::{Check, FormatHint, OpenOptions, Severity, Topic, examine};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const COPIED: u64 = 1 << 63;
/// Bytes of a cluster, unless QEMU is told otherwise.
pub const BIG: usize = 64 << 10;

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

pub fn ours(path: &Path) -> Found {
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
pub fn agree(path: &Path, what: &str) -> Found {
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

pub fn create(folder: &Path, name: &str, options: &str, size: &str) -> PathBuf {
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
    let made = Made::new(1 << 20).entry(1, (1 << 40) | COPIED);
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

#[test]
fn bitmaps_that_share_a_table_are_not_all_looked_at() {
    let work = tempfile::tempdir().unwrap();
    // Seven bitmaps, each with the same table of a cluster, in a file of five.
    let (directory, table) = (3 * CLUSTER, 4 * CLUSTER);
    let mut extension = vec![0, 0, 0, 7, 0, 0, 0, 0];
    extension.extend((7u64 * 24).to_be_bytes());
    extension.extend((directory as u64).to_be_bytes());
    let mut made = Made::new(1 << 20).extension(0x2385_2875, &extension);
    made.bytes.resize(5 * CLUSTER, 0);
    made.bytes[95] |= 1;
    for bitmap in 0..7 {
        made.put64(directory + 24 * bitmap, table as u64);
        made.put32(directory + 24 * bitmap + 8, 512);
    }
    let found = ours(&made.write(&work.path().join("a.qcow2")));
    let overlaps: Vec<_> = found
        .faults
        .iter()
        .filter(|fault| fault.0 == Topic::Overlap)
        .collect();
    let [(_, at, words)] = overlaps.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(*at, Some((directory + 24 * 5) as u64));
    assert!(
        words.contains("the table of bitmap 6 and those before it are larger"),
        "{words}"
    );
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
