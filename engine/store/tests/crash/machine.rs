//! A machine with such a disk: the folder a store writes to, which dies or fails at any call.

use crate::disk::{Dice, Disk, End};
use cairn_base::folder::{Lock, NewFile};
use cairn_base::pages::PreadPages;
use cairn_base::read_at::check_range;
use cairn_base::{Error, Folder, Kind, LockMode, Pages, ReadAt, Result};
use cairn_store::state::State;
use cairn_store::{codec, layout};
use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// What goes wrong at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The number of the first call that fails; only calls that change something are counted if `changes`.
    pub at: u64,
    pub changes: bool,
    /// Whether every later one fails too.
    pub lasting: bool,
    pub kind: Kind,
}

/// What the machine lies about, so that the checks can be checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Lie {
    #[default]
    None,
    /// Syncs of folders do nothing.
    FolderSync,
    /// Syncs of the files of packs do nothing.
    PackSync,
    /// Syncs of small files (states, points, segments) do nothing.
    FileSync,
    /// Packs come into their place only when a point has been published, as if that had been done first.
    PacksLate,
    /// A bit of what is read from packs is wrong.
    WrongBit,
}

#[derive(Default)]
struct Inner {
    disk: Disk,
    /// Holders of locks: how many, and whether one has it alone.
    locks: HashMap<String, (usize, bool)>,
    calls: u64,
    changes: u64,
    /// Number of the changing call before which everything stops.
    dies_at: Option<u64>,
    dead: bool,
    /// Number of the changing call before which the newest slot of the state is lost.
    loses_at: Option<u64>,
    fault: Option<Fault>,
    faults: u64,
    syncs: u64,
    lie: Lie,
    /// Renames that were put off.
    late: Vec<(String, String)>,
}

/// The folder on it. Clones are the same machine.
#[derive(Clone, Default)]
pub struct Machine {
    inner: Arc<(Mutex<Inner>, Condvar)>,
}

impl Machine {
    /// A machine with this disk.
    pub fn with(disk: Disk, lie: Lie) -> Machine {
        let machine = Machine::default();
        machine.lock().disk = disk;
        machine.lock().lie = lie;
        machine
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.0.lock().unwrap()
    }

    /// Everything stops before the changing call number `at`, counted from now.
    pub fn die_at(&self, at: u64) {
        let mut inner = self.lock();
        inner.dies_at = Some(inner.changes + at);
    }

    /// The newest slot of the state is lost before the changing call number `at`, counted from now.
    pub fn lose_slot_at(&self, at: u64) {
        let mut inner = self.lock();
        inner.loses_at = Some(inner.changes + at);
    }

    /// Loses the newest slot of the state, now.
    pub fn lose_slot(&self) {
        self.lock().lose_slot();
    }

    /// Something fails; calls are counted from now.
    pub fn fail(&self, fault: Option<Fault>) {
        let mut inner = self.lock();
        let now = match fault {
            Some(Fault { changes: true, .. }) => inner.changes,
            _ => inner.calls,
        };
        inner.fault = fault.map(|fault| Fault {
            at: fault.at + now,
            ..fault
        });
        inner.faults = 0;
    }

    pub fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// Calls so far: all, those that change something, and those of them that sync.
    pub fn counts(&self) -> (u64, u64, u64) {
        let inner = self.lock();
        (inner.calls, inner.changes, inner.syncs)
    }

    /// Calls that failed since [`fail`](Machine::fail).
    pub fn faults(&self) -> u64 {
        self.lock().faults
    }

    /// What the next process, or the machine after the power came back, finds.
    pub fn after(&self, end: End, seed: u64) -> Machine {
        let inner = self.lock();
        Machine::with(inner.disk.after(end, &mut Dice::new(seed)), inner.lie)
    }

    /// A copy as it is now.
    pub fn copy(&self) -> Machine {
        self.after(End::Killed, 0)
    }

    /// Every file, by its path.
    pub fn paths(&self) -> Vec<String> {
        self.lock().disk.paths().cloned().collect()
    }

    /// Deletes a file, for good.
    pub fn lose(&self, path: &str) {
        let mut inner = self.lock();
        inner.disk.remove(path);
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        inner.disk.sync_folder(folder);
    }

    /// Flips a bit of a file durably: at `at`, or of its last byte if it is shorter.
    pub fn spoil(&self, path: &str, at: u64) {
        let inner = self.lock();
        let file = inner.disk.file(path).unwrap();
        let mut content = inner.disk.content(file).to_vec();
        let at = content.len().saturating_sub(1).min(at as usize);
        content[at] ^= 4;
        drop(inner);
        self.put(path, &content);
    }

    /// Gives a file other content, durably.
    pub fn put(&self, path: &str, bytes: &[u8]) {
        let mut inner = self.lock();
        let file = inner.disk.file(path).unwrap();
        inner.disk.overwrite(file, bytes);
        inner.disk.sync(file);
    }

