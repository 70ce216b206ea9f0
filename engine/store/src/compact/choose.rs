//! Which packs are merged: those of one kind and about one size, when there are many.

use crate::contents::unindexed;
use crate::index::PackRow;
use crate::index::packs::PackRows;
use crate::layout;
use crate::pack::write::{MAX_CHUNKS, TARGET};
use crate::pack::{FrameChecker, PackReader};
use crate::store::Store;
use cairn_base::{Error, Monitor, Result};
use std::collections::{BTreeMap, VecDeque};

/// A tier is merged when it has so many packs, or when they fill a pack.
const MANY: usize = 16;
/// Where tiers end, in bytes. [`MANY`] packs of a tier make one that lies two tiers higher (but for the heads and footers that
/// fall away). Two packs of any tier fit into one of [`TARGET`], and what is left out because it does not fit is less than what is
/// needed to make the new pack small.
const TIERS: [u64; 6] = [64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, SMALL];
/// Packs below this are small.
const SMALL: u64 = 28 << 20;

/// Packs of one kind and tier, those of the oldest segments first.
pub struct Group {
    packs: VecDeque<PackRow>,
}

fn tier(length: u64) -> Option<usize> {
    TIERS.iter().position(|end| length < *end)
}

/// The small packs that look-ups answer, by kind and tier.
pub fn choose(store: &Store) -> Vec<Group> {
    let index = store.index();
    let mut groups: BTreeMap<(u32, usize), Group> = BTreeMap::new();
    // What holds damage is left as it is: it would be read again by every backup, only to find that out.
    let mut seen = store.known_damage().packs_with_damage();
    // What of a pack table does not check is left alone.
    let tables = index
        .segments()
        .iter()
        .map(|segment| PackRows::new(segment));
    for row in tables.flatten().filter_map(Result::ok) {
        if let Some(tier) = tier(row.length)
            && !index.hidden().contains(&row.id)
            && seen.insert(row.id)
        {
            let group = groups.entry((row.kind.code(), tier));
            let group = group.or_insert_with(|| Group {
                packs: VecDeque::new(),
            });
            group.packs.push_back(row);
        }
    }
    groups.into_values().collect()
}

impl Group {
    /// Whether merging the packs that are left may be worth it.
    fn is_ripe(&self) -> bool {
        let bytes: u64 = self.packs.iter().map(|row| row.length).sum();
        self.packs.len() >= MANY || bytes > TARGET
    }

    /// Takes the next packs that become one, the oldest first; `None` if that is not worth it. Each is read and checked in full; one that does not check is left
    /// as it is, and told in `left`. `work` is the number of bytes that may still be read.
    ///
    /// # Errors
    /// [`Kind::Interrupted`](cairn_base::Kind::Interrupted) on request.
    pub fn next_batch(
        &mut self,
        store: &Store,
        checker: &mut FrameChecker,
        monitor: &dyn Monitor,
        work: &mut u64,
        left: &mut Vec<String>,
    ) -> Result<Option<Vec<PackRow>>> {
        if !self.is_ripe() || *work < TARGET {
            return Ok(None);
        }
        let mut batch = Vec::new();
        let mut filling = Filling::default();
        let mut full = false;
        while let Some(row) = self.packs.pop_front() {
            if *work < row.length {
                self.packs.push_front(row);
                break;
            }
            let checked = open(store, &row).and_then(|pack| {
                let chunks = pack.toc().chunks.len();
                if !filling.has_room(row.length, chunks) {
                    return Ok(None);
                }
                *work = work.saturating_sub(row.length);
                check(store, &row, &pack, checker, monitor).map(|()| Some(chunks))
            });
            match checked {
                Ok(Some(chunks)) => {
                    filling.add(row.length, chunks);
                    batch.push(row);
                }
                Ok(None) => {
                    self.packs.push_front(row);
                    if batch.len() > 1 {
                        full = true;
                        break;
                    }
                    // One that leaves no room for the next stays as it is.
                    batch.clear();
                    filling = Filling::default();
                }
                Err(error) if monitor.stop_requested() => return Err(error),
                Err(error) => left.push(format!("a small pack stays as it is: {error}")),
            }
        }
        let worth_it = batch.len() > 1 && (full || batch.len() >= MANY);
        Ok(worth_it.then_some(batch))
    }
}

