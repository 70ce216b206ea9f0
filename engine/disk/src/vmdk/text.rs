//! Text of a descriptor in the encoding that the descriptor names.

use cairn_base::{Error, Result};

/// What the bytes 0x80 to 0x9f mean in windows-1252; five of them mean nothing and are kept as they are (WHATWG "Encoding", index windows-1252).
const WINDOWS: [u16; 32] = [
    0x20ac, 0x81, 0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160, 0x2039,
    0x0152, 0x8d, 0x017d, 0x8f, 0x90, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014,
    0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0x9d, 0x017e, 0x0178,
];

/// How a descriptor is written. All that VMware is known to name have ASCII in common, so the name itself can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Encoding {
    /// `UTF-8`, and what is not said.
    Utf8,
    /// `windows-1252`; ISO 8859-1 is the same but for control characters that no name has.
    Windows1252,
    /// Another one, in which only ASCII can be read.
    Other(String),
}

impl Encoding {
    /// By its name, in letters of either case.
    pub(super) fn named(name: &str) -> Encoding {
        let lower = name.to_ascii_lowercase();
        match lower.as_str() {
            "utf-8" | "utf8" | "us-ascii" => Encoding::Utf8,
            "windows-1252" | "cp1252" | "iso-8859-1" | "latin1" => Encoding::Windows1252,
            _ => Encoding::Other(name.to_string()),
        }
    }

    /// `bytes` as text.
    ///
    /// # Errors
    /// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for letters beyond ASCII in an encoding that is not known or not kept to.
    pub(super) fn decode(&self, bytes: &[u8]) -> Result<String> {
        if bytes.is_ascii() {
            return Ok(String::from_utf8_lossy(bytes).into_owned());
        }
        match self {
            Encoding::Utf8 => String::from_utf8(bytes.to_vec()).map_err(|_| {
                Error::unsupported(format!(
                    "a name in the VMDK descriptor is not UTF-8, and no other encoding is said: `{}`",
                    bytes.escape_ascii()
                ))
            }),
            Encoding::Windows1252 => Ok(bytes.iter().map(|byte| letter(*byte)).collect()),
            Encoding::Other(name) => Err(Error::unsupported(format!(
                "the VMDK descriptor is written in `{}`, which is not read, and a name in it has other letters than ASCII: `{}`",
                name.escape_debug(),
                bytes.escape_ascii()
            ))),
        }
        .map_err(|error| error.advise("rename the file, write its name into the descriptor, and say encoding=\"UTF-8\" there"))
    }
}

/// A letter of windows-1252.
fn letter(byte: u8) -> char {
    let special = byte
        .checked_sub(0x80)
        .and_then(|index| WINDOWS.get(usize::from(index)));
    special
        .and_then(|code| char::from_u32(u32::from(*code)))
        .unwrap_or(char::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::Kind;

    #[test]
    fn encodings_by_name() {
        let windows = Encoding::named("Windows-1252");
        assert_eq!(
            windows.decode(b"caf\xe9 \x80\x9f\x81").unwrap(),
            "café €Ÿ\u{81}"
        );
        let utf8 = Encoding::named("UTF-8");
        assert_eq!(utf8.decode("café".as_bytes()).unwrap(), "café");
        assert_eq!(
            utf8.decode(b"caf\xe9").unwrap_err().kind(),
            Kind::Unsupported
        );
        let other = Encoding::named("Shift_JIS");
        assert_eq!(other.decode(b"disk").unwrap(), "disk");
        let error = other.decode(b"\x83\x5c").unwrap_err();
        assert!(error.to_string().contains("Shift_JIS"), "{error}");
    }
}
