//! The index at scale: segments of as many entries as asked for, built, merged, and looked up, cold and warm.
//!
//!     CAIRN_INDEX_ENTRIES=200000000 CAIRN_INDEX_FOLDER=/var/tmp/scale \
//!         cargo bench -p cairn-benches --bench index_scale -- build
//!     ... -- merge
//!     ... -- look
//!
//! Each step is a process of its own; `build` makes three segments of 3/4, 1/5 and 1/20 of the entries, `merge` one of them, `look`
//! looks up in that one. All three in one go if no step is named. Up to 100 bytes of disk an entry. The folder is left behind if it is named.
//! Cold means that root dropped the page cache; for others these lines are marked.
#![allow(
    clippy::unwrap_used,
    reason = "a bench that cannot do its work has nothing to report"
)]

use cairn_base::read_at::read_vec;
use cairn_base::{ChunkId, Folder, LocalFolder, PackId, SegmentId};
use cairn_store::index::check::{SegmentDamage, check_segment};
use cairn_store::index::merge::merge;
use cairn_store::index::{Entry, IndexSet, PackRow, Place, Segment, SegmentWriter};
use cairn_store::layout;
use cairn_store::pack::PackKind;
use std::collections::HashSet;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

const STORE: [u8; 16] = [1; 16];
/// Ids that are made and sorted at once: as many as a block has, so that they lie in it as unevenly as hashes do.
const BUCKET: u64 = 1 << 16;
/// Chunks in a pack of 64 MiB at 17 KiB each.
const CHUNKS_IN_PACK: u64 = 3855;

/// Mixes a number (SplitMix64).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Ids that follow from numbers, in buckets of equal width, so that they are made in order without being kept.
#[derive(Clone, Copy)]
struct Ids {
    seed: u64,
    buckets: u64,
}

impl Ids {
    fn of(part: usize, entries: u64) -> Ids {
        Ids {
            seed: mix(part as u64 + 1),
            buckets: entries.div_ceil(BUCKET),
        }
    }

    fn count(&self) -> u64 {
        self.buckets * BUCKET
    }

    fn prefix(&self, number: u64) -> [u8; 16] {
        let width = u64::MAX / self.buckets;
        let noise = mix(number ^ self.seed);
        let within = (u128::from(noise) * u128::from(width)) >> 64;
        let key = number / BUCKET * width + within as u64;
        let mut prefix = [0; 16];
        prefix[..8].copy_from_slice(&key.to_be_bytes());
        prefix[8..].copy_from_slice(&mix(noise).to_be_bytes());
        prefix
    }

    fn bucket(&self, bucket: u64) -> Vec<[u8; 16]> {
        let numbers = bucket * BUCKET..(bucket + 1) * BUCKET;
        let mut all: Vec<[u8; 16]> = numbers.map(|number| self.prefix(number)).collect();
        all.sort_unstable();
        all
    }

    /// A number of one of them, any.
    fn any(&self, turn: u64) -> u64 {
        ((u128::from(mix(turn ^ 0x5eed)) * u128::from(self.count())) >> 64) as u64
    }
}

fn id_of(prefix: [u8; 16]) -> ChunkId {
    let mut id = [0; 32];
    id[..16].copy_from_slice(&prefix);
    ChunkId(id)
}

fn pack(part: usize, number: u64) -> PackId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&mix(number).to_be_bytes());
    id[8..].copy_from_slice(&(part as u64).to_be_bytes());
    PackId(id)
}

fn say(what: &str, measured: String) {
    println!("| {what} | {measured} |");
}

/// A field of this process in /proc, in the file's own unit.
fn proc_number(file: &str, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

fn private_mib() -> f64 {
    proc_number("smaps_rollup", "Private_Dirty:") as f64 / 1024.0
}

/// Page faults so far: those without and those with reading.
fn faults() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    (fields[7].parse().unwrap(), fields[9].parse().unwrap())
}

fn million(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64() / 1e6
}

/// The most private memory while `work` runs, looked at every 100 ms.
fn watched<T>(work: impl FnOnce() -> T) -> (T, Duration, f64) {
    let done = AtomicBool::new(false);
    let most = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                most.fetch_max((private_mib() * 10.0) as u64, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let start = Instant::now();
        let result = work();
        let time = start.elapsed();
        done.store(true, Ordering::Relaxed);
        (result, time, most.load(Ordering::Relaxed) as f64 / 10.0)
    })
}

