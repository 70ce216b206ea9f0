//! The state: which segments live, which packs are condemned, and which were replaced. What it does not list does not exist.
//!
//! Two slots, one generation apart; a publication writes the one that is not current, so that a crash leaves the other.

use crate::codec::{self, Record};
use crate::layout::{LOCKS, STATES};
use bincode::{Decode, Encode};
use cairn_base::folder::{read_small, replace_bytes};
use cairn_base::{Error, Folder, PackId, Result, SegmentId};
use std::collections::HashSet;

/// How often slots that do not belong together are read again.
const ATTEMPTS: usize = 3;

/// A live segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct SegmentRow {
    /// Its id.
    pub id: [u8; 16],
    /// Entries in it.
    pub entries: u64,
    /// Length of the file in bytes.
    pub length: u64,
}

impl SegmentRow {
    /// Its id.
    pub fn segment(&self) -> SegmentId {
        SegmentId(self.id)
    }
}

/// A pack that nothing needs, as far as was known when it was condemned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Condemned {
    /// The pack.
    pub pack: [u8; 16],
    /// The generation that condemned it: writers that began with an older one may rely on it.
    pub generation: u64,
}

/// What exists.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct State {
    /// Goes up by one with every publication.
    pub generation: u64,
    /// Live segments, oldest first.
    pub segments: Vec<SegmentRow>,
    /// Packs that nobody new may rely on, and that go once it is sure that nothing needs them.
    pub condemned: Vec<Condemned>,
    /// Packs that nothing needs: each of their chunks has an authenticated copy in another pack, or no point reaches it. Look-ups do not answer
    /// them, and their files are deleted once both slots list them. They stay listed while a segment names them.
    pub replaced: Vec<[u8; 16]>,
}

impl Record for State {
    const MAGIC: [u8; 8] = *b"CAIRNSTA";
    const VERSION: u32 = 3;
    const NAME: &'static str = "store state";
}

impl State {
    /// The condemned packs.
    pub fn condemned_packs(&self) -> impl Iterator<Item = PackId> + '_ {
        self.condemned.iter().map(|row| PackId(row.pack))
    }

    /// The replaced packs.
    pub fn replaced_packs(&self) -> impl Iterator<Item = PackId> + '_ {
        self.replaced.iter().map(|id| PackId(*id))
    }

    /// Lists packs that nothing needs, each once.
    pub fn replace(&mut self, packs: &[PackId]) {
        let known: HashSet<PackId> = self.replaced_packs().collect();
        let new = packs.iter().filter(|id| !known.contains(id));
        self.replaced.extend(new.map(|id| id.0));
    }

    /// Lists packs that nobody new may rely on, as of this generation.
    pub fn condemn(&mut self, packs: &[PackId]) {
        let known = self.unanswered_packs();
        let generation = self.generation;
        let new = packs.iter().filter(|id| !known.contains(id));
        self.condemned.extend(new.map(|id| Condemned {
            pack: id.0,
            generation,
        }));
    }

    /// Condemns anew, as of this generation, what was condemned before: whoever wrote meanwhile may rely on it.
    pub fn condemn_anew(&mut self) {
        for row in &mut self.condemned {
            row.generation = self.generation;
        }
    }

    /// The packs whose places look-ups do not answer: condemned or replaced.
    pub fn unanswered_packs(&self) -> HashSet<PackId> {
        self.condemned_packs()
            .chain(self.replaced_packs())
            .collect()
    }

    /// Both slots, the older one first; `None` if one is lost. The caller holds the publish lock.
    ///
    /// # Errors
    /// As [`State::read`].
    pub fn slots(folder: &dyn Folder) -> Result<Option<[State; 2]>> {
        if State::read(folder)?.1.is_some() {
            return Ok(None);
        }
        let [a, b] = STATES;
        let slot = |name: &str| codec::open::<State>(&read_small(folder, name, codec::MAX_FILE)?);
        let (a, b) = (slot(a)?, slot(b)?);
        Ok(Some(if a.generation < b.generation {
            [a, b]
        } else {
            [b, a]
        }))
    }

    /// The segments that any slot lists; `None` if a slot is lost.
    ///
    /// # Errors
    /// As [`State::read`].
    pub fn listed(folder: &dyn Folder) -> Result<Option<HashSet<SegmentId>>> {
        let slots = State::slots(folder)?;
        Ok(slots.map(|slots| {
            let rows = slots.iter().flat_map(|state| &state.segments);
            rows.map(SegmentRow::segment).collect()
        }))
    }

    /// Reads the newest state that checks. If a slot is lost, that state may not be the newest that ever was: the answer says
    /// so, and what it does not list may be needed all the same.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if neither slot can be read.
    pub fn read(folder: &dyn Folder) -> Result<(State, Option<String>)> {
        let mut read = State::read_once(folder)?;
        // Without the publish lock a publication may come between the reading of the two slots.
        for _ in 0..ATTEMPTS {
            if read.1.is_none() {
                break;
            }
            read = State::read_once(folder)?;
        }
        Ok(read)
    }

    /// The next generation.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if there is none: no store publishes that often.
    pub fn advance(&mut self, by: u64) -> Result<()> {
        self.generation = self
            .generation
            .checked_add(by)
            .ok_or_else(|| Error::damaged("the store state claims an impossible generation"))?;
        Ok(())
    }

    fn read_once(folder: &dyn Folder) -> Result<(State, Option<String>)> {
        let mut found: Vec<State> = Vec::new();
        let mut failed: Option<Error> = None;
        for name in STATES {
            match read_small(folder, name, codec::MAX_FILE).and_then(|bytes| codec::open(&bytes)) {
                Ok(state) => found.push(state),
                Err(error) => {
                    let error: Error = error;
                    let error = error.at_path(folder.describe(name));
                    // A newer format, or a disk that fails for the moment, is no loss.
                    if error.is_momentary() {
                        return Err(error.context("the store state cannot be read"));
                    }
                    failed = Some(error);
                }
            }
        }
        found.sort_by_key(|state| state.generation);
        match (found.pop(), found.pop(), failed) {
            (Some(newest), Some(older), _) => {
                // A publication writes one slot, so the two are always one apart.
                let apart = newest.generation.saturating_sub(older.generation);
                let lost = (apart != 1)
                    .then(|| "the two slots of the store state do not belong together".to_string());
                Ok((newest, lost))
            }
            (Some(only), None, failed) => {
                let why = failed.map(|e| e.to_string()).unwrap_or_default();
                Ok((
                    only,
                    Some(format!("a slot of the store state is lost: {why}")),
                ))
            }
            (None, _, Some(error)) => Err(error
                .context("the store state cannot be read")
                .advise("restore the files state.0 and state.1 from a copy of the store")),
            (None, _, None) => Err(Error::damaged("the store has no state")),
        }
    }

    /// Publishes this state. The caller holds the publish lock and has read the state before.
    ///
    /// # Errors
    /// As the folder reports; the older state then stands.
    pub fn publish(&self, folder: &dyn Folder) -> Result<()> {
        // Never the slot of the newest state: after a crash that one must be whole.
        let slot = usize::try_from(self.generation % 2).unwrap_or(0);
        let name = STATES.get(slot).copied().unwrap_or_default();
        let bytes = codec::seal(self)?;
        replace_bytes(folder, &format!("{LOCKS}/{name}.new"), "", name, &bytes)
    }
}
