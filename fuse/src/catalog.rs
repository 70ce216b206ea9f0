//! Machines and points as they are now, and the points that are open.
//!
//! What can change is looked up again after a second, by the names of files: a point costs nothing until it is entered. No lock is held over all machines or points while the store
//! is read: each machine and each point has its own.

use crate::changes::{self, Changes};
use crate::extents;
use crate::failure::{Failure, Result};
use crate::inode::{Hash, PointKey};
use cairn::{
    DiskView, Error, Kind, MachineLayout, MachineView, Point, PointFile, PointId, PointView, Store,
    Time, names,
};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

/// How long a listing is believed.
const BELIEVED: Duration = Duration::from_secs(1);
/// How long a listing waits for drive letters.
const LETTERS: Duration = Duration::from_secs(3);
/// Machines whose points are remembered.
const MACHINES: usize = 64;
/// Points kept open for whoever comes next. Each volume of each keeps up to some 10 MiB of the guest's structures, so it is not many; what is in use, or the kernel may
/// use, is open beside these.
const OPEN_POINTS: usize = 16;

/// Something that cannot be read, told in a file of its own.
#[derive(Debug, Clone)]
pub struct Complaint {
    /// The file's name, ending in `.error`.
    pub name: String,
    /// What is wrong: sentences, and a newline.
    pub text: String,
}

/// The machines of a store.
#[derive(Debug, Default)]
pub struct Machines {
    /// Their names, sorted.
    pub names: Vec<Arc<str>>,
    /// Machines of which neither the name nor a point can be read.
    pub complaints: Vec<Complaint>,
    /// When they were last seen to change; the time of the mount if they were not.
    pub changed: Time,
}

/// The points of a machine as the names of their files tell them.
#[derive(Debug, Default)]
pub struct Points {
    /// Oldest first.
    pub points: Vec<PointFile>,
    /// The latest that is no import, if it can be read.
    pub latest: Option<PointFile>,
    /// Files that are not named like points.
    pub complaints: Vec<Complaint>,
    /// When they were last seen to change; the time of the newest if they were not.
    pub changed: Time,
}

/// The disks of a point or image that is open.
pub struct OpenPoint {
    disks: Vec<Arc<DiskView>>,
    machine: Arc<MachineView>,
    allocated: Vec<OnceLock<u64>>,
    /// Keeps what the disks stand on from being deleted.
    view: Option<PointView>,
}

impl OpenPoint {
    fn of_point(view: PointView) -> OpenPoint {
        OpenPoint {
            disks: view.disks().to_vec(),
            machine: view.machine().clone(),
            allocated: view.disks().iter().map(|_| OnceLock::new()).collect(),
            view: Some(view),
        }
    }

    /// Images that are the disks of one machine.
    pub fn of_images(disks: Vec<DiskView>) -> OpenPoint {
        let disks: Vec<Arc<DiskView>> = disks.into_iter().map(Arc::new).collect();
        OpenPoint {
            machine: Arc::new(MachineView::new(disks.clone())),
            allocated: disks.iter().map(|_| OnceLock::new()).collect(),
            disks,
            view: None,
        }
    }

    /// The point; none for an image.
    pub fn view(&self) -> Option<&PointView> {
        self.view.as_ref()
    }

    /// Its disks, in order.
    pub fn disks(&self) -> &[Arc<DiskView>] {
        &self.disks
    }

    /// What its disks are together, or nothing while a disk does not answer: nobody waits for it without end, see [`MachineView::layout_within`].
    pub fn layout_soon(&self) -> Option<Arc<MachineLayout>> {
        self.machine.layout_within(LETTERS)
    }

    /// The disk at a position.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if there are not so many.
    pub fn disk(&self, position: u16) -> Result<&Arc<DiskView>> {
        self.disks
            .get(usize::from(position))
            .ok_or_else(|| Error::not_found("the point has no such disk").into())
    }

