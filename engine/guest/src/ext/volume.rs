//! An ext file system as a [`Volume`].

use super::blocks::Blocks;
use super::content::{self, Content};
use super::folder::{self, Folder, Name};
use super::free;
use super::group::Core;
use super::inode::{self, Inode, ROOT, flag, format};
use super::journal;
use super::number::clamp;
use super::superblock::{self, Found, Journal, Superblock, compat, incompat, ro_compat};
use super::xattr;
use crate::volume::{
    Attributes, DirEntry, DirSink, EntryId, EntryKind, Note, RangeSink, Volume, VolumeInfo,
};
use cairn_base::{Error, ReadAt, Result};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// `s_state`: closed properly, errors found.
const STATE_VALID: u16 = 1;
const STATE_ERRORS: u16 = 2;
/// Descriptors that are looked at when a volume is opened; the others when they are used.
const DESCRIPTORS_CHECKED: u32 = 4096;
/// Damaged folders that are remembered.
const MAX_DAMAGED: usize = 1024;
/// Bytes of a symbolic link's target, at most (`PATH_MAX`).
const MAX_LINK: u64 = 4096;

/// An ext2, ext3 or ext4 file system.
pub struct ExtVolume {
    core: Arc<Core>,
    info: VolumeInfo,
    /// What was found damaged in folders, so that a walk in several steps tells it at its end.
    damaged: Mutex<HashMap<u32, Error>>,
}

impl ExtVolume {
    /// Opens the file system on `device`. What its journal holds is replayed in memory; where that cannot be done the file
    /// system is shown as it lies there, and the notes say so.
    ///
    /// # Errors
    /// Damaged if neither the superblock nor a copy of it can be read; unsupported for features that change the format.
    pub fn open(device: Arc<dyn ReadAt>) -> Result<ExtVolume> {
        let size = device.size();
        let (mut core, mut found) = core_of(device)?;
        let on_disk = Primary::of(&found);
        let announced = core.sb.has_incompat(incompat::RECOVER);
        let mut replay_notes = Vec::new();
        if let Journal::Inode(inode) = core.sb.journal
            && (announced || on_disk != Primary::Sound)
        {
            let replayed = journal::replay(&core, inode, announced).and_then(|replayed| {
                let Some(replayed) = replayed else {
                    return Ok(None);
                };
                let (core, found) = core_of(replayed.device)?;
                Ok(Some((core, found, replayed.notes)))
            });
            match replayed {
                Ok(Some(replayed)) => (core, found, replay_notes) = replayed,
                Ok(None) => {}
                Err(error) => replay_notes.push(Note::defect(format!(
                    "The journal cannot be replayed: the last changes of the guest may be missing or half done. {error}."
                ))),
            }
        }
        let was_replayed = !replay_notes.is_empty();
        let notes = notes(&core, &found, on_disk, size, replay_notes);
        let info = info(&core.sb, notes, was_replayed);
        Ok(ExtVolume {
            core: Arc::new(core),
            info,
            damaged: Mutex::new(HashMap::new()),
        })
    }

    /// The inode an id stands for: the root, or one that is no part of the file system itself.
    fn inode(&self, id: EntryId) -> Result<Inode> {
        let number = u32::try_from(id.number)
            .ok()
            .filter(|_| id.tree == 0)
            .ok_or_else(|| Error::not_found(format!("there is no inode {}", id.number)))?;
        if number != ROOT && number < self.core.sb.first_inode {
            return Err(Error::damaged(format!(
                "inode {number} belongs to the file system itself"
            )));
        }
        let inode = inode::load(&self.core, number)?;
        if inode.has(flag::EA_INODE) {
            return Err(Error::damaged(format!(
                "inode {number} holds an extended attribute, not a file"
            )));
        }
        kind(&inode)?;
        Ok(inode)
    }

