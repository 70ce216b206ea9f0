//! Maps of bits: `$Bitmap` of clusters, and the file table's map of records in use.

use cairn_base::units::to_u64;
use cairn_base::{ReadAt, Result};
use std::ops::{ControlFlow, Range};

/// Bytes read at once.
const STEP: usize = 256 << 10;

/// Tells `sink` the ranges of bits that are clear, among the first `bits`. Bits that the map does not have count
/// as set.
pub fn clear_ranges(
    map: &dyn ReadAt,
    bits: u64,
    sink: &mut dyn FnMut(Range<u64>) -> ControlFlow<()>,
) -> Result<()> {
    let bits = bits.min(map.size().saturating_mul(8));
    let mut buffer = vec![0u8; STEP];
    let mut open: Option<u64> = None;
    let mut at = 0u64;
    while at < bits.div_ceil(8) {
        let left = usize::try_from(map.size().saturating_sub(at)).unwrap_or(usize::MAX);
        let Some(piece) = buffer.get_mut(..left.min(STEP)) else {
            break;
        };
        map.read_exact_at(at, piece)?;
        let mut first_bit = at.saturating_mul(8);
        at = at.saturating_add(to_u64(piece.len()));
        for bytes in piece.chunks(8) {
            // Beyond the end all bits count as set.
            let mut word = [0xFF; 8];
            if let Some(head) = word.get_mut(..bytes.len()) {
                head.copy_from_slice(bytes);
            }
            if word_ranges(u64::from_le_bytes(word), first_bit, bits, &mut open, sink).is_break() {
                return Ok(());
            }
            first_bit = first_bit.saturating_add(64);
        }
    }
    if let Some(start) = open.filter(|&start| start < bits) {
        let _ = sink(start..bits);
    }
    Ok(())
}

/// Goes over 64 bits; `open` is where a range of clear bits began that is not over yet.
fn word_ranges(
    word: u64,
    first_bit: u64,
    bits: u64,
    open: &mut Option<u64>,
    sink: &mut dyn FnMut(Range<u64>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut done = 0u32;
    while done < 64 {
        let rest = word.checked_shr(done).unwrap_or(0);
        let here = first_bit.saturating_add(u64::from(done));
        match *open {
            None => {
                let set = rest.trailing_ones();
                done = done.saturating_add(set);
                if done >= 64 {
                    break;
                }
                *open = Some(here.saturating_add(u64::from(set)));
            }
            Some(start) => {
                let clear = rest.trailing_zeros();
                done = done.saturating_add(clear);
                if done >= 64 {
                    break;
                }
                let end = here.saturating_add(u64::from(clear)).min(bits);
                *open = None;
                if start < end {
                    sink(start..end)?;
                }
            }
        }
    }
    ControlFlow::Continue(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_are_the_clear_bits(map in proptest::collection::vec(prop_oneof![Just(0u8), Just(0xFF), any::<u8>()], 0..60), bits in 0u64..600) {
            let mut found = Vec::new();
            clear_ranges(&map, bits, &mut |range| { found.push(range); ControlFlow::Continue(()) }).unwrap();
            let mut expected: Vec<Range<u64>> = Vec::new();
            for bit in 0..bits.min(map.len() as u64 * 8) {
                if map[(bit / 8) as usize] >> (bit % 8) & 1 == 0 {
                    match expected.last_mut() {
                        Some(last) if last.end == bit => last.end = bit + 1,
                        _ => expected.push(bit..bit + 1),
                    }
                }
            }
            prop_assert_eq!(found, expected);
        }
    }
}
