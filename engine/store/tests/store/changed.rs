//! Backups with change information: the same points, from less reading.

use crate::kit::{Kit, R, TestDisk, caller, input, mixed, noise, open_disk};
use cairn_base::read_at::read_vec;
use cairn_base::{Kind, Silent};
use cairn_store::{
    BackupOptions, Change, Changes, CutParameters, DiskInput, ImageFacts, Point, backup, verify,
};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;

fn root(point: &Point) -> [u8; 32] {
    point.record.disks[0].root
}

#[test]
fn nothing_changed_reads_the_check_only() {
    let kit = Kit::new();
    let bytes = mixed(7 * R + 1234, 3);
    let base = kit.backup("m", TestDisk::new(bytes.clone()));
    let disk = Arc::new(TestDisk::new(bytes));
    let point = kit.changed("m", &base, disk.clone(), &[]).unwrap();
    assert_eq!(root(&point), root(&base));
    assert_eq!(point.record.stats.stored, 0);
    assert_eq!(disk.read.load(Ordering::Relaxed), R as u64);
}

/// What is written: where, how long, what (0: noise, 1: zeros that are told, 2: zeros that are not, 3: the same again).
type Write = (usize, usize, u8);

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let length = prop_oneof![
        1usize..5000,
        (1usize..40).prop_map(|blocks| blocks * 4096),
        1usize..600_000,
        R..2 * R,
    ];
    let place = prop_oneof![
        any::<usize>(),
        (0usize..3000).prop_map(|block| block * 4096),
        Just(R),
        Just(usize::MAX),
    ];
    proptest::collection::vec((place, length, 0u8..4), 0..8)
}

fn check(cut: CutParameters, old: &[u8], writes: &[Write], sparse: bool) {
    let kit = Kit::with(cut);
    let base = kit.backup("m", TestDisk::new(old.to_vec()));
    let mut new = old.to_vec();
    let mut ranges = Vec::new();
    for (index, (place, length, what)) in writes.iter().enumerate() {
        let start = match *place {
            // At the disk's end.
            usize::MAX => new.len().saturating_sub(*length),
            place => place % new.len(),
        };
        let end = (start + length).min(new.len());
        match what {
            0 => new[start..end].copy_from_slice(&noise(end - start, 50 + index as u64)),
            1 | 2 => new[start..end].fill(0),
            _ => {}
        }
        ranges.push((start as u64..end as u64, *what == 1));
    }
    let mut disk = TestDisk::new(new.clone());
    if sparse {
        // Zeros that the image does not have allocated.
        let blocks = new.chunks(4096).enumerate();
        let data = blocks.filter(|(_, block)| block.iter().any(|byte| *byte != 0));
        let extent = |(at, block): (usize, &[u8])| {
            let start = at as u64 * 4096;
            start..start + block.len() as u64
        };
        disk.extents = Some(data.map(extent).collect());
    }
    let point = kit.changed("m", &base, Arc::new(disk), &ranges).unwrap();
    assert_eq!(point.record.warnings, [] as [&str; 0]);
    assert!(kit.read(&point).unwrap() == new);
    let whole = kit.backup("other", TestDisk::new(new));
    assert_eq!(root(&whole), root(&point));
    assert_eq!(whole.record.stats.stored, 0);
    assert!(verify(&kit.reopen(), true, &Silent).unwrap().is_clean());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn points_are_those_of_a_full_backup(
        size in 1usize..3 * R,
        seed in 0u64..100,
        fixed: bool,
        sparse: bool,
        writes in writes(),
    ) {
        let cut = if fixed { CutParameters::Fixed { size: 65536 } } else { CutParameters::default() };
        check(cut, &mixed(size, seed), &writes, sparse);
    }
}

#[test]
fn whole_regions_the_last_region_and_all_of_a_disk_may_change() {
    let old = mixed(3 * R + 777, 4);
    for write in [
        (R, R, 0),
        (0, 2 * R, 0),
        (usize::MAX, 777, 0),
        (usize::MAX, 1, 0),
        (0, 4 * R, 0),
        (0, 4 * R, 1),
        (R, R, 1),
        (R, R, 2),
        (R - 1, 2, 0),
        (0, 4 * R, 3),
    ] {
        check(CutParameters::default(), &old, &[write], false);
    }
}

