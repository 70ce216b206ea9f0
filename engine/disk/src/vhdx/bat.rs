//! The block table, \[MS-VHDX\] 2.5: where each block of the disk lies, if anywhere.

use super::ALIGNMENT;
use super::metadata::Metadata;
use crate::align::div_up;
use crate::place::Places;
use crate::runs::{Run, Runs};
use crate::table::{Table, Width};
use cairn_base::{Error, ReadAt, Result};
use std::ops::Range;
use std::sync::Arc;

/// Block table entries that are looked at in one step of a walk.
const STEP: u64 = 8192;

/// "Payload BAT Entry States" (2.5.1.1) of disks without a parent.
mod state {
    pub(super) const NOT_PRESENT: u64 = 0;
    pub(super) const UNDEFINED: u64 = 1;
    pub(super) const ZERO: u64 = 2;
    pub(super) const UNMAPPED: u64 = 3;
    pub(super) const FULLY_PRESENT: u64 = 6;
    pub(super) const PARTIALLY_PRESENT: u64 = 7;
}

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

/// The blocks of a disk.
pub(super) struct Bat {
    table: Table,
    places: Places,
    ratio: u64,
    block_size: u64,
    disk_size: u64,
}

impl Bat {
    /// The table in `region` of `image`; no block may touch the ranges of `reserved`.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if the region is too small for the disk.
    pub(super) fn open(
        image: Arc<dyn ReadAt>,
        region: &Range<u64>,
        metadata: &Metadata,
        reserved: Vec<Range<u64>>,
    ) -> Result<Bat> {
        let block_size = u64::from(metadata.block_size);
        let blocks = div_up(metadata.disk_size, block_size).unwrap_or(0);
        let ratio = chunk_ratio(metadata.block_size, metadata.logical_sector);
        let count = entries(blocks, ratio);
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
            reserved,
        };
        Ok(Bat {
            table: Table::open(image, region.start, count, Width::Le64)?,
            places,
            ratio,
            block_size,
            disk_size: metadata.disk_size,
        })
    }

    /// Where `range`, which lies within the disk, is to be read from.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) for a block in a state that does not exist, or that lies where none
    /// can lie; the error names the block.
    pub(super) fn runs(&self, range: Range<u64>) -> Result<Runs> {
        let mut runs = Runs::default();
        let mut at = range.start;
        while at < range.end {
            let first = at.checked_div(self.block_size).unwrap_or(0);
            let end = range
                .end
                .div_ceil(self.block_size)
                .min(first.saturating_add(STEP));
            let from = index(first, self.ratio);
            let entries = self
                .table
                .entries(from..index(end.saturating_sub(1), self.ratio).saturating_add(1))?;
            for block in first..end {
                let slot = index(block, self.ratio).saturating_sub(from);
                // The table gave an entry for each index of the range.
                let entry = usize::try_from(slot)
                    .ok()
                    .and_then(|slot| entries.get(slot).copied())
                    .unwrap_or(u64::MAX);
                let start = block.saturating_mul(self.block_size);
                let bytes = self.block_size.min(self.disk_size.saturating_sub(start));
                let inside = at.saturating_sub(start);
                let length = bytes
                    .min(range.end.saturating_sub(start))
                    .saturating_sub(inside);
                let place = self.place(block, entry, bytes)?;
                runs.push(Run {
                    length,
                    place: place.map(|place| place.saturating_add(inside)),
                });
                at = at.saturating_add(length);
            }
        }
        Ok(runs)
    }

    /// Where a block of `bytes` bytes lies; `None` for zeros. A block that the guest gave back (UNMAPPED) or whose
    /// content is not defined reads as zeros, as it does under Windows and QEMU: what lay there is none of its business.
    fn place(&self, block: u64, entry: u64, bytes: u64) -> Result<Option<u64>> {
        match entry & 7 {
            state::NOT_PRESENT | state::UNDEFINED | state::ZERO | state::UNMAPPED => Ok(None),
            state::FULLY_PRESENT => {
                // Bits 20 to 63 are the place in MiB, which is the place in bytes with the low bits clear.
                let place = (entry >> 20) << 20;
                self.places.check(block, place, bytes)?;
                Ok(Some(place))
            }
            state::PARTIALLY_PRESENT => Err(Error::damaged(format!(
                "block {block} of the VHDX is said to be partially in a parent, and the disk has none"
            ))),
            other => Err(Error::damaged(format!(
                "block {block} of the VHDX is in state {other}, which does not exist"
            ))),
        }
    }
}

/// What no block may touch besides regions and log: the first MiB.
pub(super) const HEADERS: Range<u64> = 0..ALIGNMENT;

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
    }
}
