//! One region of which parts changed: from its old leaf and the changed bytes to its new leaf and the frames of what is new.

use crate::backup::changed::recut::{Part, Piece, chunks_of, recut};
use crate::backup::changed::window::{RegionSource, Window};
use crate::backup::region::{Context, FrameBuilder, RegionResult, length_of};
use crate::frame::Compressor;
use crate::hash::ChunkKind;
use crate::map::{Extent, Leaf};
use cairn_base::{ChunkId, Result};
use std::collections::HashSet;

impl Context<'_> {
    /// Works on a region of which only `parts` changed since it was `base`: a leaf and its id, all of whose chunks are stored
    /// for sure. `buffer` is as long as the region; what it holds before and after does not matter.
    ///
    /// # Errors
    /// What the image and the compressor report.
    pub fn process_changes(
        &self,
        buffer: &mut [u8],
        image: &dyn RegionSource,
        base: (ChunkId, &Leaf),
        parts: &[Part],
        compressor: &mut Compressor,
    ) -> Result<RegionResult> {
        let (base_id, base) = base;
        let mut window = Window::new(buffer, image);
        let pieces = recut(self.cut, base, parts, &mut window)?;
        let mut result = RegionResult {
            read_bytes: window.read_bytes(),
            ..RegionResult::default()
        };
        let trusted: HashSet<ChunkId> = chunks_of(base).collect();
        let mut leaf = Leaf::default();
        let mut frames = FrameBuilder::new(self.keys, compressor);
        for piece in pieces {
            let (length, chunk) = match piece {
                Piece::Kept(extent) => (extent.length, extent.chunk),
                Piece::Hole(range) => (u32::try_from(range.len()).unwrap_or(u32::MAX), None),
                Piece::New(range) => {
                    let part = window.bytes().get(range).unwrap_or_default();
                    let (id, length) = (self.keys.chunk_id(ChunkKind::Data, part), length_of(part));
                    leaf.extents.push(Extent {
                        length,
                        chunk: Some(id),
                    });
                    if !trusted.contains(&id) && self.must_store(&id, length) {
                        result.new_bytes += u64::from(length);
                        frames.push(id, part)?;
                    } else {
                        frames.close()?;
                    }
                    continue;
                }
            };
            // A frame holds consecutive chunks only.
            frames.close()?;
            leaf.extents.push(Extent { length, chunk });
        }
        result.frames = frames.finish()?;
        if leaf.is_hole() {
            return Ok(result);
        }
        let encoded = leaf.encode();
        result.leaf = self.keys.chunk_id(ChunkKind::Leaf, &encoded);
        if result.leaf != base_id && self.must_store(&result.leaf, length_of(&encoded)) {
            result.leaf_bytes = Some(encoded);
        }
        Ok(result)
    }
}
