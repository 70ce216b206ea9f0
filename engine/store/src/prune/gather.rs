//! Gathering: what the newest point of a machine has in many places is written once more, together, in the order in which it is read.
//!
//! A disk that is backed up every day lies where its days lie: a region of it in dozens of packs. Such regions are found by the reads that they take, and of
//! each the chunks that come in short reads are copied, as a restore would read them. Points name chunks and not places, so nothing else changes; marking
//! takes the place of a chunk that was written last, and the old ones are what nothing needs.

use crate::catalog;
use crate::map::{Leaf, REGION};
use crate::pack::PackKind;
use crate::point::Point;
use crate::prune::mark::Marked;
use crate::prune::packing::Packing;
use crate::read::ChunkReader;
use crate::region::{RegionMap, RegionReader};
use crate::session::Session;
use crate::store::Store;
use crate::tree::Tree;
use cairn_base::{ChunkId, Error, Kind, Monitor, Result};
use std::collections::HashSet;
use std::sync::Arc;

/// A region of 4 MiB is scattered if more short reads than this bring it.
const READS: usize = 8;
/// Shorter reads are short, in bytes of packs.
const SHORT: u64 = 256 << 10;

/// What was gathered.
#[derive(Debug, Clone, Default)]
pub struct Gathered {
    /// Plain bytes of chunks that were copied.
    pub bytes: u64,
    /// Bytes of the new packs.
    pub written: u64,
    /// Why it ended early, if it did.
    pub ended_early: Option<String>,
}

/// What must stay free on the disk: this many bytes, or this share of all there are. Backups come at night.
const SPARE: u64 = 256 << 20;
const SPARE_SHARE: u64 = 64;
/// After so many regions (4 GiB) it is asked whether there is time for more.
const ASKED: u64 = 1 << 10;

/// How far gathering goes.
pub struct Limits<'a> {
    /// Plain bytes that are copied at most, about.
    pub bytes: u64,
    /// Whether its time is over.
    pub is_over: &'a dyn Fn() -> bool,
}

/// Gathers what the newest points have scattered. A point or a part of one that cannot be read is left as it is.
///
/// # Errors
/// [`Kind::Interrupted`](cairn_base::Kind::Interrupted) on request; as the folder reports.
pub fn gather(
    store: &Arc<Store>,
    session: &Session,
    limits: &Limits<'_>,
    monitor: &dyn Monitor,
) -> Result<Gathered> {
    let mut work = Work {
        store,
        seen: Marked::none_of(store.index()),
        packing: Packing::new(store, session)?,
        buffer: vec![0; usize::try_from(REGION).unwrap_or(0)],
        found: Gathered::default(),
        limits,
        monitor,
    };
    let reader = Arc::new(ChunkReader::new(store.clone(), 0));
    let (machines, _named_elsewhere) = catalog::machines(store)?;
    for machine in machines {
        if work.found.ended_early.is_some() {
            break;
        }
        match catalog::latest(store, &machine) {
            Ok(point) => work.point(&reader, &point)?,
            Err(error) if error.kind() == Kind::Interrupted => return Err(error),
            Err(_) => {}
        }
    }
    work.packing.close(PackKind::Data)?;
    work.found.written = work.packing.finish()?;
    Ok(work.found)
}

struct Work<'a> {
    store: &'a Store,
    /// Chunks of the points before: a chunk that several machines have lies where the first of them has it.
    seen: Marked,
    packing: Packing<'a>,
    buffer: Vec<u8>,
    found: Gathered,
    limits: &'a Limits<'a>,
    monitor: &'a dyn Monitor,
}

