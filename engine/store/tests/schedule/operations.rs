//! What processes do with a store, and what they may find.

use crate::acts::{back_up, read};
use crate::disk::Dice;
use crate::model::{Known, Model};
use crate::process::Process;
use crate::world::{How, Ticking};
use cairn_base::{Error, Folder, Kind, PointId, Silent};
use cairn_store::catalog::{self, ForgetOptions, Pin, Protection, Survey, all_points};
use cairn_store::compact::tidy_up;
use cairn_store::publish::merge_segments;
use cairn_store::{
    Depth, Pick, Point, PruneOptions, Session, SessionKind, Store, UsageOptions, VerifyOptions,
    layout, prune, repair, usage, verify_with,
};
use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What goes wrong, in a sentence.
pub type Outcome = Result<(), String>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    BackUp,
    Forget,
    Pin,
    Prune,
    Read,
    /// Opens a point and keeps it open.
    Hold,
    ReadHeld,
    Verify,
    Merge,
    Repair,
    List,
    Count,
}

use Operation::*;

/// As often as each stands here.
const OFTEN: [Operation; 30] = [
    BackUp, BackUp, BackUp, BackUp, BackUp, BackUp, BackUp, BackUp, Forget, Forget, Forget, Forget,
    Forget, Pin, Prune, Prune, Prune, Prune, Read, Hold, Hold, Hold, ReadHeld, ReadHeld, ReadHeld,
    Verify, Merge, Repair, List, Count,
];

pub fn any(dice: &mut Dice) -> Operation {
    OFTEN[dice.below(OFTEN.len())]
}

/// A point that is kept open.
struct Held {
    store: Arc<Store>,
    point: Point,
    bytes: Arc<Vec<u8>>,
    _session: Session,
}

/// A process with what it has open.
pub struct Actor {
    pub process: Process,
    store: Mutex<Option<Arc<Store>>>,
    held: Mutex<Vec<Held>>,
}

/// What runs at once, so that nothing is refused to who is alone.
#[derive(Default)]
pub struct Crowd {
    begun: AtomicU64,
    running: AtomicU64,
}

struct Alone<'a> {
    crowd: &'a Crowd,
    begun: u64,
    others: u64,
}

impl Crowd {
    fn enter(&self) -> Alone<'_> {
        Alone {
            begun: self.begun.fetch_add(1, Ordering::SeqCst) + 1,
            others: self.running.fetch_add(1, Ordering::SeqCst),
            crowd: self,
        }
    }

    /// Operations so far.
    pub fn count(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }
}

impl Alone<'_> {
    fn is(&self) -> bool {
        self.others == 0 && self.crowd.begun.load(Ordering::SeqCst) == self.begun
    }

    /// What was refused must have had somebody in its way.
    fn refused(&self, error: &Error) -> Outcome {
        if error.kind() == Kind::Busy && !self.is() {
            return Ok(());
        }
        Err(error.to_string())
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.crowd.running.fetch_sub(1, Ordering::SeqCst);
    }
}

fn told(error: Error) -> String {
    error.to_string()
}

impl Actor {
    pub fn new(process: Process) -> Actor {
        Actor {
            process,
            store: Mutex::default(),
            held: Mutex::default(),
        }
    }

    /// The store, opened anew or as it was.
    fn store(&self, dice: &mut Dice) -> Result<Arc<Store>, String> {
        let open = self.store.lock().unwrap().clone();
        if let Some(store) = open.filter(|_| dice.toss()) {
            return Ok(store);
        }
        let folder: Arc<dyn Folder> = Arc::new(self.process.clone());
        let store = Arc::new(Store::open(folder).map_err(told)?);
        *self.store.lock().unwrap() = Some(store.clone());
        Ok(store)
    }

