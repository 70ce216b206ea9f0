//! A backup from its start to its commit.

use crate::backup::claims::Claims;
use crate::backup::gate::Gate;
use crate::backup::plan::{Plan, Task, allocated_bytes, covered};
use crate::backup::region::{Context, RegionResult};
use crate::backup::seal::Sealer;
use crate::backup::sink::Sink;
use crate::catalog::{
    choose_time, latest, lock_machine, machine_points, next_sequence, publish_point,
};
use crate::frame::Compressor;
use crate::map::{MapBuilder, REGION, Shape};
use crate::names::{check_machine, is_disk_name};
use crate::point::{BackupStats, Consistency, DiskRecord, ImageFacts, Point, PointRecord};
use crate::read::ChunkReader;
use crate::session::{Session, SessionKind, host_name};
use crate::store::Store;
use crate::tree::{Spot, Tree};
use cairn_base::{ChunkId, Clock, Error, Kind, Monitor, ReadAt, Result, Stage, Time};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

/// Cache for the maps of the previous point, in bytes.
const MAP_CACHE: usize = 8 << 20;
/// A worker and its window need about 25 MiB: more of them would break the memory budget.
const MAX_THREADS: usize = 8;
/// Regions in flight for each worker.
const WINDOW: u64 = 4;

/// A disk to back up.
pub struct DiskInput {
    /// Its name in the point.
    pub name: String,
    /// Its bytes.
    pub source: Arc<dyn ReadAt>,
    /// What is known of the image.
    pub facts: ImageFacts,
    /// Called after the last byte was read; answers what changed on the image meanwhile.
    #[expect(clippy::type_complexity, reason = "one callback, used once")]
    pub changed: Option<Box<dyn Fn() -> Result<Option<String>> + Send + Sync>>,
}

/// How to back up.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// Name of the machine.
    pub machine: String,
    /// The time of the point, if not now.
    pub time: Option<Time>,
    /// What the caller knows of the disks' consistency.
    pub consistency: Consistency,
    /// zstd level, 1 to 19.
    pub level: i32,
    /// Worker threads; 0 means one for each processor. At most 8 are used.
    pub threads: usize,
}

impl BackupOptions {
    /// Defaults for a machine.
    pub fn new(machine: impl Into<String>) -> BackupOptions {
        BackupOptions {
            machine: machine.into(),
            time: None,
            consistency: Consistency::Crash,
            level: 3,
            threads: 0,
        }
    }
}

/// What a backup did.
#[derive(Debug, Clone)]
pub struct BackupReport {
    /// The new point.
    pub point: Point,
}

