//! Which blocks of a disk hold data.

use crate::align::to_usize;
use cairn_base::{Kind, ReadAt, Result};
use std::ops::Range;

/// Bytes of the disk whose extents are asked for at first. More of them are not asked for at once where there is data: a disk that
/// is all small pieces has tens of thousands of extents here.
const FIRST_LOOK: u64 = 1 << 30;
/// The most that is asked for at once, where there was no data so far.
const LONGEST_LOOK: u64 = 16 << 30;

/// For every block of `blocks`, whether it may hold something other than zeros. Where the disk cannot tell because it is damaged,
/// it may.
///
/// # Errors
/// What the disk reports, but for damage. The caller bounds the number of blocks.
pub(super) fn present(disk: &dyn ReadAt, blocks: Range<u64>, block_size: u64) -> Result<Vec<bool>> {
    let mut found = Vec::with_capacity(to_usize(blocks.end.saturating_sub(blocks.start))?);
    let mut look = FIRST_LOOK;
    let mut at = blocks.start;
    while at < blocks.end {
        let count = look.checked_div(block_size).unwrap_or(0).max(1);
        let end = at.saturating_add(count).min(blocks.end);
        let before = found.len();
        mark(disk, at..end, block_size, &mut found)?;
        let any = found.iter().skip(before).any(|is| *is);
        look = if any {
            FIRST_LOOK
        } else {
            look.saturating_mul(2).min(LONGEST_LOOK)
        };
        at = end;
    }
    Ok(found)
}

/// Appends to `found` what is known of `blocks`.
fn mark(
    disk: &dyn ReadAt,
    blocks: Range<u64>,
    block_size: u64,
    found: &mut Vec<bool>,
) -> Result<()> {
    let start = blocks.start.saturating_mul(block_size);
    let end = blocks.end.saturating_mul(block_size).min(disk.size());
    let extents = match disk.data_extents(start..end) {
        Ok(extents) => extents,
        Err(error) if error.kind() == Kind::Damaged => {
            let count = blocks.end.saturating_sub(blocks.start);
            if count < 2 {
                found.push(true);
                return Ok(());
            }
            // Halves of halves, down to the blocks that are damaged: as deep as the number of blocks has bits.
            let middle = blocks.start.saturating_add(count >> 1);
            mark(disk, blocks.start..middle, block_size, found)?;
            return mark(disk, middle..blocks.end, block_size, found);
        }
        Err(error) => return Err(error),
    };
    let mut extents = extents.into_iter().peekable();
    for block in blocks {
        let start = block.saturating_mul(block_size);
        let end = start.saturating_add(block_size);
        while extents.next_if(|extent| extent.end <= start).is_some() {}
        found.push(extents.peek().is_some_and(|extent| extent.start < end));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::Error;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A disk of 1 MiB blocks: what is in its list is data, what is in the other cannot be told.
    struct Disk {
        size: u64,
        data: Vec<Range<u64>>,
        damaged: Vec<Range<u64>>,
        asked: AtomicUsize,
    }

    impl ReadAt for Disk {
        fn size(&self) -> u64 {
            self.size
        }
        fn read_exact_at(&self, _: u64, _: &mut [u8]) -> Result<()> {
            unreachable!("nothing but extents is asked for")
        }
        fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let meets = |other: &&Range<u64>| other.start < range.end && range.start < other.end;
            if self.damaged.iter().any(|part| meets(&part)) {
                return Err(Error::damaged("not to be known"));
            }
            let clip = |part: &Range<u64>| part.start.max(range.start)..part.end.min(range.end);
            Ok(self.data.iter().filter(meets).map(clip).collect())
        }
    }

    #[test]
    fn blocks_with_data_and_blocks_that_cannot_be_told() {
        let disk = Disk {
            size: (9 << 20) + 5,
            data: vec![
                (1 << 20) - 1..1 << 20,
                3 << 20..(4 << 20) + 1,
                9 << 20..(9 << 20) + 5,
            ],
            damaged: vec![(6 << 20) + 7..(6 << 20) + 9],
            asked: AtomicUsize::new(0),
        };
        let wanted = [
            true, false, false, true, true, false, true, false, false, true,
        ];
        assert_eq!(present(&disk, 0..10, 1 << 20).unwrap(), wanted);
        for from in 0..10 {
            let found = present(&disk, from..10, 1 << 20).unwrap();
            assert_eq!(found, wanted[from as usize..]);
        }
        assert!(present(&disk, 4..4, 1 << 20).unwrap().is_empty());
    }

    #[test]
    fn what_is_empty_costs_few_questions() {
        let disk = Disk {
            size: 64 << 40,
            data: vec![(40 << 40)..(40 << 40) + 1],
            damaged: Vec::new(),
            asked: AtomicUsize::new(0),
        };
        let found = present(&disk, 0..1 << 20, 64 << 20).unwrap();
        assert_eq!(found.iter().filter(|is| **is).count(), 1);
        assert!(found[40 << 14]);
        let asked = disk.asked.load(Ordering::Relaxed);
        assert!(asked < 5000, "{asked}");
    }
}
