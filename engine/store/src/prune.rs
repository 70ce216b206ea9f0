//! Pruning: space that no recovery point needs is given back, while everything else goes on.
//!
//! 1. Points and living sessions are listed in one step, and all that they reach is marked. What of the newest points lies scattered is written together once more.
//! 2. Packs that nothing needs are condemned: from then on nobody new relies on them. Of packs of which little is needed that is copied first.
//! 3. When every writer that began before has ended, points and sessions are listed again. What the new ones reach is taken off the list.
//! 4. The rest is deleted. If there are such writers still, the next prune does that.
//!
//! Nothing is deleted while a point, a session's record, a part of a map or of the index cannot be read, or a point is gone that nobody has forgotten.

mod examine;
mod find;
mod gather;
mod mark;
mod order;
mod packing;
mod plan;
mod report;
mod reserve;
mod rewrite;
mod rounds;
mod stands;

pub use mark::{Marked, Walked, mark};
pub use report::{PruneOptions, PruneReport};
pub use reserve::provide as provide_reserve;
pub use stands::{Stands, Writer};

use crate::compact::litter::sweep_litter;
use crate::compact::sweep::sweep_replaced;
use crate::layout::INDEX;
use crate::publish::{merge_everything, merge_lock, publish_lists_and};
use crate::read::ChunkReader;
use crate::session::{Session, SessionKind};
use crate::state::{Condemned, State};
use crate::store::Store;
use cairn_base::{Clock, Error, Kind, Monitor, PackId, Result, SegmentId, SystemClock};
use examine::{Examiner, Verdict};
use find::{Found, Settled, condemned_in, find, ids};
use gather::{Limits, gather};
use plan::Usage;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// Packs that are condemned at once.
const TOGETHER: usize = 4096;
/// How often a rehearsal looks again at what others deleted meanwhile.
const ATTEMPTS: usize = 5;
/// Packs that are looked into however little time there is: so that one prune after the other gets to the end.
const AT_LEAST: usize = 64;

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
    prune_with(store, options, monitor, &SystemClock)
}

/// As [`prune`], by another clock.
///
/// # Errors
/// As [`prune`].
pub fn prune_with(
    store: &Arc<Store>,
    options: &PruneOptions,
    monitor: &dyn Monitor,
    clock: &dyn Clock,
) -> Result<PruneReport> {
    if options.dry_run {
        return dry_run(store, options, monitor);
    }
    let folder = store.folder().clone();
    let time = Time {
        clock,
        begun: clock.ticks(),
        most: options.max_time,
    };
    let begin = |options: &PruneOptions| Pruning::begin(store, options, monitor, time);
    match begin(options).and_then(Pruning::run) {
        Err(error) if error.kind() == Kind::Full && reserve::release(&*folder)? => {
            monitor.warn(
                "the disk is full: the reserve of the store is used, and nothing is written anew",
            );
            let frugal = PruneOptions {
                max_rewrite: 0,
                ..options.clone()
            };
            let report = begin(&frugal).and_then(Pruning::run);
            // If there is no room even now the next one makes it.
            let _next_time = reserve::provide_again(&*folder);
            report
        }
        report => {
            let report = report?;
            // Nothing depends on it now.
            let _next_time = reserve::provide(&*folder);
            Ok(report)
        }
    }
}

/// How long a prune may take.
#[derive(Clone, Copy)]
struct Time<'a> {
    clock: &'a dyn Clock,
    begun: Duration,
    most: Option<Duration>,
}

impl Time<'_> {
    fn is_over(&self) -> bool {
        self.most
            .is_some_and(|most| self.clock.ticks().saturating_sub(self.begun) >= most)
    }
}

fn dry_run(
    store: &Arc<Store>,
    options: &PruneOptions,
    monitor: &dyn Monitor,
) -> Result<PruneReport> {
    let found = look(store, options, monitor)?;
    let mut report = found.report();
    report.deleted_packs = found.settled.dead.len();
    report.deleted_bytes = found.bytes(&ids(&found.settled.dead));
    if found.stands.writers.is_empty() {
        // Nobody has to be waited for.
        report.deleted_packs = report.deleted_packs.saturating_add(report.dead_packs);
        report.deleted_bytes = report.deleted_bytes.saturating_add(report.dead_bytes);
    }
    report.waiting_packs = found.settled.waiting.len();
    report.waiting_bytes = found.bytes(&ids(&found.settled.waiting));
    report.revived_packs = found.settled.revived.len();
    report.writers.clone_from(&found.stands.writers);
    Ok(report)
}

