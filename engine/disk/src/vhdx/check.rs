//! What is wrong with a VHDX, and what it says of itself besides what it is read by: identifier, headers, log, region tables,
//! metadata, block table.

use super::entry::{BITMAP, HEADERS, place, state};
use super::header::{self, Header};
use super::log::Entry;
use super::metadata::{self, Metadata};
use super::region::{self, Regions};
use super::{ALIGNMENT, SIGNATURE};
use crate::align::{div_up, is_multiple};
use crate::check::{Check, Topic};
use crate::claims::{Claims, Owner, Territory, find_overlaps};
use crate::layer::ParentLink;
use crate::property::{Property, Value};
use crate::table::Table;
use cairn_base::read_at::read_vec;
use cairn_base::units::to_u64;
use cairn_base::{ReadAt, Result};
use std::ops::Range;

/// Table entries that are looked at in one step of a walk.
const STEP: u64 = 8192;
/// Where the creator stands in the file type identifier, and its bytes: UTF-16 (2.2.1).
const CREATOR: (u64, usize) = (8, 512);
/// Where a header says what log it has (2.2.2).
const LOG_FIELDS: u64 = 48;

/// How the log was when the image was opened.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LogState {
    /// Whether the header says that it is in use.
    pub(super) is_used: bool,
    /// Entries that are replayed, and the changes in them.
    pub(super) entries: u64,
    pub(super) changes: u64,
}

impl LogState {
    pub(super) fn of(header: &Header, entries: &[Entry]) -> LogState {
        let changes = entries.iter().map(|entry| to_u64(entry.changes.len()));
        LogState {
            is_used: !header.log_id.is_nil(),
            entries: to_u64(entries.len()),
            changes: changes.fold(0, u64::saturating_add),
        }
    }
}

/// What the image says besides what all images have.
pub(super) fn properties(
    image: &dyn ReadAt,
    header: &Header,
    log: LogState,
    metadata: &Metadata,
    parent: Option<&ParentLink>,
) -> Result<Vec<Property>> {
    let (at, length) = CREATOR;
    let bytes = read_vec(image, at, length)?;
    let units = bytes.as_chunks::<2>().0.iter();
    let units = units.map(|pair| u16::from_le_bytes(*pair));
    let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    let mut found = Vec::new();
    found.extend(Property::text("creator", &String::from_utf16_lossy(&units)));
    found.push(Property::new(
        "file_write_id",
        Value::Id(header.file_write_id),
    ));
    found.push(Property::new(
        "header_sequence",
        Value::Number(header.sequence),
    ));
    let physical = u64::from(metadata.physical_sector);
    found.push(Property::new(
        "physical_sector_bytes",
        Value::Bytes(physical),
    ));
    let state = match (log.is_used, log.entries) {
        (false, _) => "clean",
        (true, 0) => "in use and empty",
        (true, _) => "dirty: replayed in memory",
    };
    found.push(Property::new("log", Value::Text(state.to_string())));
    found.push(Property::new("log_entries", Value::Number(log.entries)));
    found.push(Property::new("log_changes", Value::Number(log.changes)));
    let length = u64::from(header.log_length);
    found.push(Property::new("log_bytes", Value::Bytes(length)));
    found.extend(parent.into_iter().flat_map(ParentLink::properties));
    Ok(found)
}

/// Identifier, headers and region tables of an image that may not be opened; its log is not replayed.
///
/// # Errors
/// What the image says when it is read.
pub(crate) fn check_structures(image: &dyn ReadAt, check: &mut Check<'_>) -> Result<()> {
    check_headers(image, check)?;
    check_regions(image, check)
}

/// The identifier and the two headers, each by itself and both together.
///
/// # Errors
/// What the image says when it is read.
fn check_headers(image: &dyn ReadAt, check: &mut Check<'_>) -> Result<()> {
    let start = check.take(Topic::Structure, read_vec(image, 0, SIGNATURE.len()))?;
    if start.is_some_and(|start| start != SIGNATURE) {
        check.fault(Topic::Structure, 0, || {
            "the file does not begin with `vhdxfile`".to_string()
        });
    }
    let mut headers = Vec::new();
    for at in header::OFFSETS {
        let parsed = read_vec(image, at, header::SIZE).and_then(|bytes| Header::parse(&bytes, at));
        let parsed = parsed.map_err(|error| error.at_offset(at));
        headers.extend(
            check
                .take(Topic::Structure, parsed)?
                .map(|header| (at, header)),
        );
    }
    for (at, header) in &headers {
        check_log(image, *at, header, check);
    }
    if let [(_, first), (at, second)] = headers.as_slice()
        && first.sequence == second.sequence
        && first != second
    {
        check.fault(Topic::Copies, *at, || {
            format!(
                "both VHDX headers have the sequence number {} and say different things",
                first.sequence
            )
        });
    }
    Ok(())
}

