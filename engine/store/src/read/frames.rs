//! Frames of maps that were decoded a short time ago. Whoever walks a map wants its leaves one after the other, and so they lie in their frames.

use crate::cache::Cache;
use crate::hash::ChunkKind;
use crate::index::Place;
use crate::read::ChunkReader;
use cairn_base::{ChunkId, PackId, ReadAt, Result};
use std::sync::Arc;

/// Memory for them, in bytes.
const KEPT: usize = 8 << 20;

/// Decoded frames, or what of them was decoded, by pack and offset in it. Nothing of it is authenticated.
pub(super) struct MapFrames(Cache<(PackId, u32), Vec<u8>>);

impl Default for MapFrames {
    fn default() -> MapFrames {
        MapFrames(Cache::new(KEPT))
    }
}

impl ChunkReader {
    /// A leaf or node from a place in `file`, authenticated. The first of a frame costs what lies before it; the second decodes all of the frame, which is kept for
    /// the others.
    pub(super) fn read_map_place(
        &self,
        file: &dyn ReadAt,
        kind: ChunkKind,
        id: ChunkId,
        place: &Place,
    ) -> Result<Vec<u8>> {
        let size = |bytes: u32| usize::try_from(bytes).unwrap_or(usize::MAX);
        let (start, end) = (place.at, place.at.saturating_add(place.length));
        let within = size(start)..size(end);
        // The bytes themselves are read as quickly as they are copied.
        if place.plain {
            return self.read_place(file, kind, id, place);
        }
        let key = (place.pack, place.offset);
        let kept = self.frames.0.get(&key, |frame| {
            let weight = frame.len();
            (frame, weight)
        });
        if let Some(bytes) = kept.as_ref().and_then(|frame| frame.get(within.clone()))
            && self.authenticate(kind, id, place, bytes).is_ok()
        {
            return Ok(bytes.to_vec());
        }
        let mut frame = Vec::new();
        // What does not decode to its end may do so up to the chunk.
        let whole = kept.is_some() && self.read_whole_frame(file, place, &mut frame).is_ok();
        if !whole {
            let read = self.read_frame(file, place, end, &mut frame);
            read.map_err(|e| self.at_place(place, e))?;
        }
        let Some(bytes) = frame.get(within) else {
            return Err(self.damaged(place, id, "a frame is shorter than its index says"));
        };
        self.authenticate(kind, id, place, bytes)?;
        let bytes = bytes.to_vec();
        let weight = frame.len();
        self.frames.0.insert(key, Arc::new(frame), weight);
        Ok(bytes)
    }
}
