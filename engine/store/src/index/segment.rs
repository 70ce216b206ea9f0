//! An open segment: looked up in place.
//!
//! The last 256 bytes are the footer:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | magic `CAIRNIDX` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | zero |
//! | 16 | 16 | segment id |
//! | 32 | 16 | store id |
//! | 48 | 8 | number of entries |
//! | 56 | 8 | number of pages; they begin at offset 0 |
//! | 64 | 8 | offset of the fences: the first 8 bytes of each page's first prefix |
//! | 72 | 8 | offset of the filter directory; the filters lie between fences and directory |
//! | 80 | 8 | its length |
//! | 88 | 8 | offset of the pack table |
//! | 96 | 8 | number of packs; 32 bytes each: id (16), length (u64), kind (u32), zero (4) |
//! | 104 | 16 | checksum of the fences |
//! | 120 | 16 | checksum of the directory |
//! | 136 | 16 | checksum of the pack table |
//! | 152 | 88 | zero |
//! | 240 | 16 | checksum of bytes 0-239 |
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use crate::hash::checksum;
use crate::index::filter::{FILTER_PAGES, FilterRecord, RECORD_LEN, filter_key};
use crate::index::page::{self, PAGE_ENTRIES, PAGE_LEN};
use crate::index::place::{Entry, Place};
use crate::layout;
use crate::pack::PackKind;
use cairn_base::units::to_u64;
use cairn_base::{Error, Folder, PackId, Pages, Result, SegmentId, View};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Bytes of the footer.
pub const FOOTER_LEN: usize = 256;
const MAGIC: [u8; 8] = *b"CAIRNIDX";
const VERSION: u32 = 1;
const PACK_ROW: usize = 32;

/// A row of the pack table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackRow {
    /// The pack.
    pub id: PackId,
    /// Its sealed length in bytes.
    pub length: u64,
    /// What it holds.
    pub kind: PackKind,
}

impl PackRow {
    /// The bytes of the row.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PACK_ROW);
        bytes.extend_from_slice(&self.id.0);
        bytes.extend_from_slice(&self.length.to_le_bytes());
        bytes.extend_from_slice(&self.kind.code().to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes
    }

    fn decode(view: &View<'_>, at: usize) -> Result<PackRow> {
        Ok(PackRow {
            id: PackId(view.array(at)?),
            length: view.u64_le(at.saturating_add(16))?,
            kind: PackKind::from_code(view.u32_le(at.saturating_add(24))?)?,
        })
    }
}

/// The footer of a segment. Offsets and lengths in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentFooter {
    /// Its id.
    pub segment: SegmentId,
    /// The store it belongs to.
    pub store: [u8; 16],
    /// Number of entries.
    pub entries: u64,
    /// Number of pages.
    pub pages: u64,
    /// Where the fences begin.
    pub fences_at: u64,
    /// Where the filter directory begins.
    pub directory_at: u64,
    /// Its length.
    pub directory_length: u64,
    /// Where the pack table begins.
    pub table_at: u64,
    /// Rows of the pack table.
    pub packs: u64,
    /// Checksum of the fences.
    pub fences_sum: [u8; 16],
    /// Checksum of the directory.
    pub directory_sum: [u8; 16],
    /// Checksum of the pack table.
    pub table_sum: [u8; 16],
}

impl SegmentFooter {
    /// Where the fences end and the filters begin.
    pub fn fences_end(&self) -> u64 {
        self.fences_at.saturating_add(self.pages.saturating_mul(8))
    }

    /// Length of the whole segment.
    pub fn length(&self) -> u64 {
        self.table_at
            .saturating_add(self.packs.saturating_mul(to_u64(PACK_ROW)))
            .saturating_add(to_u64(FOOTER_LEN))
    }

