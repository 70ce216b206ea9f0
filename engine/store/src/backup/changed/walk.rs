//! Walking a disk by its changes: what is unchanged is taken from the base's map in parts as large as possible.

use crate::changes::Changes;
use crate::map::shape::regions_below;
use crate::map::{REGION, Shape};
use crate::tree::Tree;
use cairn_base::{ChunkId, Kind, Result};
use std::ops::Range;
use std::sync::Arc;

/// Parts of the base's map in one step at most.
const STEP_PARTS: usize = 256;
/// Regions in one step at most, where each is a task of its own.
const STEP_REGIONS: u64 = 256;

/// What is known of a disk: what it was, and where it may differ.
#[derive(Clone)]
pub struct Known {
    /// The map of the base.
    pub tree: Tree,
    /// What changed since.
    pub changes: Arc<Changes>,
    /// Regions of which the base's map names something that is known to be damaged: they are read.
    pub damaged: Arc<Vec<Range<u64>>>,
}

/// A part of the disk, from the region that was asked for on.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Parts of the base's map that follow each other: level (0: a leaf) and id. They end before this region.
    Kept(Vec<(u8, ChunkId)>, u64),
    /// Regions up to, not including, this one, each with a change in it.
    Touched(u64),
    /// Regions up to, not including, this one, for which the base's map cannot be read, or names what is damaged.
    Lost(u64),
}

impl Known {
    /// Number of regions that a change touches.
    pub fn touched_regions(&self) -> u64 {
        let (mut count, mut region) = (0, 0);
        while let Some(next) = self.next_touched(region) {
            count += 1;
            region = next + 1;
        }
        count
    }

    /// The first region from `region` on that a change touches.
    pub fn next_touched(&self, region: u64) -> Option<u64> {
        Some(self.changes.next(region.saturating_mul(REGION))? / REGION)
    }

    /// Whether every byte of a region is said to have changed, and none to be zeros: then all of it is read.
    pub fn changed_as_a_whole(&self, region: u64) -> bool {
        let start = region.saturating_mul(REGION);
        let length = self.tree.shape().region_length(region);
        let changed = self.changes.within(start..start.saturating_add(length));
        let bytes: u64 = changed
            .filter(|c| !c.zero)
            .map(|c| c.range.end.saturating_sub(c.range.start))
            .sum();
        bytes == length
    }

    /// The end of the damaged regions, if this is one of them.
    pub fn damaged_until(&self, region: u64) -> Option<u64> {
        let at = self.damaged.partition_point(|range| range.end <= region);
        let range = self.damaged.get(at).filter(|range| range.start <= region)?;
        Some(range.end)
    }

    /// The first damaged region behind this one, which is not damaged.
    fn damaged_after(&self, region: u64) -> Option<u64> {
        let at = self.damaged.partition_point(|range| range.end <= region);
        self.damaged.get(at).map(|range| range.start)
    }

    /// Whether all of the region is read anyway.
    pub fn is_read(&self, region: u64) -> bool {
        self.damaged_until(region).is_some() || self.changed_as_a_whole(region)
    }

    /// What to do from `region` on, which lies on the disk.
    ///
    /// # Errors
    /// What the store reports, but for damage.
    pub fn step(&self, region: u64) -> Result<Step> {
        let regions = self.tree.shape().regions();
        if let Some(end) = self.damaged_until(region) {
            return Ok(Step::Lost(end));
        }
        let bad = self.damaged_after(region).unwrap_or(regions);
        let until = self.next_touched(region).unwrap_or(regions).min(bad);
        if until == region {
            let end = bad.min(region.saturating_add(STEP_REGIONS));
            let mut end_of_touched = region + 1;
            while end_of_touched < end && self.next_touched(end_of_touched) == Some(end_of_touched)
            {
                end_of_touched += 1;
            }
            return Ok(Step::Touched(end_of_touched));
        }
        let mut parts = Vec::new();
        let mut at = region;
        while at < until && parts.len() < STEP_PARTS {
            let level = self.largest_part(at..until);
            match self.part(at, level) {
                Ok(id) => parts.push((level, id)),
                // A damaged map is no reason not to back up.
                Err(error) if matches!(error.kind(), Kind::Damaged | Kind::Io) => {
                    if parts.is_empty() {
                        let end = (at / STEP_REGIONS + 1) * STEP_REGIONS;
                        return Ok(Step::Lost(end.min(until)));
                    }
                    break;
                }
                Err(error) => return Err(error),
            }
            at = regions.min(at.saturating_add(regions_below(level)));
        }
        Ok(Step::Kept(parts, at))
    }

    /// The highest level at which one part of the map covers what begins with this range, and nothing beyond it.
    fn largest_part(&self, range: Range<u64>) -> u8 {
        let shape = self.tree.shape();
        let fits = |level: u8| {
            let covers = regions_below(level);
            range.start.is_multiple_of(covers)
                && shape.regions().min(range.start.saturating_add(covers)) <= range.end
        };
        (1..=shape.height())
            .take_while(|level| fits(*level))
            .last()
            .unwrap_or(0)
    }

    /// The id of the part of `level` that begins with `region`.
    fn part(&self, region: u64, level: u8) -> Result<ChunkId> {
        let mut id = self.tree.root();
        let mut at = self.tree.shape().height();
        while at > level && !id.is_null() {
            id = self
                .tree
                .node(id, at)?
                .child(Shape::child_index(region, at));
            at -= 1;
        }
        Ok(id)
    }
}
