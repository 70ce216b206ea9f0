//! Builds a map from its leaves, in disk order, keeping one unfinished node a level.

use crate::hash::{ChunkKind, Keys};
use crate::map::node::Node;
use crate::map::shape::{FANOUT, Shape, regions_below};
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

    /// A whole subtree of another map over a disk of the same size: the node `id` of `level` (0: a leaf), and all below it. As
    /// many regions must have been pushed as make its place begin here.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) if it cannot stand here; what the sink reports.
    pub fn push_subtree(
        &mut self,
        keys: &Keys,
        level: u8,
        id: ChunkId,
        sink: NodeSink<'_>,
    ) -> Result<()> {
        let at = usize::from(level);
        let below = self.levels.get(..at);
        let fits = at < self.levels.len() && below.is_some_and(|all| all.iter().all(Vec::is_empty));
        if !fits || self.missing == 0 {
            return Err(Error::invalid("a part of another map does not fit here"));
        }
        // The last one of its level may cover less.
        self.missing = self.missing.saturating_sub(regions_below(level));
        self.push_at(at, keys, id, sink)
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
    fn subtrees_of_another_map_fit() {
        let keys = Keys::derive(&[1; 32]);
        for regions in [1, 2, 255, 256, 257, 600, 66_000] {
            let (root, nodes) = build(regions, some);
            let shape = Shape::of(regions * REGION).unwrap();
            let mut made = Vec::new();
            let mut sink = |kind, id, _bytes: Vec<u8>| {
                made.push((kind, id));
                Ok(())
            };
            // The root as it is.
            let mut whole = MapBuilder::new(shape);
            whole
                .push_subtree(&keys, shape.height(), root, &mut sink)
                .unwrap();
            assert!(whole.push_subtree(&keys, 0, root, &mut sink).is_err());
            assert_eq!(whole.finish(&keys, &mut sink).unwrap(), root);
            // The first region anew, then the largest parts that fit.
            let mut parts = MapBuilder::new(shape);
            parts.push(&keys, some(0), &mut sink).unwrap();
            let mut at = 1;
            let mut level_1 = nodes
                .iter()
                .filter(|(kind, _)| *kind == ChunkKind::Node(1))
                .skip(1);
            while at < regions {
                if at % 256 == 0 {
                    let (_, id) = level_1.next().unwrap();
                    parts.push_subtree(&keys, 1, *id, &mut sink).unwrap();
                    at += 256;
                } else {
                    assert!(parts.push_subtree(&keys, 1, some(at), &mut sink).is_err());
                    parts.push_subtree(&keys, 0, some(at), &mut sink).unwrap();
                    at += 1;
                }
            }
            assert_eq!(parts.finish(&keys, &mut sink).unwrap(), root, "{regions}");
            assert!(made.iter().all(|node| nodes.contains(node)));
        }
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
