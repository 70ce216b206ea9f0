//! What each point and each machine needs in the packs, exactly: the maps of all points are walked.
//!
//! Which points need a chunk is exact. What a chunk takes is its share of its frame, by plain lengths: shares add up to the frame to the byte, but which of two chunks
//! compressed better is not known.

mod count;
mod table;

use crate::catalog::each_point;
use crate::point::Point;
use crate::read::ChunkReader;
use crate::session::{Session, SessionKind, Standing};
use crate::store::Store;
use crate::tree::Tree;
use cairn_base::{Error, Kind, Monitor, PointId, Result, Stage, Time};
use count::{Counter, Course, Found};
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use table::{PackBytes, Part, Table, count};

/// Memory of the table of chunks, in bytes, unless the caller says otherwise.
pub const MEMORY: u64 = 192 << 20;

/// What is to be found out.
#[derive(Debug, Clone)]
pub struct UsageOptions {
    /// Points of which is asked what forgetting all of them would free.
    pub forget: Vec<PointId>,
    /// Memory for the table of chunks, in bytes. A store with more chunks than fit, at 96 bytes each, is walked several times.
    pub memory: u64,
}

impl Default for UsageOptions {
    fn default() -> UsageOptions {
        UsageOptions {
            forget: Vec::new(),
            memory: MEMORY,
        }
    }
}

/// What a point needs. Bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointUsage {
    /// The point.
    pub point: PointId,
    /// Number of its machine in [`Usage::machines`].
    pub machine: usize,
    /// When it was made.
    pub time: Time,
    /// Sizes of its disks.
    pub logical_bytes: u64,
    /// Of these, what is not holes.
    pub used_bytes: u64,
    /// What its backup added when it was made.
    pub added_bytes: u64,
    /// What it needs in the packs.
    pub stored_bytes: u64,
    /// Of that, what no other point needs: forgetting it alone frees this.
    pub unique_bytes: u64,
}

impl PointUsage {
    /// What it needs and others need too.
    pub fn shared_bytes(&self) -> u64 {
        self.stored_bytes.saturating_sub(self.unique_bytes)
    }
}

/// What the points of a machine need together. Bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineUsage {
    /// Its name.
    pub machine: String,
    /// Recovery points.
    pub points: u64,
    /// What they need in the packs.
    pub stored_bytes: u64,
    /// Of that, what no other machine needs.
    pub unique_bytes: u64,
}

/// The whole store. Bytes, unless named otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Sizes of the disks of all points together.
    pub logical_bytes: u64,
    /// Of these, what is not holes.
    pub used_bytes: u64,
    /// Of these, what is not the same as something else: plain bytes of all chunks of disks that points need.
    pub distinct_bytes: u64,
    /// What these take in the packs.
    pub data_bytes: u64,
    /// What the maps take in the packs.
    pub map_bytes: u64,
    /// Chunks in the packs that no point needs any more, or not yet.
    pub unneeded_bytes: u64,
    /// Chunks in the packs that lie in another one too.
    pub duplicate_bytes: u64,
    /// Headers, tables of contents, parity and footers of packs.
    pub overhead_bytes: u64,
    /// Packs that could not be read.
    pub unread_bytes: u64,
    /// All live packs: the sum of the six above, from `data_bytes` on.
    pub pack_bytes: u64,
    /// Places at which a point names a chunk that is in no pack that could be read, in number.
    pub lost_places: u64,
}

impl Totals {
    fn needed(&mut self, cost: u64, data: Option<u64>) {
        let bytes = match data {
            Some(length) => {
                self.distinct_bytes = self.distinct_bytes.saturating_add(length);
                &mut self.data_bytes
            }
            None => &mut self.map_bytes,
        };
        *bytes = bytes.saturating_add(cost);
    }

    /// Bytes of disks that are not holes, for each byte of chunks.
    pub fn dedup_ratio(&self) -> Option<f64> {
        ratio(self.used_bytes, self.distinct_bytes)
    }

    /// Plain bytes of chunks for each byte in the packs.
    pub fn compression_ratio(&self) -> Option<f64> {
        ratio(self.distinct_bytes, self.data_bytes)
    }
}

#[expect(
    clippy::as_conversions,
    reason = "a ratio to look at; no number of bytes is taken from it"
)]
fn ratio(of: u64, to: u64) -> Option<f64> {
    (to > 0).then(|| of as f64 / to as f64)
}

/// What every point and every machine needs.
#[derive(Debug, Default)]
pub struct Usage {
    /// By machine and sequence number.
    pub points: Vec<PointUsage>,
    /// By name.
    pub machines: Vec<MachineUsage>,
    /// The whole store.
    pub totals: Totals,
    /// What forgetting the points of [`UsageOptions::forget`] would free.
    pub frees: u64,
    /// Points and packs that could not be read: then the numbers are too low, and what only these points need counts as not needed.
    pub damaged: Vec<Error>,
    /// How often the maps were walked.
    pub passes: u64,
}

/// A point as it is kept while everything is counted.
pub struct Item {
    id: PointId,
    /// Names, sizes and roots of its disks.
    disks: Vec<crate::point::DiskRecord>,
}