/// Backs up disks as one point. On any error nothing was added but, at most, chunks that the next backup finds.
///
/// # Errors
/// [`Kind::Invalid`] for bad names, [`Kind::Busy`] if the machine or store is busy, [`Kind::Interrupted`] on request;
/// whatever an image or the store's folder reports.
pub fn backup(
    store: &Arc<Store>,
    disks: &[DiskInput],
    options: &BackupOptions,
    monitor: &dyn Monitor,
    clock: &dyn Clock,
) -> Result<BackupReport> {
    let started = Instant::now();
    check_names(&options.machine, disks)?;
    let permit = store.writer()?;
    let _machine = lock_machine(store, &options.machine)?;
    let listing = machine_points(store, &options.machine)?;
    let mut warnings: Vec<String> = store.warnings().to_vec();
    for warning in permit.warnings() {
        if !warnings.contains(warning) {
            warnings.push(warning.clone());
        }
    }
    warnings.extend(listing.damaged.iter().map(ToString::to_string));
    let moment = choose_time(&listing.points, options.time, clock.now())?;
    if moment.clock_went_back {
        warnings.push(format!(
            "the clock says {}, which is before the latest point of the machine: was it turned back?",
            moment.time
        ));
    }
    let base = match latest(store, &options.machine) {
        Ok(point) => Some(point),
        Err(error) if error.kind() == Kind::NotFound => None,
        Err(error) => {
            warnings.push(format!("the previous point is not compared with: {error}"));
            None
        }
    };
    let stands_on: Vec<_> = base.iter().map(|point| point.id).collect();
    let session = Session::begin(store.folder().clone(), SessionKind::Write, &stands_on)?;
    store.refresh()?;

    let total = disks
        .iter()
        .map(|disk| allocated_bytes(&*disk.source))
        .sum::<Result<u64>>()?;
    monitor.begin(Stage::Backup, total);
    let run = Run {
        store,
        session: &session,
        options,
        monitor,
        disks,
        bases: find_bases(store, base.as_ref(), disks, &mut warnings)?,
        claims: Claims::default(),
    };
    let mut done = run.all()?;
    warnings.append(&mut done.warnings);
    monitor.finish(Stage::Backup);
    for disk in disks {
        if let Some(changed) = &disk.changed
            && let Some(what) = changed()?
        {
            warnings.push(format!(
                "{} changed while it was read, so the point may mix two states of it: {what}",
                disk.name
            ));
        }
    }
    for warning in &warnings {
        monitor.warn(warning);
    }
    let sequence = next_sequence(store, &options.machine)?;
    done.stats.milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let record = PointRecord {
        machine: options.machine.clone(),
        sequence,
        seconds: moment.time.seconds,
        import: moment.import,
        base: base.map(|point| point.id.0),
        consistency: options.consistency,
        disks: done.disks,
        stats: done.stats,
        warnings,
        host: host_name(),
        program: format!("cairn {}", env!("CARGO_PKG_VERSION")),
    };
    let point = publish_point(store, record)?;
    Ok(BackupReport { point })
}

fn check_names(machine: &str, disks: &[DiskInput]) -> Result<()> {
    check_machine(machine)?;
    if disks.is_empty() {
        return Err(Error::invalid("a point needs at least one disk"));
    }
    let mut seen = std::collections::HashSet::new();
    for disk in disks {
        if !is_disk_name(&disk.name) {
            return Err(
                Error::invalid(format!("`{}` cannot be a disk's name", disk.name))
                    .advise("use 1 to 64 letters, digits, dots, dashes and underscores"),
            );
        }
        if !seen.insert(disk.name.to_ascii_lowercase()) {
            return Err(Error::invalid(format!(
                "two disks are called `{}`",
                disk.name
            )));
        }
    }
    Ok(())
}

/// The previous map of each disk: by name, unless the images' own identities say that names were swapped.
fn find_bases(
    store: &Arc<Store>,
    base: Option<&Point>,
    disks: &[DiskInput],
    warnings: &mut Vec<String>,
) -> Result<Vec<Option<Tree>>> {
    let reader = Arc::new(ChunkReader::new(store.clone(), MAP_CACHE));
    let mut trees = Vec::new();
    for disk in disks {
        let by_name = base.and_then(|point| point.disk(&disk.name));
        let identity = &disk.facts.identity;
        let by_identity = base.and_then(|point| {
            let mut same = point
                .record
                .disks
                .iter()
                .filter(|d| !identity.is_empty() && d.image.identity == *identity);
            same.next().filter(|_| same.next().is_none())
        });
        let swapped = by_identity.filter(|found| found.name != disk.name);
        if let Some(other) = swapped {
            warnings.push(format!(
                "the image given as {} is the disk that was called {} in the previous point: compared with that one",
                disk.name, other.name
            ));
        }
        let chosen = swapped.or(by_name);
        trees.push(
            chosen
                .map(|record| Tree::new(reader.clone(), record))
                .transpose()?,
        );
    }
    Ok(trees)
}

struct Run<'a> {
    store: &'a Arc<Store>,
    session: &'a Session,
    options: &'a BackupOptions,
    monitor: &'a dyn Monitor,
    disks: &'a [DiskInput],
    bases: Vec<Option<Tree>>,
    claims: Claims,
}

struct Done {
    disks: Vec<DiskRecord>,
    stats: BackupStats,
    warnings: Vec<String>,
}

