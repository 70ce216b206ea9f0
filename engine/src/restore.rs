//! Restoring whole disks: regions are read, decompressed, authenticated and written by all processors.

mod partial;
mod plan;
mod stream;
mod work;

use crate::point::PointView;
use cairn_base::{Error, Kind, Monitor, Result};
use cairn_disk::DiskWriter;
use cairn_disk::write::{
    FixedVhdWriter, FixedVhdxWriter, RawWriter, VhdWriter, VhdxOptions, VhdxWriter,
};
use cairn_store::StoredDisk;
use partial::{Leftover, Partial};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

/// What a disk is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ImageFormat {
    /// The disk's bytes, sparse.
    #[default]
    Raw,
    /// Dynamic VHD.
    Vhd,
    /// Fixed VHD: the disk's bytes and a footer, sparse.
    VhdFixed,
    /// Dynamic VHDX.
    Vhdx,
    /// Fixed VHDX: all blocks are there, sparse.
    VhdxFixed,
}

impl ImageFormat {
    /// How names of such files end: `raw`, `vhd` or `vhdx`.
    pub fn extension(self) -> &'static str {
        match self {
            ImageFormat::Raw => "raw",
            ImageFormat::Vhd | ImageFormat::VhdFixed => "vhd",
            ImageFormat::Vhdx | ImageFormat::VhdxFixed => "vhdx",
        }
    }
}

/// How to restore.
#[derive(Debug, Clone, Copy, Default)]
pub struct RestoreOptions {
    /// What the disk is written as.
    pub format: ImageFormat,
    /// Whether a target that is there is replaced; a block device is only written to with it.
    pub force: bool,
    /// Whether to go on with what an earlier restore has left: what the target has is read and compared, and only what differs is
    /// written. What an interrupted or failed restore has done stays, to be gone on with.
    ///
    /// With `force` a raw image that is there is taken as such a beginning; until it is whole it is called `.NAME.partial`.
    pub resume: bool,
}

/// What was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// Size of the disk in bytes.
    pub disk_bytes: u64,
    /// Of that, written as data.
    pub data_bytes: u64,
    /// Of that, data which the target had already.
    pub resumed_bytes: u64,
    /// How long the system took at the end to make it durable.
    pub sync: Duration,
}

/// Writes a disk of a point to the file or block device `target`. A file appears under its name only when it is whole; before
/// that it is `.NAME.partial` in the same folder.
///
/// # Errors
/// [`Kind::Exists`] if the target, or what an interrupted restore left, is there and the options do not say what to do with it;
/// [`Kind::Busy`] if another restore writes to it; [`Kind::NotFound`] if the point has no such disk; [`Kind::Unsupported`] if the
/// format cannot hold it (its size, or a VHD its sectors);
/// [`Kind::Damaged`] naming the offset if a part of the disk is lost. After an error the target is as it was, but for a block device and
/// for `resume`.
pub fn restore(
    point: &PointView,
    disk: &str,
    target: &Path,
    options: &RestoreOptions,
    monitor: &dyn Monitor,
) -> Result<Restored> {
    let stored = find(point, disk)?;
    if target.exists() && !options.force {
        return Err(
            Error::new(Kind::Exists, "the target of the restore is there already")
                .at_path(target)
                .advise("choose another, or say --force to replace it"),
        );
    }
    if std::fs::metadata(target).is_ok_and(|found| found.file_type().is_block_device()) {
        let writer = open_device(target, stored, options)?;
        return work::restore_disk(stored, writer, options.resume, monitor);
    }
    let sector_size = point
        .point()
        .disk(disk)
        .map_or(512, |record| record.image.sector_size.max(512));
    check_sectors(options.format, sector_size)?;
    if options.resume && options.format == ImageFormat::Raw && target.exists() {
        partial::take_over(target)?;
    }
    let leftover = match (options.resume, options.force) {
        (true, _) => Leftover::GoOn,
        (false, true) => Leftover::Replace,
        (false, false) => Leftover::Refuse,
    };
    let partial = Partial::open(target, leftover)?;
    let size = stored.tree().shape().size();
    let result = open_writer(&partial, size, options.format, sector_size)
        .and_then(|writer| work::restore_disk(stored, writer, partial.is_old, monitor));
    let restored = match result {
        Ok(restored) => restored,
        Err(error) if options.resume => {
            return Err(error.context(format!(
                "what the restore has done stays in {}",
                partial.path().display()
            )));
        }
        Err(error) => {
            // The failure is what counts; a partial file that stays is named by the next restore.
            let _left = partial.remove();
            return Err(error);
        }
    };
    // From here on the image is whole, and never deleted.
    let path = partial.path().to_path_buf();
    partial.put_in_place(target, options.force).map_err(|e| {
        if !path.exists() {
            return e.advise("the restored disk is whole and has its name");
        }
        e.advise(format!(
            "the restored disk is whole: it lies in {}",
            path.display()
        ))
    })?;
    Ok(restored)
}

