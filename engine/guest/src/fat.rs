//! FAT12, FAT16 and FAT32, with long names.
//!
//! The format is Microsoft's "FAT32 File System Specification" (version 1.03); where it leaves room this does what Linux and Windows do. Each
//! on-disk structure has its own file in this folder.
//!
//! - `code_page`: the characters of 8.3 names
//! - `boot_sector`, `heap`, `table`, `chain`: sizes, clusters, and which follows which
//! - `content`: a file's content
//! - `entry`, `long_name`, `time`, `slots`, `folder`: what stands in folders
//! - `tree`, `names`, `owners`, `info`: finding names and folders, and what is said of the volume as a whole, as in exFAT
//!
//! It is read in house. The crate `fatfs`, which is the one that is used most, reads through one position that all share (`Read + Seek`), so that one
//! thread at a time can read one file; walks a file's chain again from its beginning when it is sought in; takes a chain that ends too early for the
//! file's end; has no numbers of files that a mount could go by; and ends a folder's walk at the first error.
//!
//! Decisions:
//! - Numbers of files are places, see `names`.
//! - A long name that is not whole is passed over: the 8.3 name is shown. One that is whole is shown also if its checksum is not that of the
//!   8.3 name behind it, as forensic tools have it and Windows does not; but it may be the name of a file that lay there before, so it leads to this one only if no other name of
//!   the folder is the same.
//! - Deleted entries, labels, `.` and `..` are not shown. Names that Unix cannot hold are shown as those of NTFS are.
//! - Names are found without regard to case, by the long name first and then by the 8.3 name.
//! - Times are the guest's local time, and taken as UTC: its time zone is not on the volume. That of the last access has no time of day. Dates that cannot be are 1970-01-01.
//! - FAT32's count of free clusters (FSInfo) is a hint that may be old: free clusters are counted.
//! - The first table that counts is read; where the device cannot read it, and that will not pass, its copy is, if the volume keeps one.
//! - What is wrong with a chain is an error where it is wrong: what lies before is read. Chains that cross hurt nobody.

mod boot_sector;
pub(crate) mod chain;
pub mod code_page;
pub(crate) mod content;
mod entry;
mod folder;
pub(crate) mod heap;
pub(crate) mod info;
mod long_name;
pub(crate) mod names;
mod owners;
pub(crate) mod slots;
pub(crate) mod table;
pub(crate) mod time;
mod tree;

use crate::ntfs::cache::Cache;
use crate::ntfs::passing::is_passing;
use crate::ntfs::upcase::UpCase;
use crate::volume::{
    Attributes, DirEntry, DirSink, EntryId, Extent, ExtentSink, Note, RangeSink, Reading, Volume,
    VolumeInfo,
};
use boot_sector::{BootSector, Root};
use cairn_base::{Error, ReadAt, Result, View};
use chain::Chain;
pub use code_page::CodePage;
use content::Content;
use entry::Entry;
use folder::Found;
use heap::Heap;
use info::{Info, root_attributes, serial_text};
use names::{Folders, Met, Names, ROOT};
use slots::{Place, Shelf, Slots};
use std::ops::ControlFlow;
use std::sync::Arc;
use table::{Table, Width};

/// Entries of a folder at most (specification, section 6).
const MAX_ENTRIES: u64 = 65_536;
/// Chains kept: each takes 96 KiB at most.
const CHAINS: usize = 128;

/// A volume with FAT12, FAT16 or FAT32.
pub struct FatVolume {
    boot: BootSector,
    code_page: CodePage,
    table: Arc<Table>,
    shelf: Shelf,
    /// By the first cluster, and how many are of interest.
    chains: Cache<(u32, u32), Arc<Chain>>,
    names: Names,
    label: String,
    clean: bool,
    notes: Vec<Note>,
    info: Info,
}

/// Whether `head`, the first 512 bytes of a device, is a boot sector of FAT that can be.
pub(crate) fn is_fat(head: View<'_>) -> bool {
    BootSector::parse(head).is_ok()
}

/// Whether `device` has the backup of a FAT32 boot sector.
///
/// # Errors
/// What may pass of what the device reports.
pub(crate) fn has_backup(device: &dyn ReadAt) -> Result<bool> {
    Ok(BootSector::backup(device)?.is_some())
}

