//! What there was: the versions of a file over all points of a machine, and all names that a folder ever had.
//!
//! Nothing is looked at before it is asked for. Points whose disk is the same by its map's root are one; of a volume of which no byte changed from one point
//! to the next, the second is not opened. What was found is kept for a while, within a bound.

mod history;
mod timeline;
mod walk;

pub use history::{History, Version};
pub use timeline::{DiskLine, Era, Problem, Timeline};

use crate::catalog::Catalog;
use crate::failure::Result;
use crate::inode::PointKey;
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

/// Something that is found out under a lock of its own.
type Cell<T> = Arc<Mutex<Option<Arc<T>>>>;

/// What was found of the past.
#[derive(Default)]
pub struct Pasts {
    timelines: Mutex<HashMap<Arc<str>, Cell<Timeline>>>,
    histories: Mutex<Histories>,
}

#[derive(Default)]
struct Histories {
    kept: HashMap<PastPath, Kept>,
    clock: u64,
}

struct Kept {
    cell: Cell<History>,
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
        let mut held = cell.lock();
        if let Some(timeline) = &*held
            && timeline.points() == points.points
        {
            return Ok(timeline.clone());
        }
        let timeline = Arc::new(Timeline::read(catalog, machine, &points.points));
        *held = Some(timeline.clone());
        Ok(timeline)
    }

    /// What there was at a path, found out if it is not known.
    ///
    /// # Errors
    /// [`Kind::NotFound`](cairn::Kind::NotFound) if no point has such a disk or partition; as [`Catalog::points`].
    pub fn history(&self, catalog: &Catalog, path: &PastPath) -> Result<Arc<History>> {
        let timeline = self.timeline(catalog, &path.machine)?;
        let cell = self.histories.lock().cell(path);
        let mut held = cell.lock();
        if let Some(history) = fresh(&held, &timeline) {
            return Ok(history);
        }
        let history = Arc::new(History::find(catalog, &timeline, path)?);
        *held = Some(history.clone());
        drop(held);
        self.histories.lock().weigh(path, history.weight());
        Ok(history)
    }

    /// What there was at a path, if it is known.
    ///
    /// # Errors
    /// As [`Catalog::points`].
    pub fn known(&self, catalog: &Catalog, path: &PastPath) -> Result<Option<Arc<History>>> {
        let timeline = self.timeline(catalog, &path.machine)?;
        let cell = match self.histories.lock().kept.get(path) {
            Some(kept) => kept.cell.clone(),
            None => return Ok(None),
        };
        let held = cell.lock();
        Ok(fresh(&held, &timeline))
    }

    /// Whether there was anything at a path: the newest point is asked first, and kept open. Points that cannot be read have nothing to say.
    ///
    /// # Errors
    /// As [`Catalog::points`].
    pub fn existed(&self, catalog: &Catalog, path: &PastPath) -> Result<bool> {
        let timeline = self.timeline(catalog, &path.machine)?;
        let names = path.names();
        let [disk, rest @ ..] = &*names else {
            return Ok(true);
        };
        let Some(line) = timeline.disk(disk) else {
            return Ok(false);
        };
        let [partition, inner @ ..] = rest else {
            return Ok(true);
        };
        let Some(partition) = walk::partition(partition) else {
            return Ok(false);
        };
        if let Some(newest) = line.eras.last() {
            let key = PointKey {
                machine: path.machine.clone(),
                id: newest.point.id,
                seconds: newest.point.seconds,
            };
            // What is wrong with it is told to whoever lists the folder.
            let _ = catalog.open(&key);
        }
        let mut found = false;
        let walk = walk::Walk {
            catalog,
            machine: &path.machine,
            partition,
        };
        walk.each(line.eras.iter().rev(), &mut |_, seen| {
            found = inner.is_empty() || walk::resolve(&*seen.volume.open()?, inner)?.is_some();
            Ok(if found {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        });
        Ok(found)
    }
}

fn fresh(held: &Option<Arc<History>>, timeline: &Arc<Timeline>) -> Option<Arc<History>> {
    let history = held.as_ref()?;
    history.is_of(timeline).then(|| history.clone())
}

impl Histories {
    fn cell(&mut self, path: &PastPath) -> Cell<History> {
        self.clock = self.clock.saturating_add(1);
        let now = self.clock;
        let kept = self.kept.entry(path.clone()).or_insert_with(|| Kept {
            cell: Cell::default(),
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
