//! Which points the rules keep, and why. Pure: no store, no clock, no time zone of its own.
//!
//! - Newest by number: `last`. Imports are not latest, so they do not count there.
//! - Newest of a period of the user's calendar: `hourly` to `yearly`, the most recent periods that have a point. A week is one of ISO 8601.
//! - Young, seen from the machine's latest point: `within`. A machine that is not backed up any more loses nothing by waiting.
//!
//! Points that cannot be read are kept and take nobody's place. What protects points from everybody is in `cairn_store::catalog::Guard`.

mod period;
mod zone;

pub use period::Period;
pub use zone::{Calendar, Zone};

use cairn_base::{PointId, Time};
use cairn_store::catalog::{Candidate, Guard, Protection, last};
use std::collections::{BTreeSet, HashSet};
use std::fmt;

/// What is to be kept. A rule with 0 says nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rules {
    /// So many points with the highest numbers, imports not counted.
    pub last: u64,
    /// The newest point of so many hours that have points.
    pub hourly: u64,
    /// The newest point of so many days that have points.
    pub daily: u64,
    /// The newest point of so many weeks that have points.
    pub weekly: u64,
    /// The newest point of so many months that have points.
    pub monthly: u64,
    /// The newest point of so many years that have points.
    pub yearly: u64,
    /// All points of this time before the machine's latest one.
    pub within: Option<Period>,
}

impl Rules {
    /// Whether they say nothing.
    pub fn is_empty(&self) -> bool {
        *self == Rules::default()
    }

    fn calendar(&self) -> [(Calendar, u64); 5] {
        [
            (Calendar::Hour, self.hourly),
            (Calendar::Day, self.daily),
            (Calendar::Week, self.weekly),
            (Calendar::Month, self.monthly),
            (Calendar::Year, self.yearly),
        ]
    }
}

/// Why a point is kept, or dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It is the `number`-th of the last `of`.
    Last {
        /// From 1, the newest.
        number: u64,
        /// What the rule says.
        of: u64,
    },
    /// It is the newest one of a period.
    Newest {
        /// What kind of period.
        calendar: Calendar,
        /// Which one: `2026-11-20`, `2026-W47`, ...
        period: String,
    },
    /// It is so young.
    Within(Period),
    /// Nobody can forget it.
    Protected(Protection),
    /// No rule keeps it: it is dropped.
    NoRule,
    /// It was named: it is dropped.
    Named,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Last { number, of } => write!(f, "last {number} of {of}"),
            Reason::Newest { calendar, period } => write!(f, "{} {period}", calendar.adverb()),
            Reason::Within(period) => write!(f, "within {period} of the latest point"),
            Reason::Protected(protection) => protection.fmt(f),
            Reason::NoRule => f.write_str("no rule keeps it"),
            Reason::Named => f.write_str("named"),
        }
    }
}

/// What is decided about a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The point.
    pub point: Candidate,
    /// Whether it stays.
    pub kept: bool,
    /// Every reason for that; never none.
    pub reasons: Vec<Reason>,
}

impl Verdict {
    /// When the point was made.
    pub fn time(&self) -> Time {
        self.point.file.time()
    }
}

/// Decides about all points of a machine by rules. The answer is in the order of their numbers, whatever order they come in.
pub fn decide(points: &[Candidate], rules: &Rules, guard: &Guard, zone: &Zone) -> Vec<Verdict> {
    let mut verdicts: Vec<Verdict> = points.iter().map(|point| protected(point, guard)).collect();
    verdicts.sort_by_key(|verdict| verdict.point.file);
    keep_last(&mut verdicts, rules.last);
    // Newest first.
    let mut order: Vec<usize> = (0..verdicts.len()).collect();
    order.retain(|at| verdicts[*at].point.readable);
    order.sort_by_key(|at| {
        let file = &verdicts[*at].point.file;
        std::cmp::Reverse((file.seconds, file.sequence))
    });
    for (calendar, count) in rules.calendar() {
        keep_newest(&mut verdicts, &order, calendar, count, zone);
    }
    let latest = last(points.iter()).filter(|point| point.readable);
    if let (Some(period), Some(latest)) = (rules.within, latest) {
        // A latest point whose time is yet to come must not make all others old.
        let end = latest.file.seconds.min(guard.now);
        let start = zone.before(end, period);
        let young =
            |verdict: &&mut Verdict| verdict.point.readable && verdict.point.file.seconds > start;
        for verdict in verdicts.iter_mut().filter(young) {
            verdict.reasons.push(Reason::Within(period));
        }
    }
    if !guard.allow_empty {
        let goes = |verdict: &&Verdict| verdict.reasons.is_empty();
        // Where none can be read one of them stays all the same, as the store has it.
        let spared = latest.or_else(|| last(verdicts.iter().filter(goes).map(|v| &v.point)));
        let spared = spared.map(|point| point.file);
        let found = verdicts.iter_mut().find(|v| Some(v.point.file) == spared);
        if let Some(verdict) = found.filter(|verdict| verdict.reasons.is_empty()) {
            verdict.reasons.push(Reason::Protected(Protection::Last));
        }
    }
    for verdict in &mut verdicts {
        verdict.kept = !verdict.reasons.is_empty();
        if !verdict.kept {
            verdict.reasons.push(Reason::NoRule);
        }
    }
    verdicts
}

/// Decides about the points of a machine that a user named.
pub fn decide_named(points: &[Candidate], named: &HashSet<PointId>, guard: &Guard) -> Vec<Verdict> {
    let judged = guard.judge(points, named).into_iter();
    let mut verdicts: Vec<Verdict> = judged
        .map(|(point, protections)| {
            let kept = !protections.is_empty();
            let mut reasons: Vec<_> = protections.into_iter().map(Reason::Protected).collect();
            if !kept {
                reasons.push(Reason::Named);
            }
            Verdict {
                point: point.clone(),
                kept,
                reasons,
            }
        })
        .collect();
    verdicts.sort_by_key(|verdict| verdict.point.file);
    verdicts
}

fn protected(point: &Candidate, guard: &Guard) -> Verdict {
    let protections = guard.protections(point).into_iter();
    Verdict {
        point: point.clone(),
        kept: false,
        reasons: protections.map(Reason::Protected).collect(),
    }
}

fn keep_last(verdicts: &mut [Verdict], of: u64) {
    let count = |verdict: &&mut Verdict| verdict.point.readable && !verdict.point.file.import;
    for (number, verdict) in (1..=of).zip(verdicts.iter_mut().rev().filter(count)) {
        verdict.reasons.push(Reason::Last { number, of });
    }
}

/// Keeps the newest point of each of the `count` most recent periods that have one. `order`: newest first.
fn keep_newest(
    verdicts: &mut [Verdict],
    order: &[usize],
    calendar: Calendar,
    count: u64,
    zone: &Zone,
) {
    // Clocks that are turned back at midnight come to the same day twice: so all that were seen, not only the last one.
    let mut seen = BTreeSet::new();
    for at in order {
        if cairn_base::units::to_u64(seen.len()) >= count {
            return;
        }
        let Some(verdict) = verdicts.get_mut(*at) else {
            return;
        };
        let period = zone.period(verdict.point.file.seconds, calendar);
        if seen.insert(period.clone()) {
            verdict.reasons.push(Reason::Newest { calendar, period });
        }
    }
}

#[cfg(test)]
mod tests;
