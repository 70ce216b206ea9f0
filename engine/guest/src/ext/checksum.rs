//! The checksums of ext4: CRC-32C without the usual final inversion, and CRC-16 for `uninit_bg`.

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