/// What a header says of the log.
fn check_log(image: &dyn ReadAt, at: u64, header: &Header, check: &mut Check<'_>) {
    let fields = at.saturating_add(LOG_FIELDS);
    let length = u64::from(header.log_length);
    let place = header.log_offset;
    let end = place.saturating_add(length);
    let is_aligned = is_multiple(place, ALIGNMENT) && is_multiple(length, ALIGNMENT);
    if !is_aligned {
        check.fault(Topic::Misaligned, fields, || {
            format!("the log is said to have {length} bytes at byte {place}: both are whole MiB")
        });
    }
    if length > 0 && (place < ALIGNMENT || end > image.size()) {
        check.fault(Topic::Outside, fields, || {
            format!("the log is said to have {length} bytes at byte {place}, where it cannot be")
        });
    }
    if header.log_version != 0 {
        check.fault(Topic::Log, fields, || {
            format!(
                "the log is of version {}, and 0 is the only one there is",
                header.log_version
            )
        });
    }
}

/// The two region tables, each by itself and both together.
///
/// # Errors
/// What the image says when it is read.
fn check_regions(image: &dyn ReadAt, check: &mut Check<'_>) -> Result<()> {
    let mut tables: Vec<Regions> = Vec::new();
    for at in region::OFFSETS {
        let parsed = read_vec(image, at, region::SIZE);
        let parsed = parsed.and_then(|bytes| Regions::parse(&bytes, at, image.size()));
        let parsed = parsed.map_err(|error| error.at_offset(at));
        tables.extend(check.take(Topic::Structure, parsed)?);
    }
    if let [first, second] = tables.as_slice()
        && first != second
    {
        let [_, at] = region::OFFSETS;
        check.fault(Topic::Copies, at, || {
            "the two VHDX region tables say different things".to_string()
        });
    }
    Ok(())
}

/// What a walk over the block table needs to know.
pub(super) struct Walk<'a> {
    /// The file as it is, and with its log replayed.
    pub(super) file: &'a dyn ReadAt,
    pub(super) image: &'a dyn ReadAt,
    pub(super) table: &'a Table,
    pub(super) regions: &'a Regions,
    pub(super) log: Range<u64>,
    pub(super) ratio: u64,
    pub(super) block_size: u64,
    pub(super) disk_size: u64,
    pub(super) has_parent: bool,
}

/// What an entry of the table is about.
enum Slot {
    Block(u64),
    /// The sector bitmap of a chunk.
    Bitmap(u64),
    /// Behind the last block.
    Nothing,
}

