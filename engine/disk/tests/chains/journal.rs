//! Logs of VHDX, as a program leaves them that does not end as it should.

use super::made::{Image, id};
use cairn_disk::vhdx::header;
use std::fs::File;
use std::os::unix::fs::FileExt;

const LOG: u64 = 1 << 20;
pub const SECTOR: u64 = 4096;

/// What an entry of a log does.
pub enum Change {
    Zero(u64, u64),
    Data(u64, Vec<u8>),
}

/// An entry of the log of [`id`] 4242 ([MS-VHDX] 2.3.1).
pub fn entry(sequence: u64, tail: u32, size: u64, changes: &[Change]) -> Vec<u8> {
    let data: Vec<&Vec<u8>> = changes
        .iter()
        .filter_map(|change| match change {
            Change::Data(_, bytes) => Some(bytes),
            Change::Zero(..) => None,
        })
        .collect();
    let described = (64 + 32 * changes.len()).next_multiple_of(SECTOR as usize);
    let length = described + data.len() * SECTOR as usize;
    let mut bytes = b"loge\0\0\0\0".to_vec();
    for field in [length as u32, tail] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    bytes.extend_from_slice(&sequence.to_le_bytes());
    bytes.extend_from_slice(&(changes.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&id(4242).to_windows());
    for field in [size, size] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    for change in changes {
        match change {
            Change::Zero(at, length) => {
                bytes.extend_from_slice(b"zero\0\0\0\0");
                for field in [*length, *at, sequence] {
                    bytes.extend_from_slice(&field.to_le_bytes());
                }
            }
            Change::Data(at, content) => {
                bytes.extend_from_slice(b"desc");
                bytes.extend_from_slice(&content[4092..]);
                bytes.extend_from_slice(&content[..8]);
                for field in [*at, sequence] {
                    bytes.extend_from_slice(&field.to_le_bytes());
                }
            }
        }
    }
    bytes.resize(described, 0);
    for content in data {
        bytes.extend_from_slice(b"data");
        bytes.extend_from_slice(&((sequence >> 32) as u32).to_le_bytes());
        bytes.extend_from_slice(&content[8..4092]);
        bytes.extend_from_slice(&(sequence as u32).to_le_bytes());
    }
    let sum = crc32c(&bytes);
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Bit by bit, so that it is another one than the crate that is tested uses.
pub fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0x82F6_3B78 & (sum & 1).wrapping_neg())
        })
    })
}

/// Writes entries into the ring from `at` on, and says in the header that the log is in use.
pub fn put_log(image: &Image, at: u64, entries: &[Vec<u8>]) {
    let file = File::options().write(true).open(&image.path).unwrap();
    let bytes = entries.concat();
    for (index, sector) in bytes.chunks(SECTOR as usize).enumerate() {
        let place = (at + index as u64 * SECTOR) % (1 << 20);
        file.write_all_at(sector, LOG + place).unwrap();
    }
    let header = header::Header {
        log_id: id(4242),
        ..image.vhdx_header(7)
    };
    file.write_all_at(&header.encode(), header::OFFSETS[0])
        .unwrap();
}
