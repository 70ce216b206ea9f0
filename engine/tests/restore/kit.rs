//! Stores that vanish, disks that are easily made, and what their files look like.

use cairn::{
    BackupOptions, DiskImage, ImageFormat, Monitor, PointView, ReadAt, RestoreOptions, Silent,
    Stage, Store,
};
use cairn_base::read_at::read_vec;
use rustix::fs::{SeekFrom, seek};
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub const REGION: usize = 4 << 20;
pub const BLOCK: usize = 4096;

/// A store in a folder that vanishes, with points of one disk.
pub struct Bench {
    pub folder: tempfile::TempDir,
    pub store: Store,
}

impl Bench {
    pub fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(&folder.path().join("store")).unwrap();
        fs::create_dir(folder.path().join("out")).unwrap();
        Bench { folder, store }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("out").join(name)
    }

    /// What lies where disks are restored to.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path().join("out")).unwrap();
        let name = |e: std::io::Result<fs::DirEntry>| e.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<_> = entries.map(name).collect();
        names.sort();
        names
    }

    pub fn backup(&self, bytes: &[u8]) -> PointView {
        let disk = DiskImage::from_reader("disk0", Arc::new(bytes.to_vec()));
        let options = BackupOptions::new("m");
        self.store.backup(vec![disk], &options, &Silent).unwrap();
        let latest = self.store.find_point("m@latest").unwrap();
        self.store.open_point(&latest).unwrap()
    }
}

pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    (0..length).map(|_| (next() >> 56) as u8).collect()
}

/// A disk with data that compress and data that do not, with zeros of all lengths, and an odd end.
pub fn mixed(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = noise(length, seed);
    let mut at = 0;
    for turn in 0.. {
        let piece = (turn * 7919 * BLOCK / 3) % 700_000 + 5000;
        let end = (at + piece).min(length);
        match turn % 5 {
            1 => bytes[at..end].fill(0),
            3 => bytes[at..end].iter_mut().for_each(|byte| *byte &= 3),
            // Zeros that are too short for a hole, but not for a block.
            4 => bytes[at..(at + 3 * BLOCK).min(end)].fill(0),
            _ => {}
        }
        at = end;
        if at == length {
            break;
        }
    }
    bytes
}

/// The disk that most tests use: two regions of nothing, others full or mixed, and an odd end.
pub fn disk() -> Vec<u8> {
    let mut bytes = mixed(7 * REGION + 5 * BLOCK + 700, 1);
    bytes[2 * REGION..4 * REGION].fill(0);
    bytes
}

pub fn options(format: ImageFormat, force: bool, resume: bool) -> RestoreOptions {
    RestoreOptions {
        format,
        force,
        resume,
    }
}

pub const FORMATS: [ImageFormat; 5] = [
    ImageFormat::Raw,
    ImageFormat::Vhd,
    ImageFormat::VhdFixed,
    ImageFormat::Vhdx,
    ImageFormat::VhdxFixed,
];

#[track_caller]
pub fn same(path: &Path, expected: &[u8]) {
    let disk = cairn_disk::open(path).unwrap();
    let size = usize::try_from(disk.size()).unwrap();
    let found = read_vec(&*disk, 0, size).unwrap();
    assert!(found.starts_with(expected), "other bytes");
    assert!(found.len() < expected.len() + 4096);
    assert!(found[expected.len()..].iter().all(|byte| *byte == 0));
}

/// Asks to stop after some bytes.
pub struct StopAfter {
    bytes: u64,
    done: AtomicU64,
}

impl StopAfter {
    pub fn new(bytes: u64) -> StopAfter {
        StopAfter {
            bytes,
            done: AtomicU64::new(0),
        }
    }
}

impl Monitor for StopAfter {
    fn advance(&self, _: Stage, amount: u64) {
        self.done.fetch_add(amount, Ordering::Relaxed);
    }
    fn stop_requested(&self) -> bool {
        self.done.load(Ordering::Relaxed) >= self.bytes
    }
}

/// The holes that the disk's map has: whole blocks of zeros, at least 16 KiB or up to the end of a region.
pub fn holes(bytes: &[u8]) -> Vec<Range<u64>> {
    let mut holes: Vec<Range<u64>> = Vec::new();
    for (number, region) in bytes.chunks(REGION).enumerate() {
        let base = (number * REGION) as u64;
        let blocks: Vec<bool> = region
            .chunks(BLOCK)
            .map(|block| block.iter().all(|byte| *byte == 0))
            .collect();
        let mut at = 0;
        while at < blocks.len() {
            let count = blocks[at..].iter().take_while(|zero| **zero).count();
            if count >= 4 || (count > 0 && at + count == blocks.len()) {
                let end = ((at + count) * BLOCK).min(region.len());
                let hole = base + (at * BLOCK) as u64..base + end as u64;
                match holes.last_mut() {
                    Some(last) if last.end == hole.start => last.end = hole.end,
                    _ => holes.push(hole),
                }
            }
            at += count.max(1);
        }
    }
    holes
}

/// The holes that the file system names; `None` if it names none of files at all.
pub fn holes_of(file: &Path) -> Option<Vec<Range<u64>>> {
    let probe = file.with_file_name("probe");
    File::create(&probe).unwrap().set_len(1 << 20).unwrap();
    let is_told = seek(File::open(&probe).unwrap(), SeekFrom::Data(0)).is_err();
    fs::remove_file(&probe).unwrap();
    if !is_told {
        println!("SKIPPED: this file system does not tell holes");
        return None;
    }
    let file = File::open(file).unwrap();
    let size = file.metadata().unwrap().len();
    let mut holes = Vec::new();
    let mut at = 0;
    while at < size {
        let start = seek(&file, SeekFrom::Hole(at)).unwrap();
        let end = seek(&file, SeekFrom::Data(start)).unwrap_or(size);
        if start < end {
            holes.push(start..end);
        }
        at = end;
    }
    Some(holes)
}
