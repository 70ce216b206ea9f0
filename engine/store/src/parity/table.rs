//! The checksums of all shards, in pages that check themselves. There are two copies of the table, and each page of either serves.
//!
//! Page: checksum (16 bytes) of pack id, number of the page (u32) and what follows in the page; up to 1,020 checksums of 4 bytes.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use crate::hash::checksum;
use crate::parity::shape::{PAGE_HEAD, PAGE_SUMS, SUM_LEN, Shape, table_length};
use cairn_base::read_at::read_vec;
use cairn_base::{PackId, ReadAt};

/// The checksum of a shard.
pub type Sum = [u8; SUM_LEN];

/// The checksum of a shard: CRC-32C, three times as fast as our usual one.
pub fn sum_of(shard: &[u8]) -> Sum {
    crc32c::crc32c(shard).to_le_bytes()
}

fn page_sum(pack: PackId, number: usize, body: &[u8]) -> [u8; 16] {
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    checksum(&[&pack.0[..], &number.to_le_bytes(), body].concat())
}

/// The bytes of a table.
pub fn encode(pack: PackId, sums: &[Sum]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, page) in sums.chunks(PAGE_SUMS).enumerate() {
        let body = page.concat();
        bytes.extend_from_slice(&page_sum(pack, number, &body));
        bytes.extend_from_slice(&body);
    }
    bytes
}

/// The checksums, as far as one of the copies of their page can be read; `None` for the others.
pub fn read(file: &dyn ReadAt, pack: PackId, shape: &Shape) -> Vec<Option<Sum>> {
    let mut sums = Vec::new();
    let mut left = shape.sums();
    let mut number = 0usize;
    while left > 0 {
        let count = left.min(PAGE_SUMS);
        let body = shape
            .tables()
            .into_iter()
            .find_map(|table| page(file, pack, table, number, count));
        match body {
            Some(body) => sums.extend(body.chunks_exact(SUM_LEN).map(|sum| sum.try_into().ok())),
            None => sums.extend(std::iter::repeat_n(None, count)),
        }
        left = left.saturating_sub(count);
        number = number.saturating_add(1);
    }
    sums
}

/// How many pages of both tables do not check.
pub fn damaged_pages(file: &dyn ReadAt, pack: PackId, shape: &Shape) -> usize {
    let pages = shape.sums().div_ceil(PAGE_SUMS);
    let mut damaged = 0usize;
    for table in shape.tables() {
        for number in 0..pages {
            let before = number.saturating_mul(PAGE_SUMS);
            let count = shape.sums().saturating_sub(before).min(PAGE_SUMS);
            let bad = page(file, pack, table, number, count).is_none();
            damaged = damaged.saturating_add(usize::from(bad));
        }
    }
    damaged
}

/// The body of a page, if it checks.
fn page(
    file: &dyn ReadAt,
    pack: PackId,
    table: u64,
    number: usize,
    count: usize,
) -> Option<Vec<u8>> {
    let before = table_length(number.saturating_mul(PAGE_SUMS));
    let length = usize::try_from(table_length(count)).ok()?;
    let bytes = read_vec(file, table.saturating_add(before), length).ok()?;
    let (head, body) = bytes.split_at_checked(PAGE_HEAD)?;
    (head == page_sum(pack, number, body)).then(|| body.to_vec())
}
