//! What is wrong with a VHD, and what it says of itself besides what it is read by: footer, its copy, table, blocks.

use super::SECTOR;
use super::dynamic::{self, DynamicHeader, UNUSED};
use super::footer::{self, DiskType, Footer};
use super::locator;
use crate::check::{Check, Topic};
use crate::claims::{Owner, Territory, find_overlaps};
use crate::layer::time_of_vhd;
use crate::property::{Property, Value};
use crate::table::Table;
use cairn_base::read_at::read_vec;
use cairn_base::units::to_u64;
use cairn_base::{ReadAt, Result, View};
use std::ops::Range;

/// Table entries that are looked at in one step of a walk.
const STEP: u64 = 8192;

/// What stands in a footer besides what [`Footer`] has, "Hard Disk Footer Format".
const CHECKSUM: u64 = 64;
const CREATOR_VERSION: usize = 32;
const CREATOR_OS: usize = 36;
const SAVED_STATE: usize = 84;

/// Where a dynamic header says how many entries the table has, "Dynamic Disk Header Format".
const MAX_TABLE_ENTRIES: usize = 28;

/// A copy of the footer.
pub(super) struct Copy {
    offset: u64,
    bytes: Vec<u8>,
    parsed: Result<Footer>,
}

/// What begins like a footer at the start of `image`, and at its end.
pub(super) fn copies(image: &dyn ReadAt) -> Result<[Option<Copy>; 2]> {
    let at = |offset: Option<u64>, length: usize| -> Result<Option<Copy>> {
        let is_inside = |at: &u64| at.saturating_add(to_u64(length)) <= image.size();
        let Some(offset) = offset.filter(is_inside) else {
            return Ok(None);
        };
        let bytes = read_vec(image, offset, length)?;
        let parsed = match bytes.starts_with(footer::COOKIE) {
            true => Footer::parse(&bytes, offset),
            false => return Ok(None),
        };
        Ok(Some(Copy {
            offset,
            bytes,
            parsed,
        }))
    };
    let size = image.size();
    let end = match at(size.checked_sub(512), 512)? {
        // Virtual PC before 2004 wrote 511 bytes.
        None => at(size.checked_sub(511), 511)?,
        end => end,
    };
    Ok([at(Some(0), 512)?, end])
}

/// Whether something in `image` begins like a footer, at one of the places where one is.
///
/// # Errors
/// What the image says when it is read.
pub(crate) fn has_footer(image: &dyn ReadAt) -> Result<bool> {
    Ok(copies(image)?.iter().any(Option::is_some))
}

/// What `footer`, one of the copies in `image`, says besides what all images have.
pub(super) fn properties(image: &dyn ReadAt, footer: &Footer) -> Result<Vec<Property>> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut found = Vec::new();
    found.extend(Property::text("creator", &text(&footer.creator)));
    let [start, end] = copies(image)?;
    let is_it = |copy: &Copy| matches!(&copy.parsed, Ok(parsed) if parsed == footer);
    if let Some(copy) = end.filter(is_it).or(start.filter(is_it)) {
        let view = View::new(&copy.bytes, "VHD footer", copy.offset);
        let version = view.u32_be(CREATOR_VERSION)?;
        let version = format!("{}.{}", version >> 16, version & 0xffff);
        found.extend(Property::text("creator_version", &version));
        let system: [u8; 4] = view.array(CREATOR_OS)?;
        found.extend(Property::text("creator_os", &text(&system)));
        let is_saved = view.u8(SAVED_STATE)? != 0;
        found.push(Property::new("saved_state", Value::Flag(is_saved)));
    }
    let created = Value::Time(time_of_vhd(footer.timestamp));
    found.push(Property::new("created", created));
    let geometry = &footer.geometry;
    for (name, number) in [
        ("cylinders", u64::from(geometry.cylinders)),
        ("heads", u64::from(geometry.heads)),
        ("sectors_per_track", u64::from(geometry.sectors)),
    ] {
        found.push(Property::new(name, Value::Number(number)));
    }
    Ok(found)
}

