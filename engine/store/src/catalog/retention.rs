//! Which points of a machine were forgotten, and which are pinned: a small record beside its points.
//!
//! It is there before the machine's first point, so that one that is gone is noticed. A number among the forgotten ones is a permission to be
//! absent and nothing else: a point whose file is there exists, whatever the record says.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use crate::catalog::listing::PointNames;
use crate::codec::{self, Record};
use crate::layout::{MACHINE_NAME, MACHINE_RETENTION, MACHINE_RETENTION_SCRATCH};
use bincode::{Decode, Encode};
use cairn_base::folder::{join, optional, read_small, replace_bytes};
use cairn_base::{Error, Folder, Kind, PointId, Result};
use std::collections::{BTreeMap, HashSet};

/// Longest note of a pin in bytes.
pub const MAX_NOTE: usize = 1000;

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct PinRow {
    point: [u8; 32],
    until: Option<i64>,
    note: String,
}

/// What the file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
struct RetentionRecord {
    /// First and last number of each run of forgotten ones: from 1, ascending, none next to each other.
    forgotten: Vec<(u64, u64)>,
    /// Ascending by point.
    pins: Vec<PinRow>,
}

impl Record for RetentionRecord {
    const MAGIC: [u8; 8] = *b"CAIRNRTN";
    const VERSION: u32 = 1;
    const NAME: &'static str = "retention record";
}

/// Why a point is kept whatever the rules say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pin {
    /// It holds until then, seconds since 1970; for ever if there is none.
    pub until: Option<i64>,
    /// What the user says about it, at most [`MAX_NOTE`] bytes without control characters.
    pub note: String,
}

impl Pin {
    /// Whether it keeps the point at this time, seconds since 1970.
    pub fn holds(&self, now: i64) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// Whether the note can be written.
    ///
    /// # Errors
    /// [`Kind::Invalid`] if it is too long, or has control characters.
    pub fn check(&self) -> Result<()> {
        if self.note.len() > MAX_NOTE || self.note.chars().any(char::is_control) {
            return Err(Error::invalid(format!(
                "a note has at most {MAX_NOTE} bytes, on one line"
            )));
        }
        Ok(())
    }
}

/// What is forgotten of a machine on purpose, and what is pinned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    forgotten: Vec<(u64, u64)>,
    pins: BTreeMap<PointId, Pin>,
}

impl Retention {
    /// What the file in the machine's folder `path` says; nothing if there is none.
    ///
    /// # Errors
    /// [`Kind::Damaged`] or [`Kind::Unsupported`] if it cannot be made out; as the folder reports.
    fn read(folder: &dyn Folder, path: &str) -> Result<Option<Retention>> {
        let full = join(path, MACHINE_RETENTION);
        let Some(bytes) = optional(read_small(folder, &full, codec::MAX_FILE))? else {
            return Ok(None);
        };
        Retention::of(codec::open(&bytes)?).map(Some)
    }

    fn of(record: RetentionRecord) -> Result<Retention> {
        let ranges = &record.forgotten;
        let sound = ranges
            .iter()
            .all(|(first, last)| 0 < *first && first <= last);
        if !sound || joined(ranges.clone()) != *ranges {
            return Err(Error::damaged("the forgotten numbers are in disorder"));
        }
        if !record.pins.is_sorted_by(|one, next| one.point < next.point) {
            return Err(Error::damaged("the pins are in disorder"));
        }
        let pins = record.pins.into_iter().map(|row| {
            let (until, note) = (row.until, row.note);
            (PointId(row.point), Pin { until, note })
        });
        let pins: BTreeMap<_, _> = pins.collect();
        if pins.values().any(|pin| pin.check().is_err()) {
            return Err(Error::damaged("an impossible note"));
        }
        let forgotten = record.forgotten;
        Ok(Retention { forgotten, pins })
    }

