//! Finding names and folders: what FAT and exFAT have in common.
//!
//! Neither has numbers for files. An entry's number is where it stands: the position on the volume of the folder's entry that names it, divided
//! by 32. So numbers are the same whenever the volume is opened, fit 40 bits on volumes up to 32 TiB, and lead straight to what is known of a
//! file. Number [`ROOT`] is the root: that place is in the boot sector. A number that no folder told, but that leads to bytes of a file that
//! look like an entry, is not told from others: it shows no more than the volume's bytes do.
//!
//! The folder an entry lies in is known by the cluster its number leads to: each walk notes which folder the clusters it comes to belong to. Of
//! what is not in that bounded memory any more, the folders are gone through until one of them has the cluster.

use super::slots::SLOT;
use crate::ntfs::cache::Cache;
use crate::ntfs::name;
use crate::ntfs::upcase::UpCase;
use crate::volume::{DirEntry, DirSink, EntryId, EntryKind};
use cairn_base::{Error, Kind, Result};
use parking_lot::Mutex;
use std::cmp::Ordering;
use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::ops::ControlFlow;
use std::sync::Arc;

/// The root folder's number.
pub const ROOT: u64 = 1;

/// The longest name that there can be in UTF-16: that of exFAT where one unit too many was written.
const MAX_UNITS: usize = 270;
/// Clusters of folders whose folder is remembered: about 4 MiB.
const OWNERS: usize = 64 << 10;
/// Folders that are gone through to find the one that has a cluster.
const MAX_FOLDERS: usize = 1 << 20;
/// Names of folders that are remembered by their hashes, in all: 16 MiB.
const MAX_HASHES: usize = 2 << 20;
/// A folder with more names is searched from its beginning for each.
const MAX_NAMES: usize = 1 << 20;
/// Folders whose damage is remembered.
const MAX_DAMAGED: usize = 1024;

/// The rank of a name that is just the one that is wanted.
const EXACT: u8 = 4;

/// A name in a folder.
pub struct Name {
    /// As it is shown, in UTF-16.
    pub units: Vec<u16>,
    /// Another one that leads to the same (the 8.3 name), if there is one.
    pub other: Option<Vec<u16>>,
    /// Whether what is shown was perhaps another file's name: it leads here only if no other name does.
    pub is_stray: bool,
    /// The number of what it names.
    pub number: u64,
    /// Whether that is a folder.
    pub is_folder: bool,
    /// The first of its entries in the folder.
    pub start: u64,
    /// The entry behind it; never 0.
    pub next: u64,
}

impl Name {
    fn entry(&self) -> DirEntry {
        DirEntry {
            name: name::shown(&self.units),
            id: EntryId::new(self.number),
            kind: if self.is_folder {
                EntryKind::Folder
            } else {
                EntryKind::File
            },
            cookie: self.next,
        }
    }
}

/// What a walk over a folder comes to.
pub enum Met {
    /// A cluster that the folder has.
    Cluster(u32),
    /// A name.
    Name(Name),
}

/// A file system as a tree of folders.
pub trait Folders {
    /// Tells `sink` everything in `folder` from its entry `from` on. Answers the first damage, after all that can be read was told.
    ///
    /// # Errors
    /// If there is no such folder, and what is no damage: whatever the disk reports.
    fn walk(
        &self,
        folder: u64,
        from: u64,
        sink: &mut dyn FnMut(Met) -> ControlFlow<()>,
    ) -> Result<Option<Error>>;
}

/// The hashes of a folder's names.
struct Index {
    /// Hash of a name in capital letters, and the first of its entries; by hash.
    places: Vec<(u32, u32)>,
    damage: Option<Error>,
}

/// What is remembered of folders, and how names are compared.
pub struct Names {
    upcase: UpCase,
    hasher: RandomState,
    owners: Cache<u32, u64>,
    /// The one that was used last is the last.
    indexes: Mutex<Vec<(u64, Arc<Index>)>>,
    damaged: Mutex<HashMap<u64, Error>>,
}

