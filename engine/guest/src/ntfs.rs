//! NTFS, versions 1.2 to 3.1.
//!
//! The format is described by the Linux-NTFS project's documentation; structures bear its names. Each on-disk
//! structure has its own file in this folder.
//!
//! - `boot_sector`, `cluster`: sizes, and the only door to the device
//! - `mft`, `record`, `fixup`, `attribute`, `attribute_list`, `run_list`: the file table and its records
//! - `entry`, `content`, `stream`: a file and its content
//! - `compressed`, `lznt1`; `wof`, `xpress`, `lzx`, `huffman`, `bits`: what is compressed by NTFS; by Windows above it
//! - `folder`, `index`, `order`, `file_name`, `name`, `upcase`: names
//! - `listing`: what a folder tells of its entries
//! - `nature`, `standard_information`, `reparse`, `tag`, `interix`: what an entry is
//! - `secure`, `view_index`, `security`, `security_descriptor`, `acl`, `sid`: who may do what
//! - `sddl`, `condition`: that as text; `permissions`: that as a mode
//! - `xattr`, `extended_attribute`, `object_id`: what else belongs to an entry
//! - `facts`, `log_file`, `bitmap`: the volume as a whole
//! - `passing`: failures that say nothing of the volume
//!
//! Decisions, mostly those of ntfs-3g: the file system's own files (records 0 to 15) are found by name but not
//! listed; 8.3 names are found but not listed, unless a file has no other in its folder; a name whose file record is
//! damaged, or was given to another file, is listed, and looking it up is
//! [`Kind::Damaged`](cairn_base::Kind::Damaged). Names that Unix cannot hold are shown as [`name::shown`] says. The
//! stream with the compressed content of a file (`wof`) is listed, which Windows does not.

mod acl;
mod attribute;
mod attribute_list;
pub(crate) mod bitmap;
mod bits;
mod boot_sector;
pub(crate) mod cache;
mod cluster;
mod compressed;
mod condition;
mod content;
pub mod decoders;
mod entry;
mod extended_attribute;
mod facts;
mod file_name;
mod fixup;
mod folder;
mod huffman;
mod index;
mod interix;
mod listing;
mod log_file;
mod lznt1;
mod lzx;
mod mft;
pub(crate) mod name;
mod nature;
mod object_id;
mod order;
pub(crate) mod passing;
mod permissions;
mod record;
mod reparse;
mod run_list;
mod sddl;
mod secure;
pub mod security;
mod security_descriptor;
mod sid;
mod standard_information;
mod stream;
mod tag;
pub(crate) mod upcase;
mod view_index;
mod wof;
mod xattr;
mod xpress;

use crate::volume::{
    Attributes, DirEntry, DirSink, EntryId, EntryKind, ExtentSink, LinkTarget, Note, RangeSink,
    StreamInfo, Volume, VolumeInfo,
};
use attribute::kind;
use boot_sector::BootSector;
use cache::Cache;
use cairn_base::{Error, ReadAt, Result};
use cluster::Clusters;
use entry::Entry;
use extended_attribute::LinuxFacts;
use facts::Facts;
use folder::{Blocks, Folder};
use mft::Mft;
use nature::Nature;
use object_id::ObjectIds;
use passing::is_passing;
pub use reparse::link_target;
use secure::Secure;
pub(crate) use standard_information::time as time_of_ticks;
use std::cmp::Ordering;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};
use upcase::UpCase;
use xattr::Beside;

/// Record of `$MFT`.
const MFT: u64 = 0;
/// Record of the root folder.
const ROOT: u64 = 5;
/// Record of `$Bitmap`.
const BITMAP: u64 = 6;
/// Memory for folders that are kept open, in bytes, and how many locks they have. One with 60,000 fragments still fits.
const FOLDERS: (usize, usize) = (8 << 20, 4);
/// The same for index blocks.
const BLOCKS: (usize, usize) = (4 << 20, 16);

