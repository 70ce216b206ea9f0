//! When each pack was last proven good: all its stored bytes were read back and checked.
//!
//! A small file that is replaced as a whole. It saves work and nothing else: a pack that it does not name is read again.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use crate::codec::{self, Record};
use crate::layout::{PROOFS, PROOFS_SCRATCH};
use bincode::{Decode, Encode};
use cairn_base::folder::{optional, read_small, replace_bytes};
use cairn_base::{Error, Folder, PackId, Result, Time};
use std::collections::HashMap;

/// Packs that are named at most: 128 TB of full ones. Of more, those proven last; the others count as never proven.
pub const MAX_LISTED: usize = 2_000_000;

/// Stands for no time at all.
const NEVER: i64 = i64::MIN;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
struct ProofRow {
    pack: [u8; 16],
    /// When it was last proven good in either way, seconds since 1970; [`NEVER`] if it was not.
    checked: i64,
    /// When it was last decoded as well; [`NEVER`] if it was not. Of a pack that was never proven: since when it waits for that.
    decoded: i64,
}

/// What the file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
struct ProofRecord {
    /// Ascending by pack.
    rows: Vec<ProofRow>,
}

impl Record for ProofRecord {
    const MAGIC: [u8; 8] = *b"CAIRNPRF";
    const VERSION: u32 = 2;
    const NAME: &'static str = "record of proofs";
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Proof {
    checked: i64,
    decoded: i64,
}

/// When packs were last proven good.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proofs {
    packs: HashMap<PackId, Proof>,
}

/// What is proven of a store, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProofSummary {
    /// Packs that were never proven good, or that were found damaged since.
    pub unproven_packs: u64,
    /// Their length together in bytes.
    pub unproven_bytes: u64,
    /// Of the others: when the one was proven that was not looked at for longest.
    pub oldest: Option<Time>,
    /// When the last one was proven.
    pub newest: Option<Time>,
}

impl Proofs {
    /// What the file says. Nothing if there is none.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) or [`Kind::Unsupported`](cairn_base::Kind::Unsupported) if it cannot be made out.
    pub fn read(folder: &dyn Folder) -> Result<Proofs> {
        let Some(bytes) = optional(read_small(folder, PROOFS, codec::MAX_FILE))? else {
            return Ok(Proofs::default());
        };
        let record: ProofRecord =
            codec::open(&bytes).map_err(|e: Error| e.at_path(folder.describe(PROOFS)))?;
        let proof = |row: ProofRow| Proof {
            checked: row.checked,
            decoded: row.decoded,
        };
        let rows = record.rows.into_iter();
        Ok(Proofs {
            packs: rows.map(|row| (PackId(row.pack), proof(row))).collect(),
        })
    }

    /// As [`read`](Proofs::read), but nothing if it cannot be read, and a sentence that says so.
    pub fn read_or_none(folder: &dyn Folder) -> (Proofs, Option<String>) {
        match Proofs::read(folder) {
            Ok(proofs) => (proofs, None),
            Err(error) => {
                let what = format!(
                    "when packs were verified cannot be read, so all count as not verified: {error}"
                );
                (Proofs::default(), Some(what))
            }
        }
    }

    /// Puts it into the file's place, durably; the caller holds the publish lock.
    ///
    /// # Errors
    /// As the folder reports.
    pub fn write(&self, folder: &dyn Folder) -> Result<()> {
        let packs = self.packs.iter();
        let mut rows: Vec<ProofRow> = packs
            .map(|(pack, proof)| ProofRow {
                pack: pack.0,
                checked: proof.checked,
                decoded: proof.decoded,
            })
            .collect();
        if rows.len() > MAX_LISTED {
            rows.sort_unstable_by_key(|row| (std::cmp::Reverse(row.checked), row.pack));
            rows.truncate(MAX_LISTED);
        }
        rows.sort_unstable_by_key(|row| row.pack);
        let bytes = codec::seal(&ProofRecord { rows })?;
        replace_bytes(folder, PROOFS_SCRATCH, "", PROOFS, &bytes)
    }

    /// Notes that a pack was good at `at`; `decoded` if its chunks were compared with their ids, not only its frames with their tags.
    pub fn prove(&mut self, pack: PackId, at: Time, decoded: bool) {
        let proof = self.packs.entry(pack).or_insert(Proof {
            checked: NEVER,
            decoded: NEVER,
        });
        if proof.checked == NEVER {
            proof.decoded = NEVER;
        }
        proof.checked = at.seconds;
        if decoded {
            proof.decoded = at.seconds;
        }
    }

