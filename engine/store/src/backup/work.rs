//! The threads of a backup: workers that take regions, and the writer that puts their results in order.

use crate::backup::assemble::{Assembly, order};
use crate::backup::changed::Known;
use crate::backup::gate::Gate;
use crate::backup::plan::Plan;
use crate::backup::region::RegionResult;
use crate::backup::run::{BackupOptions, DiskInput};
use crate::backup::seal::Sealer;
use crate::backup::sink::Sink;
use crate::backup::worker::Worker;
use crate::claims::{Waited, Writer};
use crate::map::Shape;
use crate::point::{BackupStats, DiskRecord, Origin};
use crate::session::Session;
use crate::store::Store;
use crate::tree::Tree;
use cairn_base::{ChunkId, Error, Monitor, Result};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// A worker and its window need about 25 MiB: more of them would break the memory budget.
const MAX_THREADS: usize = 8;
/// How often the writer looks whether it should stop or publish early.
const GLANCE: Duration = Duration::from_millis(100);
/// How often processes that write at once tell each other what they have stored.
const SHARE: Duration = Duration::from_millis(200);
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
    pub bases: &'a [Option<Tree>],
    /// What is known of each disk, where only changes are read.
    pub known: &'a [Option<Known>],
    /// What this backup stores.
    pub writer: Writer,
    /// Regions of the previous maps that could not be read.
    pub lost_regions: AtomicU64,
    /// Whether the source is slower than memory: then it is told what will be needed.
    pub slow_source: AtomicBool,
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
    /// Where their content comes from; none yet when the work is done.
    pub origins: Vec<Origin>,
    /// What was read and stored.
    pub stats: BackupStats,
    /// What went wrong without harm.
    pub warnings: Vec<String>,
}

/// What became of a task.
pub enum Outcome {
    /// A region of a disk.
    Region(usize, RegionResult),
    /// So many regions of a disk that are not allocated.
    Holes(usize, u64),
    /// Parts of the base's map, each with its level, that a disk keeps.
    Kept(usize, Vec<(u8, ChunkId)>),
}

type Answer = (u64, Result<Outcome>);

impl Run<'_> {
    /// Backs up all disks; when it returns, everything new is public.
    ///
    /// # Errors
    /// The first failure of any thread.
    pub fn all(&self) -> Result<Done> {
        let threads = threads(self.options);
        let sources = self.disks.iter().map(|disk| disk.source.clone()).collect();
        let orders = self.orders()?;
        let plan = Mutex::new(Plan::new(sources, self.known.to_vec(), &orders)?);
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
            // Whether it goes well or not: nobody waits at the gate for ever, nobody blocks on a full channel.
            let _opened = Closing(&gate);
            let written = self.write(&receive, &gate, sealer, &orders);
            drop(receive);
            written
        })
    }

    /// As [`all`](Run::all), and then waits for the other backups of this process that were relied on; whether that was in vain
    /// is told with what came of it.
    ///
    /// # Errors
    /// As [`all`](Run::all).
    pub fn all_and_wait(&self) -> Result<(Done, Waited)> {
        let done = self.all()?;
        let waited = self.writer.wait(&|| self.monitor.stop_requested())?;
        Ok((done, waited))
    }

    fn work(&self, plan: &Mutex<Plan>, gate: &Gate, send: &SyncSender<Answer>) {
        // Should a worker ever panic, the writer must hear of it: its task would never arrive.
        let _alarm = Alarm(send);
        let mut worker = match Worker::new(self, WINDOW) {
            Ok(worker) => worker,
            Err(error) => {
                let _gone = send.send((u64::MAX, Err(error)));
                return;
            }
        };
        loop {
            let stood = Instant::now();
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
            self.writer.begin(number);
            let outcome = worker.task(task, stood.elapsed());
            let failed = outcome.is_err();
            if send.send((number, outcome)).is_err() || failed {
                return;
            }
        }
    }

    /// The order in which each disk is read.
    fn orders(&self) -> Result<Vec<Vec<Range<u64>>>> {
        let disks = self.disks.iter().zip(self.known);
        let order = |(disk, known): (&DiskInput, &Option<Known>)| {
            let before = if known.is_some() {
                0
            } else {
                self.session.before()
            };
            Ok(order(
                Shape::of(disk.source.size())?,
                before,
                self.session.seed(),
            ))
        };
        disks.map(order).collect()
    }

    /// Takes outcomes in order; writes frames, leaves and nodes; answers the roots.
    fn write(
        &self,
        receive: &Receiver<Answer>,
        gate: &Gate,
        sealer: Sealer<'_>,
        orders: &[Vec<Range<u64>>],
    ) -> Result<Done> {
        let mut sink = Sink::new(self.store, self.session, &self.writer, sealer, self.options)?;
        let mut stats = BackupStats::default();
        let mut builders: Vec<Assembly> = Vec::new();
        for (disk, order) in self.disks.iter().zip(orders) {
            builders.push(Assembly::new(Shape::of(disk.source.size())?, order));
        }
        let mut others = Others::default();
        let mut early: BTreeMap<u64, Outcome> = BTreeMap::new();
        let mut next = 0u64;
        loop {
            if self.monitor.stop_requested() {
                return Err(Error::interrupted());
            }
            if self.writer.is_wanted(next) {
                sink.publish()?;
            }
            if others.write_too(self.session) {
                sink.share()?;
                // What others have is worth knowing, and no more than that.
                let _next_time = self.store.refresh();
            }
            let (number, outcome) = match receive.recv_timeout(GLANCE) {
                Ok(answer) => answer,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            early.insert(number, outcome?);
            while let Some(outcome) = early.remove(&next) {
                self.take(outcome, &mut builders, &mut sink, &mut stats)?;
                next += 1;
                sink.taken = next;
            }
            gate.advance(next);
        }
        // Nodes of the map that are made now belong to no task: whoever relies on them waits for the last publication.
        self.writer.begin(next);
        let disks = self.roots(builders, &mut sink)?;
        sink.taken = u64::MAX;
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
            origins: Vec::new(),
            stats,
            warnings,
        })
    }

    /// Finishes the maps.
    fn roots(&self, builders: Vec<Assembly>, sink: &mut Sink<'_, '_>) -> Result<Vec<DiskRecord>> {
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
                mixed: false,
            });
        }
        Ok(disks)
    }

    fn take(
        &self,
        outcome: Outcome,
        builders: &mut [Assembly],
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
        builder.push(keys, leaf, count, &mut |kind, id, bytes| {
            sink.node(kind, id, bytes)
        })
    }
}

/// Looks now and then whether other processes write to the store too.
#[derive(Default)]
struct Others {
    looked: Option<Instant>,
}

impl Others {
    /// Whether they do, and it is time to tell them what is new, and to look what they have.
    fn write_too(&mut self, session: &Session) -> bool {
        if self.looked.is_some_and(|at| at.elapsed() < SHARE) {
            return false;
        }
        self.looked = Some(Instant::now());
        // If that cannot be known, nothing is lost but space.
        session.others().unwrap_or(0) > 0
    }
}

/// Closes the gate when the writer ends, even by a panic.
struct Closing<'a>(&'a Gate);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
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
