//! A region of which only what is needed is in memory.

use crate::map::holes::{BLOCK, is_zero};
use cairn_base::Result;
use cairn_base::units::to_u64;
use std::ops::Range;

/// What is known of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// Not in memory. Unless it is read it is what it was in the base: part of a chunk.
    Unread,
    /// A hole in the base, and zeros still. Its bytes are not set.
    Hole,
    /// Said to be zeros now. Its bytes are not set.
    Zeroed,
    /// In memory, and zeros.
    Zero,
    /// In memory, and something else.
    Data,
}

/// A region of the image.
pub trait RegionSource {
    /// Fills `buffer` from the byte `at` of the region.
    ///
    /// # Errors
    /// What the image reports.
    fn read(&self, at: usize, buffer: &mut [u8]) -> Result<()>;

    /// Hints that these bytes of the region are read soon.
    fn will_need(&self, range: Range<usize>);
}

/// A region, read in blocks as they are asked for.
pub struct Window<'a> {
    bytes: &'a mut [u8],
    blocks: Vec<Block>,
    source: &'a dyn RegionSource,
    read_bytes: u64,
}

impl<'a> Window<'a> {
    /// A region with nothing read. What `bytes` holds does not matter; it is as long as the region.
    pub fn new(bytes: &'a mut [u8], source: &'a dyn RegionSource) -> Window<'a> {
        Window {
            blocks: vec![Block::Unread; bytes.len().div_ceil(BLOCK)],
            bytes,
            source,
            read_bytes: 0,
        }
    }

    /// Bytes of the region.
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    /// The region's bytes; only what was filled is meaningful.
    pub fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// Bytes read from the image so far.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// The blocks.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// What is known of block number `index`; [`Block::Data`] beyond the end.
    pub fn block(&self, index: usize) -> Block {
        self.blocks.get(index).copied().unwrap_or(Block::Data)
    }

    /// Sets the blocks that lie in `range` as a whole, where they are `from`.
    pub fn set_inside(&mut self, range: Range<usize>, from: Block, to: Block) {
        let first = range.start.div_ceil(BLOCK);
        let end = if range.end >= self.bytes.len() {
            self.blocks.len()
        } else {
            range.end / BLOCK
        };
        for block in self.blocks.get_mut(first..end).unwrap_or_default() {
            if *block == from {
                *block = to;
            }
        }
    }

    /// Nothing is known any more of the blocks that `range` touches.
    pub fn forget(&mut self, range: Range<usize>) {
        let blocks = self.touched(&range);
        self.blocks
            .get_mut(blocks)
            .unwrap_or_default()
            .fill(Block::Unread);
    }

    fn touched(&self, range: &Range<usize>) -> Range<usize> {
        range.start / BLOCK..range.end.div_ceil(BLOCK).min(self.blocks.len())
    }

    /// Hints that `range` will be loaded.
    pub fn will_need(&self, range: &Range<usize>) {
        let blocks = self.touched(range);
        let end = (blocks.end * BLOCK).min(self.bytes.len());
        self.source.will_need(blocks.start * BLOCK..end);
    }

    /// Reads the blocks that `range` touches and of which nothing is known.
    ///
    /// # Errors
    /// What the image reports.
    pub fn load(&mut self, range: Range<usize>) -> Result<()> {
        let Range { start: mut at, end } = self.touched(&range);
        while at < end {
            let first = at;
            while at < end && self.block(at) == Block::Unread {
                at += 1;
            }
            if first == at {
                at += 1;
            } else {
                self.read_blocks(first..at)?;
            }
        }
        Ok(())
    }

    fn read_blocks(&mut self, blocks: Range<usize>) -> Result<()> {
        let start = blocks.start * BLOCK;
        let end = (blocks.end * BLOCK).min(self.bytes.len());
        let part = self.bytes.get_mut(start..end).unwrap_or_default();
        self.source.read(start, part)?;
        self.read_bytes += to_u64(part.len());
        let states = self.blocks.get_mut(blocks).unwrap_or_default();
        for (state, bytes) in states.iter_mut().zip(part.chunks(BLOCK)) {
            *state = if is_zero(bytes) {
                Block::Zero
            } else {
                Block::Data
            };
        }
        Ok(())
    }

    /// As [`load`](Window::load), and sets the bytes of what is zeros without having been read: then all bytes of the range are
    /// meaningful.
    ///
    /// # Errors
    /// What the image reports.
    pub fn fill(&mut self, range: Range<usize>) -> Result<()> {
        self.load(range.clone())?;
        let blocks = self.touched(&range);
        let start = blocks.start * BLOCK;
        let states = self.blocks.get_mut(blocks).unwrap_or_default();
        let bytes = self.bytes.get_mut(start..).unwrap_or_default();
        for (state, bytes) in states.iter_mut().zip(bytes.chunks_mut(BLOCK)) {
            if matches!(state, Block::Hole | Block::Zeroed) {
                bytes.fill(0);
                *state = Block::Zero;
            }
        }
        Ok(())
    }
}
