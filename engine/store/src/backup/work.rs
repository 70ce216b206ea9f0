//! The threads of a backup: workers that take regions, and the writer that puts their results in order.

use crate::backup::changed::{Known, Part};
use crate::backup::claims::Claims;
use crate::backup::gate::Gate;
use crate::backup::plan::{Plan, Task, covered, of_source};
use crate::backup::region::{Context, RegionResult};
use crate::backup::run::{BackupOptions, DiskInput};
use crate::backup::seal::Sealer;
use crate::backup::sink::Sink;
use crate::frame::Compressor;
use crate::map::{Leaf, MapBuilder, REGION, Shape};
use crate::point::{BackupStats, DiskRecord};
use crate::session::Session;
use crate::store::Store;
use crate::tree::{Spot, Tree};
use cairn_base::units::to_u64;
use cairn_base::{ChunkId, Error, Kind, Monitor, Result, Stage};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// A worker and its window need about 25 MiB: more of them would break the memory budget.
const MAX_THREADS: usize = 8;
/// Regions in flight for each worker.
const WINDOW: u64 = 4;

/// What all threads share.
pub struct Run<'a> {
    /// The store.
    pub store: &'a Arc<Store>,
    /// This backup's session.
    pub session: &'a Session,
    /// How to back up.
    pub options: &'a BackupOptions,
    /// Is told of progress.
    pub monitor: &'a dyn Monitor,
    /// The disks.
    pub disks: &'a [DiskInput],
    /// The previous map of each disk.
    pub bases: Vec<Option<Tree>>,
    /// What this session stores.
    pub claims: Claims,
    /// What is known of each disk, where only changes are read.
    pub known: Vec<Option<Known>>,
    /// Regions of the previous maps that could not be read.
    pub lost_regions: AtomicU64,
}

/// Threads that a backup uses.
pub fn threads(options: &BackupOptions) -> usize {
    match options.threads {
        0 => std::thread::available_parallelism().map_or(2, usize::from),
        count => count,
    }
    .min(MAX_THREADS)
}

/// What came of it.
pub struct Done {
    /// The disks with their roots.
    pub disks: Vec<DiskRecord>,
    /// What was read and stored.
    pub stats: BackupStats,
    /// What went wrong without harm.
    pub warnings: Vec<String>,
}

enum Outcome {
    Region(usize, RegionResult),
    Holes(usize, u64),
    Kept(usize, Vec<(u8, ChunkId)>),
}

/// A leaf of a previous map and its id.
type BaseLeaf = (ChunkId, Arc<Leaf>);

type Answer = (u64, Result<Outcome>);

