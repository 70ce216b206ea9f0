//! Whether a region still is what the previous point's leaf says, told while it is read.
//!
//! Chunks are hashed at their old boundaries as soon as their bytes are there, while these are still in the processor's
//! cache: an unchanged region needs no cutting and no look-up.

use crate::hash::{ChunkKind, Keys};
use crate::map::Leaf;
use crate::map::holes::is_zero;
use cairn_base::{ChunkId, Result};
use std::collections::HashMap;
use std::ops::Range;

/// Old chunks that may differ before the rest of a region is cut without looking at old boundaries.
const MAX_MISSES: usize = 4;

/// Compares a region with its old leaf.
pub struct Compare<'a> {
    keys: &'a Keys,
    leaf: &'a Leaf,
    known_zero: &'a [Range<usize>],
    /// The next extent to look at, and where it begins.
    next: usize,
    at: usize,
    misses: usize,
    known: HashMap<(usize, u32), ChunkId>,
}

/// What a comparison came to.
#[derive(Debug, Default)]
pub struct Compared {
    /// Whether the region is what the leaf says.
    pub same: bool,
    /// The chunks that are still there, by offset in the region and length: they need not be hashed again.
    pub known: HashMap<(usize, u32), ChunkId>,
}

impl<'a> Compare<'a> {
    /// With the old leaf; `known_zero` are ranges that are zeros for sure.
    pub fn new(keys: &'a Keys, leaf: &'a Leaf, known_zero: &'a [Range<usize>]) -> Compare<'a> {
        Compare {
            keys,
            leaf,
            known_zero,
            next: 0,
            at: 0,
            misses: 0,
            known: HashMap::with_capacity(leaf.extents.len()),
        }
    }

    /// Looks at what lies in the first `loaded` bytes of the region; they are as they will stay.
    pub fn advance(&mut self, region: &[u8], loaded: usize) {
        // Where much has changed, hashing old boundaries is wasted.
        while self.misses <= MAX_MISSES {
            let Some(extent) = self.leaf.extents.get(self.next) else {
                return;
            };
            let length = usize::try_from(extent.length).unwrap_or(usize::MAX);
            let range = self.at..self.at.saturating_add(length);
            if range.end > loaded {
                return;
            }
            let Some(part) = region.get(range.clone()) else {
                return;
            };
            let same = match extent.chunk {
                Some(id) => {
                    let same = self.keys.chunk_id(ChunkKind::Data, part) == id;
                    if same {
                        self.known.insert((range.start, extent.length), id);
                    }
                    same
                }
                None => {
                    let mut known = self.known_zero.iter();
                    known.any(|zero| zero.start <= range.start && range.end <= zero.end)
                        || is_zero(part)
                }
            };
            self.misses += usize::from(!same);
            self.at = range.end;
            self.next += 1;
        }
    }

    /// The result for a region of `length` bytes.
    pub fn finish(self, length: usize) -> Compared {
        let all = self.next == self.leaf.extents.len() && self.at == length;
        Compared {
            same: all && self.misses == 0,
            known: self.known,
        }
    }
}

/// Whether a region of `length` bytes still is what its old leaf says, read by `read` (a range of the region) into `scratch` again and again:
/// so small that it stays in the processor's cache, it is filled and hashed faster than a whole region.
/// `known_zero` are ranges that are zeros for sure; they are not read.
///
/// # Errors
/// What `read` reports.
pub fn is_unchanged(
    keys: &Keys,
    leaf: &Leaf,
    known_zero: &[Range<usize>],
    length: usize,
    scratch: &mut [u8],
    mut read: impl FnMut(usize, &mut [u8]) -> Result<()>,
) -> Result<bool> {
    let mut at = 0usize;
    let mut extents = leaf.extents.iter().peekable();
    while let Some(extent) = extents.next() {
        let size = usize::try_from(extent.length).unwrap_or(usize::MAX);
        let end = at.saturating_add(size);
        if end > length {
            return Ok(false);
        }
        let Some(first) = extent.chunk else {
            let known = |zero: &Range<usize>| zero.start <= at && end <= zero.end;
            if !known_zero.iter().any(known) && !reads_zeros(at..end, scratch, &mut read)? {
                return Ok(false);
            }
            at = end;
            continue;
        };
        // Chunks side by side are read at once.
        let mut group = vec![(size, first)];
        let mut together = size;
        while let Some(next) = extents.peek()
            && let Some(id) = next.chunk
            && let Ok(size) = usize::try_from(next.length)
            && together.saturating_add(size) <= scratch.len().min(length.saturating_sub(at))
        {
            group.push((size, id));
            together = together.saturating_add(size);
            extents.next();
        }
        let Some(bytes) = scratch.get_mut(..together) else {
            return Ok(false);
        };
        read(at, bytes)?;
        let mut rest = &*bytes;
        for (size, id) in group {
            let Some((part, after)) = rest.split_at_checked(size) else {
                return Ok(false);
            };
            if keys.chunk_id(ChunkKind::Data, part) != id {
                return Ok(false);
            }
            rest = after;
        }
        at = at.saturating_add(together);
    }
    Ok(at == length)
}

/// Whether all of a range reads as zeros.
fn reads_zeros(
    range: Range<usize>,
    scratch: &mut [u8],
    read: &mut impl FnMut(usize, &mut [u8]) -> Result<()>,
) -> Result<bool> {
    let mut at = range.start;
    while at < range.end {
        let size = scratch.len().min(range.end.saturating_sub(at));
        let Some(part) = scratch.get_mut(..size).filter(|part| !part.is_empty()) else {
            return Ok(false);
        };
        read(at, part)?;
        if !is_zero(part) {
            return Ok(false);
        }
        at = at.saturating_add(size);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::Extent;

    fn leaf(keys: &Keys, parts: &[&[u8]]) -> Leaf {
        let extents = parts.iter().map(|part| Extent {
            length: u32::try_from(part.len()).unwrap(),
            chunk: (!is_zero(part)).then(|| keys.chunk_id(ChunkKind::Data, part)),
        });
        Leaf {
            extents: extents.collect(),
        }
    }

    #[test]
    fn pieces_of_any_size_tell_the_same() {
        let keys = Keys::derive(&[1; 32]);
        let parts: [&[u8]; 3] = [&[1; 1000], &[0; 500], &[2; 300]];
        let region = parts.concat();
        let leaf = leaf(&keys, &parts);
        for piece in [1, 7, 999, 1000, 1001, 1800] {
            let mut compare = Compare::new(&keys, &leaf, &[]);
            for loaded in (0..region.len()).step_by(piece).chain([region.len()]) {
                compare.advance(&region, loaded);
            }
            let compared = compare.finish(region.len());
            assert!(compared.same);
            assert_eq!(compared.known.len(), 2);
        }
    }

    #[test]
    fn what_differs_is_seen_and_what_does_not_is_known() {
        let keys = Keys::derive(&[1; 32]);
        let parts: [&[u8]; 3] = [&[1; 1000], &[0; 500], &[2; 300]];
        let leaf = leaf(&keys, &parts);
        for changed in [0, 1200, 1799] {
            let mut region = parts.concat();
            region[changed] ^= 9;
            let mut compare = Compare::new(&keys, &leaf, &[]);
            compare.advance(&region, region.len());
            let compared = compare.finish(region.len());
            assert!(!compared.same);
            assert_eq!(compared.known.contains_key(&(0, 1000)), changed != 0);
            assert_eq!(compared.known.contains_key(&(1500, 300)), changed != 1799);
        }
        // A region that is longer or shorter is another one.
        let mut compare = Compare::new(&keys, &leaf, &[]);
        let region = [parts.concat(), vec![0; 10]].concat();
        compare.advance(&region, region.len());
        assert!(!compare.finish(region.len()).same);
        let mut compare = Compare::new(&keys, &leaf, &[]);
        compare.advance(&region, 1799);
        assert!(!compare.finish(1799).same);
    }

    fn unchanged(keys: &Keys, leaf: &Leaf, zero: &[Range<usize>], region: &[u8]) -> (bool, usize) {
        let mut scratch = vec![0xAA; 1300];
        let mut read = 0;
        let same = is_unchanged(keys, leaf, zero, region.len(), &mut scratch, |at, part| {
            part.copy_from_slice(&region[at..at + part.len()]);
            read += part.len();
            Ok(())
        });
        (same.unwrap(), read)
    }

    #[test]
    fn a_region_read_through_a_small_scratch_is_told_from_any_other() {
        let keys = Keys::derive(&[1; 32]);
        // Together more, one by one less than the scratch; the hole is longer than it.
        let parts: [&[u8]; 6] = [
            &[1; 1000], &[3; 200], &[4; 200], &[0; 5000], &[2; 300], &[5; 1300],
        ];
        let region = parts.concat();
        let leaf = leaf(&keys, &parts);
        assert_eq!(unchanged(&keys, &leaf, &[], &region), (true, 8000));
        let zero = 1400..6400;
        assert_eq!(
            unchanged(&keys, &leaf, std::slice::from_ref(&zero), &region),
            (true, 3000)
        );
        let partly = 1400..6399;
        assert_eq!(
            unchanged(&keys, &leaf, std::slice::from_ref(&partly), &region),
            (true, 8000)
        );
        for at in 0..region.len() {
            let mut other = region.clone();
            other[at] ^= 1;
            assert!(!unchanged(&keys, &leaf, &[], &other).0, "{at}");
        }
        // Longer or shorter is another one; and so is what does not fit into the scratch.
        assert!(!unchanged(&keys, &leaf, &[], &region[..7999]).0);
        assert!(!unchanged(&keys, &leaf, &[], &[region.clone(), vec![0]].concat()).0);
        let big = super::tests::leaf(&keys, &[&[1; 1301]]);
        assert!(!unchanged(&keys, &big, &[], &[1; 1301]).0);
    }
}
