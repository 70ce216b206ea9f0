//! Keys (`nk`).

use super::bins::Bins;
use cairn_base::{Result, View};

/// Bytes before the name.
const NAME: usize = 76;
/// The longest name of a key: 255 characters, of two bytes each.
const MAX_NAME: usize = 510;
/// The name has one byte for each character.
const COMP_NAME: u16 = 0x20;

/// A key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    name: String,
    pub(super) subkeys: u32,
    pub(super) subkeys_at: u32,
    pub(super) values: u32,
    pub(super) values_at: u32,
}

impl Key {
    pub(super) fn read(bins: &Bins, at: u32) -> Result<Key> {
        let bytes = bins.cell(at, NAME.saturating_add(MAX_NAME))?;
        Key::parse(View::new(&bytes, "registry key", bins.place(at)))
    }

    /// Decodes it.
    fn parse(view: View<'_>) -> Result<Key> {
        if view.slice(0, 2)? != b"nk" {
            return Err(view.damaged(0, "it has no signature"));
        }
        let length = usize::from(view.u16_le(72)?);
        if length > MAX_NAME {
            return Err(view.damaged(72, "its name is longer than names are"));
        }
        let name = view.slice(NAME, length)?;
        Ok(Key {
            name: name_text(name, view.u16_le(2)? & COMP_NAME != 0),
            subkeys: view.u32_le(20)?,
            subkeys_at: view.u32_le(28)?,
            values: view.u32_le(36)?,
            values_at: view.u32_le(40)?,
        })
    }

    /// Its name. What is not valid UTF-16 is replaced.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A name: of one byte for each character (ISO 8859-1), or UTF-16.
pub fn name_text(bytes: &[u8], is_compressed: bool) -> String {
    if is_compressed {
        return bytes.iter().map(|byte| char::from(*byte)).collect();
    }
    let units = bytes.chunks_exact(2);
    let units = units.filter_map(|pair| pair.try_into().ok().map(u16::from_le_bytes));
    char::decode_utf16(units)
        .map(|found| found.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}