    /// About how many bytes of a disk are data, see [`extents::allocated`]; found out once.
    pub fn allocated(&self, position: u16) -> u64 {
        let position = usize::from(position);
        match (self.disks.get(position), self.allocated.get(position)) {
            (Some(disk), Some(cell)) => *cell.get_or_init(|| extents::allocated(&**disk.disk())),
            _ => 0,
        }
    }
}

/// Something that is looked up under a lock of its own.
type Cell<T> = Arc<Mutex<Option<T>>>;
/// What was found, and when.
type Dated<T> = (Instant, Arc<T>);

/// A store as the mount sees it.
pub struct Catalog {
    store: Store,
    machines: Mutex<Option<Dated<Machines>>>,
    points: Mutex<HashMap<String, Cell<Dated<Points>>>>,
    open: Mutex<OpenPoints>,
    /// All points that are open, for whomever.
    alive: Mutex<Vec<(PointId, Weak<OpenPoint>)>>,
    changes: Changes,
    /// When it was mounted.
    born: Time,
}

#[derive(Default)]
struct OpenPoints {
    cells: HashMap<PointId, Kept>,
    clock: u64,
}

/// A point that is kept open for whoever comes next.
struct Kept {
    key: PointKey,
    cell: Cell<Arc<OpenPoint>>,
    /// Not while it is being opened.
    is_open: bool,
    /// When it was last asked for, by the clock of requests.
    used: u64,
}

impl OpenPoints {
    /// Notes whether the point that `cell` is the place of could be opened, and gives back what is kept no longer: the place, or the point that was not used for longest if there
    /// are too many.
    #[must_use]
    fn settle(&mut self, id: &PointId, cell: &Cell<Arc<OpenPoint>>, opened: bool) -> Option<Kept> {
        let kept = self.cells.get_mut(id)?;
        // The place may have been given up and made anew meanwhile, or the point opened by the next who tried: then it is another's affair.
        if kept.is_open || !Arc::ptr_eq(&kept.cell, cell) {
            return None;
        }
        if !opened {
            return self.cells.remove(id);
        }
        kept.is_open = true;
        let open = self.cells.iter().filter(|(_, kept)| kept.is_open);
        if open.clone().count() <= OPEN_POINTS {
            return None;
        }
        let oldest = open.min_by_key(|(_, kept)| kept.used).map(|(id, _)| *id)?;
        self.cells.remove(&oldest)
    }
}

impl Catalog {
    /// Of a store.
    pub fn new(store: Store) -> Catalog {
        Catalog {
            store,
            machines: Mutex::new(None),
            points: Mutex::new(HashMap::new()),
            open: Mutex::new(OpenPoints::default()),
            alive: Mutex::default(),
            changes: Changes::default(),
            born: changes::now(),
        }
    }

    /// The machines, at most a second old.
    ///
    /// # Errors
    /// As [`Store::machines`].
    pub fn machines(&self) -> Result<Arc<Machines>> {
        let mut held = self.machines.lock();
        if let Some((when, machines)) = &*held
            && when.elapsed() < BELIEVED
        {
            return Ok(machines.clone());
        }
        let (names, errors) = self.store.machines()?;
        let complaints: Vec<_> = errors.iter().map(complaint).collect();
        let mut content = content_of(&complaints);
        for name in &names {
            content.add(name.as_bytes());
        }
        // No machine is called so.
        let changed = self.changes.note("", content.value(), self.born);
        let machines = Arc::new(Machines {
            names: names.into_iter().map(Arc::from).collect(),
            complaints,
            changed,
        });
        *held = Some((Instant::now(), machines.clone()));
        Ok(machines)
    }

    /// A machine's name as it is spelled; none if there is no such machine.
    ///
    /// # Errors
    /// As [`Store::machine_name`].
    pub fn machine(&self, name: &str) -> Result<Option<Arc<str>>> {
        if names::check_machine(name).is_err() {
            return Ok(None);
        }
        Ok(self.store.machine_name(name)?.map(Arc::from))
    }

