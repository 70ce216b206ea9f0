//! The address space in which the clusters of a QCOW2 lie: the bytes of the file that holds them, and beyond all that a file can have the clusters
//! that are compressed, each where the disk has it.

use super::compressed::Compressed;
use crate::align::to_usize;
use cairn_base::read_at::{check_range, clip};
use cairn_base::units::to_u64;
use cairn_base::{ReadAt, Result};
use std::ops::Range;
use std::sync::Arc;

/// Where the compressed clusters begin: no file has so many bytes.
pub(super) const COMPRESSED: u64 = 1 << 63;

/// The address space.
pub(super) struct Space {
    /// The file that holds the clusters.
    pub(super) data: Arc<dyn ReadAt>,
    /// Those that are compressed.
    pub(super) compressed: Compressed,
    /// Bytes of the disk.
    pub(super) disk_size: u64,
}

impl ReadAt for Space {
    fn size(&self) -> u64 {
        COMPRESSED.saturating_add(self.disk_size)
    }

    /// What lies behind the end of the file is zeros: its last cluster need not be whole.
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size(), offset, buffer.len())?;
        if let Some(at) = offset.checked_sub(COMPRESSED) {
            return self.compressed.read(at, buffer);
        }
        let there = to_usize(
            self.data
                .size()
                .saturating_sub(offset)
                .min(to_u64(buffer.len())),
        )?;
        let (part, behind) = buffer.split_at_mut(there);
        behind.fill(0);
        match part.is_empty() {
            true => Ok(()),
            false => self.data.read_exact_at(offset, part),
        }
    }

    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let range = clip(range, self.size());
        let mut extents = match range.start < COMPRESSED {
            true => self
                .data
                .data_extents(range.start..range.end.min(COMPRESSED))?,
            false => Vec::new(),
        };
        let compressed = range.start.max(COMPRESSED)..range.end;
        if !compressed.is_empty() {
            extents.push(compressed);
        }
        Ok(extents)
    }

    fn will_need(&self, range: Range<u64>) {
        let length = range.end.saturating_sub(range.start);
        match range.start.checked_sub(COMPRESSED) {
            Some(at) => self.compressed.will_need(at, length),
            None => self.data.will_need(range),
        }
    }
}
