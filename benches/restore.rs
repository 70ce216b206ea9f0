//! A whole disk restored to a file, beside a copy of the image.

use crate::put::{Bench, DISK, Ratios};
use cairn::{ImageFormat, RestoreOptions, Silent, Store, restore};
use criterion::{Criterion, Throughput};
use std::cell::LazyCell;
use std::fs::File;
use std::time::{Duration, Instant};

pub fn bring_back(c: &mut Criterion) {
    let made = LazyCell::new(|| {
        let (bench, _) = Bench::new();
        bench.backup(&bench.store("store"));
        let store = Store::open(&bench.temp.path().join("store")).unwrap();
        let latest = store.find_point("bench@latest").unwrap();
        let point = store.open_point(&latest).unwrap();
        (bench, point)
    });
    let options = RestoreOptions {
        format: ImageFormat::Raw,
        ..RestoreOptions::default()
    };
    let mut ratios = Ratios::default();
    let mut group = c.benchmark_group("restore");
    group.throughput(Throughput::Bytes(DISK as u64));
    group.bench_function("to a file", |b| {
        let (bench, point) = &*made;
        let (copy, back) = (
            bench.temp.path().join("copy"),
            bench.temp.path().join("back"),
        );
        b.iter_custom(|turns| {
            let mut total = Duration::ZERO;
            for _ in 0..turns {
                let started = Instant::now();
                std::fs::copy(bench.image(), &copy).unwrap();
                File::open(&copy).unwrap().sync_all().unwrap();
                let least = started.elapsed();
                std::fs::remove_file(&copy).unwrap();
                let started = Instant::now();
                restore(point, "disk0", &back, &options, &Silent).unwrap();
                let took = started.elapsed();
                std::fs::remove_file(&back).unwrap();
                ratios.note(least, took);
                total += took;
            }
            total
        });
    });
    ratios.tell(
        "restore/to a file",
        "copying the image, both until they are durable",
    );
    group.finish();
}
