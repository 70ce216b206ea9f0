//! The pack table of a segment: which packs its entries name, ascending by id, 127 rows of 32 bytes on a page. An entry names
//! its pack by the row's number.
//!
//! Row: id (16), sealed length (u64), kind (u32), zero (4).
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use crate::pack::PackKind;
use cairn_base::{PackId, Result};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a row.
pub const PACK_ROW: usize = 32;

/// A row of the pack table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackRow {
    /// The pack.
    pub id: PackId,
    /// Its sealed length in bytes.
    pub length: u64,
    /// What it holds.
    pub kind: PackKind,
}

/// A row as it lies in a page.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawRow {
    id: [u8; 16],
    length: U64,
    kind: U32,
    zero: [u8; 4],
}

const _: () = assert!(size_of::<RawRow>() == PACK_ROW);

impl RawRow {
    /// The pack.
    pub fn id(&self) -> PackId {
        PackId(self.id)
    }

    /// The row.
    ///
    /// # Errors
    /// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for an unknown kind of pack.
    pub fn decode(&self) -> Result<PackRow> {
        Ok(PackRow {
            id: self.id(),
            length: self.length.get(),
            kind: PackKind::from_code(self.kind.get())?,
        })
    }
}

impl From<&PackRow> for RawRow {
    fn from(row: &PackRow) -> RawRow {
        RawRow {
            id: row.id.0,
            length: U64::new(row.length),
            kind: U32::new(row.kind.code()),
            zero: [0; 4],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let row = PackRow {
            id: PackId([5; 16]),
            length: 0x0102_0304,
            kind: PackKind::Map,
        };
        let raw = RawRow::from(&row);
        let mut expected = vec![5; 16];
        expected.extend_from_slice(&[4, 3, 2, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(raw.as_bytes(), expected);
        assert_eq!(raw.decode().unwrap(), row);
        expected[24] = 9;
        assert!(
            RawRow::read_from_bytes(&expected[..])
                .unwrap()
                .decode()
                .is_err()
        );
    }
}
