//! The dynamic header, "Dynamic Disk Header Format": where the block table lies, and how large a block is.

use super::checksum;
use crate::align::div_up;
use cairn_base::{Result, View};

/// Bytes of the header.
pub const SIZE: usize = 1024;
/// How the header begins.
pub const COOKIE: &[u8; 8] = b"cxsparse";
/// An entry of the block table that stands for a block of zeros.
pub const UNUSED: u32 = u32::MAX;

const DATA_OFFSET: usize = 8;
const TABLE_OFFSET: usize = 16;
const VERSION: usize = 24;
const MAX_TABLE_ENTRIES: usize = 28;
const BLOCK_SIZE: usize = 32;
pub(super) const CHECKSUM: usize = 36;

/// The largest block that is read. The specification's default is 2 MiB; nobody is known to write more than 32.
const MAX_BLOCK_SIZE: u32 = 256 << 20;

/// What a dynamic header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DynamicHeader {
    /// Where the block table lies, in bytes.
    pub table_offset: u64,
    /// Entries of the block table that are used.
    pub entries: u32,
    /// Bytes of a block, a power of two, 512 to 256 MiB.
    pub block_size: u32,
}

/// What the header is called in errors.
const WHAT: &str = "VHD dynamic header";

/// Whether the checksum of the header in `bytes`, which lay at `base`, is right.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if `bytes` are too few.
pub(crate) fn checksum_holds(bytes: &[u8], base: u64) -> Result<bool> {
    let view = View::new(bytes, WHAT, base);
    Ok(view.u32_be(CHECKSUM)? == checksum(view.slice(0, SIZE)?, CHECKSUM))
}

impl DynamicHeader {
    /// Reads the header, which lay at `base`, of a disk of `disk_size` bytes.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if checksum or fields contradict the specification.
    pub fn parse(bytes: &[u8], base: u64, disk_size: u64) -> Result<DynamicHeader> {
        let header = DynamicHeader::parse_unsummed(bytes, base, disk_size)?;
        if !checksum_holds(bytes, base)? {
            let view = View::new(bytes, WHAT, base);
            return Err(view.damaged(CHECKSUM, "its checksum does not hold"));
        }
        Ok(header)
    }

    /// As [`parse`](DynamicHeader::parse), whatever the checksum is.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if fields contradict the specification.
    pub(crate) fn parse_unsummed(bytes: &[u8], base: u64, disk_size: u64) -> Result<DynamicHeader> {
        let view = View::new(bytes, WHAT, base);
        if view.slice(0, COOKIE.len())? != COOKIE {
            return Err(view.damaged(0, "does not begin with `cxsparse`"));
        }
        if view.u32_be(VERSION)? >> 16 != 1 {
            return Err(view.damaged(VERSION, "is of an unknown version"));
        }
        let block_size = view.u32_be(BLOCK_SIZE)?;
        if !block_size.is_power_of_two() || !(512..=MAX_BLOCK_SIZE).contains(&block_size) {
            return Err(view.damaged(
                BLOCK_SIZE,
                &format!(
                    "{block_size} bytes are no block size (a power of two from 512 to 256 MiB)"
                ),
            ));
        }
        let entries = view.u32_be(MAX_TABLE_ENTRIES)?;
        let needed = div_up(disk_size, u64::from(block_size)).unwrap_or(u64::MAX);
        if needed > u64::from(entries) {
            return Err(view.damaged(
                MAX_TABLE_ENTRIES,
                &format!(
                    "{entries} blocks cannot hold a disk of {disk_size} bytes, which needs {needed}"
                ),
            ));
        }
        Ok(DynamicHeader {
            table_offset: view.u64_be(TABLE_OFFSET)?,
            // Fewer than the field says if that is larger than the disk needs.
            entries: u32::try_from(needed).unwrap_or(entries),
            block_size,
        })
    }

    /// The header of a dynamic disk (no parent) as it is written, with its checksum.
    pub fn encode(&self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        let mut put = |at: usize, field: &[u8]| {
            for (to, from) in bytes.iter_mut().skip(at).zip(field) {
                *to = *from;
            }
        };
        put(0, COOKIE);
        put(DATA_OFFSET, &u64::MAX.to_be_bytes());
        put(TABLE_OFFSET, &self.table_offset.to_be_bytes());
        put(VERSION, &0x0001_0000u32.to_be_bytes());
        put(MAX_TABLE_ENTRIES, &self.entries.to_be_bytes());
        put(BLOCK_SIZE, &self.block_size.to_be_bytes());
        let sum = checksum(&bytes, CHECKSUM);
        for (to, from) in bytes.iter_mut().skip(CHECKSUM).zip(sum.to_be_bytes()) {
            *to = from;
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> DynamicHeader {
        DynamicHeader {
            table_offset: 1536,
            entries: 33,
            block_size: 2 << 20,
        }
    }

    #[test]
    fn there_and_back() {
        let bytes = sample().encode();
        assert_eq!(
            DynamicHeader::parse(&bytes, 512, 65 << 20).unwrap(),
            sample()
        );
        assert!(DynamicHeader::parse(&bytes, 512, 67 << 20).is_err());
        for at in 0..SIZE {
            let mut bytes = bytes;
            bytes[at] ^= 0x80;
            assert!(
                DynamicHeader::parse(&bytes, 512, 65 << 20).is_err(),
                "byte {at}"
            );
        }
    }

    #[test]
    fn block_sizes_are_bounded() {
        for (block_size, fine) in [
            (0, false),
            (256, false),
            (512, true),
            (513, false),
            (1 << 28, true),
            (1 << 29, false),
        ] {
            let header = DynamicHeader {
                block_size,
                ..sample()
            };
            assert_eq!(
                DynamicHeader::parse(&header.encode(), 512, 512).is_ok(),
                fine,
                "{block_size}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1100), size: u64) {
            let mut bytes = bytes;
            let _ = DynamicHeader::parse(&bytes, 0, size);
            if bytes.len() >= SIZE {
                bytes[..8].copy_from_slice(COOKIE);
                bytes[24..28].copy_from_slice(&[0, 1, 0, 0]);
                let sum = checksum(&bytes[..SIZE], CHECKSUM);
                bytes[CHECKSUM..CHECKSUM + 4].copy_from_slice(&sum.to_be_bytes());
                let _ = DynamicHeader::parse(&bytes, 0, size);
            }
        }
    }
}
