//! The footer of a segment: its last 256 bytes.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | magic `CAIRNIDX` |
//! | 8 | 4 | version, 2 |
//! | 12 | 4 | zero |
//! | 16 | 16 | segment id |
//! | 32 | 16 | store id |
//! | 48 | 8 | number of entries |
//! | 56 | 8 | number of pages of entries; the blocks begin at offset 0 |
//! | 64 | 8 | offset of the pack table, where the blocks end |
//! | 72 | 8 | number of packs |
//! | 80 | 16 | checksum of the first keys, which lie between pack table and footer |
//! | 96 | 144 | zero |
//! | 240 | 16 | checksum of bytes 0-239 |
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use crate::hash::checksum;
use crate::index::block::Blocks;
use crate::index::page::{PAGE_LEN, PAGE_ROWS};
use crate::index::place::Entry;
use cairn_base::units::to_u64;
use cairn_base::{Error, Result, SegmentId, View};

/// Bytes of the footer.
pub const FOOTER_LEN: usize = 256;
const MAGIC: [u8; 8] = *b"CAIRNIDX";
const VERSION: u32 = 2;

/// The footer of a segment. Offsets and lengths in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentFooter {
    /// Its id.
    pub segment: SegmentId,
    /// The store it belongs to.
    pub store: [u8; 16],
    /// Number of entries.
    pub entries: u64,
    /// The blocks.
    pub blocks: Blocks,
    /// Where the pack table begins.
    pub table_at: u64,
    /// Rows of the pack table.
    pub packs: u64,
    /// Checksum of the first keys.
    pub keys_sum: [u8; 16],
}

impl SegmentFooter {
    /// Pages of the pack table.
    pub fn table_pages(&self) -> u64 {
        self.packs.div_ceil(to_u64(PAGE_ROWS))
    }

    /// Where the first keys begin: 8 bytes for each block.
    pub fn keys_at(&self) -> u64 {
        self.table_at
            .saturating_add(self.table_pages().saturating_mul(to_u64(PAGE_LEN)))
    }

    /// Length of the whole segment.
    pub fn length(&self) -> u64 {
        self.keys_at()
            .saturating_add(self.blocks.count().saturating_mul(8))
            .saturating_add(to_u64(FOOTER_LEN))
    }

    /// The last bytes of the segment.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FOOTER_LEN);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.segment.0);
        bytes.extend_from_slice(&self.store);
        for number in [self.entries, self.blocks.pages, self.table_at, self.packs] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.keys_sum);
        bytes.resize(FOOTER_LEN.saturating_sub(16), 0);
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    /// Decodes the footer of a segment of `length` bytes. What it says of the parts adds up to the file.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged), or [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for another version.
    pub fn decode(bytes: &[u8], length: u64) -> Result<SegmentFooter> {
        let base = length.saturating_sub(to_u64(FOOTER_LEN));
        let view = View::new(bytes, "index segment footer", base);
        if view.array::<8>(0)? != MAGIC {
            return Err(view.damaged(0, "does not begin with its magic number"));
        }
        if view.array::<16>(240)? != checksum(view.slice(0, 240)?) {
            return Err(view.damaged(240, "the checksum does not match"));
        }
        let version = view.u32_le(8)?;
        if version != VERSION {
            return Err(
                Error::unsupported(format!("index segment version {version}"))
                    .advise("use the version of cairn that wrote it, or a newer one"),
            );
        }
        let footer = SegmentFooter {
            segment: SegmentId(view.array(16)?),
            store: view.array(32)?,
            entries: view.u64_le(48)?,
            blocks: Blocks {
                pages: view.u64_le(56)?,
            },
            table_at: view.u64_le(64)?,
            packs: view.u64_le(72)?,
            keys_sum: view.array(80)?,
        };
        let bounds = footer.blocks.length_bounds();
        let full = footer.blocks.pages.saturating_mul(to_u64(PAGE_ROWS));
        let sane = bounds.is_some_and(|(least, most)| (least..=most).contains(&footer.table_at))
            && footer.table_at.checked_rem(to_u64(PAGE_LEN)) == Some(0)
            && footer.packs <= to_u64(Entry::MAX_PACKS)
            && footer.length() == length
            && footer.entries <= full;
        if sane {
            Ok(footer)
        } else {
            Err(view.damaged(48, "its parts do not add up to the file"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footer() -> SegmentFooter {
        SegmentFooter {
            segment: SegmentId([1; 16]),
            store: [2; 16],
            entries: 130,
            blocks: Blocks { pages: 2 },
            table_at: 4 * 4096,
            packs: 128,
            keys_sum: [3; 16],
        }
    }

    #[test]
    fn golden_bytes_and_every_flipped_bit_is_found() {
        let footer = footer();
        assert_eq!(footer.length(), 6 * 4096 + 8 + 256);
        let mut bytes = footer.encode();
        assert_eq!(bytes.len(), FOOTER_LEN);
        assert_eq!(bytes[..12], *b"CAIRNIDX\x02\0\0\0");
        assert_eq!(bytes[48..50], [130, 0]);
        assert_eq!(bytes[80..96], [3; 16]);
        let length = footer.length();
        assert_eq!(SegmentFooter::decode(&bytes, length).unwrap(), footer);
        for at in 0..FOOTER_LEN {
            bytes[at] ^= 1;
            assert!(SegmentFooter::decode(&bytes, length).is_err(), "byte {at}");
            bytes[at] ^= 1;
        }
    }

    #[test]
    fn parts_that_do_not_add_up_are_refused() {
        let huge = Blocks {
            pages: u64::MAX / 2,
        };
        let wrong = [
            SegmentFooter {
                blocks: huge,
                ..footer()
            },
            SegmentFooter {
                entries: 255,
                ..footer()
            },
            SegmentFooter {
                table_at: 4096,
                ..footer()
            },
            SegmentFooter {
                table_at: 4 * 4096 + 1,
                ..footer()
            },
            SegmentFooter {
                table_at: 30 * 4096,
                ..footer()
            },
            SegmentFooter {
                packs: (1 << 24) + 1,
                ..footer()
            },
        ];
        for footer in wrong {
            let bytes = footer.encode();
            assert!(SegmentFooter::decode(&bytes, footer.length()).is_err());
        }
        let right = footer();
        assert!(SegmentFooter::decode(&right.encode(), right.length() + 1).is_err());
    }
}