impl FatVolume {
    /// Opens the volume that covers `device`; 8.3 names are in `code_page`.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if there is no boot sector that can be used; what may pass of what the device reports.
    pub fn open(device: Arc<dyn ReadAt>, code_page: CodePage) -> Result<FatVolume> {
        let (boot, from_backup) = BootSector::read(&device)?;
        let heap = Heap::new(device.clone(), boot.heap, boot.cluster_size, boot.clusters);
        let table = Table::new(
            device.clone(),
            boot.width,
            boot.tables.clone(),
            heap.clone(),
        );
        let region = match &boot.root {
            Root::Region(region) => region.clone(),
            Root::Cluster(_) => 0..0,
        };
        let mut notes = vec![Note::fact(
            "Times are those of the guest's clock, taken as UTC: its time zone is not on the volume.",
        )];
        if from_backup {
            notes.push(Note::defect("The boot sector is bad; its backup is used."));
        }
        if boot.size > device.size() {
            notes.push(Note::defect(format!(
                "The file system has {} bytes, its volume only {}.",
                boot.size,
                device.size()
            )));
        }
        if boot.lost > 0 {
            notes.push(Note::defect(format!(
                "The file allocation table is too short: the last {} clusters have no entries.",
                boot.lost
            )));
        }
        let mut volume = FatVolume {
            code_page,
            table: Arc::new(table),
            shelf: Shelf::new(heap, region),
            chains: Cache::of_count(CHAINS),
            names: Names::new(UpCase::built_in()),
            label: String::new(),
            clean: true,
            notes,
            info: Info::new(),
            boot,
        };
        volume.read_state()?;
        volume.read_label()?;
        Ok(volume)
    }

    /// Entry 1 of the table says whether the volume was closed, and whether the disk failed; the boot sector the former too (specification, section 4.2).
    fn read_state(&mut self) -> Result<()> {
        let (closed, no_errors) = match self.boot.width {
            Width::Sixteen => (0x8000, 0x4000),
            Width::ThirtyTwo => (0x0800_0000, 0x0400_0000),
            Width::Twelve | Width::ExFat => (0, 0),
        };
        let mut note = |text: &str| self.notes.push(Note::defect(text));
        let state = match self.table.value(1) {
            Ok(state) => state,
            Err(error) if is_passing(&error) => return Err(error),
            Err(error) => {
                note(&format!(
                    "The file allocation table cannot be read: {error}."
                ));
                u32::MAX
            }
        };
        if state & closed != closed || self.boot.dirty {
            note(
                "The volume was in use, or not closed properly: what was being written may be missing or in part.",
            );
            self.clean = false;
        }
        if state & no_errors != no_errors {
            note("The guest could not read or write all of the volume when it used it last.");
        }
        Ok(())
    }

    fn read_label(&mut self) -> Result<()> {
        let in_boot = self.boot.label.filter(|label| label != b"NO NAME    ");
        let mut label =
            in_boot.map_or_else(String::new, |label| entry::label(&label, self.code_page));
        let walked = self.entries(ROOT, 0, &mut |found| match found {
            folder::Met::Found(found) if found.entry.is_label() => {
                label = found.entry.label(self.code_page);
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        });
        self.label = label;
        match walked {
            Err(error) if is_passing(&error) => return Err(error),
            Ok(Some(error)) | Err(error) => self.notes.push(Note::defect(format!(
                "A part of the root folder cannot be read: {error}."
            ))),
            Ok(None) => {}
        }
        Ok(())
    }

    fn is_wide(&self) -> bool {
        self.boot.width == Width::ThirtyTwo
    }

    /// The entry that a number leads to.
    fn entry(&self, id: EntryId) -> Result<Entry> {
        let position = names::position_of(id)?;
        let bytes = self.shelf.at(position)?;
        let entry = Entry::parse(View::new(&bytes, "folder entry", position), self.is_wide())?;
        let is_unused = matches!(bytes.first(), Some(0 | 0xE5) | None);
        if is_unused || entry.is_label() || entry.is_dots() {
            return Err(Error::not_found("no file or folder is named there").at_offset(position));
        }
        Ok(entry)
    }

    fn name_of(&self, entry: &Entry) -> String {
        String::from_utf16_lossy(&entry.short_name(self.code_page))
    }

    fn chain(&self, first: u32, limit: u32) -> Result<Arc<Chain>> {
        let key = (first, limit);
        if let Some(chain) = self.chains.get(&key) {
            return Ok(chain);
        }
        let chain = Arc::new(Chain::linked(self.table.heap(), first, limit)?);
        self.chains.insert(key, chain.clone(), 0);
        Ok(chain)
    }

    /// Where the entries of the folder with this number lie.
    fn place(&self, folder: u64) -> Result<Place> {
        let first = if folder == ROOT {
            match self.boot.root {
                Root::Region(_) => return Ok(Place::Region),
                Root::Cluster(first) => first,
            }
        } else {
            let entry = self.entry(EntryId::new(folder))?;
            if !entry.is_folder() {
                return Err(Error::invalid(format!(
                    "`{}` is not a folder",
                    self.name_of(&entry)
                )));
            }
            entry.cluster
        };
        let chain = self
            .chain(first, self.table.heap().count())
            .map_err(|error| error.context("a folder's first cluster"))?;
        Ok(Place::Clusters {
            chain,
            least: 0,
            most: MAX_ENTRIES,
        })
    }

    fn entries(
        &self,
        folder: u64,
        from: u64,
        sink: &mut dyn FnMut(folder::Met) -> ControlFlow<()>,
    ) -> Result<Option<Error>> {
        let place = self.place(folder)?;
        let slots = Slots::new(&self.shelf, &self.table, &place, from);
        folder::walk(slots, self.is_wide(), sink)
    }

    fn name(&self, found: Found) -> names::Name {
        let short = found.entry.short_name(self.code_page);
        let (units, other) = match found.long {
            Some(long) => (long, Some(short)),
            None => (short, None),
        };
        names::Name {
            units,
            other,
            is_stray: found.is_stray,
            number: names::number_at(found.position),
            is_folder: found.entry.is_folder(),
            start: found.start,
            next: found.next,
        }
    }

    fn make_info(&self, free: &Result<u64>) -> VolumeInfo {
        let mut notes = self.notes.clone();
        let uncounted = info::uncounted(free, "The file allocation table");
        let is_bad = uncounted.as_ref().is_some_and(|note| note.is_defect);
        notes.extend(uncounted);
        VolumeInfo {
            file_system: match self.boot.width {
                Width::Twelve => "fat12",
                Width::Sixteen => "fat16",
                Width::ThirtyTwo | Width::ExFat => "fat32",
            },
            label: self.label.clone(),
            uuid: self.boot.serial.map_or_else(String::new, serial_text),
            block_size: self.boot.cluster_size,
            size: self.boot.size,
            free: *free.as_ref().unwrap_or(&0),
            files: 0,
            clean: self.clean && !is_bad,
            notes,
            ignores_case: true,
        }
    }
}

impl Folders for FatVolume {
    fn walk(
        &self,
        folder: u64,
        from: u64,
        sink: &mut dyn FnMut(Met) -> ControlFlow<()>,
    ) -> Result<Option<Error>> {
        self.entries(folder, from, &mut |met| match met {
            folder::Met::Cluster(cluster) => sink(Met::Cluster(cluster)),
            folder::Met::Found(found) if found.entry.is_label() || found.entry.is_dots() => {
                ControlFlow::Continue(())
            }
            folder::Met::Found(found) => sink(Met::Name(self.name(found))),
        })
    }
}

impl Volume for FatVolume {
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
        Ok(self.entry(id)?.facts(self.table.heap().size()))
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
        self.entry(id)?;
        let owner = match self.shelf.cluster_at(names::position_of(id)?) {
            Some(cluster) => self.names.owner(self, cluster)?,
            None => Some(ROOT),
        };
        Ok(owner.map(EntryId::new))
    }

