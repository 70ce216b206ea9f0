//! Block group descriptors: where a group's bitmaps and inodes lie.

use super::blocks::Blocks;
use super::checksum::{crc16, crc32c};
use super::number::{join, low16, size_of};
use super::superblock::{Superblock, compat, incompat, ro_compat};
use cairn_base::{Error, Result, View};

/// The file system's geometry and its blocks: what every reader of a structure needs.
pub(super) struct Core {
    pub sb: Superblock,
    pub blocks: Blocks,
}

/// The block bitmap of the group was never written.
pub(super) const BLOCK_UNINIT: u16 = 2;

/// One group's descriptor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Descriptor {
    pub block_bitmap: u64,
    pub inode_bitmap: u64,
    pub inode_table: u64,
    /// In clusters.
    pub free_clusters: u32,
    pub flags: u16,
    pub block_bitmap_csum: u32,
    /// Whether the high half of the checksum is kept.
    pub wide_csum: bool,
    /// Whether its own checksum is right, or it has none.
    pub checked: bool,
}

impl Core {
    /// The descriptor of `group`. Where it is damaged, its copy of the next group that has copies.
    pub fn descriptor(&self, group: u32) -> Result<Descriptor> {
        if group >= self.sb.groups {
            return Err(Error::damaged(format!("there is no block group {group}")));
        }
        let first = self.descriptor_at(group, 0);
        if let Ok(descriptor) = &first
            && descriptor.checked
            && self.is_sane(descriptor)
        {
            return first;
        }
        for copy in self.copy_groups() {
            if let Ok(descriptor) = self.descriptor_at(group, copy)
                && descriptor.checked
                && self.is_sane(&descriptor)
            {
                return Ok(Descriptor {
                    // Copies are written when the file system is made or grown, not with every change: what they say
                    // of places is true, of use is not.
                    checked: false,
                    ..descriptor
                });
            }
        }
        first
    }

    /// Whether the places it names lie in the file system.
    pub fn is_sane(&self, descriptor: &Descriptor) -> bool {
        let inside = |block: u64, blocks: u64| {
            block > 0
                && block
                    .checked_add(blocks)
                    .is_some_and(|end| end <= self.sb.blocks)
        };
        inside(descriptor.block_bitmap, 1)
            && inside(descriptor.inode_bitmap, 1)
            && inside(descriptor.inode_table, self.inode_table_blocks())
    }

    /// Groups that start within the device: a superblock can claim any number.
    pub fn groups_on_device(&self) -> u32 {
        let blocks = self.blocks.device().size() >> self.sb.block_shift;
        let groups = blocks.div_ceil(u64::from(self.sb.blocks_per_group).max(1));
        self.sb
            .groups
            .min(u32::try_from(groups).unwrap_or(u32::MAX))
    }

    /// Blocks of a group's inode table.
    pub fn inode_table_blocks(&self) -> u64 {
        u64::from(self.sb.inodes_per_group)
            .saturating_mul(u64::from(self.sb.inode_size))
            .div_ceil(u64::from(self.sb.block_size))
    }

    /// Groups whose copies of the descriptors are asked when the first ones are damaged.
    fn copy_groups(&self) -> impl Iterator<Item = u32> {
        let groups = if self.sb.has_compat(compat::SPARSE_SUPER2) {
            self.sb.backup_groups
        } else {
            [1, 3]
        };
        let count = self.sb.groups;
        groups
            .into_iter()
            .filter(move |&group| group > 0 && group < count)
    }

    /// Blocks of descriptors that follow a superblock copy, without those reserved for growing.
    pub fn descriptor_blocks(&self) -> u32 {
        let per_block = self.descriptors_per_block();
        self.sb.groups.div_ceil(per_block)
    }

    /// At least 1.
    pub fn descriptors_per_block(&self) -> u32 {
        self.sb
            .block_size
            .checked_div(self.sb.descriptor_size)
            .unwrap_or(1)
            .max(1)
    }

    /// Block that holds descriptor block `index`, in the copy that starts with group `copy`.
    fn descriptor_block(&self, index: u32, copy: u32) -> u64 {
        let sb = &self.sb;
        if !sb.has_incompat(incompat::META_BG) || index < sb.first_meta_bg {
            // The primary superblock lies at byte 1024, which is block 1 only where blocks are 1 KiB.
            let superblock = if copy == 0 {
                u64::from(sb.block_size == 1024)
            } else {
                sb.group_start(copy)
            };
            return superblock
                .saturating_add(u64::from(index))
                .saturating_add(1);
        }
        // A meta group keeps its descriptors in its first, second and last group.
        let per_block = self.descriptors_per_block();
        let group = index
            .saturating_mul(per_block)
            .saturating_add(u32::from(copy != 0));
        let mut behind = u64::from(sb.group_has_super(group));
        if sb.block_size == 1024 && group == 0 && sb.first_data_block == 0 {
            behind = behind.saturating_add(1);
        }
        sb.group_start(group).saturating_add(behind)
    }

    fn descriptor_at(&self, group: u32, copy: u32) -> Result<Descriptor> {
        let per_block = self.descriptors_per_block();
        let index = group.checked_div(per_block).unwrap_or(0);
        let slot = group.checked_rem(per_block).unwrap_or(0);
        let block = self.descriptor_block(index, copy);
        let bytes = self.blocks.block(block, "group descriptors")?;
        let size = size_of(self.sb.descriptor_size);
        let view = View::new(&bytes, "group descriptors", self.blocks.offset(block));
        let view = view.part(size_of(slot).saturating_mul(size), size, "group descriptor")?;
        parse(&self.sb, group, &view)
    }
}

fn parse(sb: &Superblock, group: u32, view: &View<'_>) -> Result<Descriptor> {
    let wide = sb.descriptor_size >= 64;
    let high = |offset| if wide { view.u32_le(offset) } else { Ok(0) };
    let high16 = |offset| if wide { view.u16_le(offset) } else { Ok(0) };
    let half = |low: u16, high: u16| u32::from(low) | (u32::from(high) << 16);
    Ok(Descriptor {
        block_bitmap: join(view.u32_le(0)?, high(0x20)?),
        inode_bitmap: join(view.u32_le(4)?, high(0x24)?),
        inode_table: join(view.u32_le(8)?, high(0x28)?),
        free_clusters: half(view.u16_le(0xc)?, high16(0x2c)?),
        flags: view.u16_le(0x12)?,
        block_bitmap_csum: half(view.u16_le(0x18)?, high16(0x38)?),
        wide_csum: wide,
        checked: checksum(sb, group, view)?.is_none_or(|sum| view.u16_le(0x1e).ok() == Some(sum)),
    })
}

/// What the checksum of a descriptor has to be, `None` if the file system keeps none.
fn checksum(sb: &Superblock, group: u32, view: &View<'_>) -> Result<Option<u16>> {
    let number = group.to_le_bytes();
    let before = view.slice(0, 0x1e)?;
    let after = view.tail(0x20)?.bytes();
    if sb.metadata_csum() {
        let sum = crc32c(sb.checksum_seed, &number);
        let sum = crc32c(crc32c(sum, before), &[0, 0]);
        return Ok(Some(low16(crc32c(sum, after))));
    }
    if sb.has_ro_compat(ro_compat::GDT_CSUM) {
        let sum = crc16(crc16(crc16(!0, &sb.uuid), &number), before);
        return Ok(Some(crc16(sum, after)));
    }
    Ok(None)
}
