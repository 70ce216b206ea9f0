//! Marking: which chunks are needed, a bit for each entry of the index.
//!
//! Maps are walked from their roots. A node or leaf that was seen before is not walked again, so the time is that of the nodes that differ, not
//! that of all points. Points are walked machine by machine in their order, so that most of what they name was met a short time ago and is found without the index. Of several places of a chunk one is marked, the newest that is not known to be damaged: the others may go.

use crate::damage::DamageList;
use crate::index::marks::Marks;
use crate::index::{IndexSet, Numbered};
use crate::map::shape::{FANOUT, regions_below};
use crate::map::{REGION, Shape};
use crate::read::ChunkReader;
use crate::recent::Recent;
use crate::session::Root;
use crate::store::Store;
use cairn_base::{ChunkId, Error, Monitor, PackId, Result, Stage};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Most threads that walk.
const THREADS: usize = 8;
/// Chunks of data that wait to be looked up, by all threads together, at 36 bytes each. Sorted, so that they go through the index in its order.
const BATCH: usize = 1 << 20;
/// In place of the length of a node or leaf.
const MAP: u32 = 0;
/// Nodes that may wait to be walked.
const WAITING: usize = 64;

/// Which entries of an index are needed.
pub struct Marked {
    index: IndexSet,
    bits: Vec<Marks>,
}

impl Marked {
    /// None of them.
    pub fn none_of(index: IndexSet) -> Marked {
        let segments = index.segments().iter();
        Marked {
            bits: segments.map(|s| Marks::new(s.entries())).collect(),
            index,
        }
    }

    /// The index whose entries are marked.
    pub fn index(&self) -> &IndexSet {
        &self.index
    }

    /// Whether this entry is marked.
    pub fn has(&self, segment: usize, entry: u64) -> bool {
        self.bits.get(segment).is_some_and(|bits| bits.has(entry))
    }

    /// Marks an entry; whether it was not marked before.
    pub fn set(&self, at: &Numbered) -> bool {
        self.bits
            .get(at.segment)
            .is_some_and(|bits| bits.set(at.entry))
    }

    /// Whether any place of the chunk is marked.
    fn knows(&self, id: &ChunkId) -> bool {
        let (found, _) = self.index.numbered(id);
        found.iter().any(|at| self.has(at.segment, at.entry))
    }
}

/// What a walk found, besides marks.
#[derive(Debug, Default)]
pub struct Walked {
    /// Condemned packs that something needs.
    pub needed: HashSet<PackId>,
    /// Chunks that are needed and not in the store: damage, which verification names.
    pub lost: u64,
    /// Nodes and leaves that were read.
    pub nodes: u64,
    /// Chunks of data that were marked.
    pub chunks: u64,
}

/// Chunks of data, with their lengths, that a thread is going to mark.
type Later = Vec<(ChunkId, u32)>;

/// A part of a map that a thread walks. It is marked already.
struct Task {
    id: ChunkId,
    /// 1: a node whose children are leaves. 0: a leaf.
    level: u8,
    region: u64,
    shape: Shape,
}

struct Walk<'a> {
    reader: ChunkReader,
    marked: &'a Marked,
    before: Option<&'a Marked>,
    bad: DamageList,
    /// What is marked, or waits for it.
    recent: Recent,
    /// Chunks of data that wait in one thread at most.
    batch: usize,
    monitor: &'a dyn Monitor,
    needed: Mutex<HashSet<PackId>>,
    lost: AtomicU64,
    nodes: AtomicU64,
    chunks: AtomicU64,
    failed: Mutex<Option<Error>>,
    stop: AtomicBool,
}

/// Marks all that these maps reach. What is marked in `before`, of an older index, is known to stay: it is not walked again.
///
/// # Errors
/// If a node or leaf cannot be found or read, or a part of the index that may name a chunk cannot: then nothing may be deleted.
/// [`Kind::Interrupted`](cairn_base::Kind::Interrupted) on request.
pub fn mark(
    store: &Arc<Store>,
    marked: &Marked,
    before: Option<&Marked>,
    roots: &[Root],
    monitor: &dyn Monitor,
) -> Result<Walked> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let threads = threads.min(THREADS);
    let walk = Walk {
        reader: ChunkReader::new(store.clone(), 0),
        marked,
        before,
        bad: store.known_damage(),
        recent: Recent::new(marked.index.entries()),
        batch: BATCH.checked_div(threads).unwrap_or(BATCH),
        monitor,
        needed: Mutex::default(),
        lost: AtomicU64::new(0),
        nodes: AtomicU64::new(0),
        chunks: AtomicU64::new(0),
        failed: Mutex::new(None),
        stop: AtomicBool::new(false),
    };
    let (send, receive) = sync_channel(WAITING);
    let receive = Mutex::new(receive);
    let walked = std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| walk.work(&receive));
        }
        let walked = walk.roots(roots, &send);
        drop(send);
        walked
    });
    // What a thread found is the cause; the other only could not go on.
    if let Some(error) = walk.failed.lock().take() {
        return Err(error);
    }
    walked?;
    Ok(Walked {
        needed: walk.needed.into_inner(),
        lost: walk.lost.into_inner(),
        nodes: walk.nodes.into_inner(),
        chunks: walk.chunks.into_inner(),
    })
}

