//! The block table, \[MS-VHDX\] 2.5: where each block of the disk lies, if anywhere.

use super::check::Walk;
use super::entry::{BITMAP, HEADERS, place, state};
use super::metadata::Metadata;
use super::region::Regions;
use crate::align::{div_up, to_usize};
use crate::bits::{Bits, Order};
use crate::check::Check;
use crate::layer::Layer;
use crate::place::Places;
use crate::property::Property;
use crate::runs::{Detail, Place, Runs};
use crate::table::{Share, Table, Width};
use cairn_base::read_at::read_vec;
use cairn_base::{Error, ReadAt, Result};
use std::ops::Range;
use std::sync::Arc;

/// Block table entries that are looked at in one step of a walk.
const STEP: u64 = 8192;
/// Before so many are read the file is asked whether they are a hole, which costs about as much as to read a few.
const MANY: u64 = 1024;

/// The entry of a block that lies at `place`, a multiple of 1 MiB.
pub fn present(place: u64) -> u64 {
    place | state::FULLY_PRESENT
}

/// Blocks between two sector bitmap entries: the number of blocks whose sectors one bitmap of 1 MiB covers (2.5).
pub fn chunk_ratio(block_size: u32, logical_sector: u32) -> u64 {
    (u64::from(logical_sector) << 23)
        .checked_div(u64::from(block_size))
        .unwrap_or(1)
        .max(1)
}

/// Index of a block's entry: a sector bitmap entry follows every `ratio` blocks.
pub fn index(block: u64, ratio: u64) -> u64 {
    block.saturating_add(block.checked_div(ratio).unwrap_or(0))
}

/// Entries of the table of a disk of `blocks` blocks without a parent: up to the last block's.
pub fn entries(blocks: u64, ratio: u64) -> u64 {
    match blocks.checked_sub(1) {
        Some(last) => index(last, ratio).saturating_add(1),
        None => 0,
    }
}

/// Entries of the table of a differencing disk: up to the sector bitmap of the last chunk (2.5).
fn entries_with_bitmaps(blocks: u64, ratio: u64) -> u64 {
    let chunks = div_up(blocks, ratio).unwrap_or(0);
    chunks.saturating_mul(ratio.saturating_add(1))
}

/// The blocks of a disk.
pub(super) struct Bat {
    image: Arc<dyn ReadAt>,
    table: Table,
    places: Places,
    ratio: u64,
    block_size: u64,
    sector_size: u64,
    disk_size: u64,
    has_parent: bool,
    file: Arc<dyn ReadAt>,
    regions: Regions,
    log: Range<u64>,
    properties: Vec<Property>,
}

/// What is known of a VHDX before its block table is.
pub(super) struct Parts {
    /// The file as it is.
    pub(super) file: Arc<dyn ReadAt>,
    /// With its log replayed.
    pub(super) image: Arc<dyn ReadAt>,
    pub(super) regions: Regions,
    /// Empty if it has no place.
    pub(super) log: Range<u64>,
    pub(super) properties: Vec<Property>,
}

impl Bat {
    /// The table of an image that has these parts, which no block may touch.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if the region is too small for the disk.
    pub(super) fn open(parts: Parts, metadata: &Metadata, share: Share) -> Result<Bat> {
        let region = &parts.regions.bat;
        let image = parts.image;
        let block_size = u64::from(metadata.block_size);
        let blocks = div_up(metadata.disk_size, block_size).unwrap_or(0);
        let ratio = chunk_ratio(metadata.block_size, metadata.logical_sector);
        let has_parent = metadata.parent.is_some();
        let count = if has_parent {
            entries_with_bitmaps(blocks, ratio)
        } else {
            entries(blocks, ratio)
        };
        let room = region.end.saturating_sub(region.start) >> 3;
        if count > room {
            return Err(Error::damaged(format!(
                "the VHDX's block table has room for {room} entries, and a disk of {} bytes needs {count}",
                metadata.disk_size
            ))
            .at_offset(region.start));
        }
        let places = Places {
            format: "VHDX",
            size: image.size(),
            reserved: vec![
                HEADERS,
                parts.log.clone(),
                region.clone(),
                parts.regions.metadata.clone(),
            ],
        };
        Ok(Bat {
            table: Table::open(image.clone(), region.start, count, Width::Le64, share)?,
            image,
            places,
            ratio,
            block_size,
            sector_size: u64::from(metadata.logical_sector),
            disk_size: metadata.disk_size,
            has_parent,
            file: parts.file,
            regions: parts.regions,
            log: parts.log,
            properties: parts.properties,
        })
    }

    /// What a block that is not there stands for.
    fn absent(&self) -> Place {
        match self.has_parent {
            true => Place::Parent,
            false => Place::Zeros,
        }
    }

    /// Whether none of the blocks with these entries is there, as far as that can be seen without reading them: a disk of 64 TiB has up to
    /// 512 MiB of them, of which little more is there than what was written.
    fn is_absent(&self, slots: &Range<u64>) -> Result<bool> {
        let count = slots.end.saturating_sub(slots.start);
        Ok(count >= MANY && self.table.is_hole(slots)?)
    }

