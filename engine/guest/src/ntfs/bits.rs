//! Bits in little-endian words of 16, the highest first, with plain bytes between the words: how XPRESS Huffman
//! ([MS-XCA] section 2.2) and LZX ([MS-PATCH]) are written.

/// Reads them. Behind the end of the input all bits are 0; [`overrun`](Bits::overrun) tells of it.
pub struct Bits<'a> {
    input: &'a [u8],
    /// Where the next word begins. Goes on behind the end of the input.
    at: usize,
    /// Bits that were read ahead, in the highest places.
    ahead: u32,
    /// How many of them there are, at most 31.
    left: u32,
    /// A byte behind the end was asked for.
    missing: bool,
}

impl<'a> Bits<'a> {
    /// Begins at the start of `input`.
    pub fn new(input: &'a [u8]) -> Bits<'a> {
        Bits {
            input,
            at: 0,
            ahead: 0,
            left: 0,
            missing: false,
        }
    }

    /// The next 16 bits, which stay where they are.
    pub fn peek(&mut self) -> u16 {
        if self.left < 16 {
            let word = match self.input.get(self.at..) {
                Some([low, high, ..]) => u16::from_le_bytes([*low, *high]),
                _ => 0,
            };
            self.at = self.at.saturating_add(2);
            let place = 16u32.saturating_sub(self.left);
            self.ahead |= u32::from(word).wrapping_shl(place);
            self.left = self.left.saturating_add(16);
        }
        let [high, low, ..] = self.ahead.to_be_bytes();
        u16::from_be_bytes([high, low])
    }

    /// Passes over `count` bits, at most the 16 that were peeked at.
    pub fn skip(&mut self, count: u32) {
        self.ahead = self.ahead.wrapping_shl(count);
        self.left = self.left.saturating_sub(count);
    }

    /// The next `count` bits, 0 to 16, as a number.
    pub fn take(&mut self, count: u32) -> u16 {
        let bits = u32::from(self.peek()).wrapping_shr(16u32.saturating_sub(count));
        self.skip(count);
        u16::try_from(bits).unwrap_or(0)
    }

    /// The byte behind the words read until now.
    pub fn byte(&mut self) -> u8 {
        let byte = self.input.get(self.at).copied();
        self.missing |= byte.is_none();
        self.at = self.at.saturating_add(1);
        byte.unwrap_or(0)
    }

    /// `N` bytes behind the words read until now.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    /// `length` bytes behind the words read until now; nothing if the input ends before.
    pub fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let bytes = self.input.get(self.at..end)?;
        self.at = end;
        Some(bytes)
    }

    /// Passes over the rest of the word, or over a whole one if nothing of it was read: the 1 to 16 bits before an
    /// uncompressed block of LZX.
    pub fn align(&mut self) {
        if self.left == 0 {
            self.at = self.at.saturating_add(2);
        } else if self.left > 16 {
            // The word behind was read ahead.
            self.at = self.at.saturating_sub(2);
        }
        self.ahead = 0;
        self.left = 0;
    }

    /// Whether more was read than there is.
    pub fn overrun(&self) -> bool {
        let words = usize::try_from(self.left / 16).unwrap_or(0);
        let begun = self.at.saturating_sub(words.saturating_mul(2));
        self.missing || begun > self.input.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_little_endian_and_bits_come_from_the_top() {
        let mut bits = Bits::new(&[0x34, 0x92, 0x78, 0x56, 9, 8]);
        assert_eq!((bits.take(1), bits.take(3), bits.take(12)), (1, 1, 0x234));
        assert_eq!(bits.take(4), 5);
        // Bytes stand behind the words that were read, whatever of them is left.
        assert_eq!(bits.byte(), 9);
        assert_eq!((bits.take(0), bits.take(12)), (0, 0x678));
        assert!(!bits.overrun());
        assert_eq!(bits.byte(), 0);
        assert!(bits.overrun());
    }

    #[test]
    fn padding_is_1_to_16_bits() {
        let input = [0, 0, 1, 0, 2, 0, 3, 0];
        for (taken, behind) in [(0, 2), (1, 2), (15, 2), (16, 4), (17, 4)] {
            let mut bits = Bits::new(&input);
            for _ in 0..taken {
                bits.take(1);
            }
            bits.align();
            assert_eq!(bits.bytes(1), Some(&input[behind..=behind]), "{taken}");
        }
        // What was only read ahead is not lost.
        let mut bits = Bits::new(&input);
        bits.take(9);
        bits.peek();
        bits.align();
        assert_eq!(bits.bytes(6), Some(&input[2..]));
        assert_eq!(bits.bytes(1), None);
    }
}
