//! Verification: that every point can be restored.
//!
//! Quick: every chunk that any point refers to is in the index with the right length, in a pack that is there with its sealed
//! length; all maps are read. Full: besides, every frame of every pack is read, checked against its tag, decoded, and every
//! chunk checked against its id.

use crate::catalog::all_points;
use crate::frame::Decompressor;
use crate::hash::ChunkKind;
use crate::index::Place;
use crate::map::{Leaf, REGION};
use crate::pack::{PackKind, PackReader, TocChunk, TocFrame};
use crate::point::{DiskRecord, Point};
use crate::read::ChunkReader;
use crate::session::{Session, SessionKind};
use crate::store::Store;
use crate::tree::{Spot, Tree};
use cairn_base::{ChunkId, Error, Kind, Monitor, PackId, PointId, Result, Stage};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Cache for maps while they are walked, in bytes.
const MAP_CACHE: usize = 64 << 20;

/// A part of a disk that cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The chunk that is lost; of a map's node or leaf when a whole part of the disk is.
    pub chunk: Option<ChunkId>,
    /// The pack it lies in, if that is known.
    pub pack: Option<PackId>,
    /// The points concerned.
    pub points: Vec<PointId>,
    /// The disk concerned.
    pub disk: String,
    /// Offset on the disk in bytes.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
    /// What is wrong.
    pub why: String,
}

/// What a verification found.
#[derive(Debug, Default)]
pub struct VerifyReport {
    /// Stored bytes read and checked; 0 for a quick one.
    pub checked_bytes: u64,
    /// Bytes of disks whose maps were walked.
    pub walked_bytes: u64,
    /// Points that were walked.
    pub points: u64,
    /// What cannot be restored.
    pub damaged: Vec<Damage>,
    /// Problems with the store's own files that concern no particular part of a disk.
    pub problems: Vec<String>,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.damaged.is_empty() && self.problems.is_empty()
    }
}

/// Verifies the store. Damage is in the report; an error means that the verification itself could not be done.
///
/// # Errors
/// [`Kind::Interrupted`] on request; as the folder reports.
pub fn verify(store: &Arc<Store>, quick: bool, monitor: &dyn Monitor) -> Result<VerifyReport> {
    let _session = Session::begin(store.folder().clone(), SessionKind::Read, &[])?;
    let mut report = VerifyReport::default();
    report.problems.extend(store.warnings().iter().cloned());
    // Points before state, the reverse of the write order: what they refer to is in the index read afterwards.
    let listing = all_points(store)?;
    store.refresh()?;
    report
        .problems
        .extend(listing.damaged.iter().map(ToString::to_string));
    let missing = store.missing_packs()?;
    for id in &missing {
        let path = store.folder().describe(&crate::layout::pack(*id));
        report
            .problems
            .push(format!("the pack {path} is missing or cut short"));
    }
    let bad = if quick {
        BadChunks::default()
    } else {
        check_packs(store, &missing, monitor, &mut report)?
    };
    walk_points(store, &listing.points, &missing, &bad, monitor, &mut report)?;
    for segment in store.index().segments() {
        if segment.has_damaged_filter() {
            report.problems.push(format!(
                "a filter of the index segment {} is damaged",
                segment.id()
            ));
        }
    }
    Ok(report)
}

/// Chunks that lie in some pack with bytes that are not theirs: pack and why, by pack and id.
#[derive(Default)]
struct BadChunks {
    chunks: HashMap<ChunkId, HashSet<PackId>>,
    packs: HashMap<PackId, String>,
}

impl BadChunks {
    fn hits(&self, id: &ChunkId, pack: PackId) -> bool {
        self.packs.contains_key(&pack)
            || self
                .chunks
                .get(id)
                .is_some_and(|packs| packs.contains(&pack))
    }
}

/// Reads every pack, with all processors.
fn check_packs(
    store: &Arc<Store>,
    missing: &HashSet<PackId>,
    monitor: &dyn Monitor,
    report: &mut VerifyReport,
) -> Result<BadChunks> {
    let rows: Vec<_> = store
        .index()
        .packs()
        .into_iter()
        .filter(|row| !missing.contains(&row.id))
        .collect();
    monitor.begin(Stage::VerifyPacks, rows.iter().map(|row| row.length).sum());
    let next = AtomicUsize::new(0);
    let checked = AtomicU64::new(0);
    let found: Mutex<BadChunks> = Mutex::default();
    let problems: Mutex<Vec<String>> = Mutex::default();
    let threads = std::thread::available_parallelism()
        .map_or(2, usize::from)
        .min(16);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut scratch = Scratch::default();
                while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if monitor.stop_requested() {
                        return;
                    }
                    match check_pack(store, row.id, &mut scratch, monitor) {
                        Ok(findings) => {
                            checked.fetch_add(findings.bytes, Ordering::Relaxed);
                            problems.lock().extend(describe(store, row.id, &findings));
                            let mut found = found.lock();
                            for id in findings.bad {
                                found.chunks.entry(id).or_default().insert(row.id);
                            }
                        }
                        Err(error) => {
                            problems.lock().push(error.to_string());
                            found.lock().packs.insert(row.id, error.to_string());
                        }
                    }
                }
            });
        }
    });
    monitor.finish(Stage::VerifyPacks);
    if monitor.stop_requested() {
        return Err(Error::interrupted());
    }
    report.checked_bytes = checked.into_inner();
    report.problems.extend(problems.into_inner());
    Ok(found.into_inner())
}

#[derive(Default)]
struct Scratch {
    decompressor: Decompressor,
    stored: Vec<u8>,
    plain: Vec<u8>,
}

