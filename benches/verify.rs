//! Verification of a store in the page cache, beside reading its packs.

use crate::put::{Bench, Ratios};
use cairn::{Depth, Silent, Store, VerifyOptions};
use criterion::{Criterion, Throughput};
use std::cell::LazyCell;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub fn verify(c: &mut Criterion) {
    let made = LazyCell::new(|| {
        let (bench, _) = Bench::new();
        bench.backup(&bench.store("store"));
        let path = bench.temp.path().join("store");
        let packs = packs(&path);
        (Store::open(&path).unwrap(), packs, bench)
    });
    let mut group = c.benchmark_group("verify");
    for (name, depth) in [("tags", Depth::Tags), ("deep", Depth::Deep)] {
        let mut ratios = Ratios::default();
        group.bench_function(name, |b| {
            let (store, packs, _) = &*made;
            let options = VerifyOptions::at_depth(depth);
            b.iter_custom(|turns| {
                let mut total = Duration::ZERO;
                for _ in 0..turns {
                    let started = Instant::now();
                    read_all(packs);
                    let least = started.elapsed();
                    let started = Instant::now();
                    assert!(store.verify(&options, &Silent).unwrap().is_clean());
                    let took = started.elapsed();
                    ratios.note(least, took);
                    total += took;
                }
                total
            });
        });
        let (_, packs, _) = &*made;
        let lengths = packs.iter().map(|pack| pack.metadata().unwrap().len());
        group.throughput(Throughput::Bytes(lengths.sum()));
        let what = "reading the packs with one thread";
        ratios.tell(&format!("verify/{name}"), what);
    }
    group.finish();
}

fn packs(store: &Path) -> Vec<PathBuf> {
    let homes = std::fs::read_dir(store.join("packs")).unwrap();
    let files = homes.flat_map(|home| std::fs::read_dir(home.unwrap().path()).unwrap());
    files.map(|file| file.unwrap().path()).collect()
}

fn read_all(packs: &[PathBuf]) {
    let mut buffer = vec![0; 1 << 20];
    for pack in packs {
        let mut file = File::open(pack).unwrap();
        while file.read(&mut buffer).unwrap() > 0 {}
    }
}
