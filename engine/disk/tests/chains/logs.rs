//! VHDX that were not closed: what their logs hold is replayed, and no file is written.

use super::journal::{Change, SECTOR, crc32c, entry, put_log};
use super::made::{Image, Kind, Op, Parent, expected};
use cairn_base::Kind as ErrorKind;
use cairn_base::read_at::read_vec;
use cairn_disk::open;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

pub fn sector_of(path: &Path, at: u64) -> Vec<u8> {
    let mut bytes = vec![0; SECTOR as usize];
    File::open(path)
        .unwrap()
        .read_exact_at(&mut bytes, at)
        .unwrap();
    bytes
}

pub fn spoil(path: &Path, at: u64, with: &[u8]) {
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(with, at).unwrap();
}

pub fn made(folder: &Path, number: u16, parent: Option<&Image>) -> Image {
    let image = Image {
        kind: Kind::Vhdx,
        path: folder.join(format!("{number}.vhdx")),
        size: 6 << 20,
        block_size: 1 << 20,
        sector: 512,
        number,
        parent: parent.map(|parent| Parent::beside(Kind::Vhdx, parent.number, &parent.path)),
        ops: vec![
            Op::Data(u64::from(number) * 100..u64::from(number) * 100 + 150),
            Op::Data(5000..5010 + u64::from(number)),
        ],
    };
    image.write();
    image
}

/// Opens the chain and compares all of it; no file may have another byte afterwards.
fn check(chain: &[Image]) {
    let before = fs::read(&chain[0].path).unwrap();
    let disk = open(&chain[0].path).unwrap();
    assert!(disk.warnings().is_empty(), "{:?}", disk.warnings());
    let read = read_vec(&*disk, 0, chain[0].size as usize).unwrap();
    assert!(read == expected(chain, 0, read.len()));
    let extents = disk.data_extents(0..u64::MAX).unwrap();
    let mut at = 0;
    for extent in extents.iter().chain([&(disk.size()..disk.size())]) {
        assert!(
            read[at..extent.start as usize]
                .iter()
                .all(|byte| *byte == 0)
        );
        at = extent.end as usize;
    }
    assert!(fs::read(&chain[0].path).unwrap() == before);
}

#[test]
fn tables_that_are_only_in_the_log_are_found_there() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let parent = made(folder, 1, None);
    for wrapped in [false, true] {
        let child = made(folder, 2, Some(&parent));
        let size = fs::metadata(&child.path).unwrap().len();
        // Metadata, block table and region tables as they should be, which the file does not have.
        let places = [
            2 << 20,
            (2 << 20) + (64 << 10),
            (2 << 20) + (512 << 10),
            3 << 20,
            (3 << 20) + 32768,
        ];
        let sectors: Vec<Change> = places
            .iter()
            .map(|at| Change::Data(*at, sector_of(&child.path, *at)))
            .collect();
        for at in places {
            spoil(&child.path, at, &[0xEE; SECTOR as usize]);
        }
        let start: u64 = if wrapped { (1 << 20) - 3 * SECTOR } else { 0 };
        // What an earlier entry of the sequence says is overwritten by the later one.
        let first = entry(
            41,
            start as u32,
            size,
            &[
                Change::Data(3 << 20, vec![0x77; 4096]),
                Change::Zero(2 << 20, 1 << 20),
            ],
        );
        let second = entry(42, start as u32, size, &sectors);
        let mut torn = entry(43, start as u32, size, &[Change::Zero(3 << 20, 1 << 20)]);
        torn[100] ^= 1;
        put_log(&child, start, &[first, second, torn]);
        check(&[child, parent.clone()]);
    }
}

#[test]
fn a_log_may_make_the_file_longer() {
    let temporary = tempfile::tempdir().unwrap();
    let image = made(temporary.path(), 1, None);
    let mut with_hole = image.clone();
    with_hole.ops.push(Op::Zeros(6200..7000));
    with_hole.write();
    let size = fs::metadata(&image.path).unwrap().len();
    // The last block lies behind the file's end: it is zeros.
    let shorter = size - (1 << 20);
    File::options()
        .write(true)
        .open(&image.path)
        .unwrap()
        .set_len(shorter)
        .unwrap();
    assert!(
        open(&image.path)
            .and_then(|disk| read_vec(&*disk, 6300 * 512, 512))
            .is_err()
    );
    let mut longer = entry(9, 0, size, &[]);
    longer[48..56].copy_from_slice(&shorter.to_le_bytes());
    longer[4..8].fill(0);
    let sum = crc32c(&longer);
    longer[4..8].copy_from_slice(&sum.to_le_bytes());
    put_log(&with_hole, 0, &[longer]);
    check(&[with_hole]);
}

#[test]
fn a_parent_with_a_log_is_replayed_too() {
    let temporary = tempfile::tempdir().unwrap();
    let parent = made(temporary.path(), 1, None);
    let child = made(temporary.path(), 2, Some(&parent));
    let size = fs::metadata(&parent.path).unwrap().len();
    let table = Change::Data(3 << 20, sector_of(&parent.path, 3 << 20));
    spoil(&parent.path, 3 << 20, &[0; SECTOR as usize]);
    put_log(
        &parent,
        8 * SECTOR,
        &[entry(3, 8 * SECTOR as u32, size, &[table])],
    );
    check(&[child, parent]);
}

#[test]
fn a_log_that_cannot_be_used_is_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let image = made(temporary.path(), 1, None);
    let size = fs::metadata(&image.path).unwrap().len();
    // With an entry that is torn; of a file that was longer; and whose first entry is gone.
    let mut torn = entry(3, 0, size, &[]);
    torn[100] ^= 1;
    put_log(&image, 0, &[torn]);
    assert_eq!(open(&image.path).err().unwrap().kind(), ErrorKind::Damaged);
    put_log(&image, 0, &[entry(3, 0, size + 4096, &[])]);
    assert_eq!(open(&image.path).err().unwrap().kind(), ErrorKind::Damaged);
    put_log(&image, 0, &[entry(3, 8192, size, &[])]);
    assert_eq!(open(&image.path).err().unwrap().kind(), ErrorKind::Damaged);
    put_log(&image, 0, &[entry(3, 0, size, &[])]);
    check(&[image]);
}

#[test]
fn a_log_that_is_said_to_be_in_use_and_holds_nothing_is_told() {
    let temporary = tempfile::tempdir().unwrap();
    let image = made(temporary.path(), 1, None);
    put_log(&image, 0, &[vec![0; SECTOR as usize]]);
    let disk = open(&image.path).unwrap();
    assert_eq!(disk.warnings().len(), 1);
    assert!(disk.warnings()[0].contains("log"), "{:?}", disk.warnings());
    let read = read_vec(&*disk, 0, image.size as usize).unwrap();
    assert!(read == expected(&[image], 0, read.len()));
}

#[test]
fn logs_of_parents_have_a_share_of_the_memory() {
    let temporary = tempfile::tempdir().unwrap();
    let oldest = made(temporary.path(), 1, None);
    let size = fs::metadata(&oldest.path).unwrap().len();
    let changes: Vec<Change> = (0..30_000).map(|_| Change::Zero(1 << 30, 4096)).collect();
    put_log(&oldest, 0, &[entry(3, 0, size, &changes)]);
    open(&oldest.path).unwrap();
    let middle = made(temporary.path(), 2, Some(&oldest));
    open(&middle.path).unwrap();
    let youngest = made(temporary.path(), 3, Some(&middle));
    let error = open(&youngest.path).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}
