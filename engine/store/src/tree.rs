//! Walking the map of a stored disk.

use crate::map::node::Node;
use crate::map::{Leaf, Shape};
use crate::point::DiskRecord;
use crate::read::ChunkReader;
use cairn_base::{ChunkId, Error, Result};
use std::sync::Arc;

/// The map of one stored disk.
#[derive(Clone)]
pub struct Tree {
    reader: Arc<ChunkReader>,
    shape: Shape,
    root: ChunkId,
}

/// What stands in the tree for a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spot {
    /// A leaf with something other than zeros.
    Leaf(ChunkId),
    /// Nothing but zeros up to, not including, this region.
    HoleUntil(u64),
}

impl Tree {
    /// The map of a disk of a point.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) for an impossible size.
    pub fn new(reader: Arc<ChunkReader>, disk: &DiskRecord) -> Result<Tree> {
        Ok(Tree {
            reader,
            shape: Shape::of(disk.size)?,
            root: disk.root_id(),
        })
    }

    /// Size, regions and height.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Reads the chunks.
    pub fn reader(&self) -> &Arc<ChunkReader> {
        &self.reader
    }

    /// The root's id.
    pub fn root(&self) -> ChunkId {
        self.root
    }

    /// What stands for `region`.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if a node on the way cannot be read.
    pub fn locate(&self, region: u64) -> Result<Spot> {
        self.locate_through(region, &mut |_| {})
    }

    /// As [`locate`](Tree::locate); tells `seen` the nodes on the way, from the root down.
    ///
    /// # Errors
    /// As [`locate`](Tree::locate).
    pub fn locate_through(&self, region: u64, seen: &mut dyn FnMut(&ChunkId)) -> Result<Spot> {
        if region >= self.shape.regions() {
            return Err(Error::invalid(format!(
                "region {region} of a disk of {}",
                self.shape.regions()
            )));
        }
        let mut id = self.root;
        let mut level = self.shape.height();
        loop {
            if id.is_null() {
                // Everything below a null child is zeros: go on behind what it covers.
                let covers = 1u64.checked_shl(u32::from(level) * 8).unwrap_or(u64::MAX);
                let next = (region / covers).saturating_add(1).saturating_mul(covers);
                return Ok(Spot::HoleUntil(next.min(self.shape.regions())));
            }
            if level == 0 {
                return Ok(Spot::Leaf(id));
            }
            seen(&id);
            let node = self.node(id, level)?;
            id = node.child(Shape::child_index(region, level));
            level -= 1;
        }
    }

    /// A node of the map.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it cannot be read.
    pub fn node(&self, id: ChunkId, level: u8) -> Result<Arc<Node>> {
        self.reader.node(id, level)
    }

    /// The leaf `id`, which stands for `region`.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it cannot be read.
    pub fn leaf(&self, region: u64, id: ChunkId) -> Result<Arc<Leaf>> {
        let length = self.shape.region_length(region);
        if id.is_null() {
            return Ok(Arc::new(Leaf::hole(length)));
        }
        self.reader.leaf(id, length)
    }
}