/// The footer and its copy, each by itself and both together.
///
/// # Errors
/// What the image says when it is read.
pub(crate) fn check_footers(image: &dyn ReadAt, check: &mut Check<'_>) -> Result<()> {
    let [start, end] = copies(image)?;
    let is_fixed = end.as_ref().is_some_and(|end| {
        matches!(&end.parsed, Ok(footer) if footer.disk_type == DiskType::Fixed
            && (footer.checksum_holds || image.size().checked_sub(SECTOR) == Some(footer.current_size)))
    });
    // The first sector of a fixed disk is the guest's, whatever it wrote there.
    let start = start.filter(|_| !is_fixed);
    for copy in [&start, &end].into_iter().flatten() {
        let footer = check.take(Topic::Structure, copy.parsed.clone())?;
        if footer.is_some_and(|footer| !footer.checksum_holds) {
            let field = copy.offset.saturating_add(CHECKSUM);
            check.fault(Topic::Structure, field, || {
                "the checksum of the VHD footer does not hold".to_string()
            });
        }
    }
    let Some(end) = end else {
        let place = image.size().saturating_sub(SECTOR);
        check.fault(Topic::Structure, place, || {
            "there is no VHD footer at the end of the file".to_string()
        });
        return Ok(());
    };
    let Some(start) = start else {
        if !is_fixed {
            check.fault(Topic::Structure, 0, || {
                "there is no copy of the VHD footer at the start of the file".to_string()
            });
        }
        return Ok(());
    };
    let pairs = start.bytes.iter().zip(&end.bytes);
    let Some(at) = pairs.clone().position(|(one, other)| one != other) else {
        return Ok(());
    };
    check.fault(Topic::Copies, to_u64(at), || {
        format!(
            "the VHD footer and its copy at the start of the file differ, first at byte {at} of them"
        )
    });
    Ok(())
}

/// The data behind a fixed disk.
///
/// # Errors
/// What the image says when it is read.
pub(super) fn check_fixed(image: &dyn ReadAt, disk_size: u64, check: &mut Check<'_>) -> Result<()> {
    check_footers(image, check)?;
    let between = image.size().saturating_sub(SECTOR).checked_sub(disk_size);
    if let Some(spare) = between.filter(|spare| *spare > 0) {
        check.remark(Topic::Unreferenced, disk_size, || {
            format!("{spare} bytes between the disk and the footer belong to neither")
        });
    }
    Ok(())
}

/// What a walk over the blocks of a dynamic or differencing disk needs to know.
pub(super) struct Walk<'a> {
    pub(super) image: &'a dyn ReadAt,
    pub(super) table: &'a Table,
    pub(super) header: &'a DynamicHeader,
    /// Where the dynamic header lies.
    pub(super) header_offset: u64,
    pub(super) disk_size: u64,
    /// Bytes in front of each block.
    pub(super) bitmap_size: u64,
    pub(super) has_parent: bool,
}

