//! All that decides which points of a machine may be forgotten, as it was at some moment.

use crate::catalog::guard::Candidate;
use crate::catalog::listing::{self, PointNames};
use crate::catalog::retention::{self, Retention};
use crate::catalog::{BATCH, machine, records};
use crate::layout::PointFile;
use crate::policy::Policy;
use crate::store::Store;
use cairn_base::{Error, Kind, PointId, Result, Time};
use std::collections::HashMap;

/// The points of a machine, what is known of them, and what protects them. Only what was read makes one.
#[derive(Debug)]
pub struct Survey {
    folder: String,
    name: String,
    points: Vec<Candidate>,
    unreadable: Vec<(PointFile, Error)>,
    strays: Vec<Error>,
    retention: Retention,
    immutable: i64,
    newest_made: Option<i64>,
}

impl Survey {
    /// Looks at the machine in the folder `path`: reads each of its points.
    ///
    /// # Errors
    /// [`Kind::Damaged`] if nobody knows what is pinned, or how long points are immutable; as the folder reports.
    pub fn of(store: &Store, path: &str) -> Result<Survey> {
        let folder = &**store.folder();
        let names = listing::list(store, path)?;
        let retention = retention::read(folder, path, &names)?;
        let mut survey = Survey {
            folder: path.to_string(),
            name: machine::shown(store, path),
            points: Vec::new(),
            unreadable: Vec::new(),
            strays: names.damaged,
            retention,
            immutable: immutability(store)?,
            newest_made: None,
        };
        let files: Vec<_> = names.points.iter().map(|file| (path, *file)).collect();
        for batch in files.chunks(BATCH) {
            for ((_, file), read) in batch.iter().zip(records::read_points(store, batch)) {
                survey.add(*file, read.map(|point| point.record.made))?;
            }
        }
        Ok(survey)
    }

    /// Adds a point. They come in the order of their numbers.
    fn add(&mut self, file: PointFile, made: Result<i64>) -> Result<()> {
        let readable = made.is_ok();
        let made = match made {
            Ok(made) => {
                self.newest_made = self.newest_made.max(Some(made));
                made
            }
            // Forgotten since it was listed.
            Err(error) if error.kind() == Kind::NotFound => return Ok(()),
            // It will be read another time: nothing is decided about it, nor without it.
            Err(error) if !is_lost(&error) => return Err(error),
            Err(error) => {
                self.unreadable.push((file, error));
                // Not before the one in front of it, and seldom before its own time.
                self.newest_made.unwrap_or(i64::MIN).max(file.seconds)
            }
        };
        self.points.push(Candidate {
            pin: self.retention.pin(file.id).cloned(),
            file,
            made,
            readable,
        });
        Ok(())
    }

    /// The same points as they are by now, those that were published since among them.
    pub(super) fn again(
        &self,
        names: &PointNames,
        retention: &Retention,
        now: i64,
    ) -> Vec<Candidate> {
        let known: HashMap<PointId, &Candidate> = self
            .points
            .iter()
            .map(|point| (point.file.id, point))
            .collect();
        let here = names.points.iter().map(|file| {
            let known = known.get(&file.id);
            Candidate {
                file: *file,
                made: known.map_or(now, |point| point.made),
                readable: known.is_none_or(|point| point.readable),
                pin: retention.pin(file.id).cloned(),
            }
        });
        here.collect()
    }

    /// Whether ages can be told by this clock: it is not before the time at which a point of the machine was made.
    ///
    /// # Errors
    /// [`Kind::Denied`] if it is.
    pub fn check_clock(&self, now: i64) -> Result<()> {
        match self.newest_made {
            Some(made) if now < made => Err(Error::new(
                Kind::Denied,
                format!(
                    "the clock says {}, but a recovery point of {} was made at {}",
                    Time::from_seconds(now),
                    self.name,
                    Time::from_seconds(made)
                ),
            )
            .advise("set the clock, or if it is right, say so with --clock-is-right")),
            _ => Ok(()),
        }
    }

    /// The machine's folder, `points/<...>`.
    pub fn folder(&self) -> &str {
        &self.folder
    }

    /// The machine's name as it is spelled; where it is lost, its folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The points in the order of their numbers.
    pub fn points(&self) -> &[Candidate] {
        &self.points
    }

    /// The points that cannot be read.
    pub fn unreadable(&self) -> &[(PointFile, Error)] {
        &self.unreadable
    }

    /// Files among the points that are none.
    pub fn strays(&self) -> &[Error] {
        &self.strays
    }

    /// What was forgotten, and what is pinned.
    pub fn retention(&self) -> &Retention {
        &self.retention
    }

    /// For how many seconds points of the store cannot be forgotten.
    pub fn immutable(&self) -> i64 {
        self.immutable
    }
}

/// Whether a point that is read like that is lost; a newer version is not, nor is what may be read another time.
pub(super) fn is_lost(error: &Error) -> bool {
    match error.kind() {
        Kind::Damaged => true,
        Kind::Io => !error.is_momentary(),
        _ => false,
    }
}

/// For how many seconds points of the store cannot be forgotten; 0: for none.
///
/// # Errors
/// As [`Policy::read`].
pub fn immutability(store: &Store) -> Result<i64> {
    let policy = Policy::read(&**store.folder())?;
    Ok(i64::try_from(policy.immutable).unwrap_or(i64::MAX))
}