    /// Begins a call: counts it, and lets it fail if it is its turn.
    fn call(&self, changes: bool, what: &str, path: &str) -> Result<MutexGuard<'_, Inner>> {
        let mut inner = self.lock();
        let number = inner.changes;
        if inner.dead || changes && inner.dies_at == Some(number) {
            inner.dead = true;
            self.inner.1.notify_all();
            return Err(Error::new(Kind::Io, "the power is off").at_path(self.describe(path)));
        }
        if changes && inner.loses_at == Some(number) {
            inner.loses_at = None;
            inner.lose_slot();
        }
        // What was put off is done at the next change after the point is in its place.
        if changes && inner.disk.paths().any(|path| is_point(path)) {
            for (from, to) in std::mem::take(&mut inner.late) {
                inner.disk.rename(&from, &to);
            }
        }
        let (call, change) = (inner.calls, inner.changes);
        inner.calls += 1;
        inner.changes += u64::from(changes);
        inner.syncs += u64::from(what == "sync");
        if let Some(fault) = inner.fault
            && (changes || !fault.changes)
        {
            let number = if fault.changes { change } else { call };
            if number == fault.at || fault.lasting && number > fault.at {
                inner.faults += 1;
                let what = format!("cannot {what}: so says the test");
                return Err(Error::new(fault.kind, what).at_path(self.describe(path)));
            }
        }
        Ok(inner)
    }

    fn missing(&self, path: &str) -> Error {
        Error::not_found("no such file or folder").at_path(self.describe(path))
    }
}

impl Inner {
    fn lose_slot(&mut self) {
        let slots = layout::STATES.iter().filter_map(|name| {
            let content = self.disk.content(self.disk.file(name)?);
            let state: State = codec::open(content).ok()?;
            Some((state.generation, *name))
        });
        if let Some((_, newest)) = slots.max() {
            self.disk.remove(newest);
            self.disk.sync_folder("");
        }
    }
}

fn is_point(path: &str) -> bool {
    let name = path.rsplit_once('/').map_or("", |(_, name)| name);
    path.starts_with("points/") && !layout::is_beside_points(name)
}

struct Open {
    machine: Machine,
    path: String,
    file: u64,
    size: u64,
}

impl ReadAt for Open {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size, offset, buffer.len())?;
        let inner = self.machine.call(false, "read", &self.path)?;
        let start = usize::try_from(offset).unwrap();
        let bytes = inner.disk.content(self.file);
        buffer.copy_from_slice(&bytes[start..start + buffer.len()]);
        if inner.lie == Lie::WrongBit && self.path.starts_with("packs/") && buffer.len() > 100 {
            buffer[70] ^= 4;
        }
        Ok(())
    }
}

struct New {
    machine: Machine,
    path: String,
    file: u64,
}

impl NewFile for New {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        match self.machine.call(true, "write", &self.path) {
            Ok(mut inner) => {
                inner.disk.append(self.file, bytes);
                Ok(())
            }
            Err(error) => {
                // Some of it may be there.
                let mut inner = self.machine.lock();
                if !inner.dead {
                    inner.disk.append(self.file, &bytes[..bytes.len() / 2]);
                }
                Err(error)
            }
        }
    }

    fn sync(&mut self) -> Result<()> {
        let mut inner = self.machine.call(true, "sync", &self.path)?;
        let is_pack = inner.disk.content(self.file).starts_with(b"CAIRNPCK");
        let lies = match inner.lie {
            Lie::PackSync => is_pack,
            Lie::FileSync => !is_pack,
            _ => false,
        };
        if !lies {
            inner.disk.sync(self.file);
        }
        Ok(())
    }
}

struct Held {
    machine: Machine,
    path: String,
    alone: Mutex<bool>,
}

impl Lock for Held {
    fn write_note(&self, note: &[u8]) -> Result<()> {
        let mut inner = self.machine.call(true, "write", &self.path)?;
        if let Some(file) = inner.disk.file(&self.path) {
            inner.disk.overwrite(file, note);
        }
        Ok(())
    }

    fn change(&self, mode: LockMode) -> Result<bool> {
        let mut inner = self.machine.call(false, "lock", &self.path)?;
        let mut alone = self.alone.lock().unwrap();
        let wanted = mode == LockMode::Exclusive;
        let Some(held) = inner.locks.get_mut(&self.path) else {
            return Ok(false);
        };
        if wanted && held.0 > 1 {
            return Ok(false);
        }
        held.1 = wanted;
        *alone = wanted;
        drop(inner);
        self.machine.inner.1.notify_all();
        Ok(true)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut inner = self.machine.lock();
        if let Some(held) = inner.locks.get_mut(&self.path) {
            held.0 -= 1;
            held.1 = false;
            if held.0 == 0 {
                inner.locks.remove(&self.path);
            }
        }
        drop(inner);
        self.machine.inner.1.notify_all();
    }
}

