//! Which packs were read with the help of their parity: who opened the store hears of it.

use crate::layout;
use crate::store::Store;
use cairn_base::PackId;
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// Packs that are told one by one.
const MAX_TOLD: usize = 1000;

/// Packs that are damaged, and how many sectors of each had to be restored.
#[derive(Default)]
pub(super) struct HealedPacks {
    packs: Mutex<BTreeMap<PackId, usize>>,
}

impl Store {
    /// Notes that bytes of a pack had to be restored from parity.
    pub(crate) fn note_healed(&self, pack: PackId, sectors: usize) {
        let mut packs = self.healed.packs.lock();
        if packs.len() < MAX_TOLD || packs.contains_key(&pack) {
            let most = packs.entry(pack).or_default();
            *most = sectors.max(*most);
        }
    }

    /// The packs that were noted so.
    pub(crate) fn healed_packs(&self) -> Vec<PackId> {
        self.healed.packs.lock().keys().copied().collect()
    }

    /// What this process could read only with the help of parity, in sentences. What was read is right; the packs should be written anew.
    pub fn healed(&self) -> Vec<String> {
        let packs = self.healed.packs.lock();
        let tell = |(id, sectors): (&PackId, &usize)| {
            let path = self.folder().describe(&layout::pack(*id));
            format!(
                "the pack {path} is damaged: {sectors} sectors of it were restored from parity; run `cairn verify --repair`"
            )
        };
        packs.iter().map(tell).collect()
    }
}