/// How often a count that something was in the way of is made again, at least.
const TRIES: usize = 7;

/// A volume with NTFS.
pub struct NtfsVolume {
    mft: Mft,
    boot: BootSector,
    upcase: UpCase,
    facts: Facts,
    folders: Cache<u64, Arc<Folder>>,
    blocks: Blocks,
    secure: Secure,
    object_ids: ObjectIds,
    /// What was counted: the first time, and again as long as something could not be read for a moment.
    infos: [OnceLock<Counted>; TRIES],
    last_info: OnceLock<Counted>,
}

struct Counted {
    info: VolumeInfo,
    /// Nothing was in the way that may be gone the next time.
    is_final: bool,
}

impl NtfsVolume {
    /// Opens the volume that covers `device`. Reads a dozen records, whatever the size of the volume.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if there is neither a boot sector nor a file table that can be
    /// used; what may go well another time, as the disk reports it: it would be told of the volume as long as it is open.
    pub fn open(device: Arc<dyn ReadAt>) -> Result<NtfsVolume> {
        let mut facts = Facts::new();
        let (boot, from_backup) = BootSector::read(&device)?;
        if from_backup {
            facts.warn("The boot sector is bad; its backup at the end of the volume is used.");
        }
        facts.check_size(&boot, &device);
        let clusters = Clusters::new(device, boot.cluster_size, boot.clusters());
        let mft = Mft::open(clusters, &boot)?;
        if !mft.is_whole() {
            facts.warn("The file table's list of clusters ends too early: files whose records lie behind cannot be read.");
        }
        let upcase = facts.read_upcase(&mft)?;
        facts.read_volume(&mft)?;
        facts.read_log(&mft)?;
        let mut volume = NtfsVolume {
            mft,
            boot,
            upcase,
            facts,
            folders: Cache::new(FOLDERS.0, FOLDERS.1),
            blocks: Cache::new(BLOCKS.0, BLOCKS.1),
            secure: Secure::new(),
            object_ids: ObjectIds::new(),
            infos: [const { OnceLock::new() }; TRIES],
            last_info: OnceLock::new(),
        };
        let file = volume.lookup(volume.root(), b"hiberfil.sys");
        let content = file.and_then(|file| file.map(|file| volume.open(file.id)).transpose());
        volume.facts.read_hibernation(content)?;
        if volume.mft.mirror_used() {
            volume
                .facts
                .warn("The file table's first records are bad; their mirror is used.");
        }
        Ok(volume)
    }

    fn entry(&self, id: EntryId) -> Result<Entry> {
        listing::load(&self.mft, id)
    }

    /// What is known of an entry beside its content.
    fn beside<'a>(&'a self, entry: &'a Entry) -> Beside<'a> {
        Beside {
            mft: &self.mft,
            names: (&self.blocks, &self.upcase),
            secure: &self.secure,
            object_ids: &self.object_ids,
            entry,
        }
    }

    fn folder(&self, id: EntryId) -> Result<Arc<Folder>> {
        if let Some(folder) = self.folders.get(&id.number)
            && id.tree == 0
        {
            return Ok(folder);
        }
        let entry = self.entry(id)?;
        let folder = entry.named(Folder::open(&self.mft, &entry))?;
        let folder = Arc::new(folder);
        self.folders
            .insert(id.number, folder.clone(), folder.weight());
        Ok(folder)
    }

    fn count(&self) -> Counted {
        let mut notes = self.facts.notes.clone();
        let mut free = 0u64;
        let counted = self.free_space(&mut |range| {
            free = free.saturating_add(range.end.saturating_sub(range.start));
            ControlFlow::Continue(())
        });
        let mut is_final = true;
        if let Err(error) = &counted {
            is_final = !is_passing(error);
            notes.push(Note::defect(format!(
                "The map of free space cannot be read: {error}."
            )));
        }
        let files = self.count_files().unwrap_or_else(|error| {
            is_final &= !is_passing(&error);
            notes.push(Note::defect(format!(
                "The map of file records cannot be read: {error}."
            )));
            0
        });
        let info = VolumeInfo {
            file_system: "ntfs",
            label: self.facts.label.clone(),
            uuid: format!("{:016X}", self.boot.serial),
            block_size: self.boot.cluster_size,
            size: self.boot.bytes(),
            free,
            files,
            clean: self.facts.clean && counted.is_ok(),
            notes,
            ignores_case: true,
        };
        Counted { info, is_final }
    }

