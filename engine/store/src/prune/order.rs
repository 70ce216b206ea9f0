//! In which order chunks are written anew: as whoever restores the newest points will read them.

use crate::catalog;
use crate::point::Point;
use crate::read::ChunkReader;
use crate::store::Store;
use crate::tree::{Spot, Tree};
use cairn_base::{ChunkId, Error, Kind, Monitor, Result};
use std::collections::HashMap;
use std::sync::Arc;

/// The order of chunks; those that the newest points do not have come last.
#[derive(Default)]
pub struct Order {
    places: HashMap<[u8; 16], u64>,
    unplaced: usize,
    next: u64,
}

impl Order {
    /// Of these chunks, none of them placed yet. 50 bytes of memory a chunk.
    pub fn of(chunks: impl Iterator<Item = ChunkId>) -> Order {
        let places: HashMap<_, _> = chunks.map(|id| (id.prefix(), u64::MAX)).collect();
        Order {
            unplaced: places.len(),
            places,
            next: 0,
        }
    }

    /// Where a chunk comes; `u64::MAX` if the newest points do not have it.
    pub fn place(&self, id: &ChunkId) -> u64 {
        self.places.get(&id.prefix()).copied().unwrap_or(u64::MAX)
    }

    fn see(&mut self, id: &ChunkId) {
        if let Some(place) = self.places.get_mut(&id.prefix())
            && *place == u64::MAX
        {
            *place = self.next;
            self.next = self.next.saturating_add(1);
            self.unplaced = self.unplaced.saturating_sub(1);
        }
    }

    /// Walks the latest point of each machine, in the order of their names, until the time `is_over`. A point or a part of a map that cannot be read is left
    /// out: it is only an order.
    ///
    /// # Errors
    /// [`Kind::Interrupted`] on request; if the machines cannot be listed.
    pub fn walk(
        &mut self,
        store: &Arc<Store>,
        monitor: &dyn Monitor,
        is_over: &dyn Fn() -> bool,
    ) -> Result<()> {
        let reader = Arc::new(ChunkReader::new(store.clone(), 0));
        let (machines, _named_elsewhere) = catalog::machines(store)?;
        for machine in machines {
            let point = match catalog::latest(store, &machine) {
                Ok(point) => point,
                Err(error) if error.kind() == Kind::Interrupted => return Err(error),
                Err(_) => continue,
            };
            self.point(&reader, &point, monitor, is_over)?;
        }
        Ok(())
    }

    fn point(
        &mut self,
        reader: &Arc<ChunkReader>,
        point: &Point,
        monitor: &dyn Monitor,
        is_over: &dyn Fn() -> bool,
    ) -> Result<()> {
        for disk in &point.record.disks {
            let Ok(tree) = Tree::new(reader.clone(), disk) else {
                continue;
            };
            let mut region = 0;
            while region < tree.shape().regions() && self.unplaced > 0 && !is_over() {
                if monitor.stop_requested() {
                    return Err(Error::interrupted());
                }
                match self.region(&tree, region) {
                    Ok(next) => region = next,
                    Err(error) if error.kind() == Kind::Interrupted => return Err(error),
                    Err(_) => region = region.saturating_add(1),
                }
            }
        }
        Ok(())
    }

    fn region(&mut self, tree: &Tree, region: u64) -> Result<u64> {
        match tree.locate_through(region, &mut |id| self.see(id))? {
            Spot::HoleUntil(next) => Ok(next),
            Spot::Leaf(id) => {
                self.see(&id);
                let leaf = tree.leaf(region, id)?;
                for chunk in leaf.extents.iter().filter_map(|extent| extent.chunk) {
                    self.see(&chunk);
                }
                Ok(region.saturating_add(1))
            }
        }
    }
}
