//! A pack's table of contents: every frame and every chunk in it.
//!
//! u32 number of frames, u32 number of chunks, then a record of 32 bytes for each frame, then one of 36 bytes for each
//! chunk, in the order they lie in the pack.
//!
//! Frame: offset in the pack (u32), stored length (u32; bit 31: plain), plain length (u32), number of chunks (u32),
//! tag of the stored bytes (16). Chunk: id (32), length (u32).
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use crate::frame::MAX_FRAME;
use crate::pack::head::HEAD_LEN;
use cairn_base::units::to_u64;
use cairn_base::{ChunkId, Result, View};

const PLAIN: u32 = 1 << 31;
/// Bytes of a frame in it.
pub const FRAME_RECORD: usize = 32;
/// Bytes of a chunk in it.
pub const CHUNK_RECORD: usize = 36;
/// Largest table of contents read; a pack of the largest size with the smallest chunks needs less.
pub const MAX_TOC: u64 = 64 << 20;

/// One frame of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TocFrame {
    /// In the pack, in bytes.
    pub offset: u32,
    /// Bytes in the pack.
    pub stored: u32,
    /// Whether the stored bytes are the plain bytes.
    pub plain: bool,
    /// Plain bytes.
    pub raw: u32,
    /// Number of chunks in it.
    pub chunks: u32,
    /// Keyed tag of the stored bytes.
    pub tag: [u8; 16],
}

/// One chunk of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TocChunk {
    /// Its id.
    pub id: ChunkId,
    /// Plain bytes.
    pub length: u32,
}

/// A pack's table of contents.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Toc {
    /// In the order they lie in the pack.
    pub frames: Vec<TocFrame>,
    /// The chunks of all frames, in order.
    pub chunks: Vec<TocChunk>,
}

