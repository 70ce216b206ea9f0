//! Blocks of the device, through a bounded cache that many threads share.

use super::number::{clamp, size_of};
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Bytes of all cached blocks together, at most.
const CACHE_BYTES: usize = 16 << 20;
const SHARDS: usize = 16;
/// Bytes read at once when more blocks behind the one asked for are wanted.
const AHEAD_BYTES: usize = 64 << 10;

/// A block; shared, so that the cache can drop it while somebody reads.
pub(super) type Block = Arc<[u8]>;

/// Two generations: when the young one is full it becomes the old one and the old one goes. What is asked for in
/// between moves back. As good as a list in order of use, and every step is one look-up.
#[derive(Default)]
struct Shard {
    young: HashMap<u64, Block>,
    old: HashMap<u64, Block>,
}

impl Shard {
    fn get(&mut self, number: u64, limit: usize) -> Option<Block> {
        if let Some(block) = self.young.get(&number) {
            return Some(block.clone());
        }
        let block = self.old.remove(&number)?;
        self.put(number, block.clone(), limit);
        Some(block)
    }

    fn put(&mut self, number: u64, block: Block, limit: usize) {
        if self.young.len() >= limit {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(number, block);
    }
}

/// Reads the blocks of one file system.
pub(super) struct Blocks {
    device: Arc<dyn ReadAt>,
    size: u32,
    shift: u32,
    count: u64,
    shards: [Mutex<Shard>; SHARDS],
    /// Blocks of one generation of one shard.
    limit: usize,
}

impl Blocks {
    /// `size` is a power of two with the logarithm `shift`; `count` blocks belong to the file system.
    pub fn new(device: Arc<dyn ReadAt>, size: u32, shift: u32, count: u64) -> Blocks {
        let limit = CACHE_BYTES
            .checked_div(size_of(size).saturating_mul(SHARDS).saturating_mul(2))
            .unwrap_or(1);
        Blocks {
            device,
            size,
            shift,
            count,
            shards: std::array::from_fn(|_| Mutex::new(Shard::default())),
            limit: limit.max(2),
        }
    }

    /// Bytes of a block.
    pub fn len(&self) -> usize {
        size_of(self.size)
    }

    /// log2 of the bytes of a block.
    pub fn shift(&self) -> u32 {
        self.shift
    }

    /// Blocks of the file system.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The device below.
    pub fn device(&self) -> &Arc<dyn ReadAt> {
        &self.device
    }

    /// Refuses blocks that are not of this file system or not of the device.
    pub fn check(&self, first: u64, blocks: u64, what: &str) -> Result<()> {
        let end = first.checked_add(blocks);
        if first == 0 || end.is_none_or(|end| end > self.count) {
            return Err(Error::damaged(format!(
                "{what}: block {first} is outside of the file system"
            )));
        }
        let bytes = end
            .and_then(|end| end.checked_shl(self.shift))
            .unwrap_or(u64::MAX);
        if bytes > self.device.size() {
            return Err(Error::damaged(format!(
                "{what}: block {first} lies beyond the end of the device"
            )));
        }
        Ok(())
    }

    /// Offset of a block on the device.
    pub fn offset(&self, number: u64) -> u64 {
        number.saturating_mul(u64::from(self.size))
    }

    fn shard(&self, number: u64) -> Option<&Mutex<Shard>> {
        self.shards.get(clamp(number & 15))
    }

    /// Block `number`, through the cache.
    pub fn block(&self, number: u64, what: &str) -> Result<Block> {
        self.block_ahead(number, 0, what)
    }

    /// Block `number`; if it has to be read, up to `more` blocks behind it are read with it.
    pub fn block_ahead(&self, number: u64, more: u64, what: &str) -> Result<Block> {
        let cached = self
            .shard(number)
            .and_then(|shard| shard.lock().get(number, self.limit));
        if let Some(block) = cached {
            return Ok(block);
        }
        self.check(number, 1, what)?;
        let most = to_u64(AHEAD_BYTES >> self.shift).max(1);
        let in_device = (self.device.size() >> self.shift).min(self.count);
        let blocks = more
            .saturating_add(1)
            .min(most)
            .min(in_device.saturating_sub(number))
            .max(1);
        let mut bytes = vec![0; clamp(blocks.saturating_mul(u64::from(self.size)))];
        self.device.read_exact_at(self.offset(number), &mut bytes)?;
        let mut first = None;
        for (index, part) in (number..).zip(bytes.chunks_exact(self.len())) {
            let block: Block = Arc::from(part);
            if first.is_none() {
                first = Some(block.clone());
            }
            if let Some(shard) = self.shard(index) {
                shard.lock().put(index, block, self.limit);
            }
        }
        first.ok_or_else(|| Error::damaged(format!("{what}: block {number} cannot be read")))
    }
}