    fn entry(&self, name: Name) -> DirEntry {
        let kind = match name.file_type {
            1 => EntryKind::File,
            2 => EntryKind::Folder,
            3 => EntryKind::CharDevice,
            4 => EntryKind::BlockDevice,
            5 => EntryKind::Fifo,
            6 => EntryKind::Socket,
            7 => EntryKind::Symlink,
            // The record does not say: the inode does. One that cannot be read shows when it is opened.
            _ => inode::load(&self.core, name.inode)
                .and_then(|inode| kind(&inode))
                .unwrap_or(EntryKind::File),
        };
        DirEntry {
            name: name.bytes,
            id: EntryId::new(u64::from(name.inode)),
            kind,
            cookie: folder::cookie(name.offset),
        }
    }

    fn remember(&self, folder: u32, damage: &Error) {
        let mut damaged = self.damaged.lock();
        if damaged.len() < MAX_DAMAGED {
            damaged.entry(folder).or_insert_with(|| damage.clone());
        }
    }
}

fn kind(inode: &Inode) -> Result<EntryKind> {
    Ok(match inode.format() {
        format::FILE => EntryKind::File,
        format::FOLDER => EntryKind::Folder,
        format::SYMLINK => EntryKind::Symlink,
        format::CHAR => EntryKind::CharDevice,
        format::BLOCK => EntryKind::BlockDevice,
        format::FIFO => EntryKind::Fifo,
        format::SOCKET => EntryKind::Socket,
        other => {
            return Err(Error::damaged(format!(
                "inode {} has the impossible type {other:#o}",
                inode.number
            )));
        }
    })
}

impl Volume for ExtVolume {
    fn info(&self) -> &VolumeInfo {
        &self.info
    }

    fn root(&self) -> EntryId {
        EntryId::new(u64::from(ROOT))
    }

    fn attributes(&self, id: EntryId) -> Result<Attributes> {
        let inode = self.inode(id)?;
        let kind = kind(&inode)?;
        let device = match kind {
            EntryKind::CharDevice | EntryKind::BlockDevice => Some(inode::device_number(&inode)?),
            _ => None,
        };
        Ok(Attributes {
            kind,
            size: inode.size,
            allocated: inode.allocated,
            mode: u32::from(inode.mode & 0o7777),
            uid: inode.uid,
            gid: inode.gid,
            links: u32::from(inode.links),
            device,
            modified: inode.modified,
            changed: inode.changed,
            accessed: inode.accessed,
            created: inode.created,
            dos_flags: 0,
        })
    }

    fn lookup(&self, folder: EntryId, name: &[u8]) -> Result<Option<DirEntry>> {
        let inode = self.inode(folder)?;
        let found = Folder::new(&self.core, &inode)?.lookup(name)?;
        Ok(found.map(|name| self.entry(name)))
    }

    /// Damage is told at the end of the walk, after all names that could be read.
    fn read_dir(&self, folder: EntryId, after: u64, sink: DirSink<'_>) -> Result<()> {
        let inode = self.inode(folder)?;
        let mut ended = true;
        let damage = Folder::new(&self.core, &inode)?.walk(after, &mut |name| {
            let flow = sink(self.entry(name));
            ended = flow == ControlFlow::Continue(());
            flow
        })?;
        if let Some(damage) = &damage {
            self.remember(inode.number, damage);
        }
        let known = || self.damaged.lock().get(&inode.number).cloned();
        match if ended { damage.or_else(known) } else { None } {
            Some(damage) => Err(damage.context("a part of the folder cannot be read")),
            None => Ok(()),
        }
    }

    fn parent(&self, id: EntryId) -> Result<Option<EntryId>> {
        let inode = self.inode(id)?;
        if !inode.is_folder() {
            return Ok(None);
        }
        if inode.number == ROOT {
            return Ok(Some(self.root()));
        }
        let parent = Folder::new(&self.core, &inode)?.parent()?;
        Ok(Some(EntryId::new(u64::from(parent))))
    }