    /// Notes that a pack was there at `at` and waits for its turn, if nothing is known of it yet.
    pub fn meet(&mut self, pack: PackId, at: Time) {
        self.packs.entry(pack).or_insert(Proof {
            checked: NEVER,
            decoded: at.seconds,
        });
    }

    /// Since when a pack waits for its turn to be read: when it was last proven good, or met. The lowest number if that was not yet by decoding, and
    /// `decoded` asks for that, or if the time is yet to come. `None` if it is new.
    pub fn waits_since(&self, pack: PackId, decoded: bool, now: Time) -> Option<i64> {
        let proof = self.packs.get(&pack)?;
        let since = if decoded || proof.checked == NEVER {
            proof.decoded
        } else {
            proof.checked
        };
        Some(if since > now.seconds { NEVER } else { since })
    }

    /// Takes back all that was said of a pack: it is damaged.
    pub fn forget(&mut self, pack: PackId) {
        self.packs.remove(&pack);
    }

    /// Keeps only packs that `is_live` says are there.
    pub fn retain(&mut self, is_live: impl Fn(&PackId) -> bool) {
        self.packs.retain(|pack, _| is_live(pack));
    }

    /// When a pack was last proven good; if `decoded`, by decoding it. A time after `now` is none: a clock went wrong.
    pub fn of(&self, pack: PackId, decoded: bool, now: Time) -> Option<Time> {
        let proof = self.packs.get(&pack)?;
        if proof.checked == NEVER {
            return None;
        }
        let seconds = if decoded {
            proof.decoded
        } else {
            proof.checked
        };
        let known = seconds != NEVER && seconds <= now.seconds;
        known.then(|| Time::from_seconds(seconds))
    }

    /// Number of packs that were proven good.
    pub fn len(&self) -> usize {
        let proofs = self.packs.values();
        proofs.filter(|proof| proof.checked != NEVER).count()
    }

    /// Whether nothing was ever proven.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is proven of these packs, each with its length in bytes.
    pub fn summary(&self, packs: impl Iterator<Item = (PackId, u64)>, now: Time) -> ProofSummary {
        let mut found = ProofSummary::default();
        for (pack, length) in packs {
            match self.of(pack, false, now) {
                Some(time) => {
                    found.oldest = Some(found.oldest.map_or(time, |oldest| oldest.min(time)));
                    found.newest = found.newest.max(Some(time));
                }
                None => {
                    found.unproven_packs = found.unproven_packs.saturating_add(1);
                    found.unproven_bytes = found.unproven_bytes.saturating_add(length);
                }
            }
        }
        found
    }
}

impl ProofSummary {
    /// For how many seconds at least some pack was not read back: since the oldest proof, or, if there are packs without one, since the
    /// newest proof or `made`, when the store was. `None` if there are no packs.
    pub fn unverified_seconds(&self, made: Time, now: Time) -> Option<i64> {
        let begun = match (self.unproven_packs, self.oldest, self.newest) {
            (0, None, _) => return None,
            (0, Some(oldest), _) => oldest,
            (_, oldest, newest) => {
                let last = newest.unwrap_or(made);
                oldest.map_or(last, |oldest| oldest.min(last))
            }
        };
        Some(now.seconds.saturating_sub(begun.seconds).max(0))
    }

    /// Whether every pack was proven good.
    pub fn is_complete(&self) -> bool {
        self.unproven_packs == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::{Kind, LocalFolder};

    fn folder() -> (tempfile::TempDir, LocalFolder) {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("locks")).unwrap();
        let folder = LocalFolder::new(temp.path());
        (temp, folder)
    }

    fn at(seconds: i64) -> Time {
        Time::from_seconds(seconds)
    }

