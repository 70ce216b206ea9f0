//! The checksums of all shards, in pages that check themselves. There are two copies of the table, and each page of either serves.
//!
//! Page: checksum (16 bytes) of pack id, number of the page (u32) and what follows in the page; up to 1,020 checksums of 4 bytes.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use crate::hash::checksum;
use crate::parity::shape::{PAGE_HEAD, PAGE_SUMS, SUM_LEN, Shape, table_length};
use cairn_base::error::unless_lost;
use cairn_base::read_at::read_vec;
use cairn_base::units::to_u64;
use cairn_base::{PackId, ReadAt, Result};

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
///
/// # Errors
/// If a page cannot be read now, which says nothing of its bytes.
pub fn read(file: &dyn ReadAt, pack: PackId, shape: &Shape) -> Result<Vec<Option<Sum>>> {
    let mut sums = Vec::new();
    let mut left = shape.sums();
    let mut number = 0usize;
    while left > 0 {
        let count = left.min(PAGE_SUMS);
        let [first, second] = shape.tables();
        let body = match page(file, pack, first, number, count) {
            Ok(Some(body)) => Some(body),
            failed => match page(file, pack, second, number, count)? {
                Some(body) => Some(body),
                None => failed?,
            },
        };
        match body {
            Some(body) => sums.extend(body.chunks_exact(SUM_LEN).map(|sum| sum.try_into().ok())),
            None => sums.extend(std::iter::repeat_n(None, count)),
        }
        left = left.saturating_sub(count);
        number = number.saturating_add(1);
    }
    Ok(sums)
}

/// Whether the first table stands where it does behind so many protected bytes: a page of it there checks.
///
/// # Errors
/// As [`read`].
pub fn stands_behind(file: &dyn ReadAt, pack: PackId, shape: &Shape) -> Result<bool> {
    let [first, _] = shape.tables();
    for number in 0..shape.sums().div_ceil(PAGE_SUMS) {
        if page(file, pack, first, number, page_count(shape, number))?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Checksums in a page.
fn page_count(shape: &Shape, number: usize) -> usize {
    let before = number.saturating_mul(PAGE_SUMS);
    shape.sums().saturating_sub(before).min(PAGE_SUMS)
}

/// How many pages of both tables do not check.
///
/// # Errors
/// As [`read`].
pub fn damaged_pages(file: &dyn ReadAt, pack: PackId, shape: &Shape) -> Result<usize> {
    let pages = shape.sums().div_ceil(PAGE_SUMS);
    let mut damaged = 0usize;
    for table in shape.tables() {
        for number in 0..pages {
            let found = page(file, pack, table, number, page_count(shape, number))?;
            damaged = damaged.saturating_add(usize::from(found.is_none()));
        }
    }
    Ok(damaged)
}

/// The body of a page, if it checks.
fn page(
    file: &dyn ReadAt,
    pack: PackId,
    table: u64,
    number: usize,
    count: usize,
) -> Result<Option<Vec<u8>>> {
    let at = table.saturating_add(table_length(number.saturating_mul(PAGE_SUMS)));
    let length = usize::try_from(table_length(count)).unwrap_or(usize::MAX);
    if at.saturating_add(to_u64(length)) > file.size() {
        return Ok(None);
    }
    let bytes = unless_lost(read_vec(file, at, length))?.unwrap_or_default();
    let halves = bytes.split_at_checked(PAGE_HEAD);
    let good = halves.filter(|(head, body)| *head == page_sum(pack, number, body));
    Ok(good.map(|(_, body)| body.to_vec()))
}
