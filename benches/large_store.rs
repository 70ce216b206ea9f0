//! A store of thousands of points of large machines, made without their data, so that what walks maps can be measured on it.
//!
//!     CAIRN_LARGE_STORE=/var/tmp/large cargo bench -p cairn-benches --bench large_store
//!
//! 20 machines with a disk of 100 GiB, of which 30 GiB are used, half of them the same on all machines, and 500 daily points of each: 7 GB of disk, some minutes.
//! `CAIRN_LARGE_MACHINES` and `CAIRN_LARGE_DAYS` make another number of them; with `CAIRN_LARGE_GRID=1` they are cut every 32 KiB.
//!
//! Points, leaves and nodes, their packs and frames, the index and its merges are written by the product itself. Packs of data have their header, table of contents, footer
//! and length; between them is nothing, a hole of the file. Tags of frames are those of these zeros. So everything that reads no data finds all as it should be: marking, planning,
//! looking into packs before they are deleted, statistics, listing, comparing. What decodes data finds damage: restoring, `verify --deep`, and a prune that writes packs anew.
#![allow(
    clippy::unwrap_used,
    reason = "a bench that cannot do its work has nothing to report"
)]

mod hollow;
mod unsynced;

use cairn_base::{ChunkId, Clock, Folder, LocalFolder, PackId, SystemClock};
use cairn_store::frame::{BuiltFrame, Compressor, MAX_FRAME};
use cairn_store::hash::{ChunkKind, Keys};
use cairn_store::index::{Entry, Place};
use cairn_store::map::node::Node;
use cairn_store::map::{Extent, Leaf, MapBuilder, Shape};
use cairn_store::pack::{PackKind, PackWriter, SealedPack};
use cairn_store::point::BackupStats;
use cairn_store::publish::{merge_segments, publish};
use cairn_store::{
    Consistency, CutParameters, DiskRecord, PointRecord, Session, SessionKind, Store, catalog,
};
use hollow::HollowPack;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use unsynced::Unsynced;

const SIZE: u64 = 100 << 30;
/// Regions of a disk that are not holes: its first ones.
const USED: usize = 7680;
/// Of these, the same on all machines.
const SAME: usize = USED / 2;
/// Chunks of a region: 32 KiB on average.
const CHUNKS: usize = 128;
/// Ways in which regions are cut.
const CUTS: usize = 16;
/// Every day so many stretches of neighbouring regions change: first those that change every day, then those that lie anywhere.
const STRETCHES: [usize; 2] = [10, 6];
/// Regions of a stretch.
const NEIGHBOURS: usize = 5;
/// Chunks of a region that change with it, one behind the other.
const CHANGED: usize = 10;
/// Days that are published at once.
const TOGETHER: usize = 10;
/// What a frame of data takes, of its plain bytes, in sixteenths.
const COMPRESSED: u32 = 9;
const DAY: i64 = 86_400;

/// Mixes a number (SplitMix64).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The id of a chunk of data: any, because nobody has its bytes.
fn chunk_id(number: u32) -> ChunkId {
    let mut id = [0; 32];
    for (part, at) in id.chunks_mut(8).zip(0..) {
        part.copy_from_slice(&mix(u64::from(number) * 4 + at).to_le_bytes());
    }
    ChunkId(id)
}

/// Where regions are cut: on a grid, or with neighbours as much longer as shorter than 32 KiB, so that a region is filled.
fn cuts(grid: bool) -> Vec<[u32; CHUNKS]> {
    let cut = |kind: usize| {
        let mut lengths = [0; CHUNKS];
        for (at, pair) in lengths.chunks_mut(2).enumerate() {
            let more = match grid {
                true => 0,
                false => (mix((kind * CHUNKS + at) as u64) % 12_000) as u32 * 2,
            };
            pair.copy_from_slice(&[32_768 + more, 32_768 - more]);
        }
        lengths
    };
    (0..CUTS).map(cut).collect()
}

/// A machine's disk as it is today.
struct Machine {
    /// Numbers of the chunks of each used region.
    chunks: Vec<[u32; CHUNKS]>,
    leaves: Vec<ChunkId>,
    /// Ids of the nodes over each 256 regions.
    nodes: Vec<ChunkId>,
    /// Regions at which something changes every day.
    busy: Vec<usize>,
    base: Option<[u8; 32]>,
}

