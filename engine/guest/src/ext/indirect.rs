//! Block maps of ext2 and ext3: twelve pointers in the inode, then blocks of pointers one, two and three levels deep.

use super::blocks::Blocks;
use super::inode::AREA;
use super::mapping::Segment;
use cairn_base::{Result, View};

const DIRECT: u64 = 12;

/// The run of blocks from `logical` on.
pub(super) fn find(blocks: &Blocks, area: &[u8; AREA], logical: u64) -> Result<Segment> {
    let root = View::new(area, "block map", 0);
    // log2 of the pointers of a block: 4 bytes each.
    let bits = blocks.shift().saturating_sub(2);
    if logical < DIRECT {
        return run(blocks, &root.part(0, 48, "block map")?, logical, logical);
    }
    let mut index = logical.saturating_sub(DIRECT);
    for level in 1..=3u32 {
        let span = 1u64 << bits.saturating_mul(level);
        if index < span {
            let slot =
                44usize.saturating_add(usize::try_from(level).unwrap_or(1).saturating_mul(4));
            return below(blocks, root.u32_le(slot)?, level, index, logical);
        }
        index = index.saturating_sub(span);
    }
    // Beyond what the map can hold.
    Ok(Segment {
        logical,
        blocks: u64::MAX.saturating_sub(logical).max(1),
        physical: None,
    })
}

/// Goes down from the pointer block `number`, which covers `1 << (bits * level)` blocks, to the one at `index`.
fn below(blocks: &Blocks, number: u32, level: u32, index: u64, logical: u64) -> Result<Segment> {
    let bits = blocks.shift().saturating_sub(2);
    let (mut number, mut index) = (number, index);
    for level in (1..=level).rev() {
        let span = 1u64 << bits.saturating_mul(level);
        if number == 0 {
            return Ok(Segment {
                logical,
                blocks: span.saturating_sub(index).max(1),
                physical: None,
            });
        }
        let bytes = blocks.block(u64::from(number), "pointer block")?;
        let view = View::new(&bytes, "pointer block", blocks.offset(u64::from(number)));
        if level == 1 {
            return run(blocks, &view, index, logical);
        }
        let child = bits.saturating_mul(level.saturating_sub(1));
        let slot = usize::try_from(index >> child).unwrap_or(usize::MAX);
        number = view.u32_le(slot.saturating_mul(4))?;
        index &= (1u64 << child).saturating_sub(1);
    }
    Err(cairn_base::Error::damaged("pointer block: no level left"))
}

/// The run that starts with pointer `index` of `pointers`.
fn run(blocks: &Blocks, pointers: &View<'_>, index: u64, logical: u64) -> Result<Segment> {
    let at = usize::try_from(index)
        .unwrap_or(usize::MAX)
        .saturating_mul(4);
    let first = pointers.u32_le(at)?;
    let mut count = 0u64;
    for bytes in pointers.tail(at)?.bytes().chunks_exact(4) {
        let next = bytes.try_into().map(u32::from_le_bytes).unwrap_or(0);
        let expected = if first == 0 {
            0
        } else {
            u64::from(first).saturating_add(count)
        };
        if u64::from(next) != expected {
            break;
        }
        count = count.saturating_add(1);
    }
    let count = count.max(1);
    let end = u64::from(first).saturating_add(count);
    if first != 0 && end > blocks.count() {
        return Err(pointers.damaged(at, "a pointer leads out of the file system"));
    }
    Ok(Segment {
        logical,
        blocks: count,
        physical: (first != 0).then_some(u64::from(first)),
    })
}
