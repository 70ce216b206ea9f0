//! A backup with change information: only what changed is read, the rest is taken from the base's map.
//!
//! [`told`] finds out what is claimed, by the caller or by the images themselves. [`prepare`] decides whether the information can be used, and checks a little of what it claims. [`walk`] takes what is unchanged
//! in parts as large as possible. [`recut`] finds the new extents of a region in which something changed, reading as
//! little as decides them.

pub mod check;
pub mod images;
pub mod recut;
pub mod region;
pub mod walk;
pub mod window;

pub use images::{Told, told};
pub use recut::Part;
pub use walk::{Known, Step};
pub use window::RegionSource;

use crate::backup::changed::check::{Check, Verdict};
use crate::backup::run::{ChangeSource, DiskInput};
use crate::map::shape::{FANOUT, regions_below};
use crate::map::{Leaf, REGION};
use crate::point::{Origin, Point, ToldBy};
use crate::store::Store;
use crate::tree::Tree;
use cairn_base::{ChunkId, Error, Kind, Monitor, Result};
use std::ops::Range;
use std::sync::Arc;

/// What [`prepare`] needs to know.
pub struct Asked<'a> {
    /// The store.
    pub store: &'a Arc<Store>,
    /// The point that changes are relative to.
    pub base: Option<&'a Point>,
    /// The disks.
    pub disks: &'a [DiskInput],
    /// What each disk is compared with.
    pub bases: &'a [Option<Tree>],
    /// What is claimed of each disk.
    pub told: &'a [Option<Told>],
    /// Sequence number of the new point.
    pub sequence: u64,
    /// Threads to use.
    pub threads: usize,
    /// Says when to stop.
    pub monitor: &'a dyn Monitor,
}

/// What came of the change information.
#[derive(Default)]
pub struct Prepared {
    /// For each disk what can be relied on; `None`: all of it is read.
    pub known: Vec<Option<Known>>,
    /// Bytes read to check what is claimed.
    pub read: u64,
}

impl Prepared {
    /// Where the content of each disk comes from.
    pub fn origins(&self, asked: &Asked<'_>) -> Vec<Origin> {
        let disks = asked.disks.iter().zip(asked.told).zip(&self.known);
        let origin = |((disk, told), known): ((&DiskInput, &Option<Told>), &Option<Known>)| {
            let used = told.as_ref().zip(known.as_ref());
            Origin {
                told_by: used.map_or(ToldBy::Nobody, |(told, _)| told.by),
                unchanged: used.map_or(0, |(told, _)| told.unchanged()),
                images: images::recorded(disk),
            }
        };
        disks.map(origin).collect()
    }
}

/// Refuses change information that makes no sense.
///
/// # Errors
/// [`Kind::Invalid`](cairn_base::Kind::Invalid) without a base, without a disk of that name in it, or if it is of a disk of
/// another size.
pub fn check_changes(disks: &[DiskInput], base: Option<&Point>) -> Result<()> {
    for disk in disks {
        let Some(ChangeSource::Caller(changes)) = &disk.changes else {
            continue;
        };
        let Some(base) = base else {
            return Err(Error::invalid(format!(
                "the changes of {} are relative to no point",
                disk.name
            ))
            .advise("name the point they are relative to as the base"));
        };
        if base.disk(&disk.name).is_none() {
            return Err(Error::invalid(format!(
                "the point that the changes of {} are relative to has no such disk",
                disk.name
            )));
        }
        if changes.size() != disk.source.size() {
            return Err(Error::invalid(format!(
                "the changes of {} are those of a disk of {} bytes, and it has {}",
                disk.name,
                changes.size(),
                disk.source.size()
            )));
        }
    }
    Ok(())
}

/// Decides for each disk whether its change information is relied on. If not, everything is read, and a warning says why, unless it was the
/// images alone that told it and it is not wrong.
///
/// # Errors
/// What an image reports.
pub fn prepare(asked: &Asked<'_>, warnings: &mut Vec<String>) -> Result<Prepared> {
    let mut prepared = Prepared::default();
    for ((disk, tree), told) in asked.disks.iter().zip(asked.bases).zip(asked.told) {
        let known = match told {
            None => None,
            Some(told) => match usable(asked, disk, tree.as_ref(), told.by) {
                // Nobody asked for it, and what is wrong with the store is told elsewhere.
                Err(_) if told.by == ToldBy::Images => {
                    prepared.known.push(None);
                    continue;
                }
                Err(why) => Err(why),
                Ok(tree) => {
                    let known = Known {
                        damaged: damaged_regions(asked, &tree)?,
                        tree,
                        changes: told.changes.clone(),
                    };
                    let check = Check {
                        known: &known,
                        disk,
                        keys: asked.store.keys(),
                        sequence: asked.sequence,
                        threads: asked.threads,
                        monitor: asked.monitor,
                    };
                    let (verdict, read) = check.run()?;
                    prepared.read += read;
                    believed(known, verdict)
                }
            }
            .map_err(|why| {
                warnings.push(format!(
                    "{}: {why}: the change information was not used, everything was read",
                    disk.name
                ));
            })
            .ok(),
        };
        prepared.known.push(known);
    }
    Ok(prepared)
}