    /// Appends where `part` of a block of `bytes` bytes lies. A block that the guest gave back (UNMAPPED) or whose content
    /// is not defined reads as zeros, as it does under Windows and QEMU, also in a child: what lay there is none of its
    /// business.
    fn push_block(
        &self,
        (block, entry): (u64, u64),
        part: Range<u64>,
        bytes: u64,
        detail: Detail,
        runs: &mut Runs,
    ) -> Result<()> {
        let length = part.end.saturating_sub(part.start);
        let data = place(entry);
        match entry & 7 {
            state::NOT_PRESENT => runs.push(length, self.absent()),
            state::UNDEFINED | state::ZERO | state::UNMAPPED => {
                runs.push(length, Place::Zeros);
            }
            state::FULLY_PRESENT => {
                self.places.check(block, data, bytes)?;
                runs.push(length, Place::Image(data.saturating_add(part.start)));
            }
            state::PARTIALLY_PRESENT if self.has_parent => {
                self.places.check(block, data, bytes)?;
                self.push_sectors(block, data, &part, detail, runs)?;
            }
            state::PARTIALLY_PRESENT => {
                return Err(Error::damaged(format!(
                    "block {block} of the VHDX is said to be partially in a parent, and the disk has none"
                )));
            }
            other => {
                return Err(Error::damaged(format!(
                    "block {block} of the VHDX is in state {other}, which does not exist"
                )));
            }
        }
        Ok(())
    }

    /// Appends the sectors of `part` of a block that lies at `data` as the sector bitmap of its chunk says (2.4, 2.5.1.2).
    fn push_sectors(
        &self,
        block: u64,
        data: u64,
        part: &Range<u64>,
        detail: Detail,
        runs: &mut Runs,
    ) -> Result<()> {
        let chunk = block.checked_div(self.ratio).unwrap_or(0);
        let in_chunk = block.checked_rem(self.ratio).unwrap_or(0);
        let slot = index(block.saturating_sub(in_chunk), self.ratio).saturating_add(self.ratio);
        let entry = self.table.entries(slot..slot.saturating_add(1))?;
        let entry = entry.first().copied().unwrap_or(0);
        if entry & 7 != state::FULLY_PRESENT {
            return Err(Error::damaged(format!(
                "block {block} of the VHDX is said to be partially in the parent, and there is no sector bitmap of its chunk {chunk}"
            )));
        }
        let place = place(entry);
        self.places.check_bitmap(chunk, place, BITMAP)?;
        // Blocks have a multiple of 256 sectors: a block's bits begin with a byte.
        let sectors = self.block_size.checked_div(self.sector_size).unwrap_or(0);
        let bits_of_block = place.saturating_add(in_chunk.saturating_mul(sectors) >> 3);
        let first = part.start.checked_div(self.sector_size).unwrap_or(0) & !7;
        let end = part
            .end
            .div_ceil(self.sector_size.max(1))
            .next_multiple_of(8);
        // At most 64 KiB.
        let bytes = read_vec(
            &*self.image,
            bits_of_block.saturating_add(first >> 3),
            to_usize(end.saturating_sub(first) >> 3)?,
        )?;
        let bits = Bits::new(&bytes, first, Order::LowFirst);
        runs.push_sectors(&bits, part, self.sector_size, (data, Place::Parent), detail);
        Ok(())
    }
}

impl Layer for Bat {
    fn size(&self) -> u64 {
        self.disk_size
    }

    fn block_size(&self) -> u64 {
        self.block_size
    }

    fn image(&self) -> &dyn ReadAt {
        &*self.image
    }

    fn runs(&self, range: Range<u64>, detail: Detail) -> Result<Runs> {
        let mut runs = Runs::default();
        let mut at = range.start;
        while at < range.end {
            let first = at.checked_div(self.block_size).unwrap_or(0);
            let end = range
                .end
                .div_ceil(self.block_size)
                .min(first.saturating_add(STEP));
            let from = index(first, self.ratio);
            let slots = from..index(end.saturating_sub(1), self.ratio).saturating_add(1);
            if self.is_absent(&slots)? {
                let to = end.saturating_mul(self.block_size).min(range.end);
                runs.push(to.saturating_sub(at), self.absent());
                at = to;
                continue;
            }
            let entries = self.table.entries(slots)?;
            for block in first..end {
                let slot = index(block, self.ratio).saturating_sub(from);
                // The table gave an entry for each index of the range.
                let entry = to_usize(slot)
                    .ok()
                    .and_then(|slot| entries.get(slot).copied())
                    .unwrap_or(u64::MAX);
                let start = block.saturating_mul(self.block_size);
                let bytes = self.block_size.min(self.disk_size.saturating_sub(start));
                let inside = at.saturating_sub(start);
                let part = inside..bytes.min(range.end.saturating_sub(start));
                at = start.saturating_add(part.end);
                self.push_block((block, entry), part, bytes, detail, &mut runs)?;
            }
        }
        Ok(runs)
    }

    fn properties(&self) -> Vec<Property> {
        self.properties.clone()
    }

    fn check(&self, check: &mut Check<'_>) -> Result<()> {
        let walk = Walk {
            file: &*self.file,
            image: &*self.image,
            table: &self.table,
            regions: &self.regions,
            log: self.log.clone(),
            ratio: self.ratio,
            block_size: self.block_size,
            disk_size: self.disk_size,
            has_parent: self.has_parent,
        };
        walk.check(check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitmap_entries_stand_between() {
        // 2.5: 2^23 sectors of 512 bytes are 4 GiB, 128 blocks of 32 MiB.
        let ratio = chunk_ratio(32 << 20, 512);
        assert_eq!(ratio, 128);
        assert_eq!(chunk_ratio(256 << 20, 512), 16);
        assert_eq!(chunk_ratio(1 << 20, 4096), 32768);
        assert_eq!(index(127, ratio), 127);
        assert_eq!(index(128, ratio), 129);
        assert_eq!(index(256, ratio), 258);
        assert_eq!(entries(0, ratio), 0);
        assert_eq!(entries(128, ratio), 128);
        assert_eq!(entries(129, ratio), 130);
        assert_eq!(entries_with_bitmaps(0, ratio), 0);
        assert_eq!(entries_with_bitmaps(1, ratio), 129);
        assert_eq!(entries_with_bitmaps(129, ratio), 258);
    }
}
