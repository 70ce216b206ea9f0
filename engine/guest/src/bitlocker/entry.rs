//! Entries: what metadata and startup keys consist of ("FVE metadata entry").

use cairn_base::{Result, View};

/// What an entry is for.
pub(super) mod role {
    pub const VOLUME_MASTER_KEY: u16 = 2;
    pub const VOLUME_KEY: u16 = 3;
    pub const STARTUP_KEY: u16 = 6;
    pub const DESCRIPTION: u16 = 7;
    pub const VOLUME_HEADER: u16 = 15;
}

/// How its value is laid out.
pub(super) mod kind {
    pub const KEY: u16 = 1;
    pub const TEXT: u16 = 2;
    pub const STRETCHED: u16 = 3;
    pub const SEALED: u16 = 5;
    pub const PROTECTED: u16 = 8;
    pub const EXTERNAL: u16 = 9;
    pub const OFFSET_AND_SIZE: u16 = 15;
}

/// Bytes before the value.
const HEAD: usize = 8;

/// An entry.
pub(super) struct Entry<'a> {
    pub role: u16,
    pub kind: u16,
    /// What stands behind its head.
    pub value: View<'a>,
}

/// Decodes all entries in `list`. They end with the list, or where the size of one is 0.
///
/// # Errors
/// Damaged if one is longer than what is left, or shorter than its head.
pub(super) fn parse_list<'a>(list: View<'a>) -> Result<Vec<Entry<'a>>> {
    let mut entries = Vec::new();
    let mut rest = list;
    // Each takes eight bytes at least, so that this ends.
    while rest.len() >= HEAD {
        let length = usize::from(rest.u16_le(0)?);
        if length == 0 {
            break;
        }
        if length < HEAD || length > rest.len() {
            return Err(rest.damaged(0, "an entry has an impossible length"));
        }
        entries.push(Entry {
            role: rest.u16_le(2)?,
            kind: rest.u16_le(4)?,
            value: rest.part(HEAD, length.saturating_sub(HEAD), "BitLocker entry")?,
        });
        rest = rest.tail(length)?;
    }
    Ok(entries)
}

/// Text of an entry: UTF-16 up to the first NUL. What is no UTF-16 is shown as replacement characters.
pub(super) fn text(value: View<'_>) -> String {
    let (pairs, _) = value.bytes().as_chunks::<2>();
    let units: Vec<u16> = pairs
        .iter()
        .map(|pair| u16::from_le_bytes(*pair))
        .take_while(|unit| *unit != 0)
        .collect();
    String::from_utf16_lossy(&units)
}
