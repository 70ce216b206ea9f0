//! Errors that may pass: told as they are, and not remembered.

use crate::exfat::small;
use crate::support::{have, shell};
use crate::trees::{blank, on_volume};
use cairn_base::{Error, ReadAt, Result};
use cairn_guest::exfat::ExFatVolume;
use cairn_guest::fat::{CodePage, FatVolume};
use cairn_guest::{Volume, probe};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// What the system reports of a disk that does not answer: ETIMEDOUT.
pub const NO_ANSWER: i32 = 110;
/// EAGAIN.
const NOT_NOW: i32 = 11;

/// A disk of which some bytes cannot be read while it fails.
pub struct Failing {
    bytes: Vec<u8>,
    bad: Range<usize>,
    /// The system's number of the error.
    code: i32,
    fails: AtomicBool,
    failed: AtomicUsize,
}

impl Failing {
    pub fn new(bytes: &[u8], bad: Range<usize>, code: i32) -> Arc<Failing> {
        Arc::new(Failing {
            bytes: bytes.to_vec(),
            bad,
            code,
            fails: AtomicBool::new(true),
            failed: AtomicUsize::new(0),
        })
    }

    fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::Relaxed);
    }

    /// How many reads have failed.
    pub fn failed(&self) -> usize {
        self.failed.load(Ordering::Relaxed)
    }
}

impl ReadAt for Failing {
    fn size(&self) -> u64 {
        self.bytes.size()
    }
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let at = offset as usize;
        if at < self.bad.end
            && self.bad.start < at + buffer.len()
            && self.fails.load(Ordering::Relaxed)
        {
            self.failed.fetch_add(1, Ordering::Relaxed);
            let error = io::Error::from_raw_os_error(self.code);
            return Err(Error::io("cannot read", Path::new("disk"), error).at_offset(offset));
        }
        self.bytes.read_exact_at(offset, buffer)
    }
}

/// A volume of FAT32 with a file.
pub fn fat() -> Option<Vec<u8>> {
    if !have(&["mkfs.fat", "mcopy"]) {
        return None;
    }
    let scratch = tempfile::tempdir().unwrap();
    let image = blank(scratch.path(), 40 << 20);
    std::fs::write(scratch.path().join("one"), "one").unwrap();
    shell(&format!(
        "cd '{}' && mkfs.fat -F 32 -s 1 '{1}' && MTOOLS_SKIP_CHECK=1 mcopy -i '{1}' one ::",
        scratch.path().display(),
        image.display(),
    ))
    .unwrap();
    Some(std::fs::read(image).unwrap())
}

pub fn defects(volume: &dyn Volume) -> String {
    volume.info().defects().collect::<Vec<_>>().join(" ")
}

/// Free space of a disk that answers again: it is not asked for some seconds after it failed. None if it is never counted.
fn counted_later(volume: &dyn Volume) -> Option<u64> {
    (0..600).find_map(|_| {
        std::thread::sleep(Duration::from_millis(100));
        Some(volume.info().free).filter(|free| *free > 0)
    })
}

/// Asks many times at once, as a listing does: the disk is not asked each time.
fn is_asked_seldom(volume: &dyn Volume, disk: &Failing) {
    let before = disk.failed();
    for _ in 0..1000 {
        assert_eq!(volume.info().free, 0);
    }
    let more = disk.failed() - before;
    assert!(more < 100, "it was asked {more} times");
}

#[test]
fn a_backup_is_not_used_for_a_boot_sector_that_cannot_be_read_just_now() {
    let Some(bytes) = fat() else { return };
    let disk = Failing::new(&bytes, 0..512, NO_ANSWER);
    assert!(probe::detect(&*disk).unwrap_err().is_momentary());
    let open = || FatVolume::open(disk.clone(), CodePage::default());
    assert!(open().err().unwrap().is_momentary());
    disk.fail(false);
    let volume = open().unwrap();
    assert_eq!(defects(&volume), "");
    assert_eq!(on_volume(&volume).len(), 1);
}

#[test]
fn a_table_that_cannot_be_read_just_now_is_not_a_bad_one() {
    let Some(bytes) = fat() else { return };
    let number = |at: usize| usize::from(bytes[at]) | usize::from(bytes[at + 1]) << 8;
    let (start, length) = (number(14) * 512, number(36) * 512);
    // Both copies do not answer; or the first one, of which that says nothing.
    for (bad, code) in [
        (start..start + length * 2, NO_ANSWER),
        (start..start + length, NOT_NOW),
    ] {
        let disk = Failing::new(&bytes, bad, code);
        let open = || FatVolume::open(disk.clone(), CodePage::default());
        assert!(open().err().unwrap().is_momentary());
        disk.fail(false);
        let volume = open().unwrap();
        disk.fail(true);
        let info = volume.info();
        assert_eq!((info.free, info.clean), (0, true), "{:?}", info.notes);
        assert_eq!(defects(&volume), "");
        let told = info
            .notes
            .iter()
            .any(|note| note.text.contains("not be counted"));
        assert!(told, "{:?}", info.notes);
        is_asked_seldom(&volume, &disk);
        disk.fail(false);
        assert!(counted_later(&volume).is_some());
        disk.fail(true);
        assert!(volume.info().free > 0);
    }
}

#[test]
fn an_exfat_volume_is_not_bad_because_its_disk_does_not_answer() {
    if !have(&["mkfs.exfat", "mount.exfat-fuse", "losetup"]) {
        return;
    }
    let Some(bytes) = small() else { return };
    let root = |kind: u8| {
        let entry = bytes
            .chunks(32)
            .position(|entry| entry[0] == kind && entry[20] != 0);
        entry.unwrap() * 32
    };
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let heap = number(88) * 512;
    let cluster = |entry: usize| heap + (number(entry + 20) - 2) * 4096;
    let upcase = cluster(root(0x82));
    // The boot sector, its region, its checksum, the table of capital letters.
    for bad in [
        0..512,
        0x300..0x400,
        11 * 512..12 * 512,
        upcase..upcase + 512,
    ] {
        let disk = Failing::new(&bytes, bad.clone(), NO_ANSWER);
        let open = || ExFatVolume::open(disk.clone());
        assert!(open().err().unwrap().is_momentary(), "{bad:?}");
        disk.fail(false);
        let volume = open().unwrap();
        assert_eq!(defects(&volume), "", "{bad:?}");
        assert_eq!(on_volume(&volume).len(), 2, "{bad:?}");
    }
    let map = cluster(root(0x81));
    let disk = Failing::new(&bytes, map..map + 1, NO_ANSWER);
    let volume = ExFatVolume::open(disk.clone()).unwrap();
    assert_eq!((volume.info().free, volume.info().clean), (0, true));
    assert_eq!(defects(&volume), "");
    is_asked_seldom(&volume, &disk);
    disk.fail(false);
    assert!(counted_later(&volume).is_some());
}
