//! A folder that counts the calls to it, and at one of them does something else: fails, or lets others do their work.

use cairn_base::folder::{Lock, NewFile};
use cairn_base::{Error, Folder, FolderStamp, Kind, LocalFolder, LockMode, Pages, ReadAt, Result};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

type Hook = Box<dyn FnOnce() + Send>;

/// What happens at a call.
#[derive(Default)]
struct Watch {
    calls: AtomicU64,
    /// The first call that fails, and the first one after that which does not.
    fails: Mutex<Option<(u64, u64)>>,
    hook: Mutex<Option<(u64, Hook)>>,
    /// The numbers of the calls that change something.
    changes: Mutex<Vec<u64>>,
    /// How often the length of a pack was asked for.
    looks: AtomicU64,
    /// Locks taken, folders synced and files published, in order.
    log: Mutex<Vec<String>>,
    /// Runs when the first file of a session's folder is made.
    on_create: Mutex<Option<Hook>>,
}

impl Watch {
    fn change(&self) -> Result<()> {
        let number = self.calls.load(Ordering::SeqCst);
        self.changes.lock().unwrap().push(number);
        self.call()
    }

    fn call(&self) -> Result<()> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        let hook = {
            let mut slot = self.hook.lock().unwrap();
            match slot.take() {
                Some((at, hook)) if at == number => Some(hook),
                other => {
                    *slot = other;
                    None
                }
            }
        };
        if let Some(hook) = hook {
            hook();
        }
        match *self.fails.lock().unwrap() {
            Some((from, to)) if (from..to).contains(&number) => {
                Err(Error::new(Kind::Io, "the disk fails, says the test"))
            }
            _ => Ok(()),
        }
    }
}

#[derive(Clone)]
pub struct WatchedFolder {
    inner: LocalFolder,
    watch: Arc<Watch>,
}

impl WatchedFolder {
    pub fn new(path: &Path) -> WatchedFolder {
        WatchedFolder {
            inner: LocalFolder::new(path),
            watch: Arc::default(),
        }
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.watch.calls.load(Ordering::SeqCst)
    }

    /// How often the length of a pack was asked for so far.
    pub fn looks(&self) -> u64 {
        self.watch.looks.load(Ordering::SeqCst)
    }

    /// The numbers of the calls so far that change something.
    pub fn changes(&self) -> Vec<u64> {
        self.watch.changes.lock().unwrap().clone()
    }

    /// Locks taken, folders synced and files published so far, in order.
    pub fn log(&self) -> Vec<String> {
        self.watch.log.lock().unwrap().clone()
    }

    /// Runs `hook` before the next file of a session's folder is made, in the thread that makes it.
    pub fn on_create(&self, hook: impl FnOnce() + Send + 'static) {
        *self.watch.on_create.lock().unwrap() = Some(Box::new(hook));
    }

    fn note(&self, what: &str, path: &str) {
        self.watch
            .log
            .lock()
            .unwrap()
            .push(format!("{what} {path}"));
    }

    /// From now on the calls `from..to`, counted from here, fail.
    pub fn fail(&self, from: u64, to: u64) {
        let now = self.calls();
        *self.watch.fails.lock().unwrap() = Some((now + from, now.saturating_add(to)));
    }

    /// Runs `hook` before the call number `at`, counted from here.
    pub fn before(&self, at: u64, hook: impl FnOnce() + Send + 'static) {
        *self.watch.hook.lock().unwrap() = Some((self.calls() + at, Box::new(hook)));
    }

    /// Whether the hook was not reached.
    pub fn waits(&self) -> bool {
        self.watch.hook.lock().unwrap().is_some()
    }
}

struct WatchedFile(Box<dyn NewFile>, Arc<Watch>);

impl NewFile for WatchedFile {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.1.change()?;
        self.0.append(bytes)
    }

    fn sync(&mut self) -> Result<()> {
        self.1.change()?;
        self.0.sync()
    }
}

struct WatchedRead(Arc<dyn ReadAt>, Arc<Watch>);

impl ReadAt for WatchedRead {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.1.call()?;
        self.0.read_exact_at(offset, buffer)
    }
}

impl Folder for WatchedFolder {
    fn list(&self, path: &str) -> Result<Vec<String>> {
        self.watch.call()?;
        self.inner.list(path)
    }

    /// Made of the names, so that no clock is needed.
    fn stamp(&self, path: &str) -> Result<Option<FolderStamp>> {
        let mut names = self.list(path)?;
        names.sort();
        let mut hasher = DefaultHasher::new();
        names.hash(&mut hasher);
        Ok(Some(FolderStamp {
            folder: (0, hasher.finish()),
            times: [(0, 0); 2],
        }))
    }

    fn size(&self, path: &str) -> Result<u64> {
        self.watch.call()?;
        let look = u64::from(path.starts_with("packs/"));
        self.watch.looks.fetch_add(look, Ordering::SeqCst);
        self.inner.size(path)
    }

    fn open(&self, path: &str) -> Result<Arc<dyn ReadAt>> {
        self.watch.call()?;
        let file = self.inner.open(path)?;
        Ok(Arc::new(WatchedRead(file, self.watch.clone())))
    }

    fn open_pages(&self, path: &str) -> Result<Arc<dyn Pages>> {
        self.watch.call()?;
        self.inner.open_pages(path)
    }

    fn create(&self, path: &str) -> Result<Box<dyn NewFile>> {
        self.watch.change()?;
        if path.starts_with("sessions/") {
            let hook = self.watch.on_create.lock().unwrap().take();
            if let Some(hook) = hook {
                hook();
            }
        }
        let file = self.inner.create(path)?;
        Ok(Box::new(WatchedFile(file, self.watch.clone())))
    }

    fn create_folder(&self, path: &str) -> Result<()> {
        self.watch.change()?;
        self.inner.create_folder(path)
    }

    fn replace(&self, from: &str, to: &str) -> Result<()> {
        self.watch.change()?;
        self.inner.replace(from, to)
    }

    fn publish(&self, from: &str, to: &str) -> Result<()> {
        self.watch.change()?;
        self.note("publish", to);
        self.inner.publish(from, to)
    }

    fn sync_folder(&self, path: &str) -> Result<()> {
        self.watch.change()?;
        self.note("sync", path);
        self.inner.sync_folder(path)
    }

    fn remove(&self, path: &str) -> Result<()> {
        self.watch.change()?;
        self.inner.remove(path)
    }

    fn remove_folder(&self, path: &str) -> Result<()> {
        self.watch.change()?;
        self.inner.remove_folder(path)
    }

    fn lock(&self, path: &str, mode: LockMode, wait: bool) -> Result<Option<Box<dyn Lock>>> {
        self.watch.call()?;
        self.note("lock", path);
        self.inner.lock(path, mode, wait)
    }

    fn describe(&self, path: &str) -> String {
        self.inner.describe(path)
    }
}
