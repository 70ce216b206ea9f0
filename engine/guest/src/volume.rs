//! One trait for every guest file system.
//!
//! A volume is read-only, shared by threads, and answers from bounded caches. Entries are named by stable ids, so
//! that a mount needs no table of paths. Nothing a volume says is trusted beyond what it is asked for: it never
//! decides whether bytes are backed up.

use cairn_base::{ReadAt, Result, Time};
use std::fmt;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

/// The stable id of a file, folder or other entry of one volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId {
    /// The sub-volume (btrfs); 0 for file systems with one tree.
    pub tree: u64,
    /// The inode or file record number.
    pub number: u64,
}

impl EntryId {
    /// An entry of a file system with one tree.
    pub fn new(number: u64) -> EntryId {
        EntryId { tree: 0, number }
    }
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link, a junction or another reparse point that names a target.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
}

/// What is known of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// What it is.
    pub kind: EntryKind,
    /// Length of the main stream in bytes; of a symbolic link, of its target.
    pub size: u64,
    /// Bytes allocated on the volume for the main stream.
    pub allocated: u64,
    /// Permission bits (0o7777). Of NTFS what its access lists come to (0o500 where they are damaged); where nothing says it: 0o555 for folders, 0o444 for others.
    pub mode: u32,
    /// Owner; 0 where the file system has none.
    pub uid: u32,
    /// Group; 0 where the file system has none.
    pub gid: u32,
    /// Number of names, at least 1.
    pub links: u32,
    /// Major and minor number of a device.
    pub device: Option<(u32, u32)>,
    /// Content changed.
    pub modified: Time,
    /// Attributes changed.
    pub changed: Time,
    /// Content read.
    pub accessed: Time,
    /// Made, where the file system keeps it.
    pub created: Option<Time>,
    /// Windows file attributes (FILE_ATTRIBUTE_*), 0 elsewhere.
    pub dos_flags: u32,
}

/// One name in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Bytes as the guest's kernel would show them: raw on Linux file systems, UTF-8 (lone surrogates as
    /// WTF-8) on Windows ones. Never empty, no `/`, no NUL, neither `.` nor `..`.
    pub name: Vec<u8>,
    /// Which entry it names.
    pub id: EntryId,
    /// What the folder says the entry is.
    pub kind: EntryKind,
    /// Give this to [`Volume::read_dir`] to go on behind this name. Never 0.
    pub cookie: u64,
}

/// A named stream of a file beside its content (NTFS alternate data stream).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInfo {
    /// Name in the encoding of [`DirEntry::name`].
    pub name: Vec<u8>,
    /// Length in bytes.
    pub size: u64,
}

/// A range of a volume in which a part of an entry's content lies.
///
/// If two files of one size have the same extents, and the bytes in them are the same, then all that extents tell of is the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// Where it lies, in bytes of the volume.
    pub place: Range<u64>,
    /// Which content it belongs to: 0 is a file's main stream, 1 and so on are its named streams in the order of their names, as the volume
    /// stores them. None: names of a folder, or the target of a link.
    pub stream: Option<u32>,
    /// Where it begins in that content, in bytes as they are stored.
    pub offset: u64,
    /// How the content is read from it.
    pub reading: Reading,
}

/// What decides, beside the bytes of its extents, what a content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    /// From here on the content is zeros, whatever lies in the extents.
    pub valid: u64,
    /// How the file system marks what is compressed, encrypted or kept elsewhere: 0 is none of these. Means something only within one file system.
    pub packing: u32,
}

/// What a link leads to, taken apart as far as needs to be known outside of the guest. Names are as [`DirEntry::name`], or `..`; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkTarget {
    /// A path as a Linux guest takes it.
    Posix(Vec<u8>),
    /// Windows: names from the folder in which the link lies. `..` leads no further than to the volume's root.
    Relative(Vec<Vec<u8>>),
    /// Windows: names from the root of the link's own volume; without `..`.
    Rooted(Vec<Vec<u8>>),
    /// Windows: a drive letter, `A` to `Z`, and names from the root of its volume; without `..`.
    Letter(u8, Vec<Vec<u8>>),
    /// Windows: the GUID of a volume as its mount manager writes it, in small letters and without braces, and names from its root; without `..`.
    Named(String, Vec<Vec<u8>>),
    /// Windows: another machine, a device, or something that is not understood. As it stands, with `/` for `\`; begins with `/??/`.
    Elsewhere(Vec<u8>),
}

/// What is known of a volume as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeInfo {
    /// `ext2`, `ext3`, `ext4`, `ntfs`, ...
    pub file_system: &'static str,
    /// The label, empty if none.
    pub label: String,
    /// UUID or serial number as its own tools print it, empty if none.
    pub uuid: String,
    /// Allocation unit (block, cluster) in bytes.
    pub block_size: u32,
    /// Bytes the file system covers.
    pub size: u64,
    /// Bytes free, as the file system counts them.
    pub free: u64,
    /// Number of entries in use, 0 if not counted.
    pub files: u64,
    /// Whether the guest closed it properly: its journal was empty (not so if it was replayed in memory), and it is not marked dirty.
    pub clean: bool,
    /// What a user should know: an unreplayed journal, features that are read in part.
    pub notes: Vec<Note>,
    /// Names are compared without regard to case (NTFS, FAT).
    pub ignores_case: bool,
}