enum Outcome {
    Region(usize, RegionResult),
    Holes(usize, u64),
}

type Answer = (u64, Result<Outcome>);

impl Run<'_> {
    fn all(&self) -> Result<Done> {
        let threads = match self.options.threads {
            0 => std::thread::available_parallelism().map_or(2, usize::from),
            count => count,
        }
        .min(MAX_THREADS);
        let sources = self.disks.iter().map(|disk| disk.source.clone()).collect();
        let plan = Mutex::new(Plan::new(sources)?);
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
        Ok(Done {
            disks,
            stats,
            warnings: sink.warnings,
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
        let (disk, leaf, count) = match outcome {
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
        let Some(builder) = builders.get_mut(disk) else {
            return Err(Error::invalid("a task of a disk that is not there"));
        };
        for _ in 0..count {
            builder.push(keys, leaf, &mut |kind, id, bytes| {
                sink.node(kind, id, bytes)
            })?;
        }
        Ok(())
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
            Task::Region { disk, region, data } => {
                if self.run.monitor.stop_requested() {
                    return Err(Error::interrupted());
                }
                let result = self.region(disk, region, &data)?;
                Ok(Outcome::Region(disk, result))
            }
        }
    }

    fn region(&mut self, disk: usize, region: u64, data: &[Range<usize>]) -> Result<RegionResult> {
        let Some(input) = self.run.disks.get(disk) else {
            return Err(Error::invalid("a task of a disk that is not there"));
        };
        let shape = Shape::of(input.source.size())?;
        let length = usize::try_from(shape.region_length(region)).unwrap_or(0);
        let start = region * REGION;
        for old in std::mem::take(&mut self.dirty) {
            if let Some(part) = self.buffer.get_mut(old) {
                part.fill(0);
            }
        }
        self.dirty = data.to_vec();
        input
            .source
            .will_need(start + REGION * WINDOW..start + REGION * (WINDOW + 1));
        for range in data {
            let offset = start + cairn_base::units::to_u64(range.start);
            let part = self.buffer.get_mut(range.clone()).unwrap_or_default();
            input.source.read_exact_at(offset, part).map_err(|e| {
                e.context(format!(
                    "{} ({}) cannot be read",
                    input.name, input.facts.path
                ))
                .at_offset(offset)
            })?;
        }
        let base = self.base_leaf(disk, region, shape)?;
        let store = self.run.store;
        let context = Context {
            keys: store.keys(),
            cut: store.header().cut,
            index: store.index(),
            claims: &self.run.claims,
            trust_base: store.is_whole(),
        };
        let bytes = self.buffer.get(..length).unwrap_or_default();
        let base = base.as_ref().map(|(id, leaf)| (*id, leaf));
        let mut result = context.process(bytes, data, base, &mut self.compressor)?;
        result.read_bytes = covered(data);
        self.run.monitor.advance(Stage::Backup, result.read_bytes);
        Ok(result)
    }

    /// The previous leaf of the region, if there is one of the same length that can be read.
    fn base_leaf(
        &self,
        disk: usize,
        region: u64,
        shape: Shape,
    ) -> Result<Option<(ChunkId, crate::map::Leaf)>> {
        let Some(Some(tree)) = self.run.bases.get(disk) else {
            return Ok(None);
        };
        if region >= tree.shape().regions()
            || tree.shape().region_length(region) != shape.region_length(region)
        {
            return Ok(None);
        }
        let leaf = tree.locate(region).and_then(|spot| match spot {
            Spot::Leaf(id) => Ok((id, tree.leaf(region, id)?)),
            Spot::HoleUntil(_) => Ok((
                ChunkId::NULL,
                crate::map::Leaf::hole(shape.region_length(region)),
            )),
        });
        match leaf {
            Ok(found) => Ok(Some(found)),
            // A damaged map is no reason not to back up: the region is stored anew.
            Err(error) if matches!(error.kind(), Kind::Damaged | Kind::Io) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