impl Toc {
    /// The bytes behind the frames.
    pub fn encode(&self) -> Vec<u8> {
        let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&count(self.frames.len()));
        bytes.extend_from_slice(&count(self.chunks.len()));
        for frame in &self.frames {
            let flag = if frame.plain { PLAIN } else { 0 };
            bytes.extend_from_slice(&frame.offset.to_le_bytes());
            bytes.extend_from_slice(&(frame.stored | flag).to_le_bytes());
            bytes.extend_from_slice(&frame.raw.to_le_bytes());
            bytes.extend_from_slice(&frame.chunks.to_le_bytes());
            bytes.extend_from_slice(&frame.tag);
        }
        for chunk in &self.chunks {
            bytes.extend_from_slice(&chunk.id.0);
            bytes.extend_from_slice(&chunk.length.to_le_bytes());
        }
        bytes
    }

    /// Decodes the table of a pack whose frames end at `frames_end`.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if frames overlap, leave the pack, or do not add up to their chunks, or if a frame or chunk is empty.
    pub fn decode(bytes: &[u8], frames_end: u64) -> Result<Toc> {
        let view = View::new(bytes, "pack table of contents", frames_end);
        let count =
            |at| -> Result<usize> { Ok(usize::try_from(view.u32_le(at)?).unwrap_or(usize::MAX)) };
        let (frames, chunks) = (count(0)?, count(4)?);
        let chunks_at = frames.saturating_mul(FRAME_RECORD).saturating_add(8);
        let length = chunks
            .saturating_mul(CHUNK_RECORD)
            .saturating_add(chunks_at);
        if length != bytes.len() {
            return Err(view.damaged(0, "is not as long as its counts say"));
        }
        let mut toc = Toc {
            frames: Vec::with_capacity(frames),
            chunks: Vec::with_capacity(chunks),
        };
        let mut next = to_u64(HEAD_LEN);
        let (mut at, mut chunk_at) = (8usize, chunks_at);
        for _ in 0..frames {
            let word = view.u32_le(at.saturating_add(4))?;
            let frame = TocFrame {
                offset: view.u32_le(at)?,
                stored: word & !PLAIN,
                plain: word & PLAIN != 0,
                raw: view.u32_le(at.saturating_add(8))?,
                chunks: view.u32_le(at.saturating_add(12))?,
                tag: view.array(at.saturating_add(16))?,
            };
            let end = u64::from(frame.offset).saturating_add(u64::from(frame.stored));
            let too_large = to_u64(MAX_FRAME) < u64::from(frame.raw.max(frame.stored));
            let plain_lie = frame.plain && frame.stored != frame.raw;
            let empty = frame.chunks == 0 || frame.stored == 0;
            let misplaced = u64::from(frame.offset) != next || end > frames_end;
            if misplaced || too_large || plain_lie || empty {
                return Err(view.damaged(at, "holds a frame that cannot be"));
            }
            let mut raw = 0u32;
            for _ in 0..frame.chunks {
                let length = view.u32_le(chunk_at.saturating_add(32))?;
                if length == 0 {
                    return Err(view.damaged(chunk_at, "holds a chunk without bytes"));
                }
                toc.chunks.push(TocChunk {
                    id: ChunkId(view.array(chunk_at)?),
                    length,
                });
                raw = raw.saturating_add(length);
                chunk_at = chunk_at.saturating_add(CHUNK_RECORD);
            }
            if raw != frame.raw {
                return Err(view.damaged(at, "holds a frame whose chunks do not add up"));
            }
            next = end;
            toc.frames.push(frame);
            at = at.saturating_add(FRAME_RECORD);
        }
        if chunk_at != bytes.len() || next != frames_end {
            return Err(view.damaged(0, "does not account for every chunk and frame"));
        }
        Ok(toc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Toc {
        let frame = |offset, raw, chunks| TocFrame {
            offset,
            stored: 10,
            plain: raw == 10,
            raw,
            chunks,
            tag: [4; 16],
        };
        let chunk = |n, length| TocChunk {
            id: ChunkId([n; 32]),
            length,
        };
        Toc {
            frames: vec![frame(64, 10, 1), frame(74, 30, 2)],
            chunks: vec![chunk(1, 10), chunk(2, 20), chunk(3, 10)],
        }
    }

    #[test]
    fn there_and_back() {
        let bytes = sample().encode();
        assert_eq!(bytes.len(), 8 + 2 * 32 + 3 * 36);
        assert_eq!(Toc::decode(&bytes, 84).unwrap(), sample());
        assert!(Toc::decode(&bytes, 85).is_err());
        assert!(Toc::decode(&bytes[1..], 84).is_err());
    }

    #[test]
    fn nothing_in_it_is_empty() {
        // The second frame has 30 plain bytes in two chunks.
        for (lengths, chunks) in [([0, 30], 2), ([30, 0], 2), ([30, 1], 2), ([30, 0], 1)] {
            let mut toc = sample();
            toc.frames[1].chunks = chunks;
            toc.chunks.truncate(1 + chunks as usize);
            for (chunk, length) in toc.chunks[1..].iter_mut().zip(lengths) {
                chunk.length = length;
            }
            let whole = lengths[..chunks as usize] == [30];
            assert_eq!(Toc::decode(&toc.encode(), 84).is_ok(), whole, "{lengths:?}");
        }
        let mut toc = sample();
        (toc.frames[1].chunks, toc.frames[1].raw) = (0, 0);
        toc.chunks.truncate(1);
        assert!(Toc::decode(&toc.encode(), 84).is_err());
        let mut toc = sample();
        (toc.frames[1].stored, toc.frames[0].stored) = (0, 20);
        (toc.frames[0].plain, toc.frames[1].offset) = (false, 84);
        assert!(Toc::decode(&toc.encode(), 84).is_err());
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), frames in 0u32..9, chunks in 0u32..9) {
            if bytes.len() >= 8 {
                bytes[..4].copy_from_slice(&frames.to_le_bytes());
                bytes[4..8].copy_from_slice(&chunks.to_le_bytes());
            }
            let _ = Toc::decode(&bytes, 500);
        }

        #[test]
        fn flips_in_the_structure_do_not_pass_unseen_as_overlaps(at in 0usize..72, bit in 0u8..8) {
            let mut bytes = sample().encode();
            bytes[at] ^= 1 << bit;
            if let Ok(toc) = Toc::decode(&bytes, 84) {
                // Only a tag or the split of a zstd frame can differ; offsets always add up.
                prop_assert_eq!(toc.frames[1].offset, toc.frames[0].offset + toc.frames[0].stored);
            }
        }
    }
}
