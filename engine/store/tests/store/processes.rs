//! Backups while other processes write: another order of reading, early publications, the same points.

use crate::kit::{Kit, R, TestDisk, input, noise, open_disk};
use cairn_base::folder::Lock;
use cairn_base::read_at::read_vec;
use cairn_base::{LockMode, Monitor, ReadAt, Result, SessionId, Silent, Stage};
use cairn_store::layout::{self, SessionName};
use cairn_store::session::{SessionKind, SessionRecord, host_key};
use cairn_store::{BackupOptions, DiskInput, backup, codec, verify};
use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

/// What a writing session of another process leaves to be seen.
fn another_process(kit: &Kit) -> Box<dyn Lock> {
    let name = SessionName {
        id: SessionId([7; 16]),
        host: Some(host_key()),
    };
    let folder = kit.store.folder();
    let lock = folder.lock(&name.file(), LockMode::Exclusive, false);
    let lock = lock.unwrap().unwrap();
    let record = SessionRecord {
        generation: 1,
        process: std::process::id() + 1,
        ..SessionRecord::of_this_process(SessionKind::Write)
    };
    lock.write_note(&codec::seal(&record).unwrap()).unwrap();
    folder.create_folder(&name.folder()).unwrap();
    lock
}

/// Zeros but for a few bytes in each region; notes the regions that are read.
struct Sparse {
    regions: u64,
    read: Mutex<Vec<u64>>,
}

impl ReadAt for Sparse {
    fn size(&self) -> u64 {
        self.regions * R as u64 + 5
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.read.lock().unwrap().push(offset / R as u64);
        buffer.fill(0);
        for (at, byte) in (offset..).zip(buffer.iter_mut()).take(1000) {
            *byte = (at / R as u64 % 251) as u8 + 1;
        }
        Ok(())
    }

    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let regions = range.start / R as u64..range.end.div_ceil(R as u64);
        let data = |region: u64| region * R as u64..(region * R as u64 + 4096).min(self.size());
        Ok(regions.filter(|r| r % 3 != 1).map(data).collect())
    }
}

fn back_up(kit: &Kit, disk: &Arc<Sparse>) -> cairn_store::Point {
    let disks = [DiskInput {
        source: disk.clone(),
        ..input("disk0", TestDisk::new(vec![]))
    }];
    let options = BackupOptions {
        threads: 1,
        ..BackupOptions::new("m")
    };
    let report = backup(&kit.store, &disks, &options, &Silent, &kit.clock);
    report.unwrap().point
}

#[test]
fn the_order_of_reading_is_another_one_and_the_map_is_the_same() {
    let sparse = || {
        Arc::new(Sparse {
            regions: 1000,
            read: Mutex::default(),
        })
    };
    let (kit, disk) = (Kit::new(), sparse());
    let alone = back_up(&kit, &disk);
    let in_order = disk.read.lock().unwrap().clone();
    assert!(in_order.is_sorted());

    // A store with the same keys, so that ids can be compared.
    let other = Kit::new();
    for header in layout::HEADERS {
        std::fs::copy(kit.path().join(header), other.path().join(header)).unwrap();
    }
    let kit = Kit {
        store: other.reopen(),
        ..other
    };
    let _writing = another_process(&kit);
    let disk = sparse();
    let beside = back_up(&kit, &disk);
    let mut read = disk.read.lock().unwrap().clone();
    assert!(!read.is_sorted(), "{read:?}");
    read.sort_unstable();
    assert_eq!(read, in_order);
    assert_eq!(beside.record.disks[0].root, alone.record.disks[0].root);
    assert!(verify(&kit.reopen(), false, &Silent).unwrap().is_clean());
    let stored = open_disk(&kit.reopen(), &beside, "disk0");
    for region in [0, 2, 500, 999] {
        let at = region * R as u64;
        let mut bytes = vec![0; 2000];
        disk.read_exact_at(at, &mut bytes).unwrap();
        assert_eq!(read_vec(&stored, at, 2000).unwrap(), bytes, "{region}");
    }
}

/// Takes its time.
struct Slow;

impl Monitor for Slow {
    fn advance(&self, _stage: Stage, _amount: u64) {
        std::thread::sleep(Duration::from_millis(60));
    }
}

#[test]
fn what_is_sealed_is_shared_early() {
    let kit = Kit::new();
    let bytes = noise(20 * R, 1);
    let before = kit.store.generation();
    let writing = another_process(&kit);
    let first = kit.try_backup("m", TestDisk::new(bytes.clone()), &Slow);
    let first = first.unwrap();
    // A pack of half the size, and the rest.
    assert!(kit.reopen().generation() >= before + 2);
    assert_eq!(first.record.stats.new, bytes.len() as u64);
    assert!(kit.read(&first).unwrap() == bytes);
    assert!(verify(&kit.reopen(), false, &Silent).unwrap().is_clean());
    drop(writing);
    let again = kit.backup("n", TestDisk::new(bytes.clone()));
    assert_eq!(again.record.stats.new_chunks, 0);
    assert!(kit.read(&again).unwrap() == bytes);
}
