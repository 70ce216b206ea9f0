//! What is done with every byte: look for zeros, cut, hash, compress.

use crate::disk::realistic;
use cairn_store::CutParameters;
use cairn_store::frame::{Compressor, Decompressor, MAX_FRAME};
use cairn_store::hash::{ChunkKind, Keys};
use cairn_store::map::REGION;
use cairn_store::map::holes::canonical_holes;
use criterion::{Criterion, Throughput};
use std::hint::black_box;

fn region() -> Vec<u8> {
    realistic(REGION as usize, 1)
}

pub fn cut(c: &mut Criterion) {
    let data = region();
    let zeros = vec![0; data.len()];
    let mut group = c.benchmark_group("cut");
    group.throughput(Throughput::Bytes(REGION));
    for (name, cut) in [
        ("fastcdc", CutParameters::default()),
        ("fixed", CutParameters::Fixed { size: 64 << 10 }),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut at = 0;
                while at < data.len() {
                    at += cut.first_cut(black_box(&data[at..]), at);
                }
                at
            });
        });
    }
    group.bench_function("holes in data", |b| {
        b.iter(|| canonical_holes(black_box(&data), &[]))
    });
    group.bench_function("holes in zeros", |b| {
        b.iter(|| canonical_holes(black_box(&zeros), &[]))
    });
    group.finish();
}

pub fn hash(c: &mut Criterion) {
    let data = region();
    let keys = Keys::derive(&[7; 32]);
    let mut group = c.benchmark_group("hash");
    group.throughput(Throughput::Bytes(REGION));
    for kib in [8, 32, 128] {
        group.bench_function(format!("{kib} KiB"), |b| {
            b.iter(|| {
                for chunk in data.chunks(kib << 10) {
                    black_box(keys.chunk_id(ChunkKind::Data, black_box(chunk)));
                }
            });
        });
    }
    group.finish();
}

pub fn frame(c: &mut Criterion) {
    let data = region();
    let mut compressor = Compressor::new(3).unwrap();
    let frames: Vec<Vec<&[u8]>> = data
        .chunks(MAX_FRAME)
        .map(|frame| frame.chunks(32 << 10).collect())
        .collect();
    // A frame that does not pay is stored plain, and never decoded.
    let stored: Vec<Vec<u8>> = frames
        .iter()
        .filter_map(|parts| compressor.compress(parts).unwrap().map(<[u8]>::to_vec))
        .collect();
    let mut group = c.benchmark_group("frame");
    group.throughput(Throughput::Bytes(REGION));
    group.bench_function("compress", |b| {
        b.iter(|| {
            for parts in &frames {
                black_box(compressor.compress(black_box(parts)).unwrap());
            }
        });
    });
    let mut decompressor = Decompressor::default();
    let mut plain = Vec::new();
    group.throughput(Throughput::Bytes((stored.len() * MAX_FRAME) as u64));
    group.bench_function("decompress", |b| {
        b.iter(|| {
            for bytes in &stored {
                decompressor
                    .decompress(black_box(bytes), MAX_FRAME, &mut plain)
                    .unwrap();
            }
        });
    });
    group.finish();
}
