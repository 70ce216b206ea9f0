//! A disk as a fuzzer can write it: a few bytes here and there of something large.
//!
//! Bytes: size (5 bytes, little-endian), then pieces: kind (1), offset (5), length (3), then, if the lowest bit of the kind is 0,
//! so many bytes, else one byte that is repeated. Later pieces lie over earlier ones; the rest are zeros.

use cairn_base::read_at::check_range;
use cairn_base::{ReadAt, Result};
use std::sync::atomic::{AtomicU64, Ordering};

/// Pieces that are looked at.
const MAX_PIECES: usize = 4096;
/// Reads that no walk of such a disk needs: one that asks for more does not end.
const MAX_READS: u64 = 4_000_000;
/// Likewise bytes.
const MAX_BYTES: u64 = 16 << 30;

struct Piece {
    offset: u64,
    length: usize,
    bytes: Content,
}

enum Content {
    Literal(Vec<u8>),
    Fill(u8),
}

/// Such a disk. Panics when far more is read from it than can make sense.
pub struct Pieces {
    size: u64,
    pieces: Vec<Piece>,
    reads: AtomicU64,
    bytes: AtomicU64,
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl Pieces {
    /// The disk in `data`, of at most `max_size` bytes.
    pub fn parse(data: &[u8], max_size: u64) -> Pieces {
        let (head, mut rest) = data.split_at(data.len().min(5));
        let mut pieces = Vec::new();
        while let Some((head, after)) = rest.split_at_checked(9)
            && pieces.len() < MAX_PIECES
        {
            let (offset, length) = (number(&head[1..6]), number(&head[6..9]) as usize);
            let bytes;
            (bytes, rest) = if head[0] & 1 == 0 {
                let (bytes, rest) = after.split_at(length.min(after.len()));
                (Content::Literal(bytes.to_vec()), rest)
            } else {
                let (fill, rest) = after.split_at(after.len().min(1));
                (Content::Fill(fill.first().copied().unwrap_or(0)), rest)
            };
            let length = match &bytes {
                Content::Literal(bytes) => bytes.len(),
                Content::Fill(_) => length,
            };
            pieces.push(Piece {
                offset,
                length,
                bytes,
            });
        }
        Pieces {
            size: number(head).min(max_size),
            pieces,
            reads: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// All of it in memory.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.size as usize];
        self.fill(0, &mut bytes);
        bytes
    }

    fn fill(&self, offset: u64, buffer: &mut [u8]) {
        buffer.fill(0);
        let end = offset + buffer.len() as u64;
        for piece in &self.pieces {
            let from = piece.offset.max(offset);
            let to = (piece.offset + piece.length as u64).min(end);
            if from >= to {
                continue;
            }
            let target = &mut buffer[(from - offset) as usize..(to - offset) as usize];
            match &piece.bytes {
                Content::Fill(byte) => target.fill(*byte),
                Content::Literal(bytes) => {
                    let start = (from - piece.offset) as usize;
                    target.copy_from_slice(&bytes[start..start + target.len()]);
                }
            }
        }
    }

    /// The bytes that stand for a disk: what [`parse`](Pieces::parse) reads. Gaps of zeros below 16 bytes are kept.
    pub fn write(disk: &[u8]) -> Vec<u8> {
        const GAP: usize = 16;
        let five = |number: usize| (number as u64).to_le_bytes()[..5].to_vec();
        let mut out = five(disk.len());
        let mut piece = |kind: u8, offset: usize, length: usize, bytes: &[u8]| {
            out.push(kind);
            out.extend(five(offset));
            out.extend(&(length as u64).to_le_bytes()[..3]);
            out.extend(bytes);
        };
        let mut at = 0;
        while at < disk.len() {
            let same = |byte: u8, from: usize| {
                let run = disk[from..].iter().take_while(|b| **b == byte);
                run.take(1 << 23).count()
            };
            let run = same(disk[at], at);
            if disk[at] == 0 {
                at += run;
                continue;
            }
            if run > 64 {
                piece(1, at, run, &disk[at..=at]);
                at += run;
                continue;
            }
            let start = at;
            while at < disk.len() && at - start < 1 << 16 {
                let run = same(disk[at], at);
                if run > 64 || disk[at] == 0 && run >= GAP {
                    break;
                }
                at += run;
            }
            piece(0, start, at - start, &disk[start..at]);
        }
        out
    }
}

impl ReadAt for Pieces {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let reads = self.reads.fetch_add(1, Ordering::Relaxed);
        let bytes = self.bytes.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        assert!(reads < MAX_READS && bytes < MAX_BYTES, "reads without end");
        check_range(self.size, offset, buffer.len())?;
        self.fill(offset, buffer);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let mut disk = vec![0; 100_000];
        disk[10..20].fill(1);
        disk[5000..9000].fill(0xff);
        disk[9000..9100].copy_from_slice(&[7, 0, 0, 9].repeat(25));
        disk[99_999] = 3;
        let bytes = Pieces::write(&disk);
        assert!(bytes.len() < 200);
        assert_eq!(Pieces::parse(&bytes, 1 << 30).to_bytes(), disk);
        assert_eq!(Pieces::parse(&bytes, 15).to_bytes(), disk[..15]);
        assert!(Pieces::parse(&[], 10).to_bytes().is_empty());
    }
}
