//! Walking the maps of all points: whether every chunk they name is in the store.

use crate::hash::ChunkKind;
use crate::map::{Leaf, REGION};
use crate::point::{DiskRecord, Point};
use crate::read::{ChunkReader, Wanted};
use crate::store::Store;
use crate::tree::{Spot, Tree};
use crate::verify::packs::BadChunks;
use crate::verify::{Damage, VerifyReport};
use cairn_base::{ChunkId, Error, Kind, Monitor, PackId, Result, Stage};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Walks the maps of all points. A part that is the same as in the machine's point before was walked with that one: its
/// damage, if any, is the same.
///
/// # Errors
/// [`Kind::Interrupted`] on request; as the folder reports.
pub fn walk_points(
    store: &Arc<Store>,
    points: &[Point],
    missing: &HashSet<PackId>,
    bad: &BadChunks,
    monitor: &dyn Monitor,
    report: &mut VerifyReport,
) -> Result<()> {
    let reader = Arc::new(ChunkReader::new(store.clone(), 0));
    let total = points
        .iter()
        .flat_map(|point| &point.record.disks)
        .map(|disk| disk.size)
        .sum();
    monitor.begin(Stage::VerifyPoints, total);
    // Of the point before, by machine and disk: its map, and the damage found in it.
    let mut before: HashMap<(String, String), (Tree, Regions)> = HashMap::new();
    let mut unlisted = 0u64;
    let mut all: BTreeMap<(String, u64, u64, Option<ChunkId>), Damage> = BTreeMap::new();
    for point in points {
        for disk in &point.record.disks {
            if monitor.stop_requested() {
                return Err(Error::interrupted());
            }
            let key = (point.record.machine.to_lowercase(), disk.name.clone());
            let tree = match Tree::new(reader.clone(), disk) {
                Ok(tree) => tree,
                Err(error) => {
                    report.problems.push(error.to_string());
                    continue;
                }
            };
            let walk = Walk {
                store,
                tree: &tree,
                missing,
                bad,
                monitor,
            };
            let regions = walk.disk(before.get(&key))?;
            for (region, found) in &regions {
                for damage in found {
                    if all.len() < MAX_LISTED {
                        note(&mut all, point, disk, *region, damage);
                    } else {
                        unlisted += 1;
                    }
                }
            }
            report.walked_bytes += disk.size;
            before.insert(key, (tree, regions));
        }
        report.points += 1;
    }
    monitor.finish(Stage::VerifyPoints);
    if unlisted > 0 {
        report
            .problems
            .push(format!("{unlisted} more damaged places are not listed"));
    }
    report.damaged.extend(all.into_values());
    Ok(())
}

/// What is lost in a region.
#[derive(Clone)]
struct Lost {
    chunk: Option<ChunkId>,
    pack: Option<PackId>,
    within: u64,
    length: u64,
    why: String,
}

/// Whether an error means that bytes are lost, rather than that the work cannot be done.
fn is_loss(error: &Error) -> bool {
    matches!(error.kind(), Kind::Damaged | Kind::Io) && !error.is_momentary()
}

/// Damage by region.
type Regions = BTreeMap<u64, Vec<Lost>>;

fn note(
    all: &mut BTreeMap<(String, u64, u64, Option<ChunkId>), Damage>,
    point: &Point,
    disk: &DiskRecord,
    region: u64,
    lost: &Lost,
) {
    let offset = region.saturating_mul(REGION).saturating_add(lost.within);
    let name = format!("{}/{}", point.record.machine.to_lowercase(), disk.name);
    let damage = all
        .entry((name, offset, lost.length, lost.chunk))
        .or_insert_with(|| Damage {
            chunk: lost.chunk,
            pack: lost.pack,
            points: Vec::new(),
            disk: disk.name.clone(),
            offset,
            length: lost.length,
            why: lost.why.clone(),
        });
    damage.points.push(point.id);
}

/// Damages listed one by one; of more only the number is told.
pub const MAX_LISTED: usize = 100_000;

struct Walk<'a> {
    store: &'a Arc<Store>,
    tree: &'a Tree,
    missing: &'a HashSet<PackId>,
    bad: &'a BadChunks,
    monitor: &'a dyn Monitor,
}

