//! Whether a region still is what the previous point's leaf says, told while it is read.
//!
//! Chunks are hashed at their old boundaries as soon as their bytes are there, while these are still in the processor's
//! cache: an unchanged region needs no cutting and no look-up.

use crate::hash::{ChunkKind, Keys};
use crate::map::Leaf;
use crate::map::holes::is_zero;
use cairn_base::ChunkId;
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
}
