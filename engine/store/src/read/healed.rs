//! Chunks that lie in damaged sectors, read through the parity of their pack.

use crate::hash::ChunkKind;
use crate::mistake::{self, Mistake};
use crate::pack::Healed;
use crate::read::{ChunkReader, Wanted};
use cairn_base::error::unless_lost;
use cairn_base::{Error, PackId, ReadAt, Result};
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
    fn forget(&self, id: PackId) {
        self.packs.lock().retain(|(of, _)| *of != id);
    }

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
    /// A chunk that no place of it gives, computed from the parity of a pack it lies in, and authenticated like any other. `None` if
    /// parity does not give it either.
    ///
    /// # Errors
    /// If a pack that may give it cannot be read now.
    pub(super) fn heal(&self, kind: ChunkKind, wanted: Wanted) -> Result<Option<Vec<u8>>> {
        let store = self.store();
        let (places, mut unsure) = store.index().known_places(&wanted.id);
        for place in places {
            if wanted.length.is_some_and(|length| length != place.length) {
                continue;
            }
            let open = || self.pack(place.pack);
            let pack = self.healed.get(place.pack, open, store.header().store);
            let read = pack.and_then(|pack| {
                let bytes = match mistake::is_made(Mistake::ParityUnchecked) {
                    true => self.bytes_at(&*pack, wanted.id, &place),
                    false => self.read_place(&*pack, kind, wanted.id, &place),
                }?;
                Ok((pack, bytes))
            });
            match read {
                Ok((pack, bytes)) => {
                    // None: it was a failure that has passed.
                    if pack.sectors() > 0 {
                        store.note_healed(place.pack, pack.sectors());
                    }
                    return Ok(Some(bytes));
                }
                Err(error) => {
                    // Next time it is opened anew: what could not be read of its table may be read then.
                    self.healed.forget(place.pack);
                    unsure = unsure.filter(Error::is_momentary).or(Some(error));
                }
            }
        }
        unless_lost(unsure.map_or(Ok(None), Err)).map(Option::flatten)
    }
}
