//! Amounts as users write them: shares, rates, and how long ago.

use cairn::Time;
use std::num::NonZeroU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `5%` or `0.5%`, in millionths: 1 to 1,000,000.
pub fn share(text: &str) -> Result<u32, String> {
    let number = text
        .trim()
        .strip_suffix('%')
        .and_then(|n| scaled(n, 10_000));
    number
        .and_then(|millionths| u32::try_from(millionths).ok())
        .filter(|millionths| (1..=1_000_000).contains(millionths))
        .ok_or_else(|| "write a share above 0 and up to 100 like 5% or 0.5%".to_string())
}

/// As [`share`], but `0%` too.
pub fn share_or_none(text: &str) -> Result<u32, String> {
    let none = ["0%", "0.0%"].contains(&text.trim());
    if none { Ok(0) } else { share(text) }
}

/// As [`bytes`], but 0 too.
pub fn bytes_or_none(text: &str) -> Result<u64, String> {
    if text.trim() == "0" {
        return Ok(0);
    }
    bytes(text)
}

/// `90s`, `30m`, `2h`, `1d`.
pub fn length_of_time(text: &str) -> Result<Duration, String> {
    let units = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)];
    let found = units.into_iter().find_map(|(name, seconds)| {
        let number = text.trim().strip_suffix(name)?.parse::<u32>().ok()?;
        Some(Duration::from_secs(u64::from(number) * seconds))
    });
    found.ok_or_else(|| "write a time like 90s, 30m or 2h".to_string())
}

/// `200MB/s`, `1.5GiB/s` or `50000000`, in bytes a second.
pub fn rate(text: &str) -> Result<NonZeroU64, String> {
    let said = text.trim().strip_suffix("/s").unwrap_or(text.trim());
    let said = said.strip_suffix('B').unwrap_or(said).trim_end();
    let (number, unit) = match said.strip_suffix('i') {
        Some(said) => split_unit(said, 1024),
        None => split_unit(said, 1000),
    };
    scaled(number, unit)
        .and_then(NonZeroU64::new)
        .ok_or_else(|| "write a rate like 200MB/s or 1.5GiB/s".to_string())
}

/// `2GiB`, `500MB` or `1000000`, in bytes.
pub fn bytes(text: &str) -> Result<u64, String> {
    rate(text)
        .map(NonZeroU64::get)
        .map_err(|_| "write an amount like 500MB or 2GiB".to_string())
}

/// From how many bytes to how many: `+10MiB` or more, `-10MiB` or less, `1MB..2GB`, or exactly `700`.
pub fn sizes(text: &str) -> Result<(Option<u64>, Option<u64>), String> {
    let bad = |_| "write a size like +10MiB, -500KB, 1MB..2GB or 700".to_string();
    let amount = |text: &str| bytes_or_none(text).map_err(bad);
    let text = text.trim();
    Ok(if let Some(least) = text.strip_prefix('+') {
        (Some(amount(least)?), None)
    } else if let Some(most) = text.strip_prefix('-') {
        (None, Some(amount(most)?))
    } else if let Some((least, most)) = text.split_once("..") {
        (Some(amount(least)?), Some(amount(most)?))
    } else {
        let exact = amount(text)?;
        (Some(exact), Some(exact))
    })
}

/// The number in front of `K`, `M`, `G` or `T`, and what that stands for.
fn split_unit(text: &str, step: u64) -> (&str, u64) {
    let units = [("K", 1), ("k", 1), ("M", 2), ("G", 3), ("T", 4)];
    for (name, power) in units {
        if let Some(number) = text.strip_suffix(name) {
            return (number.trim_end(), step.pow(power));
        }
    }
    (text, 1)
}

/// A time, or how long ago it is: `2026-11-20T02:00:00Z`, `90m`, `12h`, `30d`, `2w`.
pub fn since(text: &str) -> Result<Time, String> {
    let units = [
        ('s', 1),
        ('m', 60),
        ('h', 3600),
        ('d', 86_400),
        ('w', 604_800),
    ];
    let text = text.trim();
    for (name, seconds) in units {
        let number = text.strip_suffix(name).and_then(|n| n.parse::<u32>().ok());
        if let Some(number) = number {
            return Ok(Time::from_seconds(now() - i64::from(number) * seconds));
        }
    }
    Time::parse(text).map_err(|_| {
        format!("`{text}` is neither a time like 2026-11-20T02:00:00Z nor as long ago as 90m, 12h, 30d or 2w")
    })
}

/// Seconds since 1970.
fn now() -> i64 {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH);
    passed.map_or(0, |time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

/// How long some seconds are, in the largest unit that fits: `40 minutes`, `3 days`.
pub fn duration(seconds: i64) -> String {
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute")];
    for (unit, name) in units {
        let count = seconds / unit;
        if count > 0 {
            let plural = if count == 1 { "" } else { "s" };
            return format!("{count} {name}{plural}");
        }
    }
    "less than a minute".to_string()
}

/// A decimal number times `unit`, exact to the unit's sixth digit, rounded down; none if it is none, or too large.
fn scaled(text: &str, unit: u64) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 6 {
        return None;
    }
    let tens = 10u64.pow(u32::try_from(part.len()).ok()?);
    let number = whole
        .parse::<u64>()
        .ok()?
        .checked_mul(tens)?
        .checked_add(part.parse().ok()?)?;
    let product = u128::from(number) * u128::from(unit) / u128::from(tens);
    u64::try_from(product).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        for (text, millionths) in [
            ("5%", 50_000),
            ("0.5%", 5_000),
            ("100%", 1_000_000),
            ("0.0001%", 1),
        ] {
            assert_eq!(share(text), Ok(millionths), "{text}");
        }
        for text in ["5", "0%", "101%", "-1%", "%", "a%", "1.%", "0.00001%"] {
            assert!(share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates() {
        for (text, bytes) in [
            ("200MB/s", 200_000_000),
            ("1.5GiB/s", 3 << 29),
            ("1 KiB", 1024),
            ("64k", 64_000),
            ("7", 7),
            ("7B/s", 7),
        ] {
            assert_eq!(rate(text).unwrap().get(), bytes, "{text}");
        }
        for text in ["0", "MB/s", "fast", "-1MB/s", "1.2.3", "99999999999999TB/s"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ranges_of_sizes() {
        assert_eq!(sizes("+10MiB"), Ok((Some(10 << 20), None)));
        assert_eq!(sizes("-1.5KB"), Ok((None, Some(1500))));
        assert_eq!(
            sizes("1MB..2GB"),
            Ok((Some(1_000_000), Some(2_000_000_000)))
        );
        assert_eq!(sizes("0"), Ok((Some(0), Some(0))));
        for text in ["", "+", "..", "1..", "x", "--1", "1..2..3"] {
            assert!(sizes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times() {
        let time = Time::parse("2026-11-20T02:00:00Z").unwrap();
        assert_eq!(since("2026-11-20T02:00:00Z"), Ok(time));
        for (text, seconds) in [("90s", 90), ("2m", 120), ("3h", 10_800), ("1d", 86_400)] {
            let ago = now() - since(text).unwrap().seconds;
            assert!((seconds..seconds + 60).contains(&ago), "{text}");
        }
        for text in ["", "d", "-1d", "yesterday", "1.5h", "5"] {
            assert!(since(text).is_err(), "{text}");
        }
        assert_eq!(duration(59), "less than a minute");
        assert_eq!(duration(3600), "1 hour");
        assert_eq!(duration(40 * 86_400 + 5), "40 days");
    }
}
