//! Walking two maps side by side. What has the same id on both sides is the same, and is passed over as high in the trees as it can be.

use crate::map::Shape;
use crate::map::node::Node;
use crate::map::shape::{FANOUT, regions_below};
use crate::tree::Tree;
use cairn_base::units::to_u64;
use cairn_base::{ChunkId, Result};
use std::ops::ControlFlow;
use std::sync::Arc;

/// What stands at one place of two maps and is not the same: two nodes, two leaves, or one of these and nothing but zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// Levels above the leaves; 0 is a leaf.
    pub level: u8,
    /// The first region below it.
    pub region: u64,
    /// What the old map has there; null for zeros, and where the old map is not so high.
    pub old: ChunkId,
    /// The same of the new map.
    pub new: ChunkId,
}

/// Receives pairs until it breaks.
pub type PairSink<'a> = &'a mut dyn FnMut(Pair) -> Result<ControlFlow<()>>;

/// Tells every pair of nodes or leaves that are not the same, in disk order, each node before what hangs below it. A disk that is not there is one
/// of zeros, and a lower map compares as child 0 of a higher one. Takes time in proportion to what differs.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if a node on the way cannot be read; what the sink reports.
pub fn each_pair(old: Option<&Tree>, new: Option<&Tree>, found: PairSink<'_>) -> Result<()> {
    let walk = Walk {
        old: Side::of(old),
        new: Side::of(new),
    };
    let top = walk.old.height().max(walk.new.height());
    let _ended_early = walk.at(top, 0, [walk.old.root(), walk.new.root()], found)?;
    Ok(())
}

struct Walk<'a> {
    old: Side<'a>,
    new: Side<'a>,
}

/// One of the two maps.
struct Side<'a> {
    tree: Option<(&'a Tree, Shape)>,
}

/// What hangs below a place of one map.
enum Below {
    /// Zeros.
    Nothing,
    /// The whole map: it is not so high.
    First(ChunkId),
    Node(Arc<Node>),
}

impl Below {
    fn child(&self, index: usize) -> ChunkId {
        match self {
            Below::First(id) if index == 0 => *id,
            Below::Nothing | Below::First(_) => ChunkId::NULL,
            Below::Node(node) => node.child(index),
        }
    }
}

impl<'a> Side<'a> {
    fn of(tree: Option<&'a Tree>) -> Side<'a> {
        Side {
            tree: tree.map(|tree| (tree, tree.shape())),
        }
    }

    fn height(&self) -> u8 {
        self.tree.map_or(0, |(_, shape)| shape.height())
    }

    fn root(&self) -> ChunkId {
        self.tree.map_or(ChunkId::NULL, |(tree, _)| tree.root())
    }

    fn below(&self, level: u8, id: ChunkId) -> Result<Below> {
        match self.tree {
            Some((tree, shape)) if !id.is_null() => {
                if level > shape.height() {
                    Ok(Below::First(id))
                } else {
                    tree.node(id, level).map(Below::Node)
                }
            }
            _ => Ok(Below::Nothing),
        }
    }

    /// The id, if it stands for something of this map: of this level, and on the disk.
    fn own(&self, level: u8, region: u64, id: ChunkId) -> ChunkId {
        let is_own = self
            .tree
            .is_some_and(|(_, shape)| level <= shape.height() && region < shape.regions());
        if is_own { id } else { ChunkId::NULL }
    }
}

impl Walk<'_> {
    /// The two ids stand at `level` for the regions from `region` on. Calls itself for the level below, so no deeper than maps are high.
    fn at(
        &self,
        level: u8,
        region: u64,
        [old, new]: [ChunkId; 2],
        found: PairSink<'_>,
    ) -> Result<ControlFlow<()>> {
        if old == new {
            return Ok(ControlFlow::Continue(()));
        }
        let pair = Pair {
            level,
            region,
            old: self.old.own(level, region, old),
            new: self.new.own(level, region, new),
        };
        if pair.old != pair.new && found(pair)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        let Some(lower) = level.checked_sub(1) else {
            return Ok(ControlFlow::Continue(()));
        };
        let (old, new) = (self.old.below(level, old)?, self.new.below(level, new)?);
        for index in 0..FANOUT {
            let first = to_u64(index).saturating_mul(regions_below(lower));
            let ids = [old.child(index), new.child(index)];
            let ended = self.at(lower, region.saturating_add(first), ids, found)?;
            if ended.is_break() {
                return Ok(ended);
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}
