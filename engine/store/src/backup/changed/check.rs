//! The rotating check: a few of the regions that are claimed to be unchanged are read and compared all the same.

use crate::backup::changed::walk::Known;
use crate::backup::plan::of_source;
use crate::backup::run::DiskInput;
use crate::hash::{ChunkKind, Keys};
use crate::map::holes::is_zero;
use crate::map::{Leaf, REGION};
use crate::tree::Spot;
use cairn_base::units::to_u64;
use cairn_base::{ChunkId, Error, Kind, Monitor, Result};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// One in so many regions is checked; as many points later all were.
const ONE_IN: u64 = 1000;

/// What the check found.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All that was looked at is as it was.
    Same,
    /// At this offset the disk differs from the base, and no change was reported there, or it is said to be zeros and is not.
    Differs(u64),
    /// The base's map cannot be read at this offset.
    Lost(u64),
}

/// A check of one disk.
pub struct Check<'a> {
    /// What is claimed.
    pub known: &'a Known,
    /// The disk.
    pub disk: &'a DiskInput,
    /// The store's keys.
    pub keys: &'a Keys,
    /// Sequence number of the new point: decides what is looked at.
    pub sequence: u64,
    /// Threads to use.
    pub threads: usize,
    /// Says when to stop.
    pub monitor: &'a dyn Monitor,
}

impl Check<'_> {
    /// Does it; answers the verdict and the bytes read.
    ///
    /// # Errors
    /// What the image reports; [`Kind::Interrupted`] on request.
    pub fn run(&self) -> Result<(Verdict, u64)> {
        let targets = Mutex::new(Targets::new(self.known, self.sequence));
        let read = AtomicU64::new(0);
        let first: Mutex<Option<Result<Verdict>>> = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..self.threads.max(1) {
                scope.spawn(|| {
                    let verdict = self.work(&targets, &read);
                    if !matches!(verdict, Ok(Verdict::Same)) {
                        first.lock().get_or_insert(verdict);
                        targets.lock().end();
                    }
                });
            }
        });
        let verdict = first.into_inner().unwrap_or(Ok(Verdict::Same))?;
        Ok((verdict, read.into_inner()))
    }

    fn work(&self, targets: &Mutex<Targets<'_>>, read: &AtomicU64) -> Result<Verdict> {
        let mut buffer = Vec::new();
        loop {
            if self.monitor.stop_requested() {
                return Err(Error::interrupted());
            }
            let next = targets.lock().next();
            let found = match next {
                Ok(None) => return Ok(Verdict::Same),
                Ok(Some((region, id))) => {
                    let leaf = self.known.tree.leaf(region, id);
                    leaf.map(|leaf| (region, leaf)).map_err(|e| (region, e))
                }
                Err(failure) => Err(failure),
            };
            let (region, leaf) = match found {
                Ok(found) => found,
                Err((region, error)) if matches!(error.kind(), Kind::Damaged | Kind::Io) => {
                    return Ok(Verdict::Lost(region * REGION));
                }
                Err((_, error)) => return Err(error),
            };
            let start = region * REGION;
            let all = start..start + leaf.length();
            let extents = self.disk.source.data_extents(all).map_err(of_source)?;
            // What is not allocated reads as zeros, as is said of some and as was so of the rest.
            if extents.is_empty() && leaf.is_hole() {
                continue;
            }
            buffer.clear();
            buffer.resize(usize::try_from(leaf.length()).unwrap_or(0), 0);
            for extent in extents {
                let within = |at: u64| usize::try_from(at.saturating_sub(start)).unwrap_or(0);
                let part = buffer.get_mut(within(extent.start)..within(extent.end));
                let part = part.unwrap_or_default();
                self.disk.read(extent.start, part)?;
                read.fetch_add(to_u64(part.len()), Ordering::Relaxed);
            }
            let differs = self.first_difference(start, &leaf, &buffer);
            if let Some(offset) = differs.or_else(|| self.first_not_zero(start, &buffer)) {
                return Ok(Verdict::Differs(offset));
            }
        }
    }

    /// Where the first range begins that is said to be zeros and is not.
    fn first_not_zero(&self, start: u64, bytes: &[u8]) -> Option<u64> {
        let region = start..start.saturating_add(to_u64(bytes.len()));
        let within = |at: u64| usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX);
        let claims = self.known.changes.within(region);
        let mut zeros = claims.filter(|claim| claim.zero).map(|claim| claim.range);
        let wrong = zeros.find(|range| {
            let part = bytes.get(within(range.start)..within(range.end));
            !is_zero(part.unwrap_or_default())
        });
        wrong.map(|range| range.start)
    }

    /// Where the first extent begins that no change touches and that is not what the leaf says.
    fn first_difference(&self, start: u64, leaf: &Leaf, bytes: &[u8]) -> Option<u64> {
        let mut at = 0usize;
        for extent in &leaf.extents {
            let end = at.saturating_add(usize::try_from(extent.length).unwrap_or(usize::MAX));
            let on_disk = start + to_u64(at)..start + to_u64(end);
            let changed = self.known.changes.next(on_disk.start);
            let touched = changed.is_some_and(|offset| offset < on_disk.end);
            let part = bytes.get(at..end).unwrap_or_default();
            let same = touched
                || match extent.chunk {
                    Some(id) => self.keys.chunk_id(ChunkKind::Data, part) == id,
                    None => is_zero(part),
                };
            if !same {
                return Some(on_disk.start);
            }
            at = end;
        }
        None
    }
}