    /// Does it; the model learns what came of it.
    pub fn act(
        &self,
        operation: Operation,
        model: &Mutex<Model>,
        crowd: &Crowd,
        dice: &mut Dice,
    ) -> Outcome {
        let alone = crowd.enter();
        let store = self.store(dice)?;
        match operation {
            BackUp => back_up_one(&store, model, &alone, dice),
            Forget => forget(&store, model, dice),
            Pin => pin(&store, model, dice),
            Prune => self.give_back(&store, model, &alone, dice),
            Read => {
                let open = self.open(&store, model, dice)?;
                open.map_or(Ok(()), |held| check(&held.store, &held.point, &held.bytes))
            }
            Hold => {
                let open = self.open(&store, model, dice)?;
                self.held.lock().unwrap().extend(open);
                Ok(())
            }
            ReadHeld => self.read_held(&store, dice),
            Verify => look(&store, dice),
            Merge => merge(&store),
            Repair => match repair(&store, &Silent) {
                Ok(report) if report.left.is_empty() => Ok(()),
                Ok(report) => Err(format!("{report:?}")),
                Err(error) => alone.refused(&error),
            },
            List => list(&store, model),
            Count => count(&store),
        }
    }

    /// Opens a point in a session; none if it was forgotten.
    fn open(
        &self,
        store: &Arc<Store>,
        model: &Mutex<Model>,
        dice: &mut Dice,
    ) -> Result<Option<Held>, String> {
        let Some((point, bytes)) = ({
            let mut model = model.lock().unwrap();
            let known = model.any(dice);
            known.map(|known| (known.point.clone(), known.bytes.clone()))
        }) else {
            return Ok(None);
        };
        let folder = store.folder().clone();
        match Session::begin(folder, SessionKind::Read, &[&point]) {
            Ok(session) if session.is_registered() => Ok(Some(Held {
                store: store.clone(),
                point,
                bytes,
                _session: session,
            })),
            Ok(session) => Err(format!("{:?}", session.warning())),
            Err(error) => {
                let gone = error.kind() == Kind::NotFound;
                let sure = model
                    .lock()
                    .unwrap()
                    .find(point.id)
                    .is_some_and(|k| k.is_sure());
                if gone && !sure {
                    Ok(None)
                } else {
                    Err(told(error))
                }
            }
        }
    }

    /// Reads a point that was opened, whatever became of it; and lets go of it or not.
    fn read_held(&self, store: &Arc<Store>, dice: &mut Dice) -> Outcome {
        let held = {
            let mut held = self.held.lock().unwrap();
            let number = dice.below(held.len());
            if number >= held.len() {
                return Ok(());
            }
            held.swap_remove(number)
        };
        // As it was opened, or as another thread of the process would read it.
        let store = if dice.toss() { store } else { &held.store };
        check(store, &held.point, &held.bytes).map_err(|why| format!("held: {why}"))?;
        if dice.toss() {
            self.held.lock().unwrap().push(held);
        }
        Ok(())
    }

    fn give_back(
        &self,
        store: &Arc<Store>,
        model: &Mutex<Model>,
        alone: &Alone<'_>,
        dice: &mut Dice,
    ) -> Outcome {
        let options = PruneOptions {
            dry_run: dice.below(6) == 0,
            max_unused: [0, 0, 50, 500][dice.below(4)],
            max_rewrite: [u64::MAX, u64::MAX, 0, 60_000][dice.below(4)],
            gather: dice.below(3) == 0,
            max_time: None,
        };
        let report = match prune(store, &options, &Silent) {
            Ok(report) => report,
            Err(error) => {
                return alone
                    .refused(&error)
                    .map_err(|why| format!("{options:?}: {why}"));
            }
        };
        if report.lost > 0 || !report.left.is_empty() {
            return Err(format!("{options:?}: {report:?}"));
        }
        let model = model.lock().unwrap();
        let sure = model.points.iter().filter(|known| known.is_sure()).count();
        if alone.is() && report.points < sure {
            return Err(format!("{sure} points are there: {report:?}"));
        }
        if alone.is() && !report.writers.is_empty() {
            return Err(format!("nobody writes: {report:?}"));
        }
        Ok(())
    }
}

