//! Blocks of a dynamic image, allocated at the end of the file as data come.

use super::target::{Target, is_zero};
use crate::align::{round_up, to_usize};
use cairn_base::read_at::{check_range, clip};
use cairn_base::units::to_u64;
use cairn_base::{Error, Result};
use std::ops::Range;

/// How blocks lie in the file.
pub(super) struct Layout {
    /// Bytes of the virtual disk.
    pub(super) disk_size: u64,
    /// Bytes of a block.
    pub(super) block_size: u64,
    /// What stands right in front of each block's data.
    pub(super) prefix: Vec<u8>,
    /// A block's data begin at a multiple of this.
    pub(super) alignment: u64,
    /// Where the first block may begin.
    pub(super) start: u64,
}

/// The blocks of an image that is being written.
pub(super) struct Blocks {
    target: Target,
    layout: Layout,
    /// Where each block's data lie; 0 for a block that is not there.
    places: Vec<u64>,
    /// Where the last block ends.
    end: u64,
    data_bytes: u64,
}

impl Blocks {
    pub(super) fn new(target: Target, layout: Layout) -> Result<Blocks> {
        let count = layout.disk_size.div_ceil(layout.block_size.max(1));
        Ok(Blocks {
            target,
            // Callers bound this: at most a million blocks.
            places: vec![0; to_usize(count)?],
            end: layout.start,
            layout,
            data_bytes: 0,
        })
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    pub(super) fn disk_size(&self) -> u64 {
        self.layout.disk_size
    }

    /// Where each block's data lie; 0 for a block that is not there.
    pub(super) fn places(&self) -> &[u64] {
        &self.places
    }

    /// Where the last block ends, or the first would begin.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// Writes `data`; a block is allocated when something other than zeros is written to it.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        check_range(self.layout.disk_size, offset, data.len())?;
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() {
            let (block, inside) = self.split(at);
            let room = to_usize(self.layout.block_size.saturating_sub(inside))?;
            let (part, behind) = rest.split_at(room.min(rest.len()));
            let place = match self.place(block)? {
                0 if is_zero(part) => 0,
                0 => self.allocate(block)?,
                place => place,
            };
            if place != 0 {
                self.target.write(place.saturating_add(inside), part)?;
                self.data_bytes = self.data_bytes.saturating_add(to_u64(part.len()));
            }
            at = at.saturating_add(to_u64(part.len()));
            rest = behind;
        }
        Ok(())
    }

    /// Makes `range` zeros, where it is not.
    pub(super) fn zero(&mut self, range: Range<u64>) -> Result<()> {
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
                // Behind the end of the file there are zeros already.
                self.target.zero(start..start.saturating_add(length))?;
            }
            at = at.saturating_add(length);
        }
        Ok(())
    }

    fn split(&self, at: u64) -> (u64, u64) {
        let block = at.checked_div(self.layout.block_size).unwrap_or(0);
        (
            block,
            at.saturating_sub(block.saturating_mul(self.layout.block_size)),
        )
    }

    fn place(&self, block: u64) -> Result<u64> {
        self.places
            .get(to_usize(block)?)
            .copied()
            .ok_or_else(|| Error::invalid(format!("the disk has no block {block}")))
    }

    fn allocate(&mut self, block: u64) -> Result<u64> {
        let prefix = to_u64(self.layout.prefix.len());
        let place = self
            .end
            .checked_add(prefix)
            .and_then(|least| round_up(least, self.layout.alignment))
            .ok_or_else(|| Error::invalid("the image would be longer than any file can be"))?;
        if prefix > 0 {
            self.target
                .write(place.saturating_sub(prefix), &self.layout.prefix)?;
        }
        if let Some(slot) = self.places.get_mut(to_usize(block)?) {
            *slot = place;
        }
        self.end = place.saturating_add(self.layout.block_size);
        Ok(place)
    }
}
