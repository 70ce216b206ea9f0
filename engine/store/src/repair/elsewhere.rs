//! Whether a chunk lies in another pack too, whole.

use crate::pack::PackKind;
use crate::pack::check::chunk_with_prefix;
use crate::read::ChunkReader;
use crate::repair::plan::Want;
use cairn_base::{ChunkId, PackId};

/// Whether another pack than `pack` and those that are `going` gives the chunk's bytes, read and authenticated now.
pub fn lies_elsewhere(
    reader: &ChunkReader,
    kind: PackKind,
    want: &Want,
    pack: PackId,
    going: &[PackId],
) -> bool {
    let mut id = ChunkId::NULL;
    for (to, from) in id.0.iter_mut().zip(&want.prefix) {
        *to = *from;
    }
    let store = reader.store();
    // Only the first 16 bytes count for the index.
    let places = store.index().places(&id).unwrap_or_default();
    let mut others = places
        .iter()
        .filter(|place| place.pack != pack && !going.contains(&place.pack))
        .filter(|place| place.length == want.length);
    others.any(|place| {
        let mut plain = Vec::new();
        let end = place.at.saturating_add(place.length);
        if reader.frame(place, end, &mut plain).is_err() {
            return false;
        }
        let start = usize::try_from(place.at).unwrap_or(usize::MAX);
        let bytes = plain.get(start..).unwrap_or_default();
        let found = chunk_with_prefix(store.keys(), kind, &want.prefix, bytes);
        found.is_some_and(|found| want.id.is_none_or(|id| id == found))
    })
}
