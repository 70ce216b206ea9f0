//! A device with blocks that lie elsewhere on it: what the journal replaces. Only places are kept, no content.

use super::number::clamp;
use cairn_base::read_at::{check_range, clip, joined};
use cairn_base::units::to_u64;
use cairn_base::{ReadAt, Result};
use std::ops::Range;
use std::sync::Arc;

/// How every block of the journal that is no copy of another one begins. All its numbers are big-endian.
pub(super) const MAGIC: u32 = 0xc03b_3998;

/// A block that is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub block: u64,
    /// The block that holds its content.
    pub copy: u64,
    /// The content begins with the journal's magic number, which is left out of the copy.
    pub escaped: bool,
}

/// The device.
pub(super) struct Overlay {
    device: Arc<dyn ReadAt>,
    /// log2 of the bytes of a block.
    shift: u32,
    /// By block, each once.
    changes: Vec<Change>,
}

impl Overlay {
    /// `changes` are in the order of their blocks, each block once.
    pub fn new(device: Arc<dyn ReadAt>, shift: u32, changes: Vec<Change>) -> Overlay {
        Overlay {
            device,
            shift,
            changes,
        }
    }

    /// Changes of blocks that `range` touches.
    fn touched(&self, range: &Range<u64>) -> impl Iterator<Item = (Range<u64>, &Change)> {
        let first = self
            .changes
            .partition_point(|change| change.block < range.start >> self.shift);
        let (shift, end) = (self.shift, range.end);
        let length = 1u64 << shift;
        self.changes
            .get(first..)
            .unwrap_or_default()
            .iter()
            .map(move |change| {
                let start = change.block.saturating_mul(length);
                (start..start.saturating_add(length), change)
            })
            .take_while(move |(block, _)| block.start < end)
    }
}

impl ReadAt for Overlay {
    fn size(&self) -> u64 {
        self.device.size()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size(), offset, buffer.len())?;
        let wanted = offset..offset.saturating_add(to_u64(buffer.len()));
        self.device.read_exact_at(offset, buffer)?;
        for (block, change) in self.touched(&wanted) {
            let (from, to) = (block.start.max(wanted.start), block.end.min(wanted.end));
            let at = clamp(from.saturating_sub(offset));
            let length = clamp(to.saturating_sub(from));
            let Some(part) = buffer.get_mut(at..at.saturating_add(length)) else {
                continue;
            };
            let inside = from.saturating_sub(block.start);
            let copy = change.copy.saturating_mul(1u64 << self.shift);
            self.device
                .read_exact_at(copy.saturating_add(inside), part)?;
            if change.escaped {
                let magic = MAGIC.to_be_bytes();
                for (to, byte) in part.iter_mut().zip(magic.iter().skip(clamp(inside))) {
                    *to = *byte;
                }
            }
        }
        Ok(())
    }

    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let range = clip(range, self.size());
        let mut found = self.device.data_extents(range.clone())?;
        for (block, _) in self.touched(&range) {
            found.push(block.start.max(range.start)..block.end.min(range.end));
        }
        Ok(joined(found))
    }

    fn will_need(&self, range: Range<u64>) {
        self.device.will_need(range);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::read_at::read_vec;

    #[test]
    fn replaced_blocks_are_read_from_their_copies() {
        let device: Vec<u8> = (0..8u8).flat_map(|n| vec![n; 16]).collect();
        let change = |block, copy, escaped| Change {
            block,
            copy,
            escaped,
        };
        let changes = vec![change(1, 6, false), change(2, 7, true), change(4, 5, false)];
        let overlay = Overlay::new(Arc::new(device), 4, changes);
        let mut expected: Vec<u8> = [0, 6, 7, 3, 5, 5, 6, 7]
            .iter()
            .flat_map(|n| [*n; 16])
            .collect();
        expected[32..36].copy_from_slice(&MAGIC.to_be_bytes());
        for start in 0..128 {
            for end in start..=128 {
                let read = read_vec(&overlay, start as u64, end - start).unwrap();
                assert_eq!(read, expected[start..end]);
            }
        }
        assert_eq!(overlay.data_extents(3..200).unwrap(), vec![3..128]);
        assert!(read_vec(&overlay, 120, 9).is_err());
    }
}
