//! Restoring whole disks: regions are read, decompressed and authenticated by all processors, and written in order.

use crate::point::PointView;
use cairn_base::ids::random;
use cairn_base::units::to_u64;
use cairn_base::{Error, Kind, Monitor, Result, Stage};
use cairn_disk::DiskWriter;
use cairn_disk::write::{RawWriter, VhdWriter, VhdxOptions, VhdxWriter};
use cairn_store::StoredDisk;
use cairn_store::map::REGION;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Regions that each worker may be ahead.
const AHEAD: usize = 2;

/// What a disk is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ImageFormat {
    /// The disk's bytes, sparse.
    #[default]
    Raw,
    /// Dynamic VHD.
    Vhd,
    /// Dynamic VHDX.
    Vhdx,
}

impl ImageFormat {
    /// `raw`, `vhd` or `vhdx`.
    pub fn extension(self) -> &'static str {
        match self {
            ImageFormat::Raw => "raw",
            ImageFormat::Vhd => "vhd",
            ImageFormat::Vhdx => "vhdx",
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
}

/// What was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// Size of the disk in bytes.
    pub disk_bytes: u64,
    /// Of that, written as data.
    pub data_bytes: u64,
    /// How long the system took at the end to make it durable.
    pub sync: Duration,
}

/// Writes a disk of a point to the file or block device `target`. A file appears under its name only when it is whole.
///
/// # Errors
/// [`Kind::Exists`] if the target is there and `force` is not given, [`Kind::NotFound`] if the point has no such disk,
/// [`Kind::Damaged`] naming the offset if a part of the disk is lost; then the target is left as it was (a block device is not).
pub fn restore(
    point: &PointView,
    disk: &str,
    target: &Path,
    options: &RestoreOptions,
    monitor: &dyn Monitor,
) -> Result<Restored> {
    let stored = find(point, disk)?;
    let size = stored.tree().shape().size();
    let device = std::fs::metadata(target).is_ok_and(|found| found.file_type().is_block_device());
    if target.exists() && !options.force {
        return Err(
            Error::new(Kind::Exists, "the target of the restore is there already")
                .at_path(target)
                .advise("choose another, or say --force to replace it"),
        );
    }
    if device {
        if options.format != ImageFormat::Raw {
            return Err(Error::invalid("a block device takes the raw format only").at_path(target));
        }
        let file = OpenOptions::new()
            .write(true)
            // Refused by the kernel while a file system on it is mounted.
            .custom_flags(i32::try_from(rustix::fs::OFlags::EXCL.bits()).unwrap_or(0))
            .open(target)
            .map_err(|e| Error::io("cannot open the device", target, e))?;
        let writer = Box::new(RawWriter::onto(file, target, size, true)?);
        return run(stored, writer, monitor);
    }
    let partial = partial_name(target)?;
    let sector_size = point
        .point()
        .disk(disk)
        .map_or(512, |record| record.image.sector_size.max(512));
    let result = open_writer(&partial, size, options.format, sector_size)
        .and_then(|writer| run(stored, writer, monitor));
    if result.is_err() {
        // The failure is what counts; a partial file that stays is named as such.
        let _left = remove_if_there(&partial);
    }
    let restored = result?;
    // From here on the image is whole, and never deleted.
    put_in_place(&partial, target, options.force).map_err(|e| {
        if !partial.exists() {
            return e.advise("the restored disk is whole and has its name");
        }
        e.advise(format!(
            "the restored disk is whole: it lies in {}",
            partial.display()
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
    let size = stored.tree().shape().size();
    let mut data_bytes = 0;
    each_region(stored, monitor, &mut |_, bytes, holes| {
        data_bytes += to_u64(bytes.len()) - holes.iter().map(|h| to_u64(h.len())).sum::<u64>();
        stream
            .write_all(bytes)
            .map_err(|e| Error::io("cannot write the disk", Path::new("-"), e))
    })?;
    stream
        .flush()
        .map_err(|e| Error::io("cannot write the disk", Path::new("-"), e))?;
    Ok(Restored {
        disk_bytes: size,
        data_bytes,
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

fn open_writer(
    path: &Path,
    size: u64,
    format: ImageFormat,
    sector_size: u32,
) -> Result<Box<dyn DiskWriter>> {
    // A new id: the machine the disk came from may still be there.
    Ok(match format {
        ImageFormat::Raw => Box::new(RawWriter::create(path, size)?),
        ImageFormat::Vhd => Box::new(VhdWriter::create(path, size, None)?),
        ImageFormat::Vhdx => Box::new(VhdxWriter::create(
            path,
            size,
            VhdxOptions {
                sector_size,
                block_size: None,
                disk_id: None,
            },
        )?),
    })
}

fn partial_name(target: &Path) -> Result<PathBuf> {
    let name = target
        .file_name()
        .ok_or_else(|| Error::invalid("the target of the restore has no name").at_path(target))?;
    let mut partial = std::ffi::OsString::from(".");
    partial.push(name);
    // Random, so that two restores to one target cannot write into each other's file.
    let [a, b, c, d] = random::<4>()?;
    partial.push(format!(".{:08x}.partial", u32::from_le_bytes([a, b, c, d])));
    Ok(target.with_file_name(partial))
}

fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("cannot remove the partial file", path, e))
        }
        _ => Ok(()),
    }
}

/// Renames without replacing what somebody may have made meanwhile, as well as the file system can.
fn rename_new(from: &Path, to: &Path) -> std::io::Result<()> {
    use rustix::io::Errno;
    let here = rustix::fs::CWD;
    match rustix::fs::renameat_with(here, from, here, to, rustix::fs::RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            if to.exists() {
                return Err(std::io::ErrorKind::AlreadyExists.into());
            }
            std::fs::rename(from, to)
        }
        other => other.map_err(Into::into),
    }
}

/// Gives the finished file its name, and makes the name durable.
fn put_in_place(partial: &Path, target: &Path, force: bool) -> Result<()> {
    let renamed = if force {
        std::fs::rename(partial, target)
    } else {
        rename_new(partial, target)
    };
    renamed.map_err(|e| Error::io("cannot put the restored disk in its place", target, e))?;
    let folder = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|e| Error::io("cannot make the restored disk's name durable", folder, e))
}

fn run(
    stored: &StoredDisk,
    mut writer: Box<dyn DiskWriter>,
    monitor: &dyn Monitor,
) -> Result<Restored> {
    each_region(stored, monitor, &mut |offset, bytes, holes| {
        let mut at = 0;
        for hole in holes
            .iter()
            .cloned()
            .chain(std::iter::once(bytes.len()..bytes.len()))
        {
            if let Some(data) = bytes.get(at..hole.start)
                && !data.is_empty()
            {
                writer.write_at(offset + to_u64(at), data)?;
            }
            at = hole.end;
        }
        Ok(())
    })?;
    let written = writer.finish()?;
    Ok(Restored {
        disk_bytes: stored.tree().shape().size(),
        data_bytes: written.data_bytes,
        sync: written.sync,
    })
}

/// Receives a region: its offset on the disk, its bytes, and which of them are holes.
type RegionSink<'a> = &'a mut dyn FnMut(u64, &[u8], &[Range<usize>]) -> Result<()>;

type Answer = (Vec<u8>, usize, Result<Vec<Range<usize>>>);

/// Reads all regions with all processors and gives them to `sink` in order. Memory is a few regions a thread.
fn each_region(stored: &StoredDisk, monitor: &dyn Monitor, sink: RegionSink<'_>) -> Result<()> {
    let shape = stored.tree().shape();
    monitor.begin(Stage::Restore, shape.size());
    // A worker holds up to five regions: more than eight would break the memory budget.
    let threads = std::thread::available_parallelism()
        .map_or(2, usize::from)
        .min(8);
    let stop = AtomicBool::new(false);
    let done = AtomicU64::new(0);
    let result = std::thread::scope(|scope| {
        // Worker k does regions k, k + threads, ...: the order of the answers needs no sorting.
        let lanes: Vec<(Receiver<Answer>, SyncSender<Vec<u8>>)> = (0..threads)
            .map(|lane| {
                let (send, receive) = sync_channel::<Answer>(AHEAD);
                let (back, buffers) = sync_channel::<Vec<u8>>(AHEAD + 2);
                let stop = &stop;
                scope.spawn(move || {
                    let lane = to_u64(lane);
                    let mut region = lane;
                    while region < shape.regions() && !stop.load(Ordering::Relaxed) {
                        let mut buffer = buffers
                            .try_recv()
                            .unwrap_or_else(|_| vec![0; usize::try_from(REGION).unwrap_or(0)]);
                        let length = usize::try_from(shape.region_length(region)).unwrap_or(0);
                        let holes = stored.read_region(region, &mut buffer);
                        if send.send((buffer, length, holes)).is_err() {
                            return;
                        }
                        region += to_u64(threads);
                    }
                });
                (receive, back)
            })
            .collect();
        let mut write_all = || -> Result<()> {
            for region in 0..shape.regions() {
                if monitor.stop_requested() {
                    return Err(Error::interrupted());
                }
                let lane = usize::try_from(region % to_u64(threads)).unwrap_or(0);
                let Some((receive, back)) = lanes.get(lane) else {
                    return Err(Error::invalid("a worker that is not there"));
                };
                let (buffer, length, holes) = receive
                    .recv()
                    .map_err(|_| Error::invalid("a restore worker has ended"))?;
                let holes = holes.map_err(|e| {
                    e.context("a part of the disk cannot be restored")
                        .at_offset(region * REGION)
                })?;
                sink(
                    region * REGION,
                    buffer.get(..length).unwrap_or_default(),
                    &holes,
                )?;
                done.fetch_add(to_u64(length), Ordering::Relaxed);
                monitor.advance(Stage::Restore, to_u64(length));
                // A full lane has buffers enough.
                let _enough = back.try_send(buffer);
            }
            Ok(())
        };
        let result = write_all();
        stop.store(true, Ordering::Relaxed);
        drop(lanes);
        result
    });
    monitor.finish(Stage::Restore);
    result
}
