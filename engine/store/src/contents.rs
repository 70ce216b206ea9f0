//! What a pack's table of contents says, as the index should know it.

use crate::index::{IndexSet, Place};
use crate::pack::{TocChunk, TocFrame};
use cairn_base::{ChunkId, PackId};

/// The chunks of a frame that lies in `pack` at `offset`, each with its place.
pub fn places<'a>(
    pack: PackId,
    offset: u32,
    frame: &'a TocFrame,
    chunks: &'a [TocChunk],
) -> impl Iterator<Item = (ChunkId, Place)> + 'a {
    let mut next = 0u32;
    chunks.iter().map(move |chunk| {
        let at = next;
        next = next.saturating_add(chunk.length);
        let place = Place {
            pack,
            offset,
            stored: frame.stored,
            plain: frame.plain,
            at,
            length: chunk.length,
        };
        (chunk.id, place)
    })
}

/// How many chunks of a frame of `pack` the index does not have at just this place.
pub fn unindexed(index: &IndexSet, pack: PackId, frame: &TocFrame, chunks: &[TocChunk]) -> u64 {
    let mut unknown = 0;
    for (id, place) in places(pack, frame.offset, frame, chunks) {
        if !index.places(&id).unwrap_or_default().contains(&place) {
            unknown += 1;
        }
    }
    unknown
}
