//! What a store holds, in numbers: cheaply, from records and the index; exactly, by walking the maps of all points ([`usage`](mod@usage)); and how scattered
//! single points lie ([`locality`](mod@locality)).

mod growth;
mod locality;
mod usage;

pub use growth::MachineStats;
pub use locality::{Locality, locality};
pub use usage::{MachineUsage, PointUsage, Totals, Usage, UsageOptions, usage};

use crate::catalog::each_point;
use crate::proof::{ProofSummary, Proofs};
use crate::store::Store;
use cairn_base::{Clock, Error, Result};
use growth::MachineCount;
use std::ops::ControlFlow;

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
    /// When its packs were last proven good.
    pub proofs: ProofSummary,
    /// Why that cannot be told, if it cannot: then all count as never proven.
    pub proofs_lost: Option<String>,
    /// Each machine, by name.
    pub by_machine: Vec<MachineStats>,
    /// Points, and pages of the index, that cannot be read.
    pub damaged: Vec<Error>,
}

/// Counts.
///
/// # Errors
/// As the folder reports.
pub fn stats(store: &Store, clock: &dyn Clock) -> Result<StoreStats> {
    let mut found = StoreStats::default();
    let mut machine: Option<MachineCount> = None;
    each_point(store, None, &mut |point| {
        match point {
            Ok(point) => {
                found.points = found.points.saturating_add(1);
                let sizes = point.record.disks.iter().map(|disk| disk.size);
                found.logical_bytes = sizes.fold(found.logical_bytes, u64::saturating_add);
                let name = point.record.machine.to_lowercase();
                match &mut machine {
                    Some(count) if count.machine().to_lowercase() == name => count.add(&point),
                    machine => {
                        let before = machine.replace(MachineCount::new(&point));
                        found.by_machine.extend(before.map(MachineCount::finish));
                    }
                }
            }
            Err(error) => found.damaged.push(error),
        }
        ControlFlow::Continue(())
    })?;
    found.by_machine.extend(machine.map(MachineCount::finish));
    store.refresh()?;
    let index = store.index();
    let unanswered = store.state().unanswered_packs();
    let (proofs, lost) = Proofs::read_or_none(&**store.folder());
    found.proofs_lost = lost;
    let live = index.packs().filter_map(Result::ok);
    let live = live.filter(|row| !unanswered.contains(&row.id));
    found.proofs = proofs.summary(live.map(|row| (row.id, row.length)), clock.now());
    let (mut packs, mut pack_bytes) = (0u64, 0u64);
    for row in index.packs() {
        match row {
            Ok(row) if unanswered.contains(&row.id) => {}
            Ok(row) => {
                packs = packs.saturating_add(1);
                pack_bytes = pack_bytes.saturating_add(row.length);
            }
            Err(error) => found.damaged.push(error),
        }
    }
    let count = cairn_base::units::to_u64;
    found.machines = count(found.by_machine.len());
    found.chunks = index.entries();
    found.packs = packs;
    found.segments = count(index.segments().len());
    found.index_bytes = index.segments().iter().map(|s| s.length()).sum();
    found.stored_bytes = pack_bytes.saturating_add(found.index_bytes);
    Ok(found)
}
