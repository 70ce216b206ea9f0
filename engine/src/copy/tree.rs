//! An entry and everything below it, folder by folder: parents before what is in them.

use crate::copy::item::Item;
use cairn_base::{Error, Kind, Monitor, Result, Stage};
use cairn_guest::{DirEntry, EntryId, EntryKind, Volume};
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Deepest folder copied.
const MAX_DEPTH: usize = 4096;
/// Names of a folder in memory.
const BATCH: usize = 512;

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

/// Gives `id` and everything below it.
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
    let mut waiting = Vec::new();
    one(volume, id, (folder, name, 0), to, &mut seen, &mut waiting)?;
    while let Some((id, path, depth)) = waiting.pop() {
        let mut after = 0;
        loop {
            let (batch, read) = names(&**volume, id, after);
            for entry in &batch {
                if monitor.stop_requested() {
                    return Err(Error::interrupted());
                }
                let place = (&path[..], &entry.name[..], depth + 1);
                one(volume, entry.id, place, to, &mut seen, &mut waiting)?;
            }
            if let Err(error) = read {
                to.missed(&path, b"", error.context("it was copied in part"))?;
                break;
            }
            match batch.last() {
                Some(last) if batch.len() == BATCH => after = last.cookie,
                _ => break,
            }
        }
    }
    Ok(())
}

/// A folder that waits to be looked into: where it went, and how deep it is.
type Waiting = (EntryId, Vec<u8>, usize);

fn one(
    volume: &Arc<dyn Volume>,
    id: EntryId,
    (folder, name, depth): (&[u8], &[u8], usize),
    to: &mut dyn Takes,
    seen: &mut HashSet<EntryId>,
    waiting: &mut Vec<Waiting>,
) -> Result<()> {
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
        Ok(Some(path)) => waiting.push((id, path, depth)),
        Ok(None) => {}
        Err(error) if error.kind() == Kind::Interrupted => return Err(error),
        Err(error) => to.missed(folder, name, error)?,
    }
    Ok(())
}

/// Some names, and whether all that were asked for could be read.
fn names(volume: &dyn Volume, folder: EntryId, after: u64) -> (Vec<DirEntry>, Result<()>) {
    let mut batch = Vec::new();
    let read = volume.read_dir(folder, after, &mut |entry| {
        batch.push(entry);
        match batch.len() {
            BATCH => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    });
    (batch, read)
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