    /// The last bytes of the segment.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FOOTER_LEN);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.segment.0);
        bytes.extend_from_slice(&self.store);
        for number in [
            self.entries,
            self.pages,
            self.fences_at,
            self.directory_at,
            self.directory_length,
            self.table_at,
            self.packs,
        ] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.fences_sum);
        bytes.extend_from_slice(&self.directory_sum);
        bytes.extend_from_slice(&self.table_sum);
        bytes.resize(FOOTER_LEN.saturating_sub(16), 0);
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    /// Decodes the footer of a segment of `length` bytes.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged), or [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for another version.
    pub fn decode(bytes: &[u8], length: u64) -> Result<SegmentFooter> {
        let base = length.saturating_sub(to_u64(FOOTER_LEN));
        let view = View::new(bytes, "index segment footer", base);
        if view.array::<8>(0)? != MAGIC {
            return Err(view.damaged(0, "does not begin with its magic number"));
        }
        if view.array::<16>(240)? != checksum(view.slice(0, 240)?) {
            return Err(view.damaged(240, "the checksum does not match"));
        }
        let version = view.u32_le(8)?;
        if version != VERSION {
            return Err(
                Error::unsupported(format!("index segment version {version}"))
                    .advise("use a newer version of cairn"),
            );
        }
        let footer = SegmentFooter {
            segment: SegmentId(view.array(16)?),
            store: view.array(32)?,
            entries: view.u64_le(48)?,
            pages: view.u64_le(56)?,
            fences_at: view.u64_le(64)?,
            directory_at: view.u64_le(72)?,
            directory_length: view.u64_le(80)?,
            table_at: view.u64_le(88)?,
            packs: view.u64_le(96)?,
            fences_sum: view.array(104)?,
            directory_sum: view.array(120)?,
            table_sum: view.array(136)?,
        };
        let pages_end = footer.pages.checked_mul(to_u64(PAGE_LEN));
        let fences_end = footer
            .pages
            .checked_mul(8)
            .and_then(|length| footer.fences_at.checked_add(length));
        let filters = footer.pages.div_ceil(FILTER_PAGES);
        let directory = filters.checked_mul(to_u64(RECORD_LEN));
        let full = footer.pages.saturating_mul(to_u64(PAGE_ENTRIES));
        if pages_end != Some(footer.fences_at)
            || fences_end.is_none_or(|end| end > footer.directory_at)
            || directory != Some(footer.directory_length)
            || footer.directory_at.checked_add(footer.directory_length) != Some(footer.table_at)
            || footer.length() != length
            || footer.entries > full
        {
            return Err(view.damaged(48, "its parts do not add up to the file"));
        }
        Ok(footer)
    }
}

/// A part of the segment, if its checksum matches.
fn check_part(pages: &dyn Pages, range: Range<u64>, sum: [u8; 16], what: &str) -> Result<Vec<u8>> {
    let mut scratch = Vec::new();
    let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
    let bytes = pages.bytes(range.start, length, &mut scratch)?;
    if checksum(bytes) == sum {
        Ok(bytes.to_vec())
    } else {
        Err(
            Error::damaged(format!("the checksum of the {what} does not match"))
                .at_offset(range.start),
        )
    }
}

fn open_filters(pages: &dyn Pages, footer: &SegmentFooter) -> Result<Vec<SegmentFilter>> {
    let range = footer.directory_at..footer.table_at;
    let directory = check_part(pages, range, footer.directory_sum, "filter directory")?;
    let mut filters = Vec::new();
    for record in directory.chunks_exact(RECORD_LEN) {
        let record = FilterRecord::decode(record)?;
        let end = record.offset.checked_add(record.length);
        if record.offset < footer.fences_end() || end.is_none_or(|end| end > footer.directory_at) {
            return Err(Error::damaged("an index filter lies outside its place"));
        }
        filters.push(SegmentFilter {
            record,
            state: AtomicU8::new(UNCHECKED),
        });
    }
    Ok(filters)
}

