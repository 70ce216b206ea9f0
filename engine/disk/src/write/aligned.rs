//! Memory for direct writes.

use std::ops::{Deref, DerefMut};

/// What memory, offsets and lengths of direct writes are aligned to: the largest sector of common disks.
pub(super) const ALIGNMENT: usize = 4096;

/// Bytes whose first one lies at a multiple of 4 KiB, so that they can be written past the page cache.
pub struct AlignedBuffer {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl AlignedBuffer {
    /// `length` zeros.
    pub fn new(length: usize) -> AlignedBuffer {
        let bytes = vec![0u8; length.saturating_add(ALIGNMENT)];
        // More than the slack if it cannot be told: then writes are not aligned, and go through the page cache.
        let start = match bytes.as_ptr().align_offset(ALIGNMENT) {
            slack if slack < ALIGNMENT => slack,
            _ => 0,
        };
        AlignedBuffer {
            bytes,
            start,
            length,
        }
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let end = self.start.saturating_add(self.length);
        self.bytes.get(self.start..end).unwrap_or_default()
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        let end = self.start.saturating_add(self.length);
        self.bytes.get_mut(self.start..end).unwrap_or_default()
    }
}
