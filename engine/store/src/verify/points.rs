//! Walking the maps of all points: whether every chunk they name is in the store.

mod found;
mod rescue;

use crate::map::shape::{FANOUT, regions_below};
use crate::map::{Leaf, REGION, Shape};
use crate::point::{DiskRecord, Point};
use crate::read::ChunkReader;
use crate::store::Store;
use crate::tree::Tree;
use crate::verify::packs::BadChunks;
use crate::verify::{Damage, VerifyReport};
use cairn_base::{ChunkId, Error, Kind, Monitor, PackId, Result, Stage};
use found::{Found, Lost};
use rescue::Rescue;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Damages listed one by one; of more only the number is told.
pub const MAX_LISTED: usize = 100_000;

/// A disk of the point before: its map, and the damage found in it.
type Before = (Tree, Arc<Found>);
/// Damages by machine and disk, offset, length and chunk.
type Damages = BTreeMap<(String, u64, u64, Option<ChunkId>), Damage>;

/// Walks the maps of all points. A part that is the same as in the machine's point before was walked with that one: its
/// damage, if any, is the same. Whether everything could be looked at: if not, a problem says so.
///
/// # Errors
/// [`Kind::Interrupted`] on request; as the folder reports.
pub fn walk_points(
    store: &Arc<Store>,
    points: &[Point],
    missing: &HashSet<PackId>,
    bad: &BadChunks,
    monitor: &dyn Monitor,
    report: &mut VerifyReport,
) -> Result<bool> {
    let reader = Arc::new(ChunkReader::new(store.clone(), 0));
    let total = points
        .iter()
        .flat_map(|point| &point.record.disks)
        .map(|disk| disk.size)
        .fold(0, u64::saturating_add);
    monitor.begin(Stage::VerifyPoints, total);
    let mut walk = Walk {
        rescue: Rescue::new(store, reader.clone(), missing, bad),
        monitor,
    };
    // Of the machine whose points are walked, by disk.
    let mut machine = String::new();
    let mut before: HashMap<String, Before> = HashMap::new();
    let mut unlisted = 0u64;
    let mut all = Damages::new();
    for point in points {
        let name = point.record.machine.to_lowercase();
        if name != machine {
            before.clear();
            machine = name;
        }
        for disk in &point.record.disks {
            let tree = match Tree::new(reader.clone(), disk) {
                Ok(tree) => tree,
                Err(error) => {
                    report.problems.push(error.to_string());
                    continue;
                }
            };
            let found = walk.disk(&tree, before.get(&disk.name))?;
            unlisted = unlisted.saturating_add(found.more());
            for lost in found.all() {
                unlisted = unlisted.saturating_add(u64::from(!note(&mut all, point, disk, lost)));
            }
            report.walked_bytes = report.walked_bytes.saturating_add(disk.size);
            before.insert(disk.name.clone(), (tree, found));
        }
        report.points = report.points.saturating_add(1);
    }
    monitor.finish(Stage::VerifyPoints);
    if unlisted > 0 {
        report.problems.push(format!(
            "{unlisted} more damaged places, each counted once for every point, are not listed"
        ));
    }
    let unsure = walk.rescue.unsure();
    report.problems.extend(unsure.iter().cloned());
    report.damaged.extend(all.into_values());
    Ok(unsure.is_none())
}

/// Adds what is lost in a point; `false` if there is no room for more.
fn note(all: &mut Damages, point: &Point, disk: &DiskRecord, lost: &Lost) -> bool {
    let name = format!("{}/{}", point.record.machine.to_lowercase(), disk.name);
    let key = (name, lost.offset, lost.length, lost.chunk);
    if all.len() >= MAX_LISTED && !all.contains_key(&key) {
        return false;
    }
    let damage = all.entry(key).or_insert_with(|| Damage {
        chunk: lost.chunk,
        pack: lost.pack,
        points: Vec::new(),
        disk: disk.name.clone(),
        offset: lost.offset,
        length: lost.length,
        why: lost.why.to_string(),
    });
    damage.points.push(point.id);
    true
}

/// A place in a map.
#[derive(Clone, Copy)]
struct Step {
    /// 0 for a leaf.
    level: u8,
    /// The first region below it.
    first: u64,
    /// What stands there.
    id: ChunkId,
    /// What stood there in the point before, if it had such a place that could be read.
    old: Option<ChunkId>,
}

impl Step {
    /// Where it begins on the disk, and where it ends, in bytes.
    fn bytes(&self, shape: Shape) -> (u64, u64) {
        let start = self.first.saturating_mul(REGION);
        let end = self.end().saturating_mul(REGION).min(shape.size());
        (start, end.max(start))
    }

    /// The first region behind it.
    fn end(&self) -> u64 {
        self.first.saturating_add(regions_below(self.level))
    }
}

struct Walk<'a> {
    rescue: Rescue<'a>,
    monitor: &'a dyn Monitor,
}

