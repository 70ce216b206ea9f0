//! What was stored and what was reported, and whether a store keeps its word.

use crate::acts::{back_up, check_but_for, check_clean, read};
use crate::disk::End;
use crate::machine::{Lie, Machine};
use cairn_base::{Clock, PointId, ReadAt, Result, Silent, Time};
use cairn_store::catalog::{self, ForgetOptions, Survey, all_points};
use cairn_store::damage::DamageList;
use cairn_store::{
    CutParameters, Point, PruneOptions, PruneReport, Store, layout, prune, repair, verify,
};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

static NOW: AtomicI64 = AtomicI64::new(1_800_000_000);

/// A clock that goes on by a minute whenever it is asked.
pub struct Ticking;

impl Clock for Ticking {
    fn now(&self) -> Time {
        Time::from_seconds(NOW.fetch_add(60, Ordering::Relaxed))
    }
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; length];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut out);
    out
}

/// A machine, and what anybody knows of its store from outside.
#[derive(Clone)]
pub struct World {
    pub machine: Machine,
    /// Whether the store was reported to be made.
    pub made: bool,
    /// Whether something of the store was lost, so that only the next writer mends it.
    pub hurt: bool,
    /// Whether packs are damaged, within their parity, so that only a repair mends it.
    pub spoilt: bool,
    /// Whether a pack is damaged beyond its parity: what lay there is lost until it is stored anew.
    pub lossy: bool,
    /// What the durable list of damage may say: what it said before, and what it says when all went well. Anything, if empty.
    pub lists: Vec<DamageList>,
    /// Whether something was forgotten, so that a prune has something to do.
    pub wasteful: bool,
    /// Whether what is needed may lie in two packs, so that it takes two prunes until one is quiet.
    pub doubled: bool,
    /// Parity of the store's packs, in percent.
    pub parity: u32,
    /// What a point of this machine and number may hold: something was backed up as it, whether or not that ended well.
    may: HashMap<(String, u64), Vec<Arc<Vec<u8>>>>,
    /// Points that were reported complete.
    reported: Vec<(Point, Arc<Vec<u8>>)>,
    /// Points that were to be forgotten, and whether that was reported done.
    forgotten: HashMap<PointId, bool>,
}

/// How a disk is backed up.
#[derive(Default)]
pub struct How {
    /// Only these ranges changed since the machine's latest point.
    pub changed: Option<Vec<Range<u64>>>,
    /// New chunks until an early publication.
    pub checkpoint: Option<usize>,
}

impl World {
    /// Nothing was made yet.
    pub fn new(lie: Lie) -> World {
        World {
            machine: Machine::with(Default::default(), lie),
            made: false,
            hurt: false,
            spoilt: false,
            lossy: false,
            lists: Vec::new(),
            wasteful: false,
            doubled: false,
            parity: 0,
            may: HashMap::new(),
            reported: Vec::new(),
            forgotten: HashMap::new(),
        }
    }

    /// The same knowledge of another machine.
    pub fn on(&self, machine: Machine) -> World {
        World {
            machine,
            ..self.clone()
        }
    }

    /// Makes the store.
    pub fn init(&mut self) -> Result<()> {
        let cut = CutParameters::FastCdc {
            min: 2048,
            average: 8192,
            max: 32768,
        };
        Store::create_with(Arc::new(self.machine.clone()), cut, self.parity, &Ticking)?;
        self.made = true;
        Ok(())
    }

    /// Repairs the store in a process of its own.
    pub fn repair(&mut self) -> Result<()> {
        repair(&self.store()?, &Silent).map(|_| ())
    }

    /// Forgets points of these numbers in a process of its own; all of a machine, if it comes to that.
    pub fn forget(&mut self, machine: &str, numbers: &[u64]) -> Result<()> {
        let points = self.reported.iter().map(|(point, _)| point);
        let wanted = points.filter(|point| {
            point.record.machine == machine && numbers.contains(&point.record.sequence)
        });
        let wanted: HashSet<PointId> = wanted.map(|point| point.id).collect();
        self.forgotten.extend(wanted.iter().map(|id| (*id, false)));
        let store = self.store()?;
        let permit = store.writer()?;
        let survey = Survey::of(&store, &layout::machine_folder(machine))?;
        let options = ForgetOptions {
            allow_empty: true,
            ..ForgetOptions::default()
        };
        let done = catalog::forget(&store, &permit, &survey, &wanted, &options, &Ticking)?;
        let gone = done.forgotten.iter().map(|file| (file.id, true));
        self.forgotten.extend(gone);
        Ok(())
    }

    /// Gives back all that nothing needs, in a process of its own.
    pub fn prune(&mut self) -> Result<PruneReport> {
        let options = PruneOptions {
            max_unused: 0,
            ..PruneOptions::default()
        };
        prune(&self.store()?, &options, &Silent)
    }

    /// Verifies the store in full, in a process of its own.
    pub fn verify(&mut self) -> Result<()> {
        verify(&self.store()?, false, &Silent).map(|_| ())
    }

