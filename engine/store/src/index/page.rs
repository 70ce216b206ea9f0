//! A page of a segment: 4 KiB that check themselves. All of a segment but its first keys and footer consists of them and of
//! filters.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 16 | checksum of the page with these bytes zero: of four whole chunks of BLAKE3, twice as fast as of one byte less |
//! | 16 | 8 | number of the page among those of its kind, from 0 |
//! | 24 | 2 | number of rows |
//! | 26 | 2 | kind: 0 entries, 1 fences, 2 packs |
//! | 28 | 4 | first four bytes of the segment's id, so that a page of a file that is gone does not pass |
//! | 32 | 4064 | the rows; zeros behind the last |
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use crate::hash::checksum;
use cairn_base::{Error, Result, SegmentId};
use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a page.
pub const PAGE_LEN: usize = 4096;
/// Entries, or packs, in a full page.
pub const PAGE_ROWS: usize = 127;
const HEAD_LEN: usize = 32;
/// Bytes of the rows.
pub const BODY_LEN: usize = PAGE_LEN - HEAD_LEN;

/// What a page holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageKind {
    /// Index entries.
    Entries,
    /// The fences of a block, and how to read its filter.
    Fences,
    /// Rows of the pack table.
    Packs,
}

impl PageKind {
    fn code(self) -> u16 {
        match self {
            PageKind::Entries => 0,
            PageKind::Fences => 1,
            PageKind::Packs => 2,
        }
    }
}

/// Which page it is.
#[derive(Debug, Clone, Copy)]
pub struct PageName {
    /// The segment.
    pub segment: SegmentId,
    /// What it holds.
    pub kind: PageKind,
    /// Its number among those of the kind.
    pub number: u64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct PageHead {
    sum: [u8; 16],
    number: U64,
    count: U16,
    kind: U16,
    segment: [u8; 4],
}

const _: () = assert!(size_of::<PageHead>() == HEAD_LEN);

fn short(segment: SegmentId) -> [u8; 4] {
    let [a, b, c, d, ..] = segment.0;
    [a, b, c, d]
}

/// Appends a page of `count` rows, whose bytes are `body` (at most [`BODY_LEN`]).
pub fn encode(name: PageName, count: usize, body: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let head = PageHead {
        sum: [0; 16],
        number: U64::new(name.number),
        count: U16::new(u16::try_from(count).unwrap_or(u16::MAX)),
        kind: U16::new(name.kind.code()),
        segment: short(name.segment),
    };
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(body);
    out.resize(start.saturating_add(PAGE_LEN), 0);
    if let Some(page) = out.get_mut(start..) {
        let sum = checksum(page);
        let (place, _) = page.split_at_mut(16);
        place.copy_from_slice(&sum);
    }
}

/// The checksum that a page should have.
fn sum_of(page: &[u8; PAGE_LEN]) -> [u8; 16] {
    let mut copy = *page;
    let (place, _) = copy.split_at_mut(16);
    place.fill(0);
    checksum(&copy)
}

/// Whether these bytes are the page they should be.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if the checksum does not match or it is another page.
pub fn check(bytes: &[u8], name: PageName) -> Result<()> {
    let damaged = |why| {
        let (kind, number) = (name.kind, name.number);
        Error::damaged(format!("index page {number} ({kind:?}): {why}"))
    };
    let (head, _) =
        PageHead::ref_from_prefix(bytes).map_err(|_| damaged("is shorter than a page"))?;
    if !<&[u8; PAGE_LEN]>::try_from(bytes).is_ok_and(|page| sum_of(page) == head.sum) {
        return Err(damaged("the checksum does not match"));
    }
    let same = head.number.get() == name.number
        && head.kind.get() == name.kind.code()
        && head.segment == short(name.segment);
    if same {
        Ok(())
    } else {
        Err(damaged("is another page"))
    }
}

/// The rows of a page that was checked, in place.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it claims more rows than fit.
pub fn rows<T>(bytes: &[u8]) -> Result<&[T]>
where
    T: FromBytes + Immutable + KnownLayout + Unaligned,
{
    let damaged = || Error::damaged("an index page claims more rows than fit");
    let (head, body) = PageHead::ref_from_prefix(bytes).map_err(|_| damaged())?;
    let count = usize::from(head.count.get());
    let (rows, _) = <[T]>::ref_from_prefix_with_elems(body, count).map_err(|_| damaged())?;
    Ok(rows)
}

/// The body of a page that was checked.
pub fn body(bytes: &[u8]) -> &[u8] {
    bytes.get(HEAD_LEN..PAGE_LEN).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: PageName = PageName {
        segment: SegmentId([7; 16]),
        kind: PageKind::Packs,
        number: 0x0102,
    };

    #[test]
    fn golden_bytes_and_every_flipped_bit_is_found() {
        let mut bytes = vec![9];
        encode(NAME, 2, &[5; 64], &mut bytes);
        let page = &mut bytes[1..];
        assert_eq!(page.len(), PAGE_LEN);
        assert_eq!(
            page[16..34],
            [2, 1, 0, 0, 0, 0, 0, 0, 2, 0, 2, 0, 7, 7, 7, 7, 5, 5]
        );
        let mut zeroed = page.to_vec();
        zeroed[..16].fill(0);
        assert_eq!(page[..16], checksum(&zeroed));
        check(page, NAME).unwrap();
        assert_eq!(rows::<[u8; 32]>(page).unwrap(), [[5; 32]; 2]);
        for at in (0..PAGE_LEN).step_by(7) {
            page[at] ^= 4;
            assert!(check(page, NAME).is_err(), "byte {at}");
            page[at] ^= 4;
        }
    }

    #[test]
    fn another_page_does_not_pass() {
        let mut bytes = Vec::new();
        encode(NAME, 0, &[], &mut bytes);
        let others = [
            PageName { number: 3, ..NAME },
            PageName {
                kind: PageKind::Entries,
                ..NAME
            },
            PageName {
                segment: SegmentId([8; 16]),
                ..NAME
            },
        ];
        for other in others {
            assert!(check(&bytes, other).is_err());
        }
        assert!(check(&bytes[..4095], NAME).is_err());
        assert!(check(&[], NAME).is_err());
    }

    #[test]
    fn a_page_never_claims_more_than_fits() {
        let mut bytes = Vec::new();
        encode(NAME, PAGE_ROWS, &[1; BODY_LEN], &mut bytes);
        assert_eq!(rows::<[u8; 32]>(&bytes).unwrap().len(), PAGE_ROWS);
        bytes[24] = 128;
        assert!(rows::<[u8; 32]>(&bytes).is_err());
        assert!(rows::<[u8; 32]>(&bytes[..31]).is_err());
    }
}
