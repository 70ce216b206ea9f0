//! One region, from its bytes to its leaf and the frames of what is new in it.

use crate::backup::compare::Compared;
use crate::claims::Writer;
use crate::cut::CutParameters;
use crate::frame::{BuiltFrame, Compressor, MAX_FRAME};
use crate::hash::{ChunkKind, Keys};
use crate::map::holes::canonical_holes;
use crate::map::{Extent, Leaf};
use crate::store::Store;
use cairn_base::{ChunkId, Result};
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// What a worker knows: shared, read-only, but for the claims.
pub struct Context<'a> {
    /// The store's keys.
    pub keys: &'a Keys,
    /// How to cut.
    pub cut: CutParameters,
    /// What is in the store already.
    pub store: &'a Store,
    /// What this backup stores.
    pub writer: &'a Writer,
    /// Whether everything the previous map names is in the store for sure.
    pub trust_base: bool,
}

/// Whether the chunk is `writer`'s to store now: it is not stored, and no backup of this process stores it. Then it is claimed.
pub fn must_store(store: &Store, writer: &Writer, id: &ChunkId, length: u32) -> bool {
    if writer.holds(id) {
        return false;
    }
    let generation = store.generation();
    // A look-up that fails counts as absent: storing a chunk twice is harmless.
    let stored = || store.holds(id, length).unwrap_or(false);
    if stored() || !writer.claim(id) {
        return false;
    }
    // Another backup may have published it, and given up its claim, between the look-up and ours.
    if store.generation() != generation && stored() {
        writer.release(&id.prefix());
        return false;
    }
    true
}

/// What became of a region.
#[derive(Debug, Default)]
pub struct RegionResult {
    /// The leaf's id; null if the region is all hole.
    pub leaf: ChunkId,
    /// The leaf's bytes, if they must be stored.
    pub leaf_bytes: Option<Vec<u8>>,
    /// Frames of new chunks.
    pub frames: Vec<BuiltFrame>,
    /// Bytes of new chunks.
    pub new_bytes: u64,
    /// Bytes read from the image.
    pub read_bytes: u64,
}

impl Context<'_> {
    /// Whether the chunk is ours to store now: it is not stored, and no backup of this process stores it.
    fn must_store(&self, id: &ChunkId, length: u32) -> bool {
        must_store(self.store, self.writer, id, length)
    }

    fn is_stored(&self, id: &ChunkId, length: u32) -> bool {
        self.writer.holds(id) || self.store.holds(id, length).unwrap_or(false)
    }

    /// Works on a region. `bytes` is all of it, with zeros in `known_zero`; `base` is the previous point's leaf of the same
    /// region and its id, and `compared` what came of comparing with it.
    ///
    /// # Errors
    /// What the compressor reports.
    pub fn process(
        &self,
        bytes: &[u8],
        known_zero: &[Range<usize>],
        base: Option<(ChunkId, &Leaf)>,
        compared: &Compared,
        compressor: &mut Compressor,
    ) -> Result<RegionResult> {
        if let Some((id, leaf)) = base
            && compared.same
            && (self.trust_base || self.all_stored(leaf))
        {
            return Ok(RegionResult {
                leaf: id,
                // The leaf itself must be there too; in a store that is whole it is.
                leaf_bytes: (!self.trust_base && !id.is_null())
                    .then(|| leaf.encode())
                    .filter(|encoded| self.must_store(&id, length_of(encoded))),
                ..RegionResult::default()
            });
        }
        let mut result = RegionResult::default();
        let leaf = self.cut(
            bytes,
            known_zero,
            base,
            &compared.known,
            compressor,
            &mut result,
        )?;
        if leaf.is_hole() {
            return Ok(result);
        }
        let encoded = leaf.encode();
        result.leaf = self.keys.chunk_id(ChunkKind::Leaf, &encoded);
        let same_as_base = self.trust_base && base.is_some_and(|(id, _)| id == result.leaf);
        if !same_as_base && self.must_store(&result.leaf, length_of(&encoded)) {
            result.leaf_bytes = Some(encoded);
        }
        Ok(result)
    }

    /// Cuts the region anew, and makes frames of what must be stored.
    fn cut(
        &self,
        bytes: &[u8],
        known_zero: &[Range<usize>],
        base: Option<(ChunkId, &Leaf)>,
        known: &HashMap<(usize, u32), ChunkId>,
        compressor: &mut Compressor,
        result: &mut RegionResult,
    ) -> Result<Leaf> {
        let trusted: HashSet<ChunkId> = match base {
            Some((_, leaf)) if self.trust_base => {
                leaf.extents.iter().filter_map(|e| e.chunk).collect()
            }
            _ => HashSet::new(),
        };
        let mut leaf = Leaf::default();
        let mut frames = FrameBuilder::new(self.keys, compressor);
        let mut at = 0;
        for hole in canonical_holes(bytes, known_zero)
            .into_iter()
            .chain(std::iter::once(bytes.len()..bytes.len()))
        {
            for chunk in cut_run(self.cut, bytes, at..hole.start) {
                let part = bytes.get(chunk.clone()).unwrap_or_default();
                let length = length_of(part);
                let id = match known.get(&(chunk.start, length)) {
                    Some(id) => *id,
                    None => self.keys.chunk_id(ChunkKind::Data, part),
                };
                leaf.extents.push(Extent {
                    length,
                    chunk: Some(id),
                });
                if !trusted.contains(&id) && self.must_store(&id, length) {
                    result.new_bytes += u64::from(length);
                    frames.push(id, part)?;
                } else {
                    // A frame holds consecutive chunks only.
                    frames.close()?;
                }
            }
            if !hole.is_empty() {
                frames.close()?;
                leaf.extents.push(Extent {
                    length: u32::try_from(hole.len()).unwrap_or(u32::MAX),
                    chunk: None,
                });
            }
            at = hole.end;
        }
        result.frames = frames.finish()?;
        Ok(leaf)
    }

    fn all_stored(&self, leaf: &Leaf) -> bool {
        leaf.extents.iter().all(|extent| match extent.chunk {
            Some(id) => self.is_stored(&id, extent.length),
            None => true,
        })
    }
}