/// The regions to look at: every thousandth, beginning with one that the point's number decides, holes too. If none of them has
/// data that is claimed to be unchanged, one more that has.
struct Targets<'a> {
    known: &'a Known,
    regions: u64,
    first: u64,
    step: u64,
    next: u64,
    /// One with data was found, or none is looked for any more.
    found: bool,
}

/// The outcome for a region, or its failure.
type AtRegion<T> = std::result::Result<T, (u64, Error)>;

impl Targets<'_> {
    fn new(known: &Known, sequence: u64) -> Targets<'_> {
        let regions = known.tree.shape().regions();
        let step = regions.clamp(1, ONE_IN);
        Targets {
            known,
            regions,
            first: sequence % regions.max(1),
            step,
            next: sequence % step,
            found: regions == 0,
        }
    }

    /// Nothing more is to be looked at.
    fn end(&mut self) {
        self.next = self.regions;
        self.found = true;
    }

    /// The next region and its leaf.
    fn next(&mut self) -> AtRegion<Option<(u64, ChunkId)>> {
        while self.next < self.regions {
            let region = self.next;
            self.next += self.step;
            if self.known.is_read(region) {
                continue;
            }
            let (id, _) = self.locate(region)?;
            self.found |= !id.is_null();
            return Ok(Some((region, id)));
        }
        if std::mem::replace(&mut self.found, true) {
            return Ok(None);
        }
        self.any()
    }

    /// Any region with data, from the first one on and around the end.
    fn any(&self) -> AtRegion<Option<(u64, ChunkId)>> {
        let (mut region, mut seen) = (self.first, 0);
        while seen < self.regions {
            let (id, until) = match self.known.damaged_until(region) {
                Some(end) => (ChunkId::NULL, end),
                None => self.locate(region)?,
            };
            if !id.is_null() && !self.known.is_read(region) {
                return Ok(Some((region, id)));
            }
            seen += until - region;
            region = if until < self.regions { until } else { 0 };
        }
        Ok(None)
    }

    /// The leaf of a region, and the next region that may have another one.
    fn locate(&self, region: u64) -> AtRegion<(ChunkId, u64)> {
        match self.known.tree.locate(region) {
            Ok(Spot::Leaf(id)) => Ok((id, region + 1)),
            Ok(Spot::HoleUntil(until)) => Ok((ChunkId::NULL, until.max(region + 1))),
            Err(error) => Err((region, error)),
        }
    }
}
