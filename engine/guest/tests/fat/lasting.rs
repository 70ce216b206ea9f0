//! Bad sectors: they cost what lies on them, and are not asked for again and again.

use crate::exfat::{Mount, make};
use crate::passing::{Failing, NO_ANSWER, defects, fat};
use crate::support::{have, shell};
use crate::trees::{blank, on_volume};
use cairn_base::ReadAt;
use cairn_guest::exfat::ExFatVolume;
use cairn_guest::fat::{CodePage, FatVolume};
use cairn_guest::{DirEntry, EntryId, Volume};
use std::fs;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

/// What the system reports of a bad sector: EIO.
const BAD_SECTOR: i32 = 5;

fn short(bytes: &[u8], at: usize) -> usize {
    usize::from(bytes[at]) | usize::from(bytes[at + 1]) << 8
}

fn long(bytes: &[u8], at: usize) -> usize {
    short(bytes, at) | short(bytes, at + 2) << 16
}

fn open_fat(bytes: &[u8], bad: Range<usize>) -> (Arc<Failing>, FatVolume) {
    let disk = Failing::new(bytes, bad, BAD_SECTOR);
    let volume = FatVolume::open(disk.clone(), CodePage::default()).unwrap();
    (disk, volume)
}

fn open_exfat(bytes: &[u8], bad: Range<usize>) -> (Arc<Failing>, ExFatVolume) {
    let disk = Failing::new(bytes, bad, BAD_SECTOR);
    (disk.clone(), ExFatVolume::open(disk).unwrap())
}

/// The bytes of an exFAT volume without files.
fn exfat() -> Option<Vec<u8>> {
    if !have(&["mkfs.exfat"]) {
        return None;
    }
    let scratch = tempfile::tempdir().unwrap();
    Some(fs::read(make(scratch.path(), 2 << 20, "-b 64K -c 4K")).unwrap())
}

/// Where the cluster begins that the entry of this type in the root of an exFAT volume leads to.
fn place(bytes: &[u8], kind: u8) -> usize {
    let entry = bytes
        .chunks(32)
        .position(|entry| entry[0] == kind && entry[20] != 0);
    let cluster = long(bytes, entry.unwrap() * 32 + 20);
    long(bytes, 88) * 512 + (cluster - 2) * 4096
}

/// What can be told of a folder, and why not all.
fn listed(volume: &dyn Volume, folder: EntryId) -> (Vec<DirEntry>, cairn_base::Result<()>) {
    let mut names = Vec::new();
    let told = volume.read_dir(folder, 0, &mut |entry| {
        names.push(entry);
        ControlFlow::Continue(())
    });
    (names, told)
}

#[track_caller]
fn is_counted_once(volume: &dyn Volume, disk: &Failing, what: &str) {
    let info = volume.info();
    assert_eq!((info.free, info.clean), (0, false), "{:?}", info.notes);
    let told = defects(volume);
    assert!(told.contains(what), "{told}");
    let failed = disk.failed();
    assert!(failed > 0);
    for _ in 0..10 {
        assert_eq!(volume.info().free, 0);
    }
    assert_eq!(disk.failed(), failed);
}

#[test]
fn free_space_that_a_bad_sector_hides_is_a_defect_and_counted_once() {
    if let Some(bytes) = fat() {
        let (start, length) = (short(&bytes, 14) * 512, long(&bytes, 36) * 512);
        // The second copy, and all of the first one but its beginning.
        let (disk, volume) = open_fat(&bytes, start + (64 << 10)..start + length * 2);
        is_counted_once(&volume, &disk, "The file allocation table cannot be read");
        assert_eq!(on_volume(&volume).len(), 1);
    }
    if let Some(bytes) = exfat() {
        let map = place(&bytes, 0x81);
        let (disk, volume) = open_exfat(&bytes, map..map + 1);
        is_counted_once(&volume, &disk, "The map of free space cannot be read");
    }
}

#[test]
fn a_volume_of_fat_with_a_bad_sector_is_read_around_it() {
    let Some(bytes) = fat() else { return };
    let (start, length) = (short(&bytes, 14) * 512, long(&bytes, 36) * 512);
    for (bad, what) in [
        (0..512, "its backup is used"),
        // What the table says of the volume, in all copies.
        (
            start..start + length + 512,
            "The file allocation table cannot be read",
        ),
    ] {
        let (_, volume) = open_fat(&bytes, bad);
        assert!(defects(&volume).contains(what), "{}", defects(&volume));
        let one = volume.lookup(volume.root(), b"one").unwrap().unwrap();
        let mut content = [0; 3];
        let file = volume.open(one.id).unwrap();
        file.read_exact_at(0, &mut content).unwrap();
        assert_eq!(&content, b"one");
    }
}