    #[test]
    fn what_is_written_is_read_back_and_damage_is_noticed() {
        let (temp, folder) = folder();
        assert!(Proofs::read(&folder).unwrap().is_empty());
        let mut proofs = Proofs::default();
        proofs.prove(PackId([2; 16]), at(100), true);
        proofs.prove(PackId([2; 16]), at(200), false);
        proofs.prove(PackId([1; 16]), at(300), false);
        proofs.write(&folder).unwrap();
        assert_eq!(Proofs::read(&folder).unwrap(), proofs);
        let path = temp.path().join(PROOFS);
        let whole = std::fs::read(&path).unwrap();
        // Ascending, 32 bytes a row: FORMAT.md says so.
        let mut rows = 2u64.to_le_bytes().to_vec();
        for (pack, checked, decoded) in [(1, 300, i64::MIN), (2, 200, 100)] {
            rows.extend([pack; 16]);
            rows.extend(i64::to_le_bytes(checked));
            rows.extend(i64::to_le_bytes(decoded));
        }
        assert_eq!(whole[24..24 + 72], rows);
        for place in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            let kind = Proofs::read(&folder).unwrap_err().kind();
            assert!(matches!(kind, Kind::Damaged | Kind::Unsupported), "{place}");
            assert!(Proofs::read_or_none(&folder).0.is_empty());
        }
    }

    #[test]
    fn a_proof_by_tags_is_none_by_decoding_and_the_future_proves_nothing() {
        let mut proofs = Proofs::default();
        let pack = PackId([7; 16]);
        assert_eq!(proofs.of(pack, false, at(1000)), None);
        proofs.prove(pack, at(100), true);
        proofs.prove(pack, at(200), false);
        assert_eq!(proofs.of(pack, false, at(1000)), Some(at(200)));
        assert_eq!(proofs.of(pack, true, at(1000)), Some(at(100)));
        assert_eq!(proofs.of(pack, false, at(199)), None);
        proofs.forget(pack);
        assert_eq!(proofs.of(pack, true, at(1000)), None);
    }

    #[test]
    fn being_met_is_no_proof() {
        let (_temp, folder) = folder();
        let mut proofs = Proofs::default();
        let [pack, other, new] = [1, 2, 3].map(|n| PackId([n; 16]));
        proofs.meet(pack, at(100));
        proofs.meet(pack, at(200));
        proofs.prove(other, at(150), false);
        proofs.meet(other, at(300));
        proofs.write(&folder).unwrap();
        let mut proofs = Proofs::read(&folder).unwrap();
        assert_eq!(proofs.len(), 1);
        let waits = |proofs: &Proofs, deep| {
            [pack, other, new].map(|pack| proofs.waits_since(pack, deep, at(1000)))
        };
        assert_eq!(waits(&proofs, false), [Some(100), Some(150), None]);
        assert_eq!(waits(&proofs, true), [Some(100), Some(NEVER), None]);
        assert_eq!(proofs.waits_since(pack, false, at(99)), Some(NEVER));
        for deep in [false, true] {
            assert_eq!(proofs.of(pack, deep, at(1000)), None);
        }
        proofs.prove(pack, at(400), false);
        assert_eq!(proofs.of(pack, false, at(1000)), Some(at(400)));
        assert_eq!(proofs.of(pack, true, at(1000)), None);
    }

    #[test]
    fn the_summary_names_the_oldest_and_what_was_never_proven() {
        let mut proofs = Proofs::default();
        let packs: Vec<_> = (0..4u8).map(|n| (PackId([n; 16]), 10)).collect();
        let summary = |proofs: &Proofs| proofs.summary(packs.iter().copied(), at(1000));
        assert_eq!(summary(&proofs).unproven_bytes, 40);
        let age = |proofs: &Proofs| summary(proofs).unverified_seconds(at(50), at(1000));
        assert_eq!(age(&proofs), Some(950));
        for n in 1..4u8 {
            proofs.prove(PackId([n; 16]), at(100 * i64::from(n)), false);
        }
        let found = summary(&proofs);
        assert_eq!((found.unproven_packs, found.unproven_bytes), (1, 10));
        assert_eq!((found.oldest, found.newest), (Some(at(100)), Some(at(300))));
        assert_eq!(age(&proofs), Some(900));
        proofs.prove(PackId([0; 16]), at(999), false);
        proofs.prove(PackId([1; 16]), at(999), false);
        assert!(summary(&proofs).is_complete());
        assert_eq!(age(&proofs), Some(800));
        let none = proofs.summary(std::iter::empty(), at(1000));
        assert_eq!(none.unverified_seconds(at(50), at(1000)), None);
    }

    #[test]
    fn of_more_packs_than_fit_the_oldest_proofs_go() {
        let (_temp, folder) = folder();
        let mut proofs = Proofs::default();
        let pack = |n: usize| PackId((n as u128).to_le_bytes());
        for n in 0..MAX_LISTED + 3 {
            proofs.prove(pack(n), at(n as i64), true);
        }
        proofs.write(&folder).unwrap();
        let read = Proofs::read(&folder).unwrap();
        assert_eq!(read.len(), MAX_LISTED);
        let now = at(i64::MAX);
        assert!(read.of(pack(2), false, now).is_none());
        assert!(read.of(pack(3), false, now).is_some());
    }
}
