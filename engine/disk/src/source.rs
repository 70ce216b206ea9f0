//! An image file or a block device: opened read-only, read by position, shared by threads without a lock.

use crate::disk::{FileStamp, ImageFile};
use crate::settled;
use cairn_base::cold::{Cold, LARGE};
use cairn_base::read_at::{check_range, clip};
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result, Time};
use rustix::fs::{Advice, Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use std::fs::{File, FileType, Metadata};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// After so many extents the rest of the range counts as data, so that a file of a billion holes cannot fill the
/// memory. 16 MiB of ranges.
const MAX_EXTENTS: usize = 1 << 20;

/// A regular file or a block device.
pub struct FileSource {
    file: File,
    path: PathBuf,
    size: u64,
    allocated: Option<u64>,
    sector_size: Option<u32>,
    stamp: FileStamp,
    /// `ctime`, where it is relied on.
    changed_at: Option<Time>,
    settled: Option<Time>,
    file_id: (u64, u64),
    is_device: bool,
    cold: Option<Cold>,
}

impl FileSource {
    /// Opens `path` read-only. Where a later change has to show, this waits for the next tick of the clock if the file was written just now, and for a
    /// write that is under way.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) for anything but a regular file or a block device; what the
    /// operating system says otherwise.
    pub fn open(path: &Path) -> Result<FileSource> {
        FileSource::from_file(FileSource::open_file(path)?, path)
    }

    /// As [`open`](FileSource::open), without waiting: to look into a file that is closed again, or opened anew.
    ///
    /// # Errors
    /// As [`open`](FileSource::open).
    pub(crate) fn open_to_look(path: &Path) -> Result<FileSource> {
        let file = FileSource::open_file(path)?;
        let metadata = file.metadata().map_err(|e| no_size(path, e))?;
        FileSource::known(file, path, metadata, None)
    }

    fn open_file(path: &Path) -> Result<File> {
        let fail = |e| Error::io("cannot open the disk image", path, e);
        // Looked at before it is opened: opening a device may do something. What is opened is looked at again; it may be another file by
        // then, and a pipe would wait for its writer.
        check_kind(std::fs::metadata(path).map_err(fail)?.file_type(), path)?;
        let waits_not = OFlags::NONBLOCK | OFlags::NOCTTY;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | waits_not;
        match rustix::fs::open(path, flags, Mode::empty()) {
            // Only somebody's lease on a regular file makes one wait here.
            Err(Errno::WOULDBLOCK) => File::open(path).map_err(fail),
            file => Ok(File::from(file.map_err(|e| fail(e.into()))?)),
        }
    }

    /// Takes a file that is open for reading; `path` is its name in messages.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) for anything but a regular file or a block device; what the operating system
    /// says otherwise.
    pub fn from_file(file: File, path: &Path) -> Result<FileSource> {
        let metadata = file.metadata().map_err(|e| no_size(path, e))?;
        let settled = settled::settle(&file, metadata);
        let (metadata, settled) = settled.map_err(|e| no_size(path, e))?;
        FileSource::known(file, path, metadata, settled)
    }

    fn known(
        file: File,
        path: &Path,
        metadata: Metadata,
        settled: Option<Time>,
    ) -> Result<FileSource> {
        check_kind(metadata.file_type(), path)?;
        let is_device = metadata.file_type().is_block_device();
        let (size, sector_size) = if is_device {
            // A device's metadata has no size. The cursor this moves is used by nobody.
            let size = rustix::fs::seek(&file, SeekFrom::End(0));
            let size = size.map_err(|e| no_size(path, e.into()))?;
            (size, device_sector_size(&file))
        } else {
            (metadata.len(), None)
        };
        Ok(FileSource {
            stamp: stamp(&metadata, size, is_device),
            changed_at: settled::changed_at(&file, &metadata),
            settled,
            // stat(2) counts 512 bytes each, whatever the file system.
            allocated: (!is_device).then(|| metadata.blocks().saturating_mul(512)),
            file_id: (metadata.dev(), metadata.ino()),
            cold: Cold::of(&file),
            file,
            path: path.to_path_buf(),
            size,
            sector_size,
            is_device,
        })
    }

    /// The name it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size and time of change when it was opened.
    pub fn stamp(&self) -> FileStamp {
        self.stamp
    }

    /// When anything about the file changed last (`ctime`), if each write since it was opened shows in that or in its [stamp](FileSource::stamp). `None`
    /// for a block device, on a file system of which this is not known (networks, FUSE, FAT), and if the file was changed within the same tick of the
    /// clock or at a time that is yet to come. What does not show: a direct write that was under way when the file was opened, and writes through a
    /// memory map to pages that were written to before.
    pub fn settled(&self) -> Option<Time> {
        self.settled
    }

    /// The file as part of what is known of an image.
    pub(crate) fn info(&self) -> ImageFile {
        ImageFile {
            path: self.path.clone(),
            size: self.size,
            allocated: self.allocated,
        }
    }

    /// Which file it is, whatever its name: device and inode.
    pub(crate) fn file_id(&self) -> (u64, u64) {
        self.file_id
    }

    /// Whether it is a block device.
    pub(crate) fn is_device(&self) -> bool {
        self.is_device
    }

    /// Bytes in a logical sector, if it is a block device that tells.
    pub fn sector_size(&self) -> Option<u32> {
        self.sector_size
    }

    /// Whether its size, the time of its modification, or, on file systems of this machine that keep it exactly, that of its last change of any kind
    /// (`ctime`: also of its name, owner or mode) are others than when it was opened. A block device never says so.
    ///
    /// # Errors
    /// [`Kind::Io`](cairn_base::Kind::Io) if the file cannot be asked.
    pub fn changed(&self) -> Result<bool> {
        if self.is_device {
            return Ok(false);
        }
        let now = self
            .file
            .metadata()
            .map_err(|e| Error::io("cannot find out whether the image changed", &self.path, e))?;
        let is_touched =
            self.changed_at.is_some() && settled::changed_at(&self.file, &now) != self.changed_at;
        Ok(is_touched || stamp(&now, now.len(), false) != self.stamp)
    }

    /// The next byte of data or hole from `from` on; `None` if the file system cannot tell.
    fn seek(&self, to: SeekFrom) -> Option<Result<u64, Errno>> {
        match rustix::fs::seek(&self.file, to) {
            Ok(offset) => Some(Ok(offset)),
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => Some(Err(Errno::NXIO)),
            Err(_) => None,
        }
    }

    /// Like [`ReadAt::data_extents`], for a range within the file; `None` if the file system cannot tell.
    fn sparse_extents(&self, range: Range<u64>) -> Option<Vec<Range<u64>>> {
        let mut extents = Vec::new();
        let mut at = range.start;
        while at < range.end {
            if extents.len() >= MAX_EXTENTS {
                extents.push(at..range.end);
                break;
            }
            let start = match self.seek(SeekFrom::Data(at))? {
                // A file system that went backwards would keep us here for ever.
                Ok(start) if start >= at => start,
                Ok(_) => return None,
                Err(_) => break,
            };
            if start >= range.end {
                break;
            }
            let end = match self.seek(SeekFrom::Hole(start))? {
                Ok(end) if end > start => end.min(range.end),
                _ => return None,
            };
            extents.push(start..end);
            at = end;
        }
        Some(extents)
    }
}

impl ReadAt for FileSource {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size, offset, buffer.len())?;
        let done = match &self.cold {
            Some(cold) if buffer.len() >= LARGE && cold.is_usable() => {
                cold.read(&self.file, offset, buffer)
            }
            _ => 0,
        };
        let offset = offset.saturating_add(to_u64(done));
        let rest = buffer.get_mut(done..).unwrap_or_default();
        self.file.read_exact_at(rest, offset).map_err(|e| {
            let what = match e.kind() {
                std::io::ErrorKind::UnexpectedEof => {
                    "the image file became shorter while it was read"
                }
                _ => "cannot read the disk image",
            };
            Error::io(what, &self.path, e).at_offset(offset)
        })
    }

    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let range = clip(range, self.size);
        if range.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self
            .sparse_extents(range.clone())
            .unwrap_or_else(|| vec![range]))
    }

    fn will_need(&self, range: Range<u64>) {
        // What is read past the page cache must not be brought into it.
        if self.cold.as_ref().is_some_and(Cold::is_usable) {
            return;
        }
        let range = clip(range, self.size);
        // A length of 0 would mean "up to the end".
        if let Some(length) = NonZeroU64::new(range.end.saturating_sub(range.start)) {
            // Only a hint: nothing is lost when it is refused.
            let _ = rustix::fs::fadvise(&self.file, range.start, Some(length), Advice::WillNeed);
        }
    }
}

fn no_size(path: &Path, error: std::io::Error) -> Error {
    Error::io("cannot find out the size of the disk image", path, error)
}

fn check_kind(kind: FileType, path: &Path) -> Result<()> {
    if kind.is_file() || kind.is_block_device() {
        return Ok(());
    }
    Err(
        Error::invalid("a disk image is a regular file or a block device, and this is neither")
            .at_path(path),
    )
}

fn stamp(metadata: &Metadata, size: u64, is_device: bool) -> FileStamp {
    let modified = if is_device {
        Time::default()
    } else {
        Time {
            seconds: metadata.mtime(),
            nanos: u32::try_from(metadata.mtime_nsec()).unwrap_or(0),
        }
    };
    FileStamp { size, modified }
}

#[cfg(target_os = "linux")]
fn device_sector_size(file: &File) -> Option<u32> {
    rustix::fs::ioctl_blksszget(file).ok()
}

#[cfg(not(target_os = "linux"))]
fn device_sector_size(_file: &File) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests;
