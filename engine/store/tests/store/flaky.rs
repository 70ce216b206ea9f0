//! A folder that cannot read some things for a while.

use cairn_base::folder::{Lock, NewFile};
use cairn_base::pages::PreadPages;
use cairn_base::{Error, Folder, LocalFolder, LockMode, Pages, ReadAt, Result, Space};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Whether a file cannot be opened (an empty range) or read there.
type Rule = Box<dyn FnMut(&str, Range<u64>) -> bool + Send>;

/// What is the matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Too many files are open: it says nothing of the bytes.
    TooMany,
    /// The disk does not give the sector, this time.
    Sector,
}

impl Why {
    fn error(self) -> Error {
        let code = match self {
            Why::TooMany => 24,
            Why::Sector => 5,
        };
        let error = std::io::Error::from_raw_os_error(code);
        Error::io("cannot read", Path::new("/flaky"), error)
    }
}

struct Trouble {
    why: Why,
    rule: Mutex<Rule>,
    is_over: AtomicBool,
}

impl Trouble {
    fn meet(&self, path: &str, range: Range<u64>) -> Result<()> {
        if !self.is_over.load(Ordering::SeqCst) && (self.rule.lock().unwrap())(path, range) {
            return Err(self.why.error());
        }
        Ok(())
    }
}

#[derive(Clone)]
pub struct FlakyFolder {
    inner: LocalFolder,
    trouble: Arc<Trouble>,
    free: Option<u64>,
}

impl FlakyFolder {
    pub fn new(
        path: &Path,
        why: Why,
        rule: impl FnMut(&str, Range<u64>) -> bool + Send + 'static,
    ) -> FlakyFolder {
        FlakyFolder {
            inner: LocalFolder::new(path),
            trouble: Arc::new(Trouble {
                why,
                rule: Mutex::new(Box::new(rule)),
                is_over: AtomicBool::new(false),
            }),
            free: None,
        }
    }

    /// One that can read all, and says that so many bytes are free.
    pub fn with_free(path: &Path, free: u64) -> FlakyFolder {
        FlakyFolder {
            free: Some(free),
            ..FlakyFolder::new(path, Why::Sector, |_, _| false)
        }
    }

    /// All is well for now, or not any more.
    pub fn rest(&self, is_over: bool) {
        self.trouble.is_over.store(is_over, Ordering::SeqCst);
    }
}

struct FlakyFile {
    inner: Arc<dyn ReadAt>,
    path: String,
    trouble: Arc<Trouble>,
}

impl ReadAt for FlakyFile {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let end = offset + buffer.len() as u64;
        self.trouble.meet(&self.path, offset..end)?;
        self.inner.read_exact_at(offset, buffer)
    }
}

impl Folder for FlakyFolder {
    fn list(&self, path: &str) -> Result<Vec<String>> {
        self.inner.list(path)
    }

    fn size(&self, path: &str) -> Result<u64> {
        self.inner.size(path)
    }

    fn open(&self, path: &str) -> Result<Arc<dyn ReadAt>> {
        self.trouble.meet(path, 0..0)?;
        Ok(Arc::new(FlakyFile {
            inner: self.inner.open(path)?,
            path: path.to_string(),
            trouble: self.trouble.clone(),
        }))
    }

    fn open_pages(&self, path: &str) -> Result<Arc<dyn Pages>> {
        Ok(Arc::new(PreadPages(self.open(path)?)))
    }

    fn create(&self, path: &str) -> Result<Box<dyn NewFile>> {
        self.inner.create(path)
    }

    fn create_folder(&self, path: &str) -> Result<()> {
        self.inner.create_folder(path)
    }

    fn replace(&self, from: &str, to: &str) -> Result<()> {
        self.inner.replace(from, to)
    }

    fn publish(&self, from: &str, to: &str) -> Result<()> {
        self.inner.publish(from, to)
    }

    fn sync_folder(&self, path: &str) -> Result<()> {
        self.inner.sync_folder(path)
    }

    fn remove(&self, path: &str) -> Result<()> {
        self.inner.remove(path)
    }

    fn remove_folder(&self, path: &str) -> Result<()> {
        self.inner.remove_folder(path)
    }

    fn lock(&self, path: &str, mode: LockMode, wait: bool) -> Result<Option<Box<dyn Lock>>> {
        self.inner.lock(path, mode, wait)
    }

    fn space(&self) -> Result<Option<Space>> {
        let space = |free| Space { free, total: free };
        Ok(self.free.map(space))
    }

    fn describe(&self, path: &str) -> String {
        self.inner.describe(path)
    }
}
