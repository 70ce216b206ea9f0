//! Bytes of a file that are looked at in place: from a memory map, or through positional reads where a map is
//! not wanted (network file systems, tests that inject faults).

use crate::error::Result;
use crate::read_at::{ReadAt, check_range};
use std::sync::Arc;

/// A file whose bytes can be borrowed.
pub trait Pages: Send + Sync {
    /// Size in bytes; fixed.
    fn size(&self) -> u64;

    /// `length` bytes at `offset`: borrowed from the map, or read into `scratch`.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::Kind::Invalid) beyond the end; [`Kind::Io`](crate::Kind::Io) if the bytes cannot be read.
    fn bytes<'a>(
        &'a self,
        offset: u64,
        length: usize,
        scratch: &'a mut Vec<u8>,
    ) -> Result<&'a [u8]>;

    /// Fills `buffer` from `offset` by reading the file, even where it is mapped: for long walks, which would fill the page
    /// tables of the process, and which get an error from a failing disk.
    ///
    /// # Errors
    /// As [`bytes`](Pages::bytes).
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()>;

    /// Hints that `length` bytes at `offset` are looked at soon. Never fails, may do nothing.
    fn will_need(&self, _offset: u64, _length: usize) {}

    /// The whole file, where it is mapped; `None` where it must be read.
    fn in_place(&self) -> Option<&[u8]> {
        None
    }

    /// After [`bytes`](Pages::bytes) were used: whether a page under a map could not be read and was replaced by zeros
    /// (a checksum over them fails; this tells the true reason).
    fn lost_pages(&self) -> bool {
        false
    }
}

/// Pages through positional reads.
pub struct PreadPages(pub Arc<dyn ReadAt>);

impl Pages for PreadPages {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn bytes<'a>(
        &'a self,
        offset: u64,
        length: usize,
        scratch: &'a mut Vec<u8>,
    ) -> Result<&'a [u8]> {
        check_range(self.0.size(), offset, length)?;
        scratch.resize(length, 0);
        self.0.read_exact_at(offset, scratch)?;
        Ok(scratch)
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.0.read_exact_at(offset, buffer)
    }
}