/// Writes a disk of a point, raw, to a stream: holes as zeros.
///
/// # Errors
/// As [`restore`], and what the stream reports.
pub fn restore_to(
    point: &PointView,
    disk: &str,
    stream: &mut dyn Write,
    monitor: &dyn Monitor,
) -> Result<Restored> {
    let stored = find(point, disk)?;
    Ok(Restored {
        disk_bytes: stored.tree().shape().size(),
        data_bytes: stream::stream_disk(stored, stream, monitor)?,
        resumed_bytes: 0,
        sync: Duration::ZERO,
    })
}

fn find<'a>(point: &'a PointView, disk: &str) -> Result<&'a StoredDisk> {
    let position = point.disks().iter().position(|view| view.name() == disk);
    position
        .and_then(|index| point.stored().get(index))
        .map(|stored| &**stored)
        .ok_or_else(|| {
            let names: Vec<_> = point.disks().iter().map(|view| view.name()).collect();
            Error::not_found(format!("the point has no disk `{disk}`"))
                .advise(format!("it has {}", names.join(", ")))
        })
}

fn open_device(
    target: &Path,
    stored: &StoredDisk,
    options: &RestoreOptions,
) -> Result<Box<dyn DiskWriter>> {
    if options.format != ImageFormat::Raw {
        return Err(Error::invalid("a block device takes the raw format only").at_path(target));
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        // Refused by the kernel while a file system on it is mounted.
        .custom_flags(i32::try_from(rustix::fs::OFlags::EXCL.bits()).unwrap_or(0))
        .open(target)
        .map_err(|e| Error::io("cannot open the device", target, e))?;
    let size = stored.tree().shape().size();
    Ok(Box::new(RawWriter::onto(file, target, size, true)?))
}

/// Refuses what would be written and could not be used.
fn check_sectors(format: ImageFormat, sector_size: u32) -> Result<()> {
    let is_vhd = matches!(format, ImageFormat::Vhd | ImageFormat::VhdFixed);
    if !is_vhd || sector_size == 512 {
        return Ok(());
    }
    Err(Error::unsupported(format!(
        "a VHD has sectors of 512 bytes, and the disk has sectors of {sector_size}: a guest would not find its partitions"
    ))
    .advise("write it as VHDX or raw"))
}

fn open_writer(
    partial: &Partial,
    size: u64,
    format: ImageFormat,
    sector_size: u32,
) -> Result<Box<dyn DiskWriter>> {
    let vhdx = VhdxOptions {
        sector_size,
        block_size: None,
        disk_id: None,
    };
    let (file, path, is_old) = (partial.file()?, partial.path(), partial.is_old);
    // A new id: the machine the disk came from may still be there.
    Ok(match format {
        ImageFormat::Raw => Box::new(RawWriter::onto(file, path, size, is_old)?),
        ImageFormat::Vhd => Box::new(VhdWriter::onto(file, path, size, None, is_old)?),
        ImageFormat::VhdFixed => Box::new(FixedVhdWriter::onto(file, path, size, None, is_old)?),
        ImageFormat::Vhdx => Box::new(VhdxWriter::onto(file, path, size, vhdx, is_old)?),
        ImageFormat::VhdxFixed => Box::new(FixedVhdxWriter::onto(file, path, size, vhdx, is_old)?),
    })
}
