//! Checking what a pack holds: each frame against its tag, each chunk against its id.

use crate::frame::Decompressor;
use crate::hash::{ChunkKind, Keys, MAX_LEVEL};
use crate::pack::head::PackKind;
use crate::pack::read::PackReader;
use crate::pack::toc::{TocChunk, TocFrame};
use cairn_base::error::unless_lost;
use cairn_base::{ChunkId, Result};

/// What is wrong with a frame.
#[derive(Debug, Default)]
pub struct FrameFindings {
    /// The stored bytes are lost, or their tag does not match; the chunks may be good all the same.
    pub bad_frame: bool,
    /// Chunks whose bytes cannot be had or are not theirs.
    pub bad_chunks: Vec<ChunkId>,
}

impl FrameFindings {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        !self.bad_frame && self.bad_chunks.is_empty()
    }
}

/// Checks frames; one per thread, its buffers are reused.
#[derive(Default)]
pub struct FrameChecker {
    decompressor: Decompressor,
    stored: Vec<u8>,
    plain: Vec<u8>,
}

impl FrameChecker {
    /// Reads a frame and checks it and the chunks in it.
    ///
    /// # Errors
    /// If the frame cannot be read now, which says nothing of its bytes.
    pub fn check(
        &mut self,
        keys: &Keys,
        pack: &PackReader,
        frame: &TocFrame,
        chunks: &[TocChunk],
    ) -> Result<FrameFindings> {
        let tag = unless_lost(pack.stored(keys, frame, &mut self.stored))?;
        let mut findings = FrameFindings {
            bad_frame: tag != Some(true),
            bad_chunks: Vec::new(),
        };
        let readable = tag.is_some();
        let size = |bytes: u32| usize::try_from(bytes).unwrap_or(usize::MAX);
        let whole = readable && self.decode(frame, size(frame.raw));
        let mut at = 0u32;
        for chunk in chunks {
            let end = at.saturating_add(chunk.length);
            // Of a damaged frame the chunks before the damage may still be good.
            let decoded = whole || readable && self.decode(frame, size(end));
            let bytes = self.plain.get(size(at)..size(end));
            let kind = pack.footer().kind;
            if !decoded || !bytes.is_some_and(|bytes| is_chunk(keys, kind, chunk.id, bytes)) {
                findings.bad_chunks.push(chunk.id);
            }
            at = end;
        }
        Ok(findings)
    }

    /// Whether the first `end` plain bytes of the frame in `stored` could be had.
    fn decode(&mut self, frame: &TocFrame, end: usize) -> bool {
        if frame.plain {
            self.plain.clone_from(&self.stored);
            return self.plain.len() >= end;
        }
        self.decompressor
            .decompress(&self.stored, end, &mut self.plain)
            .is_ok()
    }
}

/// Whether the bytes are those of the chunk.
fn is_chunk(keys: &Keys, kind: PackKind, id: ChunkId, bytes: &[u8]) -> bool {
    chunk_with_prefix(keys, kind, &id.prefix(), bytes) == Some(id)
}

/// The id of the bytes in a pack of this kind, if it begins with `prefix`. A map's chunk may be a leaf or a node of any level.
pub fn chunk_with_prefix(
    keys: &Keys,
    kind: PackKind,
    prefix: &[u8; 16],
    bytes: &[u8],
) -> Option<ChunkId> {
    let id = |kind| Some(keys.chunk_id(kind, bytes)).filter(|id| id.prefix() == *prefix);
    match kind {
        PackKind::Data => id(ChunkKind::Data),
        PackKind::Map => std::iter::once(ChunkKind::Leaf)
            .chain((1..=MAX_LEVEL).map(ChunkKind::Node))
            .find_map(id),
    }
}
