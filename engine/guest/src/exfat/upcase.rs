//! The up-case table as it is stored: units in order, runs of units that are their own capital letters left out (specification, section 7.2).

use crate::ntfs::upcase::UpCase;

/// Bytes of a table at most: one unit for each there is.
pub const MAX_BYTES: u64 = 128 << 10;
/// What stands before the length of a run that is left out.
const RUN: u16 = 0xFFFF;
/// Units of a table.
const UNITS: usize = 65_536;

/// The checksum of a table.
pub fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0u32, |sum, byte| {
        sum.rotate_right(1).wrapping_add(u32::from(*byte))
    })
}

/// The table in `bytes`. What it does not reach are their own capital letters.
pub fn decode(bytes: &[u8]) -> UpCase {
    let mut table: Vec<u16> = Vec::with_capacity(UNITS);
    let mut units = bytes.chunks_exact(2).filter_map(|unit| {
        let unit = unit.first_chunk()?;
        Some(u16::from_le_bytes(*unit))
    });
    while table.len() < UNITS {
        let Some(unit) = units.next() else { break };
        if unit != RUN {
            table.push(unit);
            continue;
        }
        let Some(length) = units.next() else { break };
        for _ in 0..length {
            match u16::try_from(table.len()) {
                Ok(same) => table.push(same),
                Err(_) => break,
            }
        }
    }
    let plain: Vec<u8> = table.iter().flat_map(|unit| unit.to_le_bytes()).collect();
    UpCase::from_table(&plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_their_own_capital_letters() {
        let bytes: Vec<u8> = [RUN, 0x61, 0x41, 0x42]
            .iter()
            .flat_map(|unit: &u16| unit.to_le_bytes())
            .collect();
        let table = decode(&bytes);
        assert_eq!(table.upper(0x60), 0x60);
        assert_eq!((table.upper(0x61), table.upper(0x62)), (0x41, 0x42));
        assert_eq!((table.upper(0x63), table.upper(0xFFFF)), (0x63, 0xFFFF));
        // Longer than any table, and cut short.
        let runs: Vec<u8> = [RUN; 40]
            .iter()
            .flat_map(|unit| unit.to_le_bytes())
            .collect();
        assert_eq!(decode(&runs).upper(0xFFFE), 0xFFFE);
        assert_eq!(decode(&[0xFF, 0xFF, 3]).upper(7), 7);
        assert_eq!(checksum(&[1, 2]), 0x8000_0002);
    }
}
