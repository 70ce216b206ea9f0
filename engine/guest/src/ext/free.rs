//! What the block bitmaps say is free.
//!
//! A range that is called free may be left out of a backup, so every doubt counts as used: a descriptor or a bitmap
//! with a wrong checksum, a bitmap that calls its own group's metadata free, a count that does not agree.

use super::checksum::crc32c;
use super::group::{BLOCK_UNINIT, Core, Descriptor};
use super::number::{low16, size_of};
use super::superblock::{incompat, ro_compat};
use crate::volume::RangeSink;
use cairn_base::Result;
use std::ops::{ControlFlow, Range};

/// Tells `sink` the free ranges in bytes, ascending, merged, as far as the device reaches.
pub(super) fn walk(core: &Core, sink: RangeSink<'_>) -> Result<()> {
    let strangers = strangers(core)?;
    let mut merged = Merged {
        pending: None,
        sink,
    };
    for group in 0..core.groups_on_device() {
        let Ok(descriptor) = core.descriptor(group) else {
            continue;
        };
        if !descriptor.checked || !core.is_sane(&descriptor) {
            continue;
        }
        let Some(used) = used_clusters(core, group, &descriptor, &strangers) else {
            continue;
        };
        if merged.add_group(core, group, &used).is_break() {
            return Ok(());
        }
    }
    merged.flush();
    Ok(())
}

/// Joins ranges that touch before they are told.
struct Merged<'a> {
    pending: Option<Range<u64>>,
    sink: RangeSink<'a>,
}

impl Merged<'_> {
    fn add_group(&mut self, core: &Core, group: u32, used: &[bool]) -> ControlFlow<()> {
        let start = core.sb.group_start(group);
        let end = core.sb.group_end(group);
        let cluster = u64::from(core.sb.cluster_blocks);
        for (index, _) in (0u64..).zip(used).filter(|(_, used)| !**used) {
            let first = start.saturating_add(index.saturating_mul(cluster));
            let last = first.saturating_add(cluster).min(end);
            self.add(core.blocks.offset(first)..core.blocks.offset(last))?;
        }
        ControlFlow::Continue(())
    }

    fn add(&mut self, range: Range<u64>) -> ControlFlow<()> {
        if range.start >= range.end {
            return ControlFlow::Continue(());
        }
        match &mut self.pending {
            Some(pending) if pending.end == range.start => {
                pending.end = range.end;
                ControlFlow::Continue(())
            }
            pending => match pending.replace(range) {
                Some(before) => (self.sink)(before),
                None => ControlFlow::Continue(()),
            },
        }
    }

    fn flush(&mut self) {
        if let Some(range) = self.pending.take() {
            let _ = (self.sink)(range);
        }
    }
}

/// Places of a group's metadata, in blocks.
fn places(core: &Core, descriptor: &Descriptor) -> [Range<u64>; 3] {
    let one = |block: u64| block..block.saturating_add(1);
    [
        one(descriptor.block_bitmap),
        one(descriptor.inode_bitmap),
        descriptor.inode_table
            ..descriptor
                .inode_table
                .saturating_add(core.inode_table_blocks()),
    ]
}

/// Metadata of groups that lies in other groups whose own bitmap was never written (`flex_bg`), in blocks.
fn strangers(core: &Core) -> Result<Vec<Range<u64>>> {
    let mut found = Vec::new();
    if !has_uninit(core) || !core.sb.has_incompat(incompat::FLEX_BG) {
        return Ok(found);
    }
    for group in 0..core.groups_on_device() {
        let Ok(descriptor) = core.descriptor(group) else {
            continue;
        };
        for place in places(core, &descriptor) {
            let first = group_of(core, place.start);
            let last = group_of(core, place.end.saturating_sub(1));
            let bare = (first..=last)
                .take(64)
                .filter(|&host| host != group)
                .any(|host| {
                    core.descriptor(host)
                        .is_ok_and(|d| d.flags & BLOCK_UNINIT != 0)
                });
            if bare {
                found.push(place);
            }
        }
    }
    Ok(found)
}

fn group_of(core: &Core, block: u64) -> u32 {
    let relative = block.saturating_sub(u64::from(core.sb.first_data_block));
    let group = relative
        .checked_div(u64::from(core.sb.blocks_per_group))
        .unwrap_or(0);
    u32::try_from(group).unwrap_or(u32::MAX)
}

/// Whether groups may have bitmaps that were never written.
fn has_uninit(core: &Core) -> bool {
    core.sb.metadata_csum() || core.sb.has_ro_compat(ro_compat::GDT_CSUM)
}

