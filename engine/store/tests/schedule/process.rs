//! A process on a machine: it can be killed at any of its calls while others go on, and others can do something between any two of them.

use crate::machine::Machine;
use cairn_base::folder::{Lock, NewFile};
use cairn_base::pages::PreadPages;
use cairn_base::{Error, Folder, Kind, LockMode, Pages, ReadAt, Result};
use cairn_store::layout::{HOST_LOCK, PUBLISH_LOCK};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What is done between two calls of a process, by others.
pub struct Beside {
    /// After so many more calls.
    pub after: u64,
    pub act: Box<dyn FnOnce() + Send>,
}

#[derive(Default)]
struct Life {
    dead: AtomicBool,
    changes: AtomicU64,
    /// Number of the changing call at which it is killed, and 0 if it is not.
    dies_at: AtomicU64,
    beside: Mutex<VecDeque<Beside>>,
}

/// The folder as one process sees it. Clones are the same process.
#[derive(Clone)]
pub struct Process {
    machine: Machine,
    life: Arc<Life>,
}

impl Process {
    pub fn new(machine: &Machine) -> Process {
        Process {
            machine: machine.clone(),
            life: Arc::default(),
        }
    }

    /// It is killed at the changing call number `call`, counted from now: the first is 1.
    pub fn die_at(&self, call: u64) {
        let now = self.changes();
        self.life.dies_at.store(now + call, Ordering::SeqCst);
    }

    /// It is not killed any more, if it lives.
    pub fn spare(&self) {
        self.life.dies_at.store(0, Ordering::SeqCst);
    }

    /// Dies now.
    pub fn kill(&self) {
        self.life.dead.store(true, Ordering::SeqCst);
    }

    pub fn is_dead(&self) -> bool {
        self.life.dead.load(Ordering::SeqCst) || self.machine.is_dead()
    }

    /// Calls so far that change something.
    pub fn changes(&self) -> u64 {
        self.life.changes.load(Ordering::SeqCst)
    }

    /// What is done between its next calls, in this order; nothing any more, if empty.
    pub fn beside(&self, acts: VecDeque<Beside>) {
        *self.life.beside.lock().unwrap() = acts;
    }

    /// Begins a call.
    fn call(&self, changes: bool) -> Result<()> {
        self.let_others();
        if changes {
            let number = self.life.changes.fetch_add(1, Ordering::SeqCst) + 1;
            let dies_at = self.life.dies_at.load(Ordering::SeqCst);
            if dies_at != 0 && number >= dies_at {
                self.kill();
            }
        }
        if self.is_dead() {
            return Err(Error::new(Kind::Io, "the process was killed"));
        }
        Ok(())
    }

    fn let_others(&self) {
        let next = {
            let mut beside = self.life.beside.lock().unwrap();
            match beside.front_mut() {
                Some(next) if next.after > 0 => {
                    next.after -= 1;
                    None
                }
                Some(_) if self.is_calm() => beside.pop_front(),
                _ => None,
            }
        };
        if let Some(next) = next {
            (next.act)();
        }
    }

    /// Whether nobody has a lock that others wait for: they would wait for ever, in this very thread.
    fn is_calm(&self) -> bool {
        let free = |path, mode| matches!(self.machine.lock(path, mode, false), Ok(Some(_)));
        free(PUBLISH_LOCK, LockMode::Exclusive) && free(HOST_LOCK, LockMode::Shared)
    }
}

/// A file or a lock, in use by a process.
struct Of<T> {
    process: Process,
    inner: T,
}

impl ReadAt for Of<Arc<dyn ReadAt>> {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.process.call(false)?;
        self.inner.read_exact_at(offset, buffer)
    }
}

impl NewFile for Of<Box<dyn NewFile>> {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let lived = !self.process.is_dead();
        let called = self.process.call(true);
        if called.is_err() && lived {
            // Some of it may be there.
            let _half = self.inner.append(&bytes[..bytes.len() / 2]);
        }
        called?;
        self.inner.append(bytes)
    }

    fn sync(&mut self) -> Result<()> {
        self.process.call(true)?;
        self.inner.sync()
    }
}

impl Lock for Of<Box<dyn Lock>> {
    fn write_note(&self, note: &[u8]) -> Result<()> {
        self.process.call(true)?;
        self.inner.write_note(note)
    }

    fn change(&self, mode: LockMode) -> Result<bool> {
        self.process.call(false)?;
        self.inner.change(mode)
    }
}

impl Process {
    fn own<T>(&self, inner: T) -> Of<T> {
        Of {
            process: self.clone(),
            inner,
        }
    }
}

impl Folder for Process {
    fn list(&self, path: &str) -> Result<Vec<String>> {
        self.call(false)?;
        self.machine.list(path)
    }

    fn size(&self, path: &str) -> Result<u64> {
        self.call(false)?;
        self.machine.size(path)
    }

    fn open(&self, path: &str) -> Result<Arc<dyn ReadAt>> {
        self.call(false)?;
        Ok(Arc::new(self.own(self.machine.open(path)?)))
    }

    fn open_pages(&self, path: &str) -> Result<Arc<dyn Pages>> {
        Ok(Arc::new(PreadPages(self.open(path)?)))
    }

    fn create(&self, path: &str) -> Result<Box<dyn NewFile>> {
        self.call(true)?;
        Ok(Box::new(self.own(self.machine.create(path)?)))
    }

    fn create_folder(&self, path: &str) -> Result<()> {
        self.call(true)?;
        self.machine.create_folder(path)
    }

    fn replace(&self, from: &str, to: &str) -> Result<()> {
        self.call(true)?;
        self.machine.replace(from, to)
    }

    fn publish(&self, from: &str, to: &str) -> Result<()> {
        self.call(true)?;
        self.machine.publish(from, to)
    }

    fn sync_folder(&self, path: &str) -> Result<()> {
        self.call(true)?;
        self.machine.sync_folder(path)
    }

    fn remove(&self, path: &str) -> Result<()> {
        self.call(true)?;
        self.machine.remove(path)
    }

    fn remove_folder(&self, path: &str) -> Result<()> {
        self.call(true)?;
        self.machine.remove_folder(path)
    }

    fn lock(&self, path: &str, mode: LockMode, wait: bool) -> Result<Option<Box<dyn Lock>>> {
        self.call(false)?;
        let lock = Folder::lock(&self.machine, path, mode, wait)?;
        Ok(lock.map(|lock| Box::new(self.own(lock)) as Box<dyn Lock>))
    }

    fn describe(&self, path: &str) -> String {
        self.machine.describe(path)
    }
}
