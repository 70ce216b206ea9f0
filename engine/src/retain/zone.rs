//! The user's calendar: hours, days, weeks, months and years of a time zone.

use crate::retain::Period;
use cairn_base::{Error, Result, Time};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};

/// Kinds of periods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calendar {
    /// An hour of the clock; one that comes twice, because clocks are turned back, is two.
    Hour,
    /// A day, of 23 to 25 hours.
    Day,
    /// A week of ISO 8601, from Monday on.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

impl Calendar {
    /// `hourly`, `daily`, `weekly`, `monthly` or `yearly`.
    pub fn adverb(self) -> &'static str {
        match self {
            Calendar::Hour => "hourly",
            Calendar::Day => "daily",
            Calendar::Week => "weekly",
            Calendar::Month => "monthly",
            Calendar::Year => "yearly",
        }
    }
}

/// A time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Zone {
    /// The system's (`TZ`, or `/etc/localtime`); UTC where there is none.
    pub fn system() -> Zone {
        Zone(TimeZone::try_system().unwrap_or(TimeZone::UTC))
    }

    /// UTC.
    pub fn utc() -> Zone {
        Zone(TimeZone::UTC)
    }

    /// The zone of that name, `Europe/Berlin`: as the system's tables have it, or where there are none, our own.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) if there is none of that name.
    pub fn named(name: &str) -> Result<Zone> {
        let found = TimeZone::get(name);
        found.map(Zone).map_err(|error| {
            Error::invalid(format!("`{name}` is no time zone"))
                .caused_by(error)
                .advise("write it like Europe/Berlin or UTC")
        })
    }

    /// Its name, `Europe/Berlin`; `local` if it has none.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("local")
    }

    fn at(&self, seconds: i64) -> Zoned {
        // Points may have times that no calendar reaches.
        let end = if seconds < 0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        };
        let stamp = Timestamp::from_second(seconds).unwrap_or(end);
        stamp.to_zoned(self.0.clone())
    }

    /// The name of the period in which a time lies: `2026-11-20T02+01`, `2026-11-20`, `2026-W47`, `2026-11`, `2026`. Equal names are equal periods.
    pub(super) fn period(&self, seconds: i64, calendar: Calendar) -> String {
        let time = self.at(seconds);
        let date = time.date();
        match calendar {
            Calendar::Hour => format!("{date}T{:02}{}", time.hour(), time.offset()),
            Calendar::Day => date.to_string(),
            Calendar::Week => {
                let week = date.iso_week_date();
                format!("{}-W{:02}", week.year(), week.week())
            }
            Calendar::Month => format!("{}-{:02}", date.year(), date.month()),
            Calendar::Year => date.year().to_string(),
        }
    }

    /// The time that lies so long before another one, by the calendar; the beginning of all time if that goes too far.
    pub(super) fn before(&self, seconds: i64, period: Period) -> i64 {
        let time = span(period).and_then(|span| self.at(seconds).checked_sub(span).ok());
        time.map_or(i64::MIN, |time| time.timestamp().as_second())
    }

    /// When a pin ends that was wished for until `text`: after a length of time from `now` on, at a time in RFC 3339, or at the end of a
    /// day, `2027-01-31`. Seconds since 1970.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) if it is none of these, or does not lie after `now`.
    pub fn until(&self, text: &str, now: i64) -> Result<i64> {
        let bad = || {
            Error::invalid(format!("`{text}` is no end for a pin"))
                .advise("write a day like 2027-01-31, a time like 2027-01-31T12:00:00Z, or a length of time like 30d")
        };
        let end = if let Ok(period) = Period::parse(text) {
            let time = span(period).and_then(|span| self.at(now).checked_add(span).ok());
            time.ok_or_else(bad)?.timestamp().as_second()
        } else if let Ok(date) = text.parse::<Date>() {
            let next = date.tomorrow().and_then(|day| day.to_zoned(self.0.clone()));
            next.map_err(|_| bad())?.timestamp().as_second()
        } else {
            Time::parse(text).map_err(|_| bad())?.seconds
        };
        if end <= now {
            return Err(Error::invalid(format!("`{text}` is over already")));
        }
        Ok(end)
    }
}

fn span(period: Period) -> Option<Span> {
    let span = Span::new().try_years(period.years).ok()?;
    let span = span.try_months(period.months).ok()?;
    let span = span.try_weeks(period.weeks).ok()?;
    let span = span.try_days(period.days).ok()?;
    span.try_hours(period.hours).ok()
}
