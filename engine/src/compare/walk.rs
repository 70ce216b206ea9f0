//! Two volumes, folder by folder, in the order of their names.

use crate::compare::content::Places;
use crate::compare::files::{FileChange, FileSink, Found, How, Part, ends};
use crate::compare::names::Names;
use cairn_base::{Error, Monitor, Result};
use cairn_guest::{Attributes, DirEntry, EntryId, EntryKind, Volume};
use std::cmp::Ordering;
use std::ops::ControlFlow;

/// Deepest folder that is looked into; a file system with a loop is not followed for ever.
const MAX_DEPTH: usize = 4096;
/// Names in memory, of one side: each folder may have half of what its parents leave, and this at least.
const MAX_NAMES: usize = 1 << 18;
const MIN_NAMES: usize = 1 << 10;

/// A folder on its way, in one volume or both.
struct Level<'v> {
    names: [Option<Names<'v>>; 2],
    /// Bytes of the path up to the folder's own name.
    path: usize,
}

/// The walk through the two volumes.
pub struct Walk<'v, 's> {
    volumes: [Option<&'v dyn Volume>; 2],
    places: Option<Places<'v>>,
    monitor: &'v dyn Monitor,
    sink: FileSink<'s>,
    path: Vec<u8>,
    levels: Vec<Level<'v>>,
}

impl<'v, 's> Walk<'v, 's> {
    /// Through the older volume and the newer one; one of them may be missing, then there are no `places`.
    pub fn new(
        volumes: [Option<&'v dyn Volume>; 2],
        places: Option<Places<'v>>,
        monitor: &'v dyn Monitor,
        sink: FileSink<'s>,
    ) -> Walk<'v, 's> {
        Walk {
            volumes,
            places,
            monitor,
            sink,
            path: Vec::new(),
            levels: Vec::new(),
        }
    }

    /// All of it; `path` is that of the volumes. Breaks if the sink did.
    ///
    /// # Errors
    /// [`Kind::Interrupted`](cairn_base::Kind::Interrupted) on request.
    pub fn run(&mut self, path: Vec<u8>) -> Result<ControlFlow<()>> {
        self.path = path;
        let roots = self.volumes.map(|volume| volume.map(Volume::root));
        let mut flow = self.enter(roots, self.path.len());
        while flow.is_continue() {
            if self.monitor.stop_requested() {
                return Err(Error::interrupted());
            }
            let Some(level) = self.levels.last_mut() else {
                break;
            };
            let [old, new] = &level.names;
            let next = |names: &Option<Names<'v>>| names.as_ref().and_then(|n| n.peek().cloned());
            let order = match (next(old), next(new)) {
                (None, None) => None,
                (Some(_), None) => Some(Ordering::Less),
                (None, Some(_)) => Some(Ordering::Greater),
                (Some(a), Some(b)) => Some(a.name.cmp(&b.name)),
            };
            flow = match order {
                None => {
                    self.leave();
                    ControlFlow::Continue(())
                }
                Some(order) => self.entry(order)?,
            };
        }
        Ok(flow)
    }

    fn leave(&mut self) {
        if let Some(level) = self.levels.pop() {
            self.path.truncate(level.path);
        }
    }

    /// The entry with the lowest name.
    fn entry(&mut self, order: Ordering) -> Result<ControlFlow<()>> {
        let mut entries = [None, None];
        let wanted = [order != Ordering::Greater, order != Ordering::Less];
        let Some(level) = self.levels.last_mut() else {
            return Ok(ControlFlow::Continue(()));
        };
        for ((names, entry), wanted) in level.names.iter_mut().zip(&mut entries).zip(wanted) {
            let Some(names) = names.as_mut().filter(|_| wanted) else {
                continue;
            };
            match names.next() {
                Ok(next) => *entry = next,
                Err(error) => {
                    // The rest of the folder has no names.
                    let folder = self.path.clone();
                    self.leave();
                    return self.problem(folder, error);
                }
            }
        }
        let before = self.path.len();
        let name = entries
            .iter()
            .flatten()
            .next()
            .map(|entry| entry.name.clone());
        self.path.push(b'/');
        self.path.extend(name.unwrap_or_default());
        let depth = self.levels.len();
        let flow = self.compare(entries, before);
        if self.levels.len() == depth {
            self.path.truncate(before);
        }
        flow
    }

    fn compare(
        &mut self,
        entries: [Option<DirEntry>; 2],
        before: usize,
    ) -> Result<ControlFlow<()>> {
        match entries {
            [Some(old), Some(new)] => self.both(&old, &new, before),
            [Some(old), None] => self.one(0, How::Removed, &old, before),
            [None, Some(new)] => self.one(1, How::Added, &new, before),
            [None, None] => Ok(ControlFlow::Continue(())),
        }
    }

    fn attributes(&self, side: usize, entry: &DirEntry) -> Result<Attributes> {
        match self.volumes.get(side).copied().flatten() {
            Some(volume) => volume.attributes(entry.id),
            None => Err(Error::invalid("there is no volume on this side")),
        }
    }

    /// An entry that is on one side only, and what is below it.
    fn one(
        &mut self,
        side: usize,
        how: How,
        entry: &DirEntry,
        before: usize,
    ) -> Result<ControlFlow<()>> {
        let attributes = self.attributes(side, entry);
        let mut sizes = [None; 2];
        if let (Some(size), Ok(attributes)) = (sizes.get_mut(side), &attributes) {
            *size = size_of(attributes);
        }
        let change = FileChange {
            path: self.path.clone(),
            how,
            kind: attributes.as_ref().map_or(entry.kind, |a| a.kind),
            sizes,
            parts: Vec::new(),
        };
        let is_folder = change.kind == EntryKind::Folder;
        if (self.sink)(Found::Change(change)).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        if let Err(error) = attributes {
            return self.problem(self.path.clone(), error);
        }
        let mut folders = [None; 2];
        if let Some(folder) = folders.get_mut(side) {
            *folder = is_folder.then_some(entry.id);
        }
        Ok(if is_folder {
            self.enter(folders, before)
        } else {
            ControlFlow::Continue(())
        })
    }

    fn both(&mut self, old: &DirEntry, new: &DirEntry, before: usize) -> Result<ControlFlow<()>> {
        let (a, b) = match (self.attributes(0, old), self.attributes(1, new)) {
            (Ok(a), Ok(b)) => (a, b),
            (Err(error), _) | (_, Err(error)) => return self.problem(self.path.clone(), error),
        };
        if a.kind != b.kind {
            // At most one of the two is a folder, so that the other one adds no level.
            let [first, second] = if a.kind == EntryKind::Folder {
                [1, 0]
            } else {
                [0, 1]
            };
            for side in [first, second] {
                let (how, entry) = if side == 0 {
                    (How::Removed, old)
                } else {
                    (How::Added, new)
                };
                let flow = self.one(side, how, entry, before)?;
                if flow.is_break() {
                    return Ok(flow);
                }
            }
            return Ok(ControlFlow::Continue(()));
        }
        let mut parts = Vec::new();
        let compared = self.parts([old.id, new.id], &a, &b, &mut parts);
        parts.sort_unstable();
        if !parts.is_empty() {
            let change = FileChange {
                path: self.path.clone(),
                how: How::Changed,
                kind: b.kind,
                sizes: [size_of(&a), size_of(&b)],
                parts,
            };
            if (self.sink)(Found::Change(change)).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        if let Err(error) = compared
            && self.problem(self.path.clone(), error)?.is_break()
        {
            return Ok(ControlFlow::Break(()));
        }
        Ok(if b.kind == EntryKind::Folder {
            self.enter([Some(old.id), Some(new.id)], before)
        } else {
            ControlFlow::Continue(())
        })
    }

    /// What is not the same, as far as it can be read.
    fn parts(
        &self,
        ids: [EntryId; 2],
        a: &Attributes,
        b: &Attributes,
        parts: &mut Vec<Part>,
    ) -> Result<()> {
        let mut differ = |part: Part, differs: bool| {
            if differs {
                parts.push(part);
            }
        };
        let is_folder = b.kind == EntryKind::Folder;
        differ(Part::Size, !is_folder && a.size != b.size);
        differ(Part::Modified, !is_folder && a.modified != b.modified);
        differ(Part::Changed, !is_folder && a.changed != b.changed);
        differ(Part::Mode, (a.mode, a.dos_flags) != (b.mode, b.dos_flags));
        differ(Part::Owner, (a.uid, a.gid) != (b.uid, b.gid));
        differ(Part::Device, a.device != b.device);
        let Some(places) = &self.places else {
            return Ok(());
        };
        let [old, new] = ids;
        let (before, after) = (places.old.volume, places.new.volume);
        if b.kind == EntryKind::Symlink && before.read_link(old)? != after.read_link(new)? {
            parts.push(Part::Content);
        }
        if b.kind == EntryKind::File {
            let streams = before.streams(old)? != after.streams(new)?;
            if streams {
                parts.push(Part::Streams);
            }
            if streams || a.size != b.size || !places.same_content(ids, b.size)? {
                parts.push(Part::Content);
            }
        }
        Ok(())
    }

    /// Goes into folders that have the same path, which ends the path now; `before` is how long it was without their name.
    fn enter(&mut self, folders: [Option<EntryId>; 2], before: usize) -> ControlFlow<()> {
        if self.levels.len() >= MAX_DEPTH {
            let error = Error::damaged("folders are too deep, or lie in each other in a circle");
            return (self.sink)(Found::Problem(self.path.clone(), error));
        }
        let mut names = [None, None];
        for (side, folder) in folders.into_iter().enumerate() {
            let volume = self.volumes.get(side).copied().flatten();
            let (Some(volume), Some(folder), Some(names)) = (volume, folder, names.get_mut(side))
            else {
                continue;
            };
            let above = self
                .levels
                .iter()
                .filter_map(|level| level.names.get(side)?.as_ref());
            let (mut circle, mut held) = (false, 0usize);
            for other in above {
                circle |= other.folder() == folder;
                held += other.held();
            }
            let limit = (MAX_NAMES.saturating_sub(held) / 2).max(MIN_NAMES);
            let found = if circle {
                Err(Error::damaged("the folder lies in itself"))
            } else {
                Names::of(volume, folder, limit)
            };
            match found {
                Ok(found) => *names = Some(found),
                Err(error) => {
                    let flow = (self.sink)(Found::Problem(self.path.clone(), error));
                    self.path.truncate(before);
                    return flow;
                }
            }
        }
        self.levels.push(Level {
            names,
            path: before,
        });
        ControlFlow::Continue(())
    }

    /// Names what cannot be compared.
    fn problem(&mut self, path: Vec<u8>, error: Error) -> Result<ControlFlow<()>> {
        if ends(&error) {
            return Err(error);
        }
        Ok((self.sink)(Found::Problem(path, error)))
    }
}

fn size_of(attributes: &Attributes) -> Option<u64> {
    matches!(attributes.kind, EntryKind::File | EntryKind::Symlink).then_some(attributes.size)
}
