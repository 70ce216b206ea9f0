//! The canonical holes of a region: maximal runs of zeros, aligned to 4 KiB of the disk, at least 16 KiB long or
//! reaching the region's end. Shorter zeros are data. The same bytes always give the same holes, whatever the image
//! said was allocated.

use std::ops::Range;

/// Zeros are looked for in blocks of this many bytes.
pub const BLOCK: usize = 4096;
/// A run of zeros shorter than this is data, unless it reaches the region's end.
pub const MIN_HOLE: usize = 16 << 10;

/// Whether all bytes are zero. The compiler vectorises the inner loop.
pub fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<64>();
    // Data differs from zero almost at once: look at one line before the wide scan.
    if let Some(first) = chunks.first()
        && first.iter().any(|byte| *byte != 0)
    {
        return false;
    }
    chunks
        .chunks(16)
        .all(|group| group.iter().flatten().fold(0u8, |sum, byte| sum | byte) == 0)
        && rest.iter().all(|byte| *byte == 0)
}

/// The holes of a region, ascending: every other byte of it is data.
///
/// `known_zero` are ascending ranges that are zeros for sure (not allocated in the image); they are not looked at.
pub fn canonical_holes(region: &[u8], known_zero: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut known = known_zero.iter().peekable();
    let zero = region.chunks(BLOCK).enumerate().map(|(index, block)| {
        let start = index * BLOCK;
        let end = start + block.len();
        while known.next_if(|range| range.end <= start).is_some() {}
        let certain = known
            .peek()
            .is_some_and(|range| range.start <= start && end <= range.end);
        certain || is_zero(block)
    });
    holes_of_blocks(zero, region.len())
}

/// The holes of a region of `length` bytes, of whose blocks is known which are zeros.
pub fn holes_of_blocks(zero: impl IntoIterator<Item = bool>, length: usize) -> Vec<Range<usize>> {
    let mut holes: Vec<Range<usize>> = Vec::new();
    let mut run: Option<usize> = None;
    let mut close = |run: &mut Option<usize>, end: usize| {
        if let Some(start) = run.take()
            && (end - start >= MIN_HOLE || end == length)
        {
            holes.push(start..end);
        }
    };
    for (index, zero) in zero.into_iter().enumerate() {
        if zero {
            run.get_or_insert(index * BLOCK);
        } else {
            close(&mut run, index * BLOCK);
        }
    }
    close(&mut run, length);
    holes
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn short_zeros_are_data_unless_at_the_end() {
        let mut region = vec![1u8; 100 * BLOCK];
        region[BLOCK..4 * BLOCK].fill(0);
        assert_eq!(canonical_holes(&region, &[]), []);
        region[4 * BLOCK..5 * BLOCK].fill(0);
        assert_eq!(canonical_holes(&region, &[]), [BLOCK..5 * BLOCK]);
        region[99 * BLOCK..].fill(0);
        assert_eq!(
            canonical_holes(&region, &[]),
            [BLOCK..5 * BLOCK, 99 * BLOCK..100 * BLOCK]
        );
        region[BLOCK + 17] = 1;
        assert_eq!(canonical_holes(&region, &[]), [99 * BLOCK..100 * BLOCK]);
    }

    #[test]
    fn an_odd_end_counts() {
        let mut region = vec![0u8; 3 * BLOCK + 5];
        assert_eq!(canonical_holes(&region, &[]), [0..3 * BLOCK + 5]);
        region[3 * BLOCK + 4] = 1;
        assert_eq!(canonical_holes(&region, &[]), []);
        assert_eq!(canonical_holes(&[], &[]), []);
    }

    proptest! {
        #[test]
        fn what_is_known_changes_nothing(
            blocks in proptest::collection::vec(0u8..3, 1..60),
            cut in 0usize..BLOCK,
        ) {
            // 0: allocated zeros, 1: data, 2: not allocated
            let mut region: Vec<u8> = blocks.iter().flat_map(|b| vec![u8::from(*b == 1); BLOCK]).collect();
            region.truncate(region.len() - cut);
            let known: Vec<_> = blocks.iter().enumerate().filter(|(_, b)| **b == 2)
                .map(|(i, _)| i * BLOCK..((i + 1) * BLOCK).min(region.len())).collect();
            prop_assert_eq!(canonical_holes(&region, &known), canonical_holes(&region, &[]));
        }

        #[test]
        fn zero_means_zero(length in 0usize..3000, at in 0usize..3000) {
            let mut bytes = vec![0u8; length];
            prop_assert!(is_zero(&bytes));
            if at < length {
                bytes[at] = 1;
                prop_assert!(!is_zero(&bytes));
            }
        }
    }
}
