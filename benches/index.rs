//! Looking up chunks in a segment of a million, mapped and by positional reads.

use crate::disk::Noise;
use cairn_base::{ChunkId, Folder, LocalFolder, PackId};
use cairn_store::index::{Entry, IndexSet, PackRow, Place, Segment, write_segment};
use cairn_store::layout;
use cairn_store::pack::PackKind;
use criterion::{Criterion, Throughput};
use std::cell::LazyCell;
use std::collections::HashSet;
use std::hint::black_box;
use std::sync::Arc;

const ENTRIES: usize = 1_000_000;
const LOOK_UPS: usize = 10_000;
const STORE: [u8; 16] = [1; 16];

fn ids(count: usize, seed: u64) -> Vec<ChunkId> {
    let mut noise = Noise::new(seed);
    (0..count)
        .map(|_| {
            let mut id = [0; 32];
            noise.fill(&mut id);
            ChunkId(id)
        })
        .collect()
}

/// A segment of these chunks, published in `folder`.
fn write(folder: &dyn Folder, ids: &[ChunkId]) -> cairn_base::SegmentId {
    let pack = PackId([2; 16]);
    let place = Place {
        pack,
        offset: 64,
        stored: 60_000,
        plain: false,
        at: 0,
        length: 32_768,
    };
    let entries: Vec<Entry> = ids
        .iter()
        .map(|id| Entry::new(id.prefix(), 0, &place))
        .collect();
    folder.create_folder("scratch").unwrap();
    folder.create_folder(layout::INDEX).unwrap();
    let packs = [PackRow {
        id: pack,
        length: 64 << 20,
        kind: PackKind::Data,
    }];
    let segment = write_segment(folder, "scratch", STORE, &packs, entries).unwrap();
    folder
        .publish(&segment.path, &layout::segment(segment.id))
        .unwrap();
    println!(
        "index_lookup: {:.2} bytes an entry on disk",
        segment.length as f64 / segment.entries as f64
    );
    segment.id
}

fn look_up(index: &IndexSet, ids: &[ChunkId], found: bool) {
    for id in ids {
        assert_eq!(!index.places(black_box(id)).unwrap().is_empty(), found);
    }
}

pub fn index_lookup(c: &mut Criterion) {
    let temp = tempfile::tempdir().unwrap();
    let mapped = LocalFolder::new(temp.path());
    let read = mapped.clone().without_maps();
    let absent = ids(LOOK_UPS, 6);
    let made = LazyCell::new(|| {
        let there = ids(ENTRIES, 5);
        (write(&mapped, &there), there)
    });
    let mut group = c.benchmark_group("index_lookup");
    group.throughput(Throughput::Elements(LOOK_UPS as u64));
    for (way, folder) in [("mapped", &mapped), ("read", &read)] {
        let index = LazyCell::new(|| {
            let segment = Arc::new(Segment::open(folder, STORE, made.0).unwrap());
            IndexSet::new(vec![segment], HashSet::new())
        });
        group.bench_function(format!("hit, {way}"), |b| {
            b.iter(|| look_up(&index, &made.1[..LOOK_UPS], true));
        });
        group.bench_function(format!("miss, {way}"), |b| {
            b.iter(|| look_up(&index, &absent, false));
        });
    }
    group.finish();
}
