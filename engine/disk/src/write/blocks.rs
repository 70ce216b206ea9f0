//! Blocks of a dynamic image, allocated at the end of the file as data come.

use super::covered::Covered;
use super::target::{Target, is_zero};
use crate::align::{round_up, to_usize};
use crate::layout::Layout;
use cairn_base::read_at::{check_range, clip};
use cairn_base::units::to_u64;
use cairn_base::{Error, Result};
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// The blocks of an image that is being written, by many threads at once.
pub(super) struct Blocks {
    target: Target,
    layout: Layout,
    table: Mutex<Table>,
    data_bytes: AtomicU64,
    /// What was written, kept or made zeros, if the file may hold old data: the rest of the blocks is made zeros at the end.
    done: Option<Covered>,
}

/// Where the blocks lie.
struct Table {
    /// Where each block's data lie; 0 for a block that is not there.
    places: Vec<u64>,
    /// Where the last block ends.
    end: u64,
    /// Bytes of the file, at least.
    length: u64,
}

impl Blocks {
    /// With `may_hold_data` the target may be a file with anything in it.
    pub(super) fn new(target: Target, layout: Layout, may_hold_data: bool) -> Result<Blocks> {
        let count = layout.disk_size.div_ceil(layout.block_size.max(1));
        let length = target.length()?;
        // Headers and tables come last: until then nobody takes the file for an image, neither what it was nor what it becomes.
        target.zero(0..layout.start.min(length))?;
        Ok(Blocks {
            target,
            table: Mutex::new(Table {
                // At most a million blocks, unless the caller asks for small ones on a large disk: 2^26 at most, 512 MiB. Of those
                // only what is touched takes memory.
                places: vec![0; to_usize(count)?],
                end: layout.start,
                length,
            }),
            layout,
            data_bytes: AtomicU64::new(0),
            done: may_hold_data.then(Covered::default),
        })
    }

    pub(super) fn disk_size(&self) -> u64 {
        self.layout.disk_size
    }

    /// Allocates the blocks of `range`, in order.
    pub(super) fn reserve(&self, range: Range<u64>) -> Result<()> {
        let range = clip(range, self.layout.disk_size);
        let (mut block, _) = self.split(range.start);
        let (last, _) = self.split(range.end.saturating_sub(1));
        while !range.is_empty() && block <= last {
            self.allocate(block)?;
            block = block.saturating_add(1);
        }
        Ok(())
    }

    /// Writes `data`; a block is allocated when something other than zeros is written to it.
    pub(super) fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        check_range(self.layout.disk_size, offset, data.len())?;
        let mut rest = data;
        for (block, inside, range) in self.pieces(offset, data.len())? {
            let (part, behind) = rest.split_at(range.len().min(rest.len()));
            let place = match self.place(block)? {
                0 if is_zero(part) => 0,
                0 => self.allocate(block)?,
                place => place,
            };
            if place != 0 {
                self.target.write(place.saturating_add(inside), part)?;
                self.data_bytes
                    .fetch_add(to_u64(part.len()), Ordering::Relaxed);
            }
            rest = behind;
        }
        self.keep(offset..offset.saturating_add(to_u64(data.len())));
        Ok(())
    }

    /// What the file has for the disk's bytes from `offset` on; zeros where there is no block.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.layout.disk_size, offset, buffer.len())?;
        for (block, inside, range) in self.pieces(offset, buffer.len())? {
            let part = buffer.get_mut(range).unwrap_or_default();
            match self.place(block)? {
                0 => part.fill(0),
                place => self.target.read(place.saturating_add(inside), part)?,
            }
        }
        Ok(())
    }

    /// What lies at `range` is right and stays.
    pub(super) fn keep(&self, range: Range<u64>) {
        if let Some(done) = &self.done {
            done.mark(range);
        }
    }

    /// Makes `range` zeros, where it is not.
    pub(super) fn zero(&self, range: Range<u64>) -> Result<()> {
        let range = clip(range, self.layout.disk_size);
        let mut at = range.start;
        while at < range.end {
            let (block, inside) = self.split(at);
            let length = self
                .layout
                .block_size
                .saturating_sub(inside)
                .min(range.end.saturating_sub(at));
            let place = self.place(block)?;
            if place != 0 {
                let start = place.saturating_add(inside);
                self.target.zero(start..start.saturating_add(length))?;
            }
            at = at.saturating_add(length);
        }
        self.keep(range);
        Ok(())
    }

    /// Ends the writing of blocks: old data go, and the file becomes long enough for the last block to be there in full.
    pub(super) fn finish(self) -> Result<Finished> {
        if let Some(done) = &self.done {
            for gap in done.gaps(self.layout.disk_size) {
                self.zero(gap)?;
            }
        }
        let table = self.table.into_inner();
        self.target.set_size(table.end)?;
        Ok(Finished {
            target: self.target,
            places: table.places,
            end: table.end,
            data_bytes: self.data_bytes.into_inner(),
        })
    }

    /// `length` bytes of the disk from `offset` on, by blocks: the block, the bytes in it before them, and which of the bytes they are.
    fn pieces(&self, offset: u64, length: usize) -> Result<Vec<(u64, u64, Range<usize>)>> {
        let mut pieces = Vec::new();
        let mut done = 0usize;
        while done < length {
            let (block, inside) = self.split(offset.saturating_add(to_u64(done)));
            let room = to_usize(self.layout.block_size.saturating_sub(inside))?;
            let end = length.min(done.saturating_add(room));
            pieces.push((block, inside, done..end));
            done = end;
        }
        Ok(pieces)
    }

    fn split(&self, at: u64) -> (u64, u64) {
        let block = at.checked_div(self.layout.block_size).unwrap_or(0);
        (
            block,
            at.saturating_sub(block.saturating_mul(self.layout.block_size)),
        )
    }

    fn place(&self, block: u64) -> Result<u64> {
        let table = self.table.lock();
        table
            .places
            .get(to_usize(block)?)
            .copied()
            .ok_or_else(|| Error::invalid(format!("the disk has no block {block}")))
    }

    /// Where a block lies; it gets the next place if it has none.
    fn allocate(&self, block: u64) -> Result<u64> {
        let mut table = self.table.lock();
        let table = &mut *table;
        let slot = table
            .places
            .get_mut(to_usize(block)?)
            .ok_or_else(|| Error::invalid(format!("the disk has no block {block}")))?;
        if *slot != 0 {
            return Ok(*slot);
        }
        let prefix = to_u64(self.layout.prefix.len());
        let too_long = || Error::invalid("the image would be longer than any file can be");
        let place = table
            .end
            .checked_add(prefix)
            .and_then(|least| round_up(least, self.layout.alignment))
            .ok_or_else(too_long)?;
        let end = place
            .checked_add(self.layout.block_size)
            .ok_or_else(too_long)?;
        if end > table.length {
            // A file that grows with each write cannot be written by many threads at once.
            self.target.set_size(end)?;
            table.length = end;
        }
        if prefix > 0 {
            self.target
                .write(place.saturating_sub(prefix), &self.layout.prefix)?;
        }
        *slot = place;
        table.end = end;
        Ok(place)
    }
}

/// What is left to do is headers and tables.
pub(super) struct Finished {
    pub(super) target: Target,
    /// Where each block's data lie; 0 for a block that is not there.
    pub(super) places: Vec<u64>,
    /// Where the last block ends, or the first would begin.
    pub(super) end: u64,
    pub(super) data_bytes: u64,
}
