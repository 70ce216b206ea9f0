//! `$UpCase`: how a volume compares names.

use std::cmp::Ordering;

/// Units in the table.
const UNITS: usize = 65_536;

/// The volume's table of capital letters.
pub struct UpCase {
    table: Vec<u16>,
    is_substitute: bool,
}

impl UpCase {
    /// The table as stored: little-endian units, 128 KiB. Shorter ones are filled up with the units themselves.
    pub fn from_table(bytes: &[u8]) -> UpCase {
        let mut table = super::attribute::units(bytes);
        table.truncate(UNITS);
        let have = u32::try_from(table.len()).unwrap_or(u32::MAX);
        table.extend((have..=0xFFFF).filter_map(|unit| u16::try_from(unit).ok()));
        UpCase {
            table,
            is_substitute: false,
        }
    }

    /// A table made from Unicode, for volumes whose own cannot be read.
    pub fn built_in() -> UpCase {
        let table = (0..=0xFFFFu16)
            .map(|unit| {
                let Some(letter) = char::from_u32(u32::from(unit)) else {
                    return unit;
                };
                let mut upper = letter.to_uppercase();
                match (upper.next(), upper.next()) {
                    (Some(only), None) => u16::try_from(u32::from(only)).unwrap_or(unit),
                    _ => unit,
                }
            })
            .collect();
        UpCase {
            table,
            is_substitute: true,
        }
    }

    /// Whether it is not the volume's own, so that names on the volume may be in another order than it says.
    pub fn is_substitute(&self) -> bool {
        self.is_substitute
    }

    /// The capital letter of a unit; itself if it has none.
    pub fn upper(&self, unit: u16) -> u16 {
        self.table.get(usize::from(unit)).copied().unwrap_or(unit)
    }

    /// A name in capital letters.
    pub fn uppercase(&self, units: &[u16]) -> Vec<u16> {
        units.iter().map(|&unit| self.upper(unit)).collect()
    }

    /// Compares without regard to case.
    pub fn compare(&self, left: &[u16], right: &[u16]) -> Ordering {
        self.compare_units(left.iter().copied(), right.iter().copied())
    }

    fn compare_units(
        &self,
        left: impl Iterator<Item = u16>,
        right: impl Iterator<Item = u16>,
    ) -> Ordering {
        let left = left.map(|unit| self.upper(unit));
        left.cmp(right.map(|unit| self.upper(unit)))
    }

    /// Compares without regard to case, and in the order of a folder's index (COLLATION_FILE_NAME): without regard to case, then with it.
    pub fn collate(
        &self,
        left: impl Iterator<Item = u16> + Clone,
        right: impl Iterator<Item = u16> + Clone,
    ) -> (Ordering, Ordering) {
        let loose = self.compare_units(left.clone(), right.clone());
        (loose, loose.then_with(|| left.cmp(right)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_matters_last() {
        let table = UpCase::built_in();
        let units = |text: &str| text.encode_utf16().collect::<Vec<_>>();
        assert_eq!(
            table.compare(&units("straße.TXT"), &units("STRAßE.txt")),
            Ordering::Equal
        );
        let collate =
            |left: &str, right: &str| table.collate(left.encode_utf16(), right.encode_utf16());
        assert_eq!(collate("B", "a"), (Ordering::Greater, Ordering::Greater));
        assert_eq!(collate("A", "a"), (Ordering::Equal, Ordering::Less));
        assert_eq!(collate("a", "a"), (Ordering::Equal, Ordering::Equal));
        assert_eq!(table.compare(&units("ab"), &units("a")), Ordering::Greater);
        let short = UpCase::from_table(&[0, 0, 9, 0]);
        assert_eq!(short.upper(1), 9);
        assert_eq!(short.upper(0xFFFF), 0xFFFF);
        assert_eq!(short.table.len(), UNITS);
    }
}
