//! The list of what is known to be damaged: places of chunks whose bytes are not what was written.
//!
//! A chunk whose every place is on the list counts as absent, so the next backup that sees its bytes stores it anew: that is how a
//! store heals. The list is durable, because who finds damage (a restore, a verification) is seldom who sees the bytes again.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use crate::codec::{self, Record};
use crate::layout::{DAMAGE, DAMAGE_SCRATCH};
use bincode::{Decode, Encode};
use cairn_base::folder::{optional, read_small, replace_bytes};
use cairn_base::{Error, Folder, PackId, Result};
use std::collections::{BTreeSet, HashSet};

/// Places that are listed at most, and packs. Of a chunk of 32 KiB each that is 16 GiB.
pub const MAX_LISTED: usize = 1 << 19;

/// A place: the first 16 bytes of the chunk's id, and the pack it lies in; [`NOWHERE`] if the index, as it can be read, has no place of it.
pub type BadPlace = ([u8; 16], PackId);

/// Stands for a place that is not there at all. Packs have random ids.
pub const NOWHERE: PackId = PackId([0; 16]);

/// What the file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
struct DamageRecord {
    /// Prefix of the chunk's id and pack, ascending.
    places: Vec<([u8; 16], [u8; 16])>,
    /// Packs of which nothing can be relied on, ascending: every chunk of theirs is among `places`.
    packs: Vec<[u8; 16]>,
    /// Whether there is more than could be listed.
    more: bool,
}

impl Record for DamageRecord {
    const MAGIC: [u8; 8] = *b"CAIRNDMG";
    const VERSION: u32 = 1;
    const NAME: &'static str = "list of known damage";
}

/// The list, as far as a process knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DamageList {
    places: BTreeSet<BadPlace>,
    packs: BTreeSet<PackId>,
    more: bool,
}

impl DamageList {
    /// What the file says. Empty if there is none.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) or [`Kind::Unsupported`](cairn_base::Kind::Unsupported) if it cannot be made out.
    pub fn read(folder: &dyn Folder) -> Result<DamageList> {
        let Some(bytes) = optional(read_small(folder, DAMAGE, codec::MAX_FILE))? else {
            return Ok(DamageList::default());
        };
        let at = |error: Error| error.at_path(folder.describe(DAMAGE));
        let record: DamageRecord = codec::open(&bytes).map_err(at)?;
        let places = record.places.into_iter();
        Ok(DamageList {
            places: places
                .map(|(prefix, pack)| (prefix, PackId(pack)))
                .collect(),
            packs: record.packs.into_iter().map(PackId).collect(),
            more: record.more,
        })
    }

    /// Puts it into the file's place, durably; the caller holds the publish lock.
    ///
    /// # Errors
    /// As the folder reports.
    pub fn write(&self, folder: &dyn Folder) -> Result<()> {
        let places = self.places.iter();
        let record = DamageRecord {
            places: places.map(|(prefix, pack)| (*prefix, pack.0)).collect(),
            packs: self.packs.iter().map(|pack| pack.0).collect(),
            more: self.more,
        };
        replace_bytes(folder, DAMAGE_SCRATCH, "", DAMAGE, &codec::seal(&record)?)
    }

    /// Adds a place; `true` if it is new.
    pub fn add(&mut self, place: BadPlace) -> bool {
        if self.places.contains(&place) {
            return false;
        }
        if self.places.len() >= MAX_LISTED {
            let new = !self.more;
            self.more = true;
            return new;
        }
        self.places.insert(place)
    }

    /// Says that every chunk of a pack was added; `true` if that is new.
    pub fn add_pack(&mut self, pack: PackId) -> bool {
        // One that is not on the list makes the store one that is not whole: nothing is lost by that.
        self.packs.len() < MAX_LISTED && self.packs.insert(pack)
    }

    /// Whether every chunk of the pack is listed.
    pub fn has_pack(&self, pack: PackId) -> bool {
        self.packs.contains(&pack)
    }

    /// The packs of which a chunk is listed.
    pub fn packs_with_damage(&self) -> HashSet<PackId> {
        self.places.iter().map(|(_, pack)| *pack).collect()
    }

    /// Every pack that is listed, or of which a chunk is.
    pub fn all_packs(&self) -> HashSet<PackId> {
        let mut all = self.packs_with_damage();
        all.extend(&self.packs);
        all
    }

    /// Adds what another list has.
    pub fn merge(&mut self, other: &DamageList) {
        self.more |= other.more;
        self.packs.extend(&other.packs);
        for place in &other.places {
            self.add(*place);
        }
    }

    /// Adds what `now` has and `before` had not.
    pub fn merge_news(&mut self, now: &DamageList, before: &DamageList) {
        self.more |= now.more && !before.more;
        self.packs.extend(now.packs.difference(&before.packs));
        for place in now.places.difference(&before.places) {
            self.add(*place);
        }
    }

    /// Keeps only places that `keep` wants, and packs that `keep_pack` wants.
    pub fn retain(
        &mut self,
        keep: impl FnMut(&BadPlace) -> bool,
        keep_pack: impl FnMut(&PackId) -> bool,
    ) {
        self.places.retain(keep);
        self.packs.retain(keep_pack);
    }

    /// Whether this place is listed.
    pub fn has(&self, prefix: &[u8; 16], pack: PackId) -> bool {
        self.places.contains(&(*prefix, pack))
    }

    /// Whether any place of the chunk is listed.
    pub fn mentions(&self, prefix: &[u8; 16]) -> bool {
        let all = (*prefix, NOWHERE)..=(*prefix, PackId([0xff; 16]));
        self.places.range(all).next().is_some()
    }

    /// What is listed, ascending.
    pub fn places(&self) -> impl Iterator<Item = &BadPlace> {
        self.places.iter()
    }

    /// Number of places listed.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether nothing is known to be damaged.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty() && self.packs.is_empty() && !self.more
    }

    /// Says that there is more damage than is listed.
    pub fn note_more(&mut self) {
        self.more = true;
    }

    /// Whether there is more damage than is listed: then nothing that is not looked at can be relied on.
    pub fn has_more(&self) -> bool {
        self.more
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::{Kind, LocalFolder};

    #[test]
    fn what_is_written_is_read_back_and_damage_is_noticed() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("locks")).unwrap();
        let folder = LocalFolder::new(temp.path());
        assert!(DamageList::read(&folder).unwrap().is_empty());
        let mut list = DamageList::default();
        assert!(list.add(([1; 16], PackId([2; 16]))) && list.add(([3; 16], NOWHERE)));
        assert!(!list.add(([3; 16], NOWHERE)));
        assert!(list.add_pack(PackId([2; 16])) && !list.add_pack(PackId([2; 16])));
        list.write(&folder).unwrap();
        assert_eq!(DamageList::read(&folder).unwrap(), list);
        assert!(list.mentions(&[1; 16]) && !list.mentions(&[2; 16]));
        list.retain(|(_, pack)| *pack != NOWHERE, |_| true);
        list.write(&folder).unwrap();
        assert_eq!(DamageList::read(&folder).unwrap().len(), 1);
        let path = temp.path().join(DAMAGE);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            let kind = DamageList::read(&folder).unwrap_err().kind();
            assert!(matches!(kind, Kind::Damaged | Kind::Unsupported), "{at}");
        }
    }
}