impl Names {
    /// Names are compared in the capital letters of `upcase`.
    pub fn new(upcase: UpCase) -> Names {
        Names {
            upcase,
            hasher: RandomState::new(),
            owners: Cache::of_count(OWNERS),
            indexes: Mutex::default(),
            damaged: Mutex::default(),
        }
    }

    /// The table of capital letters.
    pub fn upcase(&self) -> &UpCase {
        &self.upcase
    }

    /// As [`Volume::read_dir`](crate::Volume::read_dir): damage is told at the end, after all names that can be read.
    pub fn read_dir(
        &self,
        folders: &dyn Folders,
        folder: u64,
        after: u64,
        sink: DirSink<'_>,
    ) -> Result<()> {
        let mut ended = true;
        let damage = self.walk(folders, folder, after, &mut |name| {
            let flow = sink(name.entry());
            ended = flow.is_continue();
            flow
        })?;
        let mut damaged = self.damaged.lock();
        if let Some(damage) = &damage
            && damaged.len() < MAX_DAMAGED
        {
            damaged.entry(folder).or_insert_with(|| damage.clone());
        }
        match damaged.get(&folder).cloned().or(damage).filter(|_| ended) {
            Some(damage) => Err(damage.context("a part of the folder cannot be read")),
            None => Ok(()),
        }
    }

    fn walk(
        &self,
        folders: &dyn Folders,
        folder: u64,
        from: u64,
        sink: &mut dyn FnMut(Name) -> ControlFlow<()>,
    ) -> Result<Option<Error>> {
        folders.walk(folder, from, &mut |met| match met {
            Met::Name(name) => sink(name),
            Met::Cluster(cluster) => {
                self.owners.insert(cluster, folder, 0);
                ControlFlow::Continue(())
            }
        })
    }

    /// The entry called `wanted` in `folder`: the one of exactly that name, else one that differs by case, else one that has it as its other name.
    ///
    /// # Errors
    /// Damaged if it is not found and a part of the folder cannot be read.
    pub fn lookup(
        &self,
        folders: &dyn Folders,
        folder: u64,
        wanted: &[u8],
    ) -> Result<Option<DirEntry>> {
        let Some(units) = name::from_bytes(wanted).filter(|units| units.len() <= MAX_UNITS) else {
            return Ok(None);
        };
        let index = self.index(folders, folder)?;
        let mut found = self.find(folders, folder, index.as_deref(), &units)?;
        let mut damage = found.1;
        if found.0.is_none()
            && let Some(hidden) = name::unshown(&units)
        {
            found = self.find(folders, folder, index.as_deref(), &hidden)?;
            damage = found.1;
        }
        match (found.0, damage) {
            (Some(found), _) => Ok(Some(found.entry())),
            (None, Some(damage)) => Err(damage.context("a part of the folder cannot be read")),
            (None, None) => Ok(None),
        }
    }

    fn find(
        &self,
        folders: &dyn Folders,
        folder: u64,
        index: Option<&Index>,
        wanted: &[u16],
    ) -> Result<(Option<Name>, Option<Error>)> {
        let mut best: Option<(u8, Name)> = None;
        let mut judge = |name: Name| {
            let rank = self.rank(&name, wanted);
            if rank > best.as_ref().map_or(0, |(rank, _)| *rank) {
                best = Some((rank, name));
            }
            rank
        };
        let damage = match index {
            None => self.walk(folders, folder, 0, &mut |name| match judge(name) {
                EXACT => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            })?,
            Some(index) => {
                let hash = self.hash(wanted);
                let from = index.places.partition_point(|(other, _)| *other < hash);
                let places = index.places.get(from..).unwrap_or_default().iter();
                for (_, start) in places.take_while(|(other, _)| *other == hash) {
                    let mut is_best = false;
                    self.walk(folders, folder, u64::from(*start), &mut |name| {
                        is_best = judge(name) == EXACT;
                        ControlFlow::Break(())
                    })?;
                    if is_best {
                        break;
                    }
                }
                index.damage.clone()
            }
        };
        Ok((best.map(|(_, name)| name), damage))
    }

