//! What every disk image is once it is open.

use crate::guid::Guid;
use cairn_base::{ReadAt, Result, Time};
use std::fmt;
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
    /// QCOW2, with or without a backing file.
    Qcow2,
    /// VDI with all blocks allocated.
    VdiFixed,
    /// VDI with blocks allocated as they are written.
    VdiDynamic,
    /// VDI with what differs from its parent.
    VdiDifferencing,
    /// VMDK whose extents are the disk's bytes.
    VmdkFlat,
    /// VMDK of one extent with grains allocated as they are written.
    VmdkSparse,
    /// VMDK of several such extents.
    VmdkSplit,
    /// VMDK with compressed grains, written in one go.
    VmdkStreamOptimized,
    /// VMDK with what differs from its parent.
    VmdkDifferencing,
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
            Format::Qcow2 => "qcow2",
            Format::VdiFixed => "vdi-fixed",
            Format::VdiDynamic => "vdi-dynamic",
            Format::VdiDifferencing => "vdi-differencing",
            Format::VmdkFlat => "vmdk-flat",
            Format::VmdkSparse => "vmdk-sparse",
            Format::VmdkSplit => "vmdk-split",
            Format::VmdkStreamOptimized => "vmdk-stream-optimized",
            Format::VmdkDifferencing => "vmdk-differencing",
        })
    }
}

/// What the caller knows of an image's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FormatHint {
    /// Nothing: the content decides, see [`detect`](crate::detect()).
    #[default]
    Detect,
    /// It is a raw disk, whatever its bytes look like.
    Raw,
    /// It is a VHD of any kind.
    Vhd,
    /// It is a VHDX of any kind.
    Vhdx,
    /// It is a QCOW2.
    Qcow2,
    /// It is a VDI of any kind.
    Vdi,
    /// It is a VMDK of any kind.
    Vmdk,
}

impl FormatHint {
    /// What it says if the caller may know that it is a raw disk, and knows nothing else.
    pub fn raw_if(is_raw: bool) -> FormatHint {
        match is_raw {
            true => FormatHint::Raw,
            false => FormatHint::Detect,
        }
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

impl FileStamp {
    /// That of two files together: all bytes, and the later time.
    pub(crate) fn and(self, other: FileStamp) -> FileStamp {
        FileStamp {
            size: self.size.saturating_add(other.size),
            modified: self.modified.max(other.modified),
        }
    }
}

/// By what an image is known again, as far as its format keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Identity {
    /// The disk's own id: VHDX VirtualDiskId, VHD unique id of the footer, VDI uuidCreate. Stays when the image is moved or grows.
    pub disk_id: Option<Guid>,
    /// VHDX DataWriteGuid: another one as soon as a guest may have written. Differencing children name it.
    pub data_id: Option<Guid>,
    /// The image file when it was opened, or the files that it consists of (not those of its parents); none for an image that is not a file.
    pub file: Option<FileStamp>,
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

    /// What a user should know although the disk can be read: a damaged copy of a header, say. Sentences.
    fn warnings(&self) -> &[String];

    /// The files or devices that it is read from, by the names they were opened by: its own, others that belong to the same image, then those of
    /// its parents. None for an image that is no file.
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// The image file that is no longer as it was when it was opened (size or time of change): one of the disk's own, or of
    /// a parent. Always `None` for an image that is not a regular file.
    ///
    /// # Errors
    /// [`Kind::Io`](cairn_base::Kind::Io) if a file cannot be asked.
    fn changed(&self) -> Result<Option<PathBuf>> {
        Ok(None)
    }
}
