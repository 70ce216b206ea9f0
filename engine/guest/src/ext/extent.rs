//! Extent trees: a root of up to four entries in the inode, then blocks of entries, up to five levels below.

use super::blocks::Blocks;
use super::checksum::crc32c;
use super::inode::AREA;
use super::mapping::Segment;
use cairn_base::{Result, View};

const MAGIC: u16 = 0xf30a;
const ENTRY: usize = 12;
const MAX_DEPTH: u16 = 5;
/// Blocks of a file are counted with 32 bits.
const MAX_LOGICAL: u64 = 1 << 32;
/// Longer extents were reserved but never written.
const MAX_WRITTEN: u16 = 1 << 15;

/// The run of blocks from `logical` on in the tree with the root `area`.
pub(super) fn find(
    blocks: &Blocks,
    area: &[u8; AREA],
    seed: Option<u32>,
    logical: u64,
) -> Result<Segment> {
    let hole = |end: u64| Segment {
        logical,
        blocks: end.saturating_sub(logical).max(1),
        physical: None,
    };
    if logical >= MAX_LOGICAL {
        return Ok(hole(u64::MAX));
    }
    let root = View::new(area, "extent root", 0);
    let mut depth = root.u16_le(6)?;
    if depth > MAX_DEPTH {
        return Err(root.damaged(6, "the tree is too deep"));
    }
    // What lies behind this block belongs to the next entry of a level above.
    let mut limit = MAX_LOGICAL;
    let mut child = next_level(&root, depth, logical, &mut limit)?;
    loop {
        let number = match child {
            Step::Found(segment) => return check(blocks, segment),
            Step::Hole => return Ok(hole(limit)),
            Step::Down(number) => number,
        };
        depth = depth.saturating_sub(1);
        let bytes = blocks.block(number, "extent block")?;
        let view = View::new(&bytes, "extent block", blocks.offset(number));
        if let Some(seed) = seed {
            verify(&view, seed)?;
        }
        child = next_level(&view, depth, logical, &mut limit)?;
    }
}

enum Step {
    Found(Segment),
    Hole,
    Down(u64),
}

fn check(blocks: &Blocks, segment: Segment) -> Result<Segment> {
    if let Some(physical) = segment.physical {
        // Only what belongs to the file system; that the device has it too is for the read to say.
        let end = physical.checked_add(segment.blocks);
        if physical == 0 || end.is_none_or(|end| end > blocks.count()) {
            return Err(cairn_base::Error::damaged(format!(
                "extent: block {physical} is outside of the file system"
            )));
        }
    }
    Ok(segment)
}

fn verify(view: &View<'_>, seed: u32) -> Result<()> {
    let at = usize::from(view.u16_le(4)?)
        .saturating_mul(ENTRY)
        .saturating_add(ENTRY);
    if crc32c(seed, view.slice(0, at)?) == view.u32_le(at)? {
        Ok(())
    } else {
        Err(view.damaged(at, "the checksum is wrong"))
    }
}

/// Entries of a node, with the block each starts at; checked to ascend.
fn entries<'a>(view: &View<'a>, depth: u16) -> Result<Vec<(u64, View<'a>)>> {
    if view.u16_le(0)? != MAGIC {
        return Err(view.damaged(0, "no magic number"));
    }
    let (count, most) = (view.u16_le(2)?, view.u16_le(4)?);
    let room = view
        .len()
        .saturating_sub(ENTRY)
        .checked_div(ENTRY)
        .unwrap_or(0);
    if count > most || usize::from(most) > room {
        return Err(view.damaged(2, "the number of entries is impossible"));
    }
    if view.u16_le(6)? != depth {
        return Err(view.damaged(6, "the level is not the one expected here"));
    }
    let mut entries = Vec::with_capacity(usize::from(count));
    let mut least = 0;
    for index in 1..=usize::from(count) {
        let entry = view.part(index.saturating_mul(ENTRY), ENTRY, "extent")?;
        let first = u64::from(entry.u32_le(0)?);
        if first < least {
            return Err(entry.damaged(0, "entries overlap"));
        }
        least = first.saturating_add(if depth == 0 { length(&entry)?.0 } else { 1 });
        entries.push((first, entry));
    }
    Ok(entries)
}

/// Length in blocks, and whether they were written.
fn length(entry: &View<'_>) -> Result<(u64, bool)> {
    let raw = entry.u16_le(4)?;
    match raw.checked_sub(MAX_WRITTEN) {
        _ if raw == 0 => Err(entry.damaged(4, "the extent is empty")),
        None | Some(0) => Ok((u64::from(raw), true)),
        Some(reserved) => Ok((u64::from(reserved), false)),
    }
}

fn next_level(view: &View<'_>, depth: u16, logical: u64, limit: &mut u64) -> Result<Step> {
    let entries = entries(view, depth)?;
    let behind = entries.partition_point(|(first, _)| *first <= logical);
    if let Some((next, _)) = entries.get(behind) {
        *limit = (*limit).min(*next);
    }
    if depth > 0 {
        // What lies before the first entry is looked for below it, as Linux does.
        let Some((_, entry)) = entries.get(behind.saturating_sub(1)) else {
            return Ok(Step::Hole);
        };
        if behind == 0
            && let Some((second, _)) = entries.get(1)
        {
            *limit = (*limit).max(logical.saturating_add(1)).min(*second);
        }
        let number = u64::from(entry.u32_le(4)?) | (u64::from(entry.u16_le(8)?) << 32);
        return Ok(Step::Down(number));
    }
    let Some((first, entry)) = behind.checked_sub(1).and_then(|index| entries.get(index)) else {
        return Ok(Step::Hole);
    };
    let (length, written) = length(entry)?;
    let skip = logical.saturating_sub(*first);
    if skip >= length {
        return Ok(Step::Hole);
    }
    let start = u64::from(entry.u32_le(8)?) | (u64::from(entry.u16_le(6)?) << 32);
    Ok(Step::Found(Segment {
        logical,
        blocks: length.saturating_sub(skip),
        physical: written.then(|| start.saturating_add(skip)),
    }))
}
