//! A folder for stores that are only measured: 100,000 points would take longer to sync than to measure.

use cairn_base::folder::{Lock, NewFile};
use cairn_base::{Folder, LocalFolder, LockMode, Pages, ReadAt, Result};
use std::sync::Arc;

/// A folder that syncs nothing.
pub struct Unsynced(pub LocalFolder);

struct UnsyncedFile(Box<dyn NewFile>);

impl NewFile for UnsyncedFile {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.append(bytes)
    }
    fn sync(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Folder for Unsynced {
    fn list(&self, path: &str) -> Result<Vec<String>> {
        self.0.list(path)
    }
    fn size(&self, path: &str) -> Result<u64> {
        self.0.size(path)
    }
    fn open(&self, path: &str) -> Result<Arc<dyn ReadAt>> {
        self.0.open(path)
    }
    fn open_pages(&self, path: &str) -> Result<Arc<dyn Pages>> {
        self.0.open_pages(path)
    }
    fn create(&self, path: &str) -> Result<Box<dyn NewFile>> {
        Ok(Box::new(UnsyncedFile(self.0.create(path)?)))
    }
    fn create_folder(&self, path: &str) -> Result<()> {
        self.0.create_folder(path)
    }
    fn replace(&self, from: &str, to: &str) -> Result<()> {
        self.0.replace(from, to)
    }
    fn publish(&self, from: &str, to: &str) -> Result<()> {
        self.0.publish(from, to)
    }
    fn sync_folder(&self, _path: &str) -> Result<()> {
        Ok(())
    }
    fn remove(&self, path: &str) -> Result<()> {
        self.0.remove(path)
    }
    fn remove_folder(&self, path: &str) -> Result<()> {
        self.0.remove_folder(path)
    }
    fn lock(&self, path: &str, mode: LockMode, wait: bool) -> Result<Option<Box<dyn Lock>>> {
        self.0.lock(path, mode, wait)
    }
    fn describe(&self, path: &str) -> String {
        self.0.describe(path)
    }
}