/// What is made and not published yet, and how much was made in all.
struct Maker {
    store: Arc<Store>,
    session: Session,
    place: PathBuf,
    cuts: Vec<[u32; CHUNKS]>,
    compressor: Compressor,
    next_chunk: u32,
    next_pack: u64,
    tags: HashMap<u32, [u8; 16]>,
    data: Option<(u32, HollowPack)>,
    map: Option<(u32, PackWriter)>,
    waiting: Vec<(ChunkId, Vec<u8>)>,
    packs: Vec<Option<SealedPack>>,
    entries: Vec<Entry>,
    stored: HashSet<ChunkId>,
    points: Vec<PointRecord>,
    made: [u64; 3],
    map_bytes: u64,
    data_bytes: u64,
}

fn main() {
    let Some(place) = std::env::var_os("CAIRN_LARGE_STORE").map(PathBuf::from) else {
        println!("CAIRN_LARGE_STORE=FOLDER says where to make a store of 7 GB");
        return;
    };
    let number = |name: &str, usual: usize| {
        let set = std::env::var(name).ok();
        set.map_or(usual, |text| text.parse().unwrap())
    };
    let machines = number("CAIRN_LARGE_MACHINES", 20);
    let days = number("CAIRN_LARGE_DAYS", 500);
    let started = Instant::now();
    let mut maker = Maker::new(&place, number("CAIRN_LARGE_GRID", 0) == 1);
    let mut all: Vec<Machine> = Vec::new();
    for number in 0..machines {
        let machine = maker.first(all.first(), number);
        all.push(machine);
        maker.publish();
    }
    for day in 0..days {
        for (number, machine) in all.iter_mut().enumerate() {
            maker.day(machine, number, day, days);
        }
        if day % TOGETHER == TOGETHER - 1 {
            maker.publish();
        }
    }
    maker.publish();
    merge_segments(&maker.store, &maker.session, u64::MAX).unwrap();
    let [leaves, nodes, chunks] = maker.made;
    let segments = maker.store.index().segments().len();
    println!(
        "{} points of {machines} machines in {:.0} s: {leaves} leaves, {nodes} nodes, {:.1} MB of maps stored; {chunks} chunks of data, {:.1} GB; {segments} segments",
        machines * days,
        started.elapsed().as_secs_f64(),
        maker.map_bytes as f64 / 1e6,
        maker.data_bytes as f64 / 1e9,
    );
}

impl Maker {
    fn new(place: &Path, grid: bool) -> Maker {
        std::fs::create_dir_all(place).unwrap();
        let folder: Arc<dyn Folder> = Arc::new(Unsynced(LocalFolder::new(place)));
        let cut = match grid {
            true => CutParameters::Fixed { size: 32 << 10 },
            false => CutParameters::default(),
        };
        let store = Arc::new(Store::create(folder.clone(), cut, &SystemClock).unwrap());
        Maker {
            session: Session::begin(folder, SessionKind::Write, &[]).unwrap(),
            store,
            place: place.to_path_buf(),
            cuts: cuts(grid),
            compressor: Compressor::new(3).unwrap(),
            next_chunk: 0,
            next_pack: 0,
            tags: HashMap::new(),
            data: None,
            map: None,
            waiting: Vec::new(),
            packs: Vec::new(),
            entries: Vec::new(),
            stored: HashSet::new(),
            points: Vec::new(),
            made: [0; 3],
            map_bytes: 0,
            data_bytes: 0,
        }
    }

    fn keys(&self) -> Keys {
        self.store.keys().clone()
    }

    /// A machine as it was before its first point; half of it is as `like` was, which has no point yet or only changed elsewhere since.
    fn first(&mut self, like: Option<&Machine>, number: usize) -> Machine {
        let mut chunks: Vec<[u32; CHUNKS]> = like.map_or(Vec::new(), |m| m.chunks[..SAME].to_vec());
        for region in chunks.len()..USED {
            chunks.push([0; CHUNKS]);
            self.change(&mut chunks[region], region, 0, CHUNKS);
        }
        let mut machine = Machine {
            leaves: vec![ChunkId::NULL; USED],
            nodes: vec![ChunkId::NULL; USED.div_ceil(256)],
            busy: (0..STRETCHES[0])
                .map(|turn| mix((number * 100 + turn) as u64) as usize % (USED - 2 * NEIGHBOURS))
                .collect(),
            chunks,
            base: None,
        };
        self.write(&mut machine, &(0..USED).collect::<Vec<_>>());
        machine
    }