impl Walk<'_> {
    /// Footers, the locators of the parent, and where the blocks lie.
    ///
    /// # Errors
    /// What the image says when it is read, or that the user asked to stop.
    pub(super) fn check(&self, check: &mut Check<'_>) -> Result<()> {
        check_footers(self.image, check)?;
        let mut parts = self.parts()?;
        let header = read_vec(self.image, self.header_offset, dynamic::SIZE)?;
        self.check_sum(&header, check)?;
        self.check_table_size(&header, check)?;
        if self.has_parent {
            self.check_locators(&header, check, &mut parts)?;
        }
        let entries = u64::from(self.header.entries);
        check.begin(entries.saturating_mul(4));
        self.each(&mut |block, entry, step| {
            if let Some(bytes) = step {
                check.advance(bytes)?;
            }
            if let Some(range) = self.needed(block, entry)
                && range.end > self.image.size()
            {
                let place = range.start;
                check.fault(Topic::Outside, self.written_at(block), || {
                    format!(
                        "block {block} is said to lie at byte {place}, and ends beyond the end of the file"
                    )
                });
            }
            Ok(())
        })?;
        check.finish();
        let territory = Territory {
            size: self.image.size(),
            unit: SECTOR,
            parts: &parts,
        };
        check.begin(0);
        let free = find_overlaps(check, &territory, |claims, check| {
            self.each(&mut |block, entry, step| {
                if let Some(bytes) = step {
                    check.advance(bytes)?;
                }
                let Some(range) = self.needed(block, entry) else {
                    return Ok(());
                };
                if range.end <= self.image.size() {
                    let whole = self
                        .bitmap_size
                        .saturating_add(u64::from(self.header.block_size));
                    let whole = range.start.saturating_add(whole);
                    if whole > range.end {
                        claims.spare(range.end..whole);
                    }
                    claims.add(
                        Owner::Numbered("block", block),
                        range,
                        self.written_at(block),
                    );
                }
                Ok(())
            })
        })?;
        check.finish();
        if free >= u64::from(self.header.block_size) {
            check.remark(Topic::Unreferenced, None, || {
                format!("{free} bytes of the file belong to no block and no header")
            });
        }
        Ok(())
    }

    fn check_sum(&self, header: &[u8], check: &mut Check<'_>) -> Result<()> {
        if !dynamic::checksum_holds(header, self.header_offset)? {
            let field = self.header_offset.saturating_add(to_u64(dynamic::CHECKSUM));
            check.fault(Topic::Structure, field, || {
                "the checksum of the VHD dynamic header does not hold".to_string()
            });
        }
        Ok(())
    }

    /// Headers and table, and the footer at the end if there is one.
    fn parts(&self) -> Result<Vec<(Range<u64>, &'static str)>> {
        let at = self.header_offset;
        let table = self.header.table_offset;
        let entries = u64::from(self.header.entries).saturating_mul(4);
        let mut parts = vec![
            (0..SECTOR, "the copy of the footer"),
            (
                at..at.saturating_add(to_u64(dynamic::SIZE)),
                "the dynamic header",
            ),
            (table..table.saturating_add(entries), "the block table"),
        ];
        if let [_, Some(end)] = copies(self.image)? {
            parts.push((end.offset..self.image.size(), "the footer"));
        }
        Ok(parts)
    }

    /// A table that is larger than the disk needs has room in the file all the same.
    fn check_table_size(&self, header: &[u8], check: &mut Check<'_>) -> Result<()> {
        let view = View::new(header, "VHD dynamic header", self.header_offset);
        let said = u64::from(view.u32_be(MAX_TABLE_ENTRIES)?);
        let end = self
            .header
            .table_offset
            .saturating_add(said.saturating_mul(4));
        if end > self.image.size() {
            let field = self.header_offset.saturating_add(to_u64(MAX_TABLE_ENTRIES));
            check.fault(Topic::Outside, field, || {
                format!("the block table is said to have {said} entries, and ends beyond the end of the file")
            });
        }
        Ok(())
    }

    fn check_locators(
        &self,
        header: &[u8],
        check: &mut Check<'_>,
        parts: &mut Vec<(Range<u64>, &'static str)>,
    ) -> Result<()> {
        for (written_at, range) in locator::places(header, self.header_offset)? {
            if range.end > self.image.size() {
                check.fault(Topic::Outside, written_at, || {
                    format!(
                        "a parent locator is said to lie at byte {}, and ends beyond the end of the file",
                        range.start
                    )
                });
            } else {
                parts.push((range, "a parent locator"));
            }
        }
        Ok(())
    }

    /// Where the entry of a block is written.
    fn written_at(&self, block: u64) -> u64 {
        let offset = block.saturating_mul(4);
        self.header.table_offset.saturating_add(offset)
    }

    /// What of the file a block takes: its bitmap, and as much of it as belongs to the disk.
    fn needed(&self, block: u64, entry: u64) -> Option<Range<u64>> {
        if entry == u64::from(UNUSED) {
            return None;
        }
        let size = u64::from(self.header.block_size);
        let start = block.saturating_mul(size);
        let bytes = size.min(self.disk_size.saturating_sub(start));
        let place = entry.saturating_mul(SECTOR);
        let end = place
            .saturating_add(self.bitmap_size)
            .saturating_add(bytes.next_multiple_of(SECTOR));
        Some(place..end)
    }

    /// Tells `each` all blocks and their entries; the first one of a step with the bytes of table that the step reads.
    fn each(&self, each: &mut dyn FnMut(u64, u64, Option<u64>) -> Result<()>) -> Result<()> {
        let entries = u64::from(self.header.entries);
        let mut first = 0u64;
        while first < entries {
            let end = entries.min(first.saturating_add(STEP));
            let found = self.table.entries(first..end)?;
            let mut step = Some(end.saturating_sub(first).saturating_mul(4));
            for (block, entry) in (first..end).zip(found) {
                each(block, entry, step.take())?;
            }
            first = end;
        }
        Ok(())
    }
}
