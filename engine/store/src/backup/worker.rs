//! What one worker thread does: read a region, compare it with the previous point, cut, hash, compress.

use crate::backup::changed::{Part, RegionSource};
use crate::backup::compare::{Compare, Compared, is_unchanged};
use crate::backup::level::Pace;
use crate::backup::plan::{Task, covered};
use crate::backup::region::{Context, RegionResult, gaps};
use crate::backup::run::DiskInput;
use crate::backup::work::{Outcome, Run};
use crate::frame::Compressor;
use crate::map::{Leaf, REGION, Shape};
use crate::store::Store;
use crate::tree::Spot;
use cairn_base::units::to_u64;
use cairn_base::{AlignedBuffer, ChunkId, Error, Kind, Result, Stage};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Bytes read at once. What was just read is compared while the processor's cache still holds it.
const PIECE: usize = 1 << 20;
/// A source that gives fewer bytes in a microsecond is not in memory: it is told what will be needed.
const SLOW: u128 = 1000;

/// A leaf of a previous map and its id.
type BaseLeaf = (ChunkId, Arc<Leaf>);

/// What one thread works with.
pub struct Worker<'a> {
    run: &'a Run<'a>,
    buffer: AlignedBuffer,
    compressor: Compressor,
    pace: Pace,
    /// What of the buffer is not zeros now.
    dirty: Vec<Range<usize>>,
    /// Regions from here to the one that is announced to the source.
    ahead: u64,
}

