//! Several backups of one process at once: what they share is stored once, and nobody's point refers to what is not public.

use crate::kit::{Kit, R, TestClock, TestDisk, input, mixed, noise};
use cairn_base::{Error, Kind, ReadAt, Result, Silent};
use cairn_store::{BackupOptions, DiskInput, ImageFacts, Point, backup, verify};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

/// Starts all backups at the same time and answers what became of each.
fn together(kit: &Kit, disks: Vec<DiskInput>, checkpoint: usize) -> Vec<Result<Point>> {
    let start = Barrier::new(disks.len());
    std::thread::scope(|scope| {
        let running: Vec<_> = disks
            .into_iter()
            .enumerate()
            .map(|(number, disk)| {
                let start = &start;
                scope.spawn(move || {
                    let mut options = BackupOptions::new(format!("m{number}"));
                    options.threads = 1 + number % 2;
                    options.checkpoint = checkpoint;
                    let clock = TestClock::at(1_800_000_000);
                    start.wait();
                    backup(&kit.store, &[disk], &options, &Silent, &clock).map(|done| done.point)
                })
            })
            .collect();
        running.into_iter().map(|r| r.join().unwrap()).collect()
    })
}

/// Disk number `number`: half of it is what all have, the rest is shared with a neighbour.
fn content(number: usize) -> Vec<u8> {
    let mut bytes = mixed(3 * R, 1);
    bytes.extend(noise(R, 10 + number as u64 / 2));
    bytes.extend(noise(R / 2, 2));
    bytes
}

fn check(kit: &Kit, points: &[Result<Point>]) {
    for (number, point) in points.iter().enumerate() {
        let read = kit.read(point.as_ref().unwrap()).unwrap();
        assert!(read == content(number), "disk {number}");
    }
    let report = verify(&kit.reopen(), false, &Silent).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn what_they_share_is_stored_once() {
    let one_by_one = Kit::new();
    for number in 0..8 {
        one_by_one.backup(&format!("m{number}"), TestDisk::new(content(number)));
    }
    let chunks =
        |points: &[Point]| -> u64 { points.iter().map(|p| p.record.stats.new_chunks).sum() };
    let listed = cairn_store::catalog::all_points(&one_by_one.store).unwrap();
    let once = chunks(&listed.points);
    // With many publications in between and with only one at the end.
    for checkpoint in [40, 1 << 19] {
        let kit = Kit::new();
        let disks = (0..8).map(|n| input("disk0", TestDisk::new(content(n))));
        let points = together(&kit, disks.collect(), checkpoint);
        check(&kit, &points);
        let made: Vec<Point> = points.iter().flatten().cloned().collect();
        assert_eq!(chunks(&made), once, "{checkpoint}");
        let new: u64 = points.iter().flatten().map(|p| p.record.stats.new).sum();
        let distinct: u64 = one_by_one_new(&one_by_one);
        assert_eq!(new, distinct);
    }
}

fn one_by_one_new(kit: &Kit) -> u64 {
    let listing = cairn_store::catalog::all_points(&kit.store).unwrap();
    listing.points.iter().map(|p| p.record.stats.new).sum()
}

/// A disk whose last region cannot be read, which shows only after a while.
struct Failing {
    bytes: Vec<u8>,
    reached: AtomicBool,
}

impl ReadAt for Failing {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        if offset + buffer.len() as u64 > 4 * R as u64 {
            self.reached.store(true, Ordering::Release);
            std::thread::sleep(Duration::from_millis(400));
            return Err(Error::new(Kind::Io, "a sector cannot be read"));
        }
        self.bytes.read_exact_at(offset, buffer)
    }
    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        self.bytes.data_extents(range)
    }
}

#[test]
fn who_relied_on_one_that_fails_stores_it_himself() {
    let kit = Kit::new();
    let failing = Arc::new(Failing {
        bytes: content(8),
        reached: AtomicBool::new(false),
    });
    let disk = DiskInput {
        name: "disk0".to_string(),
        source: failing.clone(),
        facts: ImageFacts::default(),
        changed: None,
        changes: None,
    };
    let points = std::thread::scope(|scope| {
        let failed = scope.spawn(|| {
            let mut options = BackupOptions::new("failing");
            options.threads = 1;
            backup(&kit.store, &[disk], &options, &Silent, &kit.clock)
        });
        // By now it has claimed everything before.
        while !failing.reached.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        let disks = (0..8).map(|n| input("disk0", TestDisk::new(content(n))));
        let points = together(&kit, disks.collect(), 1 << 19);
        assert_eq!(failed.join().unwrap().unwrap_err().kind(), Kind::Io);
        points
    });
    check(&kit, &points);
}

#[test]
fn a_backup_larger_than_its_memory_spills_its_ids() {
    // The same bytes again at the end, long after their ids were published and given up.
    let mut bytes = mixed(6 * R, 5);
    let again = bytes[..R].to_vec();
    bytes.extend(&again);
    let whole = Kit::new();
    whole.backup("m", TestDisk::new(bytes.clone()));
    let kit = Kit::new();
    let mut options = BackupOptions::new("m");
    options.checkpoint = 30;
    let disk = [input("disk0", TestDisk::new(bytes.clone()))];
    let point = backup(&kit.store, &disk, &options, &Silent, &kit.clock)
        .unwrap()
        .point;
    assert!(kit.store.generation() > 8, "{}", kit.store.generation());
    assert!(kit.read(&point).unwrap() == bytes);
    assert_eq!(
        kit.reopen().index().entries(),
        whole.reopen().index().entries()
    );
}
