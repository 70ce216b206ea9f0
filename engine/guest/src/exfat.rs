//! exFAT, and TexFAT's two tables.
//!
//! The format is Microsoft's "exFAT file system specification". Each on-disk structure has its own file in this folder; clusters, chains and
//! the finding of names are those of [`fat`](crate::fat).
//!
//! - `boot_sector`: the boot regions
//! - `entry_set`, `folder`: files as they stand in folders
//! - `root`, `upcase`: what the root folder tells of the volume
//!
//! Decisions:
//! - Numbers of files are places, as in FAT: where a file's first entry lies on the volume, divided by 32. Its other entries may lie in the folder's next
//!   cluster. Which one that is depends on whether the folder's clusters are neighbours; that whose bytes fit the checksum is it.
//! - A file whose entries have a wrong checksum, or a wrong hash of its name, is listed and can be read, as Linux has it: cameras write such. The walk of its
//!   folder ends with an error that names it.
//! - A name that is said to have no letters has 256, as Linux has written them.
//! - Behind the valid length a file reads as zeros, whatever lies in its clusters.
//! - Times have the difference to UTC that the guest wrote with them; those without are taken as UTC.
//! - Free clusters are those of the map of clusters, not of the table.

mod boot_sector;
mod entry_set;
mod folder;
mod root;
mod upcase;

use crate::fat::chain::Chain;
use crate::fat::content::{self, Content};
use crate::fat::heap::Heap;
use crate::fat::names::{self, Folders, Met, Names, ROOT};
use crate::fat::slots::{Place, SLOT, Shelf, Slots};
use crate::fat::table::{Link, Table, Width};
use crate::fat::{root_attributes, serial_text};
use crate::ntfs::bitmap;
use crate::ntfs::cache::Cache;
use crate::volume::{
    Attributes, DirEntry, DirSink, EntryId, ExtentSink, Note, RangeSink, Reading, Volume,
    VolumeInfo,
};
use boot_sector::{BootSector, Region};
use cairn_base::{Error, Kind, ReadAt, Result, View};
use entry_set::{EntrySet, FILE};
use folder::Found;
use root::Root;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

/// Bytes of a folder at most (specification, section 7.4.9.2: 256 MiB), in entries.
const MAX_ENTRIES: u64 = (256 << 20) / SLOT;
/// Chains kept: each takes 96 KiB at most.
const CHAINS: usize = 128;

/// A volume with exFAT.
pub struct ExFatVolume {
    boot: BootSector,
    table: Arc<Table>,
    shelf: Shelf,
    /// By the first cluster, how many are of interest, and whether they are neighbours.
    chains: Cache<(u32, u32, bool), Arc<Chain>>,
    names: Names,
    root: Root,
    notes: Vec<Note>,
    info: OnceLock<VolumeInfo>,
}

/// Whether `device` has the backup of a boot region whose checksum is right.
///
/// # Errors
/// Whatever the device reports, but damage.
pub(crate) fn has_backup(device: &dyn ReadAt) -> Result<bool> {
    Ok(BootSector::backup(device)?.is_some())
}

impl ExFatVolume {
    /// Opens the volume that covers `device`. Reads its root folder and its up-case table.
    ///
    /// # Errors
    /// [`Kind::Damaged`] if there is no boot region that can be used; [`Kind::Unsupported`] for other versions than 1.
    pub fn open(device: Arc<dyn ReadAt>) -> Result<ExFatVolume> {
        let (boot, region) = BootSector::read(&device)?;
        let heap = Heap::new(device.clone(), boot.heap, boot.cluster_size, boot.clusters);
        // The table that counts alone: of two, the other one is what was before.
        let active = boot.tables.get(usize::from(boot.active)).copied();
        let copies = active.into_iter().collect();
        let table = Arc::new(Table::new(
            device.clone(),
            Width::ExFat,
            copies,
            heap.clone(),
        ));
        let shelf = Shelf::new(heap, 0..0);
        let mut notes = state_notes(&boot, region, device.size());
        let (root, damage) = read_root(&boot, &shelf, &table)?;
        if let Some(error) = damage {
            notes.push(Note::defect(format!(
                "A part of the root folder cannot be read: {error}."
            )));
        }
        let upcase = root.read_upcase(&table, &mut notes);
        if let Some(guid) = root.guid() {
            notes.push(Note::fact(format!("The volume's GUID is {guid}.")));
        }
        Ok(ExFatVolume {
            boot,
            table,
            shelf,
            chains: Cache::of_count(CHAINS),
            names: Names::new(upcase),
            root,
            notes,
            info: OnceLock::new(),
        })
    }

