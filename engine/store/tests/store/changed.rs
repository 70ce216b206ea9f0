//! Backups with change information: the same points, from less reading.

use crate::kit::{Kit, R, TestDisk, input, mixed, noise, open_disk};
use cairn_base::read_at::{check_range, read_vec};
use cairn_base::{Kind, ReadAt, Result, Silent};
use cairn_store::{
    BackupOptions, Change, Changes, ChunkReader, CutParameters, DiskInput, Point, Tree, backup,
    verify,
};
use proptest::prelude::*;
use std::collections::HashMap;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A large disk that needs no memory: `pattern` again and again in the regions that have data, with blocks that were
/// overwritten. Counts what is read.
struct Wide {
    size: u64,
    pattern: Vec<u8>,
    /// Regions with data; `None`: all of them.
    regions: Option<Vec<u64>>,
    written: HashMap<u64, u8>,
    read: AtomicU64,
}

const BLOCK: u64 = 4096;

impl Wide {
    fn has_data(&self, region: u64) -> bool {
        let listed = |regions: &Vec<u64>| regions.contains(&region);
        self.regions.as_ref().is_none_or(listed)
    }

    fn read_block(&self, block: u64, out: &mut [u8], skip: usize) {
        match self.written.get(&block) {
            Some(byte) => {
                for (at, out) in out.iter_mut().enumerate() {
                    *out = (skip + at) as u8 ^ *byte;
                }
            }
            None if self.has_data(block * BLOCK / R as u64) => {
                let start = (block * BLOCK) as usize % self.pattern.len() + skip;
                out.copy_from_slice(&self.pattern[start..start + out.len()]);
            }
            None => out.fill(0),
        }
    }
}

impl ReadAt for Wide {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size, offset, buffer.len())?;
        self.read.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        let mut at = 0;
        while at < buffer.len() {
            let here = offset + at as u64;
            let skip = (here % BLOCK) as usize;
            let length = (BLOCK as usize - skip).min(buffer.len() - at);
            self.read_block(here / BLOCK, &mut buffer[at..at + length], skip);
            at += length;
        }
        Ok(())
    }

    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let regions = range.start / R as u64..range.end.div_ceil(R as u64);
        let data = |region: &u64| {
            let blocks = region * 1024..(region + 1) * 1024;
            self.has_data(*region) || self.written.keys().any(|block| blocks.contains(block))
        };
        let clip = |r: u64| (r * R as u64).max(range.start)..((r + 1) * R as u64).min(range.end);
        match &self.regions {
            None => Ok(std::iter::once(range.start..range.end.min(self.size)).collect()),
            Some(_) => Ok(regions.filter(data).map(clip).collect()),
        }
    }
}

fn changes_of(disk: &Wide) -> Vec<(Range<u64>, bool)> {
    let range = |block: &u64| (block * BLOCK..(block + 1) * BLOCK, false);
    disk.written.keys().map(range).collect()
}

/// Blocks spread over `blocks`, the same every time.
fn scattered(count: usize, blocks: u64) -> HashMap<u64, u8> {
    let mut state = 88_172_645_463_325_252u64;
    let mut written = HashMap::new();
    while written.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        written.insert(state % blocks, (state >> 40) as u8);
    }
    written
}

fn root(point: &Point) -> [u8; 32] {
    point.record.disks[0].root
}

fn full(kit: &Kit, machine: &str, source: Arc<dyn ReadAt>) -> Point {
    let disks = [DiskInput {
        source,
        ..input("disk0", TestDisk::new(vec![]))
    }];
    let options = BackupOptions::new(machine);
    let report = backup(&kit.store, &disks, &options, &Silent, &kit.clock);
    report.unwrap().point
}

/// Backs up scattered writes; answers the bytes read.
fn read_for(size: u64, writes: usize) -> u64 {
    let kit = Kit::new();
    let wide = |written| Wide {
        size,
        pattern: noise(16 << 20, 1),
        regions: None,
        written,
        read: AtomicU64::new(0),
    };
    let base = full(&kit, "m", Arc::new(wide(HashMap::new())));
    let disk = Arc::new(wide(scattered(writes, size / BLOCK)));
    let point = kit.changed("m", &base, disk.clone(), &changes_of(&disk));
    let point = point.unwrap();
    let read = disk.read.load(Ordering::Relaxed);
    assert_eq!(point.record.stats.read, read);
    assert_eq!(point.record.stats.unchanged, size - writes as u64 * BLOCK);
    assert_eq!(point.record.warnings, [] as [&str; 0]);
    assert_eq!(point.record.base, Some(base.id.0));
    assert_eq!(root(&full(&kit, "n", disk)), root(&point));
    read
}

#[test]
fn scattered_writes_cost_their_chunks() {
    let (size, writes) = (1u64 << 30, 2500);
    let read = read_for(size, writes);
    let checked = size / 500 + R as u64;
    assert!(read <= writes as u64 * (80 << 10) + checked, "{read}");
}

