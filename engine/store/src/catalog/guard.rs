//! What protects a point from being forgotten, whatever anybody asks for. Pure: it knows no folders.

use crate::catalog::retention::Pin;
use crate::layout::PointFile;
use cairn_base::{PointId, Time};
use std::collections::HashSet;
use std::fmt;

/// A point, as far as it matters for keeping or forgetting it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// What the name of its file says.
    pub file: PointFile,
    /// When it was published, seconds since 1970, by the clock of then; of one that cannot be read, when it was at the earliest.
    pub made: i64,
    /// Whether it can be read.
    pub readable: bool,
    /// Its pin, also one that has ended.
    pub pin: Option<Pin>,
}

/// Why a point is kept whatever the rules say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// It is pinned, until this time or for ever.
    Pinned(Option<i64>),
    /// It was made less than so many seconds ago, and the store keeps such points.
    Immutable(i64),
    /// It was made less than so many seconds ago, and the caller keeps such points.
    Young(i64),
    /// It cannot be read, so that nobody knows what would be lost.
    Unreadable,
    /// Without it the machine would have no point.
    Last,
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Protection::Pinned(None) => f.write_str("pinned"),
            Protection::Pinned(Some(until)) => {
                write!(f, "pinned until {}", Time::from_seconds(*until))
            }
            Protection::Immutable(seconds) => write!(
                f,
                "younger than the store's immutability of {}",
                spelled(*seconds)
            ),
            Protection::Young(seconds) => {
                write!(f, "younger than the minimum age of {}", spelled(*seconds))
            }
            Protection::Unreadable => f.write_str("cannot be read: kept"),
            Protection::Last => f.write_str("the machine's last point"),
        }
    }
}

/// `14 days`, `36 hours`, `5 seconds`: exactly so many seconds.
pub fn spelled(seconds: i64) -> String {
    let units = [(86_400, "day"), (3600, "hour"), (1, "second")];
    let found = units.iter().find(|(unit, _)| seconds % unit == 0);
    let (unit, name) = found.copied().unwrap_or((1, "second"));
    let count = seconds / unit;
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {name}{plural}")
}

/// What protects points at some moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Guard {
    /// The time, seconds since 1970.
    pub now: i64,
    /// The store's immutability in seconds; 0: none.
    pub immutable: i64,
    /// The caller's minimum age in seconds; 0: none.
    pub min_age: i64,
    /// Points that cannot be read may go as well.
    pub damaged: bool,
    /// All points of a machine may go.
    pub allow_empty: bool,
}

impl Guard {
    /// What protects this point alone.
    pub fn protections(&self, point: &Candidate) -> Vec<Protection> {
        let mut found = Vec::new();
        if !point.readable && !self.damaged {
            found.push(Protection::Unreadable);
        }
        if let Some(pin) = point.pin.as_ref().filter(|pin| pin.holds(self.now)) {
            found.push(Protection::Pinned(pin.until));
        }
        // One that is said to be made in the future is as young as can be.
        let age = self.now.saturating_sub(point.made);
        if self.immutable > 0 && age < self.immutable {
            found.push(Protection::Immutable(self.immutable));
        }
        if self.min_age > 0 && age < self.min_age {
            found.push(Protection::Young(self.min_age));
        }
        found
    }

    /// The points that are to be forgotten, each with what protects it, and is thus kept; they are some of a machine's `points`.
    pub fn judge<'a>(
        &self,
        points: &'a [Candidate],
        wanted: &HashSet<PointId>,
    ) -> Vec<(&'a Candidate, Vec<Protection>)> {
        let asked = points
            .iter()
            .filter(|point| wanted.contains(&point.file.id));
        let mut judged: Vec<_> = asked
            .map(|point| (point, self.protections(point)))
            .collect();
        let goes = judged.iter().filter(|(_, found)| found.is_empty());
        let going: HashSet<PointId> = goes.map(|(point, _)| point.file.id).collect();
        let stays = |point: &Candidate| point.readable && !going.contains(&point.file.id);
        if going.is_empty() || self.allow_empty || points.iter().any(stays) {
            return judged;
        }
        let goes = points.iter().filter(|point| going.contains(&point.file.id));
        let spared = last(goes).map(|point| point.file.id);
        for (point, found) in &mut judged {
            if Some(point.file.id) == spared {
                found.push(Protection::Last);
            }
        }
        judged
    }
}

