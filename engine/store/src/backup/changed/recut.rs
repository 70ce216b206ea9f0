//! What becomes of a region's extents when parts of it change: exactly what cutting all of it anew would give, while no more
//! of it is read than decides that.
//!
//! Two things reach beyond a change. Zeros may join zeros beside them, so zeros at the edge of what was read are followed
//! until they end ([`widen`]). And a cut depends on the bytes from the cut before it up to the byte behind it, and on nothing
//! else: so from the first chunk that a change touches everything is cut anew, until a cut meets the beginning of an old chunk
//! that is as it was, with the byte behind it. From there on the old chunks stand ([`Recut::kept`]).

use crate::backup::changed::window::{Block, Window};
use crate::cut::{CutParameters, MAX_CHUNK};
use crate::map::holes::{BLOCK, holes_of_blocks};
use crate::map::{Extent, Leaf};
use cairn_base::{ChunkId, Result};
use std::ops::Range;

/// Bytes behind a chunk that say where it ends: the cut's hash takes in the byte behind it, and the last byte of a run
/// whose rest is odd is never hashed.
const BEHIND: usize = 2;

/// A change within a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Bytes of the region; not empty.
    pub range: Range<usize>,
    /// Whether they are known to be zeros now.
    pub zero: bool,
}

/// A part of the new leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// A chunk of the base, unchanged and unread.
    Kept(Extent),
    /// A chunk that was cut anew; its bytes are in the window.
    New(Range<usize>),
    /// Zeros.
    Hole(Range<usize>),
}

/// An extent of the base.
struct Old {
    range: Range<usize>,
    extent: Extent,
    touched: bool,
}

struct Recut<'a, 'b> {
    cut: CutParameters,
    old: Vec<Old>,
    parts: &'a [Part],
    window: &'a mut Window<'b>,
}

/// The pieces of a region that was `base` before `parts` (ascending, not overlapping) of it changed.
///
/// # Errors
/// What the image reports.
pub fn recut(
    cut: CutParameters,
    base: &Leaf,
    parts: &[Part],
    window: &mut Window<'_>,
) -> Result<Vec<Piece>> {
    let mut recut = Recut {
        cut,
        old: old_extents(base, parts),
        parts,
        window,
    };
    recut.load_changes()?;
    widen(recut.window)?;
    let zero = |block: &Block| !matches!(block, Block::Unread | Block::Data);
    let length = recut.window.length();
    let holes = holes_of_blocks(recut.window.blocks().iter().map(zero), length);
    let mut pieces = Vec::new();
    let mut at = 0;
    for hole in holes.into_iter().chain(std::iter::once(length..length)) {
        recut.run(at..hole.start, &mut pieces)?;
        at = hole.end;
        if !hole.is_empty() {
            pieces.push(Piece::Hole(hole));
        }
    }
    Ok(pieces)
}

fn old_extents(base: &Leaf, parts: &[Part]) -> Vec<Old> {
    let mut at = 0usize;
    let extents = base.extents.iter().map(|extent| {
        let start = at;
        at = at.saturating_add(usize::try_from(extent.length).unwrap_or(usize::MAX));
        Old {
            range: start..at,
            extent: *extent,
            touched: touches(parts, &(start..at)),
        }
    });
    extents.collect()
}

fn touches(parts: &[Part], range: &Range<usize>) -> bool {
    let next = parts.partition_point(|part| part.range.end <= range.start);
    parts
        .get(next)
        .is_some_and(|part| part.range.start < range.end)
}

/// Follows zeros that may go on in blocks that were not read. Zeros in chunks of the base are short, so this ends soon; and
/// holes of the base end where they ended, unless what is beside them was read.
fn widen(window: &mut Window<'_>) -> Result<()> {
    for index in 0..window.blocks().len() {
        if !matches!(window.block(index), Block::Zero | Block::Zeroed) {
            continue;
        }
        let mut first = index;
        while first > 0 && window.block(first - 1) == Block::Unread {
            first -= 1;
            window.load(first * BLOCK..(first + 1) * BLOCK)?;
            if window.block(first) == Block::Data {
                break;
            }
        }
        if window.block(index + 1) == Block::Unread {
            window.load((index + 1) * BLOCK..(index + 2) * BLOCK)?;
        }
    }
    Ok(())
}

