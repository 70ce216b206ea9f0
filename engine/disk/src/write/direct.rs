//! Large pieces written past the page cache.
//!
//! Whole disks are larger than memory as often as not: through the page cache a restore would push out what others use, and
//! every fresh page of the cache costs more processor time than decoding its bytes. Direct writes (`O_DIRECT`) cost
//! next to none, and what they wrote needs no write-back at the end. They want memory, offset and length aligned; what is not, and
//! what is small, takes the usual way.

use cairn_base::aligned::ALIGNMENT;
use cairn_base::units::to_u64;
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Result};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Below this many bytes the way through the page cache is as cheap, because a direct write waits for the disk.
const LEAST: usize = 64 << 10;
/// Larger preferred block sizes, as network file systems name them, are not about alignment.
const MAX_UNIT: u64 = 1 << 20;

/// A file that is open a second time, for direct reads and writes.
pub(super) struct Direct {
    file: File,
    /// Direct and other writes never share a block of this size.
    unit: u64,
    /// The file system takes the flag and refuses the writes.
    refused: AtomicBool,
}

impl Direct {
    /// The file `file` at `path` once more; `None` if the file system knows nothing of direct writes.
    pub(super) fn of(file: &File, path: &Path) -> Option<Direct> {
        let is = file.metadata().ok()?;
        let again = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(i32::try_from(OFlags::DIRECT.bits()).ok()?)
            .open(path)
            .ok()?;
        let found = again.metadata().ok()?;
        let same = (is.dev(), is.ino(), is.rdev()) == (found.dev(), found.ino(), found.rdev());
        same.then(|| Direct {
            file: again,
            unit: is
                .blksize()
                .clamp(to_u64(ALIGNMENT), MAX_UNIT)
                .next_power_of_two(),
            refused: AtomicBool::new(false),
        })
    }

    /// Which of the bytes at `data`, which belong to `offset`, can go directly: whole blocks in aligned memory, if they are many.
    fn middle(&self, offset: u64, data: &[u8]) -> Option<Range<usize>> {
        if self.refused.load(Ordering::Relaxed) {
            return None;
        }
        let end = offset.checked_add(to_u64(data.len()))?;
        let first = offset.checked_next_multiple_of(self.unit)?;
        let last = end.checked_sub(end.checked_rem(self.unit)?)?;
        let start = usize::try_from(first.checked_sub(offset)?).ok()?;
        let middle = start..usize::try_from(last.checked_sub(offset)?).ok()?;
        let bytes = data.get(middle.clone())?;
        let aligned = bytes.as_ptr().align_offset(ALIGNMENT) == 0;
        (aligned && bytes.len() >= LEAST).then_some(middle)
    }

    /// Writes the part of `data` that can go directly. Answers which part that was; the caller writes the rest.
    ///
    /// # Errors
    /// What the operating system says, but for refusing direct writes.
    pub(super) fn write(&self, offset: u64, data: &[u8]) -> Result<Range<usize>> {
        let Some(middle) = self.middle(offset, data) else {
            return Ok(0..0);
        };
        let at = offset.saturating_add(to_u64(middle.start));
        let bytes = data.get(middle.clone()).unwrap_or_default();
        self.unless_refused(self.file.write_all_at(bytes, at), middle)
    }

    /// Reads the part of `buffer` that can be read directly, from the disk itself rather than from the page cache. Answers
    /// which part that was; the caller reads the rest.
    ///
    /// # Errors
    /// What the operating system says, but for refusing direct reads.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<Range<usize>> {
        let Some(middle) = self.middle(offset, buffer) else {
            return Ok(0..0);
        };
        let at = offset.saturating_add(to_u64(middle.start));
        let bytes = buffer.get_mut(middle.clone()).unwrap_or_default();
        self.unless_refused(self.file.read_exact_at(bytes, at), middle)
    }

    fn unless_refused(&self, result: Result<()>, middle: Range<usize>) -> Result<Range<usize>> {
        match result {
            Ok(()) => Ok(middle),
            Err(error) if is_refusal(&error) => {
                self.refused.store(true, Ordering::Relaxed);
                Ok(0..0)
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether the file system says that it cannot write so, and not that the disk is full or broken.
fn is_refusal(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidInput | ErrorKind::Unsupported
    )
}
