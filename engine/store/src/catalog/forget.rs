//! Forgetting points, pinning them, and owning up to those that are gone.
//!
//! The order: the record that permits a point to be absent, then its file. So whatever happens a point is there, or it is recorded that it was
//! forgotten on purpose.

use crate::catalog::guard::{Guard, Protection};
use crate::catalog::listing::{self, PointNames};
use crate::catalog::retention::{self, Pin, Retention};
use crate::catalog::survey::{Survey, immutability, is_lost};
use crate::catalog::{machine, missing, records};
use crate::layout::{MACHINE_NAME, PointFile};
use crate::policy::Policy;
use crate::session::publish_lock;
use crate::store::{Store, WriterPermit};
use cairn_base::folder::join;
use cairn_base::{Clock, Error, Folder, Kind, PointId, Result, Time};
use std::collections::{HashMap, HashSet};

/// How points are forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ForgetOptions {
    /// Points that were made less than so many seconds ago are kept; 0: none for this reason.
    pub min_age: i64,
    /// All points of a machine may go.
    pub allow_empty: bool,
    /// Points that cannot be read may go.
    pub damaged: bool,
    /// The clock is right although it is before the time at which a point was made.
    pub clock_is_right: bool,
}

impl ForgetOptions {
    /// What protects points now.
    pub fn guard(&self, now: i64, immutable: i64) -> Guard {
        Guard {
            now,
            immutable,
            min_age: self.min_age,
            damaged: self.damaged,
            allow_empty: self.allow_empty,
        }
    }
}

/// What became of the points that were to be forgotten. Those that somebody else forgot before are not told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// They are gone.
    pub forgotten: Vec<PointFile>,
    /// They are kept, and why: something changed since the survey.
    pub kept: Vec<(PointFile, Vec<Protection>)>,
}

/// Forgets points of a machine. What protects them is looked at again, under the publish lock.
///
/// # Errors
/// [`Kind::Damaged`] if nobody knows what is pinned, or how long points are immutable; [`Kind::Denied`] if the clock cannot be right; as the folder
/// reports: then some are forgotten and others are there.
pub fn forget(
    store: &Store,
    _permit: &WriterPermit,
    survey: &Survey,
    wanted: &HashSet<PointId>,
    options: &ForgetOptions,
    clock: &dyn Clock,
) -> Result<Forgotten> {
    let folder = &**store.folder();
    let path = survey.folder();
    let _publish = publish_lock(folder)?;
    let now = clock.now().seconds;
    if !options.clock_is_right {
        survey.check_clock(now)?;
    }
    let names = listing::list(store, path)?;
    let mut retention = retention::read(folder, path, &names)?;
    let guard = options.guard(now, immutability(store)?);
    let points = survey.again(&names, &retention, now);
    let mut done = Forgotten::default();
    for (point, protections) in guard.judge(&points, wanted) {
        if protections.is_empty() {
            done.forgotten.push(point.file);
        } else {
            done.kept.push((point.file, protections));
        }
    }
    if done.forgotten.is_empty() {
        return Ok(done);
    }
    let ids: HashSet<PointId> = done.forgotten.iter().map(|file| file.id).collect();
    // A number is at least 1; one that is not was never given.
    let numbers = done.forgotten.iter().map(|file| file.sequence.max(1));
    retention.forget(numbers.map(|number| (number, number)));
    retention.unpin_all(&ids);
    retention.write(folder, path)?;
    if ids.len() == names.points.len() && names.damaged.is_empty() {
        remove_name(folder, path)?;
    }
    for file in &done.forgotten {
        folder.remove(&join(path, &file.name()))?;
    }
    folder.sync_folder(path)?;
    Ok(done)
}

/// A machine without points has no name: one with a name has lost its points. Durable before anything else happens.
fn remove_name(folder: &dyn Folder, path: &str) -> Result<()> {
    folder.remove(&join(path, MACHINE_NAME))?;
    folder.sync_folder(path)
}

/// Pins a point of the machine in the folder `path`, or takes its pin away; whether anything changed.
///
/// # Errors
/// [`Kind::NotFound`] if the point is gone, [`Kind::Invalid`] for an impossible note; [`Kind::Damaged`] if the machine's record cannot be read; as the folder reports.
pub fn set_pin(
    store: &Store,
    _permit: &WriterPermit,
    path: &str,
    point: PointId,
    pin: Option<Pin>,
) -> Result<bool> {
    pin.as_ref().map_or(Ok(()), Pin::check)?;
    let folder = &**store.folder();
    let _publish = publish_lock(folder)?;
    let names = listing::list(store, path)?;
    if !names.points.iter().any(|file| file.id == point) {
        return Err(Error::not_found("the point was forgotten meanwhile").with_id(point));
    }
    let mut retention = retention::read(folder, path, &names)?;
    let changed = retention.set_pin(point, pin);
    if changed {
        retention.write(folder, path)?;
    }
    Ok(changed)
}

/// What is pinned of the machine in the folder `path`, and what was forgotten.
///
/// # Errors
/// [`Kind::Damaged`] if its record is damaged or gone; as the folder reports.
pub fn retention_of(store: &Store, path: &str) -> Result<Retention> {
    let names = listing::list(store, path)?;
    retention::read(&**store.folder(), path, &names)
}

