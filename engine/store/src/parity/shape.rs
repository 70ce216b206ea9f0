//! How many shards a file has, and where its parity lies.
//!
//! protected bytes | room for a copy of the footer (128) | table | zeros up to a multiple of 4,096 | parity shards | table again
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use cairn_base::units::to_u64;
use cairn_base::{Error, Result};
use std::ops::Range;

/// Bytes of a shard: a sector.
pub const SHARD: usize = 4096;
/// Shards of data in a full stripe.
pub const STRIPE: usize = 1024;
/// Most parity, in percent of the data.
pub const MAX_PERCENT: u32 = 25;
/// Room between the protected bytes and the table, for a copy of the footer.
pub const COPY_LEN: u64 = 128;
/// Checksums in a page of the table: with the page's own checksum it is a sector.
pub const PAGE_SUMS: usize = 1020;
/// Bytes of a shard's checksum. It only has to find the damaged shards: what is restored is checked again by tags and ids.
pub const SUM_LEN: usize = 4;
/// Bytes of a page's own checksum.
pub const PAGE_HEAD: usize = 16;
/// More bytes than this are not protected: no pack is that long.
const MAX_LENGTH: u64 = 1 << 33;
const SHARD_U64: u64 = 4096;

/// How the first bytes of a file are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    length: u64,
    shards: usize,
    percent: u32,
}

/// Bytes of a table of so many checksums.
pub fn table_length(sums: usize) -> u64 {
    let pages = sums.div_ceil(PAGE_SUMS);
    let bytes = sums.saturating_mul(SUM_LEN);
    to_u64(bytes.saturating_add(pages.saturating_mul(PAGE_HEAD)))
}

/// Parity shards of a stripe of so many shards: at least one.
fn parity_count(data: usize, percent: u32) -> usize {
    let percent = usize::try_from(percent).unwrap_or(0);
    data.saturating_mul(percent)
        .div_ceil(100)
        .max(usize::from(data > 0))
}

