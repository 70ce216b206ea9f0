//! Pruning: space that no recovery point needs is given back, while everything else goes on.
//!
//! 1. Points and living sessions are listed in one step, and all that they reach is marked.
//! 2. Packs that nothing needs are condemned: from then on nobody new relies on them. Of packs of which little is needed that is copied first.
//! 3. When every writer that began before has ended, points and sessions are listed again. What the new ones reach is taken off the list.
//! 4. The rest is deleted. If there are such writers still, the next prune does that.
//!
//! Nothing is deleted while a point, a session's record, a part of a map or of the index cannot be read, or a point is gone that nobody has forgotten.

mod examine;
mod mark;
mod order;
mod plan;
mod reserve;
mod rewrite;
mod stands;

pub use mark::{Marked, Walked, mark};
pub use reserve::provide as provide_reserve;
pub use stands::{Stands, Writer};

use crate::compact::sweep::sweep_replaced;
use crate::publish::{merge_everything, merge_lock, publish_lists_and};
use crate::read::ChunkReader;
use crate::session::{Session, SessionKind};
use crate::state::State;
use crate::store::Store;
use cairn_base::{Error, Kind, Monitor, PackId, Result, Stage};
use examine::{Examined, Examiner, Verdict};
use order::Order;
use plan::{Plan, Usage, plan, usage};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Chunks of packs that are looked into and written anew in one round: bounds memory, at about 150 bytes each.
const ROUND: u64 = 400_000;
/// Packs that are condemned at once.
const TOGETHER: usize = 4096;
/// What must be free besides what a round writes, in bytes.
const SPARE: u64 = 128 << 20;

/// How to prune.
#[derive(Debug, Clone)]
pub struct PruneOptions {
    /// Only find out what would be done.
    pub dry_run: bool,
    /// How much that nothing needs may stay, in thousandths of what is needed: packs are written anew until it is less.
    pub max_unused: u64,
    /// Bytes of needed data that are copied at most.
    pub max_rewrite: u64,
    /// After this time nothing new is begun.
    pub max_time: Option<Duration>,
}

impl Default for PruneOptions {
    fn default() -> PruneOptions {
        PruneOptions {
            dry_run: false,
            max_unused: 50,
            max_rewrite: u64::MAX,
            max_time: None,
        }
    }
}

/// What a prune found and did. Bytes are those of files.
#[derive(Debug, Clone, Default)]
pub struct PruneReport {
    /// Points whose maps were walked.
    pub points: usize,
    /// Chunks of data that are needed.
    pub chunks: u64,
    /// Parts of maps that were read.
    pub nodes: u64,
    /// Needed chunks that are not in the store: `cairn verify` names what they belong to.
    pub lost: u64,
    /// Packs before.
    pub packs: usize,
    /// Of their bytes, needed.
    pub live_bytes: u64,
    /// Packs that nothing needs, as found.
    pub dead_packs: usize,
    /// Their bytes.
    pub dead_bytes: u64,
    /// Packs that are written anew, or were.
    pub rewritten_packs: usize,
    /// Their bytes.
    pub rewritten_bytes: u64,
    /// Bytes of packs that were written instead.
    pub written_bytes: u64,
    /// What nothing needs and stays in packs that are mostly needed.
    pub unused_bytes: u64,
    /// Packs that were deleted; of a dry run, those that the next prune could delete at once.
    pub deleted_packs: usize,
    /// Their bytes.
    pub deleted_bytes: u64,
    /// Packs that wait until writers have ended.
    pub waiting_packs: usize,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// The writers that are waited for.
    pub writers: Vec<Writer>,
    /// Packs that were condemned and are needed again.
    pub revived_packs: usize,
    /// Why packs stay, in sentences.
    pub left: Vec<String>,
    /// Why it ended early, if it did.
    pub ended_early: Option<String>,
}

