//! Times: a date and a time of day as MS-DOS wrote them, on the guest's clock (Microsoft FAT specification, section 6.3).

use cairn_base::Time;

/// Days from 1970-01-01 to 1980-01-01.
const EPOCH_DAYS: i64 = 3652;

/// Seconds since 1970 of a date and time as the guest's clock showed them, taken as UTC: which time zone it had is not on the volume.
/// Nothing of a date with a month or day that no calendar has; a day behind its month's end goes on into the next.
fn seconds(date: u16, time: u16) -> Option<i64> {
    let (year, month) = (i64::from(date >> 9), i64::from((date >> 5) & 15));
    let day = i64::from(date & 31);
    if !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    // From 1980 to 2107 every fourth year is a leap year but 2100.
    let leaps = year.saturating_add(3) / 4;
    let mut days = year.saturating_mul(365).saturating_add(leaps);
    if year > 120 {
        days = days.saturating_sub(1);
    }
    let before = match month {
        1 => 0,
        2 => 31,
        3 => 59,
        4 => 90,
        5 => 120,
        6 => 151,
        7 => 181,
        8 => 212,
        9 => 243,
        10 => 273,
        11 => 304,
        _ => 334,
    };
    let is_leap = year % 4 == 0 && year != 120;
    days = days
        .saturating_add(before)
        .saturating_add(i64::from(is_leap && month > 2))
        .saturating_add(day)
        .saturating_sub(1)
        .saturating_add(EPOCH_DAYS);
    let (hours, minutes) = (i64::from(time >> 11), i64::from((time >> 5) & 63));
    let seconds = days
        .saturating_mul(86_400)
        .saturating_add(hours.saturating_mul(3600))
        .saturating_add(minutes.saturating_mul(60))
        .saturating_add(i64::from(time & 31).saturating_mul(2));
    Some(seconds)
}

/// A date and time, and 0 to 199 hundredths of a second more; nothing if the date is none.
pub fn time(date: u16, time: u16, hundredths: u8) -> Option<Time> {
    let hundredths = u32::from(hundredths.min(199));
    Some(Time {
        seconds: seconds(date, time)?.saturating_add(i64::from(hundredths / 100)),
        nanos: (hundredths % 100).saturating_mul(10_000_000),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(year: u16, month: u16, day: u16) -> u16 {
        (year - 1980) << 9 | month << 5 | day
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        for (year, month, day, expected) in [
            (1980, 1, 1, "1980-01-01"),
            (1980, 12, 31, "1980-12-31"),
            (1981, 1, 1, "1981-01-01"),
            (2000, 2, 29, "2000-02-29"),
            (2000, 3, 1, "2000-03-01"),
            (2026, 11, 22, "2026-11-22"),
            (2100, 2, 28, "2100-02-28"),
            (2100, 3, 1, "2100-03-01"),
            (2101, 1, 1, "2101-01-01"),
            (2107, 12, 31, "2107-12-31"),
        ] {
            let shown = time(date(year, month, day), 0, 0).unwrap().rfc3339();
            assert_eq!(shown, format!("{expected}T00:00:00Z"));
        }
        for (year, month, day) in [(1980, 0, 0), (2048, 0, 1), (2000, 13, 1), (2000, 1, 0)] {
            assert_eq!(time(date(year, month, day), 0, 0), None);
        }
    }

    #[test]
    fn the_time_of_day_is_in_two_seconds_and_hundredths() {
        let noon = time(date(2024, 2, 29), 12 << 11 | 34 << 5 | 28, 150).unwrap();
        assert_eq!(noon.rfc3339(), "2024-02-29T12:34:57Z");
        assert_eq!(noon.nanos, 500_000_000);
        let late = time(date(2107, 12, 31), 0xFFFF, 255).unwrap();
        assert!(late.seconds > 0 && late.nanos < 1_000_000_000);
    }
}