impl Shape {
    /// The shape of `length` protected bytes with `percent` parity (1 to [`MAX_PERCENT`]).
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) for numbers that cannot be.
    pub fn new(length: u64, percent: u32) -> Result<Shape> {
        let shards = usize::try_from(length.div_ceil(SHARD_U64)).ok();
        match shards {
            Some(shards) if length <= MAX_LENGTH && (1..=MAX_PERCENT).contains(&percent) => {
                Ok(Shape {
                    length,
                    shards,
                    percent,
                })
            }
            _ => Err(Error::damaged(format!(
                "{length} bytes cannot have {percent} percent parity"
            ))),
        }
    }

    /// Protected bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Number of stripes.
    pub fn stripes(&self) -> usize {
        self.shards.div_ceil(STRIPE)
    }

    /// Shards of data in a stripe.
    pub fn data_of(&self, stripe: usize) -> usize {
        self.shards
            .saturating_sub(stripe.saturating_mul(STRIPE))
            .min(STRIPE)
    }

    /// Parity shards of a stripe. A last one that is short has as many as the full ones, as far as that makes sense: where packs end
    /// their table of contents lies.
    pub fn parity_of(&self, stripe: usize) -> usize {
        let data = self.data_of(stripe);
        let own = parity_count(data, self.percent);
        if self.shards <= STRIPE {
            return own;
        }
        own.max(parity_count(STRIPE, self.percent).min(data))
    }

    /// Parity shards of the stripes before one: those are full.
    fn parity_before(&self, stripe: usize) -> usize {
        stripe.saturating_mul(parity_count(STRIPE, self.percent))
    }

    /// Parity shards of all stripes.
    fn parity_shards(&self) -> usize {
        match self.stripes().checked_sub(1) {
            None => 0,
            Some(last) => self
                .parity_before(last)
                .saturating_add(self.parity_of(last)),
        }
    }

    /// The number of a stripe's first checksum in the table: data first, then parity.
    pub fn first_sum(&self, stripe: usize) -> usize {
        stripe
            .saturating_mul(STRIPE)
            .saturating_add(self.parity_before(stripe))
    }

    /// Checksums in the table.
    pub fn sums(&self) -> usize {
        self.shards.saturating_add(self.parity_shards())
    }

    /// Where the bytes of a data shard lie. The last one of all may be shorter than a shard; zeros follow it.
    pub fn data_range(&self, stripe: usize, shard: usize) -> Range<u64> {
        let number = stripe.saturating_mul(STRIPE).saturating_add(shard);
        let start = to_u64(number).saturating_mul(SHARD_U64).min(self.length);
        start..start.saturating_add(SHARD_U64).min(self.length)
    }

    /// Where a parity shard lies.
    pub fn parity_range(&self, stripe: usize, shard: usize) -> Range<u64> {
        let number = self.parity_before(stripe).saturating_add(shard);
        let start = to_u64(number)
            .saturating_mul(SHARD_U64)
            .saturating_add(self.parity_at());
        start..start.saturating_add(SHARD_U64)
    }

    /// Where the two tables lie.
    pub fn tables(&self) -> [u64; 2] {
        let parity = to_u64(self.parity_shards()).saturating_mul(SHARD_U64);
        [
            self.length.saturating_add(COPY_LEN),
            self.parity_at().saturating_add(parity),
        ]
    }

    /// Where the parity shards begin.
    pub fn parity_at(&self) -> u64 {
        self.length
            .saturating_add(COPY_LEN)
            .saturating_add(table_length(self.sums()))
            .next_multiple_of(SHARD_U64)
    }

    /// Where everything ends.
    pub fn end(&self) -> u64 {
        let [_, second] = self.tables();
        second.saturating_add(table_length(self.sums()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_follow_each_other_and_parts_do_not_overlap() {
        for length in [
            1,
            64,
            4096,
            4097,
            100_000,
            4 << 20,
            (4 << 20) + 1,
            67_000_001,
        ] {
            for percent in [1, 3, 10, 25] {
                let shape = Shape::new(length, percent).unwrap();
                let (mut data, mut parity, mut sum) = (0, shape.parity_at(), 0);
                for stripe in 0..shape.stripes() {
                    assert_eq!(shape.first_sum(stripe), sum);
                    for shard in 0..shape.data_of(stripe) {
                        let range = shape.data_range(stripe, shard);
                        assert!(range.start == data && range.end > data);
                        data = range.end;
                    }
                    let count = shape.parity_of(stripe);
                    assert!(count * 100 >= shape.data_of(stripe) * percent as usize && count > 0);
                    for shard in 0..count {
                        let range = shape.parity_range(stripe, shard);
                        assert_eq!(range, parity..parity + 4096);
                        parity = range.end;
                    }
                    sum += shape.data_of(stripe) + count;
                }
                assert_eq!((data, sum), (length, shape.sums()));
                let [first, second] = shape.tables();
                assert_eq!((first, second), (length + 128, parity));
                // No sector has a part of both tables.
                assert!(second / 4096 > (first + table_length(sum)).div_ceil(4096) - 1);
                assert_eq!(shape.end(), second + table_length(sum));
                // Not much more than asked for, where the file is not tiny.
                let over = shape.end() - length;
                let asked = length * u64::from(percent) / 100;
                assert!(
                    over <= asked + asked / 50 + length / 150 + 5 * 4096,
                    "{length} {percent}: {over}"
                );
            }
        }
    }

    #[test]
    fn numbers_that_cannot_be() {
        for (length, percent) in [(10, 0), (10, 26), (u64::MAX, 3), ((1 << 33) + 1, 3)] {
            assert!(Shape::new(length, percent).is_err());
        }
        let none = Shape::new(0, 3).unwrap();
        assert_eq!((none.stripes(), none.sums(), none.end()), (0, 0, 4096));
    }
}
