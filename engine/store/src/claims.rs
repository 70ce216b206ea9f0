//! The chunks that backups of this process store and that no published segment holds yet: who claims one first stores it,
//! and the others rely on him.
//!
//! A backup that relies on another one's claim must not publish its point before that chunk is public. It
//! remembers how far the other one had begun when it saw the claim, and before its commit waits until that much is public; the
//! other one publishes early when somebody waits. If it fails instead, or takes too long, the backup that waits does its
//! work again on its own: nearly everything is in the store by then.

use crate::sync::{AtomicU32, AtomicU64, Condvar, Instant, Mutex, Ordering};
use cairn_base::{ChunkId, Error, Result};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

const SHARDS: usize = 64;
/// How long one backup waits for another that does not get on before it stores everything itself.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it looks whether the user asked to stop.
const GLANCE: Duration = Duration::from_millis(100);

/// Prefixes of the ids claimed and who claimed them, in shards, so that workers seldom meet.
pub struct Claims {
    shards: Vec<Mutex<HashMap<[u8; 16], u32>>>,
    writers: Mutex<HashMap<u32, Arc<Progress>>>,
    next: AtomicU32,
}

impl Default for Claims {
    fn default() -> Claims {
        Claims {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            writers: Mutex::default(),
            next: AtomicU32::new(0),
        }
    }
}

/// How far a backup is, for others that rely on it.
#[derive(Default)]
struct Progress {
    /// Tasks it has begun: no claim of it comes from a later one.
    begun: AtomicU64,
    /// Somebody waits for this many tasks to be public.
    wanted: AtomicU64,
    state: Mutex<Reached>,
    moved: Condvar,
}

#[derive(Default)]
struct Reached {
    /// Tasks of which everything is public.
    public: u64,
    /// It has ended, well or not.
    ended: bool,
}

/// What became of waiting for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// Everything relied on is public.
    Public,
    /// A backup that was relied on has failed or is too slow.
    InVain,
}

/// One backup's part in the claims. Dropping it gives up what it claimed and did not publish.
pub struct Writer {
    claims: Arc<Claims>,
    id: u32,
    own: Arc<Progress>,
    /// Who is relied on, and how many of his tasks must be public.
    needs: Mutex<HashMap<u32, (Arc<Progress>, u64)>>,
}

impl Claims {
    fn shard(&self, prefix: &[u8; 16]) -> Option<&Mutex<HashMap<[u8; 16], u32>>> {
        // Ids are uniform, so any byte will do; the last one is not what segments sort by.
        let [.., last] = *prefix;
        self.shards.get(usize::from(last) % SHARDS)
    }

    /// A new backup takes part.
    pub fn enter(self: &Arc<Claims>) -> Writer {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let own = Arc::new(Progress::default());
        self.writers.lock().insert(id, own.clone());
        Writer {
            claims: self.clone(),
            id,
            own,
            needs: Mutex::default(),
        }
    }

    /// Backups that take part now.
    pub fn writers(&self) -> usize {
        self.writers.lock().len()
    }

    fn progress(&self, writer: u32) -> Option<Arc<Progress>> {
        self.writers.lock().get(&writer).cloned()
    }
}

impl Writer {
    /// Whether somebody stores the chunk already; if it is another backup, it is relied on from now on.
    pub fn holds(&self, id: &ChunkId) -> bool {
        let prefix = id.prefix();
        let Some(shard) = self.claims.shard(&prefix) else {
            return false;
        };
        let owner = shard.lock().get(&prefix).copied();
        owner.is_some_and(|owner| owner == self.id || self.rely_on(owner))
    }

    /// Claims a chunk; `false` if somebody stores it already.
    pub fn claim(&self, id: &ChunkId) -> bool {
        let prefix = id.prefix();
        let Some(shard) = self.claims.shard(&prefix) else {
            return true;
        };
        let mut shard = shard.lock();
        match shard.get(&prefix).copied() {
            Some(owner) if owner == self.id || self.rely_on(owner) => false,
            // Nobody's, or that of a backup that has just failed.
            _ => {
                shard.insert(prefix, self.id);
                true
            }
        }
    }

    /// Gives up a claim: a published segment holds the chunk.
    pub fn release(&self, prefix: &[u8; 16]) {
        if let Some(shard) = self.claims.shard(prefix) {
            let mut shard = shard.lock();
            if shard.get(prefix) == Some(&self.id) {
                shard.remove(prefix);
            }
        }
    }

    /// Notes that `owner` is relied on; `false` if he is no more.
    fn rely_on(&self, owner: u32) -> bool {
        let mut needs = self.needs.lock();
        if let Some((progress, tasks)) = needs.get_mut(&owner) {
            *tasks = progress.begun.load(Ordering::Acquire);
            return !progress.state.lock().ended;
        }
        let Some(progress) = self.claims.progress(owner) else {
            return false;
        };
        let tasks = progress.begun.load(Ordering::Acquire);
        needs.insert(owner, (progress, tasks));
        true
    }

    /// Task number `task` begins: claims of it may come from now on.
    pub fn begin(&self, task: u64) {
        let count = task.saturating_add(1);
        self.own.begun.fetch_max(count, Ordering::AcqRel);
    }

    /// Everything of the first `tasks` tasks is public.
    pub fn published(&self, tasks: u64) {
        let mut state = self.own.state.lock();
        state.public = state.public.max(tasks);
        drop(state);
        self.own.moved.notify_all();
    }

    /// Whether somebody waits for a publication of the first `taken` tasks.
    pub fn is_wanted(&self, taken: u64) -> bool {
        let wanted = self.own.wanted.load(Ordering::Acquire);
        wanted > 0 && wanted <= taken && self.own.state.lock().public < wanted
    }

    /// Waits until everything that was relied on is public. Everything of this backup must be public already.
    ///
    /// # Errors
    /// [`Kind::Interrupted`](cairn_base::Kind::Interrupted) as soon as `stop` says so.
    pub fn wait(&self, stop: &dyn Fn() -> bool) -> Result<Waited> {
        self.wait_at_most(PATIENCE, stop)
    }

    /// As [`wait`](Writer::wait): `patience` is how long another backup may stand still.
    ///
    /// # Errors
    /// As [`wait`](Writer::wait).
    pub fn wait_at_most(&self, patience: Duration, stop: &dyn Fn() -> bool) -> Result<Waited> {
        let needs: Vec<_> = self.needs.lock().values().cloned().collect();
        for (progress, tasks) in needs {
            let mut state = progress.state.lock();
            let mut seen = (state.public, progress.begun.load(Ordering::Acquire));
            let mut since = Instant::now();
            while state.public < tasks {
                let now = (state.public, progress.begun.load(Ordering::Acquire));
                if now != seen {
                    (seen, since) = (now, Instant::now());
                }
                if state.ended || since.elapsed() > patience {
                    return Ok(Waited::InVain);
                }
                if stop() {
                    return Err(Error::interrupted());
                }
                progress.wanted.fetch_max(tasks, Ordering::AcqRel);
                progress.moved.wait_for(&mut state, GLANCE);
            }
        }
        Ok(Waited::Public)
    }

    /// Entries that may wait for a publication: a share of `all`, so that many backups at once need no more memory than one.
    pub fn share(&self, all: usize) -> usize {
        (all / self.claims.writers().max(1)).max(1)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.claims.writers.lock().remove(&self.id);
        self.own.state.lock().ended = true;
        self.own.moved.notify_all();
        for shard in &self.claims.shards {
            shard.lock().retain(|_, owner| *owner != self.id);
        }
    }
}
