//! Chunks that lie in damaged sectors, read through the parity of their pack.

use crate::hash::ChunkKind;
use crate::mistake::{self, Mistake};
use crate::pack::Healed;
use crate::read::{ChunkReader, Wanted};
use cairn_base::{PackId, ReadAt, Result};
use parking_lot::Mutex;
use std::sync::Arc;

/// Damaged packs that are kept open at most; each holds up to two stripes of 4 MiB.
const KEPT: usize = 4;

/// Damaged packs that were opened through their parity, those used last first.
#[derive(Default)]
pub(super) struct HealedPacks {
    packs: Mutex<Vec<(PackId, Arc<Healed>)>>,
}

impl HealedPacks {
    fn get(
        &self,
        id: PackId,
        open: impl FnOnce() -> Result<Arc<dyn ReadAt>>,
        store: [u8; 16],
    ) -> Result<Arc<Healed>> {
        {
            let mut packs = self.packs.lock();
            if let Some(at) = packs.iter().position(|(of, _)| *of == id) {
                let found = packs.remove(at);
                let pack = found.1.clone();
                packs.insert(0, found);
                return Ok(pack);
            }
        }
        let pack = Arc::new(Healed::new(open()?, store, id)?);
        let mut packs = self.packs.lock();
        packs.truncate(KEPT.saturating_sub(1));
        packs.insert(0, (id, pack.clone()));
        Ok(pack)
    }
}

impl ChunkReader {
    /// A chunk that no place of it gives, computed from the parity of a pack it lies in, and authenticated like any other.
    pub(super) fn heal(&self, kind: ChunkKind, wanted: Wanted) -> Option<Vec<u8>> {
        let store = self.store();
        for place in store.index().places(&wanted.id).ok()? {
            if wanted.length.is_some_and(|length| length != place.length) {
                continue;
            }
            let open = || self.pack(place.pack);
            let Ok(pack) = self.healed.get(place.pack, open, store.header().store) else {
                continue;
            };
            let read = match mistake::is_made(Mistake::ParityUnchecked) {
                true => self.bytes_at(&*pack, wanted.id, &place),
                false => self.read_place(&*pack, kind, wanted.id, &place),
            };
            if let Ok(bytes) = read {
                // None: it was a failure that has passed.
                if pack.sectors() > 0 {
                    store.note_healed(place.pack, pack.sectors());
                }
                return Some(bytes);
            }
        }
        None
    }
}