    /// New chunks in a region, from one of its places on.
    fn change(&mut self, chunks: &mut [u32; CHUNKS], region: usize, from: usize, count: usize) {
        let lengths = self.cuts[region % CUTS];
        let mut frame = Vec::new();
        let mut raw = 0;
        for at in from..from + count {
            if raw + lengths[at] > MAX_FRAME as u32 {
                self.data_frame(std::mem::take(&mut frame));
                raw = 0;
            }
            chunks[at] = self.next_chunk;
            raw += lengths[at];
            frame.push((chunk_id(self.next_chunk), lengths[at]));
            self.next_chunk += 1;
        }
        self.data_frame(frame);
    }

    /// The next day of a machine: what changes, and the point.
    fn day(&mut self, machine: &mut Machine, number: usize, day: usize, days: usize) {
        let before = (self.next_chunk, self.map_bytes, self.data_bytes);
        let noise = |turn: usize| mix(((number * days + day) * 64 + turn) as u64) as usize;
        let mut regions = Vec::new();
        for stretch in (0..STRETCHES.iter().sum()).filter(|_| day > 0) {
            let first = match machine.busy.get(stretch) {
                Some(busy) => busy + noise(stretch) % NEIGHBOURS,
                None => noise(stretch) % (USED - NEIGHBOURS),
            };
            regions.extend(first..first + NEIGHBOURS);
        }
        regions.sort_unstable();
        regions.dedup();
        for region in &regions {
            let from = mix((noise(60) ^ region) as u64) as usize % (CHUNKS - CHANGED);
            let mut chunks = machine.chunks[*region];
            self.change(&mut chunks, *region, from, CHANGED);
            machine.chunks[*region] = chunks;
        }
        let root = self.write(machine, &regions);
        let now = SystemClock.now().seconds;
        let seconds = now - (days - day) as i64 * DAY + number as i64 * 60;
        let record = PointRecord {
            machine: format!("Server {number:04}"),
            sequence: day as u64 + 1,
            previous: day as u64,
            seconds,
            import: false,
            made: seconds,
            base: machine.base,
            consistency: Consistency::Crash,
            disks: vec![DiskRecord {
                name: "disk0".to_string(),
                size: SIZE,
                root: root.0,
                image: Default::default(),
                excluded: Vec::new(),
                mixed: false,
            }],
            stats: BackupStats {
                new_chunks: u64::from(self.next_chunk - before.0),
                stored: self.map_bytes + self.data_bytes - before.1 - before.2,
                ..BackupStats::default()
            },
            warnings: Vec::new(),
            host: "host01".to_string(),
            program: "cairn 0.1.0".to_string(),
            origins: Vec::new(),
        };
        machine.base = Some(root.0);
        self.points.push(record);
    }

    /// Writes the leaves of these regions, which ascend, and the nodes above them; the root.
    fn write(&mut self, machine: &mut Machine, regions: &[usize]) -> ChunkId {
        let keys = self.keys();
        for region in regions {
            let extents = machine.chunks[*region]
                .iter()
                .zip(&self.cuts[region % CUTS]);
            let leaf = Leaf {
                extents: extents
                    .map(|(chunk, length)| Extent {
                        length: *length,
                        chunk: Some(chunk_id(*chunk)),
                    })
                    .collect(),
            };
            let bytes = leaf.encode();
            let id = keys.chunk_id(ChunkKind::Leaf, &bytes);
            machine.leaves[*region] = id;
            self.map_chunk(0, id, bytes);
        }
        let mut changed: Vec<usize> = regions.iter().map(|region| region / 256).collect();
        changed.dedup();
        for number in changed {
            let end = USED.min(number * 256 + 256);
            let node = Node::new(machine.leaves[number * 256..end].to_vec());
            let bytes = node.encode();
            let id = keys.chunk_id(ChunkKind::Node(1), &bytes);
            machine.nodes[number] = id;
            self.map_chunk(1, id, bytes);
        }
        let shape = Shape::of(SIZE).unwrap();
        let mut builder = MapBuilder::new(shape);
        let mut top = Vec::new();
        let mut sink = |_, id, bytes| {
            top.push((id, bytes));
            Ok(())
        };
        for number in 0..shape.regions().div_ceil(256) as usize {
            let id = machine.nodes.get(number).copied().unwrap_or(ChunkId::NULL);
            builder.push_subtree(&keys, 1, id, &mut sink).unwrap();
        }
        let root = builder.finish(&keys, &mut sink).unwrap();
        for (id, bytes) in top {
            self.map_chunk(1, id, bytes);
        }
        root
    }

