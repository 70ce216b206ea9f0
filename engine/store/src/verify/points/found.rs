//! What is lost of a disk.

use crate::verify::points::MAX_LISTED;
use cairn_base::{ChunkId, PackId};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// A part of a disk that is lost.
#[derive(Clone)]
pub(super) struct Lost {
    pub chunk: Option<ChunkId>,
    pub pack: Option<PackId>,
    /// Offset on the disk in bytes.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
    pub why: Arc<str>,
}

/// What is lost of a disk, by the region in which it begins.
#[derive(Default)]
pub(super) struct Found {
    regions: BTreeMap<u64, Vec<Lost>>,
    count: usize,
    more: u64,
}

impl Found {
    /// Adds a part that begins in `region`.
    pub fn add(&mut self, region: u64, lost: Lost) {
        if self.count >= MAX_LISTED {
            self.more = self.more.saturating_add(1);
            return;
        }
        self.count = self.count.saturating_add(1);
        self.regions.entry(region).or_default().push(lost);
    }

    /// Takes from `other` what begins in these regions.
    pub fn take(&mut self, other: &Found, regions: Range<u64>) {
        for (region, lost) in other.regions.range(regions) {
            for lost in lost {
                self.add(*region, lost.clone());
            }
        }
    }

    /// All of it, ascending.
    pub fn all(&self) -> impl Iterator<Item = &Lost> {
        self.regions.values().flatten()
    }

    /// How many parts there was no room for.
    pub fn more(&self) -> u64 {
        self.more
    }
}
