//! What an image is, by its content, and how it is opened.

use crate::align::to_usize;
use crate::disk::{Format, Identity, VirtualDisk};
use crate::raw::RawDisk;
use crate::source::FileSource;
use crate::vhd::footer::{DiskType, Footer};
use crate::{foreign, vhd, vhdx};
use cairn_base::read_at::read_vec;
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// What the caller knows of an image's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FormatHint {
    /// Nothing: the content decides, see [`detect`].
    #[default]
    Detect,
    /// It is a raw disk, whatever its bytes look like.
    Raw,
    /// It is a VHD, fixed or dynamic.
    Vhd,
    /// It is a VHDX, fixed or dynamic.
    Vhdx,
}

/// What was found in an image.
enum Found {
    Raw,
    Vhd(Footer, Vec<String>),
    Vhdx,
}

/// Which container `image` is, by its content: `vhdxfile` at the start, or a VHD footer at the end or (its copy) at the
/// start; anything else is raw. A guest cannot make its own raw disk pass for a VHDX without giving up its boot sector.
///
/// A VHDX is said to be dynamic here; only its metadata tell.
///
/// # Errors
/// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for a container that is known and not read (QCOW2, VMDK, ...),
/// so that it is never taken for a disk; [`Kind::Damaged`](cairn_base::Kind::Damaged) if the image is empty, or if there is
/// a VHD footer and no copy of it can be used (see [`vhd::find_footer`]).
pub fn detect(image: &dyn ReadAt) -> Result<Format> {
    Ok(match find(image)? {
        Found::Raw => Format::Raw,
        Found::Vhdx => Format::VhdxDynamic,
        Found::Vhd(footer, _) if footer.disk_type == DiskType::Fixed => Format::VhdFixed,
        Found::Vhd(..) => Format::VhdDynamic,
    })
}

fn find(image: &dyn ReadAt) -> Result<Found> {
    if image.size() == 0 {
        return Err(Error::damaged("the image is empty"));
    }
    let length = image.size().min(to_u64(foreign::HEAD));
    let head = read_vec(image, 0, to_usize(length)?)?;
    if head.starts_with(vhdx::SIGNATURE) {
        return Ok(Found::Vhdx);
    }
    if let Some((footer, warnings)) = vhd::find_footer(image)? {
        return Ok(Found::Vhd(footer, warnings));
    }
    foreign::refuse(&head)?;
    Ok(Found::Raw)
}

/// Opens an image that may lie anywhere.
///
/// # Errors
/// See [`detect`], [`vhd::open`] and [`vhdx::open`].
pub fn open_bytes(image: Arc<dyn ReadAt>, hint: FormatHint) -> Result<Arc<dyn VirtualDisk>> {
    open_with(image, hint, 512)
}

fn open_with(
    image: Arc<dyn ReadAt>,
    hint: FormatHint,
    sector_size: u32,
) -> Result<Arc<dyn VirtualDisk>> {
    let found = match hint {
        FormatHint::Detect => find(&*image)?,
        FormatHint::Raw => Found::Raw,
        FormatHint::Vhdx => Found::Vhdx,
        FormatHint::Vhd => match vhd::find_footer(&*image)? {
            Some((footer, warnings)) => Found::Vhd(footer, warnings),
            None => return Err(Error::damaged("the image has no VHD footer")),
        },
    };
    Ok(match found {
        Found::Raw => Arc::new(RawDisk::new(image, sector_size)),
        Found::Vhd(footer, warnings) => vhd::open(image, &footer, warnings)?,
        Found::Vhdx => Arc::new(vhdx::open(image)?),
    })
}

/// Opens an image file or a block device, its format found out by its content.
///
/// # Errors
/// As [`open_as`] with [`FormatHint::Detect`].
pub fn open(path: &Path) -> Result<Arc<dyn VirtualDisk>> {
    open_as(path, FormatHint::Detect)
}

/// Opens an image file or a block device.
///
/// A file called `.vhd` or `.vhdx` in which nothing of the kind is found is refused unless the caller says what it is:
/// its header is gone, and to keep the container as if it were the disk would be a recovery point of nothing.
///
/// # Errors
/// What [`FileSource::open`] and [`open_bytes`] say, with the file's name.
pub fn open_as(path: &Path, hint: FormatHint) -> Result<Arc<dyn VirtualDisk>> {
    let file = Arc::new(FileSource::open(path)?);
    let sector_size = file.sector_size().unwrap_or(512);
    let disk = open_with(file.clone(), hint, sector_size).map_err(|e| e.at_path(path))?;
    if hint == FormatHint::Detect && disk.format() == Format::Raw && is_named_vhd(path) {
        return Err(Error::damaged(
            "the file is named like a VHD or VHDX and holds none: its header or footer is missing",
        )
        .at_path(path)
        .advise("say that the image is raw if it is a raw disk"));
    }
    Ok(Arc::new(FileDisk { disk, file }))
}

fn is_named_vhd(path: &Path) -> bool {
    path.extension().is_some_and(|extension| {
        ["vhd", "vhdx", "avhd", "avhdx"]
            .iter()
            .any(|name| extension.eq_ignore_ascii_case(name))
    })
}

/// A disk whose image is a file: errors name it, and it can be asked whether it changed.
struct FileDisk {
    disk: Arc<dyn VirtualDisk>,
    file: Arc<FileSource>,
}

impl ReadAt for FileDisk {
    fn size(&self) -> u64 {
        self.disk.size()
    }
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.disk
            .read_exact_at(offset, buffer)
            .map_err(|e| e.at_path(self.file.path()))
    }
    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        self.disk
            .data_extents(range)
            .map_err(|e| e.at_path(self.file.path()))
    }
    fn will_need(&self, range: Range<u64>) {
        self.disk.will_need(range);
    }
}

impl VirtualDisk for FileDisk {
    fn format(&self) -> Format {
        self.disk.format()
    }
    fn sector_size(&self) -> u32 {
        self.disk.sector_size()
    }
    fn identity(&self) -> Identity {
        Identity {
            file: Some(self.file.stamp()),
            ..self.disk.identity()
        }
    }
    fn warnings(&self) -> &[String] {
        self.disk.warnings()
    }
    fn changed(&self) -> Result<bool> {
        self.file.changed()
    }
}

#[cfg(test)]
mod tests;
