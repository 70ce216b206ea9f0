//! XPRESS with Huffman codes, "LZ77+Huffman" ([MS-XCA] sections 2.1 and 2.2).
//!
//! 256 bytes give the lengths of 512 code words. Symbols below 256 are bytes; the others repeat what was before, with
//! four bits each for the length and for the number of bits of the distance. Lengths of 15 and more go on in bytes
//! between the words of the bit stream.

use super::bits::Bits;
use super::huffman::{Code, damaged, repeat};
use cairn_base::{Error, Result};

/// Bytes of content that one table of code words stands for ([MS-XCA] section 2.2).
pub const MAX_CONTENT: usize = 64 << 10;
/// Bytes of the table.
const TABLE: usize = 256;
/// Words up to this length are found with one look.
const QUICK_BITS: u32 = 10;

/// Fills `output` with what `input` decompresses to.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) for anything XPRESS cannot mean, input that ends too early among it,
/// [`Kind::Invalid`](cairn_base::Kind::Invalid) for more than [`MAX_CONTENT`] bytes of output.
pub fn decompress(input: &[u8], output: &mut [u8]) -> Result<()> {
    if output.len() > MAX_CONTENT {
        return Err(Error::invalid(
            "more than 64 KiB of one XPRESS block are asked for",
        ));
    }
    let (table, rest) = input
        .split_at_checked(TABLE)
        .ok_or_else(|| damaged("it is shorter than its table of code words"))?;
    let lengths: Vec<u8> = table.iter().flat_map(|&two| [two & 15, two / 16]).collect();
    let code = Code::new(&lengths, QUICK_BITS)?;
    let mut bits = Bits::new(rest);
    let mut filled = 0usize;
    while filled < output.len() {
        let symbol = code.symbol(&mut bits)?;
        if let Ok(byte) = u8::try_from(symbol) {
            if let Some(place) = output.get_mut(filled) {
                *place = byte;
            }
            filled = filled.saturating_add(1);
            continue;
        }
        // The words read until now are the same whether 16 bits are asked for here or with the distance; the bytes of
        // the length stand behind them.
        bits.peek();
        let length = length(&mut bits, symbol & 15)?;
        let distance_bits = u32::from((symbol / 16) & 15);
        let distance = 1usize.wrapping_shl(distance_bits) | usize::from(bits.take(distance_bits));
        repeat(output, filled, distance, length)?;
        filled = filled.saturating_add(length);
    }
    if bits.overrun() {
        return Err(damaged("it ends before its content does"));
    }
    Ok(())
}

/// The length of a repetition whose symbol says `low`, 0 to 15.
fn length(bits: &mut Bits<'_>, low: u16) -> Result<usize> {
    let mut length = usize::from(low);
    if low == 15 {
        let byte = bits.byte();
        length = length.saturating_add(usize::from(byte));
        if byte == 255 {
            length = usize::from(u16::from_le_bytes(bits.array()));
            if length < 15 {
                return Err(damaged("a long match is too short"));
            }
        }
    }
    Ok(length.saturating_add(3))
}

#[cfg(test)]
mod tests;
