//! Memory that can be read into and written from past the page cache.

use std::ops::{Deref, DerefMut};

/// What memory, offsets and lengths of direct transfers are aligned to: the largest sector of common disks, in bytes.
pub const ALIGNMENT: usize = 4096;

/// Bytes whose first one lies at a multiple of [`ALIGNMENT`].
pub struct AlignedBuffer {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl AlignedBuffer {
    /// `length` zeros.
    pub fn new(length: usize) -> AlignedBuffer {
        let bytes = vec![0u8; length.saturating_add(ALIGNMENT)];
        // More than the slack if it cannot be told: then transfers are not aligned, and go through the page cache.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_aligned_and_as_long_as_asked_for() {
        for length in [0, 1, 4096, 100_000] {
            let mut buffer = AlignedBuffer::new(length);
            assert_eq!(buffer.len(), length);
            assert!(length == 0 || buffer.as_ptr().addr().is_multiple_of(ALIGNMENT));
            buffer.fill(7);
            assert!(buffer.iter().all(|byte| *byte == 7));
        }
    }
}
