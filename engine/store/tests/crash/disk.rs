//! A disk that forgets: what it holds now, what of that is durable, and what may be left of the rest when the power fails.
//!
//! The model, which is what ext4 and XFS promise and no more:
//! - Bytes of a file are durable after a sync of the file. Of what was written since, any sectors of 512 bytes may have reached the disk
//!   and any may not, and the file's length is the old one, the new one, or something in between; what was never written reads as zeros.
//! - A name that was made, renamed or removed is durable after a sync of the folder it lies in (of the new one, for a rename). What was not
//!   synced may or may not have happened, each on its own or in the order of a journal. A rename happens as a whole.
//! - Syncing a file says nothing of its name; syncing a folder says nothing of the files in it.
//! - A process that is killed loses nothing that was written, only its locks.

use std::collections::{BTreeMap, BTreeSet, HashMap};

const SECTOR: usize = 512;

/// Numbers that are always the same for the same seed (SplitMix64).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap()
    }

    pub fn toss(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

/// What is left when everything stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The process was killed: all that was written is there.
    Killed,
    /// The power failed, and nothing but what was synced is there.
    Synced,
    /// The power failed, and of names the first so many changes are there, as with a journal; of bytes anything.
    Journal,
    /// The power failed, and anything that was not synced may be there or not.
    Anything,
}

#[derive(Clone, Default)]
struct File {
    now: Vec<u8>,
    durable: Vec<u8>,
}

/// A change of names that was not synced yet.
#[derive(Clone)]
enum Change {
    Made(String),
    Renamed(String, String),
    Removed(String),
    FolderRemoved(String),
}

