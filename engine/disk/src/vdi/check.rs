//! What is wrong with a VDI: entries of the block table that lead out of the file or to blocks of others, and a number of blocks that is not theirs.
//!
//! Where much of the table is a hole of the file all of its entries there are 0, so they lead to one block: that is told, and passed over.

use super::header::{self, Header, ZERO};
use crate::check::{Check, Topic};
use crate::claims::{Owner, Territory, find_overlaps};
use crate::table::{Share, Table, Width};
use cairn_base::read_at::read_vec;
use cairn_base::units::to_u64;
use cairn_base::{ReadAt, Result, View};
use std::ops::Range;
use std::sync::Arc;

/// Table entries that are looked at in one step of a walk.
const STEP: u64 = 8192;
/// So many are passed over at once if they are a hole of the file: 4 MiB of table.
const LEAP: u64 = 1 << 20;
/// Fewer entries than this in a hole are looked at one by one: what was copied without its zeros may have them.
const MANY: u64 = 1024;

/// Tells `check` what is wrong with `image`.
///
/// # Errors
/// As [`Layer::check`](crate::layer::Layer::check).
pub(super) fn check(image: &Arc<dyn ReadAt>, header: &Header, check: &mut Check<'_>) -> Result<()> {
    let head = read_vec(&**image, 0, header::SIZE)?;
    let view = View::new(&head, "VDI header", 0);
    let entries = u64::from(view.u32_le(header::BLOCK_COUNT)?);
    let allocated = u64::from(view.u32_le(header::BLOCKS_ALLOCATED)?);
    let end = entries
        .saturating_mul(4)
        .saturating_add(header.table_offset);
    // What the disk needs of it is there, or the image would not be open.
    let count = match end <= image.size() {
        true => entries,
        false => {
            check.fault(Topic::Outside, to_u64(header::BLOCK_COUNT), || {
                format!("the block table is said to have {entries} entries, and ends beyond the end of the file")
            });
            header.entries
        }
    };
    let place = header.table_offset;
    let table = Table::open(image.clone(), place, count, Width::Le32, Share::ALL)?;
    let walk = Walk {
        size: image.size(),
        header,
        table: &table,
    };
    let found = walk.check_entries(check)?;
    if found != allocated {
        check.fault(Topic::References, to_u64(header::BLOCKS_ALLOCATED), || {
            format!("the header says that {allocated} blocks are in the file, and the block table has {found}")
        });
    }
    walk.check_overlaps(check)
}

struct Walk<'a> {
    /// Bytes of the file.
    size: u64,
    header: &'a Header,
    table: &'a Table,
}