#[test]
#[ignore = "takes minutes; scattered_writes_cost_their_chunks is the same, smaller"]
fn twenty_thousand_writes_into_8_gib() {
    let (size, writes) = (8u64 << 30, 20_000);
    let read = read_for(size, writes);
    let checked = size / 500 + R as u64;
    assert!(read <= writes as u64 * (80 << 10) + checked, "{read}");
}

#[test]
fn a_huge_disk_costs_what_changed() {
    let tib = 1u64 << 40;
    let per_tib = tib / R as u64;
    let kit = Kit::new();
    let wide = |written| Wide {
        size: 64 * tib - 4096 * 3,
        pattern: noise(R, 2),
        regions: Some(vec![0, 1, 3, 256, 20 * per_tib, 64 * per_tib - 1]),
        written,
        read: AtomicU64::new(0),
    };
    let base = full(&kit, "m", Arc::new(wide(HashMap::new())));
    // In data, in a hole far from all else, and at the end.
    let written = HashMap::from([(5, 1), (40 * tib / BLOCK, 2), (64 * tib / BLOCK - 4, 3)]);
    let disk = Arc::new(wide(written));
    let point = kit.changed("m", &base, disk.clone(), &changes_of(&disk));
    let point = point.unwrap();
    let stats = &point.record.stats;
    assert!(stats.read <= 3 * (256 << 10) + R as u64, "{stats:?}");
    // Three leaves, the nodes above them, and a few chunks of data.
    assert!(stats.new_chunks <= 3 * (1 + 3 + 4), "{stats:?}");
    let again = full(&kit, "n", disk);
    assert_eq!(root(&again), root(&point));
    assert_eq!(again.record.stats.stored, 0);
    assert!(verify(&kit.reopen(), false, &Silent).unwrap().is_clean());
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
                changes: changes.map(Arc::new),
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
        sparse.extents = Some(vec![0..100]);
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
                changes: base.map(|_| Arc::new(changes.unwrap())),
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
        changes: Some(Arc::new(Changes::new(size, []).unwrap())),
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
    for pack in crate::kit::files_in(kit.path(), "packs") {
        std::fs::remove_file(kit.path().join(pack)).unwrap();
    }
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
fn where_the_map_is_damaged_the_disk_is_read() {
    let kit = Kit::new();
    let wide = |regions: &[u64], written| Wide {
        size: 3 << 30,
        pattern: noise(R, 13),
        regions: Some(regions.to_vec()),
        written,
        read: AtomicU64::new(0),
    };
    full(&kit, "m", Arc::new(wide(&[3], HashMap::new())));
    let base = full(&kit, "m", Arc::new(wide(&[3, 600], HashMap::new())));
    // The node above region 600 is lost; the third point's check looks at region 3.
    let tree =
        |store| Tree::new(Arc::new(ChunkReader::new(store, 0)), &base.record.disks[0]).unwrap();
    let whole = tree(kit.reopen());
    let (top, lost) = (whole.root(), whole.node(whole.root(), 2).unwrap().child(2));
    let place = kit.store.index().places(&lost).unwrap()[0];
    let pack = kit.path().join(cairn_store::layout::pack(place.pack));
    let options = std::fs::OpenOptions::new().read(true).write(true).clone();
    let file = options.open(pack).unwrap();
    let damaged = (place.offset..place.offset + place.stored)
        .map(u64::from)
        .any(|at| {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 0xff], at).unwrap();
            let now = tree(kit.reopen());
            let found = now.node(lost, 1).is_err() && now.node(top, 2).is_ok();
            if !found {
                file.write_all_at(&byte, at).unwrap();
            }
            found
        });
    assert!(damaged);

    let disk = Arc::new(wide(&[3, 600], HashMap::from([(601 * 1024, 4)])));
    let point = kit.changed("m", &base, disk.clone(), &changes_of(&disk));
    let point = point.unwrap();
    let [warning] = &point.record.warnings[..] else {
        panic!("{:?}", point.record.warnings);
    };
    assert!(warning.contains("damaged in 2 regions"), "{warning}");
    assert_eq!(root(&full(&kit, "n", disk)), root(&point));
    let stored = open_disk(&kit.reopen(), &point, "disk0");
    assert!(read_vec(&stored, 600 * R as u64, R).unwrap() == noise(R, 13));
    // Where the check meets the damage, nothing is relied on.
    let disk = Arc::new(wide(&[3, 600], HashMap::new()));
    let point = kit.changed("m", &base, disk.clone(), &[]).unwrap();
    assert_eq!(disk.read.load(Ordering::Relaxed), 2 * R as u64);
    assert!(
        point.record.warnings[0].contains("damaged"),
        "{:?}",
        point.record.warnings
    );
    assert_eq!(root(&point), root(&base));
}