    fn open(&self, id: EntryId) -> Result<Arc<dyn ReadAt>> {
        let inode = self.inode(id)?;
        if inode.format() != format::FILE {
            return Err(Error::invalid(format!(
                "inode {} is not a file",
                inode.number
            )));
        }
        content::check_plain(&inode)?;
        if inode.has(flag::INLINE_DATA) {
            let more = xattr::inline_data(&self.core, &inode)?;
            return Ok(Arc::new(content::inline(&inode, &more)?));
        }
        Ok(Arc::new(Content::new(self.core.clone(), &inode)))
    }

    fn extents(&self, id: EntryId, sink: RangeSink<'_>) -> Result<()> {
        let inode = self.inode(id)?;
        let in_blocks = match inode.format() {
            format::FILE | format::FOLDER => !inode.has(flag::INLINE_DATA),
            format::SYMLINK => {
                !inode.has(flag::INLINE_DATA) && !is_fast_link(&self.core.sb, &inode)
            }
            _ => false,
        };
        if in_blocks {
            Content::new(self.core.clone(), &inode).extents(sink)
        } else {
            Ok(())
        }
    }

    fn open_stream(&self, id: EntryId, _name: &[u8]) -> Result<Arc<dyn ReadAt>> {
        Err(Error::not_found(format!(
            "inode {} has no named streams",
            id.number
        )))
    }

    fn read_link(&self, id: EntryId) -> Result<Vec<u8>> {
        let inode = self.inode(id)?;
        if inode.format() != format::SYMLINK {
            return Err(Error::invalid(format!(
                "inode {} is not a symbolic link",
                inode.number
            )));
        }
        content::check_plain(&inode)?;
        if inode.size == 0 || inode.size > MAX_LINK {
            return Err(Error::damaged(format!(
                "the target of the symbolic link {} has the impossible length {}",
                inode.number, inode.size
            )));
        }
        let target = if inode.has(flag::INLINE_DATA) {
            content::inline(&inode, &xattr::inline_data(&self.core, &inode)?)?
        } else if is_fast_link(&self.core.sb, &inode) {
            content::inline(&inode, &[])?
        } else {
            let mut target = vec![0; clamp(inode.size)];
            Content::new(self.core.clone(), &inode).read_exact_at(0, &mut target)?;
            target
        };
        if target.contains(&0) {
            return Err(Error::damaged(format!(
                "the target of the symbolic link {} ends before its length",
                inode.number
            )));
        }
        Ok(target)
    }

    fn xattrs(&self, id: EntryId) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        xattr::list(&self.core, &self.inode(id)?)
    }

    fn free_space(&self, sink: RangeSink<'_>) -> Result<()> {
        free::walk(&self.core, sink)
    }
}

/// Whether a link's target lies in the place of the block pointers: no block is allocated but that of attributes.
fn is_fast_link(sb: &Superblock, inode: &Inode) -> bool {
    if inode.size >= 60 {
        return false;
    }
    let cluster = u64::from(sb.block_size).saturating_mul(u64::from(sb.cluster_blocks));
    let outside = if inode.acl_block == 0 { 0 } else { cluster };
    // Inodes of large attributes count as well.
    inode.allocated <= outside || (sb.has_incompat(incompat::EA_INODE) && !inode.has(flag::EXTENTS))
}

/// What is known of the superblock as it lies on the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Primary {
    Sound,
    /// Its checksum is wrong; there is no other.
    Doubtful,
    /// A copy is used. Copies do not say whether there is something to be replayed.
    Lost,
}

impl Primary {
    fn of(found: &Found) -> Primary {
        match (found.backup_at, found.checked) {
            (Some(_), _) => Primary::Lost,
            (None, false) => Primary::Doubtful,
            (None, true) => Primary::Sound,
        }
    }
}

fn info(sb: &Superblock, notes: Vec<Note>, was_replayed: bool) -> VolumeInfo {
    VolumeInfo {
        file_system: generation(sb),
        label: String::from_utf8_lossy(&sb.label).into_owned(),
        uuid: uuid(sb.uuid),
        block_size: sb.block_size,
        size: sb.blocks.saturating_mul(u64::from(sb.block_size)),
        free: sb.free_blocks.saturating_mul(u64::from(sb.block_size)),
        files: u64::from(sb.inodes.saturating_sub(sb.free_inodes)),
        clean: sb.state & STATE_VALID != 0
            && sb.state & STATE_ERRORS == 0
            && !sb.has_incompat(incompat::RECOVER)
            && !was_replayed
            && !notes.iter().any(|note| note.is_defect),
        notes,
        ignores_case: false,
    }
}

