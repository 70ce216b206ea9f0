//! Who needs each chunk: the maps of a machine's points are compared, each with the one before, so that only what appeared and what disappeared is looked at.
//!
//! Of each chunk is counted at how many places the point that is looked at names it. So it is known from which point to which one it is needed, however often it comes
//! and goes: a run of points. From the runs follows who needs it: one point, one machine, or several. Runs are not kept.

use crate::difference::{Pair, each_pair};
use crate::map::Leaf;
use crate::stats::usage::table::{NOBODY, Owner, Record, Table, count};
use crate::stats::usage::{Item, MachineUsage, PointUsage, Totals};
use crate::tree::Tree;
use cairn_base::{ChunkId, Error, Monitor, Result, Stage};
use std::ops::{ControlFlow, RangeInclusive};
use std::sync::Arc;

/// The points in their order, machine by machine.
pub struct Course<'a> {
    /// The points.
    pub items: &'a [Item],
    /// The number of each machine's first point, ascending.
    pub firsts: &'a [u32],
    /// For each point how many before it are not to be forgotten; and for all.
    pub kept_before: &'a [u32],
}

impl Course<'_> {
    /// The machine of a point.
    fn machine(&self, point: u32) -> u32 {
        count(self.firsts.partition_point(|first| *first <= point)).saturating_sub(1)
    }

    /// The last point of the machine of a point.
    fn last(&self, point: u32) -> u32 {
        let next = self.firsts.partition_point(|first| *first <= point);
        let end = self.firsts.get(next).copied();
        end.unwrap_or(count(self.items.len())).saturating_sub(1)
    }

    fn are_some_kept(&self, run: &RangeInclusive<u32>) -> bool {
        let before = |point: u32| {
            let at = usize::try_from(point).unwrap_or(usize::MAX);
            self.kept_before.get(at).copied().unwrap_or(0)
        };
        before(run.end().saturating_add(1)) > before(*run.start())
    }
}

/// What is found out.
pub struct Found<'a> {
    /// In the order of the points.
    pub points: &'a mut [PointUsage],
    /// In the order of the machines.
    pub machines: &'a mut [MachineUsage],
    /// All together.
    pub totals: &'a mut Totals,
    /// What forgetting the points that are to be forgotten frees.
    pub frees: &'a mut u64,
}

/// One pass over all points.
pub struct Counter<'a> {
    course: &'a Course<'a>,
    found: Found<'a>,
    table: Table,
    /// The point that is looked at.
    now: u32,
    /// Bytes of the chunks that it needs.
    stored: u64,
    /// Bytes of its disks that are not holes.
    used: u64,
}

/// The disks of a point as trees, by name.
type Disks = Vec<(String, Tree)>;