impl Walk<'_> {
    /// The damage in the disk; regions that are the same as in `before` are not walked again.
    fn disk(&self, before: Option<&(Tree, Regions)>) -> Result<Regions> {
        let shape = self.tree.shape();
        let mut regions = Regions::new();
        let same_root =
            before.filter(|(old, _)| old.root() == self.tree.root() && old.shape() == shape);
        if let Some((_, old)) = same_root {
            self.monitor.advance(Stage::VerifyPoints, shape.size());
            return Ok(old.clone());
        }
        let mut region = 0;
        while region < shape.regions() {
            if self.monitor.stop_requested() {
                return Err(Error::interrupted());
            }
            let spot = match self.tree.locate(region) {
                Ok(spot) => spot,
                Err(error) if is_loss(&error) => {
                    let lost = self.lost_region(region, &error);
                    regions.entry(region).or_default().push(lost);
                    region += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let next = match spot {
                Spot::HoleUntil(next) => next,
                Spot::Leaf(id) => {
                    let same = before.filter(|(old, _)| {
                        region < old.shape().regions()
                            && old.shape().region_length(region) == shape.region_length(region)
                            && matches!(old.locate(region), Ok(Spot::Leaf(other)) if other == id)
                    });
                    let found = match same {
                        Some((_, old)) => old.get(&region).cloned().unwrap_or_default(),
                        None => self.region(region, id)?,
                    };
                    if !found.is_empty() {
                        regions.insert(region, found);
                    }
                    region + 1
                }
            };
            self.monitor
                .advance(Stage::VerifyPoints, (next - region).saturating_mul(REGION));
            region = next;
        }
        Ok(regions)
    }

    fn lost_region(&self, region: u64, error: &Error) -> Lost {
        Lost {
            chunk: error.id().and_then(|id| ChunkId::parse(id).ok()),
            pack: None,
            within: 0,
            length: self.tree.shape().region_length(region),
            why: error.to_string(),
        }
    }

    /// Whether a chunk can be had, in any way that reading knows.
    fn can_be_read(&self, id: ChunkId, length: u32) -> bool {
        let wanted = Wanted {
            id,
            length: Some(length),
        };
        let reader = self.tree.reader();
        reader.chunk_uncached(ChunkKind::Data, wanted).is_ok()
    }

    /// What is lost in the region whose leaf is `id`.
    fn region(&self, region: u64, id: ChunkId) -> Result<Vec<Lost>> {
        let leaf: Arc<Leaf> = match self.tree.leaf(region, id) {
            Ok(leaf) => leaf,
            Err(error) if is_loss(&error) => {
                return Ok(vec![self.lost_region(region, &error)]);
            }
            Err(error) => return Err(error),
        };
        let mut lost = Vec::new();
        let mut within = 0u64;
        let index = self.store.index();
        for extent in &leaf.extents {
            let length = u64::from(extent.length);
            if let Some(chunk) = extent.chunk {
                let (places, mut why) = match index.places(&chunk) {
                    Ok(places) => (places, "the chunk is not in the store".to_string()),
                    Err(error) => (Vec::new(), error.to_string()),
                };
                let mut pack = None;
                let (mut good, mut listed) = (false, false);
                for place in places {
                    pack = Some(place.pack);
                    if place.length != extent.length {
                        why = "the chunk has another length in the index".to_string();
                    } else if self.missing.contains(&place.pack) {
                        why = "the pack is missing or cut short".to_string();
                    } else if self.bad.hits(&chunk, place.pack) {
                        listed |= self.bad.is_listed(&chunk, place.pack);
                        why = match self.bad.packs.get(&place.pack) {
                            Some(why) => why.clone(),
                            None => "the chunk's stored bytes are damaged".to_string(),
                        };
                    } else {
                        good = true;
                        break;
                    }
                }
                // What is listed may be there all the same: in the parity, or in a pack that took this one's place.
                good |= listed && self.can_be_read(chunk, extent.length);
                if !good {
                    lost.push(Lost {
                        chunk: Some(chunk),
                        pack,
                        within,
                        length,
                        why,
                    });
                }
            }
            within += length;
        }
        Ok(lost)
    }
}