impl Scratch {
    /// Whether the first `end` plain bytes of the frame in `stored` could be had.
    fn decode(&mut self, frame: &TocFrame, end: usize) -> bool {
        if frame.plain {
            self.plain.clone_from(&self.stored);
            return self.plain.len() >= end;
        }
        self.decompressor
            .decompress(&self.stored, end, &mut self.plain)
            .is_ok()
    }
}

/// What the check of a pack found.
#[derive(Default)]
struct PackFindings {
    bytes: u64,
    bad: Vec<ChunkId>,
    /// Chunks that the index does not have at their place.
    unindexed: u64,
    /// Frames whose tag does not match; their chunks may be good all the same.
    bad_frames: u64,
}

/// What is wrong with a pack, in sentences.
fn describe(store: &Store, id: PackId, findings: &PackFindings) -> Vec<String> {
    let path = store.folder().describe(&crate::layout::pack(id));
    let mut said = Vec::new();
    if findings.bad_frames > 0 {
        said.push(format!(
            "{} frames of the pack {path} are not what was written: {} chunks are lost",
            findings.bad_frames,
            findings.bad.len()
        ));
    } else if !findings.bad.is_empty() {
        said.push(format!(
            "{} chunks in the pack {path} are damaged",
            findings.bad.len()
        ));
    }
    if findings.unindexed > 0 {
        said.push(format!(
            "the index does not know where {} chunks of the pack {path} lie",
            findings.unindexed
        ));
    }
    said
}

/// Checks every frame and chunk of a pack. An error if the pack's own structures do not check.
fn check_pack(
    store: &Store,
    id: PackId,
    scratch: &mut Scratch,
    monitor: &dyn Monitor,
) -> Result<PackFindings> {
    let pack = PackReader::open(&**store.folder(), store.header().store, id)?;
    let mut findings = PackFindings::default();
    let mut chunks = pack.toc().chunks.as_slice();
    for frame in &pack.toc().frames {
        if monitor.stop_requested() {
            break;
        }
        let count = usize::try_from(frame.chunks).unwrap_or(0).min(chunks.len());
        let (inside, later) = chunks.split_at(count);
        chunks = later;
        check_frame(store, &pack, frame, inside, scratch, &mut findings);
        findings.bytes += u64::from(frame.stored);
        monitor.advance(Stage::VerifyPacks, u64::from(frame.stored));
    }
    Ok(findings)
}

fn check_frame(
    store: &Store,
    pack: &PackReader,
    frame: &TocFrame,
    chunks: &[TocChunk],
    scratch: &mut Scratch,
    findings: &mut PackFindings,
) {
    let tag = pack.stored(store.keys(), frame, &mut scratch.stored);
    if !matches!(tag, Ok(true)) {
        findings.bad_frames += 1;
    }
    let readable = tag.is_ok();
    let whole = readable && scratch.decode(frame, usize::try_from(frame.raw).unwrap_or(usize::MAX));
    let index = store.index();
    let mut at = 0u32;
    for chunk in chunks {
        let end = at.saturating_add(chunk.length);
        let size = |bytes: u32| usize::try_from(bytes).unwrap_or(usize::MAX);
        // Of a damaged frame the chunks before the damage may still be good.
        let decoded = whole || readable && scratch.decode(frame, size(end));
        let bytes = scratch.plain.get(size(at)..size(end));
        let kind = pack.footer().kind;
        if !decoded || !bytes.is_some_and(|bytes| is_chunk(store, kind, chunk.id, bytes)) {
            findings.bad.push(chunk.id);
        }
        let place = Place {
            pack: pack.footer().pack,
            offset: frame.offset,
            stored: frame.stored,
            plain: frame.plain,
            at,
            length: chunk.length,
        };
        if !index.places(&chunk.id).unwrap_or_default().contains(&place) {
            findings.unindexed += 1;
        }
        at = end;
    }
}

/// Whether the bytes are those of the chunk. A map's chunk may be a leaf or a node of any level.
fn is_chunk(store: &Store, kind: PackKind, id: ChunkId, bytes: &[u8]) -> bool {
    let keys = store.keys();
    match kind {
        PackKind::Data => keys.chunk_id(ChunkKind::Data, bytes) == id,
        PackKind::Map => std::iter::once(ChunkKind::Leaf)
            .chain((1..=crate::hash::MAX_LEVEL).map(ChunkKind::Node))
            .any(|kind| keys.chunk_id(kind, bytes) == id),
    }
}

/// Walks the maps of all points. A part that is the same as in the machine's point before was walked with that one: its
/// damage, if any, is the same.
fn walk_points(
    store: &Arc<Store>,
    points: &[Point],
    missing: &HashSet<PackId>,
    bad: &BadChunks,
    monitor: &dyn Monitor,
    report: &mut VerifyReport,
) -> Result<()> {
    let reader = Arc::new(ChunkReader::new(store.clone(), MAP_CACHE));
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
    matches!(error.kind(), Kind::Damaged | Kind::Io)
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
const MAX_LISTED: usize = 100_000;

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

    /// What is lost in the region whose leaf is `id`.
    fn region(&self, region: u64, id: ChunkId) -> Result<Vec<Lost>> {
        let leaf: Leaf = match self.tree.leaf(region, id) {
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
                let mut good = false;
                for place in places {
                    pack = Some(place.pack);
                    if place.length != extent.length {
                        why = "the chunk has another length in the index".to_string();
                    } else if self.missing.contains(&place.pack) {
                        why = "the pack is missing or cut short".to_string();
                    } else if self.bad.hits(&chunk, place.pack) {
                        why = match self.bad.packs.get(&place.pack) {
                            Some(why) => why.clone(),
                            None => "the chunk's stored bytes are damaged".to_string(),
                        };
                    } else {
                        good = true;
                        break;
                    }
                }
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
