//! Conversions between the widths of the format and those of memory.

/// A number of 32 bits as a length in memory; every platform Rust knows here has at least 32 bits.
pub(super) fn size_of(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A number as a length in memory, the largest one where it does not fit.
pub(super) fn clamp(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The low 32 bits.
pub(super) fn low32(number: u64) -> u32 {
    u32::try_from(number & 0xffff_ffff).unwrap_or(0)
}

/// The low 16 bits.
pub(super) fn low16(number: u32) -> u16 {
    u16::try_from(number & 0xffff).unwrap_or(0)
}

/// The two halves of a 64-bit number.
pub(super) fn join(low: u32, high: u32) -> u64 {
    u64::from(low) | (u64::from(high) << 32)
}
