//! What a store holds, in numbers.

use crate::catalog::all_points;
use crate::store::Store;
use cairn_base::{Error, Result};
use std::collections::HashSet;

/// What a store holds.
#[derive(Debug, Default)]
pub struct StoreStats {
    /// Recovery points.
    pub points: u64,
    /// Machines.
    pub machines: u64,
    /// Index entries: chunks of data and of maps.
    pub chunks: u64,
    /// Sealed packs.
    pub packs: u64,
    /// Index segments.
    pub segments: u64,
    /// Sizes of the disks of all points together, in bytes.
    pub logical_bytes: u64,
    /// Bytes of packs and index segments.
    pub stored_bytes: u64,
    /// Of that, the index.
    pub index_bytes: u64,
    /// Points, and pages of the index, that cannot be read.
    pub damaged: Vec<Error>,
}

/// Counts.
///
/// # Errors
/// As the folder reports.
pub fn stats(store: &Store) -> Result<StoreStats> {
    let listing = all_points(store)?;
    store.refresh()?;
    let index = store.index();
    let mut damaged = listing.damaged;
    let (mut packs, mut pack_bytes) = (0, 0);
    for row in index.packs() {
        match row {
            Ok(row) => {
                packs += 1;
                pack_bytes += row.length;
            }
            Err(error) => damaged.push(error),
        }
    }
    let machines: HashSet<String> = listing
        .points
        .iter()
        .map(|point| point.record.machine.to_lowercase())
        .collect();
    let count = cairn_base::units::to_u64;
    let index_bytes = index.segments().iter().map(|s| s.length()).sum();
    Ok(StoreStats {
        points: count(listing.points.len()),
        machines: count(machines.len()),
        chunks: index.entries(),
        packs,
        segments: count(index.segments().len()),
        logical_bytes: listing
            .points
            .iter()
            .flat_map(|point| &point.record.disks)
            .map(|disk| disk.size)
            .sum(),
        stored_bytes: pack_bytes + index_bytes,
        index_bytes,
        damaged,
    })
}
