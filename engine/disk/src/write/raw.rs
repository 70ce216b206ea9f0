//! Raw images: a sparse file, or a block device.

use super::covered::Covered;
use super::target::Target;
use super::{DiskWriter, Written};
use cairn_base::Result;
use cairn_base::read_at::{check_range, clip};
use cairn_base::units::to_u64;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Writes a raw image.
pub struct RawWriter {
    target: Target,
    size: u64,
    file_size: u64,
    data_bytes: AtomicU64,
    /// What was written, kept or made zeros, if the target may hold old data: the rest is made zeros at the end.
    done: Option<Covered>,
}

impl RawWriter {
    /// Makes a new file of exactly `size` bytes, all holes.
    ///
    /// # Errors
    /// [`Kind::Exists`](cairn_base::Kind::Exists) if there is something of that name; what the operating system says.
    pub fn create(path: &Path, size: u64) -> Result<RawWriter> {
        RawWriter::over(Target::create(path)?, size, false)
    }

    /// Writes to a file or block device that is open for reading and writing. A file becomes exactly `size` bytes long;
    /// what a device has behind them is left alone. With `target_may_hold_data` everything that is neither written nor kept
    /// becomes zeros when the writer is finished; without it the caller knows that the target reads as zeros.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) if a device is smaller than the disk.
    pub fn onto(
        file: File,
        path: &Path,
        size: u64,
        target_may_hold_data: bool,
    ) -> Result<RawWriter> {
        RawWriter::over(Target::of(file, path)?, size, target_may_hold_data)
    }

    fn over(target: Target, size: u64, may_hold_data: bool) -> Result<RawWriter> {
        Ok(RawWriter {
            file_size: target.set_size(size)?,
            target,
            size,
            data_bytes: AtomicU64::new(0),
            done: may_hold_data.then(Covered::default),
        })
    }

    fn mark(&self, range: Range<u64>) {
        if let Some(done) = &self.done {
            done.mark(range);
        }
    }
}

impl DiskWriter for RawWriter {
    fn size(&self) -> u64 {
        self.size
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        check_range(self.size, offset, data.len())?;
        self.target.write(offset, data)?;
        let length = to_u64(data.len());
        self.data_bytes.fetch_add(length, Ordering::Relaxed);
        self.mark(offset..offset.saturating_add(length));
        Ok(())
    }

    fn write_zeros(&self, range: Range<u64>) -> Result<()> {
        let range = clip(range, self.size);
        self.target.zero(range.clone())?;
        self.mark(range);
        Ok(())
    }

    fn read_back(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size, offset, buffer.len())?;
        self.target.read(offset, buffer)
    }

    fn keep(&self, range: Range<u64>) {
        self.mark(clip(range, self.size));
    }

    fn finish(self: Box<Self>) -> Result<Written> {
        if let Some(done) = &self.done {
            for gap in done.gaps(self.size) {
                self.target.zero(gap)?;
            }
        }
        Ok(Written {
            disk_size: self.size,
            file_size: self.file_size,
            data_bytes: self.data_bytes.into_inner(),
            sync: self.target.sync()?,
        })
    }
}