    fn count_files(&self) -> Result<u64> {
        let entry = Entry::load(&self.mft, MFT)?;
        let Some(map) = entry.open(&self.mft, kind::BITMAP, &[])? else {
            return Ok(0);
        };
        let possible = self.mft.possible_records();
        let records = possible.min(map.size().saturating_mul(8));
        let mut unused = 0u64;
        bitmap::clear_ranges(&map, records, &mut |range| {
            unused = unused.saturating_add(range.end.saturating_sub(range.start));
            ControlFlow::Continue(())
        })?;
        Ok(records.saturating_sub(unused))
    }
}

impl Volume for NtfsVolume {
    /// The first call counts free space; where something could not be read for a moment the next one counts again, seven times at most.
    fn info(&self) -> &VolumeInfo {
        let wanted = |slot: &&OnceLock<Counted>| slot.get().is_none_or(|told| told.is_final);
        let slot = self.infos.iter().find(wanted).unwrap_or(&self.last_info);
        &slot.get_or_init(|| self.count()).info
    }

    fn root(&self) -> EntryId {
        EntryId::new(ROOT)
    }

    fn attributes(&self, id: EntryId) -> Result<Attributes> {
        let entry = self.entry(id)?;
        let nature = entry.named(Nature::of(&self.mft, &entry))?;
        let mut attributes = entry.named(nature.attributes(&self.mft, &entry))?;
        if matches!(attributes.kind, EntryKind::File | EntryKind::Folder) {
            let mode = self.secure.mode(&self.mft, &entry, nature.security_id())?;
            attributes.mode = mode.unwrap_or(attributes.mode);
        }
        LinuxFacts::of(&self.mft, &entry)?.dress(&mut attributes);
        Ok(attributes)
    }

    fn lookup(&self, folder: EntryId, name: &[u8]) -> Result<Option<DirEntry>> {
        let opened = self.folder(folder)?;
        let Some(units) = name::from_bytes(name).filter(|units| units.len() <= name::MAX_UNITS)
        else {
            return Ok(None);
        };
        let mut found = opened.find(&self.blocks, &self.upcase, &units)?;
        if found.is_none()
            && let Some(other) = name::unshown(&units)
        {
            found = opened.find(&self.blocks, &self.upcase, &other)?;
        }
        found
            .map(|found| listing::looked_up(&self.mft, &found))
            .transpose()
    }

    fn read_dir(&self, folder: EntryId, after: u64, sink: DirSink<'_>) -> Result<()> {
        let opened = self.folder(folder)?;
        let place = (&*opened, folder.number);
        listing::list(&self.mft, place, &self.blocks, after, sink)
    }

    fn parent(&self, id: EntryId) -> Result<Option<EntryId>> {
        let entry = self.entry(id)?;
        if entry.number == ROOT {
            return Ok(Some(id));
        }
        let names = entry.named(nature::names(&self.mft, &entry))?;
        let best = names.iter().find(|name| !name.is_dos()).or(names.first());
        Ok(best.map(|name| EntryId::new(name.parent.number)))
    }

    fn open(&self, id: EntryId) -> Result<Arc<dyn ReadAt>> {
        let entry = self.entry(id)?;
        let nature = entry.named(Nature::of(&self.mft, &entry))?;
        entry.named(content::open(&self.mft, &entry, &nature))
    }