    /// The points of a machine, at most a second old.
    ///
    /// # Errors
    /// As [`Store::point_names`].
    pub fn points(&self, machine: &str) -> Result<Arc<Points>> {
        let cell = self.points_cell(machine);
        let mut held = cell.lock();
        if let Some((when, points)) = &*held
            && when.elapsed() < BELIEVED
        {
            return Ok(points.clone());
        }
        let before = held.as_ref().and_then(|(_, points)| points.latest);
        let points = Arc::new(self.list_points(machine, before)?);
        *held = Some((Instant::now(), points.clone()));
        Ok(points)
    }

    fn points_cell(&self, machine: &str) -> Cell<Dated<Points>> {
        let mut cells = self.points.lock();
        if cells.len() >= MACHINES && !cells.contains_key(machine) {
            cells.clear();
        }
        cells.entry(machine.to_string()).or_default().clone()
    }

    fn list_points(&self, machine: &str, before: Option<PointFile>) -> Result<Points> {
        let listed = self.store.point_names(machine)?;
        // The catalog's own rule, and its refusal where the newest cannot be read: then there is no link, rather than one to an
        // older point than asked for. A record never changes: once read, it is known as long as its name is there.
        let newest = listed.latest().ok().flatten().copied();
        let known = |file: &PointFile| {
            before == Some(*file) || self.store.read_point(machine, file).is_ok()
        };
        let latest = newest.filter(known);
        let complaints: Vec<_> = listed.damaged.iter().map(complaint).collect();
        let mut content = content_of(&complaints);
        for file in listed.points.iter().chain(&latest) {
            content.add(&file.id.0);
        }
        let newest = listed.points.last().map_or(self.born, PointFile::time);
        Ok(Points {
            changed: self.changes.note(machine, content.value(), newest),
            latest,
            complaints,
            points: listed.points,
        })
    }

    /// A point, opened if it is not.
    ///
    /// # Errors
    /// [`Failure::Gone`] if it was forgotten; as [`Store::open_point`].
    pub fn open(&self, key: &PointKey) -> Result<Arc<OpenPoint>> {
        let cell = self.open_cell(key);
        let mut held = cell.lock();
        if let Some(open) = &*held {
            return Ok(open.clone());
        }
        let opened = match self.alive(&key.id) {
            Some(open) => Ok(open),
            None => self
                .file(key)
                .and_then(|file| self.open_file(&key.machine, &file)),
        };
        *held = opened.as_ref().ok().cloned();
        drop(held);
        // Only now: one that cannot be opened takes no other one's room. Closing may take a while: not under the lock.
        let closed = self.open.lock().settle(&key.id, &cell, opened.is_ok());
        drop(closed);
        opened
    }

    /// The point, if it is open for whomever.
    fn alive(&self, id: &PointId) -> Option<Arc<OpenPoint>> {
        let alive = self.alive.lock();
        let mut same = alive.iter().filter(|(of, _)| of == id);
        same.find_map(|(_, point)| point.upgrade())
    }

    /// A point for a short while: the one that is open, or one that no other has to make room for.
    ///
    /// # Errors
    /// As [`open`](Catalog::open).
    pub fn open_apart(&self, machine: &str, file: &PointFile) -> Result<Arc<OpenPoint>> {
        match self.alive(&file.id) {
            Some(open) => Ok(open),
            None => self.open_file(machine, file),
        }
    }

    fn open_file(&self, machine: &str, file: &PointFile) -> Result<Arc<OpenPoint>> {
        let point = self.read_point(machine, file).map_err(if_gone)?;
        let view = self.store.open_point(&point).map_err(if_gone)?;
        let open = Arc::new(OpenPoint::of_point(view));
        let mut alive = self.alive.lock();
        alive.retain(|(_, point)| point.strong_count() > 0);
        alive.push((file.id, Arc::downgrade(&open)));
        Ok(open)
    }

    /// The record of a point.
    ///
    /// # Errors
    /// As [`Store::read_point`].
    pub fn read_point(&self, machine: &str, file: &PointFile) -> Result<Point, Error> {
        self.store.read_point(machine, file)
    }