    /// Puts it into the file's place, durably; the caller holds the publish lock.
    ///
    /// # Errors
    /// As the folder reports.
    pub(super) fn write(&self, folder: &dyn Folder, path: &str) -> Result<()> {
        let pins = self.pins.iter().map(|(point, pin)| PinRow {
            point: point.0,
            until: pin.until,
            note: pin.note.clone(),
        });
        let record = RetentionRecord {
            forgotten: self.forgotten.clone(),
            pins: pins.collect(),
        };
        let scratch = join(path, MACHINE_RETENTION_SCRATCH);
        let bytes = codec::seal(&record)?;
        replace_bytes(folder, &scratch, path, MACHINE_RETENTION, &bytes)
    }

    /// Whether the point of this number was forgotten on purpose.
    pub fn is_forgotten(&self, sequence: u64) -> bool {
        let at = self.forgotten.partition_point(|(_, last)| *last < sequence);
        let found = self.forgotten.get(at);
        found.is_some_and(|(first, _)| *first <= sequence)
    }

    /// The highest number that was forgotten; 0 if none was.
    pub fn highest_forgotten(&self) -> u64 {
        self.forgotten.last().map_or(0, |(_, last)| *last)
    }

    /// Runs of forgotten numbers, ascending.
    pub fn forgotten(&self) -> &[(u64, u64)] {
        &self.forgotten
    }

    /// The pin of a point.
    pub fn pin(&self, point: PointId) -> Option<&Pin> {
        self.pins.get(&point)
    }

    /// All pins, ascending by point; also those that have ended.
    pub fn pins(&self) -> impl Iterator<Item = (PointId, &Pin)> {
        self.pins.iter().map(|(point, pin)| (*point, pin))
    }

    /// Adds runs of numbers that may be absent.
    pub(super) fn forget(&mut self, ranges: impl IntoIterator<Item = (u64, u64)>) {
        self.forgotten.extend(ranges);
        self.forgotten = joined(std::mem::take(&mut self.forgotten));
    }

    /// Sets the pin of a point, or takes it away; whether anything changed.
    pub(super) fn set_pin(&mut self, point: PointId, pin: Option<Pin>) -> bool {
        match pin {
            Some(pin) => self.pins.insert(point, pin.clone()) != Some(pin),
            None => self.pins.remove(&point).is_some(),
        }
    }

    /// Takes away the pins of these points.
    pub(super) fn unpin_all(&mut self, points: &HashSet<PointId>) {
        self.pins.retain(|point, _| !points.contains(point));
    }
}

/// Runs in order, those that touch made one.
fn joined(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    ranges.sort_unstable();
    let mut out: Vec<(u64, u64)> = Vec::new();
    for (first, last) in ranges {
        match out.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => out.push((first, last)),
        }
    }
    out
}

/// What is known of the machine in the folder `path`, in which these points were found before.
///
/// # Errors
/// [`Kind::Damaged`] if the record is damaged, or gone where there must be one; [`Kind::Unsupported`] if it is of a newer version; as the folder reports.
pub(super) fn read(folder: &dyn Folder, path: &str, names: &PointNames) -> Result<Retention> {
    // Before the record: it is older than the first point and the name.
    let used = !names.points.is_empty() || has_name(folder, path)?;
    let read = Retention::read(folder, path).and_then(|found| match found {
        None if used => Err(Error::damaged("the record is gone")),
        found => Ok(found.unwrap_or_default()),
    });
    read.map_err(|error| {
        let damaged = error.kind() == Kind::Damaged;
        let error = error
            .context("which points of a machine are pinned, and which were forgotten, is not known")
            .at_path(folder.describe(&join(path, MACHINE_RETENTION)));
        if damaged {
            error.advise("none of them is forgotten until `cairn forget STORE --machine NAME --accept-gone` has made a new record; the pins must be set again then")
        } else {
            error
        }
    })
}

