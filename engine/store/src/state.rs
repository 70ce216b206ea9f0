//! The state: which segments live and which packs are condemned. What it does not list does not exist.
//!
//! Two slots; a publication writes the one that is not current, so that a crash leaves the other.

use crate::codec::{self, Record};
use crate::layout::{LOCKS, STATES};
use bincode::{Decode, Encode};
use cairn_base::folder::{optional, read_small, replace_bytes};
use cairn_base::{Error, Folder, PackId, Result, SegmentId};

/// Largest state file read.
const MAX_BYTES: u64 = 16 << 20;

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

/// What exists.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct State {
    /// Goes up by one with every publication.
    pub generation: u64,
    /// Live segments, oldest first.
    pub segments: Vec<SegmentRow>,
    /// Packs that look-ups no longer answer and that will be deleted.
    pub condemned: Vec<[u8; 16]>,
}

impl Record for State {
    const MAGIC: [u8; 8] = *b"CAIRNSTA";
    const VERSION: u32 = 1;
    const NAME: &'static str = "store state";
}

impl State {
    /// The condemned packs.
    pub fn condemned_packs(&self) -> impl Iterator<Item = PackId> + '_ {
        self.condemned.iter().map(|id| PackId(*id))
    }

    /// Reads the newest state that checks. A damaged slot is a warning if the other one is whole.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if neither slot can be read.
    pub fn read(folder: &dyn Folder) -> Result<(State, Option<String>)> {
        let mut newest: Option<State> = None;
        let mut failed: Option<Error> = None;
        for name in STATES {
            let read = optional(read_small(folder, name, MAX_BYTES)).and_then(|bytes| {
                bytes
                    .map(|bytes| codec::open::<State>(&bytes))
                    .transpose()
                    .map_err(|e| e.at_path(folder.describe(name)))
            });
            match read {
                Ok(Some(state))
                    if newest
                        .as_ref()
                        .is_none_or(|other| other.generation < state.generation) =>
                {
                    newest = Some(state);
                }
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
        }
        match (newest, failed) {
            (Some(state), failed) => {
                let warning = failed.map(|e| format!("a slot of the store state is damaged: {e}"));
                Ok((state, warning))
            }
            (None, Some(error)) => Err(error.context("the store state cannot be read")),
            (None, None) => Err(Error::damaged("the store has no state")
                .at_path(folder.describe(""))
                .advise("the files state.0 and state.1 are gone: restore them from a copy")),
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
