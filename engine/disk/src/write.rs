//! Disks written as images: the way back of a restore.
//!
//! Writers take a disk's content at any offsets, in any order, by any number of threads, and put headers and tables into
//! place when they are finished: a file whose writing was cut short holds no valid image, rather than half a disk. They
//! can go on with such a file, if the caller says what of it is right.

mod blocks;
mod covered;
mod direct;
mod edges;
mod raw;
mod target;
mod vhd;
mod vhd_fixed;
mod vhdx;
mod vhdx_fixed;
mod whole;

pub use raw::RawWriter;
pub use vhd::VhdWriter;
pub use vhd_fixed::FixedVhdWriter;
pub use vhdx::{VhdxOptions, VhdxWriter};
pub use vhdx_fixed::FixedVhdxWriter;

use crate::guid::Guid;
use cairn_base::Result;
use cairn_base::ids::random;
use std::ops::Range;
use std::time::{Duration, SystemTime};

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the virtual disk: what was asked for, rounded up to what the format can say.
    pub disk_size: u64,
    /// Bytes of the image file, holes included.
    pub file_size: u64,
    /// Bytes of the disk that were written as data.
    pub data_bytes: u64,
    /// How long the operating system took to bring everything to stable storage at the end.
    pub sync: Duration,
}

/// A disk that is being written, by many threads at once. What is never written reads as zeros.
///
/// Large pieces go past the page cache where they can: those in an [`AlignedBuffer`](cairn_base::AlignedBuffer) at a position as aligned as their offset.
pub trait DiskWriter: Send + Sync {
    /// Bytes of the virtual disk.
    fn size(&self) -> u64;

    /// Says that something will be written to `range`. Images of blocks lay their blocks out in the order of these calls,
    /// whatever the order of the writes; what was not announced gets its place when it is written.
    ///
    /// # Errors
    /// As [`write_at`](DiskWriter::write_at).
    fn reserve(&self, _range: Range<u64>) -> Result<()> {
        Ok(())
    }

    /// Writes `data` at `offset`, over what was written there before, if anything.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) if it ends beyond the disk; what the operating system says
    /// ([`Kind::Full`](cairn_base::Kind::Full), ...). After an error the image is not to be finished.
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()>;

    /// Makes `range` zeros. Costs next to nothing where nothing was written and the target is new; the caller need not
    /// name the ranges that it leaves out.
    ///
    /// # Errors
    /// As [`write_at`](DiskWriter::write_at).
    fn write_zeros(&self, range: Range<u64>) -> Result<()>;

    /// Fills `buffer` with what the target has for the disk's bytes from `offset` on: what an earlier writer left there, if
    /// nothing was written since. Images of blocks know only of places that were reserved.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) if it ends beyond the disk; what the operating system says.
    fn read_back(&self, offset: u64, buffer: &mut [u8]) -> Result<()>;

    /// Says that what the target has at `range` is right: it is not made zeros at the end.
    fn keep(&self, range: Range<u64>);

    /// Puts headers and tables into place and everything on stable storage. The folder's entry is the caller's.
    ///
    /// # Errors
    /// What the operating system says; then nothing of the image may be relied on.
    fn finish(self: Box<Self>) -> Result<Written>;
}

fn id_or_random(id: Option<Guid>) -> Result<Guid> {
    match id {
        Some(id) => Ok(id),
        None => random().map(Guid),
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0))
}

#[cfg(test)]
mod tests;
