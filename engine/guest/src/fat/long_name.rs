//! Long names: up to 20 entries before the one with the 8.3 name, last part first (Microsoft FAT specification, section 7).

use cairn_base::{Result, View};

/// Units of a name in one entry.
const PART: usize = 13;
/// Entries of a name at most.
const MAX_PARTS: u8 = 20;

/// A long name while its entries are gone over.
pub struct LongName {
    units: Vec<u16>,
    /// The entry that comes next must have this number; 0: the name is whole.
    waits_for: u8,
    checksum: u8,
    start: u64,
}

impl LongName {
    /// Nothing yet.
    pub fn new() -> LongName {
        LongName {
            units: Vec::new(),
            waits_for: 0,
            checksum: 0,
            start: 0,
        }
    }

    /// Forgets the entries that were added.
    pub fn clear(&mut self) {
        self.units.clear();
    }

    /// Takes the entry at `index` of the folder, which must have the attributes of one. One that does not go on from the last is the end of both.
    pub fn add(&mut self, view: View<'_>, index: u64) -> Result<()> {
        let (order, checksum) = (view.u8(0)?, view.u8(13)?);
        let number = order & 0x3F;
        if order & 0x40 != 0 && (1..=MAX_PARTS).contains(&number) {
            self.units = vec![0xFFFF; PART.saturating_mul(usize::from(number))];
            self.checksum = checksum;
            self.start = index;
        } else if self.units.is_empty() || number != self.waits_for || checksum != self.checksum {
            self.clear();
            return Ok(());
        }
        let Some(before) = number.checked_sub(1) else {
            self.clear();
            return Ok(());
        };
        self.waits_for = before;
        let from = PART.saturating_mul(usize::from(before));
        let parts = [(1usize, 5usize), (14, 6), (28, 2)];
        let offsets = parts.iter().flat_map(|&(at, count)| {
            (0..count).map(move |unit| at.saturating_add(unit.saturating_mul(2)))
        });
        for (place, offset) in self.units.iter_mut().skip(from).zip(offsets) {
            *place = view.u16_le(offset)?;
        }
        Ok(())
    }

    /// Whether its parts have the checksum of this 8.3 name: otherwise they were left here by a writer that knows no long names.
    pub fn is_of(&self, short: [u8; 11]) -> bool {
        let sum = short
            .iter()
            .fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
        sum == self.checksum
    }

    /// The name, and the first of its entries, if it is whole. It is forgotten.
    pub fn take(&mut self) -> Option<(Vec<u16>, u64)> {
        let mut units = std::mem::take(&mut self.units);
        if units.is_empty() || self.waits_for != 0 {
            return None;
        }
        if let Some(end) = units.iter().position(|&unit| unit == 0) {
            units.truncate(end);
        }
        (!units.is_empty() && units.len() <= 255).then_some((units, self.start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(order: u8, checksum: u8, text: &str) -> [u8; 32] {
        let mut bytes = [0xFF; 32];
        bytes[0] = order;
        bytes[13] = checksum;
        let mut units: Vec<u16> = text.encode_utf16().collect();
        if units.len() < 13 {
            units.push(0);
        }
        for (at, unit) in [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30]
            .iter()
            .zip(units)
        {
            bytes[*at..at + 2].copy_from_slice(&unit.to_le_bytes());
        }
        bytes
    }

    fn read(parts: &[[u8; 32]]) -> Option<String> {
        let mut name = LongName::new();
        for (index, bytes) in parts.iter().enumerate() {
            name.add(View::new(bytes, "part", 0), index as u64 + 5)
                .unwrap();
        }
        let (units, start) = name.take()?;
        assert!(start >= 5);
        Some(String::from_utf16(&units).unwrap())
    }

    #[test]
    fn parts_in_order_make_a_name() {
        let (last, first) = (part(0x42, 7, "ng.txt"), part(1, 7, "a name that i"));
        assert_eq!(read(&[last, first]).unwrap(), "a name that ing.txt");
        assert_eq!(
            read(&[part(0x41, 9, "thirteen12345")]).unwrap(),
            "thirteen12345"
        );
        let stale = part(0x43, 7, "old");
        assert_eq!(read(&[stale, last, first]).unwrap(), "a name that ing.txt");
    }

    #[test]
    fn parts_that_do_not_fit_make_none() {
        let (last, first) = (part(0x42, 7, "ng.txt"), part(1, 7, "a name that i"));
        assert_eq!(read(&[last]), None);
        assert_eq!(read(&[first]), None);
        assert_eq!(read(&[first, last]), None);
        assert_eq!(read(&[last, part(1, 6, "another")]), None);
        assert_eq!(read(&[part(0x40, 7, "x")]), None);
        assert_eq!(read(&[part(0x7F, 7, "x")]), None);
        assert_eq!(read(&[part(0x41, 7, "")]), None);
        assert_eq!(read(&[]), None);
    }
}
