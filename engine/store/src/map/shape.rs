//! The arithmetic of the tree: regions, levels, what a node covers.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use crate::hash::MAX_LEVEL;
use cairn_base::{Error, Result};

/// Bytes a leaf covers.
pub const REGION: u64 = 4 << 20;
/// Children of a node.
pub const FANOUT: usize = 256;
/// Largest disk, 4 PiB: far beyond every disk format we read.
pub const MAX_DISK: u64 = 1 << 52;

/// How the tree over a disk of a given size looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    size: u64,
    regions: u64,
    height: u8,
}

impl Shape {
    /// The tree over a disk of `size` bytes.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) above [`MAX_DISK`].
    pub fn of(size: u64) -> Result<Shape> {
        if size > MAX_DISK {
            return Err(Error::invalid(format!(
                "a disk of {size} bytes is larger than {MAX_DISK}"
            )));
        }
        let regions = size.div_ceil(REGION);
        let mut height = 0u8;
        while height < MAX_LEVEL && regions_below(height) < regions {
            height = height.saturating_add(1);
        }
        Ok(Shape {
            size,
            regions,
            height,
        })
    }

    /// Size of the disk in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Number of regions, the last one possibly short.
    pub fn regions(&self) -> u64 {
        self.regions
    }

    /// Levels of nodes above the leaves; 0 if the root is a leaf.
    pub fn height(&self) -> u8 {
        self.height
    }

    /// Bytes of disk in region number `region`.
    pub fn region_length(&self, region: u64) -> u64 {
        let start = region.saturating_mul(REGION);
        self.size.saturating_sub(start).min(REGION)
    }

    /// Which child of the node at `level` (1 and up) leads to `region`.
    pub fn child_index(region: u64, level: u8) -> usize {
        let shift = u32::from(level.saturating_sub(1)).saturating_mul(8);
        let index = region.checked_shr(shift).unwrap_or(0) & 0xff;
        usize::try_from(index).unwrap_or(0)
    }
}

/// Regions a tree of `height`, or a node of that level, covers.
pub fn regions_below(height: u8) -> u64 {
    1u64.checked_shl(u32::from(height).saturating_mul(8))
        .unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heights_are_the_least_that_cover() {
        let height = |size| Shape::of(size).unwrap().height();
        assert_eq!(height(0), 0);
        assert_eq!(height(REGION), 0);
        assert_eq!(height(REGION + 1), 1);
        assert_eq!(height(1 << 30), 1);
        assert_eq!(height((1 << 30) + 1), 2);
        assert_eq!(height(256 << 30), 2);
        assert_eq!(height(64 << 40), 3);
        assert_eq!(height(MAX_DISK), 4);
        assert!(Shape::of(MAX_DISK + 1).is_err());
    }

    #[test]
    fn the_last_region_ends_with_the_disk() {
        let shape = Shape::of(REGION + 513).unwrap();
        assert_eq!(shape.regions(), 2);
        assert_eq!(shape.region_length(0), REGION);
        assert_eq!(shape.region_length(1), 513);
        assert_eq!(Shape::child_index(0x1_02_03, 1), 3);
        assert_eq!(Shape::child_index(0x1_02_03, 2), 2);
        assert_eq!(Shape::child_index(0x1_02_03, 3), 1);
    }
}