#[test]
fn a_disk_without_data_may_get_some_and_lose_it_again() {
    check(
        CutParameters::default(),
        &vec![0; 2 * R],
        &[(5000, 10_000, 0)],
        true,
    );
    check(
        CutParameters::default(),
        &noise(2 * R, 5),
        &[(0, 2 * R, 1)],
        true,
    );
}

#[test]
fn several_disks_with_and_without_changes() {
    let kit = Kit::new();
    let (a, b) = (noise(2 * R, 6), noise(R + 9, 7));
    let point = |a: &[u8], b: &[u8], changes: Option<Changes>, base: Option<&Point>| {
        let disks = [
            input("a", TestDisk::new(a.to_vec())),
            DiskInput {
                changes: changes.map(caller),
                ..input("b", TestDisk::new(b.to_vec()))
            },
        ];
        let options = BackupOptions {
            base: base.map(|point| point.id),
            ..BackupOptions::new("m")
        };
        let report = backup(&kit.store, &disks, &options, &Silent, &kit.clock);
        report.unwrap().point
    };
    let base = point(&a, &b, None, None);
    // Another point comes in between: the changes are relative to the one that is named.
    point(&b, &a, None, None);
    let (mut new_a, mut new_b) = (a.clone(), b.clone());
    new_a[77] ^= 1;
    new_b[R] ^= 1;
    let range = R as u64..R as u64 + 1;
    let changes = Changes::new(b.len() as u64, [Change { range, zero: false }]).unwrap();
    let made = point(&new_a, &new_b, Some(changes), Some(&base));
    assert_eq!(made.record.base, Some(base.id.0));
    for (name, bytes) in [("a", &new_a), ("b", &new_b)] {
        let disk = open_disk(&kit.store, &made, name);
        assert!(read_vec(&disk, 0, bytes.len()).unwrap() == *bytes);
    }
    assert_eq!(made.record.warnings, [] as [&str; 0]);
}

#[test]
fn what_a_worker_read_before_does_not_show() {
    // One worker takes a full region, then a short one by its changes, then one of which little is allocated.
    let kit = Kit::new();
    let (a, b) = (noise(R, 20), noise(2048, 21));
    let mut c = vec![0; R];
    c[..100].copy_from_slice(&noise(100, 22));
    let point = |base: Option<&Point>| {
        let mut sparse = TestDisk::new(c.clone());
        sparse.extents = Some(std::iter::once(0..100).collect());
        let changes = Changes::new(
            2048,
            [Change {
                range: 0..2048,
                zero: false,
            }],
        );
        let disks = [
            input("a", TestDisk::new(a.clone())),
            DiskInput {
                changes: base.map(|_| caller(changes.unwrap())),
                ..input("b", TestDisk::new(b.clone()))
            },
            input("c", sparse),
        ];
        let options = BackupOptions {
            base: base.map(|point| point.id),
            threads: 1,
            ..BackupOptions::new("m")
        };
        let report = backup(&kit.store, &disks, &options, &Silent, &kit.clock);
        report.unwrap().point
    };
    let base = point(None);
    let made = point(Some(&base));
    let roots = |point: &Point| -> Vec<_> { point.record.disks.iter().map(|d| d.root).collect() };
    assert_eq!(roots(&made), roots(&base));
}

