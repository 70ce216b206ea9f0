//! An open segment: looked up in place.
//!
//! Segment: blocks | pack table | first keys | footer. To open one is to read its footer and the first key of each block: 8
//! bytes for 64,000 entries. Everything else is checked when it is first used.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use crate::hash::checksum;
use crate::index::block::BLOCK_PAGES;
use crate::index::filter::filter_key;
use crate::index::footer::{FOOTER_LEN, SegmentFooter};
use crate::index::marks::Marks;
use crate::index::page::{self, PAGE_LEN, PAGE_ROWS, PageKind, PageName};
use crate::index::place::{Entry, Place};
use crate::index::resident::{Resident, check, held_table};
use crate::index::search::{first_not_below, guess};
use crate::index::table::RawRow;
use crate::layout;
use cairn_base::error::unless_lost;
use cairn_base::units::to_u64;
use cairn_base::{Error, Folder, Pages, Result, SegmentId};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers the segments that this process opened: what is held of one is never taken for another's.
static OPENED: AtomicU64 = AtomicU64::new(0);

/// What was checked of a mapped segment.
struct Checked {
    /// Pages of entries that are good.
    pages: Marks,
    /// Pages of the pack table that are good.
    table: Marks,
    /// Blocks whose fences and filter were looked at, and which of these are good.
    blocks: Marks,
    fences: Marks,
    filters: Marks,
}

/// An open segment.
pub struct Segment {
    footer: SegmentFooter,
    pages: Arc<dyn Pages>,
    /// The key of each block's first entry.
    keys: Vec<u64>,
    keys_were_damaged: bool,
    checked: Checked,
    number: u64,
    path: String,
}

/// How far a look-up came.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    /// Nothing but filters.
    Filters,
    /// A page that might have held it and does not.
    Pages,
    /// An entry.
    Entry,
}

/// A look-up on its way through a segment.
struct Search<'s, 'f> {
    prefix: &'s [u8; 16],
    key: u64,
    /// Nothing that was checked before is trusted, and filters are not asked.
    doubt: bool,
    found: &'f mut dyn FnMut(Place) -> ControlFlow<()>,
    seen: Seen,
    failed: Option<Error>,
}

impl Segment {
    /// Opens a published segment.
    ///
    /// # Errors
    /// [`Kind::NotFound`](cairn_base::Kind::NotFound) if it is gone, [`Kind::Damaged`](cairn_base::Kind::Damaged) if its footer does not check.
    pub fn open(folder: &dyn Folder, store: [u8; 16], id: SegmentId) -> Result<Segment> {
        let path = layout::segment(id);
        let shown = folder.describe(&path);
        let pages = folder.open_pages(&path)?;
        Segment::read(pages, store, id, shown.clone()).map_err(|e| e.at_path(shown).with_id(id))
    }

    fn read(
        pages: Arc<dyn Pages>,
        store: [u8; 16],
        id: SegmentId,
        path: String,
    ) -> Result<Segment> {
        let length = pages.size();
        let footer_at = length
            .checked_sub(to_u64(FOOTER_LEN))
            .ok_or_else(|| Error::damaged("an index segment is too short"))?;
        let mut bytes = vec![0; FOOTER_LEN];
        pages.read(footer_at, &mut bytes)?;
        let footer = SegmentFooter::decode(&bytes, length)?;
        if footer.segment != id || footer.store != store {
            return Err(Error::damaged("an index segment lies under another's name"));
        }
        // The footer's sizes add up to those of the file, so this is a small part of it.
        let keys_length = footer_at.saturating_sub(footer.keys_at());
        bytes.resize(usize::try_from(keys_length).unwrap_or(0), 0);
        let read = unless_lost(pages.read(footer.keys_at(), &mut bytes))?;
        let whole = read.is_some() && checksum(&bytes) == footer.keys_sum;
        let mut segment = Segment {
            checked: Checked {
                pages: Marks::new(footer.blocks.pages),
                table: Marks::new(footer.table_pages()),
                blocks: Marks::new(footer.blocks.count()),
                fences: Marks::new(footer.blocks.count()),
                filters: Marks::new(footer.blocks.count()),
            },
            footer,
            pages,
            keys: Vec::new(),
            keys_were_damaged: !whole,
            number: OPENED.fetch_add(1, Ordering::Relaxed),
            path,
        };
        segment.keys = if whole {
            let (keys, _) = bytes.as_chunks::<8>();
            keys.iter().map(|key| u64::from_be_bytes(*key)).collect()
        } else {
            segment.gather_keys()?
        };
        Ok(segment)
    }