impl Run<'_> {
    /// Backs up all disks; when it returns, everything new is public.
    ///
    /// # Errors
    /// The first failure of any thread.
    pub fn all(&self) -> Result<Done> {
        let threads = threads(self.options);
        let sources = self.disks.iter().map(|disk| disk.source.clone()).collect();
        let plan = Mutex::new(Plan::new(sources, self.known.clone())?);
        let window = WINDOW * u64::try_from(threads).unwrap_or(1);
        let gate = Gate::new(window);
        // Wide enough that a worker inside the gate never waits here.
        let (send, receive) = sync_channel(usize::try_from(window).unwrap_or(1) + threads);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                let send = send.clone();
                let (plan, gate) = (&plan, &gate);
                scope.spawn(move || self.work(plan, gate, &send));
            }
            drop(send);
            let sealer = Sealer::start(scope);
            let written = self.write(&receive, &gate, sealer);
            // Whether it went well or not: nobody waits at the gate for ever, nobody blocks on a full channel.
            gate.close();
            drop(receive);
            written
        })
    }

    fn work(&self, plan: &Mutex<Plan>, gate: &Gate, send: &SyncSender<Answer>) {
        // Should a worker ever panic, the writer must hear of it: its task would never arrive.
        let _alarm = Alarm(send);
        let mut worker = match Worker::new(self) {
            Ok(worker) => worker,
            Err(error) => {
                let _gone = send.send((u64::MAX, Err(error)));
                return;
            }
        };
        loop {
            let next = plan.lock().next_task();
            let (number, task) = match next {
                Ok(Some(next)) => next,
                Ok(None) => return,
                Err(error) => {
                    let _gone = send.send((u64::MAX, Err(error)));
                    return;
                }
            };
            if !gate.enter(number) {
                return;
            }
            let outcome = worker.task(task);
            let failed = outcome.is_err();
            if send.send((number, outcome)).is_err() || failed {
                return;
            }
        }
    }

    /// Takes outcomes in order; writes frames, leaves and nodes; answers the roots.
    fn write(&self, receive: &Receiver<Answer>, gate: &Gate, sealer: Sealer<'_>) -> Result<Done> {
        let mut sink = Sink::new(
            self.store,
            self.session,
            &self.claims,
            sealer,
            self.options.level,
        )?;
        let mut stats = BackupStats::default();
        let mut builders: Vec<MapBuilder> = Vec::new();
        for disk in self.disks {
            builders.push(MapBuilder::new(Shape::of(disk.source.size())?));
        }
        let mut early: BTreeMap<u64, Outcome> = BTreeMap::new();
        let mut next = 0u64;
        while let Ok((number, outcome)) = receive.recv() {
            if self.monitor.stop_requested() {
                return Err(Error::interrupted());
            }
            early.insert(number, outcome?);
            while let Some(outcome) = early.remove(&next) {
                self.take(outcome, &mut builders, &mut sink, &mut stats)?;
                next += 1;
            }
            gate.advance(next);
        }
        let keys = self.store.keys();
        let mut disks = Vec::new();
        for (builder, disk) in builders.into_iter().zip(self.disks) {
            let root = builder.finish(keys, &mut |kind, id, bytes| sink.node(kind, id, bytes))?;
            disks.push(DiskRecord {
                name: disk.name.clone(),
                size: disk.source.size(),
                root: root.0,
                image: disk.facts.clone(),
                excluded: Vec::new(),
            });
        }
        sink.publish()?;
        stats.stored = sink.stored;
        stats.new_chunks = sink.chunks;
        let mut warnings = sink.warnings;
        let lost = self.lost_regions.load(Ordering::Relaxed);
        if lost > 0 {
            warnings.push(format!(
                "the previous point's map is damaged in {lost} regions: they were looked at anew; run `cairn verify`"
            ));
        }
        Ok(Done {
            disks,
            stats,
            warnings,
        })
    }

    fn take(
        &self,
        outcome: Outcome,
        builders: &mut [MapBuilder],
        sink: &mut Sink<'_, '_>,
        stats: &mut BackupStats,
    ) -> Result<()> {
        let keys = self.store.keys();
        let no_disk = || Error::invalid("a task of a disk that is not there");
        let (disk, leaf, count) = match outcome {
            Outcome::Kept(disk, nodes) => {
                let builder = builders.get_mut(disk).ok_or_else(no_disk)?;
                for (level, id) in nodes {
                    builder.push_subtree(keys, level, id, &mut |kind, id, bytes| {
                        sink.node(kind, id, bytes)
                    })?;
                }
                return Ok(());
            }
            Outcome::Holes(disk, count) => (disk, ChunkId::NULL, count),
            Outcome::Region(disk, result) => {
                stats.new += result.new_bytes;
                for frame in &result.frames {
                    sink.data_frame(frame)?;
                }
                if let Some(bytes) = result.leaf_bytes {
                    sink.map_chunk(result.leaf, bytes)?;
                }
                stats.read += result.read_bytes;
                (disk, result.leaf, 1)
            }
        };
        let builder = builders.get_mut(disk).ok_or_else(no_disk)?;
        for _ in 0..count {
            builder.push(keys, leaf, &mut |kind, id, bytes| {
                sink.node(kind, id, bytes)
            })?;
        }
        Ok(())
    }
}

/// Tells the writer when its thread panics.
struct Alarm<'a>(&'a SyncSender<Answer>);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let error = Error::invalid("a backup worker has failed unexpectedly");
            let _gone = self.0.send((u64::MAX, Err(error)));
        }
    }
}

/// What one thread works with.
struct Worker<'a> {
    run: &'a Run<'a>,
    buffer: Vec<u8>,
    compressor: Compressor,
    /// What of the buffer is not zeros now.
    dirty: Vec<Range<usize>>,
}