impl Walk<'_> {
    /// Looks at each entry by itself; answers how many blocks are said to be in the file.
    fn check_entries(&self, check: &mut Check<'_>) -> Result<u64> {
        let count = self.table.entries_count();
        let mut found = 0u64;
        check.begin(count.saturating_mul(4));
        self.each(&mut |step| {
            let (block, entry) = match step {
                Step::Begins(bytes) => return check.advance(bytes),
                Step::Hole(blocks) => {
                    let count = blocks.end.saturating_sub(blocks.start);
                    found = found.saturating_add(count);
                    check.fault(Topic::Overlap, self.written_at(blocks.start), || {
                        format!("the block table is a hole of the file, which says of {count} blocks from {} on that they are the first one", blocks.start)
                    });
                    return Ok(());
                }
                Step::Entry(block, entry) => (block, entry),
            };
            if entry >= u64::from(ZERO) {
                return Ok(());
            }
            found = found.saturating_add(1);
            let place = self.needed(block, entry);
            if place.end > self.size {
                check.fault(Topic::Outside, self.written_at(block), || {
                    format!(
                        "block {block} is said to lie at byte {}, and ends beyond the end of the file ({} bytes)",
                        place.start, self.size
                    )
                });
            } else if entry >= count {
                check.fault(Topic::Outside, self.written_at(block), || {
                    format!("block {block} is said to be number {entry} of the blocks of the file, which has {count} at most")
                });
            }
            Ok(())
        })?;
        check.finish();
        Ok(found)
    }

    fn check_overlaps(&self, check: &mut Check<'_>) -> Result<()> {
        let head = 0..to_u64(header::SIZE);
        let table = self.header.table_offset;
        let length = self.table.entries_count().saturating_mul(4);
        let parts = [
            (head, "the header"),
            (table..table.saturating_add(length), "the block table"),
        ];
        let territory = Territory {
            size: self.size,
            unit: self.unit(),
            parts: &parts,
        };
        check.begin(0);
        let free = find_overlaps(check, &territory, |claims, check| {
            self.each(&mut |step| {
                let (block, entry) = match step {
                    Step::Begins(bytes) => return check.advance(bytes),
                    Step::Hole(blocks) => (blocks.start, 0),
                    Step::Entry(block, entry) => (block, entry),
                };
                if entry >= u64::from(ZERO) {
                    return Ok(());
                }
                let place = self.needed(block, entry);
                if place.end <= self.size {
                    let end = place.start.saturating_add(self.stride());
                    if end > place.end {
                        claims.spare(place.end..end);
                    }
                    claims.add(
                        Owner::Numbered("block", block),
                        place,
                        self.written_at(block),
                    );
                }
                Ok(())
            })
        })?;
        check.finish();
        if free >= self.stride() {
            check.remark(Topic::Unreferenced, None, || {
                format!("{free} bytes of the file belong to no block and no header")
            });
        }
        Ok(())
    }

    /// Bytes from one block of the file to the next.
    fn stride(&self) -> u64 {
        let extra = u64::from(self.header.block_extra);
        extra.saturating_add(self.header.block_size.into())
    }

    /// All blocks begin at multiples of this many bytes: a power of two.
    fn unit(&self) -> u64 {
        let bits = self.stride() | self.header.data_offset;
        1u64.checked_shl(bits.trailing_zeros()).unwrap_or(1)
    }

    /// What of the file a block takes: as much of it as belongs to the disk, and what stands in front of it. A block behind the disk's end counts as a
    /// whole.
    fn needed(&self, block: u64, entry: u64) -> Range<u64> {
        let size = u64::from(self.header.block_size);
        let left = self
            .header
            .disk_size
            .saturating_sub(block.saturating_mul(size));
        let bytes = match left {
            0 => size,
            left => size.min(left),
        };
        let start = entry
            .saturating_mul(self.stride())
            .saturating_add(self.header.data_offset);
        let end = start.saturating_add(self.header.block_extra.into());
        start..end.saturating_add(bytes)
    }

    /// Where the entry of a block is written.
    fn written_at(&self, block: u64) -> u64 {
        let offset = block.saturating_mul(4);
        self.header.table_offset.saturating_add(offset)
    }

    /// Tells `each` all blocks and their entries, but for many beside each other that are a hole of the file.
    fn each(&self, each: &mut dyn FnMut(Step) -> Result<()>) -> Result<()> {
        let count = self.table.entries_count();
        let mut first = 0u64;
        // Up to here no leap was found.
        let mut looked = 0u64;
        while first < count {
            if first >= looked {
                let leap = first..count.min(first.saturating_add(LEAP));
                looked = leap.end;
                if self.pass_over(&leap, each)? {
                    first = leap.end;
                    continue;
                }
            }
            let step = first..count.min(first.saturating_add(STEP));
            first = step.end;
            if self.pass_over(&step, each)? {
                continue;
            }
            let found = self.table.entries(step.clone())?;
            each(Step::Begins(length_of(&step)))?;
            for (block, entry) in step.zip(found) {
                each(Step::Entry(block, entry))?;
            }
        }
        Ok(())
    }

    /// Tells `each` of these blocks as one if they are many and a hole; whether that is so.
    fn pass_over(
        &self,
        blocks: &Range<u64>,
        each: &mut dyn FnMut(Step) -> Result<()>,
    ) -> Result<bool> {
        let count = blocks.end.saturating_sub(blocks.start);
        if count < MANY || !self.table.is_hole(blocks)? {
            return Ok(false);
        }
        each(Step::Begins(length_of(blocks)))?;
        each(Step::Hole(blocks.clone()))?;
        Ok(true)
    }
}

/// Bytes of the table that hold the entries of these blocks.
fn length_of(blocks: &Range<u64>) -> u64 {
    blocks.end.saturating_sub(blocks.start).saturating_mul(4)
}

/// What a walk over the table comes by.
enum Step {
    /// So many bytes of it are looked at next.
    Begins(u64),
    /// The entries of these blocks are a hole of the file.
    Hole(Range<u64>),
    /// A block and its entry.
    Entry(u64, u64),
}
