//! An index entry: 32 bytes that say where a chunk lies.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 16 | first half of the chunk's id |
//! | 16 | 3 | number of the pack in the segment's pack table |
//! | 19 | 4 | offset of the frame in the pack |
//! | 23 | 3 | stored length of the frame up to its end (bit 23: plain) |
//! | 26 | 3 | offset of the chunk in the plain frame |
//! | 29 | 3 | length of the chunk |

use cairn_base::PackId;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of an entry.
pub const ENTRY_LEN: usize = 32;
const PLAIN: u32 = 1 << 23;
const LOW: u32 = PLAIN - 1;

/// An entry as it lies in a page.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct Entry {
    /// First half of the chunk's id: the sort key.
    pub prefix: [u8; 16],
    pack: [u8; 3],
    offset: U32,
    stored: [u8; 3],
    at: [u8; 3],
    length: [u8; 3],
}

const _: () = assert!(size_of::<Entry>() == ENTRY_LEN);

/// Where a chunk lies. Offsets and lengths in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The pack.
    pub pack: PackId,
    /// Offset of the frame in the pack.
    pub offset: u32,
    /// Stored length of the frame.
    pub stored: u32,
    /// Whether the frame is stored plain.
    pub plain: bool,
    /// Offset of the chunk in the plain frame.
    pub at: u32,
    /// Length of the chunk.
    pub length: u32,
}

impl Entry {
    /// Largest number of packs a segment can name.
    pub const MAX_PACKS: usize = 1 << 24;

    /// An entry; `pack` is the number in the segment's pack table.
    pub fn new(prefix: [u8; 16], pack: u32, place: &Place) -> Entry {
        let flag = if place.plain { PLAIN } else { 0 };
        Entry {
            prefix,
            pack: low24(pack),
            offset: U32::new(place.offset),
            stored: low24(place.stored & LOW | flag),
            at: low24(place.at),
            length: low24(place.length),
        }
    }

    /// The number of the pack in the segment's pack table.
    pub fn pack_number(&self) -> u32 {
        from24(self.pack)
    }

    /// The same entry in a segment where the pack has another number.
    pub fn with_pack(mut self, pack: u32) -> Entry {
        self.pack = low24(pack);
        self
    }

    /// Length of the chunk in bytes.
    pub fn chunk_length(&self) -> u32 {
        from24(self.length)
    }

    /// The place, in a pack whose id was looked up.
    pub fn place(&self, pack: PackId) -> Place {
        let stored = from24(self.stored);
        Place {
            pack,
            offset: self.offset.get(),
            stored: stored & LOW,
            plain: stored & PLAIN != 0,
            at: from24(self.at),
            length: from24(self.length),
        }
    }
}

fn low24(value: u32) -> [u8; 3] {
    let [a, b, c, _] = value.to_le_bytes();
    [a, b, c]
}

fn from24([a, b, c]: [u8; 3]) -> u32 {
    u32::from_le_bytes([a, b, c, 0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let place = Place {
            pack: PackId([5; 16]),
            offset: 0x0403_0201,
            stored: 0x01_ff00,
            plain: true,
            at: 0x1_fffe,
            length: 0x2_0000,
        };
        let entry = Entry::new([7; 16], 0x0a_0b0c, &place);
        let mut expected = vec![7; 16];
        expected.extend_from_slice(&[
            0x0c, 0x0b, 0x0a, 1, 2, 3, 4, 0x00, 0xff, 0x81, 0xfe, 0xff, 0x01, 0, 0, 2,
        ]);
        assert_eq!(entry.as_bytes(), expected);
        assert_eq!(entry.place(place.pack), place);
        assert_eq!(entry.pack_number(), 0x0a_0b0c);
        assert_eq!(entry.with_pack(9).pack_number(), 9);
    }
}