impl<'a> Counter<'a> {
    /// With all chunks of one part.
    pub fn new(course: &'a Course<'a>, found: Found<'a>, table: Table) -> Counter<'a> {
        Counter {
            course,
            found,
            table,
            now: 0,
            stored: 0,
            used: 0,
        }
    }

    /// Goes through all points. `trees` opens the maps of one.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if a map cannot be read; [`Kind::Interrupted`](cairn_base::Kind::Interrupted) on request.
    pub fn run(
        mut self,
        trees: &dyn Fn(&Item) -> Result<Disks>,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        let mut before = Disks::new();
        for (number, item) in self.course.items.iter().enumerate() {
            self.now = count(number);
            if self.course.firsts.binary_search(&self.now).is_ok() {
                before.clear();
                (self.stored, self.used) = (0, 0);
            }
            let disks = trees(item)?;
            let told = |error: Error| {
                error.context(format!(
                    "the map of the recovery point {} cannot be walked",
                    item.id
                ))
            };
            for (name, tree) in &disks {
                let old = before.iter().find(|(other, _)| other == name);
                self.disk(old.map(|(_, tree)| tree), Some(tree), monitor)
                    .map_err(told)?;
                monitor.advance(Stage::Count, tree.shape().size());
            }
            let gone = before
                .iter()
                .filter(|(name, _)| !disks.iter().any(|(n, _)| n == name));
            for (_, tree) in gone {
                self.disk(Some(tree), None, monitor).map_err(told)?;
            }
            before = disks;
            if let Some(point) = self.found.points.get_mut(number) {
                point.stored_bytes = point.stored_bytes.saturating_add(self.stored);
                if self.table.part.pass == 0 {
                    point.used_bytes = self.used;
                }
            }
        }
        self.finish();
        Ok(())
    }

    fn disk(
        &mut self,
        old: Option<&Tree>,
        new: Option<&Tree>,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        each_pair(old, new, &mut |pair| {
            if monitor.stop_requested() {
                return Err(Error::interrupted());
            }
            // What is there first: a chunk that only moved stays needed.
            if let Some(tree) = new.filter(|_| !pair.new.is_null()) {
                self.enter(pair.new, None)?;
                self.chunks(tree, pair, pair.new, true)?;
            }
            if let Some(tree) = old.filter(|_| !pair.old.is_null()) {
                self.chunks(tree, pair, pair.old, false)?;
                self.leave(pair.old)?;
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// The chunks of a leaf, if it is one.
    fn chunks(&mut self, tree: &Tree, pair: Pair, id: ChunkId, enter: bool) -> Result<()> {
        if pair.level > 0 {
            return Ok(());
        }
        let leaf: Arc<Leaf> = tree.leaf(pair.region, id)?;
        for extent in &leaf.extents {
            let Some(chunk) = extent.chunk else { continue };
            let length = u64::from(extent.length);
            if enter {
                self.used = self.used.saturating_add(length);
                self.enter(chunk, Some(length))?;
            } else {
                self.used = self.used.saturating_sub(length);
                self.leave(chunk)?;
            }
        }
        Ok(())
    }

    /// The point names the chunk at one more place. `data`: its length, if it is none of a map.
    fn enter(&mut self, id: ChunkId, data: Option<u64>) -> Result<()> {
        if !self.table.part.has(&id) {
            return Ok(());
        }
        let totals = &mut *self.found.totals;
        let Some(record) = self.table.chunks.get_mut(&id.prefix()) else {
            totals.lost_places = totals.lost_places.saturating_add(1);
            return Ok(());
        };
        let machine = self.course.machine(self.now);
        let known = record.since != NOBODY;
        let same_machine = known && self.course.machine(record.since) == machine;
        if record.references > 0 && !same_machine {
            // The machine before was left without its last point being taken away.
            let last = self.course.last(record.since);
            close(self.course, record, last);
            record.references = 0;
        }
        if record.references == 0 {
            let cost = u64::from(record.cost);
            self.stored = self.stored.saturating_add(cost);
            if !same_machine && let Some(machine) = at(self.found.machines, machine) {
                machine.stored_bytes = machine.stored_bytes.saturating_add(cost);
            }
            if !known {
                totals.needed(cost, data);
            }
            record.since = self.now;
        }
        let more = record.references.checked_add(1);
        record.references =
            more.ok_or_else(|| Error::invalid("a chunk stands at too many places of a disk"))?;
        Ok(())
    }

    /// The point names the chunk at one place less than the one before.
    fn leave(&mut self, id: ChunkId) -> Result<()> {
        if !self.table.part.has(&id) {
            return Ok(());
        }
        let Some(record) = self.table.chunks.get_mut(&id.prefix()) else {
            return Ok(());
        };
        record.references = record.references.saturating_sub(1);
        if record.references == 0 {
            self.stored = self.stored.saturating_sub(u64::from(record.cost));
            close(self.course, record, self.now.saturating_sub(1));
        }
        Ok(())
    }

    /// After the last point: everything that is known of each chunk is counted.
    fn finish(self) {
        let Counter {
            course,
            found,
            table,
            ..
        } = self;
        for mut record in table.chunks.into_values() {
            let cost = u64::from(record.cost);
            if record.references > 0 {
                let last = course.last(record.since);
                close(course, &mut record, last);
            }
            let machine = match record.owner {
                Owner::None => {
                    found.totals.unneeded_bytes = found.totals.unneeded_bytes.saturating_add(cost);
                    continue;
                }
                Owner::Point(point) => {
                    if let Some(usage) = at(found.points, point) {
                        usage.unique_bytes = usage.unique_bytes.saturating_add(cost);
                    }
                    Some(course.machine(point))
                }
                Owner::Machine(machine) => Some(machine),
                Owner::Many => None,
            };
            if let Some(usage) = machine.and_then(|machine| at(found.machines, machine)) {
                usage.unique_bytes = usage.unique_bytes.saturating_add(cost);
            }
            if !record.kept {
                *found.frees = found.frees.saturating_add(cost);
            }
        }
    }
}

fn at<T>(all: &mut [T], number: u32) -> Option<&mut T> {
    all.get_mut(usize::try_from(number).ok()?)
}

/// Ends the time in which a chunk was needed, with this point.
fn close(course: &Course<'_>, record: &mut Record, end: u32) {
    let run = record.since..=end;
    let machine = course.machine(record.since);
    record.kept |= course.are_some_kept(&run);
    let alone = run.start() == run.end();
    record.owner = match record.owner {
        Owner::None if alone => Owner::Point(record.since),
        Owner::None => Owner::Machine(machine),
        Owner::Point(point) if course.machine(point) == machine => Owner::Machine(machine),
        Owner::Machine(other) if other == machine => Owner::Machine(machine),
        Owner::Point(_) | Owner::Machine(_) | Owner::Many => Owner::Many,
    };
}