/// Finds out what could go. Nothing keeps another prune from deleting what was listed here and forgotten since; then it looks again.
fn look(store: &Arc<Store>, options: &PruneOptions, monitor: &dyn Monitor) -> Result<Found> {
    let generation = || Ok::<u64, Error>(State::read(&**store.folder())?.0.generation);
    for _ in 1..ATTEMPTS {
        let before = generation()?;
        let found = find(store, options, None, monitor);
        let misses_something = match &found {
            Ok(found) => found.walked.lost > 0,
            Err(error) => error.kind() == Kind::Damaged,
        };
        if !misses_something || generation()? == before {
            return found;
        }
    }
    find(store, options, None, monitor)
}

/// A prune under way: it writes, and nobody else merges.
struct Pruning<'a> {
    store: &'a Arc<Store>,
    options: PruneOptions,
    monitor: &'a dyn Monitor,
    time: Time<'a>,
    session: Session,
    found: Found,
    report: PruneReport,
    reader: ChunkReader,
    /// Packs that this prune condemned itself, as they are listed. No others are deleted without being looked into first, whatever a state that comes back says.
    judged: HashSet<Condemned>,
    /// Packs that were looked into.
    examined: usize,
    /// Bytes of needed data that were to be copied out of packs that were written anew.
    copied: u64,
    _merging: Box<dyn cairn_base::folder::Lock>,
    _permit: crate::store::WriterPermit,
}

