//! Whether the packs are there.

use crate::index::{IndexSet, PackRow, Segment, packs};
use crate::layout;
use crate::store::Store;
use cairn_base::{Folder, FolderStamp, PackId, Result};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;

/// Most threads that look at files at once.
const THREADS: usize = 8;

/// In which folders of packs everything was there, and how to tell that nothing has changed since: what was found is found
/// again for the price of looking at 256 folders. Only for as long as the process lives.
#[derive(Default)]
pub(super) struct Presence {
    folders: Mutex<Vec<Option<Whole>>>,
}

/// A folder in which every pack was there with its sealed length.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Whole {
    /// What the folder was when it was looked at.
    stamp: FolderStamp,
    /// What should be in it.
    tally: Tally,
}

/// The packs that belong into a folder, as a sum.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Tally {
    rows: u64,
    ids: u128,
    lengths: u64,
}

impl Store {
    /// Every pack that a segment names and that look-ups answer or would answer if it were there: not those that the state
    /// says are condemned or replaced. What of the pack tables does not check is left out.
    pub fn live_packs(&self) -> Vec<PackRow> {
        let (index, unanswered) = self.named_packs();
        let known = index.packs().filter_map(Result::ok);
        known.filter(|row| !unanswered.contains(&row.id)).collect()
    }

    pub(super) fn named_packs(&self) -> (IndexSet, HashSet<PackId>) {
        let current = self.current.read();
        (current.index.clone(), current.state.unanswered_packs())
    }

    /// Live packs that are gone or do not have their sealed length, and what of the pack tables is damaged. Looks at each.
    ///
    /// # Errors
    /// As the folder reports, but for files that are not there.
    pub fn missing_packs(&self) -> Result<(HashSet<PackId>, Vec<String>)> {
        self.look_for_packs(false)
    }

    /// As [`missing_packs`](Store::missing_packs), but folders that this process has found whole before, and whose names and packs are the same
    /// since, are not looked into again.
    ///
    /// # Errors
    /// As [`Store::missing_packs`].
    pub(super) fn newly_missing_packs(&self) -> Result<(HashSet<PackId>, Vec<String>)> {
        self.look_for_packs(true)
    }

    fn look_for_packs(&self, remember: bool) -> Result<(HashSet<PackId>, Vec<String>)> {
        let generation = self.generation();
        let (index, unanswered) = self.named_packs();
        let mut rows = Vec::new();
        let mut damage = Vec::new();
        for row in index.packs() {
            match row {
                Ok(row) if unanswered.contains(&row.id) => {}
                Ok(row) => rows.push(row),
                Err(error) if error.is_momentary() => return Err(error),
                Err(error) => damage.push(format!("a part of the index is lost: {error}")),
            }
        }
        let tallies = tally(&rows);
        let before = if remember {
            self.presence.folders.lock().clone()
        } else {
            Vec::new()
        };
        let mut now: Vec<Option<Whole>> = Vec::new();
        for (number, tally) in (0u8..=255).zip(tallies) {
            now.push(self.whole_as(number, tally)?);
        }
        let known = |row: &PackRow| {
            let at = folder_of(row.id);
            let (before, now) = (before.get(at), now.get(at));
            before.is_some_and(|before| before.is_some() && Some(before) == now)
        };
        let mut wanted = rows;
        wanted.retain(|row| !known(row));
        let mut missing = look_at(&*self.folder, &wanted)?;
        for id in &missing {
            if let Some(slot) = now.get_mut(folder_of(*id)) {
                *slot = None;
            }
        }
        if remember {
            *self.presence.folders.lock() = now;
        }
        // Some may have been replaced since the state was read; their files are deleted only after that was published.
        if !missing.is_empty() && self.refresh_since(generation)? {
            let live: HashSet<PackId> = self.live_packs().iter().map(|row| row.id).collect();
            missing.retain(|id| live.contains(id));
        }
        Ok((missing, damage))
    }

    /// What is to be remembered of a folder if all its packs are there; taken before they are looked at.
    fn whole_as(&self, number: u8, tally: Tally) -> Result<Option<Whole>> {
        if tally == Tally::default() {
            return Ok(None);
        }
        let mut id = [0; 16];
        id.fill(number);
        match self.folder.stamp(&layout::pack_folder(PackId(id))) {
            Ok(stamp) => Ok(stamp.map(|stamp| Whole { stamp, tally })),
            Err(error) if !error.is_momentary() => Ok(None),
            Err(error) => Err(error),
        }
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
        let (index, unanswered) = self.named_packs();
        Ok(!unanswered.contains(&id) && names(index.segments(), id))
    }
}

/// Whether a segment names the pack, or may name it in a part of its table that does not check.
pub(super) fn names(segments: &[Arc<Segment>], id: PackId) -> bool {
    let mut segments = segments.iter();
    segments.any(|segment| packs::names(segment, id).unwrap_or(true))
}

fn folder_of(id: PackId) -> usize {
    let [first, ..] = id.0;
    usize::from(first)
}

fn tally(rows: &[PackRow]) -> Vec<Tally> {
    let mut tallies = vec![Tally::default(); 256];
    for row in rows {
        if let Some(tally) = tallies.get_mut(folder_of(row.id)) {
            tally.rows = tally.rows.wrapping_add(1);
            tally.ids = tally.ids.wrapping_add(u128::from_le_bytes(row.id.0));
            tally.lengths = tally.lengths.wrapping_add(row.length);
        }
    }
    tallies
}

/// Looks at the files of packs, with several threads; answers those that are gone or have another length.
fn look_at(folder: &dyn Folder, rows: &[PackRow]) -> Result<HashSet<PackId>> {
    let is_missing = |row: &PackRow| match folder.size(&layout::pack(row.id)) {
        Ok(length) => Ok(length != row.length),
        // One that the disk does not give is as good as gone.
        Err(error) if !error.is_momentary() => Ok(true),
        Err(error) => Err(error),
    };
    let look = |part: &[PackRow]| {
        let mut missing = Vec::new();
        for row in part {
            if is_missing(row)? {
                missing.push(row.id);
            }
        }
        Ok(missing)
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    // A thread is not worth it for a few files.
    let part = rows.len().div_ceil(threads.min(THREADS)).max(512);
    let found: Vec<Result<Vec<PackId>>> = std::thread::scope(|scope| {
        let mut parts = rows.chunks(part);
        let first = parts.next().unwrap_or_default();
        let others: Vec<_> = parts.map(|part| scope.spawn(move || look(part))).collect();
        let mut found = vec![look(first)];
        for other in others {
            match other.join() {
                Ok(result) => found.push(result),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        found
    });
    let mut missing = HashSet::new();
    for part in found {
        missing.extend(part?);
    }
    Ok(missing)
}