/// Writes a segment of these ids; also the time spent in the writer alone.
fn build_one(folder: &LocalFolder, part: usize, ids: Ids) -> (SegmentId, Duration) {
    let packs = ids.count() / CHUNKS_IN_PACK + 1;
    let mut rows: Vec<PackRow> = (0..packs)
        .map(|number| PackRow {
            id: pack(part, number),
            length: 64 << 20,
            kind: PackKind::Data,
        })
        .collect();
    rows.sort_by_key(|row| row.id);
    let mut inside = Duration::ZERO;
    let mut writer = SegmentWriter::create(folder, "scratch", STORE, true).unwrap();
    std::thread::scope(|scope| {
        let (send, receive) = sync_channel(4);
        scope.spawn(move || (0..ids.buckets).try_for_each(|b| send.send(ids.bucket(b))));
        for prefixes in receive {
            let start = Instant::now();
            for prefix in prefixes {
                let word = u64::from_be_bytes(prefix[8..].try_into().unwrap());
                let place = Place {
                    pack: PackId([0; 16]),
                    offset: word as u32,
                    stored: 60_000,
                    plain: false,
                    at: (word >> 40) as u32,
                    length: 32_768,
                };
                let number = (u128::from(word) * u128::from(packs)) >> 64;
                writer
                    .push(Entry::new(prefix, number as u32, &place))
                    .unwrap();
            }
            inside += start.elapsed();
        }
    });
    let start = Instant::now();
    let made = writer.finish(rows.into_iter().map(Ok)).unwrap();
    inside += start.elapsed();
    publish(folder, &made.path, made.id);
    say(
        "on disk",
        format!(
            "{:.2} bytes an entry",
            made.length as f64 / made.entries as f64
        ),
    );
    (made.id, inside)
}

fn publish(folder: &LocalFolder, path: &str, id: SegmentId) {
    folder.publish(path, &layout::segment(id)).unwrap();
    folder.sync_folder(layout::INDEX).unwrap();
}

/// The segments in the folder, largest first.
fn found(folder: &LocalFolder) -> Vec<SegmentId> {
    let mut all: Vec<(u64, SegmentId)> = folder
        .list(layout::INDEX)
        .unwrap()
        .iter()
        .map(|name| SegmentId::parse(name).unwrap())
        .map(|id| (folder.size(&layout::segment(id)).unwrap(), id))
        .collect();
    all.sort();
    all.into_iter().rev().map(|(_, id)| id).collect()
}

fn build(folder: &LocalFolder, parts: &[Ids]) {
    for (part, ids) in parts.iter().enumerate() {
        let ((_, inside), time, most) = watched(|| build_one(folder, part, *ids));
        let count = ids.count();
        say(
            &format!("build of {count} entries, durable"),
            format!(
                "{:.1} s with the making of ids; in the writer {:.1} s, {:.1} million entries/s; private {most:.0} MiB",
                time.as_secs_f64(),
                inside.as_secs_f64(),
                million(count, inside)
            ),
        );
    }
}

fn merge_all(folder: &LocalFolder) {
    let cold = drop_caches();
    let ids = found(folder);
    let sources: Vec<Arc<Segment>> = ids
        .iter()
        .map(|id| Arc::new(Segment::open(folder, STORE, *id).unwrap()))
        .collect();
    let bytes = |field| proc_number("io", field) as f64 / 1e9;
    let (read, written) = (bytes("read_bytes:"), bytes("write_bytes:"));
    let (made, time, most) =
        watched(|| merge(folder, "scratch", STORE, &sources, &Default::default()).unwrap());
    let (count, entries) = (sources.len(), made.entries);
    say(
        &format!("merge of {count} segments to {entries} entries, durable, {cold}"),
        format!(
            "{:.1} s, {:.1} million entries/s; read {:.1} GB, written {:.1} GB; private {most:.0} MiB",
            time.as_secs_f64(),
            million(entries, time),
            bytes("read_bytes:") - read,
            bytes("write_bytes:") - written
        ),
    );
    drop(sources);
    let cold = drop_caches();
    let start = Instant::now();
    copy(folder, &ids);
    say(
        &format!("copying the same bytes, durable, {cold}"),
        format!("{:.1} s", start.elapsed().as_secs_f64()),
    );
    publish(folder, &made.path, made.id);
    for id in ids {
        folder.remove(&layout::segment(id)).unwrap();
    }
}

/// What no merge can be faster than: reads the segments and writes their bytes to one file, 2 MiB at a time.
fn copy(folder: &LocalFolder, ids: &[SegmentId]) {
    let mut to = folder.create_large("scratch/copy").unwrap();
    for id in ids {
        let from = folder.open(&layout::segment(*id)).unwrap();
        for (turn, offset) in (1..).zip((0..from.size()).step_by(2 << 20)) {
            let length = (from.size() - offset).min(2 << 20) as usize;
            to.append(&read_vec(&from, offset, length).unwrap())
                .unwrap();
            if turn % 8 == 0 {
                to.start_write_back();
            }
        }
    }
    to.sync().unwrap();
    folder.remove("scratch/copy").unwrap();
}