    /// The first keys, from the blocks themselves.
    fn gather_keys(&self) -> Result<Vec<u64>> {
        (0..self.footer.blocks.count())
            .map(|block| self.fence(&self.resident(block, true), block, 0, true))
            .collect()
    }

    /// Its id.
    pub fn id(&self) -> SegmentId {
        self.footer.segment
    }

    /// Number of entries.
    pub fn entries(&self) -> u64 {
        self.footer.entries
    }

    /// Length of the file in bytes.
    pub fn length(&self) -> u64 {
        self.footer.length()
    }

    /// Its footer.
    pub fn footer(&self) -> &SegmentFooter {
        &self.footer
    }

    /// Where it lies, for messages.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether the first keys did not check and had to be gathered.
    pub fn keys_were_damaged(&self) -> bool {
        self.keys_were_damaged
    }

    /// The key of a block's first entry.
    pub fn first_key(&self, block: u64) -> Option<u64> {
        let block = usize::try_from(block).ok()?;
        self.keys.get(block).copied()
    }

    /// The bytes of the file, not checked.
    ///
    /// # Errors
    /// [`Kind::Io`](cairn_base::Kind::Io) if they cannot be read.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.pages
            .read(offset, buffer)
            .map_err(|e| e.at_path(&self.path))
    }

    /// Hints that these bytes of the file are read soon, as far as there are any.
    pub fn will_need(&self, range: Range<u64>) {
        let end = range.end.min(self.footer.length());
        let length = usize::try_from(end.saturating_sub(range.start)).unwrap_or(0);
        if length > 0 {
            self.pages.will_need(range.start, length);
        }
    }

    /// The name of one of its pages.
    pub fn name(&self, kind: PageKind, number: u64) -> PageName {
        PageName {
            segment: self.footer.segment,
            kind,
            number,
        }
    }

    /// Tells `found` the places of the chunk whose id begins with `prefix`, until it breaks off.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if a page that may hold one does not check.
    pub fn look_up(
        &self,
        prefix: &[u8; 16],
        found: &mut dyn FnMut(Place) -> ControlFlow<()>,
    ) -> Result<()> {
        let mapped = self.pages.in_place().is_some();
        let mut search = Search {
            prefix,
            key: filter_key(prefix),
            doubt: mapped && self.pages.lost_pages(),
            found,
            seen: Seen::Filters,
            failed: None,
        };
        let walked = self.walk(&mut search);
        // See `marks`: that there is no entry is not said on trust, and not after a page was lost in between.
        let unsure = match search.seen {
            Seen::Filters => self.pages.lost_pages(),
            Seen::Pages => true,
            Seen::Entry => false,
        };
        if mapped && !search.doubt && unsure && walked.is_ok() && search.failed.is_none() {
            search.doubt = true;
            self.walk(&mut search)?;
        } else {
            walked?;
        }
        search.failed.map_or(Ok(()), Err)
    }

    fn walk(&self, search: &mut Search<'_, '_>) -> Result<()> {
        // The last block that begins below the key, then those that begin with it: equal keys may lie in several.
        let after = self.keys.partition_point(|first| *first < search.key);
        let start = after.saturating_sub(1);
        for (block, first) in (0u64..).zip(&self.keys).skip(start) {
            if *first > search.key {
                return Ok(());
            }
            let resident = self.resident(block, search.doubt);
            if !search.doubt && !resident.may_hold(search.key) {
                continue;
            }
            if self.walk_block(block, &resident, search)?.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Breaks off behind the last entry that can matter.
    fn walk_block(
        &self,
        block: u64,
        resident: &Resident<'_>,
        search: &mut Search<'_, '_>,
    ) -> Result<ControlFlow<()>> {
        let count = self.footer.blocks.pages_in(block);
        let fence = |page| self.fence(resident, block, page, search.doubt);
        let from = self.first_key(block).unwrap_or(0);
        let to = self.first_key(block.saturating_add(1)).unwrap_or(u64::MAX);
        let at = guess(search.key, from, to, count);
        let after = first_not_below(count, at, |page| Ok(fence(page)? < search.key))?;
        let mut page = after.saturating_sub(1);
        let mut scratch = Vec::new();
        loop {
            let number = block.saturating_mul(BLOCK_PAGES).saturating_add(page);
            search.seen = search.seen.max(Seen::Pages);
            match self.page(number, search.doubt, &mut scratch) {
                Ok(entries) if self.search_page(entries, search).is_break() => {
                    return Ok(ControlFlow::Break(()));
                }
                Ok(_) => {}
                // The next page may begin with it.
                Err(error) => search.failed = Some(error),
            }
            page = page.saturating_add(1);
            if page >= count {
                return Ok(ControlFlow::Continue(()));
            }
            if self.fence(resident, block, page, search.doubt)? > search.key {
                return Ok(ControlFlow::Break(()));
            }
        }
    }

    fn search_page(&self, entries: &[Entry], search: &mut Search<'_, '_>) -> ControlFlow<()> {
        let from = entries.partition_point(|entry| entry.prefix < *search.prefix);
        for entry in entries.iter().skip(from) {
            if entry.prefix != *search.prefix {
                return ControlFlow::Break(());
            }
            search.seen = Seen::Entry;
            match self.place_of(entry) {
                Ok(place) => (search.found)(place)?,
                Err(error) => search.failed = Some(error),
            }
        }
        ControlFlow::Continue(())
    }

    /// Fences and filter of a block. In doubt the fences are checked again, and the filter is not used.
    fn resident(&self, block: u64, doubt: bool) -> Resident<'_> {
        let name = self.name(PageKind::Fences, block);
        let at = self.footer.blocks.fences_at(block);
        let next = block.saturating_add(1);
        let end = if next < self.footer.blocks.count() {
            self.footer.blocks.page_at(next.saturating_mul(BLOCK_PAGES))
        } else {
            self.footer.table_at
        };
        let length = usize::try_from(end.saturating_sub(at)).unwrap_or(0);
        let Some(all) = self.pages.in_place() else {
            return Resident::held((self.number, block), name, || {
                let mut bytes = vec![0; length];
                self.read_at(at, &mut bytes)?;
                Ok(bytes)
            });
        };
        let bytes = usize::try_from(at)
            .ok()
            .and_then(|at| all.get(at..at.checked_add(length)?))
            .unwrap_or_default();
        if doubt {
            let page = bytes.get(..PAGE_LEN).unwrap_or_default();
            return Resident::in_place(bytes, page::check(page, name).is_ok(), false);
        }
        let checked = &self.checked;
        if checked.blocks.has(block) {
            let (fences, filter) = (checked.fences.has(block), checked.filters.has(block));
            return Resident::in_place(bytes, fences, filter);
        }
        self.pages.will_need(at, length);
        let (fences, filter) = check(bytes, name);
        if fences {
            checked.fences.set(block);
        }
        if filter {
            checked.filters.set(block);
        }
        // Last. A thread that sees this one first takes both for damaged and goes to the pages: slower, once.
        checked.blocks.set(block);
        Resident::in_place(bytes, fences, filter)
    }

    /// The key of the first entry of page `page` of a block: from the fences, or, if these are damaged, from the page.
    fn fence(&self, resident: &Resident<'_>, block: u64, page: u64, doubt: bool) -> Result<u64> {
        if let Some(fence) = resident.fence(page) {
            return Ok(fence);
        }
        let number = block.saturating_mul(BLOCK_PAGES).saturating_add(page);
        let mut scratch = Vec::new();
        let entries = self.page(number, doubt, &mut scratch)?;
        match entries.first() {
            Some(entry) => Ok(filter_key(&entry.prefix)),
            None => Err(Error::damaged("a page of the index is empty").at_path(&self.path)),
        }
    }

    /// The entries of page `number`. Checked, unless it is mapped, was checked before and there is no doubt.
    fn page<'a>(
        &'a self,
        number: u64,
        doubt: bool,
        scratch: &'a mut Vec<u8>,
    ) -> Result<&'a [Entry]> {
        let offset = self.footer.blocks.page_at(number);
        let bytes = self.pages.bytes(offset, PAGE_LEN, scratch)?;
        let trusted = self.pages.in_place().is_some() && !doubt && self.checked.pages.has(number);
        if !trusted {
            page::check(bytes, self.name(PageKind::Entries, number))
                .map_err(|e| self.explain(e, offset))?;
            self.checked.pages.set(number);
        }
        page::rows(bytes).map_err(|e| self.explain(e, offset))
    }

    fn explain(&self, error: Error, offset: u64) -> Error {
        let error = error.at_path(&self.path).at_offset(offset);
        if self.pages.lost_pages() {
            error.advise("the file could not be read: check the disk of the store")
        } else {
            error.advise("run `cairn verify`")
        }
    }

    /// The place of an entry of this segment.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it names a pack that is not in the table, or if that page of the table does not check.
    pub fn place_of(&self, entry: &Entry) -> Result<Place> {
        let unknown = || {
            Error::damaged("an index entry names a pack that is not in the table")
                .at_path(&self.path)
        };
        let rows = to_u64(PAGE_ROWS);
        let number = u64::from(entry.pack_number());
        let page = number.checked_div(rows).unwrap_or(0);
        let row = usize::try_from(number.checked_rem(rows).unwrap_or(0)).unwrap_or(0);
        if page >= self.footer.table_pages() {
            return Err(unknown());
        }
        let find = |bytes: &[u8]| {
            let rows = page::rows::<RawRow>(bytes)?;
            rows.get(row).map(|row| row.id()).ok_or_else(unknown)
        };
        let offset = self.table_page_at(page);
        if self.pages.in_place().is_none() {
            let bytes = held_table((self.number, page), || self.checked_table_page(page))?;
            return Ok(entry.place(find(&bytes)?));
        }
        let mut scratch = Vec::new();
        let bytes = self.pages.bytes(offset, PAGE_LEN, &mut scratch)?;
        // A row that changes after it was checked names no pack, or another one: reading it fails.
        if !self.checked.table.has(page) || self.pages.lost_pages() {
            page::check(bytes, self.name(PageKind::Packs, page))
                .map_err(|e| self.explain(e, offset))?;
            self.checked.table.set(page);
        }
        Ok(entry.place(find(bytes)?))
    }

    fn table_page_at(&self, page: u64) -> u64 {
        let within = page.saturating_mul(to_u64(PAGE_LEN));
        self.footer.table_at.saturating_add(within)
    }

    /// A page of the pack table, read from the file and checked.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it does not check.
    pub fn checked_table_page(&self, page: u64) -> Result<Vec<u8>> {
        let offset = self.table_page_at(page);
        let mut bytes = vec![0; PAGE_LEN];
        self.read_at(offset, &mut bytes)?;
        page::check(&bytes, self.name(PageKind::Packs, page))
            .map_err(|e| self.explain(e, offset))?;
        Ok(bytes)
    }
}
