//! Lengths of time as users write them.

use cairn_base::{Error, Result};
use std::fmt;

/// A length of time in units of the calendar: `30d`, `12h`, `2w`, `6m`, `1y`, or several, `1y6m`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Period {
    /// Years.
    pub years: u32,
    /// Months.
    pub months: u32,
    /// Weeks.
    pub weeks: u32,
    /// Days.
    pub days: u32,
    /// Hours.
    pub hours: u32,
}

impl Period {
    /// Reads what a user wrote: numbers of at most five digits with `y`, `m` (months), `w`, `d` or `h` behind, each unit once; not nothing.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) if it is anything else.
    pub fn parse(text: &str) -> Result<Period> {
        let bad = || {
            Error::invalid(format!("`{text}` is not a length of time")).advise(
                "write it like 12h, 30d, 2w, 6m (months), 1y, or several of these, like 1y6m",
            )
        };
        let mut period = Period::default();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = rest.split_at(digits);
            let unit = tail.chars().next().ok_or_else(bad)?;
            rest = tail.strip_prefix(unit).unwrap_or_default();
            let slot = match unit {
                'y' => &mut period.years,
                'm' => &mut period.months,
                'w' => &mut period.weeks,
                'd' => &mut period.days,
                'h' | 'H' => &mut period.hours,
                _ => return Err(bad()),
            };
            let number = number.parse().ok().filter(|_| digits <= 5 && *slot == 0);
            *slot = number.filter(|number| *number > 0).ok_or_else(bad)?;
        }
        if period == Period::default() {
            return Err(bad());
        }
        Ok(period)
    }

    /// How many seconds it has at most: a year counts as 366 days, a month as 31.
    pub fn seconds(&self) -> u64 {
        let units = [
            (self.years, 366 * 86_400),
            (self.months, 31 * 86_400),
            (self.weeks, 7 * 86_400),
            (self.days, 86_400),
            (self.hours, 3600),
        ];
        units
            .iter()
            .map(|(count, unit)| u64::from(*count) * unit)
            .sum()
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [
            (self.years, 'y'),
            (self.months, 'm'),
            (self.weeks, 'w'),
            (self.days, 'd'),
            (self.hours, 'h'),
        ];
        for (count, unit) in units.iter().filter(|(count, _)| *count > 0) {
            write!(f, "{count}{unit}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_users_write_is_read_and_written() {
        for (text, seconds) in [
            ("30d", 30 * 86_400),
            ("12h", 12 * 3600),
            ("2w", 14 * 86_400),
            ("6m", 186 * 86_400),
            ("1y6m2w3d4h", (366 + 186 + 14 + 3) * 86_400 + 4 * 3600),
        ] {
            let period = Period::parse(text).unwrap();
            assert_eq!(period.seconds(), seconds, "{text}");
            assert_eq!(period.to_string(), text);
        }
        assert_eq!(Period::parse("4H").unwrap(), Period::parse("4h").unwrap());
        assert_eq!(Period::parse("3d1y").unwrap().to_string(), "1y3d");
        for bad in [
            "", "30", "d", "0d", "-3d", "3x", "3d4", "3d3d", "123456d", "3 d", "5é", "1.5d",
        ] {
            assert!(Period::parse(bad).is_err(), "{bad}");
        }
    }
}
