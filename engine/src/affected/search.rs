//! A walk through a volume: which entries lie where something is lost.

use crate::affected::AffectedKind;
use crate::affected::names::Hit;
use crate::affected::ranges::{Covered, Lost, Unused, shared, touched, without};
use cairn_base::{Error, Monitor, Result};
use cairn_guest::{DirEntry, EntryId, EntryKind, Volume};
use cairn_store::VerifyReport;
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

/// Names of a folder that are taken at a time.
const BATCH: usize = 4096;

/// Hears of what is hit.
pub(super) type Hits<'a> = &'a mut dyn FnMut(Hit);

/// The damages by their chunks.
pub(super) struct Chunks(HashMap<String, Vec<usize>>);

impl Chunks {
    pub fn of(report: &VerifyReport, lost: &[Lost]) -> Chunks {
        let mut chunks: HashMap<String, Vec<usize>> = HashMap::new();
        for (_, number) in lost {
            let chunk = report.damaged.get(*number).and_then(|damage| damage.chunk);
            if let Some(chunk) = chunk {
                chunks.entry(chunk.to_string()).or_default().push(*number);
            }
        }
        Chunks(chunks)
    }

    /// Those that an error is about.
    fn numbers(&self, error: &Error) -> Vec<usize> {
        let numbers = error.id().and_then(|id| self.0.get(id));
        numbers.cloned().unwrap_or_default()
    }
}

/// Looks through a volume, of which `lost` is lost: ranges that ascend and are apart. Its folder is `root`.
///
/// # Errors
/// [`Kind::Interrupted`](cairn_base::Kind::Interrupted) on request.
pub(super) fn search(
    volume: &dyn Volume,
    root: &str,
    lost: &[Lost],
    chunks: &Chunks,
    monitor: &dyn Monitor,
    hits: Hits<'_>,
) -> Result<()> {
    let mut search = Search {
        volume,
        lost,
        chunks,
        covered: Covered::default(),
        hits,
    };
    search.walk(root, monitor)?;
    // What belongs to no entry is free, or the file system's own.
    let rest = without(lost, search.covered.ranges());
    let mut unused = Unused::of(&rest);
    let known = volume.free_space(&mut |range| {
        unused.add(&range);
        ControlFlow::Continue(())
    });
    if known.is_err() {
        unused = Unused::of(&rest);
    }
    let [free, used] = unused.split();
    for (kind, (bytes, damages)) in [(AffectedKind::Structure, used), (AffectedKind::Free, free)] {
        if bytes > 0 {
            (search.hits)(Hit {
                path: root.to_string(),
                kind,
                lost: bytes,
                why: None,
                damages,
            });
        }
    }
    Ok(())
}

struct Search<'a> {
    volume: &'a dyn Volume,
    lost: &'a [Lost],
    chunks: &'a Chunks,
    /// What of the lost ranges belongs to entries.
    covered: Covered,
    hits: Hits<'a>,
}

impl Search<'_> {
    fn walk(&mut self, root: &str, monitor: &dyn Monitor) -> Result<()> {
        let mut seen = HashSet::from([self.volume.root()]);
        let mut folders = vec![(self.volume.root(), root.to_string())];
        self.entry(self.volume.root(), root);
        while let Some((folder, path)) = folders.pop() {
            let mut after = Some(0);
            while let Some(cookie) = after {
                if monitor.stop_requested() {
                    return Err(Error::interrupted());
                }
                let (entries, read) = names(self.volume, folder, cookie);
                let is_all = read.is_err() || entries.len() < BATCH;
                // What has a name in spite of an error is looked at.
                after = entries.last().map(|entry| entry.cookie);
                after = after.filter(|next| !is_all && *next != cookie);
                for entry in entries {
                    let path = format!("{path}/{}", String::from_utf8_lossy(&entry.name));
                    self.entry(entry.id, &path);
                    // A damaged folder may lie in itself.
                    if entry.kind == EntryKind::Folder && seen.insert(entry.id) {
                        folders.push((entry.id, path));
                    }
                }
                if let Err(error) = read {
                    self.unreadable(&path, &error);
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, id: EntryId, path: &str) {
        let (lost, covered) = (self.lost, &mut self.covered);
        let mut bytes = 0u64;
        let mut damages: Vec<usize> = Vec::new();
        let known = self.volume.extents(id, &mut |extent| {
            for (range, number) in touched(lost, &extent.place) {
                let both = shared(range, &extent.place);
                bytes = bytes.saturating_add(both.end.saturating_sub(both.start));
                if damages.last() != Some(number) {
                    damages.push(*number);
                }
                covered.add(both);
            }
            ControlFlow::Continue(())
        });
        if bytes > 0 {
            damages.sort_unstable();
            damages.dedup();
            (self.hits)(Hit {
                path: path.to_string(),
                kind: AffectedKind::File,
                lost: bytes,
                why: None,
                damages,
            });
        }
        if let Err(error) = known {
            self.unreadable(path, &error);
        }
    }

    /// Something cannot be read. Only what the store has lost is told, not what the guest had damaged itself.
    fn unreadable(&mut self, path: &str, error: &Error) {
        let damages = self.chunks.numbers(error);
        if !damages.is_empty() {
            (self.hits)(Hit {
                path: path.to_string(),
                kind: AffectedKind::Unreadable,
                lost: 0,
                why: Some(error.to_string()),
                damages,
            });
        }
    }
}

/// Some names of a folder, those behind `after`.
fn names(volume: &dyn Volume, folder: EntryId, after: u64) -> (Vec<DirEntry>, Result<()>) {
    let mut entries = Vec::new();
    let read = volume.read_dir(folder, after, &mut |entry| {
        entries.push(entry);
        if entries.len() < BATCH {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
    (entries, read)
}

#[cfg(test)]
mod tests;