fn check(store: &Arc<Store>, point: &Point, bytes: &[u8]) -> Outcome {
    let what = format!(
        "point {} of {}",
        point.record.sequence, point.record.machine
    );
    let found = read(store, point).map_err(|e| format!("{what}: {e}"))?;
    (found == bytes)
        .then_some(())
        .ok_or(format!("{what} has wrong bytes"))
}

fn back_up_one(
    store: &Arc<Store>,
    model: &Mutex<Model>,
    alone: &Alone<'_>,
    dice: &mut Dice,
) -> Outcome {
    let next = {
        let mut model = model.lock().unwrap();
        let next = model.next(dice);
        model
            .unsaid
            .push((next.machine.to_string(), next.bytes.clone()));
        next
    };
    let (base, changed) = next.base.unzip();
    let how = How {
        changed,
        checkpoint: dice.toss().then(|| 3 + dice.below(6)),
    };
    let made = back_up(store, next.machine, next.bytes.clone(), &how, base.as_ref());
    let mut model = model.lock().unwrap();
    match made {
        Ok(point) => {
            model.said(next.machine, &next.bytes);
            let record = &point.record;
            let same = |known: &&Known| {
                let other = &known.point.record;
                (&other.machine, other.sequence) == (&record.machine, record.sequence)
            };
            let twice = model.points.iter().find(same).map(|known| known.id());
            let number = record.sequence;
            model.points.push(Known::new(point, next.bytes));
            twice.map_or(Ok(()), |id| Err(format!("number {number} was {id}'s")))
        }
        Err(error) => {
            let forgotten =
                base.is_some_and(|base| !model.find(base.id).is_some_and(|known| known.is_sure()));
            if error.kind() == Kind::NotFound && forgotten {
                model.said(next.machine, &next.bytes);
                return Ok(());
            }
            let refused = alone.refused(&error);
            if refused.is_ok() {
                model.said(next.machine, &next.bytes);
            }
            refused
        }
    }
}

fn forget(store: &Arc<Store>, model: &Mutex<Model>, dice: &mut Dice) -> Outcome {
    let machine = model.lock().unwrap().machine(dice);
    let options = ForgetOptions {
        allow_empty: dice.below(4) == 0,
        ..ForgetOptions::default()
    };
    let few = dice.toss();
    let mut wanted: HashMap<PointId, Option<u32>> = HashMap::new();
    {
        let mut model = model.lock().unwrap();
        for known in &mut model.points {
            let is_of = known.point.record.machine == machine && !known.forgotten;
            if is_of && dice.below(3) < if few { 1 } else { 2 } {
                known.wanted += 1;
                wanted.insert(known.id(), known.surely_pinned());
            }
        }
    }
    let ids: HashSet<PointId> = wanted.keys().copied().collect();
    let path = layout::machine_folder(machine);
    let done = store.writer().and_then(|permit| {
        let survey = Survey::of(store, &path)?;
        catalog::forget(store, &permit, &survey, &ids, &options, &Ticking)
    });
    let done = done.map_err(told)?;
    let gone: HashSet<PointId> = done.forgotten.iter().map(|file| file.id).collect();
    let kept: HashMap<PointId, Vec<Protection>> = done
        .kept
        .into_iter()
        .map(|(file, why)| (file.id, why))
        .collect();
    let mut model = model.lock().unwrap();
    for (id, pinned) in wanted {
        let known = model.find(id).unwrap();
        known.wanted -= 1;
        let number = known.point.record.sequence;
        if gone.contains(&id) {
            known.forgotten = true;
            if pinned.is_some() && pinned == known.surely_pinned() {
                return Err(format!("point {number} of {machine} is pinned, and gone"));
            }
        } else if let Some(why) = kept.get(&id) {
            let last = why.contains(&Protection::Last);
            let pinned = why.contains(&Protection::Pinned(None));
            if !pinned && !last || last && options.allow_empty {
                return Err(format!("point {number} of {machine} stays: {why:?}"));
            }
        } else if known.is_sure() {
            return Err(format!("nobody forgot point {number} of {machine}"));
        }
    }
    Ok(())
}

