//! The file or block device an image is written to.

use super::direct::Direct;
use crate::align::to_usize;
use cairn_base::units::to_u64;
use cairn_base::{Error, Result};
use rustix::fs::FallocateFlags;
use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Zeros are written in pieces of this size where the system cannot make them.
static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
/// What every system that makes zeros itself can align to.
const BLOCK: u64 = 4096;

/// Where an image is written to, by many threads at once.
pub(super) struct Target {
    file: File,
    direct: Option<Direct>,
    path: PathBuf,
    is_device: bool,
}

impl Target {
    /// A new file.
    ///
    /// # Errors
    /// [`Kind::Exists`](cairn_base::Kind::Exists) if there is something of that name.
    pub(super) fn create(path: &Path) -> Result<Target> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            // A disk holds everything that its machine's users may not read.
            .mode(0o600)
            .open(path)
            .map_err(|e| Error::io("cannot make the disk image", path, e))?;
        Target::of(file, path)
    }

    /// A file or block device that is open for writing.
    pub(super) fn of(file: File, path: &Path) -> Result<Target> {
        let kind = file
            .metadata()
            .map_err(|e| Error::io("cannot look at the restore's target", path, e))?
            .file_type();
        Ok(Target {
            direct: Direct::of(&file, path),
            file,
            path: path.to_path_buf(),
            is_device: kind.is_block_device(),
        })
    }

    /// Whether it is a block device.
    pub(super) fn is_device(&self) -> bool {
        self.is_device
    }

    fn fail(&self, error: impl Into<std::io::Error>) -> Error {
        Error::io("cannot write the disk image", &self.path, error.into())
    }

    /// Makes the file `size` bytes long; of a device, finds out that it is no shorter. Returns the length it has.
    pub(super) fn set_size(&self, size: u64) -> Result<u64> {
        if !self.is_device {
            self.file.set_len(size).map_err(|e| self.fail(e))?;
            return Ok(size);
        }
        // The cursor this moves is used by nobody.
        let has =
            rustix::fs::seek(&self.file, rustix::fs::SeekFrom::End(0)).map_err(|e| self.fail(e))?;
        if has < size {
            return Err(Error::invalid(format!(
                "a disk of {size} bytes does not fit onto a device of {has} bytes"
            ))
            .at_path(&self.path));
        }
        Ok(has)
    }

    /// Bytes of the file as it is.
    pub(super) fn length(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(|e| self.fail(e))?.len())
    }

    pub(super) fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let done = match &self.direct {
            Some(direct) => direct.write(offset, data),
            None => Ok(0..0),
        };
        let done = done.map_err(|e| self.fail(e).at_offset(offset))?;
        for (part, at) in [
            (data.get(..done.start), 0),
            (data.get(done.end..), done.end),
        ] {
            let at = offset.saturating_add(to_u64(at));
            self.file
                .write_all_at(part.unwrap_or_default(), at)
                .map_err(|e| self.fail(e).at_offset(at))?;
        }
        Ok(())
    }

    /// Fills `buffer` with what lies at `offset`, within the file.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let fail = |e| Error::io("cannot read what was restored", &self.path, e).at_offset(offset);
        let done = match &self.direct {
            Some(direct) => direct.read(offset, buffer).map_err(fail)?,
            None => 0..0,
        };
        let (head, _) = buffer.split_at_mut(done.start);
        self.file.read_exact_at(head, offset).map_err(fail)?;
        let (_, tail) = buffer.split_at_mut(done.end);
        let at = offset.saturating_add(to_u64(done.end));
        self.file.read_exact_at(tail, at).map_err(fail)
    }

    /// Makes `range`, which lies within the file, zeros: without writing them where the system can.
    pub(super) fn zero(&self, range: Range<u64>) -> Result<()> {
        // Systems refuse a range that is not aligned as a whole, however long it is.
        let first = range.start.next_multiple_of(BLOCK);
        let last = range.end.saturating_sub(range.end % BLOCK);
        if first < last && self.make_zeros(first..last) {
            self.write_zeros(range.start..first)?;
            return self.write_zeros(last..range.end);
        }
        self.write_zeros(range)
    }

    fn make_zeros(&self, range: Range<u64>) -> bool {
        let how = if self.is_device {
            FallocateFlags::ZERO_RANGE
        } else {
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE
        };
        let length = range.end.saturating_sub(range.start);
        rustix::fs::fallocate(&self.file, how, range.start, length).is_ok()
    }

    fn write_zeros(&self, range: Range<u64>) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let piece = to_usize(range.end.saturating_sub(at))?.min(ZEROS.len());
            let (zeros, _) = ZEROS.split_at(piece);
            self.write(at, zeros)?;
            at = at.saturating_add(to_u64(piece));
        }
        Ok(())
    }

    /// Brings everything to stable storage, and says how long that took.
    pub(super) fn sync(&self) -> Result<Duration> {
        let start = Instant::now();
        self.file.sync_all().map_err(|e| {
            Error::io(
                "cannot bring the disk image to stable storage",
                &self.path,
                e,
            )
        })?;
        Ok(start.elapsed())
    }
}

/// Whether there is nothing but zeros. Looks at whole pieces at a time, which the compiler turns into wide loads.
pub(super) fn is_zero(data: &[u8]) -> bool {
    data.chunks(4096)
        .all(|piece| piece.iter().fold(0, |all, byte| all | byte) == 0)
}