impl Folder for Machine {
    fn list(&self, path: &str) -> Result<Vec<String>> {
        let inner = self.call(false, "list", path)?;
        inner.disk.list(path).ok_or_else(|| self.missing(path))
    }

    fn size(&self, path: &str) -> Result<u64> {
        let inner = self.call(false, "look at", path)?;
        let file = inner.disk.file(path).ok_or_else(|| self.missing(path))?;
        Ok(inner.disk.content(file).len() as u64)
    }

    fn open(&self, path: &str) -> Result<Arc<dyn ReadAt>> {
        let inner = self.call(false, "open", path)?;
        let file = inner.disk.file(path).ok_or_else(|| self.missing(path))?;
        Ok(Arc::new(Open {
            machine: self.clone(),
            path: path.to_string(),
            file,
            size: inner.disk.content(file).len() as u64,
        }))
    }

    fn open_pages(&self, path: &str) -> Result<Arc<dyn Pages>> {
        Ok(Arc::new(PreadPages(self.open(path)?)))
    }

    fn create(&self, path: &str) -> Result<Box<dyn NewFile>> {
        let mut inner = self.call(true, "make", path)?;
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        if !inner.disk.has_folder(folder) {
            return Err(self.missing(path));
        }
        if inner.disk.file(path).is_some() {
            return Err(Error::new(Kind::Exists, "the file is there").at_path(self.describe(path)));
        }
        let file = inner.disk.make(path);
        Ok(Box::new(New {
            machine: self.clone(),
            path: path.to_string(),
            file,
        }))
    }

    fn create_folder(&self, path: &str) -> Result<()> {
        let mut inner = self.call(true, "make", path)?;
        let durably = inner.lie != Lie::FolderSync;
        inner.disk.make_folder(path, durably);
        Ok(())
    }

    fn replace(&self, from: &str, to: &str) -> Result<()> {
        let mut inner = self.call(true, "rename", to)?;
        if inner.disk.rename(from, to) {
            Ok(())
        } else {
            Err(self.missing(from))
        }
    }

    fn publish(&self, from: &str, to: &str) -> Result<()> {
        let mut inner = self.call(true, "rename", to)?;
        if inner.disk.file(to).is_some() {
            return Err(Error::new(Kind::Exists, "the name is taken").at_path(self.describe(to)));
        }
        if inner.lie == Lie::PacksLate && to.starts_with("packs/") {
            inner.late.push((from.to_string(), to.to_string()));
            return Ok(());
        }
        if inner.disk.rename(from, to) {
            Ok(())
        } else {
            Err(self.missing(from))
        }
    }

    fn sync_folder(&self, path: &str) -> Result<()> {
        let mut inner = self.call(true, "sync", path)?;
        if !inner.disk.has_folder(path) {
            return Err(self.missing(path));
        }
        if inner.lie != Lie::FolderSync {
            inner.disk.sync_folder(path);
        }
        Ok(())
    }

    fn remove(&self, path: &str) -> Result<()> {
        self.call(true, "remove", path)?.disk.remove(path);
        Ok(())
    }

    fn remove_folder(&self, path: &str) -> Result<()> {
        let mut inner = self.call(true, "remove", path)?;
        if inner.disk.list(path).is_some_and(|names| !names.is_empty()) {
            return Err(
                Error::new(Kind::Io, "the folder is not empty").at_path(self.describe(path))
            );
        }
        inner.disk.remove_folder(path);
        Ok(())
    }

    fn lock(&self, path: &str, mode: LockMode, wait: bool) -> Result<Option<Box<dyn Lock>>> {
        let alone = mode == LockMode::Exclusive;
        let mut inner = self.call(false, "lock", path)?;
        loop {
            let free = match inner.locks.get(path) {
                None => true,
                Some((_, held_alone)) => !alone && !held_alone,
            };
            if free {
                break;
            }
            if !wait {
                return Ok(None);
            }
            inner = self.inner.1.wait(inner).unwrap();
            if inner.dead {
                return Err(Error::new(Kind::Io, "the power is off"));
            }
        }
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        if !inner.disk.has_folder(folder) {
            return Err(self.missing(path));
        }
        if inner.disk.file(path).is_none() {
            inner.disk.make(path);
        }
        let held = inner.locks.entry(path.to_string()).or_default();
        held.0 += 1;
        held.1 = alone;
        Ok(Some(Box::new(Held {
            machine: self.clone(),
            path: path.to_string(),
            alone: Mutex::new(alone),
        })))
    }

    fn describe(&self, path: &str) -> String {
        format!("/model/{path}")
    }
}