impl Walk<'_> {
    /// Headers, region tables, metadata, and where the blocks lie.
    ///
    /// # Errors
    /// What the image says when it is read, or that the user asked to stop.
    pub(super) fn check(&self, check: &mut Check<'_>) -> Result<()> {
        check_headers(self.file, check)?;
        check_regions(self.image, check)?;
        metadata::check(self.image, &self.regions.metadata, check)?;
        self.check_entries(check)?;
        let parts: [(Range<u64>, &'static str); 4] = [
            (HEADERS, "the headers"),
            (self.log.clone(), "the log"),
            (self.regions.metadata.clone(), "the metadata"),
            (self.regions.bat.clone(), "the block table"),
        ];
        let territory = Territory {
            size: self.image.size(),
            unit: ALIGNMENT,
            parts: &parts,
        };
        check.begin(0);
        let free = find_overlaps(check, &territory, |claims, check| {
            self.each(&mut |index, entry, step| {
                if let Some(bytes) = step {
                    check.advance(bytes)?;
                }
                self.claim(index, entry, claims);
                Ok(())
            })
        })?;
        check.finish();
        if free >= self.block_size {
            check.remark(Topic::Unreferenced, None, || {
                format!("{free} bytes of the file belong to no block and no region")
            });
        }
        Ok(())
    }

    /// Each entry by itself, and blocks that need a bitmap with that of their chunk, which stands behind them.
    fn check_entries(&self, check: &mut Check<'_>) -> Result<()> {
        check.begin(self.table.entries_count().saturating_mul(8));
        let mut partial: Option<u64> = None;
        self.each(&mut |index, entry, step| {
            if let Some(bytes) = step {
                check.advance(bytes)?;
            }
            let written_at = self.written_at(index);
            match self.slot(index) {
                Slot::Block(block) => {
                    if entry & 7 == state::PARTIALLY_PRESENT {
                        partial = partial.or(Some(block));
                    }
                    self.check_block(block, entry, written_at, check);
                }
                Slot::Bitmap(chunk) => {
                    self.check_bitmap(chunk, entry, partial.take(), written_at, check);
                }
                Slot::Nothing => {}
            }
            Ok(())
        })?;
        check.finish();
        Ok(())
    }

    fn check_block(&self, block: u64, entry: u64, written_at: u64, check: &mut Check<'_>) {
        match entry & 7 {
            state::NOT_PRESENT | state::UNDEFINED | state::ZERO | state::UNMAPPED => return,
            state::FULLY_PRESENT => {}
            state::PARTIALLY_PRESENT if self.has_parent => {}
            state::PARTIALLY_PRESENT => {
                return check.fault(Topic::State, written_at, || {
                    format!(
                        "block {block} is said to be partially in a parent, and the disk has none"
                    )
                });
            }
            other => {
                return check.fault(Topic::State, written_at, || {
                    format!("block {block} is in state {other}, which does not exist")
                });
            }
        }
        self.check_place(
            "block",
            block,
            entry,
            self.needed(block, entry),
            written_at,
            check,
        );
    }

    fn check_bitmap(
        &self,
        chunk: u64,
        entry: u64,
        partial: Option<u64>,
        written_at: u64,
        check: &mut Check<'_>,
    ) {
        match entry & 7 {
            state::NOT_PRESENT => {
                if let Some(block) = partial.filter(|_| self.has_parent) {
                    check.fault(Topic::Bitmap, written_at, || {
                        format!(
                            "block {block} is said to be partially in the parent, and there is no sector bitmap of its chunk {chunk}"
                        )
                    });
                }
            }
            state::FULLY_PRESENT if self.has_parent => {
                let start = place(entry);
                let range = start..start.saturating_add(BITMAP);
                self.check_place("sector bitmap", chunk, entry, range, written_at, check);
            }
            state::FULLY_PRESENT => check.fault(Topic::Bitmap, written_at, || {
                format!("chunk {chunk} has a sector bitmap, and the disk has no parent")
            }),
            other => check.fault(Topic::State, written_at, || {
                format!("sector bitmap {chunk} is in state {other}, which does not exist")
            }),
        }
    }

    fn check_place(
        &self,
        what: &'static str,
        number: u64,
        entry: u64,
        range: Range<u64>,
        written_at: u64,
        check: &mut Check<'_>,
    ) {
        // Bits 3 to 19 (2.5.1).
        if entry & 0xf_fff8 != 0 {
            check.fault(Topic::Reserved, written_at, || {
                format!("reserved bits of the entry of {what} {number} are set: {entry:#018x}")
            });
        }
        if range.end > self.image.size() {
            check.fault(Topic::Outside, written_at, || {
                format!(
                    "{what} {number} is said to lie at byte {}, and ends beyond the end of the file",
                    range.start
                )
            });
        }
    }

    /// Claims what an entry says, if it lies within the file.
    fn claim(&self, index: u64, entry: u64, claims: &mut Claims<'_>) {
        let written_at = self.written_at(index);
        let (state, start) = (entry & 7, place(entry));
        let is_inside = |range: &Range<u64>| range.end <= self.image.size();
        match self.slot(index) {
            Slot::Block(block) => {
                let is_partial = state == state::PARTIALLY_PRESENT && self.has_parent;
                let needed = self.needed(block, entry);
                if (is_partial || state == state::FULLY_PRESENT) && is_inside(&needed) {
                    let end = start.saturating_add(self.block_size);
                    if end > needed.end {
                        claims.spare(needed.end..end);
                    }
                    claims.add(Owner::Numbered("block", block), needed, written_at);
                }
            }
            Slot::Bitmap(chunk) if state == state::FULLY_PRESENT && self.has_parent => {
                let range = start..start.saturating_add(BITMAP);
                if is_inside(&range) {
                    claims.add(Owner::Numbered("sector bitmap", chunk), range, written_at);
                }
            }
            Slot::Bitmap(_) | Slot::Nothing => {}
        }
    }

    /// What of the file a block that is there takes: as much of it as belongs to the disk.
    fn needed(&self, block: u64, entry: u64) -> Range<u64> {
        let start = block.saturating_mul(self.block_size);
        let bytes = self.block_size.min(self.disk_size.saturating_sub(start));
        let start = place(entry);
        start..start.saturating_add(bytes)
    }

    fn slot(&self, index: u64) -> Slot {
        let stride = self.ratio.saturating_add(1);
        let chunk = index.checked_div(stride).unwrap_or(0);
        let in_chunk = index.checked_rem(stride).unwrap_or(0);
        if in_chunk == self.ratio {
            return Slot::Bitmap(chunk);
        }
        let block = chunk.saturating_mul(self.ratio).saturating_add(in_chunk);
        let blocks = div_up(self.disk_size, self.block_size).unwrap_or(0);
        match block < blocks {
            true => Slot::Block(block),
            false => Slot::Nothing,
        }
    }

    /// Where an entry is written.
    fn written_at(&self, index: u64) -> u64 {
        let offset = index.saturating_mul(8);
        self.regions.bat.start.saturating_add(offset)
    }

    /// Tells `each` all entries; the first one of a step with the bytes of table that the step reads.
    fn each(&self, each: &mut dyn FnMut(u64, u64, Option<u64>) -> Result<()>) -> Result<()> {
        let count = self.table.entries_count();
        let mut first = 0u64;
        while first < count {
            let end = count.min(first.saturating_add(STEP));
            let found = self.table.entries(first..end)?;
            let mut step = Some(end.saturating_sub(first).saturating_mul(8));
            for (index, entry) in (first..end).zip(found) {
                each(index, entry, step.take())?;
            }
            first = end;
        }
        Ok(())
    }
}