/// An id as the tools print it.
fn uuid(bytes: [u8; 16]) -> String {
    let mut uuid = String::new();
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            uuid.push('-');
        }
        uuid.push_str(&format!("{byte:02x}"));
    }
    uuid
}

/// Which of the three it is: by features, as the tools tell them apart.
fn generation(sb: &Superblock) -> &'static str {
    let old_incompat = incompat::FILETYPE | incompat::RECOVER | incompat::META_BG;
    let new_ro = ro_compat::HUGE_FILE
        | ro_compat::GDT_CSUM
        | ro_compat::DIR_NLINK
        | ro_compat::EXTRA_ISIZE
        | ro_compat::BIGALLOC
        | ro_compat::METADATA_CSUM;
    if sb.incompat & !old_incompat != 0 || sb.ro_compat & new_ro != 0 {
        "ext4"
    } else if sb.has_compat(compat::HAS_JOURNAL) {
        "ext3"
    } else {
        "ext2"
    }
}

fn core_of(device: Arc<dyn ReadAt>) -> Result<(Core, Found)> {
    let found = superblock::find(device.as_ref())?;
    let sb = found.superblock.clone();
    let core = Core {
        blocks: Blocks::new(device, sb.block_size, sb.block_shift, sb.blocks),
        sb,
    };
    Ok((core, found))
}

/// What a user should know, behind what replaying the journal gave.
fn notes(
    core: &Core,
    found: &Found,
    on_disk: Primary,
    device_size: u64,
    mut notes: Vec<Note>,
) -> Vec<Note> {
    let sb = &core.sb;
    if let Some(at) = found.backup_at {
        notes.push(Note::defect(format!(
            "The superblock is damaged; its copy at byte {at} is used."
        )));
    } else if !found.checked {
        notes.push(Note::defect(
            "The checksum of the superblock is wrong and no copy of it was found.",
        ));
    } else if on_disk != Primary::Sound {
        notes.push(Note::fact(
            "The superblock on the disk is damaged; the one in the journal is used.",
        ));
    }
    if sb.state & STATE_ERRORS != 0 {
        notes.push(Note::defect("The guest found errors in this file system."));
    }
    if let Journal::Device(id) = sb.journal {
        let id = uuid(id);
        notes.push(
            if sb.has_incompat(incompat::RECOVER) || on_disk != Primary::Sound {
                Note::defect(format!(
                    "The journal lies on another device ({id}) and was not replayed: the last changes of the guest may be missing or half done."
                ))
            } else {
                Note::fact(format!("The journal lies on another device ({id})."))
            },
        );
    }
    if sb.has_incompat(incompat::CASEFOLD) {
        notes.push(Note::fact(
            "Folders that ignore case are searched for exact names.",
        ));
    }
    if sb.has_incompat(incompat::ENCRYPT) {
        notes.push(Note::fact("Encrypted files are listed but not read."));
    }
    let unknown = sb.ro_compat & !ro_compat::KNOWN;
    if unknown != 0 {
        notes.push(Note::fact(format!(
            "Features {unknown:#x} are not known; they do not matter for reading."
        )));
    }
    if sb.blocks.saturating_mul(u64::from(sb.block_size)) > device_size {
        notes.push(Note::defect(
            "The file system is larger than the device it lies on.",
        ));
    }
    let bad = (0..sb.groups.min(DESCRIPTORS_CHECKED))
        .filter(|&group| {
            !core
                .descriptor(group)
                .is_ok_and(|d| d.checked && core.is_sane(&d))
        })
        .count();
    if bad > 0 {
        notes.push(Note::defect(format!(
            "{bad} block group descriptors are damaged."
        )));
    }
    notes
}
