//! How the disks of two points differ, in time proportional to the difference: their maps are walked side by side, and what has the same id is
//! passed over as high in the trees as it can be.

mod leaves;
mod walk;

pub use leaves::changed_parts;
pub use walk::{Pair, each_pair};

use crate::changes::Change;
use crate::disk::StoredDisk;
use crate::map::REGION;
use crate::map::holes::{BLOCK, is_zero};
use cairn_base::units::to_u64;
use cairn_base::{Error, Monitor, ReadAt, Result, Stage};
use std::ops::{ControlFlow, Range};

/// How closely disks are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Detail {
    /// By the maps alone: of a chunk that is not the same all bytes count as changed. No data is read.
    #[default]
    Chunks,
    /// Exact to blocks of 4 KiB: the chunks that are not the same are read.
    Blocks,
}

/// Bytes of each disk that are read at once.
const PIECE: usize = 1 << 20;

/// Receives changes, ascending and not touching unless one is zeros and the other is not, until it breaks.
pub type ChangeSink<'a> = &'a mut dyn FnMut(Change) -> ControlFlow<()>;

/// Tells where `new` differs from `old`, within the size of `new`; what lies behind the end of `old` counts as zeros. A change is `zero` if the range
/// reads as zeros now: with [`Detail::Chunks`] where the map has a hole, with [`Detail::Blocks`] for all blocks of zeros. Memory does not depend on
/// the disks or on what changed.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if a part of a map, or a chunk that has to be read, is lost;
/// [`Kind::Interrupted`](cairn_base::Kind::Interrupted) on request.
pub fn difference(
    old: &StoredDisk,
    new: &StoredDisk,
    detail: Detail,
    monitor: &dyn Monitor,
    sink: ChangeSink<'_>,
) -> Result<()> {
    let size = new.size();
    monitor.begin(Stage::Compare, size);
    let mut joined = Joined {
        waiting: None,
        ended: false,
        sink,
    };
    let mut blocks = Blocks::default();
    let mut told = 0;
    each_pair(Some(old.tree()), Some(new.tree()), &mut |pair| {
        if monitor.stop_requested() {
            return Err(Error::interrupted());
        }
        let start = pair.region.saturating_mul(REGION);
        if start >= size {
            return Ok(ControlFlow::Break(()));
        }
        monitor.advance(Stage::Compare, start.saturating_sub(told));
        told = start.max(told);
        if pair.level > 0 {
            return Ok(ControlFlow::Continue(()));
        }
        let before = old.tree().leaf(pair.region, pair.old)?;
        let after = new.tree().leaf(pair.region, pair.new)?;
        let changes = changed_parts(&before, &after).into_iter();
        let changes = changes.map(|change| Change {
            range: start.saturating_add(change.range.start)..start.saturating_add(change.range.end),
            zero: change.zero,
        });
        match detail {
            Detail::Chunks => {
                let mut changes = changes;
                Ok(changes.try_for_each(|change| joined.add(change)))
            }
            Detail::Blocks => blocks.compare(old, new, changes, &mut joined),
        }
    })?;
    monitor.advance(Stage::Compare, size.saturating_sub(told));
    monitor.finish(Stage::Compare);
    joined.end();
    Ok(())
}

/// Joins changes that touch.
struct Joined<'a> {
    waiting: Option<Change>,
    /// Whether the sink wants no more.
    ended: bool,
    sink: ChangeSink<'a>,
}

impl Joined<'_> {
    fn add(&mut self, change: Change) -> ControlFlow<()> {
        match &mut self.waiting {
            Some(last) if last.range.end == change.range.start && last.zero == change.zero => {
                last.range.end = change.range.end;
                ControlFlow::Continue(())
            }
            waiting => match waiting.replace(change) {
                Some(last) => {
                    let flow = (self.sink)(last);
                    self.ended |= flow.is_break();
                    flow
                }
                None => ControlFlow::Continue(()),
            },
        }
    }

    fn end(mut self) {
        if let Some(last) = self.waiting.take().filter(|_| !self.ended) {
            // Nothing comes behind it.
            let _ended = (self.sink)(last);
        }
    }
}

/// Compares by bytes.
#[derive(Default)]
struct Blocks {
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Blocks {
    /// Tells the blocks that differ among those that `changes` touch, which lie in one region.
    fn compare(
        &mut self,
        old: &StoredDisk,
        new: &StoredDisk,
        changes: impl Iterator<Item = Change>,
        joined: &mut Joined<'_>,
    ) -> Result<ControlFlow<()>> {
        let block = to_u64(BLOCK);
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for Change { range, .. } in changes {
            let start = range.start / block * block;
            let end = range.end.div_ceil(block).saturating_mul(block);
            match ranges.last_mut() {
                Some(last) if last.end >= start => last.end = last.end.max(end),
                _ => ranges.push(start..end),
            }
        }
        for range in ranges {
            let end = range.end.min(new.size());
            let mut at = range.start;
            while at < end {
                let length = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
                read_zeroed(old, at, length, &mut self.before)?;
                read_zeroed(new, at, length, &mut self.after)?;
                let blocks = self.before.chunks(BLOCK).zip(self.after.chunks(BLOCK));
                for (before, after) in blocks {
                    let behind = at.saturating_add(to_u64(after.len()));
                    let change = Change {
                        range: at..behind,
                        zero: is_zero(after),
                    };
                    if before != after && joined.add(change).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                    at = behind;
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Reads `length` bytes; behind the end of the disk there are zeros.
fn read_zeroed(disk: &StoredDisk, offset: u64, length: usize, out: &mut Vec<u8>) -> Result<()> {
    out.clear();
    out.resize(length, 0);
    let there = disk.size().saturating_sub(offset);
    let there = usize::try_from(there).unwrap_or(length).min(length);
    let (out, _zeros) = out.split_at_mut(there);
    if out.is_empty() {
        return Ok(());
    }
    disk.read_exact_at(offset, out)
}