    fn streams(&self, id: EntryId) -> Result<Vec<StreamInfo>> {
        let entry = self.entry(id)?;
        let mut streams = Vec::new();
        for part in entry.named(entry.all(&self.mft, kind::DATA))? {
            if !part.attribute.name.is_empty() {
                streams.push(StreamInfo {
                    name: name::shown(&part.attribute.name),
                    size: part.attribute.size(),
                });
            }
        }
        Ok(streams)
    }

    fn open_stream(&self, id: EntryId, name: &[u8]) -> Result<Arc<dyn ReadAt>> {
        let entry = self.entry(id)?;
        let missing = || Error::not_found("there is no stream of that name");
        let wanted = name::from_bytes(name)
            .filter(|units| !units.is_empty())
            .ok_or_else(missing)?;
        // What is wrong with another stream does not matter.
        let all = entry.named(entry.names(kind::DATA))?;
        let names = || all.iter().copied();
        let unshown = name::unshown(&wanted);
        let found = names()
            .find(|name| *name == wanted || Some(*name) == unshown.as_deref())
            .or_else(|| names().find(|name| self.upcase.compare(name, &wanted) == Ordering::Equal))
            .filter(|name| !name.is_empty())
            .ok_or_else(missing)?;
        entry
            .named(entry.open(&self.mft, kind::DATA, found))?
            .ok_or_else(missing)
    }

    /// What ntfs-3g gives only to those who ask for it by name is not listed: no attribute is.
    fn listed_xattrs(&self, _id: EntryId) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        Ok(Vec::new())
    }

    fn xattrs(&self, id: EntryId) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let entry = self.entry(id)?;
        entry.named(self.beside(&entry).all())
    }

    fn xattr(&self, id: EntryId, name: &[u8]) -> Result<Option<Vec<u8>>> {
        if !xattr::may_have(name) {
            return Ok(None);
        }
        let entry = self.entry(id)?;
        entry.named(self.beside(&entry).value(name))
    }

    fn extents(&self, id: EntryId, sink: ExtentSink<'_>) -> Result<()> {
        let entry = self.entry(id)?;
        let mut ended = false;
        // The reparse point decides what the bytes mean, and may lie in the record, of which extents do not tell.
        let form = entry.named(content::form(&self.mft, &entry))?.number();
        let form = u32::from_be_bytes([form, 0, 0, 0]);
        for kind in [kind::DATA, kind::INDEX_ALLOCATION, kind::REPARSE_POINT] {
            if !ended {
                entry.named(entry.extents(&self.mft, kind, &mut |mut extent| {
                    if extent.stream.is_some() {
                        extent.reading.packing |= form;
                    }
                    let flow = sink(extent);
                    ended = flow.is_break();
                    flow
                }))?;
            }
        }
        Ok(())
    }

    fn read_link(&self, id: EntryId) -> Result<Vec<u8>> {
        let entry = self.entry(id)?;
        entry
            .named(Nature::of(&self.mft, &entry))?
            .target
            .ok_or_else(|| Error::invalid("not a link"))
    }

    fn link_target(&self, id: EntryId) -> Result<LinkTarget> {
        let entry = self.entry(id)?;
        match entry.named(nature::link(&self.mft, &entry))? {
            Some(target) => Ok(target),
            None => Ok(LinkTarget::Posix(self.read_link(id)?)),
        }
    }

    fn free_space(&self, sink: RangeSink<'_>) -> Result<()> {
        let entry = Entry::load(&self.mft, BITMAP)?;
        let map = entry
            .named(entry.open(&self.mft, kind::DATA, &[]))?
            .ok_or_else(|| Error::damaged("the map of free space is missing"))?;
        let cluster = u64::from(self.boot.cluster_size);
        let clusters = self.mft.clusters();
        // What lies beyond the device is not free: it is not there.
        let there = clusters.device_size().div_ceil(clusters.size());
        bitmap::clear_ranges(&map, clusters.count().min(there), &mut |range| {
            sink(range.start.saturating_mul(cluster)..range.end.saturating_mul(cluster))
        })
    }
}