impl Walk<'_> {
    /// The damage in the disk. Parts that are the same as in `before` are not walked again, and a part that cannot be reached is one
    /// damage, however large it is: so this takes time by the nodes there are, not by the regions.
    fn disk(&mut self, tree: &Tree, before: Option<&Before>) -> Result<Arc<Found>> {
        let shape = tree.shape();
        let same = before.filter(|(old, _)| old.root() == tree.root() && old.shape() == shape);
        if let Some((_, old)) = same {
            self.monitor.advance(Stage::VerifyPoints, shape.size());
            return Ok(old.clone());
        }
        // Of one that lacks something nothing is taken.
        let before = before.filter(|(_, found)| found.more() == 0);
        let mut found = Found::default();
        let mut steps = vec![Step {
            level: shape.height(),
            first: 0,
            id: tree.root(),
            old: self.old_root(before, shape.height())?,
        }];
        while let Some(step) = steps.pop() {
            if self.monitor.stop_requested() {
                return Err(Error::interrupted());
            }
            let (start, end) = step.bytes(shape);
            if !step.id.is_null() && !copied(&step, shape, before, &mut found) {
                if step.level > 0 {
                    if self.node(tree, &step, before, &mut steps, &mut found)? {
                        continue;
                    }
                } else {
                    self.region(tree, &step, &mut found)?;
                }
            }
            self.monitor
                .advance(Stage::VerifyPoints, end.saturating_sub(start));
        }
        Ok(Arc::new(found))
    }

    /// What stands in the map of the point before where this one's root stands.
    fn old_root(&mut self, before: Option<&Before>, height: u8) -> Result<Option<ChunkId>> {
        let Some((old, _)) = before else {
            return Ok(None);
        };
        let (mut id, mut level) = (old.root(), old.shape().height());
        while level > height && !id.is_null() {
            match self.rescue.node(old, id, level)? {
                Ok(node) => id = node.child(0),
                Err(_) => return Ok(None),
            }
            level = level.saturating_sub(1);
        }
        // If this one is higher, it stands further down.
        Ok(Some(id).filter(|_| old.shape().height() >= height))
    }

    /// Goes on with the children of a node; `false` if it is lost.
    fn node(
        &mut self,
        tree: &Tree,
        step: &Step,
        before: Option<&Before>,
        steps: &mut Vec<Step>,
        found: &mut Found,
    ) -> Result<bool> {
        let shape = tree.shape();
        let node = match self.rescue.node(tree, step.id, step.level)? {
            Ok(node) => node,
            Err(why) => {
                lost_part(step, shape, why, found);
                return Ok(false);
            }
        };
        let level = step.level.saturating_sub(1);
        let old_node = match (before, step.old.filter(|old| !old.is_null())) {
            (Some((old, _)), Some(id)) => self.rescue.node(old, id, step.level)?.ok(),
            _ => None,
        };
        let begins = |first: u64| {
            let lower = before.filter(|(old, _)| first == 0 && old.shape().height() == level);
            lower.map(|(old, _)| old.root())
        };
        let place = |index: usize| {
            let number = cairn_base::units::to_u64(index);
            let first = number
                .saturating_mul(regions_below(level))
                .saturating_add(step.first);
            let old = old_node.as_ref().map(|node| node.child(index));
            Step {
                level,
                first,
                id: node.child(index),
                old: old.or_else(|| begins(first)),
            }
        };
        // The first one is taken first.
        for child in (0..FANOUT).rev().map(place) {
            if child.first < shape.regions() {
                if child.id.is_null() {
                    let (start, end) = child.bytes(shape);
                    let hole = end.saturating_sub(start);
                    self.monitor.advance(Stage::VerifyPoints, hole);
                } else {
                    steps.push(child);
                }
            }
        }
        Ok(true)
    }

    /// What is lost in the region of a leaf.
    fn region(&mut self, tree: &Tree, step: &Step, found: &mut Found) -> Result<()> {
        let shape = tree.shape();
        let length = shape.region_length(step.first);
        let leaf: Arc<Leaf> = match self.rescue.leaf(step.id, length)? {
            Ok(leaf) => leaf,
            Err(why) => {
                lost_part(step, shape, why, found);
                return Ok(());
            }
        };
        let (mut offset, _) = step.bytes(shape);
        for extent in &leaf.extents {
            let length = u64::from(extent.length);
            if let Some(chunk) = extent.chunk
                && let Some((pack, why)) = self.rescue.lost(chunk, extent.length)?
            {
                let lost = Lost {
                    chunk: Some(chunk),
                    pack,
                    offset,
                    length,
                    why,
                };
                found.add(step.first, lost);
            }
            offset = offset.saturating_add(length);
        }
        Ok(())
    }
}

/// Takes the damage of a part that is the same as in the point before, if it is.
fn copied(step: &Step, shape: Shape, before: Option<&Before>, found: &mut Found) -> bool {
    let Some((old, damage)) = before.filter(|_| step.old == Some(step.id)) else {
        return false;
    };
    // Where one of the disks ends within, the part is not the same.
    let same = step.bytes(shape) == step.bytes(old.shape());
    if same {
        found.take(damage, step.first..step.end());
    }
    same
}

/// Adds all that is below a leaf or node that is lost; not if that is not known.
fn lost_part(step: &Step, shape: Shape, why: Option<Arc<str>>, found: &mut Found) {
    let (offset, end) = step.bytes(shape);
    if let Some(why) = why {
        let lost = Lost {
            chunk: Some(step.id),
            pack: None,
            offset,
            length: end.saturating_sub(offset),
            why,
        };
        found.add(step.first, lost);
    }
}

/// Whether an error means that bytes are lost, rather than that they cannot be had just now.
fn is_loss(error: &Error) -> bool {
    matches!(error.kind(), Kind::Damaged | Kind::Io) && !error.is_momentary()
}
