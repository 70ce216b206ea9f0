//! Finding names and folders: what FAT and exFAT have in common.
//!
//! Neither has numbers for files. An entry's number is where it stands: the position on the volume of the folder's entry that names it, divided
//! by 32. So numbers are the same whenever the volume is opened, fit 40 bits on volumes up to 32 TiB, and lead straight to what is known of a
//! file. Number [`ROOT`] is the root: that place is in the boot sector. A number that no folder told, but that leads to bytes of a file that
//! look like an entry, is not told from others: it shows no more than the volume's bytes do.
//!
//! The folder an entry lies in is known by the cluster its number leads to (`owners`).

use super::owners::Owners;
use super::slots::SLOT;
pub use super::tree::{Folders, Met, Name, ROOT};
use crate::ntfs::name;
use crate::ntfs::upcase::UpCase;
use crate::volume::{DirEntry, DirSink, EntryId, EntryKind};
use cairn_base::{Error, Kind, Result};
use parking_lot::Mutex;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::ops::ControlFlow;
use std::sync::Arc;

/// The longest name that there can be in UTF-16: that of exFAT where one unit too many was written.
const MAX_UNITS: usize = 270;
/// Names of folders that are remembered by their hashes, in all: 16 MiB.
const MAX_HASHES: usize = 2 << 20;
/// A folder with more names is searched from its beginning for each.
const MAX_NAMES: usize = 1 << 20;
/// Folders whose damage is remembered.
const MAX_DAMAGED: usize = 1024;

/// The rank of a name that is just the one that is wanted.
const EXACT: u8 = 4;

/// A name as a volume tells it.
fn entry(name: &Name) -> DirEntry {
    DirEntry {
        name: name::shown(&name.units),
        id: EntryId::new(name.number),
        kind: if name.is_folder {
            EntryKind::Folder
        } else {
            EntryKind::File
        },
        cookie: name.next,
    }
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
    owners: Owners,
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
            owners: Owners::new(),
            indexes: Mutex::default(),
            damaged: Mutex::default(),
        }
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
            let flow = sink(entry(&name));
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
                self.owners.note(cluster, folder);
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
            (Some(found), _) => Ok(Some(entry(&found))),
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
                let mut damage = index.damage.clone();
                for (_, start) in places.take_while(|(other, _)| *other == hash) {
                    let mut is_best = false;
                    let walked = self.walk(folders, folder, u64::from(*start), &mut |name| {
                        is_best = judge(name) == EXACT;
                        ControlFlow::Break(())
                    })?;
                    // It could be read when the hashes were made.
                    damage = damage.or(walked);
                    if is_best {
                        break;
                    }
                }
                damage
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
    /// As [`Owners::find`].
    pub fn owner(&self, folders: &dyn Folders, cluster: u32) -> Result<Option<u64>> {
        self.owners.find(folders, cluster)
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
