//! Sizes in bytes, and the arithmetic on offsets that must not wrap.

/// 1,024 bytes.
pub const KIB: u64 = 1 << 10;
/// 1,048,576 bytes.
pub const MIB: u64 = 1 << 20;
/// 1,073,741,824 bytes.
pub const GIB: u64 = 1 << 30;
/// 1,099,511,627,776 bytes.
pub const TIB: u64 = 1 << 40;

/// `bytes` for people: `0 B`, `17 KiB`, `3.4 GiB`; three significant digits, binary units.
pub fn human_bytes(bytes: u64) -> String {
    const NAMES: [(u64, &str); 4] = [(TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")];
    for (unit, name) in NAMES {
        if bytes >= unit {
            // Tenths, rounded to nearest; u128 cannot overflow here.
            let tenths = u128::from(bytes)
                .saturating_mul(10)
                .saturating_add(u128::from(unit >> 1))
                .checked_div(u128::from(unit))
                .unwrap_or(0);
            let (whole, part) = (
                tenths.checked_div(10).unwrap_or(0),
                tenths.checked_rem(10).unwrap_or(0),
            );
            return if whole >= 100 {
                format!("{whole} {name}")
            } else {
                format!("{whole}.{part} {name}")
            };
        }
    }
    format!("{bytes} B")
}

/// A length in memory as a length on disk. `usize` is at most 64 bits on every platform Rust knows.
pub fn to_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        assert_eq!(human_bytes(0), "0 B");
        assert_eq!(human_bytes(1023), "1023 B");
        assert_eq!(human_bytes(1536), "1.5 KiB");
        assert_eq!(human_bytes(8 * GIB), "8.0 GiB");
        assert_eq!(human_bytes(150 * MIB), "150 MiB");
        assert_eq!(human_bytes(u64::MAX), "16777216 TiB");
    }
}
