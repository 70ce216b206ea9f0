//! Reading a disk of a point: from its start to its end, and here and there.

use crate::disk::Noise;
use crate::put::{Bench, DISK};
use cairn_base::ReadAt;
use cairn_store::{ChunkReader, Point, RegionMap, RegionReader, Store, StoredDisk, Tree};
use criterion::{BatchSize, Criterion, Throughput};
use std::cell::LazyCell;
use std::hint::black_box;
use std::sync::Arc;

/// As much as a front-end keeps.
const CACHE: usize = 96 << 20;
const SMALL: usize = 4096;
const READS: usize = 2000;

/// Reads here and there within the first `span` bytes.
fn scattered(disk: &StoredDisk, span: usize, seed: u64) {
    let mut noise = Noise::new(seed);
    let mut buffer = vec![0; SMALL];
    for _ in 0..READS {
        let offset = noise.below(0..span / SMALL) * SMALL;
        disk.read_exact_at(offset as u64, &mut buffer).unwrap();
        black_box(&buffer);
    }
}

/// A store with one point, in a folder that vanishes.
struct Made {
    _bench: Bench,
    store: Arc<Store>,
    point: Point,
}

impl Made {
    fn new() -> Made {
        let (bench, _) = Bench::new();
        let store = bench.store("store");
        let point = bench.backup(&store);
        Made {
            _bench: bench,
            store,
            point,
        }
    }

    /// The disk, with nothing in the cache.
    fn open(&self) -> StoredDisk {
        let reader = Arc::new(ChunkReader::new(self.store.clone(), CACHE));
        StoredDisk::new(Tree::new(reader, self.point.disk("disk0").unwrap()).unwrap())
    }
}

pub fn get(c: &mut Criterion) {
    let made = LazyCell::new(Made::new);
    let mut group = c.benchmark_group("get");
    group.throughput(Throughput::Bytes(DISK as u64));
    group.bench_function("in order, 128 KiB", |b| {
        b.iter_batched(
            || (made.open(), vec![0; 128 << 10]),
            |(disk, mut buffer)| {
                for offset in (0..DISK as u64).step_by(buffer.len()) {
                    disk.read_exact_at(offset, &mut buffer).unwrap();
                    black_box(&buffer);
                }
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("whole regions", |b| {
        b.iter_batched(
            || (made.open(), vec![0; 4 << 20]),
            |(disk, mut buffer)| {
                let mut reader = RegionReader::new(disk.tree());
                for region in 0..disk.tree().shape().regions() {
                    let RegionMap::Leaf(leaf) = reader.map(region).unwrap() else {
                        continue;
                    };
                    let length = disk.tree().shape().region_length(region) as usize;
                    let out = &mut buffer[..length];
                    reader.read(region, &leaf, &|_| true, out).unwrap();
                    black_box(out);
                }
            },
            BatchSize::PerIteration,
        );
    });
    group.throughput(Throughput::Elements(READS as u64));
    group.bench_function("4 KiB here and there, cold", |b| {
        b.iter_batched(
            || made.open(),
            |disk| scattered(&disk, DISK, 3),
            BatchSize::PerIteration,
        );
    });
    // A part of the disk that the cache holds.
    let span = CACHE / 4;
    let warm = LazyCell::new(|| {
        let disk = made.open();
        for offset in (0..span as u64).step_by(SMALL) {
            disk.read_exact_at(offset, &mut [0; SMALL]).unwrap();
        }
        disk
    });
    group.bench_function("4 KiB here and there, warm", |b| {
        b.iter(|| scattered(&warm, span, 4))
    });
    group.finish();
}
