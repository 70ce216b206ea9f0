//! The bytes of a file with a table and blocks, made as they are read.

use super::present::present;
use crate::align::to_usize;
use crate::layout::Fixed;
use crate::vhd::made as vhd;
use crate::vhdx::{bat, made as vhdx};
use cairn_base::read_at::{check_range, clip, joined};
use cairn_base::units::to_u64;
use cairn_base::{ReadAt, Result};
use std::ops::Range;
use std::sync::Arc;

/// Entries that are made at once: so many that a disk of little data is walked in large steps.
const STEP: u64 = 1 << 16;

/// How the table's entries are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entries {
    /// 4 bytes; one after the other.
    Vhd,
    /// 8 bytes; one of a sector bitmap, always 0, follows every `ratio` of them.
    Vhdx { ratio: u64 },
}

/// The file.
pub(super) struct Image {
    disk: Arc<dyn ReadAt>,
    blocks: Fixed,
    /// What stands right in front of the data of a block that is there.
    prefix: Vec<u8>,
    table: Range<u64>,
    entries: Entries,
    /// Headers and the like: where they begin, and their bytes without the zeros at their ends. Ascending.
    rest: Vec<(u64, Vec<u8>)>,
    size: u64,
}

impl Image {
    /// Of blocks, a table (where it begins, and its length), and the rest.
    pub(super) fn new(
        disk: Arc<dyn ReadAt>,
        blocks: Fixed,
        prefix: Vec<u8>,
        (table, table_length): (u64, u64),
        entries: Entries,
        mut rest: Vec<(u64, Vec<u8>)>,
        size: u64,
    ) -> Image {
        for (_, bytes) in &mut rest {
            let used = bytes.iter().rposition(|byte| *byte != 0);
            bytes.truncate(used.map_or(0, |last| last.saturating_add(1)));
            bytes.shrink_to_fit();
        }
        rest.sort_by_key(|(at, _)| *at);
        Image {
            disk,
            blocks,
            prefix,
            table: table..table.saturating_add(table_length),
            entries,
            rest,
            size,
        }
    }

    fn is_present(&self, block: u64) -> Result<bool> {
        let one = block..block.saturating_add(1);
        let found = present(&*self.disk, one, self.blocks.block_size)?;
        Ok(found.contains(&true))
    }

    /// Where the prefix of a block lies.
    fn prefix_of(&self, block: u64) -> Range<u64> {
        let data = self.blocks.place(block);
        data.saturating_sub(to_u64(self.prefix.len()))..data
    }

    /// Fills `out` with what the file has from `at` on, all of it in front of the blocks or behind them: zeros but for headers and
    /// table.
    fn read_rest(&self, at: u64, out: &mut [u8]) -> Result<()> {
        out.fill(0);
        for (start, bytes) in &self.rest {
            put(out, at, *start, bytes);
        }
        let end = at.saturating_add(to_u64(out.len()));
        let wanted = at.max(self.table.start)..end.min(self.table.end);
        if wanted.is_empty() {
            return Ok(());
        }
        let width = match self.entries {
            Entries::Vhd => 4,
            Entries::Vhdx { .. } => 8,
        };
        let entry = |at: u64| {
            at.saturating_sub(self.table.start)
                .checked_div(width)
                .unwrap_or(0)
        };
        let (mut from, last) = (entry(wanted.start), entry(wanted.end.saturating_sub(1)));
        while from <= last {
            let to = from.saturating_add(STEP).min(last.saturating_add(1));
            let place = self.table.start.saturating_add(from.saturating_mul(width));
            put(out, at, place, &self.made(from..to)?);
            from = to;
        }
        Ok(())
    }

    /// The table's entries `range`.
    fn made(&self, range: Range<u64>) -> Result<Vec<u8>> {
        // The block of an entry, or the next one's; none for what is no block's entry.
        let block_of = |index: u64| match self.entries {
            Entries::Vhd => (index, true),
            Entries::Vhdx { ratio } => {
                let group = ratio.saturating_add(1);
                let bitmaps = index.checked_div(group).unwrap_or(0);
                let block = index.saturating_sub(bitmaps);
                (block, bat::index(block, ratio) == index)
            }
        };
        let count = self.blocks.count;
        let first = block_of(range.start).0.min(count);
        let end = block_of(range.end).0.min(count);
        let there = present(&*self.disk, first..end, self.blocks.block_size)?;
        let mut bytes = Vec::new();
        for index in range {
            let (block, is_block) = block_of(index);
            let slot = to_usize(block.saturating_sub(first))?;
            let is_there = is_block && there.get(slot) == Some(&true);
            let place = is_there.then(|| self.blocks.place(block));
            match self.entries {
                Entries::Vhd => bytes.extend_from_slice(&vhd::Made::entry(place)?),
                Entries::Vhdx { .. } => bytes.extend_from_slice(&vhdx::Made::entry(place)),
            }
        }
        Ok(bytes)
    }

