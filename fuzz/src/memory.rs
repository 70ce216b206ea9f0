//! A folder in memory: quick, and its files can be damaged.

use cairn_base::folder::{Lock, NewFile};
use cairn_base::pages::PreadPages;
use cairn_base::read_at::check_range;
use cairn_base::{Error, Folder, Kind, LockMode, Pages, ReadAt, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

#[derive(Default)]
struct Inner {
    files: BTreeMap<String, Arc<Vec<u8>>>,
    folders: BTreeSet<String>,
    /// Holders of locks: how many, and whether one has it alone.
    locks: HashMap<String, (usize, bool)>,
}

/// A folder whose files lie in memory. Clones are the same folder.
#[derive(Clone, Default)]
pub struct Memory {
    inner: Arc<(Mutex<Inner>, Condvar)>,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.0.lock().unwrap()
    }

    /// The paths of all files.
    pub fn paths(&self) -> Vec<String> {
        self.lock().files.keys().cloned().collect()
    }

    /// The content of a file, if it is there.
    pub fn get(&self, path: &str) -> Option<Vec<u8>> {
        self.lock().files.get(path).map(|bytes| bytes.to_vec())
    }

    /// Makes a file, or gives it other content; who has it open goes on with the old one.
    pub fn put(&self, path: &str, bytes: Vec<u8>) {
        self.lock().files.insert(path.to_string(), Arc::new(bytes));
    }

    fn missing(&self, path: &str) -> Error {
        Error::not_found("no such file or folder").at_path(self.describe(path))
    }

    fn rename(&self, from: &str, to: &str, free: bool) -> Result<()> {
        let mut inner = self.lock();
        if free && inner.files.contains_key(to) {
            return Err(Error::new(Kind::Exists, "the name is taken").at_path(self.describe(to)));
        }
        let file = inner.files.remove(from);
        let file = file.ok_or_else(|| self.missing(from))?;
        inner.files.insert(to.to_string(), file);
        Ok(())
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

struct Open(Arc<Vec<u8>>);

impl ReadAt for Open {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size(), offset, buffer.len())?;
        self.0.read_exact_at(offset, buffer)
    }
}

struct New {
    folder: Memory,
    path: String,
}

impl NewFile for New {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let mut inner = self.folder.lock();
        match inner.files.get_mut(&self.path) {
            Some(file) => Arc::make_mut(file).extend_from_slice(bytes),
            None => return Err(self.folder.missing(&self.path)),
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        Ok(())
    }
}

struct Held {
    folder: Memory,
    path: String,
}

impl Lock for Held {
    fn write_note(&self, note: &[u8]) -> Result<()> {
        self.folder.put(&self.path, note.to_vec());
        Ok(())
    }

    fn change(&self, mode: LockMode) -> Result<bool> {
        let mut inner = self.folder.lock();
        let wanted = mode == LockMode::Exclusive;
        let Some(held) = inner.locks.get_mut(&self.path) else {
            return Ok(false);
        };
        if wanted && held.0 > 1 {
            return Ok(false);
        }
        held.1 = wanted;
        drop(inner);
        self.folder.inner.1.notify_all();
        Ok(true)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut inner = self.folder.lock();
        if let Some(held) = inner.locks.get_mut(&self.path) {
            held.0 -= 1;
            held.1 = false;
            if held.0 == 0 {
                inner.locks.remove(&self.path);
            }
        }
        drop(inner);
        self.folder.inner.1.notify_all();
    }
}

impl Folder for Memory {
    fn list(&self, path: &str) -> Result<Vec<String>> {
        let inner = self.lock();
        if !path.is_empty() && !inner.folders.contains(path) {
            return Err(self.missing(path));
        }
        let names = inner.files.keys().chain(&inner.folders);
        let here = names.filter(|name| !name.is_empty() && parent(name) == path);
        Ok(here
            .map(|name| name.rsplit('/').next().unwrap_or(name).to_string())
            .collect())
    }

    fn size(&self, path: &str) -> Result<u64> {
        Ok(self.open(path)?.size())
    }

    fn open(&self, path: &str) -> Result<Arc<dyn ReadAt>> {
        let inner = self.lock();
        let file = inner.files.get(path).ok_or_else(|| self.missing(path))?;
        Ok(Arc::new(Open(file.clone())))
    }

    fn open_pages(&self, path: &str) -> Result<Arc<dyn Pages>> {
        Ok(Arc::new(PreadPages(self.open(path)?)))
    }

    fn create(&self, path: &str) -> Result<Box<dyn NewFile>> {
        let mut inner = self.lock();
        let folder = parent(path);
        if !folder.is_empty() && !inner.folders.contains(folder) {
            return Err(self.missing(path));
        }
        if inner.files.contains_key(path) {
            return Err(Error::new(Kind::Exists, "the file is there").at_path(self.describe(path)));
        }
        inner.files.insert(path.to_string(), Arc::default());
        Ok(Box::new(New {
            folder: self.clone(),
            path: path.to_string(),
        }))
    }

    fn create_folder(&self, path: &str) -> Result<()> {
        self.lock().folders.insert(path.to_string());
        Ok(())
    }

    fn replace(&self, from: &str, to: &str) -> Result<()> {
        self.rename(from, to, false)
    }

    fn publish(&self, from: &str, to: &str) -> Result<()> {
        self.rename(from, to, true)
    }

    fn sync_folder(&self, path: &str) -> Result<()> {
        if path.is_empty() || self.lock().folders.contains(path) {
            Ok(())
        } else {
            Err(self.missing(path))
        }
    }

    fn remove(&self, path: &str) -> Result<()> {
        self.lock().files.remove(path);
        Ok(())
    }

    fn remove_folder(&self, path: &str) -> Result<()> {
        if self.list(path).is_ok_and(|names| !names.is_empty()) {
            return Err(
                Error::new(Kind::Io, "the folder is not empty").at_path(self.describe(path))
            );
        }
        self.lock().folders.remove(path);
        Ok(())
    }

    fn lock(&self, path: &str, mode: LockMode, wait: bool) -> Result<Option<Box<dyn Lock>>> {
        let alone = mode == LockMode::Exclusive;
        let mut inner = self.lock();
        loop {
            match inner.locks.get(path) {
                None => break,
                Some((_, held_alone)) if !alone && !held_alone => break,
                Some(_) if !wait => return Ok(None),
                Some(_) => inner = self.inner.1.wait(inner).unwrap(),
            }
        }
        inner.files.entry(path.to_string()).or_default();
        let held = inner.locks.entry(path.to_string()).or_default();
        held.0 += 1;
        held.1 = alone;
        Ok(Some(Box::new(Held {
            folder: self.clone(),
            path: path.to_string(),
        })))
    }

    fn describe(&self, path: &str) -> String {
        format!("/memory/{path}")
    }
}
