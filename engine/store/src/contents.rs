//! What a pack's table of contents says, as the index should know it.

use crate::index::{IndexSet, Place};
use crate::pack::{TocChunk, TocFrame};
use cairn_base::error::unless_lost;
use cairn_base::{ChunkId, PackId, Result};

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
///
/// # Errors
/// If the index cannot be read now, which says nothing of what is in it.
pub fn unindexed(
    index: &IndexSet,
    pack: PackId,
    frame: &TocFrame,
    chunks: &[TocChunk],
) -> Result<u64> {
    let mut unknown = 0;
    for (id, place) in places(pack, frame.offset, frame, chunks) {
        let (places, failed) = index.known_places(&id);
        if !places.contains(&place) {
            unless_lost(failed.map_or(Ok(()), Err))?;
            unknown += 1;
        }
    }
    Ok(unknown)
}
