//! A page of a segment: 4 KiB, up to 127 sorted entries.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 16 | checksum of bytes 16-4095 |
//! | 16 | 8 | number of the page, from 0 |
//! | 24 | 2 | number of entries |
//! | 26 | 6 | zero |
//! | 32 | 32 each | entries, ascending by prefix; zeros behind the last |
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use crate::hash::checksum;
use crate::index::place::{ENTRY_LEN, Entry};
use cairn_base::{Error, Result};
use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a page.
pub const PAGE_LEN: usize = 4096;
/// Entries in a full page.
pub const PAGE_ENTRIES: usize = 127;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct PageHead {
    sum: [u8; 16],
    number: U64,
    count: U16,
    zero: [u8; 6],
}

const HEAD_LEN: usize = 32;
const _: () = assert!(size_of::<PageHead>() == HEAD_LEN);
const _: () = assert!(HEAD_LEN + PAGE_ENTRIES * ENTRY_LEN == PAGE_LEN);

/// The bytes of page `number` with these entries (at most [`PAGE_ENTRIES`], sorted).
pub fn encode(number: u64, entries: &[Entry]) -> Vec<u8> {
    let head = PageHead {
        sum: [0; 16],
        number: U64::new(number),
        count: U16::new(u16::try_from(entries.len()).unwrap_or(u16::MAX)),
        zero: [0; 6],
    };
    let mut bytes = Vec::with_capacity(PAGE_LEN);
    bytes.extend_from_slice(head.as_bytes());
    bytes.extend_from_slice(entries.as_bytes());
    bytes.resize(PAGE_LEN, 0);
    let sum = checksum(bytes.get(16..).unwrap_or_default());
    for (to, from) in bytes.iter_mut().zip(sum) {
        *to = from;
    }
    bytes
}

/// The entries of page `number`, in place.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if the checksum or the number do not match.
pub fn decode(bytes: &[u8], number: u64) -> Result<&[Entry]> {
    let damaged = |why| Error::damaged(format!("index page {number}: {why}"));
    let (head, rest) =
        PageHead::ref_from_prefix(bytes).map_err(|_| damaged("is shorter than a page"))?;
    if bytes.get(16..).map(checksum) != Some(head.sum) {
        return Err(damaged("the checksum does not match"));
    }
    if head.number.get() != number {
        return Err(damaged("is another page"));
    }
    let count = usize::from(head.count.get());
    let entries = <[Entry]>::ref_from_bytes(rest).map_err(|_| damaged("has a wrong length"))?;
    entries
        .get(..count)
        .ok_or_else(|| damaged("claims too many entries"))
}
