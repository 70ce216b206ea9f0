//! Runs QEMU's tools, and makes small images.

use super::shared::{check_same, run};
use cairn_base::ReadAt;
use cairn_disk::{FormatHint, OpenOptions, VirtualDisk, open, open_as, open_with};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// A small generator of numbers: xorshift.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Runs `qemu-img` in `folder`.
pub fn img(folder: &Path, arguments: &[&str]) -> String {
    run(Command::new("qemu-img").args(arguments).current_dir(folder))
}

/// Runs commands of `qemu-io` on `image` of `format`.
pub fn io(image: &Path, format: &str, commands: &[String]) {
    let mut command = Command::new("qemu-io");
    command.args(["-f", format, "-d", "unmap"]);
    // QEMU looks for an external data file in the current folder.
    command.current_dir(image.parent().unwrap());
    for text in commands {
        command.args(["-c", text]);
    }
    let output = run(command.arg(image));
    assert!(!output.contains("failed"), "{commands:?}: {output}");
}

/// Compares the disk with what `qemu-img convert` makes of the image, and gives its bytes.
pub fn check_with_qemu(disk: &dyn VirtualDisk, image: &Path, format: &str, what: &str) -> Vec<u8> {
    let raw = image.with_extension("converted");
    let folder = image.parent().unwrap();
    let names = [image, &raw].map(|path| path.to_str().unwrap());
    img(
        folder,
        &["convert", "-f", format, "-O", "raw", names[0], names[1]],
    );
    let other = open_as(&raw, FormatHint::Raw).unwrap();
    check_same(disk, &*other, what);
    fs::read(raw).unwrap()
}

/// All bytes of a disk, in pieces that begin and end anywhere.
pub fn read_all(disk: &dyn ReadAt, dice: &mut Dice) -> Vec<u8> {
    let mut bytes = vec![0xEE; disk.size() as usize];
    let mut at = 0;
    while at < bytes.len() {
        let length = (1 + dice.below(300_000) as usize).min(bytes.len() - at);
        disk.read_exact_at(at as u64, &mut bytes[at..at + length])
            .unwrap();
        at += length;
    }
    bytes
}

/// A raw file of `size` bytes with data here and there, some of it easy to compress.
pub fn sample(path: &Path, size: u64, seed: u64) -> Vec<u8> {
    let mut dice = Dice(seed | 1);
    let mut bytes = vec![0; size as usize];
    for _ in 0..12 {
        let from = dice.below(size) as usize;
        let to = (from + 1 + dice.below(200_000) as usize).min(bytes.len());
        let is_noise = dice.below(2) == 0;
        for byte in &mut bytes[from..to] {
            *byte = match is_noise {
                true => dice.next() as u8,
                false => (from % 251) as u8 + 1,
            };
        }
    }
    fs::write(path, &bytes).unwrap();
    bytes
}

/// The first place where two disks differ.
pub fn difference(one: &[u8], other: &[u8]) -> Option<usize> {
    assert_eq!(one.len(), other.len());
    (0..one.len()).find(|at| one[*at] != other[*at])
}

pub fn open_in(path: &Path, parents: &[PathBuf]) -> cairn_base::Result<Arc<dyn VirtualDisk>> {
    let options = OpenOptions {
        parents: parents.to_vec(),
        ..OpenOptions::default()
    };
    open_with(path, &options)
}

/// Why an image is not opened.
pub fn refusal(path: &Path) -> cairn_base::Error {
    open(path).err().unwrap()
}

/// A QCOW2 by hand, of version 3 in clusters of 4 KiB: the header, at cluster 1 the L1 table, at cluster 2 one L2 table.
pub struct Made {
    pub bytes: Vec<u8>,
}

pub const CLUSTER: usize = 4096;
pub const L1: usize = CLUSTER;
pub const L2: usize = 2 * CLUSTER;

impl Made {
    pub fn new(disk_size: u64) -> Made {
        let mut made = Made {
            bytes: vec![0; 3 * CLUSTER],
        };
        made.bytes[..4].copy_from_slice(b"QFI\xfb");
        made.put32(4, 3);
        made.put32(20, 12);
        made.put64(24, disk_size);
        // Each entry of the L1 table is about 2 MiB.
        let entries = disk_size.div_ceil(2 << 20) as u32;
        assert!(entries <= 512);
        made.put32(36, entries);
        made.put64(40, L1 as u64);
        made.put32(96, 4);
        made.put32(100, 104);
        made.put64(L1, L2 as u64 | 1 << 63);
        made
    }

    pub fn put32(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    pub fn put64(&mut self, at: usize, value: u64) {
        self.bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
    }

    /// Cluster `number` of the disk is `entry`.
    pub fn entry(mut self, number: usize, entry: u64) -> Made {
        self.put64(L2 + 8 * number, entry);
        self
    }

    pub fn extension(mut self, kind: u32, data: &[u8]) -> Made {
        let mut at = 104;
        while self.bytes[at..at + 4] != [0; 4] {
            let length = u32::from_be_bytes(self.bytes[at + 4..at + 8].try_into().unwrap());
            at += 8 + length.next_multiple_of(8) as usize;
        }
        self.put32(at, kind);
        self.put32(at + 4, data.len() as u32);
        self.bytes[at + 8..at + 8 + data.len()].copy_from_slice(data);
        self
    }

    /// With a backing file, of a format or of none that is said.
    pub fn backing(mut self, name: &str, format: Option<&str>) -> Made {
        if let Some(format) = format {
            self = self.extension(0xe279_2aca, format.as_bytes());
        }
        let at = CLUSTER - 1100;
        self.put64(8, at as u64);
        self.put32(16, name.len() as u32);
        self.bytes[at..at + name.len()].copy_from_slice(name.as_bytes());
        self
    }

    /// With an external data file.
    pub fn data_file(mut self, name: &str) -> Made {
        self.bytes[79] |= 4;
        self.extension(0x4441_5441, name.as_bytes())
    }

    pub fn write(&self, path: &Path) -> PathBuf {
        fs::write(path, &self.bytes).unwrap();
        path.to_path_buf()
    }
}
