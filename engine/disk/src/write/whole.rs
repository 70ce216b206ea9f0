//! A disk that lies in its file in one piece, each byte in its place whether it was written or not.

use super::covered::Covered;
use super::target::Target;
use cairn_base::Result;
use cairn_base::read_at::{check_range, clip};
use cairn_base::units::to_u64;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// The disk of such an image, written by many threads at once. What is not written is a hole of the file where the target was new.
pub(super) struct Whole {
    target: Target,
    /// Where in the file the disk begins.
    start: u64,
    size: u64,
    data_bytes: AtomicU64,
    /// What was written, kept or made zeros, if the target may hold old data: the rest is made zeros at the end.
    done: Option<Covered>,
}

impl Whole {
    /// A disk of `size` bytes from `start` of the target on, which is that long. With `may_hold_data` there may be anything in it.
    pub(super) fn new(target: Target, start: u64, size: u64, may_hold_data: bool) -> Whole {
        Whole {
            target,
            start,
            size,
            data_bytes: AtomicU64::new(0),
            done: may_hold_data.then(Covered::default),
        }
    }

    /// Bytes of the disk.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Where it is written to.
    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Writes `data` at `offset` of the disk.
    pub(super) fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        check_range(self.size, offset, data.len())?;
        self.target.write(self.start.saturating_add(offset), data)?;
        self.count(to_u64(data.len()));
        self.keep(offset..offset.saturating_add(to_u64(data.len())));
        Ok(())
    }

    /// Counts bytes of the disk that are written elsewhere.
    pub(super) fn count(&self, bytes: u64) {
        self.data_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Makes `range` of the disk zeros.
    pub(super) fn zero(&self, range: Range<u64>) -> Result<()> {
        let range = clip(range, self.size);
        let place = |at: u64| self.start.saturating_add(at);
        self.target.zero(place(range.start)..place(range.end))?;
        self.keep(range);
        Ok(())
    }

    /// What the target has for the disk's bytes from `offset` on.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size, offset, buffer.len())?;
        self.target.read(self.start.saturating_add(offset), buffer)
    }

    /// What lies at `range` is right and stays.
    pub(super) fn keep(&self, range: Range<u64>) {
        if let Some(done) = &self.done {
            done.mark(clip(range, self.size));
        }
    }

    /// Ends the writing of the disk: old data go. Gives the target back, and how many bytes were written.
    pub(super) fn finish(self) -> Result<(Target, u64)> {
        if let Some(done) = &self.done {
            for gap in done.gaps(self.size) {
                self.zero(gap)?;
            }
        }
        Ok((self.target, self.data_bytes.into_inner()))
    }
}
