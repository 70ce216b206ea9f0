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
//! - A file whose entries have a wrong checksum is listed, and its neighbours are found as ever; reading it is an error, because where its content lies and how long it
//!   is stands in these entries (specification, section 6.3.3: they must not be used). In a folder of which this is so, whose own entries have
//!   checksums, what can be read is told, and then that there may be other names.
//! - The hash of a name only helps to find it, and here it does not: one that is wrong, as cameras have written it, hides nothing.
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
use crate::fat::info::{self, Info, root_attributes, serial_text};
use crate::fat::names::{self, Folders, Met, Names, ROOT};
use crate::fat::slots::{Place, SLOT, Shelf, Slots};
use crate::fat::table::{Link, Table, Width};
use crate::ntfs::bitmap;
use crate::ntfs::cache::Cache;
use crate::ntfs::passing::is_passing;
use crate::volume::{
    Attributes, DirEntry, DirSink, EntryId, ExtentSink, Note, RangeSink, Reading, Volume,
    VolumeInfo,
};
use boot_sector::{BootSector, Region};
use cairn_base::{Error, ReadAt, Result, View};
use entry_set::{EntrySet, FILE};
use root::Root;
use std::ops::ControlFlow;
use std::sync::Arc;

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
    info: Info,
}

/// Whether `device` has the backup of a boot region whose checksum is right.
///
/// # Errors
/// What may pass of what the device reports.
pub(crate) fn has_backup(device: &dyn ReadAt) -> Result<bool> {
    Ok(BootSector::backup(device)?.is_some())
}

impl ExFatVolume {
    /// Opens the volume that covers `device`. Reads its root folder and its up-case table.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if there is no boot region that can be used; [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for other versions than 1; what may pass of what the
    /// device reports.
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
        let upcase = root.read_upcase(&table, &mut notes)?;
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
            info: Info::new(),
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
        let gathered = |linked| {
            let bytes = self.gather(position, first, count, linked)?;
            EntrySet::parse(View::new(&bytes, "exFAT file entry", position))
        };
        let parsed = gathered(true);
        if parsed.as_ref().is_ok_and(|set| set.is_summed) {
            return parsed;
        }
        match (parsed, gathered(false)) {
            (_, Ok(set)) if set.is_summed => Ok(set),
            // What could not be read may be where the entries go on.
            (Err(error), _) if error.kind().may_pass() => Err(error),
            (Ok(_), Err(error)) if is_passing(&error) => Err(error),
            (Ok(set), _) | (Err(_), Ok(set)) => Ok(set),
            (Err(error), Err(_)) => Err(error),
        }
    }

    /// The entries of a file that is to be read.
    fn sound_set(&self, id: EntryId) -> Result<EntrySet> {
        let set = self.set(id)?;
        match set.is_summed {
            true => Ok(set),
            false => Err(doubt(&set, id).advise(
                "let the guest check the volume, or look for its content in the bytes of the disk",
            )),
        }
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

    /// Where the entries of a folder lie, and why that is not sure.
    fn place(&self, folder: u64) -> Result<(Place, Option<Error>)> {
        if folder == ROOT {
            return Ok((root_place(&self.boot, &self.table)?, None));
        }
        let id = EntryId::new(folder);
        let set = self.set(id)?;
        let why = (!set.is_summed).then(|| doubt(&set, id));
        if !set.is_folder() {
            return Err(Error::invalid(format!("`{}` is not a folder", set.text())));
        }
        // A folder may have no cluster at all: there is no region for the root in exFAT, so nothing is in it.
        if set.size == 0 {
            return Ok((Place::Region, why));
        }
        let place = Place::Clusters {
            chain: self.chain_of(&set)?,
            least: set.size / SLOT,
            most: MAX_ENTRIES,
        };
        Ok((place, why))
    }

    fn make_info(&self, free: &Result<u64>) -> VolumeInfo {
        let mut notes = self.notes.clone();
        let uncounted = info::uncounted(free, "The map of free space");
        let is_bad = uncounted.as_ref().is_some_and(|note| note.is_defect);
        notes.extend(uncounted);
        VolumeInfo {
            file_system: "exfat",
            label: self.root.label.clone(),
            uuid: serial_text(self.boot.serial),
            block_size: self.boot.cluster_size,
            size: self.boot.size,
            free: *free.as_ref().unwrap_or(&0),
            files: 0,
            clean: !self.boot.dirty && !is_bad,
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
        Err(error) if is_passing(&error) => Err(error),
        Err(error) => Ok((root, Some(error))),
    }
}

impl Folders for ExFatVolume {
    fn walk(
        &self,
        folder: u64,
        from: u64,
        sink: &mut dyn FnMut(Met) -> ControlFlow<()>,
    ) -> Result<Option<Error>> {
        let (place, doubt) = self.place(folder)?;
        let slots = Slots::new(&self.shelf, &self.table, &place, from);
        let damage = folder::walk(slots, &mut |met| match met {
            folder::Met::Cluster(cluster) => sink(Met::Cluster(cluster)),
            folder::Met::Other(_) => ControlFlow::Continue(()),
            folder::Met::Found(found) => sink(Met::Name(names::Name {
                number: names::number_at(found.position),
                is_folder: found.set.is_folder(),
                units: found.set.name,
                other: None,
                is_stray: false,
                start: found.start,
                next: found.next,
            })),
        })?;
        Ok(damage.or(doubt))
    }
}

/// That what stands in a file's or folder's entries may be wrong, although they can be decoded.
fn doubt(set: &EntrySet, id: EntryId) -> Error {
    let kind = if set.is_folder() { "folder" } else { "file" };
    Error::damaged(format!(
        "the checksum of the entries of the {kind} `{}` is wrong, so where its content lies is not known for sure",
        set.text()
    ))
    .at_offset(id.number.saturating_mul(SLOT))
}

impl Volume for ExFatVolume {
    /// The first call counts free space. Where the disk does not answer for the moment, one some seconds later counts again.
    fn info(&self) -> &VolumeInfo {
        self.info
            .get(&|| info::count_free(self), &|free| self.make_info(free))
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
        let set = self.sound_set(id)?;
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
            let set = self.sound_set(id)?;
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
