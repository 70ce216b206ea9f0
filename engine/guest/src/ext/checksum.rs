//! The checksums of ext4: CRC-32C without the usual final inversion, CRC-16 for `uninit_bg`, and CRC-32 for the journal of old.

/// Continues a CRC-32C register; a fresh one starts at `!0`.
pub(super) fn crc32c(register: u32, bytes: &[u8]) -> u32 {
    // The crate inverts on the way in and out, ext4 does not.
    !crc32c::crc32c_append(!register, bytes)
}

/// Continues a CRC-16 (polynomial 0x8005, reflected); a fresh one starts at `!0`.
pub(super) fn crc16(register: u16, bytes: &[u8]) -> u16 {
    let mut crc = register;
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0xa001
            } else {
                crc >> 1
            };
        }
    }
    crc
}

/// Continues a CRC-32 (polynomial 0x04c11db7, highest bit first); a fresh one starts at `!0`.
pub(super) fn crc32_be(register: u32, bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    bytes.iter().fold(register, |crc, byte| {
        let [first, rest @ ..] = crc.to_be_bytes();
        let [a, b, c] = rest;
        let entry = TABLE.get(usize::from(first ^ byte)).copied().unwrap_or(0);
        u32::from_be_bytes([a, b, c, 0]) ^ entry
    })
}

#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "computed by the compiler, which would notice"
)]
const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = (index as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc << 1) ^ if crc >> 31 == 1 { 0x04c1_1db7 } else { 0 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_sums() {
        // CRC-32/BZIP2 of the usual text is this one, inverted.
        assert_eq!(!crc32_be(!0, b"123456789"), 0xfc89_1918);
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
        assert_eq!(crc16(0xffff, b"123456789"), 0x4b37);
    }
}
