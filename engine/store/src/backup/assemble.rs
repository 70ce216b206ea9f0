//! The map of a disk, from its parts in the order in which they were read.

use crate::hash::Keys;
use crate::map::build::NodeSink;
use crate::map::shape::regions_below;
use crate::map::{MapBuilder, Shape};
use cairn_base::{ChunkId, Error, Result};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

/// Regions of a stretch: 256 MiB, so that a disk that turns reads in long runs, and a stretch fills about a pack.
const STRETCH: u64 = 64;
/// Disks of more regions than this (4 TiB) are read from their start to their end: the leaves of what is read too early are kept.
const MAX_KEPT: u64 = 1 << 20;

/// The order in which a disk's regions are read: stretches of it, each once. From start to end, unless other processes were writing already: then shuffled.
///
/// Machines are often made from one image. Processes that read the same in the same order at the same time store it twice, because nobody finds what is not
/// public yet; and whoever finds what another one has stored is faster than that one, catches up with it, and then stores the same again. In an order
/// of its own each one mostly is where no other one is.
pub fn order(shape: Shape, before: usize, seed: u64) -> Vec<Range<u64>> {
    let all = 0..shape.regions();
    if before == 0 || all.end > MAX_KEPT {
        return vec![all];
    }
    let starts = (0..all.end.div_ceil(STRETCH)).map(|number| number * STRETCH);
    let mut stretches: Vec<_> = starts
        .map(|start| start..all.end.min(start + STRETCH))
        .collect();
    // xorshift: any order will do that is not the others'.
    let mut state = seed | 1;
    for last in (1..stretches.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let bound = u64::try_from(last).unwrap_or(u64::MAX).saturating_add(1);
        let at = usize::try_from(state.checked_rem(bound).unwrap_or(0)).unwrap_or(0);
        stretches.swap(last, at);
    }
    stretches
}

/// Leaves, each with how often it follows itself.
type Leaves = Vec<(ChunkId, u64)>;

/// Puts the leaves of a disk whose stretches are read in some order into the disk's order.
pub struct Assembly {
    builder: MapBuilder,
    /// What is still to come of each stretch, in the order in which they come.
    stretches: VecDeque<Range<u64>>,
    /// Where the first of them begins.
    start: u64,
    /// Leaves that came too early, by the region with which their stretch begins.
    early: BTreeMap<u64, Leaves>,
    /// The region whose leaf is the next one of the map.
    next: u64,
}

impl Assembly {
    /// For a disk whose regions come in this order.
    pub fn new(shape: Shape, order: &[Range<u64>]) -> Assembly {
        Assembly {
            builder: MapBuilder::new(shape),
            stretches: order.iter().cloned().collect(),
            start: order.first().map_or(0, |first| first.start),
            early: BTreeMap::new(),
            next: 0,
        }
    }

    /// The next `count` leaves, all the same and of one stretch.
    ///
    /// # Errors
    /// As [`MapBuilder::push`].
    pub fn push(
        &mut self,
        keys: &Keys,
        leaf: ChunkId,
        count: u64,
        sink: NodeSink<'_>,
    ) -> Result<()> {
        let Some(stretch) = self.stretches.front_mut() else {
            return Err(Error::invalid("more leaves than a disk has regions"));
        };
        let at = stretch.start;
        stretch.start += count;
        let ends = stretch.is_empty();
        if at == self.next {
            self.in_order(keys, &[(leaf, count)], sink)?;
        } else {
            let leaves = self.early.entry(self.start).or_default();
            match leaves.last_mut() {
                Some((last, times)) if *last == leaf => *times += count,
                _ => leaves.push((leaf, count)),
            }
        }
        if ends {
            self.stretches.pop_front();
            self.start = self.stretches.front().map_or(0, |first| first.start);
            while let Some(leaves) = self.early.remove(&self.next) {
                self.in_order(keys, &leaves, sink)?;
            }
        }
        Ok(())
    }

    fn in_order(
        &mut self,
        keys: &Keys,
        leaves: &[(ChunkId, u64)],
        sink: NodeSink<'_>,
    ) -> Result<()> {
        for (leaf, count) in leaves {
            self.next += count;
            for _ in 0..*count {
                self.builder.push(keys, *leaf, sink)?;
            }
        }
        Ok(())
    }

    /// A part of another map; only for disks that are read from their start to their end.
    ///
    /// # Errors
    /// As [`MapBuilder::push_subtree`].
    pub fn push_subtree(
        &mut self,
        keys: &Keys,
        level: u8,
        id: ChunkId,
        sink: NodeSink<'_>,
    ) -> Result<()> {
        if let Some(stretch) = self.stretches.front_mut() {
            // The last one of its level may cover less.
            let covers = regions_below(level).min(stretch.end.saturating_sub(stretch.start));
            stretch.start += covers;
            self.next += covers;
        }
        self.builder.push_subtree(keys, level, id, sink)
    }

    /// The root.
    ///
    /// # Errors
    /// As [`MapBuilder::finish`].
    pub fn finish(self, keys: &Keys, sink: NodeSink<'_>) -> Result<ChunkId> {
        self.builder.finish(keys, sink)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::REGION;

    #[test]
    fn the_map_is_the_same_in_whatever_order_it_is_read() {
        let keys = Keys::derive(&[1; 32]);
        let leaf = |region: u64| match region % 7 {
            0..3 => ChunkId::NULL,
            _ => ChunkId(*blake3::hash(&region.to_le_bytes()).as_bytes()),
        };
        let shape = Shape::of(700 * REGION).unwrap();
        let root = |order: &[Range<u64>]| {
            let mut nodes = 0;
            let mut sink = |_, _, _: Vec<u8>| {
                nodes += 1;
                Ok(())
            };
            let mut assembly = Assembly::new(shape, order);
            for stretch in order {
                let mut regions = stretch.clone().peekable();
                while let Some(region) = regions.next() {
                    let mut count = 1;
                    while regions
                        .next_if(|next| leaf(*next) == leaf(region))
                        .is_some()
                    {
                        count += 1;
                    }
                    assembly
                        .push(&keys, leaf(region), count, &mut sink)
                        .unwrap();
                }
            }
            assert!(assembly.early.is_empty());
            (assembly.finish(&keys, &mut sink).unwrap(), nodes)
        };
        let plain = order(shape, 0, 1);
        assert_eq!((plain.len(), plain[0].clone()), (1, 0..700));
        let mut seen = std::collections::HashSet::from([plain.clone()]);
        for seed in 0..20 {
            let shuffled = order(shape, 1, seed << 32 | 77);
            assert_eq!(root(&shuffled), root(&plain), "{seed}");
            let mut sorted = shuffled.clone();
            sorted.sort_by_key(|stretch| stretch.start);
            assert!(sorted.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert_eq!((sorted[0].start, sorted.last().unwrap().end), (0, 700));
            assert!(seen.insert(shuffled), "{seed}");
        }
        let large = Shape::of(REGION * ((1 << 20) + 1)).unwrap();
        assert_eq!(order(large, 1, 5).len(), 1);
        assert!(order(Shape::of(0).unwrap(), 1, 5).is_empty());
    }
}