/// State of a filter: nobody looked yet, good, or damaged (then every look-up goes to the pages).
const UNCHECKED: u8 = 0;
const GOOD: u8 = 1;
const BAD: u8 = 2;

struct SegmentFilter {
    record: FilterRecord,
    state: AtomicU8,
}

/// An open segment.
pub struct Segment {
    footer: SegmentFooter,
    pages: Arc<dyn Pages>,
    /// Fences and filters, where they are not mapped: bytes `fences_at..directory_at`.
    loaded: Option<Vec<u8>>,
    filters: Vec<SegmentFilter>,
    lost_filters: bool,
    packs: Vec<PackRow>,
    path: String,
}

impl Segment {
    /// Opens a published segment and checks everything but the pages and filters, which are checked when used.
    ///
    /// # Errors
    /// [`Kind::NotFound`](cairn_base::Kind::NotFound) if it is gone, [`Kind::Damaged`](cairn_base::Kind::Damaged) if it does not check.
    pub fn open(folder: &dyn Folder, store: [u8; 16], id: SegmentId) -> Result<Segment> {
        let path = layout::segment(id);
        let shown = folder.describe(&path);
        let pages = folder.open_pages(&path)?;
        Segment::check(pages, store, id, shown.clone()).map_err(|e| e.at_path(shown).with_id(id))
    }

