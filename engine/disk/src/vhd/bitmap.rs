//! The sector bitmap in front of each block, "Block Allocation Table and Data Blocks": a sector whose bit is clear holds
//! nothing and reads as zeros, whatever lies in its place.

use super::SECTOR;
use std::ops::Range;

/// Bytes of the bitmap of a block of `block_size` bytes, padded to a sector.
pub fn size(block_size: u32) -> u64 {
    // One bit for each sector: a byte for 4096 bytes of the block.
    u64::from(block_size)
        .div_ceil(SECTOR * 8)
        .next_multiple_of(SECTOR)
}

/// Calls `each` for every run of sectors of `range` that are all set or all clear: first sector, number, set or not.
/// Bits beyond the bitmap count as clear. The first sector of a block is the highest bit of the first byte.
pub fn runs(bitmap: &[u8], range: Range<u64>, mut each: impl FnMut(u64, u64, bool)) {
    let mut at = range.start;
    while at < range.end {
        let set = is_set(bitmap, at);
        let start = at;
        while at < range.end && is_set(bitmap, at) == set {
            // Whole bytes at once: bitmaps are mostly all ones.
            let alike = if set { 0xff } else { 0 };
            let step = if at.is_multiple_of(8) && byte(bitmap, at) == alike {
                8
            } else {
                1
            };
            at = at.saturating_add(step).min(range.end);
        }
        each(start, at.saturating_sub(start), set);
    }
}

/// Whether the first `sectors` bits are all set.
pub fn is_full(bitmap: &[u8], sectors: u64) -> bool {
    let mut full = true;
    runs(bitmap, 0..sectors, |_, _, set| full &= set);
    full
}

fn byte(bitmap: &[u8], sector: u64) -> u8 {
    usize::try_from(sector >> 3)
        .ok()
        .and_then(|at| bitmap.get(at).copied())
        .unwrap_or(0)
}

fn is_set(bitmap: &[u8], sector: u64) -> bool {
    byte(bitmap, sector) & (0x80 >> (sector & 7)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes() {
        assert_eq!(size(512), 512);
        assert_eq!(size(2 << 20), 512);
        assert_eq!(size(4 << 20), 1024);
        assert_eq!(size(256 << 20), 65536);
    }

    #[test]
    fn the_highest_bit_is_first() {
        let mut seen = Vec::new();
        runs(&[0b1000_0001, 0xff, 0], 0..20, |at, count, set| {
            seen.push((at, count, set))
        });
        assert_eq!(
            seen,
            [(0, 1, true), (1, 6, false), (7, 9, true), (16, 4, false)]
        );
        assert!(is_full(&[0xff, 0xe0], 11));
        assert!(!is_full(&[0xff, 0xe0], 12));
        assert!(!is_full(&[0xff], 9));
    }

    proptest! {
        #[test]
        fn runs_say_what_the_bits_say(bitmap in proptest::collection::vec(prop_oneof![Just(0u8), Just(0xff), any::<u8>()], 0..20), start in 0u64..200, length in 0u64..200) {
            let mut expected_at = start;
            let mut last = None;
            runs(&bitmap, start..start + length, |at, count, set| {
                assert_eq!(at, expected_at);
                assert!(count > 0);
                assert_ne!(last, Some(set));
                last = Some(set);
                for sector in at..at + count {
                    let byte = bitmap.get(sector as usize / 8).copied().unwrap_or(0);
                    assert_eq!(byte >> (7 - sector % 8) & 1 == 1, set);
                }
                expected_at = at + count;
            });
            assert_eq!(expected_at, start + length);
        }
    }
}