fn drop_caches() -> &'static str {
    rustix::fs::sync();
    match std::fs::write("/proc/sys/vm/drop_caches", "3") {
        Ok(()) => "cold",
        Err(_) => "NOT cold",
    }
}

/// Looks up `count` ids, and says how fast, with how many faults.
fn measure(what: &str, index: &IndexSet, count: u64, mut id: impl FnMut(u64) -> (ChunkId, bool)) {
    let before = faults();
    let start = Instant::now();
    for turn in 0..count {
        let (id, there) = id(turn);
        let holds = index.holds(black_box(&id), 32_768).unwrap();
        assert_eq!(holds, there, "{id}");
    }
    let time = start.elapsed();
    let after = faults();
    let each = |from: u64, to: u64| (to - from) as f64 / count as f64;
    say(
        what,
        format!(
            "{:.0} /s, {:.2} us each; faults a look-up: {:.3} with reading, {:.3} without; private {:.1} MiB",
            count as f64 / time.as_secs_f64(),
            time.as_secs_f64() * 1e6 / count as f64,
            each(before.1, after.1),
            each(before.0, after.0),
            private_mib()
        ),
    );
}

fn open(folder: &LocalFolder, id: SegmentId, what: &str) -> (Arc<Segment>, IndexSet) {
    let start = Instant::now();
    let segment = Arc::new(Segment::open(folder, STORE, id).unwrap());
    let time = start.elapsed();
    say(
        &format!("open, {what}"),
        format!(
            "{:.2} ms; private {:.1} MiB",
            time.as_secs_f64() * 1e3,
            private_mib()
        ),
    );
    let index = IndexSet::new(vec![segment.clone()], HashSet::new());
    (segment, index)
}

fn look(folder: &LocalFolder, parts: &[Ids]) {
    let id = *found(folder).first().unwrap();
    let there = |turn: u64| {
        let ids = parts[usize::from(turn % 20 >= 15) + usize::from(turn % 20 == 19)];
        (id_of(ids.prefix(ids.any(turn))), true)
    };
    let absent = |turn: u64| {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&mix(turn).to_be_bytes());
        (ChunkId(id), false)
    };
    let cold = drop_caches();
    let (segment, index) = open(folder, id, cold);
    let blocks = segment.footer().blocks.count();
    measure(
        &format!("hit, nothing in memory, {cold}"),
        &index,
        200,
        there,
    );
    measure(
        &format!("miss, filters {cold} at first, 12 look-ups for each of {blocks} blocks"),
        &index,
        12 * blocks,
        absent,
    );
    measure(
        &format!("hit, fences and filters in memory, pages {cold}"),
        &index,
        20_000,
        |turn| there(turn + 1_000_000),
    );
    drop((index, segment));

    let file = folder.open(&layout::segment(id)).unwrap();
    for offset in (0..file.size()).step_by(1 << 20) {
        let length = (file.size() - offset).min(1 << 20) as usize;
        black_box(read_vec(&file, offset, length).unwrap());
    }
    let (segment, index) = open(folder, id, "in the page cache");
    let many = (segment.entries() / 100).clamp(20_000, 2_000_000);
    measure(
        "hit, in the page cache, most pages for the first time",
        &index,
        many,
        there,
    );
    measure("hit, the same again", &index, many, there);
    measure("miss", &index, 2 * many, absent);
    let start = Instant::now();
    assert_eq!(
        check_segment(&segment, true, &|| false).unwrap(),
        SegmentDamage::default()
    );
    say(
        "verification of all of it",
        format!("{:.1} s", start.elapsed().as_secs_f64()),
    );
    drop((index, segment));

    let (_, index) = open(&folder.clone().without_maps(), id, "by positional reads");
    measure("hit, by positional reads", &index, many / 100, there);
    measure("miss, by positional reads", &index, many / 100, absent);
}

fn main() {
    let entries = std::env::var("CAIRN_INDEX_ENTRIES")
        .ok()
        .map_or(2_000_000, |text| text.parse().unwrap());
    let steps: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let wanted = |step: &str| steps.is_empty() || steps.iter().any(|s| s == step);
    let temp = tempfile::tempdir().unwrap();
    let root = std::env::var_os("CAIRN_INDEX_FOLDER").map_or(temp.path().into(), PathBuf::from);
    std::fs::create_dir_all(&root).unwrap();
    let folder = LocalFolder::new(root);
    for path in ["scratch", layout::INDEX] {
        folder.create_folder(path).unwrap();
    }
    let parts: Vec<Ids> = [entries / 4 * 3, entries / 5, entries / 20]
        .into_iter()
        .enumerate()
        .map(|(part, entries)| Ids::of(part, entries))
        .collect();
    println!("| what | measured |\n| --- | --- |");
    if wanted("build") {
        build(&folder, &parts);
    }
    if wanted("merge") {
        merge_all(&folder);
    }
    if wanted("look") {
        look(&folder, &parts);
    }
}