impl Walk<'_> {
    fn roots(&self, roots: &[Root], send: &SyncSender<Task>) -> Result<()> {
        for root in roots {
            let shape = Shape::of(root.size)?;
            self.descend(root.id(), shape.height(), 0, shape, send)?;
            self.monitor.advance(Stage::Mark, root.size);
        }
        Ok(())
    }

    /// Walks the upper nodes, of which there are few, and hands over what lies below. As deep as maps are high: five levels at most.
    fn descend(
        &self,
        id: ChunkId,
        level: u8,
        region: u64,
        shape: Shape,
        send: &SyncSender<Task>,
    ) -> Result<()> {
        self.look_up_from_work()?;
        if id.is_null() || !self.mark_map(&id)? {
            return Ok(());
        }
        if level <= 1 {
            let task = Task {
                id,
                level,
                region,
                shape,
            };
            return send
                .send(task)
                .map_err(|_| Error::interrupted().context("marking has stopped"));
        }
        let node = self.reader.node(id, level)?;
        let covers = regions_below(level.saturating_sub(1));
        let mut region = region;
        for child in 0..FANOUT {
            self.descend(
                node.child(child),
                level.saturating_sub(1),
                region,
                shape,
                send,
            )?;
            region = region.saturating_add(covers);
        }
        Ok(())
    }

    /// Ends if the user asks to stop or another thread has failed.
    fn look_up_from_work(&self) -> Result<()> {
        if self.monitor.stop_requested() || self.stop.load(Ordering::Relaxed) {
            return Err(Error::interrupted());
        }
        Ok(())
    }

    fn work(&self, tasks: &Mutex<Receiver<Task>>) {
        let mut later = Later::new();
        loop {
            let task = tasks.lock().recv();
            let Ok(task) = task else { break };
            // After a failure the rest is only taken away, so that nobody waits.
            if !self.stop.load(Ordering::Relaxed) {
                self.note_failure(self.task(&task, &mut later));
            }
        }
        if !self.stop.load(Ordering::Relaxed) {
            self.note_failure(self.mark_data(&mut later));
        }
    }

    fn note_failure(&self, done: Result<()>) {
        if let Err(error) = done {
            self.failed.lock().get_or_insert(error);
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    fn task(&self, task: &Task, later: &mut Later) -> Result<()> {
        if task.level == 0 {
            return self.leaf(task.id, task.region, task.shape, later);
        }
        let node = self.reader.node(task.id, 1)?;
        for (region, child) in (task.region..).zip(0..FANOUT) {
            let id = node.child(child);
            if !id.is_null() && self.mark_map(&id)? {
                self.leaf(id, region, task.shape, later)?;
            }
        }
        Ok(())
    }

    fn leaf(&self, id: ChunkId, region: u64, shape: Shape, later: &mut Later) -> Result<()> {
        self.look_up_from_work()?;
        let leaf = self.reader.leaf(id, shape.region_length(region));
        let leaf = leaf.map_err(|e| {
            let start = region.saturating_mul(REGION);
            e.context(format!(
                "the map of a disk from byte {start} on cannot be read"
            ))
        })?;
        for extent in &leaf.extents {
            if let Some(chunk) = extent.chunk
                && !self.recent.has(&chunk, extent.length)
            {
                self.recent.put(&chunk, extent.length);
                later.push((chunk, extent.length));
            }
        }
        if later.len() >= self.batch {
            self.mark_data(later)?;
        }
        Ok(())
    }

    /// Marks a node or leaf; whether it is new, so that what lies below must be walked.
    fn mark_map(&self, id: &ChunkId) -> Result<bool> {
        if self.recent.has(id, MAP) || self.before.is_some_and(|before| before.knows(id)) {
            return Ok(false);
        }
        let (found, failed) = self.marked.index.numbered(id);
        if found.is_empty() {
            failed.map_err(|e| e.with_id(id))?;
            return Err(Error::damaged("a part of a disk's map is not in the store").with_id(id));
        }
        let new = self.mark(id, &found);
        self.recent.put(id, MAP);
        self.nodes.fetch_add(u64::from(new), Ordering::Relaxed);
        Ok(new)
    }

    /// Marks chunks of data, in the order of the index.
    fn mark_data(&self, later: &mut Later) -> Result<()> {
        later.sort_unstable();
        later.dedup();
        let mut marked = 0u64;
        for (id, length) in later.drain(..) {
            self.look_up_from_work()?;
            let (mut found, failed) = self.marked.index.numbered(&id);
            found.retain(|at| at.place.length == length);
            if found.is_empty() {
                // Where it lies may only be unknown: what is not marked then must not be deleted.
                failed.map_err(|e| e.with_id(id))?;
                self.lost.fetch_add(1, Ordering::Relaxed);
            } else {
                marked = marked.saturating_add(u64::from(self.mark(&id, &found)));
            }
        }
        self.chunks.fetch_add(marked, Ordering::Relaxed);
        Ok(())
    }

    fn mark(&self, id: &ChunkId, found: &[Numbered]) -> bool {
        let prefix = id.prefix();
        let is_good = |at: &&Numbered| self.bad.is_empty() || !self.bad.has(&prefix, at.place.pack);
        let condemned = self.marked.index.condemned();
        let best = found
            .iter()
            .filter(is_good)
            .min_by_key(|at| condemned.contains(&at.place.pack));
        let mut new = false;
        for at in found {
            // Where all are damaged each is kept: something of one may yet be saved. The same place may stand in two segments.
            if best.is_none_or(|best| best.place == at.place) {
                new |= self.marked.set(at);
                if condemned.contains(&at.place.pack) {
                    self.needed.lock().insert(at.place.pack);
                }
            }
        }
        new
    }
}
