//! `$STANDARD_INFORMATION`: times and Windows file attributes.

use cairn_base::{Result, Time, View};

/// Seconds from 1601-01-01 to 1970-01-01.
const EPOCH: i64 = 11_644_473_600;

/// FILE_ATTRIBUTE_SYSTEM.
pub const SYSTEM: u32 = 0x4;
/// FILE_ATTRIBUTE_DIRECTORY.
pub const DIRECTORY: u32 = 0x10;
/// FILE_ATTRIBUTE_REPARSE_POINT.
pub const REPARSE: u32 = 0x400;
/// FILE_ATTRIBUTE_OFFLINE.
pub const OFFLINE: u32 = 0x1000;
/// FILE_ATTRIBUTE_RECALL_ON_DATA_ACCESS.
pub const RECALL: u32 = 0x40_0000;

/// Times and attributes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StandardInformation {
    /// Made.
    pub created: Time,
    /// Content changed.
    pub modified: Time,
    /// File record changed.
    pub changed: Time,
    /// Content read.
    pub accessed: Time,
    /// FILE_ATTRIBUTE_*.
    pub flags: u32,
    /// Of the security descriptor in `$Secure`; 0 if there is none, as before version 3.0.
    pub security_id: u32,
}

impl StandardInformation {
    /// Decodes the value of the attribute.
    pub fn parse(view: View<'_>) -> Result<StandardInformation> {
        Ok(StandardInformation {
            created: time(view.u64_le(0)?),
            modified: time(view.u64_le(8)?),
            changed: time(view.u64_le(16)?),
            accessed: time(view.u64_le(24)?),
            flags: view.u32_le(32)?,
            security_id: view.u32_le(52).unwrap_or(0),
        })
    }
}

/// Units of 100 ns since 1601-01-01 as a time.
pub fn time(ticks: u64) -> Time {
    let seconds = i64::try_from(ticks / 10_000_000).unwrap_or(i64::MAX);
    let nanos = u32::try_from(ticks % 10_000_000)
        .unwrap_or(0)
        .saturating_mul(100);
    Time {
        seconds: seconds.saturating_sub(EPOCH),
        nanos,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_count_from_1601() {
        assert_eq!(
            time(116_444_736_000_000_000),
            Time {
                seconds: 0,
                nanos: 0
            }
        );
        assert_eq!(
            time(116_444_736_000_000_001),
            Time {
                seconds: 0,
                nanos: 100
            }
        );
        assert_eq!(
            time(116_444_735_999_999_999),
            Time {
                seconds: -1,
                nanos: 999_999_900
            }
        );
        assert_eq!(time(0).seconds, -EPOCH);
        assert_eq!(time(u64::MAX).seconds, 1_844_674_407_370 - EPOCH);
    }
}