/// Gives back the space of what no point and no session needs. Of what is not done when it ends early or is interrupted, nothing is lost: the next one goes on.
///
/// # Errors
/// [`Kind::Damaged`] and [`Kind::Unsupported`] if something cannot be read that must be: then nothing was deleted. [`Kind::Busy`] if another prune, merge
/// or repair runs, [`Kind::Interrupted`] on request; as the folder reports.
pub fn prune(
    store: &Arc<Store>,
    options: &PruneOptions,
    monitor: &dyn Monitor,
) -> Result<PruneReport> {
    if options.dry_run {
        return dry_run(store, options, monitor);
    }
    let folder = store.folder().clone();
    match Pruning::begin(store, options, monitor).and_then(Pruning::run) {
        Err(error) if error.kind() == Kind::Full && reserve::release(&*folder)? => {
            monitor.warn(
                "the disk is full: the reserve of the store is used, and nothing is written anew",
            );
            let frugal = PruneOptions {
                max_rewrite: 0,
                ..options.clone()
            };
            let report = Pruning::begin(store, &frugal, monitor).and_then(Pruning::run)?;
            reserve::provide(&*folder)?;
            Ok(report)
        }
        report => {
            let report = report?;
            // Nothing depends on it now.
            let _next_time = reserve::provide(&*folder);
            Ok(report)
        }
    }
}

/// What a store needs, and what could go.
struct Found {
    stands: Stands,
    marked: Marked,
    walked: Walked,
    packs: BTreeMap<PackId, Usage>,
    plan: Plan,
    settled: Settled,
}

/// What becomes of the packs that were condemned before.
#[derive(Default)]
struct Settled {
    dead: Vec<PackId>,
    revived: Vec<PackId>,
    waiting: Vec<PackId>,
}

impl Settled {
    fn of(state: &State, stands: &Stands, needed: &HashSet<PackId>) -> Settled {
        let mut settled = Settled::default();
        for row in &state.condemned {
            let pack = PackId(row.pack);
            if needed.contains(&pack) {
                settled.revived.push(pack);
            } else if stands.older_than(row.generation).next().is_some() {
                settled.waiting.push(pack);
            } else {
                settled.dead.push(pack);
            }
        }
        settled
    }
}

/// Lists, marks, counts and plans. Changes nothing.
fn find(
    store: &Arc<Store>,
    options: &PruneOptions,
    own: Option<&Session>,
    monitor: &dyn Monitor,
) -> Result<Found> {
    let own = own.map(Session::id);
    let stands = Stands::list(store, own)?;
    // Points before state, the reverse of the write order.
    store.refresh()?;
    if !store.has_all_segments() {
        return Err(Error::damaged(
            "a segment of the index is lost, so what it led to is not known",
        )
        .at_path(store.folder().describe(""))
        .advise("run `cairn verify --repair` first"));
    }
    let marked = Marked::none_of(store.index());
    let roots = stands.roots_since(&Stands::default());
    let total = roots
        .iter()
        .map(|root| root.size)
        .fold(0, u64::saturating_add);
    monitor.begin(Stage::Mark, total);
    let walked = mark(store, &marked, None, &roots, monitor)?;
    monitor.finish(Stage::Mark);
    let packs = usage(&marked)?;
    let state = store.state();
    let settled = Settled::of(&state, &stands, &walked.needed);
    let mut exempt: HashSet<PackId> = state.condemned_packs().collect();
    exempt.extend(&stands.packs);
    let plan = plan(&packs, &exempt, options.max_unused, options.max_rewrite);
    Ok(Found {
        stands,
        marked,
        walked,
        packs,
        plan,
        settled,
    })
}

impl Found {
    fn report(&self) -> PruneReport {
        let sum = |list: &[Usage]| {
            list.iter()
                .map(|u| u.row.length)
                .fold(0, u64::saturating_add)
        };
        PruneReport {
            points: self.stands.points(),
            chunks: self.walked.chunks,
            nodes: self.walked.nodes,
            lost: self.walked.lost,
            packs: self.packs.len(),
            live_bytes: self.plan.live,
            dead_packs: self.plan.dead.len(),
            dead_bytes: sum(&self.plan.dead),
            rewritten_packs: self.plan.rewrite.len(),
            rewritten_bytes: sum(&self.plan.rewrite),
            unused_bytes: self.plan.waste_left,
            ..PruneReport::default()
        }
    }

    /// Bytes of these packs, as the index knows.
    fn bytes(&self, packs: &[PackId]) -> u64 {
        let rows = packs.iter().filter_map(|pack| self.packs.get(pack));
        rows.map(|usage| usage.row.length)
            .fold(0, u64::saturating_add)
    }
}

fn dry_run(
    store: &Arc<Store>,
    options: &PruneOptions,
    monitor: &dyn Monitor,
) -> Result<PruneReport> {
    let found = find(store, options, None, monitor)?;
    let mut report = found.report();
    report.deleted_packs = found.settled.dead.len();
    report.deleted_bytes = found.bytes(&found.settled.dead);
    report.waiting_packs = found.settled.waiting.len();
    report.waiting_bytes = found.bytes(&found.settled.waiting);
    report.revived_packs = found.settled.revived.len();
    report.writers.clone_from(&found.stands.writers);
    Ok(report)
}

