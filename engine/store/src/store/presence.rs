//! Whether the packs are there.

use crate::index::segment::PackRow;
use crate::layout;
use crate::store::Store;
use cairn_base::{Kind, PackId, Result};
use std::collections::HashSet;

impl Store {
    /// Every pack that a segment names and that look-ups answer or would answer if it were there: not those that the state
    /// says are condemned or replaced.
    pub fn live_packs(&self) -> Vec<PackRow> {
        let (index, unanswered) = {
            let current = self.current.read();
            (current.index.clone(), current.state.unanswered_packs())
        };
        let mut packs = index.packs();
        packs.retain(|row| !unanswered.contains(&row.id));
        packs
    }

    /// Live packs that are gone or do not have their sealed length.
    ///
    /// # Errors
    /// As the folder reports, but for files that are not there.
    pub fn missing_packs(&self) -> Result<HashSet<PackId>> {
        let generation = self.generation();
        let mut missing = HashSet::new();
        for row in self.live_packs() {
            match self.folder.size(&layout::pack(row.id)) {
                Ok(length) if length == row.length => {}
                Ok(_) => {
                    missing.insert(row.id);
                }
                Err(error) if error.kind() == Kind::NotFound => {
                    missing.insert(row.id);
                }
                Err(error) => return Err(error),
            }
        }
        // Some may have been replaced since the state was read; their files are deleted only after that was published.
        if !missing.is_empty() && self.refresh_since(generation)? {
            let live: HashSet<PackId> = self.live_packs().iter().map(|row| row.id).collect();
            missing.retain(|id| live.contains(id));
        }
        Ok(missing)
    }

    /// Reads the state again; `true` if there is a newer one than `generation`, whoever read it, or more of it could be opened.
    ///
    /// # Errors
    /// As [`Store::refresh`].
    pub fn refresh_since(&self, generation: u64) -> Result<bool> {
        let changed = self.refresh()?;
        Ok(changed || self.generation() != generation)
    }

    /// Whether a pack is live in the newest state. A file that is not there, or that cannot be read, is no loss if it is not.
    ///
    /// # Errors
    /// As [`Store::refresh`].
    pub(crate) fn is_still_live(&self, id: PackId) -> Result<bool> {
        self.refresh()?;
        let current = self.current.read();
        if current.state.unanswered_packs().contains(&id) {
            return Ok(false);
        }
        let mut rows = current.index.segments().iter().flat_map(|s| s.packs());
        Ok(rows.any(|row| row.id == id))
    }
}