impl<'a> Worker<'a> {
    /// A worker that announces the region `ahead` of the one it reads.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a level zstd does not take.
    pub fn new(run: &'a Run<'a>, ahead: u64) -> Result<Worker<'a>> {
        Ok(Worker {
            run,
            buffer: AlignedBuffer::new(usize::try_from(REGION).unwrap_or(0)),
            compressor: Compressor::new(run.options.level.first())?,
            pace: Pace::new(run.options.level),
            dirty: Vec::new(),
            ahead,
        })
    }

    /// Does a task; `waited` is how long the worker stood still before it.
    ///
    /// # Errors
    /// What the image reports; [`Kind::Interrupted`] on request.
    pub fn task(&mut self, task: Task, waited: Duration) -> Result<Outcome> {
        match task {
            Task::Holes { disk, count } => Ok(Outcome::Holes(disk, count)),
            Task::Region { disk, region, data } => {
                if self.run.monitor.stop_requested() {
                    return Err(Error::interrupted());
                }
                let base = self.base_leaf(disk, region)?;
                let result = self.region(disk, region, &data, base, waited)?;
                Ok(Outcome::Region(disk, result))
            }
            Task::Changed {
                disk,
                region,
                parts,
            } => {
                if self.run.monitor.stop_requested() {
                    return Err(Error::interrupted());
                }
                let result = self.changed_region(disk, region, &parts, waited)?;
                Ok(Outcome::Region(disk, result))
            }
            Task::Kept { disk, nodes } => Ok(Outcome::Kept(disk, nodes)),
        }
    }

    fn region(
        &mut self,
        disk: usize,
        region: u64,
        data: &[Range<usize>],
        base: Option<BaseLeaf>,
        waited: Duration,
    ) -> Result<RegionResult> {
        let Some(input) = self.run.disks.get(disk) else {
            return Err(Error::invalid("a task of a disk that is not there"));
        };
        let shape = Shape::of(input.source.size())?;
        let length = usize::try_from(shape.region_length(region)).unwrap_or(0);
        let base = base.as_ref().map(|(id, leaf)| (*id, &**leaf));
        let known_zero = gaps(data, length);
        let store = self.run.store;
        // A chunk that is damaged counts as absent: what names one is not taken for granted.
        let trust_base = store.is_whole() && base.is_none_or(|base| !names_lost(store, base));
        if let Some((leaf, base)) = base
            && trust_base
            && self.is_as_before(input, region, base, &known_zero)?
        {
            let read_bytes = covered(data);
            self.run.monitor.advance(Stage::Backup, read_bytes);
            return Ok(RegionResult {
                leaf,
                read_bytes,
                ..RegionResult::default()
            });
        }
        self.clear(data);
        let mut compare = base.map(|(_, leaf)| Compare::new(store.keys(), leaf, &known_zero));
        let began = Instant::now();
        let reading = self.read(input, region, data, &mut compare)?;
        let bytes = self.buffer.get(..length).unwrap_or_default();
        let compared = compare.map_or_else(Compared::default, |mut compare| {
            compare.advance(bytes, length);
            compare.finish(length)
        });
        let context = Context {
            keys: store.keys(),
            cut: store.header().cut,
            store,
            writer: &self.run.writer,
            trust_base,
        };
        let mut result =
            context.process(bytes, &known_zero, base, &compared, &mut self.compressor)?;
        if !result.frames.is_empty()
            && let Some(level) = self.pace.note(waited + reading, began.elapsed() - reading)
        {
            self.compressor.set_level(level)?;
        }
        result.read_bytes = covered(data);
        self.run.monitor.advance(Stage::Backup, result.read_bytes);
        Ok(result)
    }

    /// Whether the region is what the base's leaf says, told with no more memory than the processor's cache holds. A source
    /// that is not in memory is not asked: what differs would be read from it twice.
    fn is_as_before(
        &mut self,
        input: &DiskInput,
        region: u64,
        base: &Leaf,
        known_zero: &[Range<usize>],
    ) -> Result<bool> {
        if self.run.slow_source.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let start = region * REGION;
        let length = Shape::of(input.source.size())?.region_length(region);
        let length = usize::try_from(length).unwrap_or(0);
        let scratch = self.buffer.get_mut(..PIECE).unwrap_or_default();
        self.dirty.push(0..PIECE);
        let mut reading = Duration::ZERO;
        let mut bytes = 0u128;
        let keys = self.run.store.keys();
        let same = is_unchanged(keys, base, known_zero, length, scratch, |at, part| {
            let began = Instant::now();
            input.read(start + to_u64(at), part)?;
            reading += began.elapsed();
            bytes += u128::from(to_u64(part.len()));
            Ok(())
        })?;
        note_speed(&self.run.slow_source, bytes, reading);
        Ok(same)
    }

    /// A region of which only `parts` changed: they are read, and what decides where chunks end around them.
    fn changed_region(
        &mut self,
        disk: usize,
        region: u64,
        parts: &[Part],
        waited: Duration,
    ) -> Result<RegionResult> {
        let Some(input) = self.run.disks.get(disk) else {
            return Err(Error::invalid("a task of a disk that is not there"));
        };
        let store = self.run.store;
        let length = Shape::of(input.source.size())?.region_length(region);
        let whole = 0..usize::try_from(length).unwrap_or(0);
        let base = self.base_leaf(disk, region)?;
        let good = |(id, leaf): &BaseLeaf| store.is_whole() && !names_lost(store, (*id, leaf));
        let Some((id, leaf)) = base.filter(good) else {
            // What stood here cannot be relied on.
            let all: Vec<_> = std::iter::once(whole).collect();
            return self.region(disk, region, &all, None, waited);
        };
        let context = Context {
            keys: store.keys(),
            cut: store.header().cut,
            store,
            writer: &self.run.writer,
            trust_base: true,
        };
        let image = RegionOfImage {
            input,
            start: region * REGION,
            slow: self.run.slow_source.load(Ordering::Relaxed),
        };
        self.dirty = std::iter::once(0..self.buffer.len()).collect();
        let bytes = self.buffer.get_mut(whole).unwrap_or_default();
        let compressor = &mut self.compressor;
        let result = context.process_changes(bytes, &image, (id, &leaf), parts, compressor)?;
        self.run.monitor.advance(Stage::Backup, length);
        Ok(result)
    }

    /// Zeros what was data before and is not now; what is read over needs no clearing.
    fn clear(&mut self, data: &[Range<usize>]) {
        let gaps = gaps(data, self.buffer.len());
        for old in std::mem::take(&mut self.dirty) {
            for gap in &gaps {
                let part = gap.start.max(old.start)..gap.end.min(old.end);
                if let Some(part) = self.buffer.get_mut(part) {
                    part.fill(0);
                }
            }
        }
        self.dirty = data.to_vec();
    }

    /// Reads the data of a region into the buffer, piece by piece, comparing as it goes. How long the source took.
    fn read(
        &mut self,
        input: &DiskInput,
        region: u64,
        data: &[Range<usize>],
        compare: &mut Option<Compare<'_>>,
    ) -> Result<Duration> {
        let start = region * REGION;
        if self.run.slow_source.load(Ordering::Relaxed) {
            let next = start + REGION * self.ahead;
            input.source.will_need(next..next + REGION);
        }
        let mut reading = Duration::ZERO;
        for range in data {
            let mut at = range.start;
            while at < range.end {
                let piece = at..range.end.min(at + PIECE);
                let offset = start + to_u64(at);
                let began = Instant::now();
                let part = self.buffer.get_mut(piece.clone()).unwrap_or_default();
                input.read(offset, part)?;
                reading += began.elapsed();
                if let Some(compare) = compare {
                    compare.advance(&self.buffer, piece.end);
                }
                at = piece.end;
            }
        }
        let bytes = u128::from(covered(data));
        note_speed(&self.run.slow_source, bytes, reading);
        Ok(reading)
    }

    /// The previous leaf of the region, if there is one of the same length that can be read.
    fn base_leaf(&self, disk: usize, region: u64) -> Result<Option<BaseLeaf>> {
        let (Some(input), Some(Some(tree))) = (self.run.disks.get(disk), self.run.bases.get(disk))
        else {
            return Ok(None);
        };
        let shape = Shape::of(input.source.size())?;
        if region >= tree.shape().regions()
            || tree.shape().region_length(region) != shape.region_length(region)
        {
            return Ok(None);
        }
        let leaf = tree.locate(region).and_then(|spot| match spot {
            Spot::Leaf(id) => Ok((id, tree.leaf(region, id)?)),
            Spot::HoleUntil(_) => Ok((
                ChunkId::NULL,
                Arc::new(Leaf::hole(shape.region_length(region))),
            )),
        });
        match leaf {
            Ok(found) => Ok(Some(found)),
            // A damaged map is no reason not to back up: the region is stored anew.
            Err(error) if matches!(error.kind(), Kind::Damaged | Kind::Io) => {
                self.run.lost_regions.fetch_add(1, Ordering::Relaxed);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// A region of an image, of which parts are read.
struct RegionOfImage<'a> {
    input: &'a DiskInput,
    start: u64,
    slow: bool,
}

impl RegionSource for RegionOfImage<'_> {
    fn read(&self, at: usize, buffer: &mut [u8]) -> Result<()> {
        self.input.read(self.start + to_u64(at), buffer)
    }

    fn will_need(&self, range: Range<usize>) {
        if self.slow {
            let on_disk = self.start + to_u64(range.start)..self.start + to_u64(range.end);
            self.input.source.will_need(on_disk);
        }
    }
}

/// Whether a leaf, or a chunk that it names, has no good place.
fn names_lost(store: &Store, (id, leaf): (ChunkId, &Leaf)) -> bool {
    let unhealed = store.unhealed();
    let is_lost = |id: &ChunkId| unhealed.contains(&id.prefix());
    let mut chunks = leaf.extents.iter().filter_map(|extent| extent.chunk);
    !unhealed.is_empty() && (is_lost(&id) || chunks.any(|id| is_lost(&id)))
}

/// Remembers whether the source is slower than memory.
fn note_speed(slow: &AtomicBool, bytes: u128, took: Duration) {
    let is_slow = bytes < took.as_micros() * SLOW;
    if bytes > 0 && slow.load(Ordering::Relaxed) != is_slow {
        slow.store(is_slow, Ordering::Relaxed);
    }
}
