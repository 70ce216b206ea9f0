//! Merging segments into one. One thread reads and merges, one makes blocks and writes; both stream.

use crate::index::block::{BLOCK_LEN, BLOCK_PAGES};
use crate::index::packs::{AllPacks, DROPPED, renumber};
use crate::index::page::{self, PAGE_LEN, PAGE_ROWS, PageKind};
use crate::index::place::Entry;
use crate::index::segment::Segment;
use crate::index::table::PackRow;
use crate::index::write::{SegmentWriter, WrittenSegment};
use cairn_base::units::to_u64;
use cairn_base::{Error, Folder, PackId, Result};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

/// Pages that are read at once: 256 KiB.
const READ_PAGES: u64 = 64;
/// With more entries than this the result would push too much out of the page cache: 280 MB.
const LARGE: u64 = 8 << 20;
/// Entries that are handed over at once, and how many times so many may wait.
const BATCH: usize = 2 << 10;
const WAITING: usize = 64;

/// Merges segments into one new one, written in `session_folder`. Packs of `drop`, and the entries that name them, are left out.
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
    let numbers = renumber(sources, drop)?;
    let entries: u64 = sources.iter().map(|source| source.entries()).sum();
    let large = entries > LARGE;
    let writer = SegmentWriter::create(folder, session_folder, store, large)?;
    let path = writer.path().to_string();
    let merged = std::thread::scope(|scope| {
        let (send, receive) = sync_channel(WAITING);
        let merging = scope.spawn(|| merge_entries(sources, &numbers, send));
        let written = write(writer, receive);
        let merged = merging
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // If writing failed the other thread stopped because of that.
        let writer = written?;
        merged?;
        let kept = |row: &Result<PackRow>| !matches!(row, Ok(row) if drop.contains(&row.id));
        writer.finish(AllPacks::of(sources).filter(kept))
    });
    if merged.is_err() {
        // It may be large, and the session may live for long.
        let _swept_later = folder.remove(&path);
    }
    merged
}

fn write(
    mut writer: SegmentWriter,
    batches: impl IntoIterator<Item = Vec<Entry>>,
) -> Result<SegmentWriter> {
    for batch in batches {
        for entry in batch {
            writer.push(entry)?;
        }
    }
    Ok(writer)
}

/// Hands over the entries of all sources in order, equal ones once.
fn merge_entries(
    sources: &[Arc<Segment>],
    numbers: &[Vec<u32>],
    send: SyncSender<Vec<Entry>>,
) -> Result<()> {
    let mut heads = Vec::with_capacity(sources.len());
    for (source, numbers) in sources.iter().zip(numbers) {
        heads.extend(Head::of(Cursor::new(source), numbers)?);
    }
    let mut batch = Vec::with_capacity(BATCH);
    let mut last = None;
    // There are a dozen at most: looking at all of them is faster than a heap.
    while let Some(at) = least(&heads) {
        let Some(head) = heads.get_mut(at) else { break };
        // The same place may stand in two segments after an interrupted merge; once is enough.
        if last != Some(head.entry) {
            last = Some(head.entry);
            batch.push(head.entry);
            if batch.len() == BATCH {
                let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
                if send.send(full).is_err() {
                    // Writing failed, and says why.
                    return Ok(());
                }
            }
        }
        if !head.step()? {
            heads.remove(at);
        }
    }
    let _writing_failed = send.send(batch);
    Ok(())
}

/// Tells `found` every entry of a segment, in order.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if a page does not check.
pub fn each_entry(segment: &Segment, found: &mut dyn FnMut(&Entry)) -> Result<()> {
    let mut cursor = Cursor::new(segment);
    while let Some(entry) = cursor.next()? {
        found(&entry);
    }
    Ok(())
}

/// A source and its entry that is next.
struct Head<'a> {
    cursor: Cursor<'a>,
    numbers: &'a [u32],
    key: u128,
    entry: Entry,
}

impl<'a> Head<'a> {
    /// At the first entry that is kept; `None` if there is none.
    fn of(cursor: Cursor<'a>, numbers: &'a [u32]) -> Result<Option<Head<'a>>> {
        let mut head = Head {
            cursor,
            numbers,
            key: 0,
            entry: Entry::default(),
        };
        Ok(head.step()?.then_some(head))
    }

    /// Goes to the next entry that is kept; `false` behind the last one.
    fn step(&mut self) -> Result<bool> {
        while let Some(entry) = self.cursor.next()? {
            let number = usize::try_from(entry.pack_number())
                .ok()
                .and_then(|number| self.numbers.get(number));
            let Some(number) = number else {
                return Err(Error::damaged(
                    "an index entry names a pack that is not in the table",
                ));
            };
            if *number != DROPPED {
                self.key = u128::from_be_bytes(entry.prefix);
                self.entry = entry.with_pack(*number);
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Of heads with the same key the newest, so that of several places of a chunk the one that was written last stays the first to be found.
fn least(heads: &[Head<'_>]) -> Option<usize> {
    let mut least: Option<(usize, u128)> = None;
    for (at, head) in heads.iter().enumerate() {
        if least.is_none_or(|(_, key)| head.key <= key) {
            least = Some((at, head.key));
        }
    }
    least.map(|(at, _)| at)
}

/// Walks the entries of a segment in order. Pages are read from the file, a few at a time, and checked.
pub struct Cursor<'a> {
    segment: &'a Segment,
    /// The page behind those in the buffer.
    page: u64,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were used.
    used: usize,
    entries: Vec<Entry>,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// At the first entry.
    pub fn new(segment: &'a Segment) -> Cursor<'a> {
        Cursor {
            segment,
            page: 0,
            buffer: Vec::new(),
            used: 0,
            entries: Vec::with_capacity(PAGE_ROWS),
            at: 0,
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
            if let Some(entry) = self.entries.get(self.at) {
                self.at += 1;
                return Ok(Some(*entry));
            }
            if !self.next_page()? {
                return Ok(None);
            }
        }
    }

    fn next_page(&mut self) -> Result<bool> {
        if self.used >= self.buffer.len() && !self.fill()? {
            return Ok(false);
        }
        let end = self.used + PAGE_LEN;
        let bytes = self.buffer.get(self.used..end).unwrap_or_default();
        let behind = to_u64((self.buffer.len() - self.used) / PAGE_LEN);
        let number = self.page - behind;
        let offset = self.segment.footer().blocks.page_at(number);
        let name = self.segment.name(PageKind::Entries, number);
        page::check(bytes, name).map_err(|e| e.at_path(self.segment.path()).at_offset(offset))?;
        self.entries.clear();
        self.entries.extend_from_slice(page::rows(bytes)?);
        self.at = 0;
        self.used = end;
        Ok(true)
    }

    /// Reads the next pages; `false` behind the last one.
    fn fill(&mut self) -> Result<bool> {
        let blocks = self.segment.footer().blocks;
        let in_block = BLOCK_PAGES - self.page % BLOCK_PAGES;
        let count = blocks
            .pages
            .saturating_sub(self.page)
            .min(in_block)
            .min(READ_PAGES);
        if count == 0 {
            return Ok(false);
        }
        let length = usize::try_from(count).unwrap_or(0) * PAGE_LEN;
        self.buffer.resize(length, 0);
        let offset = blocks.page_at(self.page);
        if in_block == BLOCK_PAGES {
            // While this block is merged the next one can be on its way.
            let next = offset.saturating_add(BLOCK_LEN);
            self.segment.will_need(next..next.saturating_add(BLOCK_LEN));
        }
        self.segment.read_at(offset, &mut self.buffer)?;
        self.page += count;
        self.used = 0;
        Ok(true)
    }
}
