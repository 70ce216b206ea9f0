//! Backups into a store on a real disk: all new, and all known.

use crate::disk::{Noise, realistic};
use cairn_base::{Clock, Folder, LocalFolder, PointId, Silent, Time};
use cairn_store::changes::{Change, Changes};
use cairn_store::{
    BackupOptions, ChangeSource, CutParameters, DiskInput, ImageFacts, Point, Store, backup,
};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use std::cell::LazyCell;
use std::hint::black_box;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Size of the disk in bytes.
pub const DISK: usize = 256 << 20;
const THREADS: usize = 2;
/// Bytes read at once.
const PIECE: usize = 1 << 20;
const SMALL: usize = 4096;

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

    /// The image.
    pub fn image(&self) -> std::path::PathBuf {
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
        self.backup_changes(store, None)
    }

    /// Backs up the image; with a base and what changed since, only that.
    fn backup_changes(&self, store: &Arc<Store>, known: Option<(PointId, Changes)>) -> Point {
        let (base, changes) = known.unzip();
        let disks = [DiskInput {
            name: "disk0".to_string(),
            source: cairn_disk::open(&self.image()).unwrap(),
            facts: ImageFacts::default(),
            changed: None,
            changes: changes.map(|changes| ChangeSource::Caller(Arc::new(changes))),
        }];
        let mut options = BackupOptions::new("bench");
        options.threads = THREADS;
        options.base = base;
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

/// Reading the image and hashing it in parts of this size, by as many threads: what no backup of an unchanged disk is faster than.
fn hash_floor(image: &Path, part: usize) -> Duration {
    let file = std::fs::File::open(image).unwrap();
    let next = AtomicUsize::new(0);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut buffer = vec![0; PIECE];
                loop {
                    let at = next.fetch_add(PIECE, Ordering::Relaxed);
                    if at >= DISK {
                        return;
                    }
                    file.read_exact_at(&mut buffer, at as u64).unwrap();
                    for chunk in buffer.chunks(part) {
                        black_box(blake3::keyed_hash(&[1; 32], chunk));
                    }
                }
            });
        }
    });
    started.elapsed()
}

/// Ratios of a floor's time to ours, turn by turn.
#[derive(Default)]
pub struct Ratios(Vec<f64>);

impl Ratios {
    /// One turn: how long the floor took, and how long we did.
    pub fn note(&mut self, floor: Duration, ours: Duration) {
        self.0.push(floor.as_secs_f64() / ours.as_secs_f64());
    }

    /// Prints the middle one, if there was a turn.
    pub fn tell(&mut self, what: &str, floor: &str) {
        self.0.sort_by(f64::total_cmp);
        if let Some(middle) = self.0.get(self.0.len() / 2) {
            println!("{what}: {middle:.2} x {floor} (median of {})", self.0.len());
        }
    }
}

/// One percent of the disk, in pieces of 4 KiB all over it.
fn one_percent() -> Changes {
    let mut noise = Noise::new(7);
    let changes = (0..DISK / SMALL / 100).map(|_| {
        let start = (noise.below(0..DISK / SMALL) * SMALL) as u64;
        Change {
            range: start..start + SMALL as u64,
            zero: false,
        }
    });
    Changes::new(DISK as u64, changes).unwrap()
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
    let mut ratios = Ratios::default();
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
                ratios.note(least, took);
                let path = bench.temp.path().join("first");
                stored = folder_bytes(&path);
                std::fs::remove_dir_all(path).unwrap();
            }
            total
        });
    });
    ratios.tell("put/first backup", "zstd -3 with two threads");
    if stored > 0 {
        let percent = stored as f64 * 100.0 / DISK as f64;
        println!("put/first backup: {percent:.1} % stored");
    }
    let again = LazyCell::new(|| {
        let store = made.0.store("again");
        let point = made.0.backup(&store);
        // About what chunks are long.
        let chunk = DISK / usize::try_from(store.index().entries()).unwrap();
        (store, point.id, chunk)
    });
    let mut ratios = Ratios::default();
    group.bench_function("unchanged", |b| {
        b.iter_custom(|turns| {
            let mut total = Duration::ZERO;
            for _ in 0..turns {
                let least = hash_floor(&made.0.image(), again.2);
                let started = Instant::now();
                made.0.backup(&again.0);
                let took = started.elapsed();
                ratios.note(least, took);
                total += took;
            }
            total
        });
    });
    ratios.tell("put/unchanged", "reading and hashing with two threads");
    told(&mut group, &made.0, &again.0, again.1);
    group.finish();
}

/// One percent of the disk changed, and the backup is told which.
fn told(
    group: &mut BenchmarkGroup<'_, WallTime>,
    bench: &Bench,
    store: &Arc<Store>,
    base: PointId,
) {
    let mut read = 0;
    group.bench_function("1 % changed, told", |b| {
        b.iter(|| {
            let known = (base, one_percent());
            read = bench.backup_changes(store, Some(known)).record.stats.read;
        });
    });
    if read > 0 {
        let percent = read as f64 * 100.0 / DISK as f64;
        println!("put/1 % changed, told: {percent:.1} % of the disk read");
    }
}