/// The base's map, if everything that it names is in the store for sure and it is a map of this disk.
fn usable(
    asked: &Asked<'_>,
    disk: &DiskInput,
    tree: Option<&Tree>,
    told_by: ToldBy,
) -> std::result::Result<Tree, String> {
    if !asked.store.is_whole() {
        return Err("parts of the store are missing".to_string());
    }
    let record = asked.base.and_then(|base| base.disk(&disk.name));
    let (Some(record), Some(tree)) = (record, tree) else {
        return Err("there is nothing to compare it with".to_string());
    };
    if record.size != disk.source.size() {
        return Err(format!(
            "it had {} bytes at the base and has {} now",
            record.size,
            disk.source.size()
        ));
    }
    // Names were swapped: whose changes these are is not known.
    if tree.root() != record.root_id() {
        return Err("it had another name at the base".to_string());
    }
    let (was, is) = (&record.image.identity, &disk.facts.identity);
    // A child may have an id of its own; that the images are those of the base is known better than by it.
    let is_other = !was.is_empty() && !is.is_empty() && was != is;
    if told_by == ToldBy::Caller && is_other {
        return Err(format!(
            "it is another disk ({is}) than at the base ({was})"
        ));
    }
    if record.mixed {
        return Err("it changed while the base was made".to_string());
    }
    Ok(tree.clone())
}

/// Regions for which the map names a chunk that has no good place, or cannot be read itself: ascending, not touching.
fn damaged_regions(asked: &Asked<'_>, tree: &Tree) -> Result<Arc<Vec<Range<u64>>>> {
    let unhealed = asked.store.unhealed();
    let mut found: Vec<Range<u64>> = Vec::new();
    if unhealed.is_empty() {
        return Ok(Arc::new(found));
    }
    let is_lost = |id: &ChunkId| unhealed.contains(&id.prefix());
    let regions = tree.shape().regions();
    // Parts of the map that are still to be looked at, the first one last.
    let mut parts = vec![(tree.root(), tree.shape().height(), 0u64)];
    while let Some((id, level, first)) = parts.pop() {
        if asked.monitor.stop_requested() {
            return Err(Error::interrupted());
        }
        if id.is_null() || first >= regions {
            continue;
        }
        // What was read before it was damaged may still be in memory: so the id decides first.
        let lost = is_lost(&id)
            || match look_below(tree, id, level, first, &mut parts) {
                Ok(leaf) => {
                    let extents = leaf.iter().flat_map(|leaf| &leaf.extents);
                    let mut chunks = extents.filter_map(|extent| extent.chunk);
                    chunks.any(|id| is_lost(&id))
                }
                Err(error) if matches!(error.kind(), Kind::Damaged | Kind::Io) => true,
                Err(error) => return Err(error),
            };
        if lost {
            let end = regions.min(first.saturating_add(regions_below(level)));
            match found.last_mut() {
                Some(last) if last.end == first => last.end = end,
                _ => found.push(first..end),
            }
        }
    }
    Ok(Arc::new(found))
}

/// The leaf, or adds a node's children to `parts`.
fn look_below(
    tree: &Tree,
    id: ChunkId,
    level: u8,
    first: u64,
    parts: &mut Vec<(ChunkId, u8, u64)>,
) -> Result<Option<Arc<Leaf>>> {
    let Some(below) = level.checked_sub(1) else {
        return tree.leaf(first, id).map(Some);
    };
    let node = tree.node(id, level)?;
    let covers = regions_below(below);
    for child in (0..FANOUT).rev() {
        let offset = u64::try_from(child)
            .unwrap_or(u64::MAX)
            .saturating_mul(covers);
        parts.push((node.child(child), below, first.saturating_add(offset)));
    }
    Ok(None)
}

fn believed(known: Known, verdict: Verdict) -> std::result::Result<Known, String> {
    match verdict {
        Verdict::Same => Ok(known),
        Verdict::Differs(offset) => Err(format!(
            "it differs from the base at offset {offset}, where it was said to be unchanged"
        )),
        Verdict::Lost(offset) => Err(format!(
            "the base's map is damaged at offset {offset}; run `cairn verify`"
        )),
    }
}

/// The changes within `region` (bytes of the disk), as parts of it. What the image says is not allocated is zeros.
pub fn parts(known: &Known, region: Range<u64>, extents: &[Range<u64>]) -> Vec<Part> {
    let within = |at: u64| usize::try_from(at.saturating_sub(region.start)).unwrap_or(0);
    let mut parts = Vec::new();
    let mut push = |range: Range<u64>, zero: bool| {
        let range = within(range.start)..within(range.end);
        if !range.is_empty() {
            parts.push(Part { range, zero });
        }
    };
    for change in known.changes.within(region.clone()) {
        let Range { mut start, end } = change.range;
        if !change.zero {
            let first = extents.partition_point(|extent| extent.end <= start);
            for extent in extents.get(first..).unwrap_or_default() {
                if extent.start >= end {
                    break;
                }
                let data = extent.start.max(start)..extent.end.min(end);
                push(start..data.start, true);
                start = data.end;
                push(data, false);
            }
        }
        push(start..end, true);
    }
    parts
}

/// Bytes of disk in the regions that a change touches.
pub fn touched_bytes(known: &Known) -> u64 {
    let all = known.touched_regions().saturating_mul(REGION);
    all.min(known.changes.size())
}
