//! Images that no tool here makes, byte by byte.

use super::shared::run;
use cairn_disk::{VirtualDisk, open_as};
use flate2::{Compress, Compression, FlushCompress};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub const SECTOR: usize = 512;
pub const GRAIN: usize = 65536;

/// Numbers from a seed: xorshift.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// Bytes that are not zeros, and compress a little.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length)
            .map(|_| (self.below(15) * 16) as u8 | 1)
            .collect()
    }
}

/// A descriptor: type, more fields, lines of extents.
pub fn descriptor(kind: &str, more: &str, lines: &str) -> String {
    let more = match more.contains("parentCID") {
        true => more.to_string(),
        false => format!("parentCID=ffffffff\n{more}"),
    };
    format!(
        "# Disk DescriptorFile\nversion=1\nCID=12345678\n{more}\ncreateType=\"{kind}\"\n\n# Extent description\n{lines}\n\n#DDB\nddb.adapterType = \"ide\"\n"
    )
}

pub fn put(bytes: &mut Vec<u8>, at: usize, part: &[u8]) {
    if bytes.len() < at + part.len() {
        bytes.resize(at + part.len(), 0);
    }
    bytes[at..at + part.len()].copy_from_slice(part);
}

pub fn put_u32(bytes: &mut Vec<u8>, at: usize, value: u32) {
    put(bytes, at, &value.to_le_bytes());
}

pub fn put_u64(bytes: &mut Vec<u8>, at: usize, value: u64) {
    put(bytes, at, &value.to_le_bytes());
}

/// zlib's format.
pub fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut compressed = Vec::with_capacity(bytes.len() + 1000);
    let mut encoder = Compress::new(Compression::default(), true);
    encoder
        .compress_vec(bytes, &mut compressed, FlushCompress::Finish)
        .unwrap();
    compressed
}

/// The header of a stream, or its footer.
fn stream_header(size: u64, directory: u64) -> Vec<u8> {
    let mut header = vec![0; SECTOR];
    put(&mut header, 0, b"KDMV");
    put_u32(&mut header, 4, 3);
    put_u32(&mut header, 8, 0x3_0001);
    put_u64(&mut header, 12, size / 512);
    put_u64(&mut header, 20, GRAIN as u64 / 512);
    put_u64(&mut header, 28, 1);
    put_u64(&mut header, 36, 20);
    put_u32(&mut header, 44, 512);
    put_u64(&mut header, 56, directory);
    put_u64(&mut header, 64, 128);
    put(&mut header, 73, b"\n \r\n\x01\0");
    header
}

fn marker(value: u64, kind: u32) -> Vec<u8> {
    let mut marker = vec![0; SECTOR];
    put_u64(&mut marker, 0, value);
    put_u32(&mut marker, 12, kind);
    marker
}

/// Where the parts of a stream lie.
#[derive(Default)]
pub struct Parts {
    /// Marker of each grain that is there.
    pub grains: Vec<usize>,
    pub directory: usize,
    pub footer: usize,
}

/// A stream as VMware writes it: grains, tables, directory, footer, in one go. `content` are the disk's bytes; grains of zeros are left out.
pub fn stream(content: &[u8]) -> (Vec<u8>, Parts) {
    stream_of(content, |grain| (deflate(grain), grain.len()))
}

