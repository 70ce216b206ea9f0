//! Backups into a store on a real disk: all new, and all known.

use crate::disk::realistic;
use cairn_base::{Clock, Folder, LocalFolder, Silent, Time};
use cairn_store::{BackupOptions, CutParameters, DiskInput, ImageFacts, Point, Store, backup};
use criterion::{Criterion, Throughput};
use std::cell::LazyCell;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// Size of the disk in bytes.
pub const DISK: usize = 256 << 20;
const THREADS: usize = 2;

/// A clock that goes on by a minute whenever it is asked, so that no point has to wait for its second.
struct Minutes(AtomicI64);

impl Clock for Minutes {
    fn now(&self) -> Time {
        Time::from_seconds(self.0.fetch_add(60, Ordering::Relaxed))
    }
}

/// A disk image in a file, and a place for stores beside it.
pub struct Bench {
    pub temp: tempfile::TempDir,
    clock: Minutes,
}

impl Bench {
    /// With the bytes of the disk.
    pub fn new() -> (Bench, Vec<u8>) {
        let bench = Bench {
            temp: tempfile::tempdir().unwrap(),
            clock: Minutes(AtomicI64::new(1_800_000_000)),
        };
        let bytes = realistic(DISK, 2);
        let mut file = std::fs::File::create(bench.image()).unwrap();
        file.write_all(&bytes).unwrap();
        // Durable now, so that nothing else is on its way to the disk while a backup syncs.
        file.sync_all().unwrap();
        (bench, bytes)
    }

    fn image(&self) -> std::path::PathBuf {
        self.temp.path().join("disk.raw")
    }

    /// A new store in an empty folder of this name.
    pub fn store(&self, name: &str) -> Arc<Store> {
        let path = self.temp.path().join(name);
        std::fs::create_dir(&path).unwrap();
        let folder: Arc<dyn Folder> = Arc::new(LocalFolder::new(path));
        Arc::new(Store::create(folder, CutParameters::default(), &self.clock).unwrap())
    }

    /// Backs up the image.
    pub fn backup(&self, store: &Arc<Store>) -> Point {
        let disks = [DiskInput {
            name: "disk0".to_string(),
            source: cairn_disk::open(&self.image()).unwrap(),
            facts: ImageFacts::default(),
            changed: None,
            changes: None,
        }];
        let mut options = BackupOptions::new("bench");
        options.threads = THREADS;
        backup(store, &disks, &options, &Silent, &self.clock)
            .unwrap()
            .point
    }
}

/// `zstd -3` of the same bytes by as many threads, each with its share, in the units that zstd's own program uses.
fn floor(bytes: &[u8]) -> Duration {
    let started = Instant::now();
    std::thread::scope(|scope| {
        for share in bytes.chunks(bytes.len().div_ceil(THREADS)) {
            scope.spawn(move || {
                let mut out = zstd::stream::Encoder::new(std::io::sink(), 3).unwrap();
                out.write_all(share).unwrap();
                out.finish().unwrap();
            });
        }
    });
    started.elapsed()
}

fn folder_bytes(path: &Path) -> u64 {
    std::fs::read_dir(path)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let found = entry.metadata().unwrap();
            if found.is_dir() {
                folder_bytes(&entry.path())
            } else {
                found.len()
            }
        })
        .sum()
}

pub fn put(c: &mut Criterion) {
    // Made when it is first wanted: a run for one bench does not wait for the others' disks.
    let made = LazyCell::new(Bench::new);
    let mut group = c.benchmark_group("put");
    group.throughput(Throughput::Bytes(DISK as u64));
    let mut ratios: Vec<f64> = Vec::new();
    let mut stored = 0;
    group.bench_function("first backup", |b| {
        let (bench, bytes) = &*made;
        b.iter_custom(|turns| {
            let mut total = Duration::ZERO;
            for _ in 0..turns {
                let store = bench.store("first");
                let least = floor(bytes);
                let started = Instant::now();
                bench.backup(&store);
                let took = started.elapsed();
                total += took;
                ratios.push(least.as_secs_f64() / took.as_secs_f64());
                let path = bench.temp.path().join("first");
                stored = folder_bytes(&path);
                std::fs::remove_dir_all(path).unwrap();
            }
            total
        });
    });
    if !ratios.is_empty() {
        ratios.sort_by(f64::total_cmp);
        println!(
            "put/first backup: {:.2} x zstd -3 with {THREADS} threads (median of {}), {:.1} % stored",
            ratios[ratios.len() / 2],
            ratios.len(),
            stored as f64 * 100.0 / DISK as f64
        );
    }
    let again = LazyCell::new(|| {
        let store = made.0.store("again");
        made.0.backup(&store);
        store
    });
    group.bench_function("unchanged", |b| b.iter(|| made.0.backup(&again)));
    group.finish();
}
