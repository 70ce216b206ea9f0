//! GUIDs as Windows writes them ([MS-DTYP] section 2.3.4): three numbers, little-endian on disk, and eight bytes.

use std::fmt::Write;

/// `bf967aba-0de6-11d0-a285-00aa003049e2`.
pub fn text(guid: [u8; 16]) -> String {
    let [a, b, c, d, e, f, g, h, rest @ ..] = guid;
    let mut text = format!(
        "{:08x}-{:04x}-{:04x}-",
        u32::from_le_bytes([a, b, c, d]),
        u16::from_le_bytes([e, f]),
        u16::from_le_bytes([g, h])
    );
    for (number, byte) in rest.iter().enumerate() {
        if number == 2 {
            text.push('-');
        }
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
