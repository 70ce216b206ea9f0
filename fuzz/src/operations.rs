//! Random work: machines change their disks, back them up in every way, are restored and verified, files are damaged, the store is
//! opened anew; beside it a plain model, the bytes of every point. What is given out is right, whatever happened; and as long
//! as nothing was damaged, everything works.

use crate::memory::Memory;
use cairn_base::read_at::read_vec;
use cairn_base::{Clock, ReadAt, Result, Silent, Time};
use cairn_store::catalog::all_points;
use cairn_store::{
    BackupOptions, Change, ChangeSource, Changes, ChunkReader, CutParameters, DiskInput,
    ImageFacts, Point, Store, StoredDisk, Tree, backup, stats, verify,
};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Steps of one run.
const MAX_STEPS: usize = 48;
/// Machines.
const MACHINES: usize = 3;
/// Largest disk: more than two regions, so that maps have nodes.
const MAX_DISK: usize = 9 << 20;

struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now(&self) -> Time {
        Time::from_seconds(self.0.fetch_add(60, Ordering::Relaxed))
    }
}

/// The bytes that say what happens; zeros when there are none left.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> usize {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                usize::from(*first)
            }
            None => 0,
        }
    }

    /// A number up to 2^24.
    fn large(&mut self) -> usize {
        self.byte() | self.byte() << 8 | self.byte() << 16
    }
}

#[derive(Default)]
struct Machine {
    disk: Vec<u8>,
    /// Its latest point, and what changed since.
    latest: Option<Point>,
    changed: Vec<Range<u64>>,
}

struct World {
    folder: Memory,
    store: Arc<Store>,
    clock: Ticking,
    machines: Vec<Machine>,
    points: Vec<(Point, Arc<Vec<u8>>)>,
    /// Equal disks have equal maps.
    roots: HashMap<blake3::Hash, [u8; 32]>,
    /// Files were changed behind the store's back.
    damaged: bool,
}

/// A run of operations; answers whether there were points in the end.
pub fn operations(data: &[u8]) -> bool {
    let mut script = Script(data);
    let cut = match script.byte() % 3 {
        0 => CutParameters::FastCdc {
            min: 2048,
            average: 8192,
            max: 32768,
        },
        1 => CutParameters::default(),
        _ => CutParameters::Fixed { size: 4096 },
    };
    let folder = Memory::default();
    let clock = Ticking(AtomicI64::new(1_800_000_000));
    let store = Arc::new(Store::create(Arc::new(folder.clone()), cut, &clock).unwrap());
    let mut world = World {
        folder,
        store,
        clock,
        machines: (0..MACHINES).map(|_| Machine::default()).collect(),
        points: Vec::new(),
        roots: HashMap::new(),
        damaged: false,
    };
    for _ in 0..MAX_STEPS {
        if script.0.is_empty() {
            break;
        }
        world.step(&mut script);
    }
    world.check_all();
    !world.points.is_empty()
}

impl World {
    fn step(&mut self, script: &mut Script<'_>) {
        let (what, machine) = (script.byte(), script.byte() % MACHINES);
        match what % 16 {
            0..=4 => self.change_disk(machine, script),
            5 | 6 => self.back_up(machine, false, script.byte()),
            7..=9 => self.back_up(machine, true, script.byte()),
            10 => self.two_at_once(machine, script.byte()),
            11 => self.read_somewhere(script),
            12 => self.verify(script.byte() & 1 == 0),
            13 => self.reopen(),
            14 => self.read_all_of_one(script),
            _ => self.damage(script),
        }
    }

    fn change_disk(&mut self, machine: usize, script: &mut Script<'_>) {
        let (how, at, length) = (script.byte(), script.large(), script.large());
        let other = self.machines[script.byte() % MACHINES].disk.clone();
        let this = &mut self.machines[machine];
        let before = this.disk.len();
        if how % 8 == 7 || before == 0 {
            let size = at % if how > 200 { MAX_DISK } else { 200_000 };
            this.disk.resize(size, 0);
            let all = before.min(size) as u64..size as u64;
            this.changed.push(all);
            return;
        }
        let start = at % before;
        let end = start + (length % 90_000).min(before - start);
        let target = &mut this.disk[start..end];
        match how % 8 {
            0 | 1 => target.fill(0),
            2 => target.fill(how as u8),
            3 | 4 if other.len() >= end => target.copy_from_slice(&other[start..end]),
            // Moved, so that cuts must find it.
            5 if other.len() >= target.len() => {
                let length = target.len();
                target.copy_from_slice(&other[..length]);
            }
            _ => {
                let mut hasher = blake3::Hasher::new();
                hasher.update(&(at as u64).to_le_bytes());
                hasher.finalize_xof().fill(target);
            }
        }
        this.changed.push(start as u64..end as u64);
    }