    /// Ends the sessions of all points that are open, see [`PointView::leave`].
    pub fn leave(&self) {
        let alive = self.alive.lock().clone();
        for point in alive.iter().filter_map(|(_, point)| point.upgrade()) {
            if let Some(view) = point.view() {
                view.leave();
            }
        }
    }

    /// Whether the store has the point no more.
    ///
    /// # Errors
    /// As [`points`](Catalog::points).
    pub fn is_forgotten(&self, key: &PointKey) -> Result<bool> {
        let points = self.points(&key.machine)?;
        Ok(points.points.iter().all(|file| file.id != key.id))
    }

    /// Keeps no point open for whoever comes next that the store has no more. Where the store cannot be read just now, it is as if it had them.
    pub fn close_forgotten(&self) {
        let open = self.open.lock();
        let mut keys: Vec<PointKey> = open.cells.values().map(|kept| kept.key.clone()).collect();
        drop(open);
        keys.retain(|key| self.is_forgotten(key).unwrap_or(false));
        for key in keys {
            let closed = self.open.lock().cells.remove(&key.id);
            // Closing may take a while: not under the lock.
            drop(closed);
        }
    }

    /// The place of a point that is open, or about to be.
    fn open_cell(&self, key: &PointKey) -> Cell<Arc<OpenPoint>> {
        let mut open = self.open.lock();
        open.clock = open.clock.saturating_add(1);
        let now = open.clock;
        let kept = open.cells.entry(key.id).or_insert_with(|| Kept {
            key: key.clone(),
            cell: Cell::default(),
            is_open: false,
            used: now,
        });
        kept.used = now;
        kept.cell.clone()
    }

    /// The file of a point: by a listing of any age, because files never change, or by a new one.
    fn file(&self, key: &PointKey) -> Result<PointFile> {
        let of = |points: &Points| points.points.iter().find(|file| file.id == key.id).copied();
        let cell = self.points_cell(&key.machine);
        let known = cell.lock().as_ref().and_then(|(_, points)| of(points));
        if let Some(file) = known {
            return Ok(file);
        }
        let gone = || Error::not_found("the point is not in the store any more").with_id(key.id);
        of(&*self.points(&key.machine)?).ok_or_else(|| Failure::Gone(gone()))
    }
}

fn if_gone(error: Error) -> Failure {
    match error.kind() {
        Kind::NotFound => Failure::Gone(error),
        _ => Failure::Engine(error),
    }
}

/// The beginning of a hash of what a list holds.
fn content_of(complaints: &[Complaint]) -> Hash {
    let mut hash = Hash::new();
    for complaint in complaints {
        hash.add(complaint.name.as_bytes());
    }
    hash
}

/// The file that tells of something that is no point.
fn complaint(error: &Error) -> Complaint {
    let name = match error.id().and_then(|id| id.get(..16)) {
        Some(prefix) => format!("{prefix}.error"),
        None => {
            let hash = Hash::new().add(error.to_string().as_bytes()).value();
            format!("unreadable-{hash:016x}.error")
        }
    };
    Complaint {
        name,
        text: explain("This recovery point is not listed", error),
    }
}

/// What an `*.error` file says: what is missing, why, and what to do.
pub fn explain(missing: &str, error: &Error) -> String {
    let advice = match error.kind() {
        Kind::Damaged | Kind::NotFound => {
            "What is damaged in the store is listed by `cairn verify`; what was damaged in the guest is kept as it was."
        }
        Kind::Unsupported => "The whole disk is under `disks/`, for tools that can read it.",
        // No key fits: the error says which would.
        Kind::Denied if error.advice().is_some() => "Unmount and mount again with what is wanted.",
        // Nor is there one that would, and no file of this machine is denied.
        Kind::Denied if error.path().is_none() => return format!("{missing}: {error}.\n"),
        Kind::Io | Kind::Denied => "See the system's log, and whether the store can be read.",
        Kind::Exists | Kind::Invalid | Kind::Full | Kind::Busy | Kind::Interrupted => {
            "Unmount and mount again to try once more."
        }
    };
    format!("{missing}: {error}.\n{advice}\n")
}
