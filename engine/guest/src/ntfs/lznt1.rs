//! LZNT1, the compression of NTFS ([MS-XCA] section 2.5).
//!
//! Chunks of up to 4096 bytes of content, each behind a header of two bytes: 12 bits of length less one, three
//! bits of signature, one bit "compressed". In a compressed chunk a byte of flags stands before each eight
//! tokens: a literal byte, or two bytes of distance and length whose border moves as the chunk fills.

use cairn_base::{Error, Result};

/// Content of a full chunk.
const CHUNK: usize = 4096;

/// Fills `output` with what `input` decompresses to; what `input` does not reach reads as zeros.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) for anything LZNT1 cannot mean.
pub fn decompress(input: &[u8], output: &mut [u8]) -> Result<()> {
    let mut rest = input;
    let mut ended = false;
    let mut chunk = Vec::with_capacity(CHUNK);
    for target in output.chunks_mut(CHUNK) {
        let header = match rest {
            [low, high, ..] if !ended => u16::from_le_bytes([*low, *high]),
            _ => 0,
        };
        if header == 0 {
            ended = true;
            target.fill(0);
            continue;
        }
        if header & 0x7000 != 0x3000 {
            return Err(damaged("a chunk has no signature"));
        }
        let length = usize::from(header & 0x0FFF).saturating_add(1);
        let end = length.saturating_add(2);
        let body = rest
            .get(2..end)
            .ok_or_else(|| damaged("a chunk is longer than its data"))?;
        rest = rest.get(end..).unwrap_or(&[]);
        chunk.clear();
        if header & 0x8000 == 0 {
            chunk.extend_from_slice(body);
        } else {
            expand(body, &mut chunk)?;
        }
        if chunk.len() > CHUNK {
            return Err(damaged("a chunk holds more than 4096 bytes"));
        }
        chunk.resize(CHUNK, 0);
        if let Some(content) = chunk.get(..target.len()) {
            target.copy_from_slice(content);
        }
    }
    Ok(())
}

fn expand(body: &[u8], chunk: &mut Vec<u8>) -> Result<()> {
    let mut input = body.iter().copied();
    while let Some(flags) = input.next() {
        for bit in [1u8, 2, 4, 8, 16, 32, 64, 128] {
            let Some(first) = input.next() else {
                return Ok(());
            };
            if flags & bit == 0 {
                if chunk.len() >= CHUNK {
                    return Err(damaged("a chunk holds more than 4096 bytes"));
                }
                chunk.push(first);
                continue;
            }
            let second = input
                .next()
                .ok_or_else(|| damaged("a chunk ends within a token"))?;
            copy(u16::from_le_bytes([first, second]), chunk)?;
        }
    }
    Ok(())
}

/// Repeats earlier content as the token says.
fn copy(token: u16, chunk: &mut Vec<u8>) -> Result<()> {
    let filled = chunk.len();
    // Bits of distance: 4, and one more each time the chunk has doubled beyond 16 bytes.
    let mut distance_bits = 4u32;
    while distance_bits < 12 && filled > 1usize.checked_shl(distance_bits).unwrap_or(usize::MAX) {
        distance_bits = distance_bits.saturating_add(1);
    }
    let length_bits = 16u32.saturating_sub(distance_bits);
    let mask = u16::MAX.checked_shr(distance_bits).unwrap_or(0);
    let length = usize::from(token & mask).saturating_add(3);
    let distance = usize::from(token.checked_shr(length_bits).unwrap_or(0)).saturating_add(1);
    let start = filled
        .checked_sub(distance)
        .ok_or_else(|| damaged("a token points before its chunk"))?;
    if filled.saturating_add(length) > CHUNK {
        return Err(damaged("a chunk holds more than 4096 bytes"));
    }
    if distance >= length {
        chunk.extend_from_within(start..start.saturating_add(length));
    } else {
        // The copy overlaps what it writes.
        for from in start..start.saturating_add(length) {
            if let Some(&byte) = chunk.get(from) {
                chunk.push(byte);
            }
        }
    }
    Ok(())
}

fn damaged(why: &'static str) -> Error {
    Error::damaged(format!("compressed data: {why}"))
}

#[cfg(test)]
mod tests;
