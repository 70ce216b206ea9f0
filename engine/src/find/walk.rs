//! One volume, folder by folder, in the order of names.

use crate::compare::names::Names;
use cairn_base::{Error, Result};
use cairn_guest::{DirEntry, EntryId, EntryKind, Volume};

/// Deepest folder that is looked into; a file system with a loop is not followed for ever.
const MAX_DEPTH: usize = 4096;
/// Names in memory: each folder may have half of what its parents leave, and this at least.
const MAX_NAMES: usize = 1 << 17;
const MIN_NAMES: usize = 1 << 10;

/// A folder on its way.
struct Level<'v> {
    names: Names<'v>,
    /// Bytes of the path up to the folder's own name.
    before: usize,
}

/// A walk through a volume. Parents come before what is in them, and the names of a folder in the order of their bytes.
pub struct Walk<'v> {
    volume: &'v dyn Volume,
    path: Vec<u8>,
    levels: Vec<Level<'v>>,
    /// The folder that was told last, and may be gone into.
    folder: Option<(EntryId, usize)>,
    /// How long the path is without the name that was told last.
    told: Option<usize>,
}

impl<'v> Walk<'v> {
    /// Through `volume`, whose own path is `path`.
    pub fn new(volume: &'v dyn Volume, path: Vec<u8>) -> Walk<'v> {
        let before = path.len();
        Walk {
            volume,
            path,
            levels: Vec::new(),
            folder: Some((volume.root(), before)),
            told: None,
        }
    }

    /// The path of what was told last; of a folder's, if that failed.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// What lies in the folder that was told last is passed over.
    pub fn pass_over(&mut self) {
        self.folder = None;
    }

    /// The next entry. After an error it goes on with what can be read.
    ///
    /// # Errors
    /// As [`Volume::read_dir`]; damaged if folders lie in each other in a circle.
    pub fn next(&mut self) -> Result<Option<DirEntry>> {
        if let Some((id, before)) = self.folder.take() {
            self.told = Some(before);
            self.enter(id, before)?;
            self.told = None;
        }
        if let Some(before) = self.told.take() {
            self.path.truncate(before);
        }
        while let Some(level) = self.levels.last_mut() {
            let next = match level.names.next() {
                Ok(next) => next,
                Err(error) => {
                    // The rest of the folder has no names; its path is told until the walk goes on.
                    self.told = self.levels.pop().map(|level| level.before);
                    return Err(error);
                }
            };
            let Some(entry) = next else {
                if let Some(level) = self.levels.pop() {
                    self.path.truncate(level.before);
                }
                continue;
            };
            let before = self.path.len();
            self.path.push(b'/');
            self.path.extend_from_slice(&entry.name);
            self.told = Some(before);
            if entry.kind == EntryKind::Folder {
                self.folder = Some((entry.id, before));
            }
            return Ok(Some(entry));
        }
        Ok(None)
    }

    fn enter(&mut self, folder: EntryId, before: usize) -> Result<()> {
        if self.levels.len() >= MAX_DEPTH {
            return Err(Error::damaged("folders are nested too deeply"));
        }
        if self
            .levels
            .iter()
            .any(|level| level.names.folder() == folder)
        {
            return Err(Error::damaged("the folder lies in itself"));
        }
        let held: usize = self.levels.iter().map(|level| level.names.held()).sum();
        let limit = (MAX_NAMES.saturating_sub(held) / 2).max(MIN_NAMES);
        // What cannot be read of it is told behind what can.
        let names = Names::readable(self.volume, folder, limit);
        self.levels.push(Level { names, before });
        Ok(())
    }
}
