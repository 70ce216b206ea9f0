//! An entry and everything below it, folder by folder: parents before what is in them.

use crate::copy::item::Item;
use cairn_base::{Error, Kind, Monitor, Result, Stage};
use cairn_guest::{DirEntry, EntryId, EntryKind, Volume};
use std::collections::{HashSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Deepest folder copied.
const MAX_DEPTH: usize = 4096;
/// Names in memory of each of the first folders on the way down, and of those that lie deeper.
const BATCH: usize = 512;
const DEEP_BATCH: usize = 8;
const DEEP: usize = 64;

/// What takes the entries.
pub trait Takes {
    /// One entry of the folder that came to `folder`. Of a folder: where what is in it goes; none if it is passed over.
    ///
    /// # Errors
    /// Why it was not taken.
    fn take(&mut self, folder: &[u8], name: &[u8], item: &Item) -> Result<Option<Vec<u8>>>;

    /// Something was not taken. The rest is, unless this answers an error.
    ///
    /// # Errors
    /// [`Kind::Interrupted`], and whatever else makes it useless to go on.
    fn missed(&mut self, folder: &[u8], name: &[u8], error: Error) -> Result<()>;
}

/// Gives `id` and everything below it: a folder, then all that is in it, then what comes behind it.
///
/// # Errors
/// [`Kind::Interrupted`] on request; as [`Takes::missed`].
pub fn give(
    volume: &Arc<dyn Volume>,
    id: EntryId,
    (folder, name): (&[u8], &[u8]),
    monitor: &dyn Monitor,
    to: &mut dyn Takes,
) -> Result<()> {
    // In a sound file system a folder has one name: one that comes twice lies in itself, or in two places.
    let mut seen: HashSet<EntryId> = HashSet::new();
    let mut levels: Vec<Level> = Vec::new();
    if let Some(path) = one(volume, id, (folder, name, 0), to, &mut seen)? {
        levels.push(Level::new(id, path));
    }
    while let Some(depth) = levels.len().checked_sub(1) {
        if monitor.stop_requested() {
            return Err(Error::interrupted());
        }
        let Some(level) = levels.last_mut() else {
            break;
        };
        let Some(entry) = level.names.pop_front() else {
            match level.read(&**volume, depth) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => {
                    let path = std::mem::take(&mut level.path);
                    to.missed(&path, b"", error.context("it was copied in part"))?;
                }
            }
            levels.pop();
            continue;
        };
        let place = (&level.path[..], &entry.name[..], depth + 1);
        if let Some(path) = one(volume, entry.id, place, to, &mut seen)? {
            levels.push(Level::new(entry.id, path));
        }
    }
    Ok(())
}

/// A folder on its way.
struct Level {
    id: EntryId,
    /// Where it went.
    path: Vec<u8>,
    names: VecDeque<DirEntry>,
    /// Where to go on; none if there is no more.
    after: Option<u64>,
    /// What could not be read comes behind what could.
    failed: Option<Error>,
}

impl Level {
    fn new(id: EntryId, path: Vec<u8>) -> Level {
        Level {
            id,
            path,
            names: VecDeque::new(),
            after: Some(0),
            failed: None,
        }
    }

    /// Reads the next names; `false` if there are none.
    fn read(&mut self, volume: &dyn Volume, depth: usize) -> Result<bool> {
        let Some(after) = self.after.take() else {
            return self.failed.take().map_or(Ok(false), Err);
        };
        let limit = if depth < DEEP { BATCH } else { DEEP_BATCH };
        let names = &mut self.names;
        let read = volume.read_dir(self.id, after, &mut |entry| {
            names.push_back(entry);
            if names.len() < limit {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        match read {
            Err(error) => self.failed = Some(error),
            Ok(()) if names.len() >= limit => self.after = names.back().map(|last| last.cookie),
            Ok(()) => {}
        }
        if self.names.is_empty() {
            return self.failed.take().map_or(Ok(false), Err);
        }
        Ok(true)
    }
}

/// Gives one entry. Answers where it went, if it is a folder that is gone into.
fn one(
    volume: &Arc<dyn Volume>,
    id: EntryId,
    (folder, name, depth): (&[u8], &[u8], usize),
    to: &mut dyn Takes,
    seen: &mut HashSet<EntryId>,
) -> Result<Option<Vec<u8>>> {
    let taken = Item::of(volume, id).and_then(|item| {
        if item.attributes.kind == EntryKind::Folder {
            if depth >= MAX_DEPTH {
                return Err(Error::damaged("folders are nested too deeply"));
            }
            if !seen.insert(id) {
                return Err(Error::damaged("the folder lies in several places"));
            }
        }
        to.take(folder, name, &item)
    });
    match taken {
        Err(error) if error.kind() == Kind::Interrupted => Err(error),
        Err(error) => to.missed(folder, name, error).map(|()| None),
        taken => taken,
    }
}

/// Bytes of the files below `id`, to say how much there is to do. What cannot be read counts nothing.
///
/// # Errors
/// [`Kind::Interrupted`] on request.
pub fn bytes_below(volume: &Arc<dyn Volume>, id: EntryId, monitor: &dyn Monitor) -> Result<u64> {
    struct Count<'a>(u64, &'a dyn Monitor);
    impl Takes for Count<'_> {
        fn take(&mut self, _: &[u8], _: &[u8], item: &Item) -> Result<Option<Vec<u8>>> {
            if item.attributes.kind == EntryKind::File {
                self.0 = self.0.saturating_add(item.attributes.size);
                self.1.advance(Stage::Count, item.attributes.size);
            }
            Ok((item.attributes.kind == EntryKind::Folder).then(Vec::new))
        }
        fn missed(&mut self, _: &[u8], _: &[u8], _: Error) -> Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0, monitor);
    give(volume, id, (b"", b""), monitor, &mut count)?;
    Ok(count.0)
}
