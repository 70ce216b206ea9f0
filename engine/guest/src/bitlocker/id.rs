//! The ids of volumes and keys: GUIDs, written as Windows shows them.

use crate::partition::guid_text;
use std::fmt;

/// The GUID of a volume or of a protector. Windows shows a recovery password's beside the field in which it is to be typed, so that people know which one is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct KeyId(pub [u8; 16]);

impl fmt::Display for KeyId {
    /// In capital letters, without braces. The first three groups are little-endian on disk.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&guid_text(&self.0).to_uppercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_as_windows_shows_it() {
        let bytes = [
            0xea, 0x1d, 0x31, 0x64, 0x87, 0x45, 0x29, 0x40, 0x92, 0x4a, 0xba, 0x29, 0x96, 0x47,
            0x99, 0x8e,
        ];
        let text = KeyId(bytes).to_string();
        assert_eq!(text, "64311DEA-4587-4029-924A-BA299647998E");
    }
}