/// Which clusters of a group are used, `None` if that cannot be told for sure.
fn used_clusters(
    core: &Core,
    group: u32,
    descriptor: &Descriptor,
    strangers: &[Range<u64>],
) -> Option<Vec<bool>> {
    let blocks = core
        .sb
        .group_end(group)
        .saturating_sub(core.sb.group_start(group));
    let clusters = blocks.div_ceil(u64::from(core.sb.cluster_blocks));
    let mut used = vec![false; usize::try_from(clusters).ok()?];
    let own = places(core, descriptor);
    if has_uninit(core) && descriptor.flags & BLOCK_UNINIT != 0 {
        mark(core, group, &mut used, base(core, group)?);
        for place in own.iter().chain(strangers) {
            mark(core, group, &mut used, place.clone());
        }
        return agrees(&used, descriptor).then_some(used);
    }
    let block = core
        .blocks
        .block(descriptor.block_bitmap, "block bitmap")
        .ok()?;
    let length = size_of(core.sb.clusters_per_group) >> 3;
    if core.sb.metadata_csum() {
        let sum = crc32c(core.sb.checksum_seed, block.get(..length)?);
        let right = if descriptor.wide_csum {
            sum == descriptor.block_bitmap_csum
        } else {
            u32::from(low16(sum)) == descriptor.block_bitmap_csum
        };
        if !right {
            return None;
        }
    }
    let bits = block
        .iter()
        .flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1));
    for (slot, bit) in used.iter_mut().zip(bits) {
        *slot = bit;
    }
    // A bitmap that calls its own group's metadata free is not believed.
    let believable = own
        .iter()
        .chain(base(core, group).iter())
        .all(|place| all_used(core, group, &used, place));
    (believable && agrees(&used, descriptor)).then_some(used)
}

/// Whether as many clusters are free as the descriptor says.
fn agrees(used: &[bool], descriptor: &Descriptor) -> bool {
    used.iter().filter(|used| !**used).count() == size_of(descriptor.free_clusters)
}

/// The superblock copy and the descriptors at the start of a group.
fn base(core: &Core, group: u32) -> Option<Range<u64>> {
    let start = core.sb.group_start(group);
    let has_super = core.sb.group_has_super(group);
    let meta = core.sb.has_incompat(incompat::META_BG);
    let meta_start = core
        .sb
        .first_meta_bg
        .checked_mul(core.descriptors_per_block())?;
    let mut count = u64::from(has_super);
    if !meta || group < meta_start {
        if has_super {
            let descriptors = if meta {
                core.sb.first_meta_bg
            } else {
                core.descriptor_blocks()
            };
            count = count
                .saturating_add(u64::from(descriptors))
                .saturating_add(u64::from(core.sb.reserved_gdt_blocks));
        }
    } else {
        // One block of descriptors in the first, second and last group of a meta group.
        let within = group.checked_rem(core.descriptors_per_block())?;
        let last = core.descriptors_per_block().saturating_sub(1);
        count = count.saturating_add(u64::from(within <= 1 || within == last));
    }
    if group == 0 && core.sb.block_size == 1024 && core.sb.first_data_block == 0 {
        // Bigalloc with blocks of 1 KiB: the superblock is block 1.
        count = count.saturating_add(1);
    }
    Some(start..start.saturating_add(count))
}

/// The clusters of `group` that a range of blocks touches.
fn clusters(core: &Core, group: u32, place: &Range<u64>) -> Range<usize> {
    let (start, end) = (core.sb.group_start(group), core.sb.group_end(group));
    let cluster = u64::from(core.sb.cluster_blocks);
    let first = place.start.clamp(start, end).saturating_sub(start);
    let last = place.end.clamp(start, end).saturating_sub(start);
    if first >= last {
        return 0..0;
    }
    let index = |blocks: u64| usize::try_from(blocks).unwrap_or(usize::MAX);
    index(first.checked_div(cluster).unwrap_or(0))..index(last.div_ceil(cluster.max(1)))
}

fn mark(core: &Core, group: u32, used: &mut [bool], place: Range<u64>) {
    if let Some(part) = used.get_mut(clusters(core, group, &place)) {
        part.fill(true);
    }
}

fn all_used(core: &Core, group: u32, used: &[bool], place: &Range<u64>) -> bool {
    used.get(clusters(core, group, place))
        .is_none_or(|part| part.iter().all(|used| *used))
}
