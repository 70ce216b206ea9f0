//! GUIDs as disk images keep them.

use std::fmt;

/// A 128-bit id in the order in which it is printed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// All zeros: "none" wherever a format says so.
    pub const NIL: Guid = Guid([0; 16]);

    /// From the mixed order of Windows and VHDX: the first three fields are little-endian.
    pub const fn from_windows(bytes: [u8; 16]) -> Guid {
        let [a, b, c, d, e, f, g, h, rest @ ..] = bytes;
        let [i, j, k, l, m, n, o, p] = rest;
        Guid([d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p])
    }

    /// The mixed order of Windows and VHDX.
    pub const fn to_windows(self) -> [u8; 16] {
        // Swapping twice is the same as not swapping.
        Guid::from_windows(self.0).0
    }

    /// From the digits as they are printed, without the hyphens.
    pub const fn from_printed(digits: u128) -> Guid {
        Guid(digits.to_be_bytes())
    }

    /// From text, with or without braces and hyphens; `None` if it is no GUID.
    pub fn from_text(text: &str) -> Option<Guid> {
        let text = text.trim();
        let inner = text.strip_prefix('{').and_then(|t| t.strip_suffix('}'));
        let digits: String = inner.unwrap_or(text).split('-').collect();
        let is_hexadecimal = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let number = is_hexadecimal.then(|| u128::from_str_radix(&digits, 16).ok())?;
        number.map(Guid::from_printed)
    }

    /// An id that follows from `seed`, and is another one for every purpose. It has the form of a custom one (RFC 9562, version 8).
    pub fn from_seed(purpose: &str, seed: &[u8]) -> Guid {
        let mut hasher = blake3::Hasher::new_derive_key("cairn 2026 ids of images");
        hasher.update(purpose.as_bytes()).update(&[0]).update(seed);
        let mut bytes = [0; 16];
        hasher.finalize_xof().fill(&mut bytes);
        let digits = u128::from_be_bytes(bytes);
        let digits = digits & !(0xf << 76) & !(0b11 << 62) | 0x8 << 76 | 0b10 << 62;
        Guid::from_printed(digits)
    }

    /// Whether it is all zeros.
    pub fn is_nil(&self) -> bool {
        *self == Guid::NIL
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeded_ids_stay() {
        let id = Guid::from_seed("purpose", b"seed");
        assert_eq!(id, Guid::from_seed("purpose", b"seed"));
        assert_ne!(id, Guid::from_seed("purpose", b"seeds"));
        assert_ne!(id, Guid::from_seed("purposes", b"eed"));
        assert_eq!(id.to_string(), "ec08cb3c-47e6-8eeb-9bb2-c1f9bdbabb64");
        let text = id.to_string();
        assert!(
            text[14..].starts_with('8') && "89ab".contains(&text[19..20]),
            "{text}"
        );
    }

    #[test]
    fn windows_order_there_and_back() {
        // The BAT region's GUID as it lies in a file.
        let bytes = [
            0x66, 0x77, 0xC2, 0x2D, 0x23, 0xF6, 0x00, 0x42, 0x9D, 0x64, 0x11, 0x5E, 0x9B, 0xFD,
            0x4A, 0x08,
        ];
        let guid = Guid::from_windows(bytes);
        assert_eq!(guid.to_string(), "2dc27766-f623-4200-9d64-115e9bfd4a08");
        assert_eq!(
            guid,
            Guid::from_printed(0x2DC27766_F623_4200_9D64_115E9BFD4A08)
        );
        assert_eq!(guid.to_windows(), bytes);
        for text in [
            "{2DC27766-F623-4200-9D64-115E9BFD4A08}",
            "2dc27766f62342009d64115e9bfd4a08",
        ] {
            assert_eq!(Guid::from_text(text), Some(guid));
        }
        for text in ["", "{}", "+dc27766f62342009d64115e9bfd4a08", "2dc27766"] {
            assert_eq!(Guid::from_text(text), None);
        }
    }
}