/// Names before the bad sector are told; what is behind is not, and that is said.
#[test]
fn a_bad_sector_in_the_root_hides_what_is_behind_it() {
    if !have(&["mkfs.fat", "mcopy"]) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let image = blank(scratch.path(), 40 << 20);
    let script = format!(
        "cd '{}' && mkfs.fat -F 32 -s 1 '{1}' && for n in $(seq 10 39); do echo $n > FILE$n; done && \
         MTOOLS_SKIP_CHECK=1 mcopy -i '{1}' FILE* ::",
        scratch.path().display(),
        image.display(),
    );
    shell(&script).unwrap();
    let bytes = fs::read(image).unwrap();
    let start = short(&bytes, 14) * 512;
    let heap = start + long(&bytes, 36) * 512 * 2;
    let second = long(&bytes, start + 2 * 4);
    let bad = heap + (second - 2) * 512;
    assert!(bytes[bad..].starts_with(b"FILE"));
    let (_, volume) = open_fat(&bytes, bad..bad + 1);
    let told = defects(&volume);
    assert!(told.contains("A part of the root folder"), "{told}");
    let (names, end) = listed(&volume, volume.root());
    assert_eq!(names.len(), 16);
    assert!(!end.unwrap_err().is_momentary());
}

#[test]
fn a_volume_of_exfat_with_a_bad_sector_is_read_around_it() {
    let Some(bytes) = exfat() else { return };
    let upcase = place(&bytes, 0x82);
    let root = long(&bytes, 88) * 512 + (long(&bytes, 96) - 2) * 4096;
    for (bad, what) in [
        (0..512, "its backup is used"),
        (0x300..0x400, "its backup is used"),
        (upcase..upcase + 512, "capital letters"),
        (root..root + 512, "A part of the root folder"),
    ] {
        let (_, volume) = open_exfat(&bytes, bad.clone());
        let told = defects(&volume);
        assert!(told.contains(what), "{bad:?}: {told}");
        assert_eq!(
            volume.lookup(volume.root(), b"x").is_err(),
            bad.start == root
        );
    }
}

/// A volume of exFAT, of clusters of 512 bytes, with a folder whose clusters are neighbours, of 40 files; and the entry of the table that follows its first cluster.
fn neighbours() -> Option<(Vec<u8>, usize)> {
    if !have(&["mkfs.exfat", "mount.exfat-fuse", "losetup"]) {
        return None;
    }
    let scratch = tempfile::tempdir().unwrap();
    let image = make(scratch.path(), 24 << 20, "-c 512");
    let mount = Mount::new(&image, scratch.path())?;
    // What is needed to open the volume is in another piece of the table.
    fs::write(mount.0.join("before"), vec![1; 4 << 20]).unwrap();
    fs::create_dir(mount.0.join("folder")).unwrap();
    for number in 0..40 {
        fs::write(mount.0.join(format!("folder/file {number}")), "").unwrap();
    }
    drop(mount);
    let bytes = fs::read(image).unwrap();
    let name: Vec<u8> = "folder".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let at = bytes.windows(12).position(|part| part == name).unwrap();
    let stream = at / 32 * 32 - 32;
    // It is said that they are: the table is not needed.
    assert_eq!((bytes[stream], bytes[stream + 1] & 2), (0xC0, 2));
    let cluster = long(&bytes, stream + 20);
    assert!(cluster > 4096 * 2 && long(&bytes, stream + 24) > 512);
    Some((bytes.clone(), long(&bytes, 80) * 512 + cluster * 4))
}

#[test]
fn the_table_is_not_needed_where_the_checksum_proves_the_neighbours() {
    let Some((bytes, link)) = neighbours() else {
        return;
    };
    for code in [BAD_SECTOR, NO_ANSWER] {
        let disk = Failing::new(&bytes, link..link + 1, code);
        let volume = ExFatVolume::open(disk.clone()).unwrap();
        let folder = volume.lookup(volume.root(), b"folder").unwrap().unwrap();
        let (files, told) = listed(&volume, folder.id);
        told.unwrap();
        assert_eq!(files.len(), 40);
        for file in &files {
            assert_eq!(volume.attributes(file.id).unwrap().size, 0);
        }
        // Their entries cross from cluster to cluster: the table was asked.
        assert!(disk.failed() > 0);
    }
}
