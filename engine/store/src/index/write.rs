//! Writing a segment: sorted entries in, one file out, memory bounded by the keys of one filter and eight bytes a page.
//!
//! Segment: pages | fences | filters | filter directory | pack table | footer. The footer comes last, so that a segment is
//! written in one pass.

use crate::hash::checksum;
use crate::index::filter::{self, FILTER_PAGES, FilterRecord, filter_key};
use crate::index::page::{self, PAGE_ENTRIES, PAGE_LEN};
use crate::index::place::Entry;
use crate::index::segment::{PackRow, SegmentFooter};
use cairn_base::folder::{Folder, NewFile};
use cairn_base::ids::random;
use cairn_base::read_at::read_vec;
use cairn_base::units::to_u64;
use cairn_base::{Error, Result, SegmentId};

/// Filters are copied in pieces of this many bytes.
const COPY: usize = 1 << 20;

/// Writes one segment.
pub struct SegmentWriter {
    id: SegmentId,
    store: [u8; 16],
    path: String,
    body: Box<dyn NewFile>,
    entries: u64,
    pages: u64,
    page: Vec<Entry>,
    last: [u8; 16],
    fences: Vec<u8>,
    keys: Vec<u64>,
    filters: Vec<FilterRecord>,
    /// Filters wait here until the pages are complete, so that memory stays small.
    prints: Box<dyn NewFile>,
    prints_path: String,
    prints_length: u64,
}

/// A segment that is complete and durable, but not yet public.
#[derive(Debug, Clone)]
pub struct WrittenSegment {
    /// Its id.
    pub id: SegmentId,
    /// Where it lies for now.
    pub path: String,
    /// Entries in it.
    pub entries: u64,
    /// Length in bytes.
    pub length: u64,
}

impl SegmentWriter {
    /// Begins a segment in `session_folder`.
    ///
    /// # Errors
    /// As the folder reports.
    pub fn create(
        folder: &dyn Folder,
        session_folder: &str,
        store: [u8; 16],
    ) -> Result<SegmentWriter> {
        let id = SegmentId(random()?);
        let path = format!("{session_folder}/{id}");
        let body = folder.create(&path)?;
        let prints_path = format!("{path}.filters");
        let prints = folder.create(&prints_path)?;
        Ok(SegmentWriter {
            id,
            store,
            path,
            body,
            entries: 0,
            pages: 0,
            page: Vec::with_capacity(PAGE_ENTRIES),
            last: [0; 16],
            fences: Vec::new(),
            keys: Vec::new(),
            filters: Vec::new(),
            prints,
            prints_path,
            prints_length: 0,
        })
    }

    /// The next entry; prefixes ascend, equal ones may follow each other.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) for an entry out of order; as the file reports.
    pub fn push(&mut self, entry: Entry) -> Result<()> {
        if self.entries > 0 && entry.prefix < self.last {
            return Err(Error::invalid("index entries out of order"));
        }
        self.last = entry.prefix;
        let key = filter_key(&entry.prefix);
        if self.page.is_empty() {
            self.fences.extend_from_slice(&key.to_be_bytes());
        }
        if self.keys.last() != Some(&key) {
            self.keys.push(key);
        }
        self.page.push(entry);
        self.entries += 1;
        if self.page.len() == PAGE_ENTRIES {
            self.flush_page()?;
        }
        Ok(())
    }

    fn flush_page(&mut self) -> Result<()> {
        if self.page.is_empty() {
            return Ok(());
        }
        self.body.append(&page::encode(self.pages, &self.page))?;
        self.page.clear();
        self.pages += 1;
        if self.pages.is_multiple_of(FILTER_PAGES) {
            self.flush_filter()?;
        }
        Ok(())
    }

    fn flush_filter(&mut self) -> Result<()> {
        if !self.keys.is_empty() {
            // Offsets are relative to the first filter until all are known.
            let (record, prints) = filter::build(&self.keys, self.prints_length)?;
            self.prints.append(&prints)?;
            self.prints_length += record.length;
            self.filters.push(record);
            self.keys.clear();
        }
        Ok(())
    }

    /// Writes the rest and makes the file durable. `packs` is the table the entries' pack numbers refer to.
    ///
    /// # Errors
    /// As the file reports; the segment must then be abandoned.
    pub fn finish(mut self, folder: &dyn Folder, packs: &[PackRow]) -> Result<WrittenSegment> {
        self.flush_page()?;
        self.flush_filter()?;
        let page_bytes = self.pages * to_u64(PAGE_LEN);
        let fences_at = page_bytes;
        let filters_at = fences_at + to_u64(self.fences.len());
        let mut directory = Vec::new();
        self.body.append(&self.fences)?;
        for record in &mut self.filters {
            record.offset += filters_at;
            directory.extend_from_slice(&record.encode());
        }
        drop(self.prints);
        let prints = folder.open(&self.prints_path)?;
        let mut copied = 0;
        while copied < self.prints_length {
            let length = usize::try_from(self.prints_length - copied)
                .unwrap_or(COPY)
                .min(COPY);
            self.body.append(&read_vec(&prints, copied, length)?)?;
            copied += to_u64(length);
        }
        folder.remove(&self.prints_path)?;
        let at = filters_at + self.prints_length;
        let table: Vec<u8> = packs.iter().flat_map(PackRow::encode).collect();
        let footer = SegmentFooter {
            segment: self.id,
            store: self.store,
            entries: self.entries,
            pages: self.pages,
            fences_at,
            directory_at: at,
            directory_length: to_u64(directory.len()),
            table_at: at + to_u64(directory.len()),
            packs: to_u64(packs.len()),
            fences_sum: checksum(&self.fences),
            directory_sum: checksum(&directory),
            table_sum: checksum(&table),
        };
        self.body.append(&directory)?;
        self.body.append(&table)?;
        self.body.append(&footer.encode())?;
        self.body.sync()?;
        Ok(WrittenSegment {
            id: self.id,
            path: self.path,
            entries: self.entries,
            length: footer.length(),
        })
    }
}