impl Recut<'_, '_> {
    /// Notes what is known to be zeros; reads the chunks that a change touches, and what changed in holes.
    fn load_changes(&mut self) -> Result<()> {
        for old in self.old.iter().filter(|old| old.extent.chunk.is_none()) {
            let range = old.range.clone();
            self.window.set_inside(range, Block::Unread, Block::Hole);
        }
        for part in self.parts.iter().filter(|part| part.zero) {
            let range = part.range.clone();
            self.window.set_inside(range, Block::Unread, Block::Zeroed);
        }
        let mut wanted = Vec::new();
        for part in self.parts.iter().filter(|part| !part.zero) {
            self.window.forget(part.range.clone());
            wanted.push(part.range.clone());
        }
        let chunks = self.old.iter().filter(|old| old.extent.chunk.is_some());
        for old in chunks.filter(|old| old.touched) {
            wanted.push(old.range.start..old.range.end.saturating_add(BEHIND));
        }
        wanted.sort_unstable_by_key(|range| range.start);
        wanted.dedup_by(|next, last| {
            let joins = next.start <= last.end;
            if joins {
                last.end = last.end.max(next.end);
            }
            joins
        });
        for range in &wanted {
            self.window.will_need(range);
        }
        for range in wanted {
            self.window.load(range)?;
        }
        Ok(())
    }

    /// The pieces of a run of data.
    fn run(&mut self, run: Range<usize>, pieces: &mut Vec<Piece>) -> Result<()> {
        let mut at = run.start;
        while at < run.end {
            if let Some((extent, end)) = self.kept(at, run.end) {
                pieces.push(Piece::Kept(extent));
                at = end;
            } else {
                let end = self.next_cut(at, run.end)?;
                pieces.push(Piece::New(at..end));
                at = end;
            }
        }
        Ok(())
    }

    /// The old chunk that begins at `at`, and where it ends, if the cut behind it must fall where it fell.
    fn kept(&self, at: usize, run_end: usize) -> Option<(Extent, usize)> {
        let index = self.old_at(at);
        let old = self.old.get(index)?;
        let end = old.range.end;
        if old.range.start != at || old.touched || old.extent.chunk.is_none() || end > run_end {
            return None;
        }
        // Where the run ends no chunk goes on, whatever made the old one end there.
        let same = end == run_end || {
            let next = self.old.get(index + 1)?;
            next.extent.chunk.is_some()
                && !touches(self.parts, &(end..end + 1))
                && run_end - end >= BEHIND
        };
        same.then_some((old.extent, end))
    }

    fn old_at(&self, at: usize) -> usize {
        self.old.partition_point(|old| old.range.end <= at)
    }

    /// Where the chunk ends that begins at `at`, which may need bytes of the old extents behind it.
    fn next_cut(&mut self, at: usize, run_end: usize) -> Result<usize> {
        let mut known = at;
        loop {
            let old_end = match self.old.get(self.old_at(known)) {
                Some(old) => old.range.end.saturating_add(BEHIND),
                None => run_end,
            };
            let enough = at.saturating_add(MAX_CHUNK);
            known = old_end.min(enough).next_multiple_of(BLOCK).min(run_end);
            self.window.fill(at..known)?;
            let rest = self.window.bytes().get(at..known).unwrap_or_default();
            let length = self.cut.first_cut(rest, at).clamp(1, rest.len().max(1));
            // A cut within what is there would be the same with more behind it; one at its end may not be.
            if length < rest.len() || known >= run_end || known >= enough {
                return Ok(at.saturating_add(length).min(run_end));
            }
        }
    }
}

/// Ids of the chunks that stand in a leaf.
pub fn chunks_of(leaf: &Leaf) -> impl Iterator<Item = ChunkId> + '_ {
    leaf.extents.iter().filter_map(|extent| extent.chunk)
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)]
mod tests;
