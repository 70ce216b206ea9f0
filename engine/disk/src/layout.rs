//! How the blocks of a dynamic image that is made here lie in its file.

use crate::align::{div_up, round_up};
use cairn_base::units::to_u64;
use cairn_base::{Error, Result};

/// Blocks in a file.
pub(crate) struct Layout {
    /// Bytes of the virtual disk.
    pub(crate) disk_size: u64,
    /// Bytes of a block, a multiple of `alignment`.
    pub(crate) block_size: u64,
    /// What stands right in front of each block's data.
    pub(crate) prefix: Vec<u8>,
    /// A block's data begin at a multiple of this.
    pub(crate) alignment: u64,
    /// Where the first block may begin.
    pub(crate) start: u64,
}

/// Blocks that have their places whether they hold something or not, so that a block's place, and the length of the file, follow
/// from numbers alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fixed {
    /// Where what belongs to the first block begins.
    pub(crate) start: u64,
    /// Bytes in front of each block's data; a prefix stands at their end.
    pub(crate) lead: u64,
    /// Bytes of a block's data.
    pub(crate) block_size: u64,
    /// Number of blocks.
    pub(crate) count: u64,
    /// Where the last block ends.
    pub(crate) end: u64,
}

impl Layout {
    /// All blocks in order, each at a place of its own.
    ///
    /// # Errors
    /// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) if no file is that long.
    pub(crate) fn fixed(&self) -> Result<Fixed> {
        let place = || {
            let start = round_up(self.start, self.alignment)?;
            let lead = round_up(to_u64(self.prefix.len()), self.alignment)?;
            let count = div_up(self.disk_size, self.block_size)?;
            let all = lead.checked_add(self.block_size)?.checked_mul(count)?;
            Some(Fixed {
                start,
                lead,
                block_size: self.block_size,
                count,
                end: start.checked_add(all)?,
            })
        };
        place().ok_or_else(|| Error::unsupported("the image would be longer than any file can be"))
    }
}

impl Fixed {
    /// Where a block's data begin.
    pub(crate) fn place(&self, block: u64) -> u64 {
        // Within `end`, for every block there is.
        block
            .saturating_mul(self.lead.saturating_add(self.block_size))
            .saturating_add(self.start)
            .saturating_add(self.lead)
    }

    /// The block to which the byte at `place` of the file belongs, which lies between `start` and `end`, and its distance from where
    /// what belongs to the block begins.
    pub(crate) fn block_at(&self, place: u64) -> (u64, u64) {
        let stride = self.lead.saturating_add(self.block_size);
        let from = place.saturating_sub(self.start);
        let block = from.checked_div(stride).unwrap_or(0);
        (block, from.saturating_sub(block.saturating_mul(stride)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_follow_from_numbers() {
        let layout = Layout {
            disk_size: 5 << 20,
            block_size: 2 << 20,
            prefix: vec![0xff; 512],
            alignment: 4096,
            start: 2048,
        };
        let fixed = layout.fixed().unwrap();
        assert_eq!((fixed.start, fixed.lead, fixed.count), (4096, 4096, 3));
        assert_eq!(fixed.place(0), 8192);
        assert_eq!(fixed.place(2), 4096 + 3 * 4096 + (4 << 20));
        assert_eq!(fixed.end, fixed.place(2) + (2 << 20));
        assert_eq!(fixed.block_at(4096), (0, 0));
        assert_eq!(fixed.block_at(fixed.place(1)), (1, 4096));
        assert_eq!(fixed.block_at(fixed.place(1) - 4097), (0, 4095 + (2 << 20)));
        let endless = Layout {
            disk_size: u64::MAX,
            ..layout
        };
        assert!(endless.fixed().is_err());
    }
}
