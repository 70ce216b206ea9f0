//! What is hit, by name, in bounded memory.

use crate::affected::{Affected, AffectedKind};
use cairn_store::Point;
use std::collections::BTreeMap;

/// Files and folders that are named at most.
pub(super) const MAX_NAMES: usize = 100_000;
/// Damages that are named with them, all together.
const MAX_DAMAGES: usize = 4_000_000;

/// What was found in one disk of one point.
pub(super) struct Hit {
    pub path: String,
    pub kind: AffectedKind,
    pub lost: u64,
    pub why: Option<String>,
    /// Numbers of the report's damages.
    pub damages: Vec<usize>,
}

/// What was found in all points looked at so far.
pub(super) struct Names {
    all: BTreeMap<(String, String, AffectedKind), Affected>,
    room: usize,
    /// Numbers of damages that are kept.
    damages: usize,
    /// What was not kept of the point that is looked at.
    here: u64,
    /// For each machine what was not kept of the point where that is most.
    unnamed: BTreeMap<String, u64>,
}

impl Names {
    /// Room for so many names.
    pub fn new(room: usize) -> Names {
        Names {
            all: BTreeMap::new(),
            room,
            damages: 0,
            here: 0,
            unnamed: BTreeMap::new(),
        }
    }

    /// Something is hit in this point. Volumes and the like are always kept: they are few.
    pub fn add(&mut self, point: &Point, mut hit: Hit) {
        let machine = &point.record.machine;
        let key = (machine.to_lowercase(), hit.path.clone(), hit.kind);
        let counted = matches!(hit.kind, AffectedKind::File | AffectedKind::Unreadable);
        if counted && self.all.len() >= self.room && !self.all.contains_key(&key) {
            self.here = self.here.saturating_add(1);
            return;
        }
        let affected = self.all.entry(key).or_insert_with(|| Affected {
            machine: machine.clone(),
            path: hit.path,
            kind: hit.kind,
            points: Vec::new(),
            lost: 0,
            why: hit.why,
            damages: Vec::new(),
        });
        // A name may be met twice.
        if affected.points.last() != Some(&point.id) {
            affected.points.push(point.id);
        }
        affected.lost = affected.lost.max(hit.lost);
        let before = affected.damages.len();
        hit.damages
            .truncate(MAX_DAMAGES.saturating_sub(self.damages));
        affected.damages.extend(hit.damages);
        affected.damages.sort_unstable();
        affected.damages.dedup();
        let more = affected.damages.len().saturating_sub(before);
        self.damages = self.damages.saturating_add(more);
    }

    /// All of a point was looked at.
    pub fn end_point(&mut self, point: &Point) {
        let here = std::mem::take(&mut self.here);
        if here > 0 {
            let machine = point.record.machine.to_lowercase();
            let most = self.unnamed.entry(machine).or_default();
            *most = here.max(*most);
        }
    }

    /// What is named, by machine and path, and how many more there are at least.
    pub fn into_parts(self) -> (Vec<Affected>, u64) {
        let unnamed = self
            .unnamed
            .values()
            .fold(0, |sum: u64, n| sum.saturating_add(*n));
        (self.all.into_values().collect(), unnamed)
    }
}