    fn chain(&self, first: u32, limit: u32, contiguous: bool) -> Result<Arc<Chain>> {
        let key = (first, limit, contiguous);
        if let Some(chain) = self.chains.get(&key) {
            return Ok(chain);
        }
        let heap = self.table.heap();
        let chain = Arc::new(if contiguous {
            Chain::contiguous(heap, first, limit)?
        } else {
            Chain::linked(heap, first, limit)?
        });
        self.chains.insert(key, chain.clone(), 0);
        Ok(chain)
    }

    fn chain_of(&self, set: &EntrySet) -> Result<Arc<Chain>> {
        let clusters = self.table.heap().clusters_of(set.size);
        self.chain(set.cluster, clusters, set.contiguous)
            .map_err(|error| error.context(format!("`{}`", set.text())))
    }

    /// A file's entries, the first of which a number leads to.
    fn set(&self, id: EntryId) -> Result<EntrySet> {
        let position = names::position_of(id)?;
        let missing = || Error::not_found("no file or folder is named there").at_offset(position);
        let first = self.shelf.at(position)?;
        let [FILE, count, ..] = first else {
            return Err(missing());
        };
        let linked = self.gather(position, first, count, true);
        let parsed = linked.and_then(|bytes| self.parse(&bytes, position));
        if matches!(&parsed, Ok(set) if set.is_summed) {
            return parsed;
        }
        let neighbours = self.gather(position, first, count, false);
        match (
            parsed,
            neighbours.and_then(|bytes| self.parse(&bytes, position)),
        ) {
            (_, Ok(set)) if set.is_summed => Ok(set),
            (Ok(set), _) | (Err(_), Ok(set)) => Ok(set),
            (Err(error), Err(_)) => Err(error),
        }
    }

    fn parse(&self, bytes: &[u8], position: u64) -> Result<EntrySet> {
        EntrySet::parse(View::new(bytes, "exFAT file entry", position))
    }

    /// `count` entries behind the first one, at `position`; where they cross into another cluster, it is the one that is linked, or the next.
    fn gather(&self, position: u64, first: [u8; 32], count: u8, linked: bool) -> Result<Vec<u8>> {
        let heap = self.table.heap();
        let mut bytes = first.to_vec();
        let mut at = position;
        for _ in 0..count {
            let cluster = heap.cluster_at(at);
            at = at.saturating_add(SLOT);
            if heap.cluster_at(at) != cluster {
                let from = cluster.unwrap_or(0);
                let next = if linked {
                    match self.table.cursor().link(from)? {
                        Link::Next(next) => next,
                        _ => {
                            return Err(Error::damaged(format!(
                                "a file's entries go on behind cluster {from}, which has no successor"
                            ))
                            .at_offset(position));
                        }
                    }
                } else {
                    from.saturating_add(1)
                };
                at = heap.place(next);
            }
            bytes.extend_from_slice(&self.shelf.at(at)?);
        }
        Ok(bytes)
    }

    fn place(&self, folder: u64) -> Result<Place> {
        if folder == ROOT {
            return root_place(&self.boot, &self.table);
        }
        let set = self.set(EntryId::new(folder))?;
        if !set.is_folder() {
            return Err(Error::invalid(format!("`{}` is not a folder", set.text())));
        }
        // A folder may have no cluster at all: there is no region for the root in exFAT, so nothing is in it.
        if set.size == 0 {
            return Ok(Place::Region);
        }
        Ok(Place::Clusters {
            chain: self.chain_of(&set)?,
            least: set.size / SLOT,
            most: MAX_ENTRIES,
        })
    }

