//! Points in time: UTC, without leap seconds, nanoseconds where a guest's file system has them.

use crate::error::{Error, Result};
use jiff::Timestamp;
use std::fmt;

/// Seconds and nanoseconds since 1970-01-01T00:00:00Z; before it, seconds are negative and nanoseconds count up.
///
/// Guests hold times that no calendar prints (NTFS reaches the year 60056), so this is not a calendar type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time {
    /// Whole seconds since 1970.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

impl Time {
    /// `seconds` since 1970, no fraction.
    pub fn from_seconds(seconds: i64) -> Time {
        Time { seconds, nanos: 0 }
    }

    /// Parses RFC 3339 (`2026-11-20T02:00:00Z`, any offset) or the form of the mount (`2026-11-20T02-00-00Z`).
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::Kind::Invalid) if it is neither.
    pub fn parse(text: &str) -> Result<Time> {
        let bad = || {
            Error::invalid(format!("`{text}` is not a time"))
                .advise("write it like 2026-11-20T02:00:00Z")
        };
        // The mount's form differs in the two separators of the time of day only.
        let standard = match text.split_once('T') {
            Some((date, time)) if time.len() == 9 && time.ends_with('Z') => {
                format!("{date}T{}", time.replace('-', ":"))
            }
            _ => text.to_string(),
        };
        let stamp: Timestamp = standard.parse().map_err(|_| bad())?;
        Ok(Time {
            seconds: stamp.as_second(),
            nanos: 0,
        })
    }

    fn stamp(&self) -> Option<Timestamp> {
        Timestamp::from_second(self.seconds).ok()
    }

    /// `2026-11-20T02:00:00Z`; the plain number of seconds where no calendar reaches.
    pub fn rfc3339(&self) -> String {
        match self.stamp() {
            Some(stamp) => stamp.to_string(),
            None => self.seconds.to_string(),
        }
    }

    /// `2026-11-20T02-00-00Z`: a folder name on every file system.
    pub fn folder_name(&self) -> String {
        self.rfc3339().replace(':', "-")
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_written() {
        let time = Time::parse("2026-11-20T02:00:00Z").unwrap();
        assert_eq!(Time::parse("2026-11-20T02-00-00Z").unwrap(), time);
        assert_eq!(Time::parse("2026-11-20T03:00:00+01:00").unwrap(), time);
        assert_eq!(time.folder_name(), "2026-11-20T02-00-00Z");
        assert_eq!(time.rfc3339(), "2026-11-20T02:00:00Z");
        for bad in [
            "",
            "yesterday",
            "2026-11-20",
            "2026-13-01T00:00:00Z",
            "2026-11-20T02:00",
        ] {
            assert!(Time::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Time::from_seconds(i64::MAX).rfc3339(), i64::MAX.to_string());
    }
}