/// Each point that is pinned of the machine in the folder `path`, when it was made (none if it is gone), and its pin.
///
/// # Errors
/// As [`retention_of`].
pub fn pinned(store: &Store, path: &str) -> Result<Vec<(PointId, Option<Time>, Pin)>> {
    let names = listing::list(store, path)?;
    let retention = retention::read(&**store.folder(), path, &names)?;
    let times: HashMap<PointId, Time> = names
        .points
        .iter()
        .map(|file| (file.id, file.time()))
        .collect();
    let pins = retention.pins();
    Ok(pins
        .map(|(point, pin)| (point, times.get(&point).copied(), pin.clone()))
        .collect())
}

/// The name of the machine in the folder `path` for messages: where it is lost, the folder.
pub fn shown_machine(store: &Store, path: &str) -> String {
    machine::shown(store, path)
}

/// What was found to be gone and is recorded as forgotten now.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// The machine's name; where it is lost, its folder.
    pub machine: String,
    /// Runs of numbers that no point has, which were not recorded as forgotten.
    pub numbers: Vec<(u64, u64)>,
    /// The retention record was damaged or gone: all pins are lost with it.
    pub pins_lost: bool,
    /// The machine has no point any more.
    pub is_empty: bool,
}

impl Accepted {
    /// Whether there was nothing to accept.
    pub fn is_nothing(&self) -> bool {
        self.numbers.is_empty() && !self.pins_lost && !self.is_empty
    }
}

/// On the user's explicit word: every number of the machine that no point has is recorded as forgotten, in a new record without pins if the old
/// one is damaged. Points that are there stay, readable or not.
///
/// # Errors
/// [`Kind::NotFound`] if there is no such machine, [`Kind::Unsupported`] if the record is of a newer version; as the folder reports.
pub fn accept_gone(store: &Store, _permit: &WriterPermit, path: &str) -> Result<Accepted> {
    let folder = &**store.folder();
    let _publish = publish_lock(folder)?;
    let names = listing::list(store, path)?;
    let named = retention::has_name(folder, path)?;
    let (mut retention, pins_lost) = match retention::read(folder, path, &names) {
        Ok(retention) => (retention, false),
        Err(error) if is_lost(&error) => (Retention::default(), true),
        Err(error) => return Err(error),
    };
    if !named && !pins_lost && names.points.is_empty() && retention.forgotten().is_empty() {
        return Err(Error::not_found("there is no such machine").advise("see `cairn points`"));
    }
    let numbers = absent(store, path, &names, &retention)?;
    let accepted = Accepted {
        machine: machine::shown(store, path),
        is_empty: names.points.is_empty() && named,
        numbers,
        pins_lost,
    };
    retention.forget(accepted.numbers.iter().copied());
    if !accepted.numbers.is_empty() || pins_lost {
        retention.write(folder, path)?;
    }
    if accepted.is_empty {
        remove_name(folder, path)?;
    }
    Ok(accepted)
}

/// Runs of numbers up to the highest known one that no point has and that were not forgotten.
fn absent(
    store: &Store,
    path: &str,
    names: &PointNames,
    retention: &Retention,
) -> Result<Vec<(u64, u64)>> {
    let mut highest = retention.highest_forgotten();
    for file in &names.points {
        highest = highest.max(file.sequence);
        match records::read_point(store, path, file) {
            Ok(point) => highest = highest.max(point.record.previous),
            Err(error) if is_lost(&error) => {}
            Err(error) => return Err(error),
        }
    }
    let there = names
        .points
        .iter()
        .map(|file| (file.sequence, file.sequence));
    let (strays, _) = missing::strays(store, path, names);
    let there = there.chain(strays.into_iter().map(|number| (number, number)));
    let mut taken: Vec<_> = there.chain(retention.forgotten().iter().copied()).collect();
    taken.sort_unstable();
    let mut found = Vec::new();
    let mut next = 1u64;
    for (first, last) in taken {
        if first > next {
            found.push((next, first.saturating_sub(1)));
        }
        next = next.max(last.saturating_add(1));
    }
    if next <= highest {
        found.push((next, highest));
    }
    Ok(found)
}

/// Raises the time for which points of the store cannot be forgotten, in seconds; answers what it was before. With `damaged` also where that
/// is not known because its record is damaged or gone.
///
/// # Errors
/// [`Kind::Invalid`] for more than ten years, [`Kind::Denied`] if it would be lowered; as [`Policy::read`] and as the folder reports.
pub fn protect(
    store: &Store,
    _permit: &WriterPermit,
    immutable: u64,
    damaged: bool,
) -> Result<Option<u64>> {
    let new = Policy { immutable };
    new.check()?;
    let folder = &**store.folder();
    let _publish = publish_lock(folder)?;
    let before = match Policy::read(folder) {
        Ok(policy) => Some(policy.immutable),
        Err(error) if damaged && is_lost(&error) => None,
        Err(error) => return Err(error),
    };
    if before.is_some_and(|before| immutable < before) {
        return Err(Error::new(
            Kind::Denied,
            "the time for which points cannot be forgotten is never lowered",
        ));
    }
    if before != Some(immutable) {
        new.write(folder)?;
    }
    Ok(before)
}
