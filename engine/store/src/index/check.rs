//! Checking all of a segment, for a verification: nothing is taken on trust, everything is read from the file.

use crate::index::block::{self, BLOCK_PAGES};
use crate::index::filter::{FilterRecord, filter_key};
use crate::index::packs::PackRows;
use crate::index::page::{self, PAGE_LEN, PageKind};
use crate::index::place::Entry;
use crate::index::segment::Segment;
use cairn_base::Result;
use cairn_base::error::unless_lost;
use cairn_base::units::to_u64;

/// What is wrong with a segment, counted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SegmentDamage {
    /// The first keys of the blocks. Costs nothing but time when it is opened.
    pub keys: bool,
    /// Pages of fences. Costs time.
    pub fences: u64,
    /// Filters. Costs time.
    pub filters: u64,
    /// Pages of the pack table. What lies in their packs cannot be found.
    pub table_pages: u64,
    /// Pages of entries. Their chunks cannot be found.
    pub pages: u64,
}

impl SegmentDamage {
    /// What is wrong, in words; nothing if all is well.
    pub fn describe(&self) -> Vec<String> {
        let counted = [
            (u64::from(self.keys), "the first keys are damaged"),
            (self.fences, "pages of fences are damaged"),
            (self.filters, "filters are damaged"),
            (self.table_pages, "pages of the pack table are damaged"),
            (self.pages, "pages of entries are damaged"),
        ];
        counted
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} x {what}"))
            .collect()
    }
}

/// Checks first keys, fences, filters and pack table of a segment, and, if `deep`, every page of entries and what the others say
/// of it. Ends early when `stop` says so. Bytes that are lost count as damaged.
///
/// # Errors
/// If something cannot be read now, which says nothing of its bytes.
pub fn check_segment(
    segment: &Segment,
    deep: bool,
    stop: &dyn Fn() -> bool,
) -> Result<SegmentDamage> {
    let mut damage = SegmentDamage {
        keys: segment.keys_were_damaged(),
        ..SegmentDamage::default()
    };
    for row in PackRows::new(segment) {
        damage.table_pages += u64::from(unless_lost(row)?.is_none());
    }
    let mut buffer = Vec::new();
    for number in 0..segment.footer().blocks.count() {
        if stop() {
            break;
        }
        check_block(segment, number, deep, &mut buffer, &mut damage)?;
    }
    Ok(damage)
}

fn check_block(
    segment: &Segment,
    number: u64,
    deep: bool,
    buffer: &mut Vec<u8>,
    damage: &mut SegmentDamage,
) -> Result<()> {
    let blocks = segment.footer().blocks;
    let mut head = vec![0; PAGE_LEN];
    let at = blocks.fences_at(number);
    let name = segment.name(PageKind::Fences, number);
    let whole = segment.read_at(at, &mut head);
    let whole = unless_lost(whole.and_then(|()| page::check(&head, name)))?;
    let fences = whole.is_some().then_some(&head[..]);
    let mut filter = None;
    match fences.and_then(block::filter_record) {
        None => damage.fences += 1,
        Some(record) => {
            // At most as much as a block has room for: the record was checked with its page, and its length is bounded by the file's.
            let end = at
                .saturating_add(to_u64(PAGE_LEN))
                .saturating_add(to_u64(record.length()));
            let mut prints = Vec::new();
            if end <= segment.length() {
                prints.resize(record.length(), 0);
            }
            let prints_at = at.saturating_add(to_u64(PAGE_LEN));
            let read = unless_lost(segment.read_at(prints_at, &mut prints))?;
            if read.is_some() && record.check(&prints) {
                filter = Some((record, prints));
            } else {
                damage.filters += 1;
            }
        }
    }
    if !deep {
        return Ok(());
    }
    let length = usize::try_from(blocks.pages_in(number)).unwrap_or(0) * PAGE_LEN;
    buffer.resize(length, 0);
    let read = segment.read_at(blocks.page_at(number * BLOCK_PAGES), buffer);
    if unless_lost(read)?.is_none() {
        read_singly(segment, number, buffer)?;
    }
    let mut said_wrong = (false, false);
    for (page, bytes) in (0u64..).zip(buffer.chunks_exact(PAGE_LEN)) {
        let name = segment.name(PageKind::Entries, number * BLOCK_PAGES + page);
        let entries = page::check(bytes, name).and_then(|()| page::rows::<Entry>(bytes));
        let Ok(entries) = entries else {
            damage.pages += 1;
            continue;
        };
        let first = entries.first().map(|entry| filter_key(&entry.prefix));
        let fence = fences.map(|page_of_fences| block::fence(page_of_fences, page));
        said_wrong.0 |= fence.is_some_and(|fence| fence != first);
        said_wrong.1 |= !held(entries, filter.as_ref());
    }
    // What checks, but leads astray, was written wrong.
    damage.fences += u64::from(said_wrong.0);
    damage.filters += u64::from(said_wrong.1);
    Ok(())
}

/// Whether the filter, if there is one, knows all of these entries.
fn held(entries: &[Entry], filter: Option<&(&FilterRecord, Vec<u8>)>) -> bool {
    filter.is_none_or(|(record, prints)| {
        entries
            .iter()
            .all(|entry| record.may_hold(prints, filter_key(&entry.prefix)))
    })
}

/// Reads a block's pages one by one, so that one that is lost does not hide the others; it becomes zeros.
fn read_singly(segment: &Segment, number: u64, buffer: &mut [u8]) -> Result<()> {
    let at = segment.footer().blocks.page_at(number * BLOCK_PAGES);
    for (page, bytes) in (0u64..).zip(buffer.chunks_exact_mut(PAGE_LEN)) {
        let offset = at.saturating_add(page * to_u64(PAGE_LEN));
        if unless_lost(segment.read_at(offset, bytes))?.is_none() {
            bytes.fill(0);
        }
    }
    Ok(())
}