/// Of these points the one that is worth most: one that can be read, no import if there is another, of the highest number; of imports the newest.
pub fn last<'a>(points: impl Iterator<Item = &'a Candidate>) -> Option<&'a Candidate> {
    points.max_by_key(|point| {
        let file = &point.file;
        let order = if file.import {
            (file.seconds, file.sequence)
        } else {
            (0, file.sequence)
        };
        (point.readable, !file.import, order)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(sequence: u64, made: i64) -> Candidate {
        Candidate {
            file: PointFile {
                sequence,
                seconds: made,
                import: false,
                id: PointId([u8::try_from(sequence).unwrap(); 32]),
            },
            made,
            readable: true,
            pin: None,
        }
    }

    fn import(sequence: u64, seconds: i64) -> Candidate {
        let mut point = point(sequence, seconds);
        point.file.import = true;
        point
    }

    fn kept(guard: &Guard, points: &[Candidate], wanted: &[u64]) -> Vec<(u64, Vec<Protection>)> {
        let wanted = points.iter().filter(|p| wanted.contains(&p.file.sequence));
        let wanted: HashSet<PointId> = wanted.map(|p| p.file.id).collect();
        let judged = guard.judge(points, &wanted).into_iter();
        judged
            .filter(|(_, found)| !found.is_empty())
            .map(|(point, found)| (point.file.sequence, found))
            .collect()
    }

    #[test]
    fn each_protection_alone() {
        let guard = Guard {
            now: 1000,
            immutable: 100,
            min_age: 200,
            ..Guard::default()
        };
        assert_eq!(guard.protections(&point(1, 800)), []);
        assert_eq!(guard.protections(&point(1, 801)), [Protection::Young(200)]);
        assert_eq!(guard.protections(&point(1, 900)).len(), 1);
        assert_eq!(
            guard.protections(&point(1, 2000)),
            [Protection::Immutable(100), Protection::Young(200)]
        );
        let mut lost = point(1, 0);
        lost.readable = false;
        assert_eq!(guard.protections(&lost), [Protection::Unreadable]);
        let may = Guard {
            damaged: true,
            ..guard
        };
        assert_eq!(may.protections(&lost), []);
        let mut pinned = point(1, 0);
        pinned.pin = Some(Pin {
            until: Some(1001),
            note: String::new(),
        });
        assert_eq!(guard.protections(&pinned), [Protection::Pinned(Some(1001))]);
        let later = Guard { now: 1001, ..guard };
        assert_eq!(later.protections(&pinned), []);
        // No rule, no protection, even of a time that is yet to come.
        let free = Guard::default();
        assert_eq!(free.protections(&point(1, 5000)), []);
        assert_eq!(free.protections(&point(1, i64::MAX)), []);
    }

    #[test]
    fn a_machine_keeps_a_point_that_can_be_read() {
        let guard = Guard::default();
        let mut points = vec![point(1, 10), point(2, 20), import(3, 5)];
        assert_eq!(kept(&guard, &points, &[1, 2]), []);
        assert_eq!(
            kept(&guard, &points, &[1, 2, 3]),
            [(2, vec![Protection::Last])]
        );
        points[2].readable = false;
        let damaged = Guard {
            damaged: true,
            ..guard
        };
        // What cannot be read is no point to fall back on.
        for wanted in [&[1, 2][..], &[1, 2, 3]] {
            assert_eq!(
                kept(&damaged, &points, wanted),
                [(2, vec![Protection::Last])]
            );
        }
        let empty = Guard {
            allow_empty: true,
            ..damaged
        };
        assert_eq!(kept(&empty, &points, &[1, 2, 3]), []);
        let imports = [import(1, 50), import(2, 40)];
        assert_eq!(
            kept(&guard, &imports, &[1, 2]),
            [(1, vec![Protection::Last])]
        );
    }

    #[test]
    fn lengths_are_exact() {
        for (seconds, text) in [
            (14 * 86_400, "14 days"),
            (86_400, "1 day"),
            (36 * 3600, "36 hours"),
            (61, "61 seconds"),
        ] {
            assert_eq!(spelled(seconds), text);
        }
    }
}
