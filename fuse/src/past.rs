//! What there was: the versions of a file over all points of a machine, and all names that a folder ever had.
//!
//! Nothing is looked at before it is asked for. Points whose disk is the same by its map's root are one; of a volume of which no byte changed from one point
//! to the next, the second is not opened. What was found is kept for a while, within a bound; what could not be read is tried again after some seconds.

mod cell;
mod history;
mod room;
mod timeline;
mod walk;

pub use history::{History, Version};
pub use timeline::{DiskLine, Era, Problem, Timeline};

use crate::catalog::Catalog;
use crate::failure::Result;
use crate::inode::PointKey;
use crate::past::cell::{Cell, Patience};
use crate::past::room::Room;
use crate::paths::PastPath;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Machines of which it is remembered which disks they had.
const MACHINES: usize = 8;
/// Files and folders of which it is remembered what there was.
const HISTORIES: usize = 64;
/// Names and versions that are remembered of all of these, unless one alone has more.
const WEIGHT: usize = 1 << 20;

/// Histories that are found out at a time, each with up to three points open; the others wait.
const FINDING: usize = 2;
/// Single names that are looked for at a time, each with up to two points open.
const LOOKING: usize = 2;

/// What was found of the past.
pub struct Pasts {
    timelines: Mutex<HashMap<Arc<str>, Arc<Cell<Timeline>>>>,
    histories: Mutex<Histories>,
    patience: Patience,
    finding: Room,
    looking: Room,
}

impl Default for Pasts {
    fn default() -> Pasts {
        Pasts {
            timelines: Mutex::default(),
            histories: Mutex::default(),
            patience: Patience::default(),
            finding: Room::new(FINDING),
            looking: Room::new(LOOKING),
        }
    }
}

#[derive(Default)]
struct Histories {
    kept: HashMap<PastPath, Kept>,
    clock: u64,
}

struct Kept {
    cell: Arc<Cell<History>>,
    used: u64,
    weight: usize,
}

impl Pasts {
    /// The disks of a machine over its points.
    ///
    /// # Errors
    /// As [`Catalog::points`].
    pub fn timeline(&self, catalog: &Catalog, machine: &Arc<str>) -> Result<Arc<Timeline>> {
        let points = catalog.points(machine)?;
        let cell = {
            let mut cells = self.timelines.lock();
            if cells.len() >= MACHINES && !cells.contains_key(machine) {
                cells.clear();
            }
            cells.entry(machine.clone()).or_default().clone()
        };
        let fits = |timeline: &Timeline| timeline.points() == points.points;
        cell.find(self.patience, &fits, |before| {
            let read = Timeline::read(catalog, machine, &points.points);
            // What was found along it is still right if nothing changed.
            let before = before.filter(|before| **before == read);
            Ok(before.unwrap_or_else(|| Arc::new(read)))
        })
    }

    /// What there was at a path, found out if it is not known.
    ///
    /// # Errors
    /// [`Kind::NotFound`](cairn::Kind::NotFound) if no point has such a disk or partition; as [`Catalog::points`].
    pub fn history(&self, catalog: &Catalog, path: &PastPath) -> Result<Arc<History>> {
        let timeline = self.timeline(catalog, &path.machine)?;
        let cell = self.histories.lock().cell(path);
        let fits = |history: &History| history.is_of(&timeline);
        let history = cell.find(self.patience, &fits, |_| {
            let _place = self.finding.enter();
            Ok(Arc::new(History::find(catalog, &timeline, path)?))
        })?;
        self.histories.lock().weigh(path, history.weight());
        Ok(history)
    }

    /// What there was at a path, if it is known: nobody is waited for who finds it out.
    ///
    /// # Errors
    /// As [`Catalog::points`].
    pub fn known(&self, catalog: &Catalog, path: &PastPath) -> Result<Option<Arc<History>>> {
        let timeline = self.timeline(catalog, &path.machine)?;
        let cell = match self.histories.lock().kept.get(path) {
            Some(kept) => kept.cell.clone(),
            None => return Ok(None),
        };
        Ok(cell.known(&|history| history.is_of(&timeline)))
    }

    /// Whether there was anything at a path: the newest point is asked first, and kept open.
    ///
    /// # Errors
    /// As [`Catalog::points`]; as [`Problem::failure`] if it was found nowhere, and something could not be read.
    pub fn existed(&self, catalog: &Catalog, path: &PastPath) -> Result<bool> {
        let timeline = self.timeline(catalog, &path.machine)?;
        let mut unread = Vec::new();
        let names = path.names();
        let found = match &*names {
            [] => true,
            [disk] => timeline.disk(disk).is_some(),
            [disk, partition, inner @ ..] => {
                let Some(partition) = walk::partition(partition) else {
                    return Ok(false);
                };
                let line = timeline.disk(disk);
                line.is_some_and(|line| {
                    let walk = walk::Walk {
                        catalog,
                        machine: &path.machine,
                        partition,
                    };
                    self.is_on(line, &walk, inner, &mut unread)
                })
            }
        };
        let mut problems = timeline.problems().iter().chain(&unread);
        match problems.find(|problem| !found && problem.may_hide) {
            Some(problem) => Err(problem.failure()),
            None => Ok(found),
        }
    }

    /// Whether there was anything at a path of a volume; what could not be read is added to `unread`.
    fn is_on(
        &self,
        line: &DiskLine,
        walk: &walk::Walk<'_>,
        inner: &[&[u8]],
        unread: &mut Vec<Problem>,
    ) -> bool {
        let _place = self.looking.enter();
        let eras = line.eras_of(walk.partition);
        if let Some(newest) = eras.last() {
            let key = PointKey {
                machine: walk.machine.clone(),
                id: newest.point.id,
                seconds: newest.point.seconds,
            };
            // What is wrong with it is told to whoever lists the folder.
            let _ = walk.catalog.open(&key);
        }
        let mut found = false;
        *unread = walk.each(eras.iter().rev(), &mut |_, seen| {
            found = inner.is_empty() || walk::resolve(&*seen.volume.open()?, inner)?.is_some();
            Ok(if found {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        });
        found
    }
}

impl Histories {
    fn cell(&mut self, path: &PastPath) -> Arc<Cell<History>> {
        self.clock = self.clock.saturating_add(1);
        let now = self.clock;
        let kept = self.kept.entry(path.clone()).or_insert_with(|| Kept {
            cell: Arc::default(),
            used: now,
            weight: 0,
        });
        kept.used = now;
        let cell = kept.cell.clone();
        self.make_room(path);
        cell
    }

    fn weigh(&mut self, path: &PastPath, weight: usize) {
        if let Some(kept) = self.kept.get_mut(path) {
            kept.weight = weight;
        }
        self.make_room(path);
    }

    /// Forgets what was not used for longest, never `path`.
    fn make_room(&mut self, path: &PastPath) {
        loop {
            let weight = self.kept.values().map(|kept| kept.weight);
            let weight = weight.fold(0, usize::saturating_add);
            if self.kept.len() <= HISTORIES && weight <= WEIGHT {
                return;
            }
            let others = self.kept.iter().filter(|(other, _)| *other != path);
            let oldest = others.min_by_key(|(_, kept)| kept.used);
            let Some(oldest) = oldest.map(|(other, _)| other.clone()) else {
                return;
            };
            self.kept.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests;