/// What a new pack is going to hold.
#[derive(Default)]
struct Filling {
    bytes: u64,
    chunks: usize,
}

impl Filling {
    /// Whether a pack of this length with so many chunks goes in too. As where packs are sealed: their tables stay small, however well
    /// their frames compress. The first one always does.
    fn has_room(&self, length: u64, chunks: usize) -> bool {
        self.bytes == 0
            || self.bytes.saturating_add(length) <= TARGET
                && self.chunks.saturating_add(chunks) <= MAX_CHUNKS
    }

    fn add(&mut self, length: u64, chunks: usize) {
        self.bytes = self.bytes.saturating_add(length);
        self.chunks = self.chunks.saturating_add(chunks);
    }
}

/// The pack, if its structures are those that the index knows.
fn open(store: &Store, row: &PackRow) -> Result<PackReader> {
    let path = layout::pack(row.id);
    let pack = PackReader::open_at(&**store.folder(), store.header().store, row.id, &path)?;
    if (pack.footer().length, pack.footer().kind) == (row.length, row.kind) {
        Ok(pack)
    } else {
        Err(fault(store, row, "it is not the pack that the index knows"))
    }
}

/// Checks that everything in a pack is what it should be, and that the index knows all of it.
fn check(
    store: &Store,
    row: &PackRow,
    pack: &PackReader,
    checker: &mut FrameChecker,
    monitor: &dyn Monitor,
) -> Result<()> {
    match first_fault(store, row, pack, checker, monitor)? {
        None => Ok(()),
        Some(what) => Err(fault(store, row, what)),
    }
}

fn fault(store: &Store, row: &PackRow, what: &'static str) -> Error {
    Error::damaged(what)
        .at_path(store.folder().describe(&layout::pack(row.id)))
        .with_id(row.id)
        .advise("run `cairn verify`")
}

fn first_fault(
    store: &Store,
    row: &PackRow,
    pack: &PackReader,
    checker: &mut FrameChecker,
    monitor: &dyn Monitor,
) -> Result<Option<&'static str>> {
    let index = store.index();
    for (frame, chunks) in pack.frames() {
        if monitor.stop_requested() {
            return Err(Error::interrupted());
        }
        let found = checker.check(store.keys(), pack, frame, chunks)?;
        if !found.is_clean() {
            // The next backup that sees the bytes stores them anew.
            for chunk in &found.bad_chunks {
                store.note_damaged(chunk, &[row.id]);
            }
            return Ok(Some("a frame of it is not what was written"));
        }
        if unindexed(&index, row.id, frame, chunks)? > 0 {
            return Ok(Some("the index does not know all that is in it"));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_merged_is_small_no_more_or_climbs_two_tiers() {
        let many = u64::try_from(MANY).unwrap();
        for (number, start) in TIERS.iter().enumerate().take(TIERS.len() - 1) {
            // Where one tier ends the next begins.
            let (first, merged) = (tier(*start).unwrap(), tier(many * start));
            assert_eq!(first, number + 1);
            assert!(merged.is_none_or(|merged| merged >= first + 2), "{start}");
        }
        assert_eq!(tier(SMALL), None);
        // A batch that ends because the next pack does not fit makes one that is small no more, even if a tenth of it was heads
        // and footers.
        let largest = SMALL - 1;
        assert!(2 * largest <= TARGET);
        assert_eq!(tier((TARGET - largest) / 10 * 9), None);
    }

    /// How many equal packs become one.
    fn together(length: u64, chunks: usize) -> usize {
        let mut filling = Filling::default();
        let mut count = 0;
        while filling.has_room(length, chunks) {
            filling.add(length, chunks);
            count += 1;
        }
        count
    }

    #[test]
    fn a_new_pack_is_bounded_in_bytes_and_in_chunks() {
        assert_eq!(together(16 << 20, 500), 4);
        assert_eq!(together((16 << 20) + 1, 500), 3);
        assert_eq!(together(200_000, MAX_CHUNKS / 8), 8);
        assert_eq!(together(200_000, MAX_CHUNKS / 8 + 1), 7);
        assert_eq!(together(200_000, MAX_CHUNKS), 1);
        // What is already above is copied alone rather than looked at for ever.
        assert_eq!(together(200_000, 2 * MAX_CHUNKS), 1);
        assert_eq!(together(2 * TARGET, 1), 1);
    }
}
