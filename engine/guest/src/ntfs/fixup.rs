//! Update sequences: the last two bytes of every 512 of a record are kept apart, so that a torn write shows.

use cairn_base::{Result, View};

/// What one fix-up protects, whatever the sector size of the disk.
const STRIDE: usize = 512;

/// Puts the protected bytes of a record back in place.
///
/// `bytes` is the whole record with its header: offset and count of the update sequence array at 4 and 6.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if the array does not fit the record, or a part of the record is
/// older or newer than the rest.
pub fn apply(bytes: &mut [u8], what: &'static str, base: u64) -> Result<()> {
    let view = View::new(bytes, what, base);
    let start = usize::from(view.u16_le(4)?);
    let count = usize::from(view.u16_le(6)?);
    let blocks = bytes.len().checked_div(STRIDE).unwrap_or(0);
    if count == 0 || count.saturating_sub(1) != blocks {
        return Err(view.damaged(6, "the update sequence does not fit the record"));
    }
    let array: Vec<[u8; 2]> = view
        .slice(start, count.saturating_mul(2))?
        .chunks_exact(2)
        .filter_map(|pair| pair.try_into().ok())
        .collect();
    let Some((check, originals)) = array.split_first() else {
        return Err(view.damaged(6, "the update sequence is empty"));
    };
    let torn = bytes
        .chunks_exact(STRIDE)
        .any(|block| block.last_chunk::<2>() != Some(check));
    if torn {
        return Err(View::new(bytes, what, base).damaged(start, "written in part (torn)"));
    }
    for (block, original) in bytes.chunks_exact_mut(STRIDE).zip(originals) {
        if let Some(tail) = block.last_chunk_mut::<2>() {
            *tail = *original;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Vec<u8> {
        let mut bytes = vec![0u8; 1024];
        bytes[4..8].copy_from_slice(&[48, 0, 3, 0]);
        bytes[48..54].copy_from_slice(&[7, 7, 1, 2, 3, 4]);
        bytes[510..512].copy_from_slice(&[7, 7]);
        bytes[1022..1024].copy_from_slice(&[7, 7]);
        bytes
    }

    #[test]
    fn a_whole_record_is_mended_and_a_torn_one_refused() {
        let mut good = record();
        apply(&mut good, "record", 0).unwrap();
        assert_eq!(
            (&good[510..512], &good[1022..]),
            (&[1u8, 2][..], &[3u8, 4][..])
        );
        let mut torn = record();
        torn[1023] = 8;
        assert!(
            apply(&mut torn, "record", 0)
                .unwrap_err()
                .to_string()
                .contains("torn")
        );
        let mut short = record();
        short[6] = 2;
        assert!(apply(&mut short, "record", 0).is_err());
        let mut outside = record();
        outside[4..6].copy_from_slice(&[0xFF, 3]);
        assert!(apply(&mut outside, "record", 0).is_err());
    }
}