    fn make_info(&self) -> VolumeInfo {
        let mut notes = self.notes.clone();
        let mut free = 0u64;
        let counted = self.free_space(&mut |range| {
            free = free.saturating_add(range.end.saturating_sub(range.start));
            ControlFlow::Continue(())
        });
        if let Err(error) = &counted {
            notes.push(Note::defect(format!(
                "The map of free space cannot be read: {error}."
            )));
        }
        VolumeInfo {
            file_system: "exfat",
            label: self.root.label.clone(),
            uuid: serial_text(self.boot.serial),
            block_size: self.boot.cluster_size,
            size: self.boot.size,
            free,
            files: 0,
            clean: !self.boot.dirty && counted.is_ok(),
            notes,
            ignores_case: true,
        }
    }
}

/// What the boot regions say that a user should know.
fn state_notes(boot: &BootSector, region: Region, device: u64) -> Vec<Note> {
    let mut notes = vec![Note::fact(
        "Times that the guest wrote without its time zone are taken as UTC.",
    )];
    let mut note = |text: String| notes.push(Note::defect(text));
    match region {
        Region::Main => {}
        Region::Backup => note("The main boot region is bad; its backup is used.".into()),
        Region::Doubtful => {
            note("The checksum of the boot region is wrong, and so is its backup.".into());
        }
    }
    if boot.size > device {
        note(format!(
            "The file system has {} bytes, its volume only {device}.",
            boot.size
        ));
    }
    if boot.dirty {
        note("The volume was in use, or not closed properly: what was being written may be missing or in part.".into());
    }
    if boot.failing {
        note("The guest could not read or write all of the volume when it used it last.".into());
    }
    notes
}

fn root_place(boot: &BootSector, table: &Table) -> Result<Place> {
    let heap = table.heap();
    let chain = Chain::linked(heap, boot.root, heap.count())
        .map_err(|error| error.context("the root folder"))?;
    Ok(Place::Clusters {
        chain: Arc::new(chain),
        least: 0,
        most: MAX_ENTRIES,
    })
}

/// What the root folder tells of the volume, and what of it cannot be read.
fn read_root(boot: &BootSector, shelf: &Shelf, table: &Table) -> Result<(Root, Option<Error>)> {
    let mut root = Root::default();
    let mut wrong = None;
    let walked = root_place(boot, table).and_then(|place| {
        folder::walk(Slots::new(shelf, table, &place, 0), &mut |met| {
            if let folder::Met::Other(slot) = met {
                let view = View::new(&slot.bytes, "exFAT root entry", slot.position);
                if let Err(error) = root.take(view, boot.active) {
                    wrong.get_or_insert(error);
                }
            }
            ControlFlow::Continue(())
        })
    });
    match walked {
        Ok(damage) => Ok((root, wrong.or(damage))),
        Err(error) if error.kind() == Kind::Damaged => Ok((root, Some(error))),
        Err(error) => Err(error),
    }
}

impl Folders for ExFatVolume {
    fn walk(
        &self,
        folder: u64,
        from: u64,
        sink: &mut dyn FnMut(Met) -> ControlFlow<()>,
    ) -> Result<Option<Error>> {
        let place = self.place(folder)?;
        let slots = Slots::new(&self.shelf, &self.table, &place, from);
        let mut wrong: Option<Error> = None;
        let damage = folder::walk(slots, &mut |met| match met {
            folder::Met::Cluster(cluster) => sink(Met::Cluster(cluster)),
            folder::Met::Other(_) => ControlFlow::Continue(()),
            folder::Met::Found(found) => {
                if wrong.is_none() {
                    wrong = self.doubt(&found);
                }
                sink(Met::Name(names::Name {
                    number: names::number_at(found.position),
                    is_folder: found.set.is_folder(),
                    units: found.set.name,
                    other: None,
                    is_stray: false,
                    start: found.start,
                    next: found.next,
                }))
            }
        })?;
        Ok(damage.or(wrong))
    }
}

