//! Where the blocks of a file lie: by extents or by block pointers.

use super::blocks::Blocks;
use super::inode::{AREA, Inode, flag};
use super::{extent, indirect};
use cairn_base::Result;

/// A run of a file's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    /// First block, counted in the file.
    pub logical: u64,
    /// Number of blocks, at least 1.
    pub blocks: u64,
    /// First block on the volume; `None` for a hole, which reads as zeros.
    pub physical: Option<u64>,
}

impl Segment {
    pub fn end(&self) -> u64 {
        self.logical.saturating_add(self.blocks)
    }
}

/// How a file's blocks are found.
#[derive(Clone)]
pub(super) struct Mapping {
    area: [u8; AREA],
    extents: bool,
    /// Register of the checksums of extent blocks, `None` where they have none.
    seed: Option<u32>,
}

impl Mapping {
    pub fn of(inode: &Inode, metadata_csum: bool) -> Mapping {
        Mapping {
            area: inode.area,
            extents: inode.has(flag::EXTENTS),
            seed: metadata_csum.then_some(inode.seed),
        }
    }

    /// The run that block `logical` of the file starts or lies in, from that block on.
    pub fn find(&self, blocks: &Blocks, logical: u64) -> Result<Segment> {
        if self.extents {
            extent::find(blocks, &self.area, self.seed, logical)
        } else {
            indirect::find(blocks, &self.area, logical)
        }
    }
}
