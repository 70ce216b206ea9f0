//! Errors that may pass: told as they are, and not remembered.

use crate::exfat::small;
use crate::support::{have, shell};
use crate::trees::{blank, on_volume};
use cairn_base::{Error, Kind, ReadAt, Result};
use cairn_guest::exfat::ExFatVolume;
use cairn_guest::fat::{CodePage, FatVolume};
use cairn_guest::{Volume, probe};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A disk of which some bytes cannot be read while it fails.
struct Passing {
    bytes: Vec<u8>,
    bad: Range<usize>,
    kind: Kind,
    fails: AtomicBool,
}

impl Passing {
    fn new(bytes: &[u8], bad: Range<usize>, kind: Kind) -> Arc<Passing> {
        Arc::new(Passing {
            bytes: bytes.to_vec(),
            bad,
            kind,
            fails: AtomicBool::new(true),
        })
    }

    fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::Relaxed);
    }
}

impl ReadAt for Passing {
    fn size(&self) -> u64 {
        self.bytes.size()
    }
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let at = offset as usize;
        if at < self.bad.end
            && self.bad.start < at + buffer.len()
            && self.fails.load(Ordering::Relaxed)
        {
            return Err(Error::new(self.kind, "the disk does not answer").at_offset(offset));
        }
        self.bytes.read_exact_at(offset, buffer)
    }
}

/// A volume of FAT32 with a file.
fn fat() -> Option<Vec<u8>> {
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

fn defects(volume: &dyn Volume) -> String {
    volume.info().defects().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_backup_is_not_used_for_a_boot_sector_that_cannot_be_read_just_now() {
    let Some(bytes) = fat() else { return };
    let disk = Passing::new(&bytes, 0..512, Kind::Io);
    assert_eq!(probe::detect(&*disk).unwrap_err().kind(), Kind::Io);
    let open = || FatVolume::open(disk.clone(), CodePage::default());
    assert_eq!(open().err().unwrap().kind(), Kind::Io);
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
    for (bad, kind) in [
        (start..start + length * 2, Kind::Io),
        (start..start + length, Kind::Busy),
    ] {
        let disk = Passing::new(&bytes, bad, kind);
        let open = || FatVolume::open(disk.clone(), CodePage::default());
        assert_eq!(open().err().unwrap().kind(), kind);
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
        disk.fail(false);
        assert!(volume.info().free > 0);
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
        let disk = Passing::new(&bytes, bad.clone(), Kind::Io);
        let open = || ExFatVolume::open(disk.clone());
        assert_eq!(open().err().unwrap().kind(), Kind::Io, "{bad:?}");
        disk.fail(false);
        let volume = open().unwrap();
        assert_eq!(defects(&volume), "", "{bad:?}");
        assert_eq!(on_volume(&volume).len(), 2, "{bad:?}");
    }
    let map = cluster(root(0x81));
    let disk = Passing::new(&bytes, map..map + 1, Kind::Io);
    let volume = ExFatVolume::open(disk.clone()).unwrap();
    assert_eq!((volume.info().free, volume.info().clean), (0, true));
    assert_eq!(defects(&volume), "");
    disk.fail(false);
    assert!(volume.info().free > 0);
}
