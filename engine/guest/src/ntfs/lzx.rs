//! LZX as Windows' own compression of files and WIM archives use it: as in [MS-PATCH] (LZX DELTA), without reference
//! data, with a window of 32 KiB, each chunk by itself.
//!
//! A chunk is a row of blocks: verbatim, aligned (the lowest three bits of distances have a code of their own) or
//! not compressed. Unlike in cabinet files, there is no bit that says whether the targets of x86's CALL are
//! translated: they always are, as in a file of 12,000,000 bytes.

use super::bits::Bits;
use super::huffman::{Code, damaged, repeat};
use cairn_base::{Error, Result};

/// The longest content of a chunk, in bytes: as much as the window.
pub const MAX_CONTENT: usize = 32 << 10;
/// Symbols that are bytes.
const BYTES: usize = 256;
/// Ranges of distances ("position slots") in a window of 32 KiB.
const SLOTS: usize = 30;
/// Symbols of the main code: bytes, and eight lengths for each slot.
const MAIN: usize = BYTES + 8 * SLOTS;
/// Symbols of the code for long lengths.
const LENGTHS: usize = 249;
/// Symbols of the code that other codes' lengths are written with.
const PRE: usize = 20;
/// Symbols of the code for the lowest bits of distances.
const ALIGNED: usize = 8;
/// The shortest match.
const MIN_MATCH: usize = 2;
/// What the targets of calls were translated with.
const FILE_SIZE: i32 = 12_000_000;
/// Calls that begin in the last bytes are not translated.
const UNTRANSLATED: usize = 10;

/// Fills `output` with what `input` decompresses to.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) for anything LZX cannot mean, input that ends too early among it,
/// [`Kind::Invalid`](cairn_base::Kind::Invalid) for more than [`MAX_CONTENT`] bytes of output.
pub fn decompress(input: &[u8], output: &mut [u8]) -> Result<()> {
    if output.len() > MAX_CONTENT {
        return Err(Error::invalid(
            "more than 32 KiB of one LZX chunk are asked for",
        ));
    }
    let mut chunk = Chunk {
        bits: Bits::new(input),
        output,
        filled: 0,
        recent: [1; 3],
        main: [0; MAIN],
        lengths: [0; LENGTHS],
    };
    while chunk.filled < chunk.output.len() {
        chunk.block()?;
    }
    if chunk.bits.overrun() {
        return Err(damaged("it ends before its content does"));
    }
    restore_calls(output);
    Ok(())
}

/// A chunk that is being decompressed.
struct Chunk<'a> {
    bits: Bits<'a>,
    output: &'a mut [u8],
    filled: usize,
    /// The latest three distances.
    recent: [u32; 3],
    /// Lengths of the last block's code words, which the next block's are told relative to.
    main: [u8; MAIN],
    lengths: [u8; LENGTHS],
}

/// The codes of a block.
struct Codes {
    main: Code,
    lengths: Code,
    aligned: Option<Code>,
}