    fn check(
        pages: Arc<dyn Pages>,
        store: [u8; 16],
        id: SegmentId,
        path: String,
    ) -> Result<Segment> {
        let mut scratch = Vec::new();
        let length = pages.size();
        let footer_at = length
            .checked_sub(to_u64(FOOTER_LEN))
            .ok_or_else(|| Error::damaged("an index segment is too short"))?;
        let footer =
            SegmentFooter::decode(pages.bytes(footer_at, FOOTER_LEN, &mut scratch)?, length)?;
        if footer.segment != id || footer.store != store {
            return Err(Error::damaged("an index segment lies under another's name"));
        }
        check_part(
            &*pages,
            footer.fences_at..footer.fences_end(),
            footer.fences_sum,
            "fences",
        )?;
        let table_range = footer.table_at..footer_at;
        let table = check_part(&*pages, table_range, footer.table_sum, "pack table")?;
        let view = View::new(&table, "index pack table", footer.table_at);
        let packs = (0..table.len())
            .step_by(PACK_ROW)
            .map(|at| PackRow::decode(&view, at))
            .collect::<Result<Vec<_>>>()?;
        // Without its filters a segment is slower, not useless.
        let filters = open_filters(&*pages, &footer);
        let mut loaded = None;
        if pages.in_place().is_none() {
            let length = footer.directory_at.saturating_sub(footer.fences_at);
            let mut bytes = Vec::new();
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            pages.bytes(footer.fences_at, length, &mut bytes)?;
            loaded = Some(bytes);
        }
        Ok(Segment {
            footer,
            pages,
            loaded,
            lost_filters: filters.is_err(),
            filters: filters.unwrap_or_default(),
            packs,
            path,
        })
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

    /// The packs its entries lie in.
    pub fn packs(&self) -> &[PackRow] {
        &self.packs
    }

    /// A range of the fences and filters, borrowed.
    fn resident(&self, range: Range<u64>) -> &[u8] {
        let (bytes, base) = match (&self.loaded, self.pages.in_place()) {
            (Some(loaded), _) => (&loaded[..], self.footer.fences_at),
            (None, Some(all)) => (all, 0),
            (None, None) => (&[][..], 0),
        };
        let index =
            |offset: u64| usize::try_from(offset.saturating_sub(base)).unwrap_or(usize::MAX);
        bytes
            .get(index(range.start)..index(range.end))
            .unwrap_or_default()
    }

    /// Tells `found` every place of the chunk whose id begins with `prefix`.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if a page that may hold it does not check.
    pub fn look_up(&self, prefix: &[u8; 16], found: &mut dyn FnMut(Place)) -> Result<()> {
        let key = filter_key(prefix);
        let Some(mut number) = self.first_page(key) else {
            return Ok(());
        };
        let mut scratch = Vec::new();
        loop {
            if self.may_hold(number, key) {
                let entries = self.page(number, &mut scratch)?;
                let from = entries.partition_point(|entry| entry.prefix < *prefix);
                for entry in entries.iter().skip(from) {
                    if entry.prefix != *prefix {
                        return Ok(());
                    }
                    found(self.place_of(entry)?);
                }
            }
            // The next page can only matter if it begins with the same key.
            number = number.saturating_add(1);
            if self.fence(number).is_none_or(|fence| fence > key) {
                return Ok(());
            }
        }
    }

    /// The place of an entry of this segment.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it names a pack that is not in the table.
    pub fn place_of(&self, entry: &Entry) -> Result<Place> {
        let row = usize::try_from(entry.pack_number())
            .ok()
            .and_then(|number| self.packs.get(number));
        match row {
            Some(row) => Ok(entry.place(row.id)),
            None => Err(
                Error::damaged("an index entry names a pack that is not in the table")
                    .at_path(&self.path),
            ),
        }
    }

    fn fence(&self, page: u64) -> Option<u64> {
        if page >= self.footer.pages {
            return None;
        }
        let at = self.footer.fences_at.saturating_add(page.saturating_mul(8));
        let bytes = self.resident(at..at.saturating_add(8));
        Some(u64::from_be_bytes(bytes.try_into().ok()?))
    }

    /// The first page that may hold `key`: the last one whose fence is below it (equal keys may begin there), or the
    /// first one at all if its fence is equal.
    fn first_page(&self, key: u64) -> Option<u64> {
        let (mut low, mut high) = (0u64, self.footer.pages);
        while low < high {
            let middle = low.midpoint(high);
            if self.fence(middle)? < key {
                low = middle.saturating_add(1);
            } else {
                high = middle;
            }
        }
        // `low` is the first page whose fence is not below the key.
        match low.checked_sub(1) {
            Some(before) => Some(before),
            None => (self.fence(0)? == key).then_some(0),
        }
    }

    fn may_hold(&self, page: u64, key: u64) -> bool {
        let index = page.checked_div(FILTER_PAGES).unwrap_or(0);
        let Some(filter) = usize::try_from(index)
            .ok()
            .and_then(|i| self.filters.get(i))
        else {
            return true;
        };
        let record = &filter.record;
        let prints = self.resident(record.offset..record.offset.saturating_add(record.length));
        match filter.state.load(Ordering::Acquire) {
            GOOD => {}
            BAD => return true,
            _ => {
                let state = if record.check(prints) { GOOD } else { BAD };
                filter.state.store(state, Ordering::Release);
                if state == BAD {
                    return true;
                }
            }
        }
        record.may_hold(prints, key)
    }

    /// Whether a filter was found damaged; look-ups go on without it.
    pub fn has_damaged_filter(&self) -> bool {
        self.lost_filters
            || self
                .filters
                .iter()
                .any(|filter| filter.state.load(Ordering::Acquire) == BAD)
    }

    /// The entries of a page, checked.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it does not check.
    pub fn page<'a>(&'a self, number: u64, scratch: &'a mut Vec<u8>) -> Result<&'a [Entry]> {
        let offset = number.saturating_mul(to_u64(PAGE_LEN));
        let bytes = self.pages.bytes(offset, PAGE_LEN, scratch)?;
        page::decode(bytes, number).map_err(|error| {
            let error = error.at_path(&self.path).at_offset(offset);
            if self.pages.lost_pages() {
                error.advise("the file could not be read: check the disk of the store")
            } else {
                error.advise("run `cairn verify`")
            }
        })
    }

    /// Number of pages.
    pub fn page_count(&self) -> u64 {
        self.footer.pages
    }
}