impl VolumeInfo {
    /// Why what is shown may be old, missing or wrong. Sentences.
    pub fn defects(&self) -> impl Iterator<Item = &str> {
        let defects = self.notes.iter().filter(|note| note.is_defect);
        defects.map(|note| note.text.as_str())
    }
}

/// Something that a user should know of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// A sentence.
    pub text: String,
    /// Whether something that is shown may be old, missing or wrong for this reason.
    pub is_defect: bool,
}

impl Note {
    /// What is merely so: nothing that is shown is wrong because of it.
    pub fn fact(text: impl Into<String>) -> Note {
        Note {
            text: text.into(),
            is_defect: false,
        }
    }

    /// Why something that is shown may be old, missing or wrong.
    pub fn defect(text: impl Into<String>) -> Note {
        Note {
            text: text.into(),
            is_defect: true,
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Receives names; [`ControlFlow::Break`] ends the walk.
pub type DirSink<'a> = &'a mut dyn FnMut(DirEntry) -> ControlFlow<()>;

/// Receives extents; [`ControlFlow::Break`] ends the walk.
pub type ExtentSink<'a> = &'a mut dyn FnMut(Extent) -> ControlFlow<()>;

/// Receives ranges in bytes of the volume; [`ControlFlow::Break`] ends the walk.
pub type RangeSink<'a> = &'a mut dyn FnMut(Range<u64>) -> ControlFlow<()>;

/// A guest's file system.
///
/// # Errors
/// Every method answers [`Kind::Damaged`](cairn_base::Kind::Damaged) for bytes that contradict the format,
/// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for a feature that is not read (encryption, say),
/// [`Kind::NotFound`](cairn_base::Kind::NotFound) for an id that is not in use,
/// [`Kind::Invalid`](cairn_base::Kind::Invalid) for asking a file for names or a folder for content; and whatever
/// the disk below reports. One bad entry never spoils its neighbours.
pub trait Volume: Send + Sync {
    /// What is known of the volume as a whole.
    fn info(&self) -> &VolumeInfo;

    /// The root folder.
    fn root(&self) -> EntryId;

    /// What is known of an entry.
    fn attributes(&self, id: EntryId) -> Result<Attributes>;

    /// The entry called `name` in `folder`, by the volume's own rules for comparing names.
    fn lookup(&self, folder: EntryId, name: &[u8]) -> Result<Option<DirEntry>>;

    /// Tells `sink` the names in `folder`, from the start (`after` 0) or behind the name with the cookie `after`.
    /// Cookies are stable for the life of the volume object; a walk interrupted and continued misses nothing and
    /// repeats nothing.
    fn read_dir(&self, folder: EntryId, after: u64, sink: DirSink<'_>) -> Result<()>;

    /// The folder an entry lies in, where the file system knows (for `..` and for paths); the root's is itself.
    fn parent(&self, id: EntryId) -> Result<Option<EntryId>>;

    /// The content of a file, for positional reads by many threads; holes show in
    /// [`ReadAt::data_extents`].
    fn open(&self, id: EntryId) -> Result<Arc<dyn ReadAt>>;

    /// The named streams of a file or folder. Most file systems have none.
    fn streams(&self, _id: EntryId) -> Result<Vec<StreamInfo>> {
        Ok(Vec::new())
    }

    /// The content of the named stream `name`.
    fn open_stream(&self, id: EntryId, name: &[u8]) -> Result<Arc<dyn ReadAt>>;

    /// The target of a symbolic link, as the guest wrote it.
    fn read_link(&self, id: EntryId) -> Result<Vec<u8>>;

    /// What a symbolic link leads to. Only Windows' file systems have links that are not [`LinkTarget::Posix`].
    fn link_target(&self, id: EntryId) -> Result<LinkTarget> {
        Ok(LinkTarget::Posix(self.read_link(id)?))
    }

    /// Extended attributes: full name (`user.x`, `security.selinux`) and value. On NTFS also what it knows of an entry beside its content, in the forms
    /// that ntfs-3g gives it (`system.ntfs_acl`, ...) and in readable ones (`user.cairn.sddl`, ...).
    ///
    /// Values of more than 64 KiB, which Linux passes to nobody, and those that are damaged may be left out; `user.cairn.left_out` names them then.
    fn xattrs(&self, _id: EntryId) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        Ok(Vec::new())
    }

    /// One of [`xattrs`](Volume::xattrs), without a look at the others; also one of more than 64 KiB. `None` if there is none of that name.
    fn xattr(&self, id: EntryId, name: &[u8]) -> Result<Option<Vec<u8>>> {
        let found = self
            .xattrs(id)?
            .into_iter()
            .find(|(known, _)| known == name);
        Ok(found.map(|(_, value)| value))
    }

    /// Those of [`xattrs`](Volume::xattrs) that the guest's programs gave the entry as such: what a program that copies it takes along. The others
    /// only say in another way what is known of it.
    fn listed_xattrs(&self, id: EntryId) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.xattrs(id)
    }

    /// Tells `sink` the ranges of the volume in which the content of an entry lies: the data of a file and of its named streams, the names of a
    /// folder, the target of a link. Content that lies in the entry's own record is not told, nor are the records. In the order of the
    /// content, one stream after the other; a file that shares ranges with others tells them too.
    fn extents(&self, id: EntryId, sink: ExtentSink<'_>) -> Result<()>;

    /// Tells `sink` the ranges of the volume that the file system says hold nothing, ascending and not overlapping.
    fn free_space(&self, sink: RangeSink<'_>) -> Result<()>;
}