    /// How well `name` is the one that is wanted: [`EXACT`], 3 but for case, 2 by its other name, 1 by one that was perhaps another file's, 0 not at all.
    fn rank(&self, name: &Name, wanted: &[u16]) -> u8 {
        let is_equal = |units: &[u16]| self.upcase.compare(units, wanted) == Ordering::Equal;
        if name.other.as_deref().is_some_and(is_equal) && (name.is_stray || !is_equal(&name.units))
        {
            2
        } else if name.is_stray {
            u8::from(is_equal(&name.units))
        } else if name.units == wanted {
            EXACT
        } else if is_equal(&name.units) {
            3
        } else {
            0
        }
    }

    fn hash(&self, units: &[u16]) -> u32 {
        let upper: Vec<u16> = units.iter().map(|&unit| self.upcase.upper(unit)).collect();
        let [a, b, c, d, ..] = self.hasher.hash_one(upper).to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// The hashes of a folder's names; nothing if there are too many.
    fn index(&self, folders: &dyn Folders, folder: u64) -> Result<Option<Arc<Index>>> {
        let mut indexes = self.indexes.lock();
        if let Some(at) = indexes.iter().position(|(of, _)| *of == folder) {
            let held = indexes.remove(at);
            let index = held.1.clone();
            indexes.push(held);
            return Ok(Some(index));
        }
        drop(indexes);
        let mut places = Vec::new();
        let mut is_full = false;
        let damage = self.walk(folders, folder, 0, &mut |name| {
            let start = u32::try_from(name.start).unwrap_or(u32::MAX);
            places.push((self.hash(&name.units), start));
            if let Some(other) = &name.other {
                places.push((self.hash(other), start));
            }
            is_full = places.len() >= MAX_NAMES;
            if is_full {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        if is_full {
            return Ok(None);
        }
        places.sort_unstable();
        let index = Arc::new(Index { places, damage });
        let mut indexes = self.indexes.lock();
        if indexes.iter().all(|(of, _)| *of != folder) {
            indexes.push((folder, index.clone()));
        }
        let weight = |indexes: &[(u64, Arc<Index>)]| {
            indexes.iter().fold(0usize, |sum, (_, index)| {
                // An empty one takes room too.
                sum.saturating_add(index.places.len()).saturating_add(16)
            })
        };
        while indexes.len() > 1 && weight(&indexes) > MAX_HASHES {
            indexes.remove(0);
        }
        Ok(Some(index))
    }

    /// The folder that has `cluster`; nothing if none of those that can be read has it.
    ///
    /// # Errors
    /// What may pass: a disk that does not answer.
    pub fn owner(&self, folders: &dyn Folders, cluster: u32) -> Result<Option<u64>> {
        if let Some(owner) = self.owners.get(&cluster) {
            return Ok(Some(owner));
        }
        let mut seen = HashSet::from([ROOT]);
        let mut open = vec![ROOT];
        while let Some(folder) = open.pop() {
            let mut is_owner = false;
            let walked = folders.walk(folder, 0, &mut |met| {
                match met {
                    Met::Cluster(other) => {
                        self.owners.insert(other, folder, 0);
                        is_owner |= other == cluster;
                    }
                    Met::Name(name) => {
                        if name.is_folder && seen.len() < MAX_FOLDERS && seen.insert(name.number) {
                            open.push(name.number);
                        }
                    }
                }
                ControlFlow::Continue(())
            });
            // What is damaged has no more to say; others may have the cluster.
            if let Err(error) = walked
                && error.kind().may_pass()
            {
                return Err(error);
            }
            if is_owner {
                return Ok(Some(folder));
            }
        }
        Ok(None)
    }
}

/// The number of what is named by the entry at byte `position` of the volume.
pub fn number_at(position: u64) -> u64 {
    position / SLOT
}

/// Where the entry lies that names what has this number, in bytes of the volume.
///
/// # Errors
/// [`Kind::NotFound`] if it can be on no volume.
pub fn position_of(id: EntryId) -> Result<u64> {
    match id.number.checked_mul(SLOT).filter(|_| id.tree == 0) {
        Some(position) => Ok(position),
        None => Err(Error::new(
            Kind::NotFound,
            "there is no entry of that number",
        )),
    }
}