impl Chunk<'_> {
    /// Decodes the next block: three bits of kind, and its size, for which one bit stands if it is 32 KiB.
    fn block(&mut self) -> Result<()> {
        let kind = self.bits.take(3);
        let size = if self.bits.take(1) == 1 {
            MAX_CONTENT
        } else {
            usize::from(self.bits.take(16))
        };
        let end = self.filled.saturating_add(size);
        if size == 0 || end > self.output.len() {
            return Err(damaged("a block has an impossible size"));
        }
        match kind {
            1 | 2 => {
                let codes = self.codes(kind == 2)?;
                self.compressed(&codes, end)
            }
            3 => self.plain(end),
            _ => Err(damaged("a block is of no kind")),
        }
    }

    /// A block that is not compressed: the latest distances, and its bytes; with one more if they are odd.
    fn plain(&mut self, end: usize) -> Result<()> {
        self.bits.align();
        for distance in &mut self.recent {
            *distance = u32::from_le_bytes(self.bits.array());
        }
        let length = end.saturating_sub(self.filled);
        let bytes = self.bits.bytes(length);
        match (bytes, self.output.get_mut(self.filled..end)) {
            (Some(bytes), Some(place)) => place.copy_from_slice(bytes),
            _ => return Err(damaged("a block is longer than its data")),
        }
        if length % 2 == 1 {
            // Behind the last block nothing is lost if it is missing.
            let _padding = self.bits.bytes(1);
        }
        self.filled = end;
        Ok(())
    }

    /// The codes at the start of a verbatim or an aligned block.
    fn codes(&mut self, aligned: bool) -> Result<Codes> {
        let aligned = if aligned {
            let lengths: [u8; ALIGNED] = std::array::from_fn(|_| small(self.bits.take(3)));
            Some(Code::new(&lengths, 7)?)
        } else {
            None
        };
        if let Some((bytes, matches)) = self.main.split_at_mut_checked(BYTES) {
            read_lengths(&mut self.bits, bytes)?;
            read_lengths(&mut self.bits, matches)?;
        }
        read_lengths(&mut self.bits, &mut self.lengths)?;
        Ok(Codes {
            main: Code::new(&self.main, 11)?,
            lengths: Code::new(&self.lengths, 9)?,
            aligned,
        })
    }

    /// The tokens of such a block, up to `end` of the content.
    fn compressed(&mut self, codes: &Codes, end: usize) -> Result<()> {
        while self.filled < end {
            let symbol = codes.main.symbol(&mut self.bits)?;
            if let Ok(byte) = u8::try_from(symbol) {
                if let Some(place) = self.output.get_mut(self.filled) {
                    *place = byte;
                }
                self.filled = self.filled.saturating_add(1);
                continue;
            }
            let mut length = usize::from(symbol & 7);
            if length == 7 {
                let more = codes.lengths.symbol(&mut self.bits)?;
                length = length.saturating_add(usize::from(more));
            }
            length = length.saturating_add(MIN_MATCH);
            let slot = u32::from(symbol.saturating_sub(256) / 8);
            let distance = self.distance(codes, slot)?;
            let next = self.filled.saturating_add(length);
            if next > end {
                return Err(damaged("a match is longer than its block"));
            }
            repeat(self.output, self.filled, distance, length)?;
            self.filled = next;
        }
        Ok(())
    }

    /// The distance that `slot` and the bits behind it mean; it becomes the latest.
    fn distance(&mut self, codes: &Codes, slot: u32) -> Result<usize> {
        let [first, second, third] = self.recent;
        let distance = match slot {
            0 => first,
            1 => {
                self.recent = [second, first, third];
                second
            }
            2 => {
                self.recent = [third, second, first];
                third
            }
            _ => {
                let extra = (slot / 2).saturating_sub(1);
                let base = ((slot & 1) | 2).wrapping_shl(extra);
                let offset = match &codes.aligned {
                    Some(aligned) if extra >= 3 => {
                        let high = u32::from(self.bits.take(extra.saturating_sub(3)));
                        let low = u32::from(aligned.symbol(&mut self.bits)?);
                        high.saturating_mul(8) | low
                    }
                    _ => u32::from(self.bits.take(extra)),
                };
                // 0 to 2 stand for the latest distances.
                let distance = base.saturating_add(offset).saturating_sub(2);
                self.recent = [distance, first, second];
                distance
            }
        };
        Ok(usize::try_from(distance).unwrap_or(usize::MAX))
    }
}

/// Reads the lengths of code words; `lengths` are those of the block before, to which they are told relative.
fn read_lengths(bits: &mut Bits<'_>, lengths: &mut [u8]) -> Result<()> {
    let pre: [u8; PRE] = std::array::from_fn(|_| small(bits.take(4)));
    let pre = Code::new(&pre, 7)?;
    let mut at = 0usize;
    while at < lengths.len() {
        let symbol = pre.symbol(bits)?;
        let (run, delta) = match symbol {
            17 => (usize::from(bits.take(4)).saturating_add(4), None),
            18 => (usize::from(bits.take(5)).saturating_add(20), None),
            19 => {
                let run = usize::from(bits.take(1)).saturating_add(4);
                (run, Some(pre.symbol(bits)?))
            }
            delta => (1, Some(delta)),
        };
        let end = at.saturating_add(run);
        let places = lengths
            .get_mut(at..end)
            .ok_or_else(|| damaged("more lengths of code words than there are words"))?;
        let value = match (delta, places.first()) {
            (None, _) | (_, None) => 0,
            (Some(delta), Some(before)) => u16::from(*before)
                .saturating_add(17)
                .checked_sub(delta)
                .map(|length| small(length % 17))
                .ok_or_else(|| damaged("a run of code words has no length"))?,
        };
        places.fill(value);
        at = end;
    }
    Ok(())
}

/// A number that is known to be below 256.
fn small(number: u16) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// Makes the targets of x86's CALL relative again.
fn restore_calls(output: &mut [u8]) {
    let end = output.len().saturating_sub(UNTRANSLATED);
    let mut at = 0usize;
    while let Some(found) = output
        .get(at..end)
        .and_then(|rest| rest.iter().position(|&byte| byte == 0xE8))
    {
        let call = at.saturating_add(found);
        let target = call.saturating_add(1);
        at = target.saturating_add(4);
        let Some(place) = output.get_mut(target..at) else {
            break;
        };
        let Ok(bytes) = <[u8; 4]>::try_from(&*place) else {
            break;
        };
        let position = i32::try_from(call).unwrap_or(i32::MAX);
        let absolute = i32::from_le_bytes(bytes);
        let relative = if absolute >= 0 {
            (absolute < FILE_SIZE).then(|| absolute.saturating_sub(position))
        } else {
            (absolute >= position.saturating_neg()).then(|| absolute.saturating_add(FILE_SIZE))
        };
        if let Some(relative) = relative {
            place.copy_from_slice(&relative.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests;
