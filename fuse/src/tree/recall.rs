//! Handles from before this mount, as NFS servers keep them: what an inode number stands for follows from names and ids alone, so it can be found again.

use crate::inode::{Owner, Slots, TreeKey};
use crate::tree::{Source, Tree};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Disks of a point, and partitions of a disk, among which it is looked for.
const DISKS: u16 = 16;
const PARTITIONS: u32 = 64;
/// A number that stands for nothing is not looked for again so soon.
const PATIENCE: Duration = Duration::from_secs(10);
/// Such numbers that are remembered.
const REMEMBERED: usize = 256;

/// Numbers that stood for nothing, and when that was found. One is looked for at a time.
#[derive(Default)]
pub struct Missed {
    slots: Mutex<HashMap<u32, Instant>>,
}

impl Tree {
    /// Finds out what a slot stands for that nothing of this mount has been given, by the names of all machines and points. Whether it stands for something.
    pub(super) fn recall(&self, slot: u32) -> bool {
        let Source::Store(catalog) = &self.source else {
            return false;
        };
        let mut missed = self.missed.slots.lock();
        if self.slots.owner(slot).is_ok() {
            // Another thread was quicker; or it is the number within it that stands for nothing.
            return true;
        }
        if missed
            .get(&slot)
            .is_some_and(|when| when.elapsed() < PATIENCE)
        {
            return false;
        }
        let Ok(machines) = catalog.machines() else {
            return false;
        };
        for machine in &machines.names {
            if self.recall_of(machine, slot) {
                return true;
            }
        }
        if missed.len() >= REMEMBERED {
            missed.clear();
        }
        missed.insert(slot, Instant::now());
        false
    }

    fn recall_of(&self, machine: &Arc<str>, slot: u32) -> bool {
        let owner = Owner::Machine(machine.clone());
        if self.slots.is_first_choice(&owner, slot) {
            return self
                .slots
                .claim(&owner)
                .is_ok_and(|claimed| claimed == slot);
        }
        let Ok(points) = self.catalog().and_then(|catalog| catalog.points(machine)) else {
            return false;
        };
        for file in &points.points {
            let places = (0..DISKS).flat_map(|disk| (0..=PARTITIONS).map(move |part| (disk, part)));
            let tree = places
                .into_iter()
                .find(|(disk, part)| Slots::is_tree_of(slot, &file.id, *disk, *part));
            let key = self.point_key(machine, file);
            if tree.is_none() && !self.slots.is_first_choice(&Owner::Point(key), slot) {
                continue;
            }
            let Ok(point) = self.point_ref(machine, file) else {
                return false;
            };
            let Some((disk, partition)) = tree else {
                return point.slot == slot;
            };
            let key = TreeKey {
                point: point.slot,
                disk,
                partition,
                tree: 0,
            };
            let claimed = self.slots.claim(&Owner::Tree(key));
            return claimed.is_ok_and(|claimed| claimed == slot);
        }
        false
    }
}