#[test]
fn changes_without_a_base_that_fits_are_refused() {
    let kit = Kit::new();
    let bytes = noise(R, 8);
    let base = kit.backup("m", TestDisk::new(bytes.clone()));
    let other = kit.backup("other", TestDisk::new(bytes.clone()));
    let disk = |name: &str, size: u64| DiskInput {
        changes: Some(caller(Changes::new(size, []).unwrap())),
        ..input(name, TestDisk::new(bytes.clone()))
    };
    let size = bytes.len() as u64;
    for (base, disk, kind) in [
        (None, disk("disk0", size), Kind::Invalid),
        (Some(base.id), disk("disk1", size), Kind::Invalid),
        (Some(base.id), disk("disk0", size + 1), Kind::Invalid),
        (Some(other.id), disk("disk0", size), Kind::NotFound),
    ] {
        let options = BackupOptions {
            base,
            ..BackupOptions::new("m")
        };
        let error = backup(&kit.store, &[disk], &options, &Silent, &kit.clock).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
    let whole = &[(0..size + 1, false)];
    let error = kit.changed("m", &base, Arc::new(bytes), whole).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
}

#[test]
fn a_disk_of_another_size_is_read_as_a_whole() {
    let kit = Kit::new();
    let bytes = noise(2 * R, 9);
    let base = kit.backup("m", TestDisk::new(bytes.clone()));
    for size in [R, 3 * R] {
        let mut now = noise(3 * R, 9);
        now.truncate(size);
        now[5] ^= 1;
        let disk = Arc::new(TestDisk::new(now.clone()));
        let point = kit.changed("m", &base, disk.clone(), &[]).unwrap();
        assert!(kit.read(&point).unwrap() == now);
        assert_eq!(disk.read.load(Ordering::Relaxed), size as u64);
        let [warning] = &point.record.warnings[..] else {
            panic!("{:?}", point.record.warnings);
        };
        assert!(
            warning.starts_with("disk0: it had 8388608 bytes"),
            "{warning}"
        );
        assert_eq!(point.record.stats.unchanged, 0);
    }
}

#[test]
fn the_check_comes_round_to_every_region() {
    let kit = Kit::new();
    let mut bytes = mixed(5 * R, 10);
    // A region of zeros is looked at like any other.
    bytes[3 * R..4 * R].fill(0);
    let base = kit.backup("m", TestDisk::new(bytes.clone()));
    let mut found = Vec::new();
    for sequence in 2..7u64 {
        // One byte in each region changes, and only that of one region is not reported.
        let region = (sequence % 5) as usize;
        let mut now = bytes.clone();
        let mut told = Vec::new();
        for other in 0..5 {
            let at = other * R + 900_000;
            now[at] = now[at].wrapping_add(1);
            if other != region {
                told.push((at as u64..at as u64 + 1, false));
            }
        }
        let disk = Arc::new(TestDisk::new(now.clone()));
        let point = kit.changed("m", &base, disk, &told).unwrap();
        assert_eq!(point.record.sequence, sequence);
        assert!(kit.read(&point).unwrap() == now, "region {region}");
        let [warning] = &point.record.warnings[..] else {
            panic!("region {region}: {:?}", point.record.warnings);
        };
        let offset = warning.split("at offset ").nth(1).unwrap();
        let offset: usize = offset.split(',').next().unwrap().parse().unwrap();
        assert!(
            warning.starts_with("disk0: it differs from the base"),
            "{warning}"
        );
        assert!(
            offset <= region * R + 900_000 && offset >= region * R,
            "{warning}"
        );
        found.push(region);
    }
    found.sort();
    assert_eq!(found, [0, 1, 2, 3, 4]);
}

#[test]
fn what_is_claimed_beside_a_change_is_checked_too() {
    let kit = Kit::new();
    let bytes = noise(R, 11);
    let base = kit.backup("m", TestDisk::new(bytes.clone()));
    let mut now = bytes.clone();
    now[100] ^= 1;
    now[R - 100] ^= 1;
    let disk = Arc::new(TestDisk::new(now.clone()));
    let point = kit.changed("m", &base, disk, &[(100..101, false)]).unwrap();
    assert!(kit.read(&point).unwrap() == now);
    assert_eq!(point.record.warnings.len(), 1);
}

#[test]
fn a_store_that_is_not_whole_is_no_base() {
    let kit = Kit::new();
    let bytes = noise(2 * R, 12);
    let base = kit.backup("m", TestDisk::new(bytes.clone()));
    let segment = crate::kit::files_in(kit.path(), "index").remove(0);
    std::fs::remove_file(kit.path().join(segment)).unwrap();
    let store = kit.reopen();
    let kit = Kit { store, ..kit };
    let disk = Arc::new(TestDisk::new(bytes.clone()));
    let point = kit.changed("m", &base, disk, &[]).unwrap();
    assert!(kit.read(&point).unwrap() == bytes);
    let warned = |text: &str| point.record.warnings.iter().any(|w| w.contains(text));
    assert!(
        warned("parts of the store are missing"),
        "{:?}",
        point.record.warnings
    );
}

#[test]
fn where_names_were_swapped_nothing_is_relied_on() {
    let kit = Kit::new();
    let (a, b) = (noise(R, 15), noise(R, 16));
    let disk = |name: &str, identity: &str, bytes: &[u8], known: bool| DiskInput {
        facts: ImageFacts {
            identity: identity.to_string(),
            ..ImageFacts::default()
        },
        changes: known.then(|| caller(Changes::new(R as u64, []).unwrap())),
        ..input(name, TestDisk::new(bytes.to_vec()))
    };
    let mut options = BackupOptions::new("m");
    let run = |disks: &[DiskInput], options: &BackupOptions| {
        let report = backup(&kit.store, disks, options, &Silent, &kit.clock);
        report.unwrap().point
    };
    let base = run(
        &[disk("C", "x", &a, false), disk("D", "y", &b, false)],
        &options,
    );
    options.base = Some(base.id);
    let point = run(
        &[disk("C", "y", &b, true), disk("D", "x", &a, true)],
        &options,
    );
    assert!(read_vec(&open_disk(&kit.store, &point, "C"), 0, R).unwrap() == b);
    let warnings = &point.record.warnings;
    let warned = |text: &str| warnings.iter().filter(|w| w.contains(text)).count();
    assert_eq!(warned("it had another name at the base"), 2, "{warnings:?}");
    assert_eq!(point.record.stats.read, 2 * R as u64);
}

#[test]
fn zeros_that_are_none_are_noticed() {
    let kit = Kit::new();
    let bytes = noise(2 * R, 30);
    let base = kit.backup("m", TestDisk::new(bytes.clone()));
    // Both regions as a whole; then a part of one, so that one of two points looks there.
    for (range, points) in [(0..2 * R as u64, 1), (R as u64 + 5000..R as u64 + 9000, 2)] {
        let mut warned = 0;
        for _ in 0..points {
            let disk = Arc::new(TestDisk::new(bytes.clone()));
            let point = kit
                .changed("m", &base, disk, &[(range.clone(), true)])
                .unwrap();
            let warnings = &point.record.warnings;
            if warnings.iter().any(|w| w.contains("everything was read")) {
                warned += 1;
                assert!(kit.read(&point).unwrap() == bytes);
            }
        }
        assert_eq!(warned, 1, "{range:?}");
    }
}

#[test]
fn another_disk_and_one_that_changed_meanwhile_are_no_base() {
    let kit = Kit::new();
    let old = noise(2 * R, 31);
    let point = |bytes: &[u8], identity: &str, mixed: bool, base: Option<&Point>| {
        let changes = Changes::new(bytes.len() as u64, []).unwrap();
        let facts = ImageFacts {
            identity: identity.to_string(),
            ..ImageFacts::default()
        };
        let disks = [DiskInput {
            facts,
            changes: base.map(|_| caller(changes)),
            changed: Some(Box::new(move || Ok(mixed.then(|| "it did".to_string())))),
            ..input("disk0", TestDisk::new(bytes.to_vec()))
        }];
        let options = BackupOptions {
            base: base.map(|point| point.id),
            ..BackupOptions::new("m")
        };
        backup(&kit.store, &disks, &options, &Silent, &kit.clock)
            .unwrap()
            .point
    };
    let first = point(&old, "a", false, None);
    let same = point(&old, "a", false, Some(&first));
    assert_eq!(same.record.warnings, [] as [&str; 0]);
    // A disk of the same size in its place.
    let mut new = old.clone();
    new[R + 5] ^= 1;
    let other = point(&new, "b", false, Some(&first));
    assert!(
        other.record.warnings[0].contains("another disk"),
        "{:?}",
        other.record.warnings
    );
    assert!(kit.read(&other).unwrap() == new);
    let mixed = point(&old, "a", true, None);
    assert!(mixed.record.disks[0].mixed && !first.record.disks[0].mixed);
    let after = point(&new, "a", false, Some(&mixed));
    assert!(
        after.record.warnings[0].contains("changed while"),
        "{:?}",
        after.record.warnings
    );
    assert!(kit.read(&after).unwrap() == new);
}