    fn input(&self, machine: usize, with_changes: bool, how: usize) -> (DiskInput, BackupOptions) {
        let this = &self.machines[machine];
        let mut options = BackupOptions::new(format!("m{machine}"));
        options.threads = 1 + how % 2;
        options.checkpoint = if how.is_multiple_of(5) { 3 } else { 1 << 19 };
        let mut changes = None;
        if with_changes && let Some(latest) = &this.latest {
            options.base = Some(latest.id);
            let size = this.disk.len() as u64;
            let ranges = this.changed.iter().map(|range| Change {
                range: range.start.min(size)..range.end.min(size),
                zero: false,
            });
            changes = Some(ChangeSource::Caller(Arc::new(
                Changes::new(size, ranges).unwrap(),
            )));
        }
        let disk = DiskInput {
            name: "disk0".to_string(),
            source: Arc::new(this.disk.clone()),
            facts: ImageFacts::default(),
            changed: None,
            changes,
        };
        (disk, options)
    }

    fn back_up(&mut self, machine: usize, with_changes: bool, how: usize) {
        let (disk, options) = self.input(machine, with_changes, how);
        let made = backup(&self.store, &[disk], &options, &Silent, &self.clock);
        self.note(machine, made.map(|report| report.point));
    }

    fn two_at_once(&mut self, machine: usize, how: usize) {
        let pair = [machine, (machine + 1) % MACHINES];
        let inputs = pair.map(|machine| self.input(machine, how & 1 != 0, how));
        let (store, clock) = (&self.store, &self.clock);
        let made: Vec<Result<Point>> = std::thread::scope(|scope| {
            let threads = inputs.map(|(disk, options)| {
                scope.spawn(move || backup(store, &[disk], &options, &Silent, clock))
            });
            let joined = threads.map(|thread| thread.join().unwrap());
            joined.map(|made| made.map(|report| report.point)).into()
        });
        for (machine, made) in pair.into_iter().zip(made) {
            self.note(machine, made);
        }
    }

    fn note(&mut self, machine: usize, made: Result<Point>) {
        let this = &mut self.machines[machine];
        let point = match made {
            Ok(point) => point,
            Err(error) => {
                assert!(self.damaged, "a backup failed: {error}");
                return;
            }
        };
        // Of another size than its base, it is read as a whole.
        let mut warnings = point.record.warnings.iter();
        let resized = |warning: &String| warning.contains("the change information was not used");
        assert!(
            self.damaged || warnings.all(resized),
            "{:?}",
            point.record.warnings
        );
        let root = point.record.disks[0].root;
        let content = blake3::hash(&this.disk);
        let known = self.roots.entry(content).or_insert(root);
        assert_eq!(*known, root, "equal disks have equal maps");
        this.changed.clear();
        this.latest = Some(point.clone());
        self.points.push((point, Arc::new(this.disk.clone())));
    }

    /// Opens a point's disk; `None` if it cannot be, which only damage explains.
    fn open(&self, point: &Point) -> Option<StoredDisk> {
        let reader = Arc::new(ChunkReader::new(self.store.clone(), 1 << 20));
        let disk = StoredDisk::new(Tree::new(reader, &point.record.disks[0]).unwrap());
        Some(disk)
    }

    /// Whether these bytes of the point can be had. If so they are right.
    fn is_right(&self, at: usize, range: Range<usize>) -> bool {
        let (point, expected) = &self.points[at];
        let Some(disk) = self.open(point) else {
            return false;
        };
        assert_eq!(disk.size(), expected.len() as u64);
        match read_vec(&disk, range.start as u64, range.len()) {
            Ok(bytes) => {
                assert!(bytes == expected[range], "wrong bytes were given out");
                true
            }
            Err(error) => {
                assert!(self.damaged, "a point cannot be read: {error}");
                false
            }
        }
    }

