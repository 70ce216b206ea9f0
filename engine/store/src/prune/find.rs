//! What a store needs, and what of it could go.

use crate::index::IndexSet;
use crate::layout;
use crate::prune::mark::{Marked, Walked, mark};
use crate::prune::plan::{Plan, Usage, plan, usage};
use crate::prune::report::{PruneOptions, PruneReport};
use crate::prune::stands::Stands;
use crate::session::Session;
use crate::state::{Condemned, State};
use crate::store::Store;
use cairn_base::{Error, Kind, Monitor, PackId, Result, Stage};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// What a store needs, and what could go.
pub struct Found {
    /// What points and sessions stand on.
    pub stands: Stands,
    /// What of the index is needed.
    pub marked: Marked,
    /// What the walk found besides.
    pub walked: Walked,
    /// How much of each pack is needed.
    pub packs: BTreeMap<PackId, Usage>,
    /// How many entries the index has for each pack that is not there any more.
    pub hidden: HashMap<PackId, u64>,
    /// What is to be done.
    pub plan: Plan,
    /// What becomes of packs that were condemned before.
    pub settled: Settled,
}

/// What becomes of the packs that were condemned before.
#[derive(Default)]
pub struct Settled {
    pub dead: Vec<Condemned>,
    pub revived: Vec<Condemned>,
    pub waiting: Vec<Condemned>,
}

impl Settled {
    /// Of these packs, which the walk that found what is `needed` looked for.
    pub fn of(
        rows: impl Iterator<Item = Condemned>,
        stands: &Stands,
        needed: &HashSet<PackId>,
    ) -> Settled {
        let mut settled = Settled::default();
        for row in rows {
            if needed.contains(&PackId(row.pack)) {
                settled.revived.push(row);
            } else if stands.older_than(row.generation).next().is_some() {
                settled.waiting.push(row);
            } else {
                settled.dead.push(row);
            }
        }
        settled
    }
}

/// Their ids.
pub fn ids(rows: &[Condemned]) -> Vec<PackId> {
    rows.iter().map(|row| PackId(row.pack)).collect()
}

/// The condemned packs that this index knows to be that.
pub fn condemned_in(state: &State, index: &IndexSet) -> Vec<Condemned> {
    let rows = state.condemned.iter().copied();
    let known = |row: &Condemned| index.condemned().contains(&PackId(row.pack));
    rows.filter(known).collect()
}

/// Lists, marks, counts and plans. Changes nothing.
pub fn find(
    store: &Arc<Store>,
    options: &PruneOptions,
    own: Option<&Session>,
    monitor: &dyn Monitor,
) -> Result<Found> {
    let own = own.map(Session::id);
    let stands = Stands::list(store, own, None)?;
    // Points before state, the reverse of the write order.
    store.refresh()?;
    if !store.has_all_segments() {
        return Err(Error::damaged(
            "a segment of the index is lost, so what it led to is not known",
        )
        .at_path(store.folder().describe(""))
        .advise("run `cairn verify --repair` first"));
    }
    check_missing(store)?;
    let (state, index) = (store.state(), store.index());
    let condemned = condemned_in(&state, &index);
    let marked = Marked::none_of(index);
    let roots = stands.roots_since(&Stands::default());
    let total = roots
        .iter()
        .map(|root| root.size)
        .fold(0, u64::saturating_add);
    monitor.begin(Stage::Mark, total);
    let walked = mark(store, &marked, None, &roots, monitor)?;
    monitor.finish(Stage::Mark);
    let (packs, hidden) = usage(&marked)?;
    let settled = Settled::of(condemned.into_iter(), &stands, &walked.needed);
    let mut exempt: HashSet<PackId> = state.condemned_packs().collect();
    exempt.extend(&stands.packs);
    let plan = plan(&packs, &exempt, options.max_unused, options.max_rewrite);
    Ok(Found {
        stands,
        marked,
        walked,
        packs,
        hidden,
        plan,
        settled,
    })
}

impl Found {
    /// What was found, as a report.
    pub fn report(&self) -> PruneReport {
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
    pub fn bytes(&self, packs: &[PackId]) -> u64 {
        let rows = packs.iter().filter_map(|pack| self.packs.get(pack));
        rows.map(|usage| usage.row.length)
            .fold(0, u64::saturating_add)
    }
}

/// Packs that a writer found to be missing are not looked into; but a look that failed is no loss.
fn check_missing(store: &Store) -> Result<()> {
    let (folder, index) = (&**store.folder(), store.index());
    for row in store.live_packs() {
        if !index.hidden().contains(&row.id) {
            continue;
        }
        match folder.size(&layout::pack(row.id)) {
            Ok(length) if length == row.length => {
                return Err(Error::new(Kind::Io, "a pack could not be looked at")
                    .with_id(row.id)
                    .advise("it can be now: run it again"));
            }
            Err(error) if error.kind() != Kind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