fn length_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// What lies between the ranges, up to `length`.
pub fn gaps(data: &[Range<usize>], length: usize) -> Vec<Range<usize>> {
    let mut gaps = Vec::new();
    let mut at = 0;
    for range in data {
        if range.start > at {
            gaps.push(at..range.start);
        }
        at = range.end;
    }
    if at < length {
        gaps.push(at..length);
    }
    gaps
}

/// The chunks of a run of data.
fn cut_run(
    cut: CutParameters,
    bytes: &[u8],
    run: Range<usize>,
) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = run.start;
    std::iter::from_fn(move || {
        let rest = bytes.get(at..run.end).filter(|rest| !rest.is_empty())?;
        let length = cut.first_cut(rest, at).clamp(1, rest.len());
        let chunk = at..at + length;
        at = chunk.end;
        Some(chunk)
    })
}

/// Collects consecutive new chunks into frames.
struct FrameBuilder<'a, 'b> {
    keys: &'a Keys,
    compressor: &'a mut Compressor,
    parts: Vec<&'b [u8]>,
    chunks: Vec<(ChunkId, u32)>,
    length: usize,
    built: Vec<BuiltFrame>,
}

impl<'a, 'b> FrameBuilder<'a, 'b> {
    fn new(keys: &'a Keys, compressor: &'a mut Compressor) -> FrameBuilder<'a, 'b> {
        FrameBuilder {
            keys,
            compressor,
            parts: Vec::new(),
            chunks: Vec::new(),
            length: 0,
            built: Vec::new(),
        }
    }

    fn push(&mut self, id: ChunkId, part: &'b [u8]) -> Result<()> {
        if self.length + part.len() > MAX_FRAME {
            self.close()?;
        }
        self.parts.push(part);
        self.chunks.push((id, length_of(part)));
        self.length += part.len();
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        if self.parts.is_empty() {
            return Ok(());
        }
        let parts = std::mem::take(&mut self.parts);
        let chunks = std::mem::take(&mut self.chunks);
        let raw_length = std::mem::take(&mut self.length);
        self.built.push(build_frame(
            self.keys,
            self.compressor,
            &parts,
            chunks,
            raw_length,
        )?);
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<BuiltFrame>> {
        self.close()?;
        Ok(self.built)
    }
}

/// One frame of these chunks.
///
/// # Errors
/// What the compressor reports.
pub fn build_frame(
    keys: &Keys,
    compressor: &mut Compressor,
    parts: &[&[u8]],
    chunks: Vec<(ChunkId, u32)>,
    raw_length: usize,
) -> Result<BuiltFrame> {
    let compressed = compressor.compress(parts)?;
    let plain = compressed.is_none();
    let stored = match compressed {
        Some(bytes) => bytes.to_vec(),
        None => parts.concat(),
    };
    Ok(BuiltFrame {
        tag: keys.frame_tag(&stored),
        stored,
        plain,
        raw_length,
        chunks,
    })
}
