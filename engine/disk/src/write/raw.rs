//! Raw images: a sparse file, or a block device.

use super::target::Target;
use super::{DiskWriter, Written};
use cairn_base::Result;
use cairn_base::read_at::{check_range, clip};
use cairn_base::units::to_u64;
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

/// Writes a raw image.
pub struct RawWriter {
    target: Target,
    size: u64,
    file_size: u64,
    data_bytes: u64,
    /// What was written or made zeros, start to end, if the target may hold old data: the rest is made zeros at the end.
    /// Neighbours are joined, so that it stays small when ranges come more or less in order.
    done: Option<BTreeMap<u64, u64>>,
}

impl RawWriter {
    /// Makes a new file of exactly `size` bytes, all holes.
    ///
    /// # Errors
    /// [`Kind::Exists`](cairn_base::Kind::Exists) if there is something of that name; what the operating system says.
    pub fn create(path: &Path, size: u64) -> Result<RawWriter> {
        RawWriter::over(Target::create(path)?, size, false)
    }

    /// Writes to a file or block device that is open for writing. A file becomes exactly `size` bytes long; what a
    /// device has behind them is left alone. With `target_may_hold_data` everything that is not written becomes zeros
    /// when the writer is finished; without it the caller knows that the target reads as zeros.
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
            data_bytes: 0,
            done: may_hold_data.then(BTreeMap::new),
        })
    }

    fn mark(&mut self, range: Range<u64>) {
        let Some(done) = &mut self.done else { return };
        if range.is_empty() {
            return;
        }
        let (mut start, mut end) = (range.start, range.end);
        // The one that reaches up to the start, and all that begin up to the end.
        if let Some((&before, &its_end)) = done.range(..=start).next_back()
            && its_end >= start
        {
            start = before;
            end = end.max(its_end);
        }
        while let Some((&next, &its_end)) = done.range(start..=end).next_back() {
            end = end.max(its_end);
            done.remove(&next);
        }
        done.insert(start, end);
    }
}

impl DiskWriter for RawWriter {
    fn size(&self) -> u64 {
        self.size
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        check_range(self.size, offset, data.len())?;
        self.target.write(offset, data)?;
        let length = to_u64(data.len());
        self.data_bytes = self.data_bytes.saturating_add(length);
        self.mark(offset..offset.saturating_add(length));
        Ok(())
    }

    fn write_zeros(&mut self, range: Range<u64>) -> Result<()> {
        let range = clip(range, self.size);
        self.target.zero(range.clone())?;
        self.mark(range);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Written> {
        if let Some(done) = &self.done {
            let mut at = 0;
            for (&start, &end) in done {
                self.target.zero(at..start)?;
                at = end;
            }
            self.target.zero(at..self.size)?;
        }
        Ok(Written {
            disk_size: self.size,
            file_size: self.file_size,
            data_bytes: self.data_bytes,
            sync: self.target.sync()?,
        })
    }
}