impl Change {
    /// The folder whose sync makes it durable.
    fn home(&self) -> &str {
        match self {
            Change::Made(path) | Change::Removed(path) | Change::FolderRemoved(path) => {
                parent(path)
            }
            Change::Renamed(_, to) => parent(to),
        }
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

#[derive(Clone, Default)]
struct Names {
    files: BTreeMap<String, u64>,
    folders: BTreeSet<String>,
}

impl Names {
    /// Applies a change to what is durable; `file` is which file it is about.
    fn apply(&mut self, change: &Change, file: Option<u64>) {
        match (change, file) {
            (Change::Made(path), Some(file)) => {
                self.files.insert(path.clone(), file);
            }
            (Change::Renamed(from, to), Some(file)) => {
                if self.files.get(from) == Some(&file) {
                    self.files.remove(from);
                }
                self.files.insert(to.clone(), file);
            }
            (Change::Removed(path), Some(file)) if self.files.get(path) == Some(&file) => {
                self.files.remove(path);
            }
            (Change::FolderRemoved(path), _) => {
                let inside = format!("{path}/");
                if !self.files.keys().any(|name| name.starts_with(&inside)) {
                    self.folders.remove(path);
                }
            }
            _ => {}
        }
    }
}

/// The disk.
#[derive(Clone, Default)]
pub struct Disk {
    files: HashMap<u64, File>,
    now: Names,
    durable: Names,
    pending: Vec<(Change, Option<u64>)>,
    next: u64,
}

impl Disk {
    pub fn list(&self, folder: &str) -> Option<Vec<String>> {
        if !folder.is_empty() && !self.now.folders.contains(folder) {
            return None;
        }
        let prefix = if folder.is_empty() {
            String::new()
        } else {
            format!("{folder}/")
        };
        let names = self.now.files.keys().chain(&self.now.folders);
        let inside = names.filter_map(|name| name.strip_prefix(&prefix));
        Some(
            inside
                .filter(|name| !name.is_empty() && !name.contains('/'))
                .map(String::from)
                .collect(),
        )
    }

    /// Every file, by its path.
    pub fn paths(&self) -> impl Iterator<Item = &String> {
        self.now.files.keys()
    }

    pub fn has_folder(&self, path: &str) -> bool {
        path.is_empty() || self.now.folders.contains(path)
    }

    pub fn file(&self, path: &str) -> Option<u64> {
        self.now.files.get(path).copied()
    }

    pub fn content(&self, file: u64) -> &[u8] {
        self.files.get(&file).map_or(&[], |file| &file.now)
    }

    pub fn make(&mut self, path: &str) -> u64 {
        self.next += 1;
        let file = self.next;
        self.files.insert(file, File::default());
        self.now.files.insert(path.to_string(), file);
        self.pending
            .push((Change::Made(path.to_string()), Some(file)));
        file
    }

    /// As [`Folder::create_folder`](cairn_base::Folder::create_folder) promises: the name is durable.
    pub fn make_folder(&mut self, path: &str, durably: bool) {
        self.now.folders.insert(path.to_string());
        if durably {
            self.durable.folders.insert(path.to_string());
        }
    }

    pub fn append(&mut self, file: u64, bytes: &[u8]) {
        self.files
            .entry(file)
            .or_default()
            .now
            .extend_from_slice(bytes);
    }

    pub fn overwrite(&mut self, file: u64, bytes: &[u8]) {
        self.files.entry(file).or_default().now = bytes.to_vec();
    }

    pub fn sync(&mut self, file: u64) {
        if let Some(file) = self.files.get_mut(&file) {
            file.durable = file.now.clone();
        }
    }

    /// The caller has looked whether `to` may be replaced.
    pub fn rename(&mut self, from: &str, to: &str) -> bool {
        let Some(file) = self.now.files.remove(from) else {
            return false;
        };
        self.now.files.insert(to.to_string(), file);
        self.pending.push((
            Change::Renamed(from.to_string(), to.to_string()),
            Some(file),
        ));
        true
    }

    pub fn remove(&mut self, path: &str) {
        if let Some(file) = self.now.files.remove(path) {
            self.pending
                .push((Change::Removed(path.to_string()), Some(file)));
        }
    }

    pub fn remove_folder(&mut self, path: &str) {
        if self.now.folders.remove(path) {
            self.pending
                .push((Change::FolderRemoved(path.to_string()), None));
        }
    }

    pub fn sync_folder(&mut self, path: &str) {
        let pending = std::mem::take(&mut self.pending);
        let (done, left): (Vec<_>, Vec<_>) = pending
            .into_iter()
            .partition(|(change, _)| change.home() == path);
        let mut left = left;
        for (change, file) in &done {
            self.durable.apply(change, *file);
            if let Change::Renamed(from, _) = change {
                // It has left its old place for good.
                left.retain(|(other, of)| {
                    !(of == file && matches!(other, Change::Made(path) if path == from))
                });
            }
        }
        self.pending = left;
    }

    /// What the next process finds.
    pub fn after(&self, end: End, dice: &mut Dice) -> Disk {
        if end == End::Killed {
            return self.clone();
        }
        let mut names = self.durable.clone();
        let kept = dice.below(self.pending.len() + 1);
        for (number, (change, file)) in self.pending.iter().enumerate() {
            let happened = match end {
                End::Killed | End::Synced => false,
                End::Journal => number < kept,
                End::Anything => dice.toss(),
            };
            if happened {
                names.apply(change, *file);
            }
        }
        let named: BTreeSet<u64> = names.files.values().copied().collect();
        let mut files = HashMap::new();
        for number in named {
            let file = &self.files[&number];
            let bytes = match end {
                End::Synced => file.durable.clone(),
                _ => torn(file, dice),
            };
            files.insert(
                number,
                File {
                    now: bytes.clone(),
                    durable: bytes,
                },
            );
        }
        Disk {
            files,
            now: names.clone(),
            durable: names,
            pending: Vec::new(),
            next: self.next,
        }
    }
}

/// What may be left of a file that was not synced.
fn torn(file: &File, dice: &mut Dice) -> Vec<u8> {
    let (old, new) = (&file.durable, &file.now);
    if old == new {
        return new.clone();
    }
    let (least, most) = (old.len().min(new.len()), old.len().max(new.len()));
    let length = match dice.below(3) {
        0 => old.len(),
        1 => new.len(),
        _ => least + dice.below(most - least + 1),
    };
    let mut bytes = vec![0; length];
    for start in (0..length).step_by(SECTOR) {
        let end = (start + SECTOR).min(length);
        let from = if dice.toss() { new } else { old };
        let there = end.min(from.len());
        if there > start {
            bytes[start..there].copy_from_slice(&from[start..there]);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_synced_is_sure() {
        let mut disk = Disk::default();
        disk.make_folder("a", true);
        let file = disk.make("a/x");
        disk.append(file, &[1; 2000]);
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let left = disk.after(End::Anything, &mut Dice::new(seed));
            seen.insert(left.file("a/x").map(|file| left.content(file).to_vec()));
        }
        assert!(seen.contains(&None) && seen.len() > 10, "{}", seen.len());
        disk.sync(file);
        disk.sync_folder("a");
        disk.rename("a/x", "a/y");
        let mut names = BTreeSet::new();
        for seed in 0..50 {
            for end in [End::Synced, End::Journal, End::Anything] {
                let left = disk.after(end, &mut Dice::new(seed));
                let paths: Vec<_> = left.paths().cloned().collect();
                let file = left.file(&paths[0]).unwrap();
                assert_eq!(left.content(file), [1; 2000]);
                names.insert(paths);
            }
        }
        assert_eq!(
            names.into_iter().flatten().collect::<Vec<_>>(),
            ["a/x", "a/y"]
        );
        disk.sync_folder("a");
        let left = disk.after(End::Synced, &mut Dice::new(1));
        assert_eq!(left.paths().collect::<Vec<_>>(), ["a/y"]);
    }
}
