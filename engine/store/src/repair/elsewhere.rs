//! Whether a chunk lies in another pack too, whole.

use crate::pack::PackKind;
use crate::pack::check::chunk_with_prefix;
use crate::read::ChunkReader;
use crate::repair::plan::Want;
use cairn_base::error::unless_lost;
use cairn_base::{ChunkId, Error, PackId, Result};

/// Whether another pack than `pack` and those that are `going` gives the chunk's bytes, read and authenticated now.
///
/// # Errors
/// If none does, and the index or a pack that may give it cannot be read now.
pub fn lies_elsewhere(
    reader: &ChunkReader,
    kind: PackKind,
    want: &Want,
    pack: PackId,
    going: &[PackId],
) -> Result<bool> {
    let mut id = ChunkId::NULL;
    for (to, from) in id.0.iter_mut().zip(&want.prefix) {
        *to = *from;
    }
    let store = reader.store();
    // Only the first 16 bytes count for the index.
    let (places, mut unsure) = store.index().known_places(&id);
    let others = places
        .iter()
        .filter(|place| place.pack != pack && !going.contains(&place.pack))
        .filter(|place| place.length == want.length);
    let mut plain = Vec::new();
    for place in others {
        let end = place.at.saturating_add(place.length);
        if let Err(error) = reader.frame(place, end, &mut plain) {
            unsure = unsure.filter(Error::is_momentary).or(Some(error));
            continue;
        }
        let start = usize::try_from(place.at).unwrap_or(usize::MAX);
        let bytes = plain.get(start..).unwrap_or_default();
        let found = chunk_with_prefix(store.keys(), kind, &want.prefix, bytes);
        if found.is_some_and(|found| want.id.is_none_or(|id| id == found)) {
            return Ok(true);
        }
    }
    unless_lost(unsure.map_or(Ok(()), Err)).map(|_| false)
}
