//! Sizes of file systems, for `df`.

use crate::failure::Result;
use crate::node::Node;
use crate::tree::Tree;

/// Length of the longest name, in bytes: NTFS has names of 255 UTF-16 units, three bytes of UTF-8 each.
const NAME_BYTES: u32 = 255;
const WIDE_NAME_BYTES: u32 = 765;
const BLOCK: u32 = 4096;

/// What `statfs` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes of a block.
    pub block_size: u32,
    /// Blocks in all.
    pub blocks: u64,
    /// Blocks free.
    pub free: u64,
    /// Entries in use, 0 if they are not counted.
    pub files: u64,
    /// Length of the longest name in bytes.
    pub longest_name: u32,
}

impl Tree {
    /// The size of the file system that a node lies in: a guest's as the guest counts it, a disk's; nothing above.
    ///
    /// # Errors
    /// What finding it reports.
    pub fn statfs(&self, inode: u64) -> Result<Space> {
        let in_blocks = |bytes: u64, block: u32| bytes.checked_div(u64::from(block)).unwrap_or(0);
        match self.node(inode)? {
            Node::Entry(entry) => {
                let open = self.volume(&entry.tree)?;
                let info = open.volume.info();
                let block_size = info.block_size.max(1);
                Ok(Space {
                    block_size,
                    blocks: in_blocks(info.size, block_size),
                    free: in_blocks(info.free, block_size),
                    files: info.files,
                    longest_name: if info.ignores_case {
                        WIDE_NAME_BYTES
                    } else {
                        NAME_BYTES
                    },
                })
            }
            node => {
                let bytes = match &node {
                    Node::Raw(point, disk)
                    | Node::View(point, disk, _)
                    | Node::DiskFiles(point, disk) => self.open_point(point)?.disk(*disk)?.size(),
                    _ => 0,
                };
                Ok(Space {
                    block_size: BLOCK,
                    blocks: in_blocks(bytes, BLOCK),
                    free: 0,
                    files: 0,
                    longest_name: WIDE_NAME_BYTES,
                })
            }
        }
    }
}