impl<'a> Pruning<'a> {
    fn begin(
        store: &'a Arc<Store>,
        options: &PruneOptions,
        monitor: &'a dyn Monitor,
        time: Time<'a>,
    ) -> Result<Pruning<'a>> {
        let permit = store.writer()?;
        for warning in permit.warnings() {
            monitor.warn(warning);
        }
        let merging = merge_lock(&**store.folder())?.ok_or_else(|| {
            Error::new(Kind::Busy, "another prune, repair or merge of packs runs")
                .advise("wait until it has finished")
        })?;
        // Before anything is copied that may fill the disk. Without it a full disk ends the prune.
        let _if_there_is_room = reserve::provide(&**store.folder());
        let session = Session::begin(store.folder().clone(), SessionKind::Write, &[])?;
        // First of all, because it says whether anything may be deleted.
        let found = find(store, options, Some(&session), monitor)?;
        Ok(Pruning {
            report: found.report(),
            options: options.clone(),
            store,
            monitor,
            time,
            session,
            found,
            reader: ChunkReader::new(store.clone(), 0),
            judged: HashSet::new(),
            examined: 0,
            copied: 0,
            _merging: merging,
            _permit: permit,
        })
    }

    fn run(mut self) -> Result<PruneReport> {
        self.report.rewritten_packs = 0;
        self.report.rewritten_bytes = 0;
        // First what frees space, then what takes it.
        self.give_back()?;
        self.rewrite_all()?;
        if self.options.gather {
            self.gather()?;
        }
        match self.tidy_index().and_then(|()| self.sweep_index()) {
            Err(error) if error.kind() == Kind::Interrupted => return Err(error),
            // Space is given back; the index only takes more than it needs.
            Err(error) => self
                .report
                .left
                .push(format!("the index stays as it is: {error}")),
            Ok(()) => {}
        }
        if let Err(error) = sweep_litter(&**self.store.folder()) {
            let why = format!("what killed processes left could not be removed: {error}");
            self.report.left.push(why);
        }
        let state = self.store.state();
        let waiting: Vec<PackId> = state.condemned_packs().collect();
        self.report.waiting_packs = waiting.len();
        self.report.waiting_bytes = self.found.bytes(&waiting);
        self.report.writers.clone_from(&self.found.stands.writers);
        Ok(self.report)
    }

    /// Deletes what was condemned before, and condemns what nothing needs.
    fn give_back(&mut self) -> Result<()> {
        // What one that was interrupted took off the index goes at once, and what was condemned before.
        sweep_replaced(self.store)?;
        let mut settled = std::mem::take(&mut self.found.settled);
        // Whatever is found of them now: they are deleted here or not at all.
        for row in &settled.dead {
            self.judged.remove(row);
        }
        self.look_again(&mut settled)?;
        self.settle(settled)?;
        let dead = std::mem::take(&mut self.found.plan.dead);
        for batch in dead.chunks(TOGETHER) {
            self.condemn_dead(batch)?;
        }
        self.finish_condemned()
    }

    /// Writes together what the newest points have scattered, with what rewriting left of time and bytes; and finds out anew what could go.
    fn gather(&mut self) -> Result<()> {
        if !self.store.state().condemned.is_empty() {
            let why = "nothing was gathered: packs that could make room for it wait until writers have ended";
            let ended = &mut self.report.ended_early;
            ended.get_or_insert_with(|| why.to_string());
            return Ok(());
        }
        let time = self.time;
        let limits = Limits {
            bytes: self.options.max_rewrite.saturating_sub(self.copied),
            is_over: &|| time.is_over(),
        };
        let gathered = gather(self.store, &self.session, &limits, self.monitor)?;
        self.report.gathered_bytes = gathered.bytes;
        self.report.gathered_written_bytes = gathered.written;
        if let Some(why) = gathered.ended_early {
            self.report.ended_early.get_or_insert(why);
        }
        if gathered.written == 0 {
            return Ok(());
        }
        // What lies together now is not needed where it lay. What that leaves in packs that are mostly needed the next prune looks at.
        let found = find(self.store, &self.options, Some(&self.session), self.monitor)?;
        self.found = found;
        let now = self.found.report();
        let report = &mut self.report;
        report.dead_packs = report.dead_packs.saturating_add(now.dead_packs);
        report.dead_bytes = report.dead_bytes.saturating_add(now.dead_bytes);
        let unused = self.found.plan.rewrite.iter().map(Usage::waste);
        report.unused_bytes = unused.fold(now.unused_bytes, u64::saturating_add);
        self.give_back()
    }

    fn look_up_from_work(&self) -> Result<()> {
        if self.monitor.stop_requested() {
            return Err(Error::interrupted());
        }
        Ok(())
    }

    /// Whether there is time for another pack, or fewer than `at_least` were looked into; if not, the report says so.
    fn has_time(&mut self, at_least: usize) -> bool {
        if self.examined >= at_least && self.time.is_over() {
            self.end_early();
            return false;
        }
        self.examined = self.examined.saturating_add(1);
        true
    }

    fn end_early(&mut self) {
        let over = || "its time was over".to_string();
        self.report.ended_early.get_or_insert_with(over);
    }

    /// Looks into a pack: into all of it if it is one of the first `at_least`, else as long as there is time.
    fn examine(&self, usage: &Usage, at_least: usize) -> Verdict {
        let is_over = || self.examined > at_least && self.time.is_over();
        let (store, marked) = (self.store, &self.found.marked);
        Examiner::new(store, marked, &self.reader).examine(&usage.row, &is_over)
    }

    /// Looks into packs of which the index says that nothing needs them, and condemns those of which that is so.
    fn condemn_dead(&mut self, batch: &[Usage]) -> Result<()> {
        let mut condemned = Vec::new();
        for usage in batch {
            self.look_up_from_work()?;
            if !self.has_time(AT_LEAST) {
                break;
            }
            match self.examine(usage, AT_LEAST) {
                Verdict::May(examined) if !examined.is_needed() => condemned.push(usage.row.id),
                // It has become the only good copy of something.
                Verdict::May(_) => {}
                Verdict::Stays(why) => self.report.left.push(why),
                Verdict::Unfinished => self.end_early(),
            }
        }
        self.condemn(&condemned)
    }

    fn condemn(&mut self, packs: &[PackId]) -> Result<()> {
        if packs.is_empty() {
            return Ok(());
        }
        let judged = &mut self.judged;
        publish_lists_and(self.store, &mut |state| {
            let before = state.condemned.len();
            state.condemn(packs);
            judged.extend(state.condemned.iter().skip(before));
        })
    }

    /// Packs that were condemned by an earlier prune are looked into once more: of what is needed the other copy may have gone bad since. Those for which there
    /// is no time stay condemned.
    fn look_again(&mut self, settled: &mut Settled) -> Result<()> {
        let (mut dead, mut revived) = (Vec::new(), Vec::new());
        for row in std::mem::take(&mut settled.dead) {
            let Some(usage) = self.found.packs.get(&PackId(row.pack)).copied() else {
                continue;
            };
            self.look_up_from_work()?;
            if !self.has_time(AT_LEAST) {
                break;
            }
            match self.examine(&usage, AT_LEAST) {
                Verdict::May(examined) if !examined.is_needed() => dead.push(row),
                Verdict::May(_) => revived.push(row),
                Verdict::Stays(why) => self.report.left.push(why),
                Verdict::Unfinished => self.end_early(),
            }
        }
        settled.dead = dead;
        settled.revived.extend(revived);
        Ok(())
    }

    /// Lists points and sessions again. What nothing needs and no writer may rely on any more is deleted; what the new ones need lives again.
    fn finish_condemned(&mut self) -> Result<()> {
        if self.store.state().condemned.is_empty() {
            return Ok(());
        }
        let before = Some(&self.found.stands);
        let now = Stands::list(self.store, Some(self.session.id()), before)?;
        self.store.refresh()?;
        let roots = now.roots_since(&self.found.stands);
        // Of an index of its own: what was published since is in it.
        let (state, index) = (self.store.state(), self.store.index());
        let mut rows = condemned_in(&state, &index);
        rows.retain(|row| self.judged.contains(row));
        let marked = Marked::none_of(index);
        let before = Some(&self.found.marked);
        let walked = mark(self.store, &marked, before, &roots, self.monitor)?;
        let settled = Settled::of(rows.into_iter(), &now, &walked.needed);
        self.found.stands.writers.clone_from(&now.writers);
        self.settle(settled)
    }

    /// Takes packs off the list of the condemned: those that are needed again, and those that are deleted now. Only as they were judged: a state that came
    /// back in place of a lost one may say otherwise.
    fn settle(&mut self, settled: Settled) -> Result<()> {
        let (dead, revived): (HashSet<_>, HashSet<_>) = (
            settled.dead.into_iter().collect(),
            settled.revived.into_iter().collect(),
        );
        if dead.is_empty() && revived.is_empty() {
            return Ok(());
        }
        let (mut gone, mut back) = (Vec::new(), 0usize);
        publish_lists_and(self.store, &mut |state| {
            state.condemned.retain(|row| {
                if dead.contains(row) {
                    gone.push(PackId(row.pack));
                } else if revived.contains(row) {
                    back = back.saturating_add(1);
                } else {
                    return true;
                }
                false
            });
            state.replace(&gone);
        })?;
        sweep_replaced(self.store)?;
        self.report.revived_packs = self.report.revived_packs.saturating_add(back);
        self.report.deleted_packs = self.report.deleted_packs.saturating_add(gone.len());
        let bytes = self.found.bytes(&gone);
        self.report.deleted_bytes = self.report.deleted_bytes.saturating_add(bytes);
        Ok(())
    }

    /// Rewrites the index if much of it leads to what was deleted, now or by earlier prunes.
    fn tidy_index(&mut self) -> Result<()> {
        let state = self.store.state();
        if state.replaced.is_empty() || self.time.is_over() {
            return Ok(());
        }
        let found = &self.found;
        let entries = |id: PackId| match found.packs.get(&id) {
            Some(usage) => usage.chunks,
            None => found.hidden.get(&id).copied().unwrap_or(0),
        };
        let gone = state.replaced_packs().map(entries);
        let gone = gone.fold(0, u64::saturating_add);
        let all = self.store.index().entries();
        if gone.saturating_mul(4) < all && state.replaced.len() < TOGETHER {
            return Ok(());
        }
        merge_everything(self.store, &self.session)
    }

    /// Deletes segments that only the older slot of the state lists, and takes packs off the list that no segment names any more: so that nothing is left for the
    /// next publication, which may be a long time coming.
    fn sweep_index(&mut self) -> Result<()> {
        let rows = self.store.state().segments;
        let listed: HashSet<SegmentId> = rows.iter().map(|row| row.segment()).collect();
        let names = self.store.folder().list(INDEX)?;
        let mut ids = names.iter().filter_map(|name| SegmentId::parse(name).ok());
        if ids.all(|id| listed.contains(&id)) {
            return Ok(());
        }
        publish_lists_and(self.store, &mut |_| {})?;
        sweep_replaced(self.store)
    }
}
