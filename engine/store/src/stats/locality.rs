//! How scattered points lie: from how many packs, and with how many reads, each is restored.
//!
//! The maps of the points are walked and every chunk is looked up; no pack is opened but for the maps.

use crate::map::REGION;
use crate::point::Point;
use crate::read::ChunkReader;
use crate::region::{RegionMap, RegionReader};
use crate::session::{Session, SessionKind};
use crate::store::Store;
use crate::tree::Tree;
use cairn_base::{Error, Monitor, PackId, PointId, Result, Stage};
use std::collections::HashSet;
use std::sync::Arc;

/// A pack counts once in so many bytes of a disk.
const STRETCH: u64 = 1 << 30;

/// How scattered a point lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Locality {
    /// The point.
    pub point: PointId,
    /// Bytes of its disks that are not holes.
    pub used_bytes: u64,
    /// Bytes of packs that a restore reads, without maps.
    pub read_bytes: u64,
    /// Packs that a restore touches: one that is needed in several GiB of a disk counts in each.
    pub packs: u64,
    /// Reads that begin somewhere else than where the one before ended.
    pub seeks: u64,
    /// Chunks of which the index knows no place.
    pub lost: u64,
}

impl Locality {
    fn of(point: PointId) -> Locality {
        Locality {
            point,
            used_bytes: 0,
            read_bytes: 0,
            packs: 0,
            seeks: 0,
            lost: 0,
        }
    }

    /// Packs touched for each GiB that is restored.
    pub fn packs_per_gib(&self) -> Option<f64> {
        per_gib(self.packs, self.used_bytes)
    }

    /// Seeks for each GiB that is restored.
    pub fn seeks_per_gib(&self) -> Option<f64> {
        per_gib(self.seeks, self.used_bytes)
    }
}

#[expect(
    clippy::as_conversions,
    reason = "a ratio to look at; no number of bytes is taken from it"
)]
fn per_gib(count: u64, bytes: u64) -> Option<f64> {
    (bytes > 0).then(|| count as f64 * STRETCH as f64 / bytes as f64)
}

/// Finds out how scattered `point` lies, as it would be read now. Time: that of its map, and a look-up for each chunk.
///
/// # Errors
/// [`Kind::NotFound`](cairn_base::Kind::NotFound) if it was forgotten meanwhile; [`Kind::Damaged`](cairn_base::Kind::Damaged) if a part of its map is lost;
/// [`Kind::Interrupted`](cairn_base::Kind::Interrupted) on request; as the folder reports.
pub fn locality(store: &Arc<Store>, point: &Point, monitor: &dyn Monitor) -> Result<Locality> {
    let session = Session::begin(store.folder().clone(), SessionKind::Read, &[point])?;
    if let Some(warning) = session.warning() {
        monitor.warn(warning);
    }
    // Points before state, the reverse of the write order.
    store.refresh()?;
    let reader = Arc::new(ChunkReader::new(store.clone(), 0));
    let mut found = Locality::of(point.id);
    let sizes = point.record.disks.iter().map(|disk| disk.size);
    monitor.begin(Stage::Count, sizes.fold(0, u64::saturating_add));
    for disk in &point.record.disks {
        let tree = Tree::new(reader.clone(), disk)?;
        walk(&tree, &mut found, monitor)?;
        monitor.advance(Stage::Count, tree.shape().size());
    }
    monitor.finish(Stage::Count);
    Ok(found)
}

fn walk(tree: &Tree, found: &mut Locality, monitor: &dyn Monitor) -> Result<()> {
    let shape = tree.shape();
    let regions = RegionReader::new(tree);
    let mut packs: HashSet<PackId> = HashSet::new();
    let (mut stretch, mut at) = (0, None);
    let mut region = 0;
    while region < shape.regions() {
        if monitor.stop_requested() {
            return Err(Error::interrupted());
        }
        let leaf = match regions.map(region)? {
            RegionMap::ZerosUntil(next) => {
                region = next;
                continue;
            }
            RegionMap::Leaf(leaf) => leaf,
        };
        let of = region.saturating_mul(REGION) / STRETCH;
        if of != stretch {
            packs.clear();
            stretch = of;
        }
        let data = leaf.extents.iter().filter(|extent| extent.chunk.is_some());
        let data = data.map(|extent| u64::from(extent.length));
        found.used_bytes = data.fold(found.used_bytes, u64::saturating_add);
        let reads = regions.reads(&leaf);
        found.lost = found.lost.saturating_add(reads.lost);
        for read in reads.reads {
            found.read_bytes = found.read_bytes.saturating_add(read.length());
            let new = u64::from(packs.insert(read.pack));
            found.packs = found.packs.saturating_add(new);
            let jumps = u64::from(at != Some((read.pack, read.range.start)));
            found.seeks = found.seeks.saturating_add(jumps);
            at = Some((read.pack, read.range.end));
        }
        region = region.saturating_add(1);
    }
    Ok(())
}
