//! Builds a map from its leaves, in disk order, keeping one unfinished node a level.

use crate::hash::{ChunkKind, Keys};
use crate::map::node::Node;
use crate::map::shape::{FANOUT, Shape};
use cairn_base::{ChunkId, Error, Result};

/// Takes the chunks of a map: kind, id, bytes. Called for every node; the receiver knows which are stored already.
pub type NodeSink<'a> = &'a mut dyn FnMut(ChunkKind, ChunkId, Vec<u8>) -> Result<()>;

/// Builds the nodes above leaves that arrive in disk order.
pub struct MapBuilder {
    levels: Vec<Vec<ChunkId>>,
    missing: u64,
}

impl MapBuilder {
    /// For a disk of this shape.
    pub fn new(shape: Shape) -> MapBuilder {
        MapBuilder {
            levels: vec![Vec::new(); usize::from(shape.height()) + 1],
            missing: shape.regions(),
        }
    }

    /// The next region's leaf; the null id if it is all hole.
    ///
    /// # Errors
    /// What the sink reports.
    pub fn push(&mut self, keys: &Keys, leaf: ChunkId, sink: NodeSink<'_>) -> Result<()> {
        self.missing = self
            .missing
            .checked_sub(1)
            .ok_or_else(|| Error::invalid("a map has more leaves than its disk regions"))?;
        self.push_at(0, keys, leaf, sink)
    }

    fn push_at(
        &mut self,
        level: usize,
        keys: &Keys,
        id: ChunkId,
        sink: NodeSink<'_>,
    ) -> Result<()> {
        let mut level = level;
        let mut id = id;
        // Carries upwards like an odometer.
        while let Some(ids) = self.levels.get_mut(level) {
            ids.push(id);
            if ids.len() < FANOUT || level + 1 >= self.levels.len() {
                break;
            }
            level += 1;
            id = self.close(level, keys, sink)?;
        }
        Ok(())
    }

    /// Turns the ids waiting below `level` into one node of `level`.
    fn close(&mut self, level: usize, keys: &Keys, sink: NodeSink<'_>) -> Result<ChunkId> {
        let below = self.levels.get_mut(level - 1).map(std::mem::take);
        let node = Node::new(below.unwrap_or_default());
        if node.is_hole() {
            return Ok(ChunkId::NULL);
        }
        let kind = ChunkKind::Node(u8::try_from(level).unwrap_or(u8::MAX));
        let bytes = node.encode();
        let id = keys.chunk_id(kind, &bytes);
        sink(kind, id, bytes)?;
        Ok(id)
    }

    /// The root, after the last leaf.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) if a leaf is missing; what the sink reports.
    pub fn finish(mut self, keys: &Keys, sink: NodeSink<'_>) -> Result<ChunkId> {
        if self.missing > 0 {
            return Err(Error::invalid(format!(
                "a map lacks {} of its leaves",
                self.missing
            )));
        }
        for level in 1..self.levels.len() {
            if self
                .levels
                .get(level - 1)
                .is_some_and(|ids| !ids.is_empty())
            {
                let id = self.close(level, keys, sink)?;
                self.push_at(level, keys, id, sink)?;
            }
        }
        let top = self.levels.last().and_then(|ids| ids.first().copied());
        Ok(top.unwrap_or(ChunkId::NULL))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::shape::REGION;

    fn build(regions: u64, leaf: impl Fn(u64) -> ChunkId) -> (ChunkId, Vec<(ChunkKind, ChunkId)>) {
        let keys = Keys::derive(&[1; 32]);
        let mut nodes = Vec::new();
        let mut sink = |kind, id, _bytes: Vec<u8>| {
            nodes.push((kind, id));
            Ok(())
        };
        let mut builder = MapBuilder::new(Shape::of(regions * REGION).unwrap());
        for region in 0..regions {
            builder.push(&keys, leaf(region), &mut sink).unwrap();
        }
        let root = builder.finish(&keys, &mut sink).unwrap();
        (root, nodes)
    }

    fn some(region: u64) -> ChunkId {
        ChunkId(*blake3::hash(&region.to_le_bytes()).as_bytes())
    }

    #[test]
    fn small_disks_need_no_nodes() {
        assert_eq!(build(1, some), (some(0), vec![]));
        assert_eq!(build(0, some).0, ChunkId::NULL);
    }

    #[test]
    fn nodes_appear_as_needed() {
        for (regions, level1, level2) in [
            (2, 1, 0),
            (256, 1, 0),
            (257, 2, 1),
            (512, 2, 1),
            (65536, 256, 1),
        ] {
            let (root, nodes) = build(regions, some);
            let count = |level| {
                nodes
                    .iter()
                    .filter(|(k, _)| *k == ChunkKind::Node(level))
                    .count()
            };
            assert_eq!((count(1), count(2)), (level1, level2), "{regions}");
            assert_eq!(nodes.last().unwrap().1, root);
        }
        let (_, nodes) = build(65537, some);
        assert_eq!(nodes.last().unwrap().0, ChunkKind::Node(3));
    }

    #[test]
    fn holes_cost_nothing_and_growth_by_holes_keeps_nodes() {
        let (root, nodes) = build(70_000, |_| ChunkId::NULL);
        assert!(root.is_null() && nodes.is_empty());
        let (small, _) = build(100, |r| if r < 50 { some(r) } else { ChunkId::NULL });
        let (large, _) = build(200, |r| if r < 50 { some(r) } else { ChunkId::NULL });
        assert_eq!(small, large);
    }
}
