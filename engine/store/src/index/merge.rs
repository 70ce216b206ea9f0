//! Merging segments, so that there are few: each is at least three times as large as the next newer one.

use crate::index::page::PAGE_ENTRIES;
use crate::index::place::Entry;
use crate::index::segment::{PackRow, Segment};
use crate::index::write::{SegmentWriter, WrittenSegment};
use cairn_base::{Error, Folder, PackId, Result};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

/// An older segment stays apart if it is at least this many times as large as all newer ones that are merged.
const RATIO: u64 = 3;

/// How many of the newest segments to merge: the largest run in which each is smaller than [`RATIO`] times all newer
/// ones together. 0 or 1 means that nothing needs merging. Sizes are numbers of entries, oldest first.
pub fn merge_count(sizes: &[u64]) -> usize {
    let mut newer = 0u64;
    let mut count = 0;
    for size in sizes.iter().rev() {
        if count > 0 && *size >= newer.saturating_mul(RATIO) {
            break;
        }
        newer = newer.saturating_add(*size);
        count += 1;
    }
    if count > 1 { count } else { 0 }
}

/// Merges segments into one new one, written in `session_folder`. Packs in `drop`, and the entries that name them, are left out.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if a page of a source does not check: nothing is merged then, and nothing lost.
pub fn merge(
    folder: &dyn Folder,
    session_folder: &str,
    store: [u8; 16],
    sources: &[Arc<Segment>],
    drop: &HashSet<PackId>,
) -> Result<WrittenSegment> {
    let mut packs: Vec<PackRow> = Vec::new();
    let mut numbers: HashMap<PackId, u32> = HashMap::new();
    let mut renumber: Vec<Vec<Option<u32>>> = Vec::new();
    for source in sources {
        let mut map = Vec::with_capacity(source.packs().len());
        for row in source.packs() {
            if drop.contains(&row.id) {
                map.push(None);
                continue;
            }
            let number = *numbers.entry(row.id).or_insert_with(|| {
                packs.push(*row);
                u32::try_from(packs.len() - 1).unwrap_or(u32::MAX)
            });
            map.push(Some(number));
        }
        renumber.push(map);
    }
    if packs.len() > Entry::MAX_PACKS {
        return Err(Error::invalid("too many packs for one index segment"));
    }
    let mut writer = SegmentWriter::create(folder, session_folder, store)?;
    let mut cursors: Vec<Cursor<'_>> = sources.iter().map(|s| Cursor::new(s)).collect();
    let mut heap = BinaryHeap::new();
    for (index, cursor) in cursors.iter_mut().enumerate() {
        if let Some(entry) = cursor.next()? {
            heap.push(Reverse((entry.prefix, index, Queued(entry))));
        }
    }
    let mut last: Option<Entry> = None;
    while let Some(Reverse((_, index, Queued(entry)))) = heap.pop() {
        let number = usize::try_from(entry.pack_number())
            .ok()
            .and_then(|number| renumber.get(index)?.get(number));
        let Some(number) = number else {
            return Err(Error::damaged(
                "an index entry names a pack that is not in the table",
            ));
        };
        if let Some(number) = number {
            let entry = entry.with_pack(*number);
            // The same place may stand in two segments after an interrupted merge; once is enough.
            if last != Some(entry) {
                writer.push(entry)?;
                last = Some(entry);
            }
        }
        if let Some(cursor) = cursors.get_mut(index)
            && let Some(entry) = cursor.next()?
        {
            heap.push(Reverse((entry.prefix, index, Queued(entry))));
        }
    }
    writer.finish(folder, &packs)
}

/// An entry in the heap; ordered by nothing, the key beside it is.
struct Queued(Entry);

impl PartialEq for Queued {
    fn eq(&self, _other: &Queued) -> bool {
        true
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Queued) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, _other: &Queued) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

/// Walks the entries of a segment in order, one page in memory.
pub struct Cursor<'a> {
    segment: &'a Segment,
    page: u64,
    entries: std::vec::IntoIter<Entry>,
}

impl<'a> Cursor<'a> {
    /// At the first entry.
    pub fn new(segment: &'a Segment) -> Cursor<'a> {
        Cursor {
            segment,
            page: 0,
            entries: Vec::with_capacity(PAGE_ENTRIES).into_iter(),
        }
    }

    /// The next entry.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if its page does not check.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator of results would hide the error"
    )]
    pub fn next(&mut self) -> Result<Option<Entry>> {
        loop {
            if let Some(entry) = self.entries.next() {
                return Ok(Some(entry));
            }
            if self.page >= self.segment.page_count() {
                return Ok(None);
            }
            let mut scratch = Vec::new();
            self.entries = self
                .segment
                .page(self.page, &mut scratch)?
                .to_vec()
                .into_iter();
            self.page += 1;
        }
    }
}