    /// Fills `out` with what the file has from `at` on, all of it in front of one block's data.
    fn read_lead(&self, at: u64, block: u64, out: &mut [u8]) -> Result<()> {
        out.fill(0);
        let prefix = self.prefix_of(block);
        let end = at.saturating_add(to_u64(out.len()));
        if prefix.start < end && at < prefix.end && self.is_present(block)? {
            put(out, at, prefix.start, &self.prefix);
        }
        Ok(())
    }

    /// Fills `out` with the disk's bytes from `at` on, and with zeros behind its end.
    fn read_data(&self, at: u64, out: &mut [u8]) -> Result<()> {
        let left = self.disk.size().saturating_sub(at);
        let length = to_usize(left.min(to_u64(out.len())))?;
        let (data, behind) = out.split_at_mut(length);
        behind.fill(0);
        if data.is_empty() {
            return Ok(());
        }
        self.disk.read_exact_at(at, data)
    }

    /// The offset on the disk of the first byte of data at or behind `place` of the file.
    fn on_disk(&self, place: u64) -> u64 {
        let (block, inside) = self
            .blocks
            .block_at(place.clamp(self.blocks.start, self.blocks.end));
        block
            .saturating_mul(self.blocks.block_size)
            .saturating_add(inside.saturating_sub(self.blocks.lead))
            .min(self.disk.size())
    }

    /// The parts of the blocks' places that may hold something other than zeros, if `extents` of the disk may.
    fn block_extents(&self, extents: Vec<Range<u64>>) -> Vec<Range<u64>> {
        let mut found = Vec::new();
        let mut prefixed = None;
        for extent in extents {
            let mut at = extent.start;
            while at < extent.end {
                let block = at.checked_div(self.blocks.block_size).unwrap_or(0);
                let start = block.saturating_mul(self.blocks.block_size);
                let end = extent.end.min(start.saturating_add(self.blocks.block_size));
                if prefixed != Some(block) {
                    found.push(self.prefix_of(block));
                    prefixed = Some(block);
                }
                let place = self.blocks.place(block);
                let from = place.saturating_add(at.saturating_sub(start));
                found.push(from..place.saturating_add(end.saturating_sub(start)));
                at = end;
            }
        }
        found
    }
}

impl ReadAt for Image {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size, offset, buffer.len())?;
        let (mut at, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let in_blocks = (self.blocks.start..self.blocks.end).contains(&at);
            let (block, inside) = self.blocks.block_at(at);
            let lead = self.blocks.lead;
            // How far what is at hand goes.
            let end = if at < self.blocks.start {
                self.blocks.start
            } else if !in_blocks {
                self.size
            } else if inside < lead {
                self.blocks.place(block)
            } else {
                self.blocks
                    .place(block)
                    .saturating_add(self.blocks.block_size)
            };
            let length = to_usize(end.saturating_sub(at).min(to_u64(rest.len())))?;
            let (part, behind) = rest.split_at_mut(length);
            if !in_blocks {
                self.read_rest(at, part)?;
            } else if inside < lead {
                self.read_lead(at, block, part)?;
            } else {
                self.read_data(self.on_disk(at), part)?;
            }
            at = at.saturating_add(to_u64(length));
            rest = behind;
        }
        Ok(())
    }

    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let range = clip(range, self.size);
        let mut found: Vec<Range<u64>> = Vec::new();
        found.extend(
            self.rest
                .iter()
                .map(|(at, bytes)| *at..at.saturating_add(to_u64(bytes.len()))),
        );
        found.push(self.table.clone());
        if range.start < self.blocks.end && self.blocks.start < range.end {
            let (mut start, mut end) = (self.on_disk(range.start), self.on_disk(range.end));
            if !self.prefix.is_empty() {
                // Whether a prefix is there is for its whole block to say.
                let inside = range.start.max(self.blocks.start)..range.end.min(self.blocks.end);
                let (first, _) = self.blocks.block_at(inside.start);
                let (last, _) = self.blocks.block_at(inside.end.saturating_sub(1));
                let behind = last
                    .saturating_add(1)
                    .saturating_mul(self.blocks.block_size);
                start = first.saturating_mul(self.blocks.block_size);
                end = behind.min(self.disk.size());
            }
            found.extend(self.block_extents(self.disk.data_extents(start..end)?));
        }
        let within = |part: Range<u64>| part.start.max(range.start)..part.end.min(range.end);
        Ok(joined(found.into_iter().map(within).collect()))
    }

    fn will_need(&self, range: Range<u64>) {
        let range = self.on_disk(range.start)..self.on_disk(range.end);
        if !range.is_empty() {
            self.disk.will_need(range);
        }
    }
}

/// Copies what of `bytes`, which begin at `place`, belongs into `out`, which begins at `at`.
fn put(out: &mut [u8], at: u64, place: u64, bytes: &[u8]) {
    let skipped = usize::try_from(at.saturating_sub(place)).unwrap_or(usize::MAX);
    let from = usize::try_from(place.saturating_sub(at)).unwrap_or(usize::MAX);
    let bytes = bytes.get(skipped..).unwrap_or_default();
    for (to, byte) in out.iter_mut().skip(from).zip(bytes) {
        *to = *byte;
    }
}