/// The same; each grain is what `encode` makes of it.
pub fn stream_of(content: &[u8], encode: impl Fn(&[u8]) -> (Vec<u8>, usize)) -> (Vec<u8>, Parts) {
    let size = content.len() as u64;
    let mut parts = Parts::default();
    let mut bytes = stream_header(size, u64::MAX);
    let line = format!("RW {} SPARSE \"call-me-stream.vmdk\"", size / 512);
    let text = descriptor("streamOptimized", "", &line);
    put(&mut bytes, SECTOR, text.as_bytes());
    bytes.resize(128 * SECTOR, 0);
    let mut tables: Vec<u32> = Vec::new();
    for (number, chunk) in content.chunks(512 * GRAIN).enumerate() {
        let mut table = vec![0u32; 512];
        for (index, grain) in chunk.chunks(GRAIN).enumerate() {
            if grain.iter().all(|byte| *byte == 0) {
                continue;
            }
            let sector = (number * 512 + index) * GRAIN / 512;
            table[index] = (bytes.len() / SECTOR) as u32;
            parts.grains.push(bytes.len());
            let (compressed, _) = encode(grain);
            bytes.extend((sector as u64).to_le_bytes());
            bytes.extend((compressed.len() as u32).to_le_bytes());
            bytes.extend(compressed);
            bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
        }
        bytes.extend(marker(4, 1));
        tables.push((bytes.len() / SECTOR) as u32);
        bytes.extend(table.into_iter().flat_map(u32::to_le_bytes));
    }
    bytes.extend(marker(1, 2));
    parts.directory = bytes.len();
    bytes.extend(tables.into_iter().flat_map(u32::to_le_bytes));
    bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
    bytes.extend(marker(1, 3));
    parts.footer = bytes.len();
    bytes.extend(stream_header(size, (parts.directory / SECTOR) as u64));
    bytes.extend(marker(0, 0));
    (bytes, parts)
}

/// A sparse extent of ESX with grains of so many sectors. `content` are its bytes; grains of zeros are left out.
pub fn esx(content: &[u8], grain_sectors: usize) -> Vec<u8> {
    let grain = grain_sectors * SECTOR;
    let span = 4096 * grain;
    let tables = content.len().div_ceil(span);
    let mut bytes = b"COWD".to_vec();
    let directory = 4;
    let sectors = (content.len() / SECTOR) as u32;
    for field in [
        1,
        3,
        sectors,
        grain_sectors as u32,
        directory,
        tables as u32,
    ] {
        bytes.extend(field.to_le_bytes());
    }
    let entries = directory as usize * SECTOR;
    bytes.resize((entries + tables * 4).next_multiple_of(SECTOR), 0);
    for (number, chunk) in content.chunks(span).enumerate() {
        if chunk.iter().all(|byte| *byte == 0) {
            continue;
        }
        let table = bytes.len();
        put_u32(&mut bytes, entries + number * 4, (table / SECTOR) as u32);
        bytes.resize(table + 4096 * 4, 0);
        for (index, part) in chunk.chunks(grain).enumerate() {
            if part.iter().any(|byte| *byte != 0) {
                let at = bytes.len();
                put_u32(&mut bytes, table + index * 4, (at / SECTOR) as u32);
                bytes.extend(part);
                bytes.resize(at + grain, 0);
            }
        }
    }
    bytes
}

/// A disk with bytes here and there.
pub fn sample(size: usize, seed: u64) -> Vec<u8> {
    let mut dice = Dice(seed | 1);
    let mut content = vec![0; size];
    for _ in 0..12 {
        let at = dice.below(size as u64) as usize;
        let length = (dice.below(200_000) as usize + 1).min(size - at);
        let bytes = dice.bytes(length);
        content[at..at + length].copy_from_slice(&bytes);
    }
    content[0] = 1;
    content[size - 1] = 2;
    content
}

pub fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// The disk that QEMU sees in a VMDK.
pub fn qemu_sees(image: &Path) -> Vec<u8> {
    let raw = image.with_extension("seen");
    run(Command::new("qemu-img")
        .args(["convert", "-f", "vmdk", "-O", "raw"])
        .args([image, &raw]));
    let content = fs::read(&raw).unwrap();
    fs::remove_file(raw).unwrap();
    content
}

/// All bytes of a disk that is known to be a VMDK.
pub fn ours(image: &Path) -> cairn_base::Result<Vec<u8>> {
    all(&*open_as(image, cairn_disk::FormatHint::Vmdk)?)
}

pub fn all(disk: &dyn VirtualDisk) -> cairn_base::Result<Vec<u8>> {
    cairn_base::read_at::read_vec(disk, 0, disk.size() as usize)
}

/// Errors in full, with what stands below them.
pub fn in_full(error: &cairn_base::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