    /// The durable list of damage.
    pub fn list(&self) -> Result<DamageList> {
        DamageList::read(&self.machine)
    }

    /// The store, as a new process opens it.
    pub fn store(&self) -> Result<Arc<Store>> {
        Ok(Arc::new(Store::open(Arc::new(self.machine.clone()))?))
    }

    /// Backs up a disk of these bytes in a process of its own.
    pub fn backup(&mut self, machine: &str, bytes: &[u8], how: &How) -> Result<Point> {
        let bytes = Arc::new(bytes.to_vec());
        self.backup_from(machine, &bytes, bytes.clone(), how)
    }

    /// As [`backup`](World::backup), reading the bytes from `source`.
    pub fn backup_from(
        &mut self,
        machine: &str,
        bytes: &Arc<Vec<u8>>,
        source: Arc<dyn ReadAt>,
        how: &How,
    ) -> Result<Point> {
        self.expect(machine, bytes);
        let point = back_up(&self.store()?, machine, source, how, self.latest(machine))?;
        self.reported.push((point.clone(), bytes.clone()));
        Ok(point)
    }

    /// Backs up two machines at once, in processes of their own.
    pub fn backup_two(&mut self, disks: [(&str, Vec<u8>); 2]) -> Vec<Result<Point>> {
        let disks = disks.map(|(machine, bytes)| (machine, Arc::new(bytes)));
        for (machine, bytes) in &disks {
            self.expect(machine, bytes);
        }
        let world = &*self;
        let points = std::thread::scope(|scope| {
            let threads: Vec<_> = disks
                .iter()
                .map(|(machine, bytes)| {
                    scope.spawn(move || {
                        back_up(
                            &world.store()?,
                            machine,
                            bytes.clone(),
                            &How::default(),
                            None,
                        )
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect::<Vec<_>>()
        });
        for (point, (_, bytes)) in points.iter().zip(&disks) {
            if let Ok(point) = point {
                self.reported.push((point.clone(), bytes.clone()));
            }
        }
        points
    }

    fn latest(&self, machine: &str) -> Option<&Point> {
        let mut points = self.reported.iter().map(|(point, _)| point);
        points.rfind(|point| point.record.machine == machine)
    }

    fn expect(&mut self, machine: &str, bytes: &Arc<Vec<u8>>) {
        // A backup that dies may have published its point or not, so the next one has this number or the one after.
        let seen = self
            .may
            .keys()
            .filter(|(of, _)| of == machine)
            .map(|(_, number)| *number);
        let last = seen.max().unwrap_or(0);
        for number in 1..=last + 1 {
            self.may
                .entry((machine.to_string(), number))
                .or_default()
                .push(bytes.clone());
        }
    }

    /// Whether the store on the machine is what it must be whatever happened: nothing reported is lost, nothing wrong is shown,
    /// everything checks, and work goes on and leaves nothing behind. The store is used, and so changed.
    ///
    /// # Errors
    /// What is not as it must be.
    pub fn check(&mut self) -> std::result::Result<(), String> {
        if !self.made && self.store().is_err() {
            return self
                .init()
                .map_err(|e| format!("making the store again: {e}"));
        }
        if !self.made {
            // Never reported, but it can be opened: what is missing is mended by the first writer.
            (self.made, self.hurt) = (true, true);
        }
        if self.lossy {
            self.check_lossy()?;
        }
        if self.spoilt && self.hurt {
            // A segment is gone: until it was made anew points cannot be read.
            self.repair().map_err(|e| format!("repairing: {e}"))?;
        }
        let store = self.store().map_err(|e| format!("opening: {e}"))?;
        self.check_points(&store)?;
        if !self.hurt && !self.spoilt {
            check_clean(&store)?;
        }
        for last in [false, true] {
            let bytes = noise(40_000, 900 + u64::from(last));
            let point = self
                .backup("after", &bytes, &How::default())
                .map_err(|e| format!("the next backup: {e}"))?;
            if !point.record.warnings.is_empty() && (last || !self.hurt) {
                return Err(format!(
                    "the next backup warns: {:?}",
                    point.record.warnings
                ));
            }
        }
        if self.spoilt {
            self.repair().map_err(|e| format!("repairing: {e}"))?;
        }
        if self.wasteful {
            self.check_prunes()?;
        }
        let store = self.store().map_err(|e| format!("opening again: {e}"))?;
        self.check_points(&store)?;
        check_clean(&store)?;
        self.check_files(&store)
    }

    /// A quiet prune leaves nothing that nobody needs.
    fn check_prunes(&mut self) -> std::result::Result<(), String> {
        let turns = 2 + usize::from(self.doubled);
        for turn in 1..=turns {
            let report = self.prune().map_err(|e| format!("pruning: {e}"))?;
            let work = report.dead_packs + report.rewritten_packs + report.deleted_packs;
            let left = report.waiting_packs + report.left.len();
            if left > 0 || report.unused_bytes > 0 || turn == turns && work > 0 {
                return Err(format!("a prune leaves something: {report:?}"));
            }
        }
        Ok(())
    }

    /// What is lost is named, everything else is right, the list of what is lost is whole; and when the bytes are seen again
    /// nothing is lost any more.
    fn check_lossy(&mut self) -> std::result::Result<(), String> {
        let list = self.list().map_err(|e| format!("the list: {e}"))?;
        if !self.lists.is_empty() && !self.lists.contains(&list) {
            return Err(format!("the list is neither old nor new: {list:?}"));
        }
        let store = self.store().map_err(|e| format!("opening: {e}"))?;
        let report = verify(&store, false, &Silent).map_err(|e| format!("verifying: {e}"))?;
        for (point, right) in &self.reported {
            let all = all_points(&store).map_err(|e| format!("listing points: {e}"))?;
            if !all.points.contains(point) {
                return Err(format!("point {} is gone", point.record.sequence));
            }
            check_but_for(&store, point, right, &report)?;
        }
        // The machine still has what it had.
        for (point, bytes) in self.reported.clone() {
            let machine = &point.record.machine;
            let healed = self.backup(machine, &bytes, &How::default());
            healed.map_err(|e| format!("the backup that heals: {e}"))?;
        }
        self.repair().map_err(|e| format!("repairing: {e}"))?;
        self.lossy = false;
        let store = self.store().map_err(|e| format!("opening: {e}"))?;
        self.check_points(&store)?;
        check_clean(&store)
    }

    /// Whether every point reads as it was.
    ///
    /// # Errors
    /// What does not.
    pub fn check_points(&self, store: &Arc<Store>) -> std::result::Result<(), String> {
        let listing = all_points(store).map_err(|e| format!("listing points: {e}"))?;
        if !listing.damaged.is_empty() {
            return Err(format!("no points: {:?}", listing.damaged));
        }
        for (point, _) in &self.reported {
            let there = listing.points.iter().any(|found| found.id == point.id);
            let number = point.record.sequence;
            if let Some(done) = self.forgotten.get(&point.id) {
                let path = layout::machine_folder(&point.record.machine);
                let retention = catalog::retention_of(store, &path)
                    .map_err(|e| format!("what was forgotten: {e}"))?;
                if !there && !retention.is_forgotten(number) {
                    return Err(format!("point {number} is gone without a record of it"));
                }
                if there && *done {
                    return Err(format!("point {number} was forgotten and is there"));
                }
            } else if !there {
                return Err(format!(
                    "point {} was reported and is gone",
                    point.record.sequence
                ));
            }
        }
        for point in &listing.points {
            let what = format!(
                "point {} of {}",
                point.record.sequence, point.record.machine
            );
            let bytes = read(store, point).map_err(|e| format!("{what}: {e}"))?;
            let reported = self.reported.iter().find(|(of, _)| of.id == point.id);
            let right = match reported {
                Some((_, right)) => **right == bytes,
                None => {
                    let key = (point.record.machine.clone(), point.record.sequence);
                    self.may
                        .get(&key)
                        .is_some_and(|may| may.iter().any(|may| **may == bytes))
                }
            };
            if !right {
                return Err(format!("{what} has wrong bytes"));
            }
        }
        Ok(())
    }

    /// Nothing lies about that nobody needs.
    fn check_files(&self, store: &Arc<Store>) -> std::result::Result<(), String> {
        let state = store.state();
        let paths = self.machine.paths();
        let below = |folder: &str| -> BTreeSet<String> {
            paths
                .iter()
                .filter(|path| path.starts_with(folder))
                .cloned()
                .collect()
        };
        let live: BTreeSet<_> = store
            .live_packs()
            .iter()
            .map(|row| layout::pack(row.id))
            .collect();
        let packs = below("packs/");
        if packs != live {
            let orphans: Vec<_> = packs.symmetric_difference(&live).collect();
            return Err(format!(
                "packs that are not live, or not there: {orphans:?}"
            ));
        }
        let listed: BTreeSet<_> = state
            .segments
            .iter()
            .map(|row| layout::segment(row.segment()))
            .collect();
        if !listed.is_subset(&below("index/")) {
            return Err("a segment is missing".to_string());
        }
        let sessions = below("sessions/");
        if !sessions.is_empty() {
            return Err(format!("left in sessions: {sessions:?}"));
        }
        Ok(())
    }

    /// As [`check`](World::check), of what is left when everything stops now.
    ///
    /// # Errors
    /// What is not as it must be.
    pub fn check_after(&self, end: End, seed: u64) -> std::result::Result<(), String> {
        self.on(self.machine.after(end, seed)).check()
    }

    /// The same, but the backup that comes next dies too, somewhere, and leaves something of another kind.
    ///
    /// # Errors
    /// What is not as it must be.
    pub fn check_after_two(&self, ends: [End; 2], seed: u64) -> std::result::Result<(), String> {
        let mut world = self.on(self.machine.after(ends[0], seed));
        if !world.made && world.store().is_err() {
            return Ok(());
        }
        world.machine.die_at(seed % 90);
        let _whatever = world.backup("m", &noise(50_000, seed), &How::default());
        world.check_after(ends[1], seed)
    }
}
