//! Rounding of sizes and offsets, and the step from lengths on disk to lengths in memory.

use cairn_base::{Error, Result};

/// `value / unit`, rounded up; `None` if `unit` is 0.
pub(crate) fn div_up(value: u64, unit: u64) -> Option<u64> {
    let whole = value.checked_div(unit)?;
    if is_multiple(value, unit) {
        Some(whole)
    } else {
        whole.checked_add(1)
    }
}

/// `value` rounded up to a multiple of `unit`; `None` if that does not fit or `unit` is 0.
pub(crate) fn round_up(value: u64, unit: u64) -> Option<u64> {
    div_up(value, unit)?.checked_mul(unit)
}

/// Whether `value` is a multiple of `unit`; never, if `unit` is 0.
pub(crate) fn is_multiple(value: u64, unit: u64) -> bool {
    value.checked_rem(unit) == Some(0)
}

/// A length on disk as a length in memory. The caller has bounded it.
pub(crate) fn to_usize(length: u64) -> Result<usize> {
    usize::try_from(length)
        .map_err(|_| Error::unsupported(format!("{length} bytes do not fit into memory")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_does_not_wrap() {
        assert_eq!(div_up(1025, 512), Some(3));
        assert_eq!(round_up(0, 512), Some(0));
        assert_eq!(round_up(1, 512), Some(512));
        assert_eq!(round_up(512, 512), Some(512));
        assert_eq!(round_up(u64::MAX, 512), None);
        assert_eq!(round_up(7, 0), None);
        assert!(is_multiple(1024, 512) && !is_multiple(1, 512) && !is_multiple(0, 0));
    }
}