    fn read_somewhere(&self, script: &mut Script<'_>) {
        let (which, at, length) = (script.byte(), script.large(), script.large());
        if self.points.is_empty() {
            return;
        }
        let which = which % self.points.len();
        let (point, expected) = &self.points[which];
        let start = at % (expected.len() + 1);
        let end = (start + length % 70_000).min(expected.len());
        self.is_right(which, start..end);
        // What is said to hold nothing is zeros.
        if let Some(disk) = self.open(point)
            && let Ok(extents) = disk.data_extents(start as u64..end as u64)
        {
            let mut at = start;
            for extent in extents {
                assert!(expected[at..extent.start as usize].iter().all(|b| *b == 0));
                at = extent.end as usize;
            }
            assert!(expected[at..end].iter().all(|b| *b == 0));
        }
    }

    fn read_all_of_one(&self, script: &mut Script<'_>) {
        if !self.points.is_empty() {
            let which = script.byte() % self.points.len();
            self.is_right(which, 0..self.points[which].1.len());
        }
    }

    fn verify(&self, quick: bool) {
        match verify(&self.store, quick, &Silent) {
            Ok(report) => assert!(self.damaged || report.is_clean(), "{report:?}"),
            Err(error) => assert!(self.damaged, "{error}"),
        }
    }

    fn reopen(&mut self) {
        match Store::open(Arc::new(self.folder.clone())) {
            Ok(store) => self.store = Arc::new(store),
            Err(error) => assert!(self.damaged, "{error}"),
        }
    }

    /// Something happens to a file of the store. One copy of what there are several of stays whole.
    fn damage(&mut self, script: &mut Script<'_>) {
        let (how, which, at) = (script.byte(), script.byte(), script.large());
        let mut paths = self.folder.paths();
        paths.retain(|path| {
            ["packs/", "index/", "points/"]
                .iter()
                .any(|f| path.starts_with(f))
                && !path.ends_with("/lock")
                || path == "header.1"
        });
        // Half of the runs go without.
        if how & 0x80 == 0 || paths.is_empty() {
            return;
        }
        self.damaged = true;
        let path = &paths[which % paths.len()];
        let Some(mut bytes) = self.folder.get(path).filter(|bytes| !bytes.is_empty()) else {
            return;
        };
        let at = at % bytes.len();
        match how % 4 {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << (how >> 2 & 7),
            2 => {
                let end = (at + 600).min(bytes.len());
                bytes[at..end].fill(0);
            }
            _ => {
                use cairn_base::Folder;
                self.folder.remove(path).unwrap();
                return;
            }
        }
        self.folder.put(path, bytes);
    }

    /// What was found damaged counts as absent: a backup that sees everything stores it anew, so its points can be read.
    fn heal(&mut self) {
        for machine in 0..MACHINES {
            let before = self.points.len();
            self.back_up(machine, false, machine);
            for which in before..self.points.len() {
                let whole = self.is_right(which, 0..self.points[which].1.len());
                assert!(
                    whole,
                    "a backup after a verification relies on what is damaged"
                );
            }
        }
    }

    /// In the end: what can be read is right, by the store as it is and by one that is opened anew; a verification sees what cannot.
    fn check_all(&mut self) {
        for _ in 0..2 {
            let mut all = true;
            for which in 0..self.points.len() {
                all &= self.is_right(which, 0..self.points[which].1.len());
            }
            if !all {
                let report = verify(&self.store, false, &Silent);
                assert!(
                    report.is_ok_and(|report| !report.is_clean()),
                    "damage goes unseen"
                );
            }
            self.reopen();
        }
        self.verify(false);
        self.heal();
        self.verify(true);
        if let Ok(listing) = all_points(&self.store) {
            for point in &listing.points {
                assert!(self.points.iter().any(|(known, _)| known == point));
            }
            assert!(self.damaged || listing.points.len() == self.points.len());
        }
        let counted = stats(&self.store, &self.clock);
        assert!(self.damaged || counted.is_ok());
    }
}
