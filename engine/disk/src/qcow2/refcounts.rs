//! Reference counts as the file has them ("Refcount table entry", "Refcount block entry"): of 1 to 64 bits, read where they are needed.

use super::header::Header;
use super::roots::Roots;
use super::users::REFCOUNT_RESERVED;
use crate::align::to_usize;
use crate::table::{Share, Table, Width};
use cairn_base::read_at::read_vec;
use cairn_base::{ReadAt, Result};
use std::sync::Arc;

/// Counts of more than 64 bits do not exist.
pub(super) const MAX_ORDER: u32 = 6;
/// Bytes of a block that are read at once: at most, and never more than a block has.
const PAGE: u64 = 4096;

/// The counts.
pub(super) struct Refcounts {
    image: Arc<dyn ReadAt>,
    table: Table,
    table_offset: u64,
    cluster_bits: u32,
    order: u32,
    page: Page,
}

/// Counts that stand beside each other.
#[derive(Default)]
struct Page {
    /// The first cluster of the file that they are about, and how many.
    first: u64,
    count: u64,
    /// Nothing where there is no block: the counts are 0.
    bytes: Vec<u8>,
    /// Where the bytes lie, or, without any, where the entry of the table does.
    offset: u64,
}

impl Refcounts {
    /// Those of `image`.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if the table does not lie in the file. The caller has looked at the order.
    pub(super) fn open(
        image: Arc<dyn ReadAt>,
        header: &Header,
        roots: &Roots,
    ) -> Result<Refcounts> {
        let entries = roots.refcount_entries(header);
        let offset = roots.refcount_table;
        let table = Table::open(image.clone(), offset, entries, Width::Be64, Share::ALL)?;
        Ok(Refcounts {
            image,
            table,
            table_offset: offset,
            cluster_bits: header.cluster_bits,
            order: roots.refcount_order.min(MAX_ORDER),
            page: Page::default(),
        })
    }

    /// The count of cluster `number` of the file; 0 where no block can be read.
    ///
    /// # Errors
    /// What the image says when it is read.
    pub(super) fn count(&mut self, number: u64) -> Result<u64> {
        let index = self.find(number)?;
        Ok(count_in(&self.page.bytes, self.order, index))
    }

    /// Where the count of cluster `number` is written, or the entry of the block that there is not.
    ///
    /// # Errors
    /// As [`count`](Refcounts::count).
    pub(super) fn written_at(&mut self, number: u64) -> Result<u64> {
        let index = self.find(number)?;
        let inside = match self.page.bytes.is_empty() {
            true => 0,
            false => (index << self.order) >> 3,
        };
        Ok(self.page.offset.saturating_add(inside))
    }

    /// Reads the page with the count of cluster `number`: which of the page it is.
    fn find(&mut self, number: u64) -> Result<u64> {
        match number.checked_sub(self.page.first) {
            Some(index) if index < self.page.count => Ok(index),
            _ => {
                self.page = self.load(number)?;
                Ok(number.saturating_sub(self.page.first))
            }
        }
    }

    fn load(&self, number: u64) -> Result<Page> {
        // A block has 2^per_block counts.
        let per_block = self
            .cluster_bits
            .saturating_add(3)
            .saturating_sub(self.order);
        let block = number >> per_block;
        let entry = match block < self.table.entries_count() {
            true => self.table.entries(block..block.saturating_add(1))?,
            false => Vec::new(),
        };
        let entry = entry.first().copied().unwrap_or(0);
        let size = 1u64 << self.cluster_bits;
        let end = entry.checked_add(size);
        let is_there = entry != 0
            && entry & REFCOUNT_RESERVED == 0
            && entry.is_multiple_of(size)
            && end.is_some_and(|end| end <= self.image.size());
        if !is_there {
            let last = self.table.entries_count().saturating_sub(1);
            let at = block.min(last).saturating_mul(8);
            return Ok(Page {
                first: block << per_block,
                count: 1 << per_block,
                bytes: Vec::new(),
                offset: self.table_offset.saturating_add(at),
            });
        }
        let length = PAGE.min(size);
        let count = (length << 3) >> self.order;
        let in_block = number & (1u64 << per_block).saturating_sub(1);
        let skipped = in_block
            .checked_div(count)
            .unwrap_or(0)
            .saturating_mul(count);
        let offset = entry.saturating_add((skipped << self.order) >> 3);
        Ok(Page {
            first: (block << per_block).saturating_add(skipped),
            count,
            bytes: read_vec(&*self.image, offset, to_usize(length)?)?,
            offset,
        })
    }
}

/// Count `index` of `bytes`, of 2 to the power of `order` bits. Those of less than a byte begin at its lowest bit; longer ones are big-endian.
fn count_in(bytes: &[u8], order: u32, index: u64) -> u64 {
    let bit = index << order;
    let first = usize::try_from(bit >> 3).unwrap_or(usize::MAX);
    let bits = 1u64 << order;
    if bits < 8 {
        let byte = bytes.get(first).copied().unwrap_or(0);
        let mask = (1u64 << bits).saturating_sub(1);
        return u64::from(byte) >> (bit & 7) & mask;
    }
    let length = usize::try_from(bits >> 3).unwrap_or(0);
    let found = bytes.get(first..first.saturating_add(length));
    let found = found.unwrap_or_default().iter();
    found.fold(0, |count, byte| count << 8 | u64::from(*byte))
}

/// How many clusters a file of `size` bytes has, the last one perhaps in part.
pub(super) fn clusters(size: u64, header: &Header) -> u64 {
    size.div_ceil(header.cluster_size())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_all_widths() {
        let bytes = [0b1001_0110, 0xab, 0x12, 0x34, 5, 6, 7, 8];
        let all = |order: u32, count: u64| -> Vec<u64> {
            (0..count)
                .map(|index| count_in(&bytes, order, index))
                .collect()
        };
        assert_eq!(all(0, 8), [0, 1, 1, 0, 1, 0, 0, 1]);
        assert_eq!(all(1, 4), [2, 1, 1, 2]);
        assert_eq!(all(2, 4), [6, 9, 11, 10]);
        assert_eq!(all(3, 3), [0x96, 0xab, 0x12]);
        assert_eq!(all(4, 2), [0x96ab, 0x1234]);
        assert_eq!(all(5, 2), [0x96ab_1234, 0x0506_0708]);
        assert_eq!(all(6, 1), [0x96ab_1234_0506_0708]);
        // Behind the end, and where there is no block.
        assert_eq!(count_in(&bytes, 4, 4), 0);
        assert_eq!(count_in(&[], 0, 0), 0);
    }
}
