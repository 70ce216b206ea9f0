//! From offsets of a dynamic or differencing disk to places in its file: block table and sector bitmaps together.

use super::SECTOR;
use super::bitmap;
use super::check::Walk;
use super::dynamic::{self, DynamicHeader, UNUSED};
use crate::align::to_usize;
use crate::bits::{Bits, Order};
use crate::check::Check;
use crate::layer::Layer;
use crate::place::Places;
use crate::property::Property;
use crate::runs::{Detail, Place, Runs};
use crate::table::{Share, Table, Width};
use cairn_base::read_at::read_vec;
use cairn_base::units::to_u64;
use cairn_base::{ReadAt, Result};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// For so many blocks it is remembered which bitmaps are full: 4 MiB. A disk of 2 TiB with blocks of 2 MiB has a quarter.
const REMEMBERED: u64 = 4 << 20;
/// Table entries that are looked at in one step of a walk.
const STEP: u64 = 8192;

const UNKNOWN: u8 = 0;
const FULL: u8 = 1;
const PARTIAL: u8 = 2;

/// The blocks of a dynamic or differencing disk.
pub(super) struct Blocks {
    image: Arc<dyn ReadAt>,
    table: Table,
    header: DynamicHeader,
    header_offset: u64,
    disk_size: u64,
    block_size: u64,
    bitmap_size: u64,
    places: Places,
    /// What is known of each block's bitmap; empty if there are too many blocks. Each byte stands for itself, so that
    /// no order between threads matters.
    bitmaps: Vec<AtomicU8>,
    /// What a block that is not there, or a sector whose bit is clear, stands for: zeros, or the parent's.
    absent: Place,
    properties: Vec<Property>,
}

impl Blocks {
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if the block table does not lie within the file.
    pub(super) fn open(
        image: Arc<dyn ReadAt>,
        header: &DynamicHeader,
        header_offset: u64,
        disk_size: u64,
        absent: Place,
        share: Share,
        properties: Vec<Property>,
    ) -> Result<Blocks> {
        let entries = u64::from(header.entries);
        let at = header.table_offset;
        let table = Table::open(image.clone(), at, entries, Width::Be32, share)?;
        let bitmaps = if entries <= share.of(REMEMBERED) {
            std::iter::repeat_with(|| AtomicU8::new(UNKNOWN))
                .take(to_usize(entries)?)
                .collect()
        } else {
            Vec::new()
        };
        let table_end = header
            .table_offset
            .saturating_add(entries.saturating_mul(4));
        let places = Places {
            format: "VHD",
            size: image.size(),
            // The copy of the footer, the dynamic header, the table.
            reserved: vec![
                0..SECTOR,
                header_offset..header_offset.saturating_add(to_u64(dynamic::SIZE)),
                header.table_offset..table_end,
            ],
        };
        Ok(Blocks {
            image,
            table,
            header: *header,
            header_offset,
            disk_size,
            block_size: u64::from(header.block_size),
            bitmap_size: bitmap::size(header.block_size),
            places,
            bitmaps,
            absent,
            properties,
        })
    }

    /// Tells `each` every block that `range` touches: number, table entry, the part of the block that is touched, and
    /// how many bytes of it belong to the disk.
    fn walk(
        &self,
        range: Range<u64>,
        mut each: impl FnMut(u64, u64, Range<u64>, u64) -> Result<()>,
    ) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            // The block size is a power of two and not 0, so that division and rest are a shift and a mask.
            let first = at.checked_div(self.block_size).unwrap_or(0);
            let end_block = range.end.div_ceil(self.block_size);
            let end = end_block.min(first.saturating_add(STEP));
            for (block, entry) in (first..end).zip(self.table.entries(first..end)?) {
                let start = block.saturating_mul(self.block_size);
                let bytes = self.block_size.min(self.disk_size.saturating_sub(start));
                let part = at.saturating_sub(start)..range.end.saturating_sub(start).min(bytes);
                each(block, entry, part, bytes)?;
                at = start.saturating_add(bytes).min(range.end);
            }
        }
        Ok(())
    }

    /// Where the bitmap of an allocated block lies, its data right behind it.
    fn place(&self, block: u64, entry: u64) -> Result<Option<u64>> {
        if entry == u64::from(UNUSED) {
            return Ok(None);
        }
        // Fits: the entry has 32 bits.
        let place = entry.saturating_mul(SECTOR);
        let start = block.saturating_mul(self.block_size);
        let bytes = self.block_size.min(self.disk_size.saturating_sub(start));
        self.places
            .check(block, place, self.bitmap_size.saturating_add(bytes))?;
        Ok(Some(place))
    }

    fn block_runs(
        &self,
        (block, entry): (u64, u64),
        part: Range<u64>,
        bytes: u64,
        detail: Detail,
        runs: &mut Runs,
    ) -> Result<()> {
        let whole = part.end.saturating_sub(part.start);
        let Some(place) = self.place(block, entry)? else {
            runs.push(whole, self.absent);
            return Ok(());
        };
        let data = place.saturating_add(self.bitmap_size);
        let here = Place::Image(data.saturating_add(part.start));
        let state = to_usize(block)
            .ok()
            .and_then(|index| self.bitmaps.get(index));
        // Where nothing can be remembered, only what is asked for is read.
        let known = state.map_or(PARTIAL, |state| state.load(Ordering::Relaxed));
        // What is clear in a dynamic disk is zeros: to know what may hold data the bitmap need not be read.
        if known == FULL || (detail == Detail::Rough && self.absent == Place::Zeros) {
            runs.push(whole, here);
            return Ok(());
        }
        let wanted = match known {
            UNKNOWN => 0..bytes.div_ceil(SECTOR),
            _ => part.start.checked_div(SECTOR).unwrap_or(0)..part.end.div_ceil(SECTOR),
        };
        // At most 64 KiB.
        let first = wanted.start & !7;
        let length = wanted.end.saturating_sub(first).div_ceil(8);
        let at = place.saturating_add(first >> 3);
        let bytes_of_bits = read_vec(&*self.image, at, to_usize(length)?)?;
        let bits = Bits::new(&bytes_of_bits, first, Order::HighFirst);
        if let Some(state) = state.filter(|_| known == UNKNOWN) {
            let full = bits.is_full(wanted);
            state.store(if full { FULL } else { PARTIAL }, Ordering::Relaxed);
        }
        runs.push_sectors(&bits, &part, SECTOR, (data, self.absent), detail);
        Ok(())
    }
}

impl Layer for Blocks {
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
        self.walk(range, |block, entry, part, bytes| {
            self.block_runs((block, entry), part, bytes, detail, &mut runs)
        })?;
        Ok(runs)
    }

    fn properties(&self) -> Vec<Property> {
        self.properties.clone()
    }

    fn check(&self, check: &mut Check<'_>) -> Result<()> {
        let walk = Walk {
            image: &*self.image,
            table: &self.table,
            header: &self.header,
            header_offset: self.header_offset,
            disk_size: self.disk_size,
            bitmap_size: self.bitmap_size,
            has_parent: self.absent == Place::Parent,
        };
        walk.check(check)
    }
}
