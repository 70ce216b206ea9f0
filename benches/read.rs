//! Reading a disk of a point: from its start to its end, and here and there.

use crate::disk::Noise;
use crate::put::{Bench, DISK};
use cairn_base::ReadAt;
use cairn_store::{ChunkReader, Point, Store, StoredDisk, Tree};
use criterion::{BatchSize, Criterion, Throughput};
use std::hint::black_box;
use std::sync::Arc;

/// As much as a front-end keeps.
const CACHE: usize = 96 << 20;
const SMALL: usize = 4096;
const READS: usize = 2000;

fn open(store: &Arc<Store>, point: &Point) -> StoredDisk {
    let reader = Arc::new(ChunkReader::new(store.clone(), CACHE));
    StoredDisk::new(Tree::new(reader, point.disk("disk0").unwrap()).unwrap())
}

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

pub fn get(c: &mut Criterion) {
    let (bench, _) = Bench::new();
    let store = bench.store("store");
    let point = bench.backup(&store);
    let mut group = c.benchmark_group("get");
    group.throughput(Throughput::Bytes(DISK as u64));
    group.bench_function("in order, 128 KiB", |b| {
        b.iter_batched(
            || (open(&store, &point), vec![0; 128 << 10]),
            |(disk, mut buffer)| {
                for offset in (0..DISK as u64).step_by(buffer.len()) {
                    disk.read_exact_at(offset, &mut buffer).unwrap();
                    black_box(&buffer);
                }
            },
            BatchSize::PerIteration,
        );
    });
    let regions = open(&store, &point).tree().shape().regions();
    group.bench_function("whole regions", |b| {
        b.iter_batched(
            || (open(&store, &point), vec![0; 4 << 20]),
            |(disk, mut buffer)| {
                for region in 0..regions {
                    black_box(disk.read_region(region, &mut buffer).unwrap());
                }
            },
            BatchSize::PerIteration,
        );
    });
    group.throughput(Throughput::Elements(READS as u64));
    group.bench_function("4 KiB here and there, cold", |b| {
        b.iter_batched(
            || open(&store, &point),
            |disk| scattered(&disk, DISK, 3),
            BatchSize::PerIteration,
        );
    });
    let warm = open(&store, &point);
    // A part of the disk that the cache holds.
    let span = CACHE / 4;
    for offset in (0..span as u64).step_by(SMALL) {
        warm.read_exact_at(offset, &mut [0; SMALL]).unwrap();
    }
    group.bench_function("4 KiB here and there, warm", |b| {
        b.iter(|| scattered(&warm, span, 4))
    });
    group.finish();
}