fn pin(store: &Arc<Store>, model: &Mutex<Model>, dice: &mut Dice) -> Outcome {
    let pinned = dice.below(3) > 0;
    let chosen = {
        let mut model = model.lock().unwrap();
        let known = model.any(dice);
        known.map(|known| (known.point.clone(), known.begin_pin()))
    };
    let Some((point, begun)) = chosen else {
        return Ok(());
    };
    let path = layout::machine_folder(&point.record.machine);
    let pin = pinned.then(Pin::default);
    let done = store
        .writer()
        .and_then(|permit| catalog::set_pin(store, &permit, &path, point.id, pin));
    let mut model = model.lock().unwrap();
    let known = model.find(point.id).unwrap();
    match done {
        Ok(_) => known.end_pin(begun, pinned),
        Err(error) if error.kind() == Kind::NotFound && !known.is_sure() => {
            known.end_pin(begun, false);
        }
        Err(error) => return Err(told(error)),
    }
    Ok(())
}

fn look(store: &Arc<Store>, dice: &mut Dice) -> Outcome {
    let mut options =
        VerifyOptions::at_depth([Depth::Quick, Depth::Tags, Depth::Deep][dice.below(3)]);
    if dice.below(3) == 0 {
        options.pick = Pick::Slice(NonZeroU32::new(2).unwrap());
    }
    let report = verify_with(store, &options, &Silent, &Ticking).map_err(told)?;
    if report.is_clean() {
        Ok(())
    } else {
        Err(format!("{options:?}: {report:?}"))
    }
}

fn merge(store: &Arc<Store>) -> Outcome {
    let _permit = store.writer().map_err(told)?;
    let session = Session::begin(store.folder().clone(), SessionKind::Write, &[]).map_err(told)?;
    merge_segments(store, &session, u64::MAX).map_err(told)?;
    let warnings = tidy_up(store, &session, &Silent);
    if warnings.is_empty() {
        Ok(())
    } else {
        Err(format!("{warnings:?}"))
    }
}

/// What each point takes.
fn count(store: &Arc<Store>) -> Outcome {
    let found = usage(store, &UsageOptions::default(), &Silent).map_err(told)?;
    let damage = found.damaged;
    if damage.is_empty() {
        Ok(())
    } else {
        Err(format!("{damage:?}"))
    }
}

fn list(store: &Arc<Store>, model: &Mutex<Model>) -> Outcome {
    let (gone, sure): (HashSet<_>, Vec<_>) = {
        let model = model.lock().unwrap();
        let ids = |test: &dyn Fn(&Known) -> bool| {
            let points = model.points.iter().filter(|known| test(known));
            points.map(|known| known.id()).collect::<Vec<_>>()
        };
        (
            ids(&|known| known.forgotten).into_iter().collect(),
            ids(&Known::is_sure),
        )
    };
    let listing = all_points(store).map_err(told)?;
    if !listing.damaged.is_empty() {
        return Err(format!("no points: {:?}", listing.damaged));
    }
    if let Some(point) = listing.points.iter().find(|point| gone.contains(&point.id)) {
        return Err(format!("{} was forgotten, and is listed", point.id));
    }
    let listed: HashSet<_> = listing.points.iter().map(|point| point.id).collect();
    let mut model = model.lock().unwrap();
    for id in sure.into_iter().filter(|id| !listed.contains(id)) {
        if model.find(id).is_some_and(|known| known.is_sure()) {
            return Err(format!("{id} is not listed"));
        }
    }
    Ok(())
}