impl<'a> Worker<'a> {
    fn new(run: &'a Run<'a>) -> Result<Worker<'a>> {
        Ok(Worker {
            run,
            buffer: vec![0; usize::try_from(REGION).unwrap_or(0)],
            compressor: Compressor::new(run.options.level)?,
            dirty: Vec::new(),
        })
    }

    fn task(&mut self, task: Task) -> Result<Outcome> {
        match task {
            Task::Holes { disk, count } => Ok(Outcome::Holes(disk, count)),
            Task::Kept { disk, nodes } => Ok(Outcome::Kept(disk, nodes)),
            Task::Changed {
                disk,
                region,
                parts,
            } => {
                if self.run.monitor.stop_requested() {
                    return Err(Error::interrupted());
                }
                let result = self.changed_region(disk, region, &parts)?;
                Ok(Outcome::Region(disk, result))
            }
            Task::Region { disk, region, data } => {
                if self.run.monitor.stop_requested() {
                    return Err(Error::interrupted());
                }
                let base = self.base_leaf(disk, region)?;
                let result = self.region(disk, region, &data, base)?;
                Ok(Outcome::Region(disk, result))
            }
        }
    }

    fn region(
        &mut self,
        disk: usize,
        region: u64,
        data: &[Range<usize>],
        base: Option<BaseLeaf>,
    ) -> Result<RegionResult> {
        let Some(input) = self.run.disks.get(disk) else {
            return Err(Error::invalid("a task of a disk that is not there"));
        };
        let shape = Shape::of(input.source.size())?;
        let length = usize::try_from(shape.region_length(region)).unwrap_or(0);
        let start = region * REGION;
        // What is read over needs no clearing: only what was data before and is not now.
        let gaps = crate::backup::region::gaps(data, self.buffer.len());
        for old in std::mem::take(&mut self.dirty) {
            for gap in &gaps {
                let part = gap.start.max(old.start)..gap.end.min(old.end);
                if let Some(part) = self.buffer.get_mut(part) {
                    part.fill(0);
                }
            }
        }
        self.dirty = data.to_vec();
        input
            .source
            .will_need(start + REGION * WINDOW..start + REGION * (WINDOW + 1));
        for range in data {
            let offset = start + to_u64(range.start);
            let part = self.buffer.get_mut(range.clone()).unwrap_or_default();
            input.source.read_exact_at(offset, part).map_err(|e| {
                of_source(e)
                    .context(format!(
                        "{} ({}) cannot be read",
                        input.name, input.facts.path
                    ))
                    .at_offset(offset)
            })?;
        }
        let store = self.run.store;
        let context = Context {
            keys: store.keys(),
            cut: store.header().cut,
            store,
            claims: &self.run.claims,
            trust_base: store.is_whole(),
        };
        let bytes = self.buffer.get(..length).unwrap_or_default();
        let base = base.as_ref().map(|(id, leaf)| (*id, &**leaf));
        let mut result = context.process(bytes, data, base, &mut self.compressor)?;
        result.read_bytes = covered(data);
        self.run.monitor.advance(Stage::Backup, result.read_bytes);
        Ok(result)
    }

    /// A region of which only `parts` are read, and what around them decides where chunks end.
    fn changed_region(&mut self, disk: usize, region: u64, parts: &[Part]) -> Result<RegionResult> {
        let Some(input) = self.run.disks.get(disk) else {
            return Err(Error::invalid("a task of a disk that is not there"));
        };
        let store = self.run.store;
        let shape = Shape::of(input.source.size())?;
        let length = usize::try_from(shape.region_length(region)).unwrap_or(0);
        let start = region * REGION;
        let base = self.base_leaf(disk, region)?;
        let Some((id, leaf)) = base.filter(|_| store.is_whole()) else {
            // What stood here cannot be relied on: all of the region is read.
            let all = std::iter::once(0..length).collect::<Vec<_>>();
            return self.region(disk, region, &all, None);
        };
        let context = Context {
            keys: store.keys(),
            cut: store.header().cut,
            store,
            claims: &self.run.claims,
            trust_base: true,
        };
        let read = |at: usize, part: &mut [u8]| input.read(start + to_u64(at), part);
        self.dirty = std::iter::once(0..self.buffer.len()).collect();
        let bytes = self.buffer.get_mut(..length).unwrap_or_default();
        let compressor = &mut self.compressor;
        let result = context.process_changes(bytes, &read, (id, &leaf), parts, compressor)?;
        self.run.monitor.advance(Stage::Backup, to_u64(length));
        Ok(result)
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
