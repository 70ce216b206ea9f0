//! Writing a segment: sorted entries in, one file out, in one pass. Memory: a block, and 8 bytes for each block.

use crate::hash::checksum;
use crate::index::block::{BLOCK_ENTRIES, BLOCK_LEN, BlockBuilder, Blocks};
use crate::index::filter::filter_key;
use crate::index::footer::SegmentFooter;
use crate::index::page::{self, PAGE_ROWS, PageKind, PageName};
use crate::index::place::Entry;
use crate::index::table::{PackRow, RawRow};
use cairn_base::folder::{Folder, NewFile};
use cairn_base::ids::random;
use cairn_base::units::to_u64;
use cairn_base::{Error, PackId, Result, SegmentId};
use zerocopy::IntoBytes;

/// Blocks after which the system is asked to begin writing: about 16 MiB.
const WRITE_BACK: u64 = 8;

/// Writes one segment.
pub struct SegmentWriter {
    id: SegmentId,
    store: [u8; 16],
    path: String,
    file: Box<dyn NewFile>,
    length: u64,
    entries: u64,
    waiting: Vec<Entry>,
    last: [u8; 16],
    blocks: u64,
    /// The first key of each block, as they are written.
    keys: Vec<u8>,
    buffer: Vec<u8>,
    builder: BlockBuilder,
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

/// Writes a segment of entries in any order that refer to `packs` by position.
///
/// # Errors
/// [`Kind::Invalid`](cairn_base::Kind::Invalid) for an entry that names no pack; as the folder reports.
pub fn write_segment(
    folder: &dyn Folder,
    session_folder: &str,
    store: [u8; 16],
    packs: &[PackRow],
    mut entries: Vec<Entry>,
) -> Result<WrittenSegment> {
    let mut order: Vec<usize> = (0..packs.len()).collect();
    order.sort_by_key(|number| packs.get(*number).map(|row| row.id));
    let mut numbers = vec![0; packs.len()];
    for (new, old) in (0u32..).zip(&order) {
        if let Some(number) = numbers.get_mut(*old) {
            *number = new;
        }
    }
    entries.sort_unstable_by_key(|entry| entry.prefix);
    let mut writer = SegmentWriter::create(folder, session_folder, store, false)?;
    for entry in entries {
        let number = usize::try_from(entry.pack_number())
            .ok()
            .and_then(|number| numbers.get(number))
            .ok_or_else(|| Error::invalid("an index entry names no pack"))?;
        writer.push(entry.with_pack(*number))?;
    }
    let rows = order.iter().filter_map(|number| packs.get(*number));
    writer.finish(rows.map(|row| Ok(*row)))
}

impl SegmentWriter {
    /// Begins a segment in `session_folder`. A large one is written past the page cache.
    ///
    /// # Errors
    /// As the folder reports.
    pub fn create(
        folder: &dyn Folder,
        session_folder: &str,
        store: [u8; 16],
        large: bool,
    ) -> Result<SegmentWriter> {
        let id = SegmentId(random()?);
        let path = format!("{session_folder}/{id}");
        let file = if large {
            folder.create_large(&path)?
        } else {
            folder.create(&path)?
        };
        Ok(SegmentWriter {
            id,
            store,
            path,
            file,
            length: 0,
            entries: 0,
            waiting: Vec::new(),
            last: [0; 16],
            blocks: 0,
            keys: Vec::new(),
            buffer: Vec::new(),
            builder: BlockBuilder::default(),
        })
    }

    /// Where it is written.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The next entry; prefixes ascend, equal ones may follow each other.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) for an entry out of order; as the file reports.
    pub fn push(&mut self, entry: Entry) -> Result<()> {
        if entry.prefix < self.last {
            return Err(Error::invalid("index entries out of order"));
        }
        self.last = entry.prefix;
        self.waiting.push(entry);
        if self.waiting.len() == BLOCK_ENTRIES {
            self.write_block()?;
        }
        Ok(())
    }

    fn write_block(&mut self) -> Result<()> {
        let Some(first) = self.waiting.first() else {
            return Ok(());
        };
        let key = filter_key(&first.prefix);
        self.keys.extend_from_slice(&key.to_be_bytes());
        self.builder
            .encode(self.id, self.blocks, &self.waiting, &mut self.buffer)?;
        self.append_buffer()?;
        self.entries += to_u64(self.waiting.len());
        self.blocks += 1;
        self.waiting.clear();
        if self.blocks.is_multiple_of(WRITE_BACK) {
            self.file.start_write_back();
        }
        Ok(())
    }

    fn append_buffer(&mut self) -> Result<()> {
        self.file.append(&self.buffer)?;
        self.length += to_u64(self.buffer.len());
        self.buffer.clear();
        Ok(())
    }

    /// Writes the rest and makes the file durable. `packs` is the table that the entries' pack numbers refer to, ascending by id.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) if there are too many packs or they do not ascend; as the file reports. The
    /// segment must then be abandoned.
    pub fn finish(
        mut self,
        packs: impl Iterator<Item = Result<PackRow>>,
    ) -> Result<WrittenSegment> {
        self.write_block()?;
        let table_at = self.length;
        let packs = self.write_table(packs)?;
        let footer = SegmentFooter {
            segment: self.id,
            store: self.store,
            entries: self.entries,
            blocks: Blocks {
                pages: self.entries.div_ceil(to_u64(PAGE_ROWS)),
            },
            table_at,
            packs,
            keys_sum: checksum(&self.keys),
        };
        self.buffer.extend_from_slice(&self.keys);
        self.buffer.extend_from_slice(&footer.encode());
        self.append_buffer()?;
        self.file.sync()?;
        Ok(WrittenSegment {
            id: self.id,
            path: self.path,
            entries: self.entries,
            length: footer.length(),
        })
    }

    fn write_table(&mut self, packs: impl Iterator<Item = Result<PackRow>>) -> Result<u64> {
        let mut rows: Vec<RawRow> = Vec::with_capacity(PAGE_ROWS);
        let mut last: Option<PackId> = None;
        let mut count = 0;
        for row in packs {
            let row = row?;
            if last >= Some(row.id) {
                return Err(Error::invalid(
                    "the packs of an index segment do not ascend",
                ));
            }
            last = Some(row.id);
            rows.push(RawRow::from(&row));
            count += 1;
            if rows.len() == PAGE_ROWS {
                self.table_page(count, &mut rows)?;
            }
        }
        if !rows.is_empty() {
            self.table_page(count, &mut rows)?;
        }
        if count > to_u64(Entry::MAX_PACKS) {
            return Err(Error::invalid("too many packs for one index segment"));
        }
        Ok(count)
    }

    /// Appends `rows` as the page that ends with row number `count`, counted from 1.
    fn table_page(&mut self, count: u64, rows: &mut Vec<RawRow>) -> Result<()> {
        let name = PageName {
            segment: self.id,
            kind: PageKind::Packs,
            number: (count - 1) / to_u64(PAGE_ROWS),
        };
        page::encode(name, rows.len(), rows.as_bytes(), &mut self.buffer);
        rows.clear();
        if to_u64(self.buffer.len()) >= BLOCK_LEN {
            self.append_buffer()?;
        }
        Ok(())
    }
}