/// Whether the machine's folder has a file for its name, whole or not.
pub(super) fn has_name(folder: &dyn Folder, path: &str) -> Result<bool> {
    Ok(optional(folder.size(&join(path, MACHINE_NAME)))?.is_some())
}

/// Makes the record of a machine that has no points yet. The caller holds the publish lock.
///
/// # Errors
/// As the folder reports.
pub(super) fn found(
    folder: &dyn Folder,
    path: &str,
    names: impl FnOnce() -> Result<PointNames>,
) -> Result<()> {
    let there = optional(folder.size(&join(path, MACHINE_RETENTION)))?.is_some();
    if there || has_name(folder, path)? || !names()?.points.is_empty() {
        // One that is lost stays lost until somebody says that the pins may go.
        return Ok(());
    }
    Retention::default().write(folder, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn golden_bytes_and_disorder_is_damage() {
        let record = RetentionRecord {
            forgotten: vec![(1, 3), (5, 5)],
            pins: vec![PinRow {
                point: [7; 32],
                until: Some(9),
                note: "x".to_string(),
            }],
        };
        let bytes = codec::seal(&record).unwrap();
        let payload = [
            &[2, 0, 0, 0, 0, 0, 0, 0][..],
            &[1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0],
            &[5, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0, 0, 0, 0, 0],
            &[7; 32],
            &[1, 9, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0, 0, 0, 0, 0, b'x'],
        ]
        .concat();
        assert_eq!(bytes[..12], *b"CAIRNRTN\x01\0\0\0");
        assert_eq!(bytes[24..bytes.len() - 16], payload);
        let kept = Retention::of(record.clone()).unwrap();
        assert!(kept.is_forgotten(2) && kept.is_forgotten(5) && !kept.is_forgotten(4));
        assert_eq!(kept.highest_forgotten(), 5);
        for forgotten in [
            vec![(0, 1)],
            vec![(3, 2)],
            vec![(5, 5), (1, 3)],
            vec![(1, 3), (4, 5)],
            vec![(1, 3), (2, 5)],
        ] {
            let record = RetentionRecord {
                forgotten,
                ..record.clone()
            };
            assert_eq!(Retention::of(record).unwrap_err().kind(), Kind::Damaged);
        }
        let mut twice = record.clone();
        twice.pins.extend(record.pins.clone());
        assert_eq!(Retention::of(twice).unwrap_err().kind(), Kind::Damaged);
        let mut note = record;
        note.pins[0].note = "a\nb".to_string();
        assert_eq!(Retention::of(note).unwrap_err().kind(), Kind::Damaged);
    }

    #[test]
    fn a_pin_holds_until_its_end() {
        let pin = |until| Pin {
            until,
            note: String::new(),
        };
        assert!(pin(None).holds(i64::MAX) && pin(Some(10)).holds(9) && !pin(Some(10)).holds(10));
        let long = Pin {
            until: None,
            note: "x".repeat(MAX_NOTE + 1),
        };
        assert_eq!(long.check().unwrap_err().kind(), Kind::Invalid);
    }

    proptest! {
        #[test]
        fn numbers_are_kept_as_a_set(numbers in proptest::collection::vec(1u64..60, 0..80), more in 1u64..60) {
            let mut kept = Retention::default();
            for chunk in numbers.chunks(7) {
                kept.forget(chunk.iter().map(|n| (*n, *n)));
            }
            let set: BTreeSet<u64> = numbers.iter().copied().collect();
            for n in 0..70 {
                prop_assert_eq!(kept.is_forgotten(n), set.contains(&n));
            }
            prop_assert_eq!(kept.highest_forgotten(), set.last().copied().unwrap_or(0));
            let record = RetentionRecord { forgotten: kept.forgotten.clone(), pins: vec![] };
            prop_assert_eq!(Retention::of(record).unwrap(), kept.clone());
            let before = kept.clone();
            kept.forget([(more, more)]);
            prop_assert_eq!(kept == before, set.contains(&more));
        }
    }
}