    /// A part of a map, unless it is stored already.
    fn map_chunk(&mut self, kind: usize, id: ChunkId, bytes: Vec<u8>) {
        if !self.stored.insert(id) {
            return;
        }
        self.made[kind] += 1;
        let waiting: usize = self.waiting.iter().map(|(_, bytes)| bytes.len()).sum();
        if waiting + bytes.len() > MAX_FRAME {
            self.flush_map();
        }
        self.waiting.push((id, bytes));
    }

    fn number(&mut self) -> u32 {
        self.packs.push(None);
        self.packs.len() as u32 - 1
    }

    fn flush_map(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            return;
        }
        let parts: Vec<&[u8]> = waiting.iter().map(|(_, bytes)| &bytes[..]).collect();
        let compressed = self.compressor.compress(&parts).unwrap();
        let plain = compressed.is_none();
        let stored = compressed.map_or_else(|| parts.concat(), <[u8]>::to_vec);
        let frame = BuiltFrame {
            tag: self.store.keys().frame_tag(&stored),
            stored,
            plain,
            raw_length: parts.iter().map(|part| part.len()).sum(),
            chunks: waiting
                .iter()
                .map(|(id, bytes)| (*id, bytes.len() as u32))
                .collect(),
        };
        if self.map.is_none() {
            let folder = &**self.store.folder();
            let scratch = self.session.scratch();
            let writer = PackWriter::create(folder, &scratch, self.store.header(), PackKind::Map);
            self.map = Some((self.number(), writer.unwrap()));
        }
        let (number, writer) = self.map.as_mut().unwrap();
        let placed = writer.append(&frame).unwrap();
        let (number, full) = (*number, writer.is_full());
        self.map_bytes += frame.stored.len() as u64;
        self.index(number, placed.pack, placed.offset, &frame);
        if full {
            self.seal_map();
        }
    }

    fn seal_map(&mut self) {
        if let Some((number, writer)) = self.map.take() {
            self.packs[number as usize] = Some(writer.seal().unwrap());
        }
    }

    fn index(&mut self, number: u32, pack: PackId, offset: u32, frame: &BuiltFrame) {
        let mut at = 0;
        for (id, length) in &frame.chunks {
            let place = Place {
                pack,
                offset,
                stored: frame.stored.len() as u32,
                plain: frame.plain,
                at,
                length: *length,
            };
            self.entries.push(Entry::new(id.prefix(), number, &place));
            at += length;
        }
    }

    fn data_frame(&mut self, chunks: Vec<(ChunkId, u32)>) {
        let raw: u32 = chunks.iter().map(|(_, length)| length).sum();
        let stored = raw / 16 * COMPRESSED;
        let zeros = vec![0; stored as usize];
        let keys = self.store.keys();
        let tag = *self
            .tags
            .entry(stored)
            .or_insert_with(|| keys.frame_tag(&zeros));
        if self.data.is_none() {
            self.next_pack += 1;
            let mut id = [0; 16];
            id[..8].copy_from_slice(&mix(self.next_pack).to_be_bytes());
            let pack = HollowPack::new(self.session.scratch(), PackId(id));
            self.data = Some((self.number(), pack));
        }
        let (number, pack) = self.data.as_mut().unwrap();
        let offset = pack.append(&chunks, stored, raw, tag);
        self.data_bytes += u64::from(stored);
        self.made[2] += chunks.len() as u64;
        let (number, id, full) = (*number, pack.id, pack.is_full());
        let frame = BuiltFrame {
            stored: zeros,
            plain: false,
            raw_length: raw as usize,
            tag,
            chunks,
        };
        self.index(number, id, offset, &frame);
        if full {
            self.seal_data();
        }
    }

    fn seal_data(&mut self) {
        if let Some((number, pack)) = self.data.take() {
            let sealed = pack.seal(&self.place, self.store.header().store);
            self.packs[number as usize] = Some(sealed);
        }
    }

    /// Makes all of it public, in the write order, and merges segments as backups do.
    fn publish(&mut self) {
        self.flush_map();
        self.seal_map();
        self.seal_data();
        let packs: Vec<SealedPack> = self.packs.drain(..).flatten().collect();
        let entries = std::mem::take(&mut self.entries);
        publish(&self.store, &self.session, &packs, entries).unwrap();
        merge_segments(&self.store, &self.session, 1 << 22).unwrap();
        for record in self.points.drain(..) {
            let machine = record.machine.clone();
            drop(catalog::lock_machine(&self.store, &machine).unwrap());
            catalog::publish_point(&self.store, record).unwrap();
        }
    }
}
