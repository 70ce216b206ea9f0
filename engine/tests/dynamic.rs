//! Dynamic disks of Windows that cannot be read for a moment, or at all.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests are here"
)]

#[path = "../guest/tests/ldm/maker.rs"]
mod maker;
#[path = "../guest/tests/ldm/records.rs"]
mod records;

use cairn::{DiskView, Error, Kind, ReadAt, Result};
use maker::{Group, SECTOR, Scheme};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A disk that cannot read its database for a while, as one whose cable is loose.
struct Loose {
    bytes: Vec<u8>,
    database: u64,
    is_loose: AtomicBool,
}

impl ReadAt for Loose {
    fn size(&self) -> u64 {
        self.bytes.size()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        // The sector of the first header is read as well.
        let is_there = offset >= self.database || offset == 6 * SECTOR as u64;
        if is_there && self.is_loose.load(Ordering::Relaxed) {
            let error = std::io::Error::from_raw_os_error(5);
            return Err(Error::io("cannot read", Path::new("/dev/sdx"), error));
        }
        self.bytes.read_exact_at(offset, buffer)
    }
}

#[test]
fn what_may_pass_is_an_error_and_not_remembered() {
    let mut group = Group::new(Scheme::Mbr, true, 1);
    group.add("Volume1", 2, 0, &[(0, 1000)]);
    let disk = group.write(&[&vec![0x5a; 1000 * SECTOR]]).remove(0);
    let disk = Arc::new(Loose {
        bytes: disk,
        database: group.database_at(0) as u64,
        is_loose: AtomicBool::new(true),
    });
    let view = DiskView::new("disk0", disk.clone(), None);
    for _ in 0..2 {
        assert_eq!(view.volumes().err().unwrap().kind(), Kind::Io);
    }
    disk.is_loose.store(false, Ordering::Relaxed);
    let numbers: Vec<u32> = view
        .volumes()
        .unwrap()
        .iter()
        .map(|found| found.number())
        .collect();
    assert_eq!(numbers, [2024]);
}

/// A database without its header, and one without its first record, which is that of the volume.
#[test]
fn what_stays_is_told_by_the_partition_and_by_the_volume() {
    let mut group = Group::new(Scheme::Mbr, true, 1);
    group.add("Volume1", 2, 0, &[(0, 1000)]);
    let whole = group.write(&[&vec![0x5a; 1000 * SECTOR]]).remove(0);
    let at = group.database_at(0) + 17 * SECTOR;
    for (place, wanted) in [(at, &[1][..]), (at + SECTOR, &[1, 2024])] {
        let mut disk = whole.clone();
        disk[place] = b'x';
        let view = DiskView::new("disk0", Arc::new(disk), None);
        let found = view.volumes().unwrap();
        let numbers: Vec<u32> = found.iter().map(|found| found.number()).collect();
        assert_eq!(numbers, wanted);
        for volume in found {
            let damage = volume.layout_damage().unwrap();
            assert_eq!(damage.kind(), Kind::Damaged);
            assert!(volume.open().is_err());
        }
    }
}