impl ExFatVolume {
    /// What is wrong with a file's entries, although they can be decoded.
    fn doubt(&self, found: &Found) -> Option<Error> {
        let why = if !found.set.is_summed {
            "checksum of the entries"
        } else if !found.set.is_hashed(self.names.upcase()) {
            "hash of the name"
        } else {
            return None;
        };
        Some(
            Error::damaged(format!("the {why} of `{}` is wrong", found.set.text()))
                .at_offset(found.position),
        )
    }
}

impl Volume for ExFatVolume {
    /// The first call counts free space.
    fn info(&self) -> &VolumeInfo {
        self.info.get_or_init(|| self.make_info())
    }

    fn root(&self) -> EntryId {
        EntryId::new(ROOT)
    }

    /// The root has no times: it is named nowhere.
    fn attributes(&self, id: EntryId) -> Result<Attributes> {
        if id == self.root() {
            return Ok(root_attributes());
        }
        Ok(self.set(id)?.facts(self.table.heap().size()))
    }

    fn lookup(&self, folder: EntryId, name: &[u8]) -> Result<Option<DirEntry>> {
        names::position_of(folder)?;
        self.names.lookup(self, folder.number, name)
    }

    fn read_dir(&self, folder: EntryId, after: u64, sink: DirSink<'_>) -> Result<()> {
        names::position_of(folder)?;
        self.names.read_dir(self, folder.number, after, sink)
    }

    fn parent(&self, id: EntryId) -> Result<Option<EntryId>> {
        if id == self.root() {
            return Ok(Some(id));
        }
        self.set(id)?;
        let owner = match self.shelf.cluster_at(names::position_of(id)?) {
            Some(cluster) => self.names.owner(self, cluster)?,
            None => None,
        };
        Ok(owner.map(EntryId::new))
    }

    fn open(&self, id: EntryId) -> Result<Arc<dyn ReadAt>> {
        if id == self.root() {
            return Err(Error::invalid("the root is not a file"));
        }
        let set = self.set(id)?;
        let name = set.text();
        if set.is_folder() {
            return Err(Error::invalid(format!("`{name}` is not a file")));
        }
        let chain = match set.valid {
            0 => None,
            _ => Some(self.chain_of(&set)?),
        };
        Ok(Arc::new(Content::new(
            self.table.clone(),
            chain,
            set.size,
            set.valid,
            name,
        )))
    }

    fn open_stream(&self, _id: EntryId, _name: &[u8]) -> Result<Arc<dyn ReadAt>> {
        Err(Error::not_found("exFAT has no named streams"))
    }

    fn read_link(&self, _id: EntryId) -> Result<Vec<u8>> {
        Err(Error::invalid("not a link: exFAT has none"))
    }

    fn extents(&self, id: EntryId, sink: ExtentSink<'_>) -> Result<()> {
        let (chain, bytes, valid, stream) = if id == self.root() {
            let place = root_place(&self.boot, &self.table)?;
            let Place::Clusters { chain, .. } = place else {
                return Ok(());
            };
            (chain, u64::MAX, u64::MAX, None)
        } else {
            let set = self.set(id)?;
            if set.size == 0 || set.cluster == 0 {
                return Ok(());
            }
            let stream = (!set.is_folder()).then_some(0);
            (self.chain_of(&set)?, set.size, set.valid, stream)
        };
        let reading = Reading { valid, packing: 0 };
        content::extents(&self.table, &chain, bytes, stream, reading, sink)
    }

    fn free_space(&self, sink: RangeSink<'_>) -> Result<()> {
        let heap = self.table.heap();
        let map = self.root.bitmap(&self.table)?;
        let place = |number: u64| {
            number
                .saturating_mul(heap.size())
                .saturating_add(self.boot.heap)
        };
        bitmap::clear_ranges(&map, u64::from(heap.count()), &mut |range| {
            sink(place(range.start)..place(range.end))
        })
    }
}
