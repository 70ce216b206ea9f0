//! Ids: each kind of thing has its own type, so that one cannot be taken for another.

use crate::error::{Error, Kind, Result};
use std::fmt;

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $noun:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $bytes;

            /// Parses the full hexadecimal form.
            ///
            /// # Errors
            /// [`Kind::Invalid`] if `text` is not exactly twice as many hexadecimal digits as there are bytes.
            pub fn parse(text: &str) -> Result<$name> {
                let mut id = [0u8; $bytes];
                parse_hex(text, &mut id).map(|()| $name(id)).ok_or_else(|| {
                    Error::new(Kind::Invalid, format!("`{text}` is not a {} id", $noun))
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }
    };
}

id_type!(
    /// The keyed BLAKE3 of a chunk's plain bytes. All zeros is the null id: nothing but a hole.
    ChunkId, 32, "chunk"
);
id_type!(
    /// A pack's name: 128 random bits.
    PackId, 16, "pack"
);
id_type!(
    /// An index segment's name: 128 random bits.
    SegmentId, 16, "segment"
);
id_type!(
    /// A recovery point's name: the keyed BLAKE3 of its record.
    PointId, 32, "point"
);
id_type!(
    /// A session's name: 128 random bits.
    SessionId, 16, "session"
);

impl Default for ChunkId {
    fn default() -> ChunkId {
        ChunkId::NULL
    }
}

impl ChunkId {
    /// The id of an all-hole leaf or node.
    pub const NULL: ChunkId = ChunkId([0; 32]);

    /// Whether this stands for nothing but a hole.
    pub fn is_null(&self) -> bool {
        *self == ChunkId::NULL
    }

    /// The first 16 bytes, which the index keeps.
    pub fn prefix(&self) -> [u8; 16] {
        let mut prefix = [0; 16];
        for (to, from) in prefix.iter_mut().zip(self.0) {
            *to = from;
        }
        prefix
    }
}

/// `N` random bytes of the operating system.
///
/// # Errors
/// [`Kind::Io`] where the operating system has no randomness to give.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|e| Error::new(Kind::Io, format!("the system gave no random bytes: {e}")))?;
    Ok(bytes)
}

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for byte in bytes {
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

fn parse_hex(text: &str, out: &mut [u8]) -> Option<()> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != out.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in out.iter_mut().zip(pairs) {
        *byte = (digit(*high)? << 4) | digit(*low)?;
    }
    Some(())
}

fn digit(text: u8) -> Option<u8> {
    u8::try_from(char::from(text).to_digit(16)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_there_and_back() {
        let id = PackId(random().unwrap());
        assert_eq!(PackId::parse(&id.to_string()).unwrap(), id);
        assert_eq!(PackId::parse(&"aF09".repeat(8)).unwrap().0[..2], [0xaf, 9]);
        for bad in [
            "",
            "00",
            "+1",
            &"g".repeat(32),
            &"é".repeat(16),
            &"0".repeat(33),
        ] {
            assert!(PackId::parse(bad).is_err(), "{bad}");
        }
        assert!(ChunkId::NULL.is_null());
    }
}