impl Work<'_> {
    fn point(&mut self, reader: &Arc<ChunkReader>, point: &Point) -> Result<()> {
        for disk in &point.record.disks {
            let Ok(tree) = Tree::new(reader.clone(), disk) else {
                continue;
            };
            let regions = tree.shape().regions();
            let mut disk = RegionReader::new(&tree);
            let mut region = 0;
            while region < regions && self.goes_on(region)? {
                region = match disk.map(region) {
                    Ok(RegionMap::ZerosUntil(next)) => next,
                    Ok(RegionMap::Leaf(leaf)) => {
                        self.region(&mut disk, region, &leaf)?;
                        region.saturating_add(1)
                    }
                    Err(error) if error.kind() == Kind::Interrupted => return Err(error),
                    Err(_) => region.saturating_add(1),
                };
            }
        }
        Ok(())
    }

    /// Whether another region may be looked at.
    fn goes_on(&mut self, region: u64) -> Result<bool> {
        if self.monitor.stop_requested() {
            return Err(Error::interrupted());
        }
        if self.found.bytes >= self.limits.bytes {
            self.end("the bytes that may be copied were used up");
        }
        if region.is_multiple_of(ASKED) && region > 0 && (self.limits.is_over)() {
            self.end("its time was over");
        }
        Ok(self.found.ended_early.is_none())
    }

    /// Whether there is time and room to copy one.
    fn may_copy(&mut self) -> Result<bool> {
        if (self.limits.is_over)() {
            self.end("its time was over");
        }
        let space = self.store.folder().space()?;
        let spare = |total: u64| SPARE.max(total.checked_div(SPARE_SHARE).unwrap_or(0));
        if space.is_some_and(|space| space.free < spare(space.total)) {
            self.end("the disk has too little room to gather more");
        }
        Ok(self.found.ended_early.is_none())
    }

    fn end(&mut self, why: &str) {
        self.found
            .ended_early
            .get_or_insert_with(|| why.to_string());
    }

    fn region(&mut self, disk: &mut RegionReader, region: u64, leaf: &Leaf) -> Result<()> {
        let mut first_here = vec![false; leaf.extents.len()];
        for (first, extent) in first_here.iter_mut().zip(&leaf.extents) {
            *first = extent.chunk.is_some_and(|id| self.see(&id));
        }
        let is_first = |number: &usize| first_here.get(*number) == Some(&true);
        let mut reads = disk.reads(leaf).reads;
        // What another machine has too stays with it, so that the two do not take it from each other.
        reads.retain(|read| read.length() < SHORT && read.chunks.iter().any(is_first));
        if reads.len() <= READS || !self.may_copy()? {
            return Ok(());
        }
        let wanted = reads.iter().flat_map(|read| &read.chunks);
        let wanted: HashSet<usize> = wanted.copied().filter(is_first).collect();
        let is_wanted = |number: usize| wanted.contains(&number);
        let chunks = leaf
            .parts()
            .enumerate()
            .filter(|(number, _)| is_wanted(*number));
        let chunks: Vec<_> = chunks.map(|(_, part)| part).collect();
        let bytes = chunks.iter().map(|part| u64::from(part.extent.length));
        let bytes = bytes.fold(0, u64::saturating_add);
        let length = usize::try_from(leaf.length()).unwrap_or(0);
        let out = self.buffer.get_mut(..length).unwrap_or_default();
        match disk.read(region, leaf, &is_wanted, out) {
            Ok(()) => {}
            Err(error) if error.kind() == Kind::Interrupted => return Err(error),
            // It is damaged, or cannot be read now: a verification tells.
            Err(_) => return Ok(()),
        }
        for part in chunks {
            if let (Some(id), Some(bytes)) = (part.extent.chunk, out.get(part.range())) {
                self.packing.chunk(id, bytes, PackKind::Data)?;
            }
        }
        self.found.bytes = self.found.bytes.saturating_add(bytes);
        Ok(())
    }

    /// Whether a chunk is met for the first time.
    fn see(&self, id: &ChunkId) -> bool {
        let (found, _) = self.seen.index().numbered(id);
        let mut is_new = false;
        for at in &found {
            is_new |= self.seen.set(at);
        }
        is_new
    }
}
