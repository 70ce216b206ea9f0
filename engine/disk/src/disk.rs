//! What every disk image is once it is open.

use crate::check::Check;
use crate::guid::Guid;
use crate::property::Property;
use cairn_base::read_at::clip;
use cairn_base::{ReadAt, Result, Time};
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

/// The container a virtual disk lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// The disk's bytes and nothing else; a file or a block device.
    Raw,
    /// The disk's bytes and a footer.
    VhdFixed,
    /// VHD with blocks allocated as they are written.
    VhdDynamic,
    /// VHD with what differs from its parent.
    VhdDifferencing,
    /// VHDX with all blocks allocated.
    VhdxFixed,
    /// VHDX with blocks allocated as they are written.
    VhdxDynamic,
    /// VHDX with what differs from its parent.
    VhdxDifferencing,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Raw => "raw",
            Format::VhdFixed => "vhd-fixed",
            Format::VhdDynamic => "vhd-dynamic",
            Format::VhdDifferencing => "vhd-differencing",
            Format::VhdxFixed => "vhdx-fixed",
            Format::VhdxDynamic => "vhdx-dynamic",
            Format::VhdxDifferencing => "vhdx-differencing",
        })
    }
}

/// Size and time of an image file, by which a change while it was read shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileStamp {
    /// Bytes of the file (not of the virtual disk).
    pub size: u64,
    /// When the file's content last changed. A block device has no such time: it stays at zero.
    pub modified: Time,
}

/// By what an image is known again, as far as its format keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Identity {
    /// The disk's own id: VHDX VirtualDiskId, VHD unique id of the footer. Stays when the image is moved or grows.
    pub disk_id: Option<Guid>,
    /// VHDX DataWriteGuid: another one as soon as a guest may have written. Differencing children name it.
    pub data_id: Option<Guid>,
    /// VHDX FileWriteGuid: another one as soon as the file was opened for writing and anything in it was changed. None while its log is in use:
    /// then it is open, or was not closed as it should be.
    pub write_id: Option<Guid>,
    /// The image file when it was opened; none for an image that is not a file.
    pub file: Option<FileStamp>,
    /// When anything about the file changed last, as the operating system counts (`ctime`): nobody can set it. Only if each write after the
    /// file was opened shows, in this or in the [stamp](FileStamp): see [`FileSource`](crate::FileSource::settled).
    pub settled: Option<Time>,
}

/// A virtual disk: the bytes a guest sees, whatever container they lie in.
///
/// Reading is positional and needs no lock; one object serves any number of threads.
pub trait VirtualDisk: ReadAt {
    /// The container.
    fn format(&self) -> Format;

    /// Bytes in a logical sector, as the guest addresses the disk: 512 or 4096. Raw images count as 512, unless
    /// they are block devices that say otherwise.
    fn sector_size(&self) -> u32;

    /// By what the image is known again.
    fn identity(&self) -> Identity;

    /// By what each of the images that it consists of is known again: its own first, then those of its parents.
    fn chain(&self) -> Vec<Identity> {
        vec![self.identity()]
    }

    /// The parts of `range` that the first `images` images of its [chain](VirtualDisk::chain) hold themselves, zeros among them: ascending, not
    /// touching. Everywhere else it reads as the image behind these. Rough, never too little: a block of which many sectors here and there are
    /// held may count as a whole, and so may all that follows a million ranges. Everything unless it consists of several images.
    ///
    /// # Errors
    /// [`Kind::Io`](cairn_base::Kind::Io) if a file cannot be read.
    fn held(&self, images: usize, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let range = clip(range, self.size());
        match images == 0 || range.is_empty() {
            true => Ok(Vec::new()),
            false => Ok(vec![range]),
        }
    }

    /// What a user should know although the disk can be read: a damaged copy of a header, say. Sentences.
    fn warnings(&self) -> &[String];

    /// The files or devices that it is read from, by the names they were opened by: its own, then those of its parents. None for an image that
    /// is no file.
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// The image file that is no longer as it was when it was opened (size or time of change): the disk's own, or that of
    /// a parent. Always `None` for an image that is not a regular file.
    ///
    /// # Errors
    /// [`Kind::Io`](cairn_base::Kind::Io) if a file cannot be asked.
    fn changed(&self) -> Result<Option<PathBuf>> {
        Ok(None)
    }

    /// What is known of each image that it consists of: its own, then its parents. Nothing is read.
    fn images(&self) -> Vec<ImageInfo>;

    /// Walks all structures of all its images and tells `check` what is wrong. The content of the disk is not read.
    ///
    /// # Errors
    /// What keeps it from going on: an I/O error, or [`Kind::Interrupted`](cairn_base::Kind::Interrupted).
    fn check(&self, check: &mut Check<'_>) -> Result<()>;
}

/// One image of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInfo {
    /// The container.
    pub format: Format,
    /// The files it lies in, the one that names the others first; none for an image that is no file.
    pub files: Vec<ImageFile>,
    /// How it was found.
    pub found: FoundBy,
    /// Bytes of the virtual disk, as this image has it.
    pub disk_size: u64,
    /// Bytes of the disk that are allocated at once; `None` where there are no blocks.
    pub block_size: Option<u64>,
    /// Bytes in a logical sector.
    pub sector_size: u32,
    /// By what it is known again.
    pub identity: Identity,
    /// What else it says of itself.
    pub properties: Vec<Property>,
    /// What a user should know although it can be read. Sentences.
    pub warnings: Vec<String>,
}

/// A file of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFile {
    /// The name it was opened by.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Bytes that it takes on the disk it lies on, if that is said: a sparse file takes fewer than it has.
    pub allocated: Option<u64>,
}

/// How an image of a chain was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FoundBy {
    /// It is what the caller asked for.
    Caller,
    /// It lies where its child says.
    Path,
    /// It has the name that its child says, and lies in the child's folder or in one that the caller named, or is a file that the caller named.
    Name,
    /// Its name is another one: it was known by its id, among the images of these folders.
    Id,
}

impl fmt::Display for FoundBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FoundBy::Caller => "caller",
            FoundBy::Path => "path",
            FoundBy::Name => "name",
            FoundBy::Id => "id",
        })
    }
}
