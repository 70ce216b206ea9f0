//! Canonical prefix codes of up to 16 bits, as XPRESS Huffman ([MS-XCA] section 2.2) and LZX ([MS-PATCH]) have them:
//! words ascend with their lengths, and with the symbols among those of one length.

use super::bits::Bits;
use cairn_base::{Error, Result};

/// The longest code word in bits.
const LONGEST: usize = 16;
/// As many places as there are words of 16 bits.
const PLACES: u32 = 1 << LONGEST;

/// A code, made for decoding: one look at a table for short words, a few comparisons for long ones.
pub struct Code {
    /// Bits that the table is asked with.
    quick_bits: u32,
    /// By the next `quick_bits` bits: symbol times 32, and length of its word; 0 for longer words.
    quick: Vec<u16>,
    /// The symbols that have words, in the order of these.
    symbols: Vec<u16>,
    /// By length: what words of 16 bits begin with the words of this length, and where their symbols begin.
    lengths: [Words; LONGEST + 1],
}

/// The words of one length.
#[derive(Clone, Copy, Default)]
struct Words {
    /// The first of them, filled up with zeros to 16 bits.
    first: u32,
    /// The first beyond them.
    end: u32,
    /// Place of the first one's symbol.
    symbols: usize,
}

impl Code {
    /// `lengths` are the lengths of the symbols' words in bits, 0 for symbols without one; `quick_bits`, 1 to 11, is
    /// how long a word is found with one look.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if no code has such words, or if some bits mean nothing. A code
    /// without words is none, but may stand where it is not used.
    pub fn new(lengths: &[u8], quick_bits: u32) -> Result<Code> {
        let mut counts = [0u32; LONGEST + 1];
        for &length in lengths {
            let count = counts
                .get_mut(usize::from(length))
                .ok_or_else(|| damaged("a code word has more than 16 bits"))?;
            *count = count.saturating_add(1);
        }
        let mut code = Code {
            quick_bits,
            quick: Vec::with_capacity(usize::try_from(1u32.wrapping_shl(quick_bits)).unwrap_or(0)),
            symbols: Vec::with_capacity(lengths.len()),
            lengths: [Words::default(); LONGEST + 1],
        };
        let mut place = 0u32;
        for ((words, &count), bits) in code.lengths.iter_mut().zip(&counts).zip(0u8..).skip(1) {
            let width = PLACES.wrapping_shr(u32::from(bits));
            let end = place.saturating_add(width.saturating_mul(count));
            *words = Words {
                first: place,
                end,
                symbols: code.symbols.len(),
            };
            if count > 0 {
                let of_this = lengths
                    .iter()
                    .zip(0u16..)
                    .filter(|(length, _)| **length == bits);
                code.symbols.extend(of_this.map(|(_, symbol)| symbol));
            }
            place = end;
        }
        if place != PLACES && !code.symbols.is_empty() {
            return Err(damaged("a code has too many words or too few"));
        }
        code.fill_quick();
        Ok(code)
    }

    /// The words ascend with their lengths, so that the table is filled from its start.
    fn fill_quick(&mut self) {
        let short = self.lengths.iter().zip(0u16..).skip(1);
        for (words, bits) in short.take_while(|(_, bits)| u32::from(*bits) <= self.quick_bits) {
            let shift = self.quick_bits.saturating_sub(u32::from(bits));
            let times = usize::try_from(1u32.wrapping_shl(shift)).unwrap_or(0);
            let width = PLACES.wrapping_shr(u32::from(bits)).max(1);
            let count = words
                .end
                .saturating_sub(words.first)
                .checked_div(width)
                .unwrap_or(0);
            let count = usize::try_from(count).unwrap_or(0);
            for symbol in self.symbols.iter().skip(words.symbols).take(count) {
                let entry = symbol.wrapping_mul(32) | bits;
                self.quick.extend(std::iter::repeat_n(entry, times));
            }
        }
        let size = usize::try_from(1u32.wrapping_shl(self.quick_bits)).unwrap_or(0);
        self.quick.resize(size, 0);
    }

    /// The next symbol.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if the code has no words.
    pub fn symbol(&self, bits: &mut Bits<'_>) -> Result<u16> {
        let next = u32::from(bits.peek());
        let quick = next.wrapping_shr(16u32.saturating_sub(self.quick_bits));
        let entry = usize::try_from(quick)
            .ok()
            .and_then(|at| self.quick.get(at))
            .copied()
            .unwrap_or(0);
        if entry != 0 {
            bits.skip(u32::from(entry & 31));
            return Ok(entry / 32);
        }
        self.long_symbol(next, bits)
    }

    fn long_symbol(&self, next: u32, bits: &mut Bits<'_>) -> Result<u16> {
        for (words, length) in self.lengths.iter().zip(0u32..) {
            if length > self.quick_bits && next < words.end {
                let shift = 16u32.saturating_sub(length);
                let number = next.saturating_sub(words.first).wrapping_shr(shift);
                let number = usize::try_from(number).unwrap_or(usize::MAX);
                let symbol = self.symbols.get(words.symbols.saturating_add(number));
                bits.skip(length);
                return symbol
                    .copied()
                    .ok_or_else(|| damaged("a code word means nothing"));
            }
        }
        Err(damaged("a code without words is used"))
    }
}

/// Repeats `length` bytes that stand `distance` before the first `filled` bytes of `output` end.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if they lie before the start or do not fit.
pub fn repeat(output: &mut [u8], filled: usize, distance: usize, length: usize) -> Result<()> {
    let start = filled
        .checked_sub(distance)
        .filter(|_| distance > 0)
        .ok_or_else(|| damaged("a match points before the start"))?;
    let end = filled
        .checked_add(length)
        .filter(|&end| end <= output.len())
        .ok_or_else(|| damaged("a match is longer than what is missing"))?;
    let mut at = filled;
    while at < end {
        // What was copied belongs to what can be copied next: twice as much each time.
        let run = at.saturating_sub(start).min(end.saturating_sub(at));
        output.copy_within(start..start.saturating_add(run), at);
        at = at.saturating_add(run);
    }
    Ok(())
}

/// Compressed data that cannot be.
pub fn damaged(why: &'static str) -> Error {
    Error::damaged(format!("compressed data: {why}"))
}

#[cfg(test)]
mod tests;
