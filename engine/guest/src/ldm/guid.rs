//! Ids of disks, groups and volumes.

use std::fmt;

/// A GUID as LDM writes it: in a header as text, in a record as these bytes in the order in which the text has them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// From text with hyphens; `None` if it is none.
    pub(super) fn of_text(text: &str) -> Option<Guid> {
        let digits: String = text.trim().split('-').collect();
        let is_hexadecimal = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let number = is_hexadecimal.then(|| u128::from_str_radix(&digits, 16).ok())?;
        number.map(|number| Guid(number.to_be_bytes()))
    }

    /// Its bytes as Windows has them in memory and on a GPT: those of each of the first three groups the other way round.
    pub fn turned(self) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h, rest @ ..] = self.0;
        let [i, j, k, l, m, n, o, p] = rest;
        [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