/// Finds out what every point needs.
///
/// # Errors
/// [`Kind::NotFound`](cairn_base::Kind::NotFound) if a point that is to be forgotten is not there; [`Kind::Damaged`](cairn_base::Kind::Damaged) if a part of a map is
/// lost: without it nothing can be said; [`Kind::Interrupted`](cairn_base::Kind::Interrupted) on request; as the folder reports.
pub fn usage(store: &Arc<Store>, options: &UsageOptions, monitor: &dyn Monitor) -> Result<Usage> {
    let (mut usage, items, session) = list(store)?;
    let ids: Vec<PointId> = items.iter().map(|item| item.id).collect();
    if let Some(warning) = session.warning() {
        monitor.warn(warning);
    }
    store.refresh()?;
    let firsts = firsts(&usage.points);
    let kept_before = kept_before(&ids, &options.forget)?;
    let course = Course {
        items: &items,
        firsts: &firsts,
        kept_before: &kept_before,
    };
    let passes = table::passes(store.index().entries(), options.memory);
    let walked = usage.totals.logical_bytes.saturating_mul(passes);
    monitor.begin(Stage::Count, walked);
    let reader = Arc::new(ChunkReader::new(store.clone(), 0));
    let trees = |item: &Item| -> Result<Vec<(String, Tree)>> {
        let disks = item.disks.iter();
        disks
            .map(|disk| Ok((disk.name.to_lowercase(), Tree::new(reader.clone(), disk)?)))
            .collect()
    };
    let mut bytes = PackBytes::default();
    for pass in 0..passes {
        let part = Part { pass, passes };
        let table = Table::read(store, part, &mut bytes, &mut usage.damaged, monitor)?;
        let found = Found {
            points: &mut usage.points,
            machines: &mut usage.machines,
            totals: &mut usage.totals,
            frees: &mut usage.frees,
        };
        Counter::new(&course, found, table).run(&trees, monitor)?;
    }
    monitor.finish(Stage::Count);
    let used = usage.points.iter().map(|point| point.used_bytes);
    usage.totals.used_bytes = used.fold(0, u64::saturating_add);
    usage.totals.pack_bytes = bytes.all;
    usage.totals.overhead_bytes = bytes.overhead;
    usage.totals.duplicate_bytes = bytes.duplicates;
    usage.totals.unread_bytes = bytes.unread;
    usage.passes = passes;
    Ok(usage)
}

/// How often points are listed again because one was forgotten meanwhile.
const ATTEMPTS: usize = 5;

/// The points, and a session that stands on all of them.
fn list(store: &Store) -> Result<(Usage, Vec<Item>, Session)> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let mut usage = Usage::default();
        let (mut items, mut standing) = (Vec::new(), Vec::new());
        each_point(store, None, &mut |found| {
            match found {
                Ok(point) => {
                    standing.push(Standing::of(&point));
                    items.push(add(&mut usage, point));
                }
                Err(error) => usage.damaged.push(error),
            }
            ControlFlow::Continue(())
        })?;
        match Session::begin_on(store.folder().clone(), SessionKind::Read, &standing) {
            // One was forgotten meanwhile.
            Err(error) if error.kind() == Kind::NotFound && attempt < ATTEMPTS => {}
            session => return Ok((usage, items, session?)),
        }
    }
}

fn add(usage: &mut Usage, point: Point) -> Item {
    let record = point.record;
    let same = |last: &MachineUsage| last.machine.to_lowercase() == record.machine.to_lowercase();
    if !usage.machines.last().is_some_and(same) {
        usage.machines.push(MachineUsage {
            machine: record.machine,
            points: 0,
            stored_bytes: 0,
            unique_bytes: 0,
        });
    }
    if let Some(machine) = usage.machines.last_mut() {
        machine.points = machine.points.saturating_add(1);
    }
    let sizes = record.disks.iter().map(|disk| disk.size);
    let logical_bytes = sizes.fold(0, u64::saturating_add);
    let totals = &mut usage.totals;
    totals.logical_bytes = totals.logical_bytes.saturating_add(logical_bytes);
    usage.points.push(PointUsage {
        point: point.id,
        machine: usage.machines.len().saturating_sub(1),
        time: Time::from_seconds(record.seconds),
        logical_bytes,
        used_bytes: 0,
        added_bytes: record.stats.stored,
        stored_bytes: 0,
        unique_bytes: 0,
    });
    Item {
        id: point.id,
        disks: record.disks,
    }
}

/// The number of each machine's first point.
fn firsts(points: &[PointUsage]) -> Vec<u32> {
    let mut firsts = Vec::new();
    let mut last = None;
    for (number, point) in points.iter().enumerate() {
        if last != Some(point.machine) {
            firsts.push(count(number));
            last = Some(point.machine);
        }
    }
    firsts
}

/// For each point how many before it are not to be forgotten; and for all.
fn kept_before(ids: &[PointId], forget: &[PointId]) -> Result<Vec<u32>> {
    let there: HashSet<PointId> = ids.iter().copied().collect();
    if let Some(id) = forget.iter().find(|id| !there.contains(id)) {
        return Err(Error::not_found("the recovery point is not in the store").with_id(*id));
    }
    let forget: HashSet<PointId> = forget.iter().copied().collect();
    let mut kept = 0u32;
    let mut before = vec![kept];
    for id in ids {
        kept = kept.saturating_add(u32::from(!forget.contains(id)));
        before.push(kept);
    }
    Ok(before)
}