/// A prune under way: it writes, and nobody else merges.
struct Pruning<'a> {
    store: &'a Arc<Store>,
    options: &'a PruneOptions,
    monitor: &'a dyn Monitor,
    session: Session,
    found: Found,
    report: PruneReport,
    reader: ChunkReader,
    begun: Instant,
    _merging: Box<dyn cairn_base::folder::Lock>,
    _permit: crate::store::WriterPermit,
}

impl<'a> Pruning<'a> {
    fn begin(
        store: &'a Arc<Store>,
        options: &'a PruneOptions,
        monitor: &'a dyn Monitor,
    ) -> Result<Pruning<'a>> {
        let begun = Instant::now();
        let permit = store.writer()?;
        for warning in permit.warnings() {
            monitor.warn(warning);
        }
        let merging = merge_lock(&**store.folder())?.ok_or_else(|| {
            Error::new(Kind::Busy, "another prune, repair or merge of packs runs")
                .advise("wait until it has finished")
        })?;
        let session = Session::begin(store.folder().clone(), SessionKind::Write, &[])?;
        let found = find(store, options, Some(&session), monitor)?;
        Ok(Pruning {
            report: found.report(),
            store,
            options,
            monitor,
            session,
            found,
            reader: ChunkReader::new(store.clone(), 0),
            begun,
            _merging: merging,
            _permit: permit,
        })
    }

    fn run(mut self) -> Result<PruneReport> {
        self.report.rewritten_packs = 0;
        self.report.rewritten_bytes = 0;
        // What was condemned before frees space at once.
        let settled = std::mem::take(&mut self.found.settled);
        self.settle(settled)?;
        let dead = std::mem::take(&mut self.found.plan.dead);
        for batch in dead.chunks(TOGETHER) {
            self.condemn_dead(batch)?;
        }
        self.finish_condemned()?;
        self.rewrite_all()?;
        self.tidy_index()?;
        let state = self.store.state();
        let waiting: Vec<PackId> = state.condemned_packs().collect();
        self.report.waiting_packs = waiting.len();
        self.report.waiting_bytes = self.found.bytes(&waiting);
        self.report.writers.clone_from(&self.found.stands.writers);
        Ok(self.report)
    }

    fn look_up_from_work(&self) -> Result<()> {
        if self.monitor.stop_requested() {
            return Err(Error::interrupted());
        }
        Ok(())
    }

    /// Looks into packs of which the index says that nothing needs them, and condemns those of which that is so.
    fn condemn_dead(&mut self, batch: &[Usage]) -> Result<()> {
        let mut condemned = Vec::new();
        for usage in batch {
            self.look_up_from_work()?;
            let examiner = Examiner::new(self.store, &self.found.marked, &self.reader);
            match examiner.examine(&usage.row) {
                Verdict::May(examined) if !examined.is_needed() => condemned.push(usage.row.id),
                // It has become the only good copy of something.
                Verdict::May(_) => {}
                Verdict::Stays(why) => self.report.left.push(why),
            }
        }
        if condemned.is_empty() {
            return Ok(());
        }
        publish_lists_and(self.store, &mut |state| state.condemn(&condemned))
    }

    /// Copies what is needed of packs of which little is, a round at a time.
    fn rewrite_all(&mut self) -> Result<()> {
        let rewrite = std::mem::take(&mut self.found.plan.rewrite);
        let total = rewrite.iter().map(|usage| usage.live_bytes);
        self.monitor
            .begin(Stage::Rewrite, total.fold(0, u64::saturating_add));
        let mut rest = &rewrite[..];
        while !rest.is_empty() {
            self.look_up_from_work()?;
            let taken = round(rest);
            let (now, later) = rest.split_at_checked(taken).unwrap_or((rest, &[]));
            if let Some(why) = self.reason_to_end(now)? {
                self.report.ended_early = Some(why);
                let left = rest.iter().map(Usage::waste).fold(0, u64::saturating_add);
                self.report.unused_bytes = self.report.unused_bytes.saturating_add(left);
                break;
            }
            self.rewrite_round(now)?;
            self.finish_condemned()?;
            rest = later;
        }
        self.monitor.finish(Stage::Rewrite);
        Ok(())
    }

    /// Why no further round is begun, in a sentence.
    fn reason_to_end(&self, round: &[Usage]) -> Result<Option<String>> {
        if self
            .options
            .max_time
            .is_some_and(|most| self.begun.elapsed() >= most)
        {
            return Ok(Some("its time was over".to_string()));
        }
        let needed = round.iter().map(Usage::live_length);
        let needed = needed.fold(SPARE, u64::saturating_add);
        match self.store.folder().space()? {
            Some(space) if space.free < needed => Ok(Some(format!(
                "writing packs anew needs {needed} bytes, and {} are free",
                space.free
            ))),
            _ => Ok(None),
        }
    }

    fn rewrite_round(&mut self, round: &[Usage]) -> Result<()> {
        let mut packs: Vec<Examined> = Vec::new();
        for usage in round {
            self.look_up_from_work()?;
            let examiner = Examiner::new(self.store, &self.found.marked, &self.reader);
            match examiner.examine(&usage.row) {
                Verdict::May(examined) => packs.push(*examined),
                Verdict::Stays(why) => self.report.left.push(why),
            }
        }
        let mut order = Order::of(rewrite::needed_chunks(&packs));
        order.walk(self.store, self.monitor)?;
        let done = rewrite::rewrite(self.store, &self.session, &packs, &order, self.monitor)?;
        self.report.left.extend(done.left);
        self.report.written_bytes = self.report.written_bytes.saturating_add(done.written);
        let copied = done.copied;
        self.report.rewritten_packs = self.report.rewritten_packs.saturating_add(copied.len());
        let bytes = self.found.bytes(&copied);
        self.report.rewritten_bytes = self.report.rewritten_bytes.saturating_add(bytes);
        if copied.is_empty() {
            return Ok(());
        }
        publish_lists_and(self.store, &mut |state| state.condemn(&copied))
    }

    /// Lists points and sessions again. What nothing needs and no writer may rely on any more is deleted; what the new ones need lives again.
    fn finish_condemned(&mut self) -> Result<()> {
        if self.store.state().condemned.is_empty() {
            return Ok(());
        }
        let now = Stands::list(self.store, Some(self.session.id()))?;
        self.store.refresh()?;
        let roots = now.roots_since(&self.found.stands);
        // Of an index of its own: what was published since is in it.
        let marked = Marked::none_of(self.store.index());
        let before = Some(&self.found.marked);
        let walked = mark(self.store, &marked, before, &roots, self.monitor)?;
        let settled = Settled::of(&self.store.state(), &now, &walked.needed);
        self.found.stands.writers.clone_from(&now.writers);
        self.settle(settled)
    }

    /// Takes packs off the list of the condemned: those that are needed again, and those that are deleted now.
    fn settle(&mut self, settled: Settled) -> Result<()> {
        let Settled { dead, revived, .. } = settled;
        if dead.is_empty() && revived.is_empty() {
            return Ok(());
        }
        let gone: HashSet<PackId> = dead.iter().chain(&revived).copied().collect();
        publish_lists_and(self.store, &mut |state| {
            state
                .condemned
                .retain(|row| !gone.contains(&PackId(row.pack)));
            state.replace(&dead);
        })?;
        sweep_replaced(self.store)?;
        self.report.revived_packs = self.report.revived_packs.saturating_add(revived.len());
        self.report.deleted_packs = self.report.deleted_packs.saturating_add(dead.len());
        let bytes = self.found.bytes(&dead);
        self.report.deleted_bytes = self.report.deleted_bytes.saturating_add(bytes);
        Ok(())
    }

    /// Rewrites the index if much of it leads to what was deleted.
    fn tidy_index(&mut self) -> Result<()> {
        let state = self.store.state();
        if state.replaced.is_empty() {
            return Ok(());
        }
        let replaced: HashSet<PackId> = state.replaced_packs().collect();
        let usages = self.found.packs.values();
        let gone = usages.filter(|usage| replaced.contains(&usage.row.id));
        let gone: u64 = gone.map(|usage| usage.chunks).fold(0, u64::saturating_add);
        let all = self.store.index().entries();
        if gone.saturating_mul(4) < all && state.replaced.len() < TOGETHER {
            return Ok(());
        }
        merge_everything(self.store, &self.session)?;
        sweep_replaced(self.store)
    }
}

/// How many of these packs make a round.
fn round(rest: &[Usage]) -> usize {
    let mut chunks = 0u64;
    let fits = |usage: &&Usage| {
        chunks = chunks.saturating_add(usage.chunks);
        chunks <= ROUND
    };
    rest.iter().take_while(fits).count().max(1)
}
