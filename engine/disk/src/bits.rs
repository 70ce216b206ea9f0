//! Bitmaps with a bit for each sector of a block.

use cairn_base::units::to_u64;
use std::ops::{ControlFlow, Range};

/// Which bit of a byte belongs to the first of its eight sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// The highest (VHD).
    HighFirst,
    /// The lowest (VHDX).
    LowFirst,
}

/// A bitmap, or a piece of one.
pub(crate) struct Bits<'a> {
    bytes: &'a [u8],
    first: u64,
    order: Order,
}

impl Bits<'_> {
    /// The bits in `bytes`, of which the first stands for sector `first`, a multiple of 8.
    pub(crate) fn new(bytes: &[u8], first: u64, order: Order) -> Bits<'_> {
        Bits {
            bytes,
            first,
            order,
        }
    }

    /// Calls `each` for every run of sectors of `range` that are all set or all clear, as long as it wants more: first sector,
    /// number, set or not. Sectors that the bitmap does not reach count as clear.
    pub(crate) fn runs(
        &self,
        range: Range<u64>,
        mut each: impl FnMut(u64, u64, bool) -> ControlFlow<()>,
    ) {
        let mut at = range.start;
        while at < range.end {
            let set = self.is_set(at);
            let start = at;
            while at < range.end && self.is_set(at) == set {
                // Whole bytes at once: bitmaps are mostly all ones.
                let alike = if set { 0xff } else { 0 };
                let step = match at.is_multiple_of(8) {
                    true => self.alike(at, alike).saturating_mul(8).max(1),
                    false => 1,
                };
                at = at.saturating_add(step).min(range.end);
            }
            if each(start, at.saturating_sub(start), set).is_break() {
                return;
            }
        }
    }

    /// Whether the bits of all sectors of `range` are set.
    pub(crate) fn is_full(&self, range: Range<u64>) -> bool {
        let mut full = true;
        self.runs(range, |_, _, set| {
            full = set;
            match set {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        full
    }

    /// How many bytes from that of `sector` on are `byte`; behind the end of the bitmap one is, if it is 0.
    fn alike(&self, sector: u64, byte: u8) -> u64 {
        let rest = self.index(sector).and_then(|at| self.bytes.get(at..));
        match rest {
            Some(rest) if !rest.is_empty() => {
                let other = rest.iter().position(|found| *found != byte);
                to_u64(other.unwrap_or(rest.len()))
            }
            _ => u64::from(byte == 0),
        }
    }

    fn index(&self, sector: u64) -> Option<usize> {
        let bit = sector.checked_sub(self.first)?;
        usize::try_from(bit >> 3).ok()
    }

    fn byte(&self, sector: u64) -> u8 {
        let index = self.index(sector);
        index
            .and_then(|at| self.bytes.get(at).copied())
            .unwrap_or(0)
    }

    fn is_set(&self, sector: u64) -> bool {
        let bit = match self.order {
            Order::HighFirst => 0x80 >> (sector & 7),
            Order::LowFirst => 1 << (sector & 7),
        };
        self.byte(sector) & bit != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn which_bit_is_first() {
        let seen = |order| {
            let mut seen = Vec::new();
            Bits::new(&[0b1000_0011, 0xff, 0], 8, order).runs(8..28, |at, count, set| {
                seen.push((at, count, set));
                ControlFlow::Continue(())
            });
            seen
        };
        assert_eq!(
            seen(Order::HighFirst),
            [(8, 1, true), (9, 5, false), (14, 10, true), (24, 4, false)]
        );
        assert_eq!(
            seen(Order::LowFirst),
            [(8, 2, true), (10, 5, false), (15, 9, true), (24, 4, false)]
        );
        let bits = |bytes| Bits::new(bytes, 0, Order::HighFirst);
        assert!(bits(&[0xff, 0xe0]).is_full(0..11));
        assert!(!bits(&[0xff, 0xe0]).is_full(0..12));
        assert!(!bits(&[0xff]).is_full(0..9));
        let mut calls = 0;
        bits(&[0xAA; 100]).runs(0..800, |_, _, _| {
            calls += 1;
            if calls < 3 {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        assert_eq!(calls, 3);
    }

    proptest! {
        #[test]
        fn runs_say_what_the_bits_say(bitmap in proptest::collection::vec(prop_oneof![Just(0u8), Just(0xff), any::<u8>()], 0..20), start in 0u64..200, length in 0u64..200, low: bool) {
            let mut expected_at = start;
            let mut last = None;
            let order = if low { Order::LowFirst } else { Order::HighFirst };
            Bits::new(&bitmap, 0, order).runs(start..start + length, |at, count, set| {
                assert_eq!(at, expected_at);
                assert!(count > 0);
                assert_ne!(last, Some(set));
                last = Some(set);
                for sector in at..at + count {
                    let byte = bitmap.get(sector as usize / 8).copied().unwrap_or(0);
                    let shift = if low { sector % 8 } else { 7 - sector % 8 };
                    assert_eq!(byte >> shift & 1 == 1, set);
                }
                expected_at = at + count;
                ControlFlow::Continue(())
            });
            assert_eq!(expected_at, start + length);
        }
    }
}
