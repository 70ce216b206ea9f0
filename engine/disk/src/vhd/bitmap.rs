//! The sector bitmap in front of each block, "Block Allocation Table and Data Blocks". A sector whose bit is clear lies in
//! the parent of a differencing disk; in a dynamic one it reads as zeros, whatever lies in its place. The first sector of a
//! block is the highest bit of the first byte.

use super::SECTOR;

/// Bytes of the bitmap of a block of `block_size` bytes, padded to a sector.
pub fn size(block_size: u32) -> u64 {
    // One bit for each sector: a byte for 4096 bytes of the block.
    u64::from(block_size)
        .div_ceil(SECTOR * 8)
        .next_multiple_of(SECTOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size(512), 512);
        assert_eq!(size(2 << 20), 512);
        assert_eq!(size(4 << 20), 1024);
        assert_eq!(size(256 << 20), 65536);
    }
}