    fn open(&self, id: EntryId) -> Result<Arc<dyn ReadAt>> {
        if id == self.root() {
            return Err(Error::invalid("the root is not a file"));
        }
        let entry = self.entry(id)?;
        let name = self.name_of(&entry);
        if entry.is_folder() {
            return Err(Error::invalid(format!("`{name}` is not a file")));
        }
        let size = u64::from(entry.size);
        let chain = match size {
            0 => None,
            _ => Some(
                self.chain(entry.cluster, self.table.heap().clusters_of(size))
                    .map_err(|error| error.context(format!("file `{name}`")))?,
            ),
        };
        Ok(Arc::new(Content::new(
            self.table.clone(),
            chain,
            size,
            size,
            name,
        )))
    }

    fn open_stream(&self, _id: EntryId, _name: &[u8]) -> Result<Arc<dyn ReadAt>> {
        Err(Error::not_found("FAT has no named streams"))
    }

    fn read_link(&self, _id: EntryId) -> Result<Vec<u8>> {
        Err(Error::invalid("not a link: FAT has none"))
    }

    fn extents(&self, id: EntryId, sink: ExtentSink<'_>) -> Result<()> {
        let (chain, bytes, stream) = if id == self.root() {
            match (self.place(ROOT)?, &self.boot.root) {
                (Place::Clusters { chain, .. }, _) => (chain, u64::MAX, None),
                (Place::Region, Root::Region(region)) => {
                    let _ = sink(Extent {
                        place: region.clone(),
                        stream: None,
                        offset: 0,
                        reading: Reading {
                            valid: region.end.saturating_sub(region.start),
                            packing: 0,
                        },
                    });
                    return Ok(());
                }
                (Place::Region, Root::Cluster(_)) => return Ok(()),
            }
        } else {
            let entry = self.entry(id)?;
            let heap = self.table.heap();
            let size = u64::from(entry.size);
            match entry.is_folder() {
                true => (self.chain(entry.cluster, heap.count())?, u64::MAX, None),
                false if size == 0 => return Ok(()),
                false => (
                    self.chain(entry.cluster, heap.clusters_of(size))?,
                    size,
                    Some(0),
                ),
            }
        };
        let reading = Reading {
            valid: bytes,
            packing: 0,
        };
        content::extents(&self.table, &chain, bytes, stream, reading, sink)
    }

    fn free_space(&self, sink: RangeSink<'_>) -> Result<()> {
        let heap = self.table.heap();
        self.table
            .free(&mut |clusters| sink(heap.place(clusters.start)..heap.place(clusters.end)))
    }
}
