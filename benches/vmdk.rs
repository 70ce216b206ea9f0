//! VMDK that qemu-img makes of a disk of 64 MiB: opening, reading from the start to the end, and here and there.

use crate::disk::{Noise, realistic};
use criterion::{Criterion, Throughput};
use std::hint::black_box;
use std::path::Path;
use std::process::Command;

const DISK: usize = 64 << 20;
/// As much as a backup reads at once.
const PIECE: usize = 4 << 20;
const SMALL: usize = 4096;
const READS: usize = 500;

/// Whether qemu-img made `image` of `raw`.
fn convert(raw: &Path, image: &Path, subformat: &str) -> bool {
    let mut command = Command::new("qemu-img");
    command.args(["convert", "-f", "raw", "-O", "vmdk", "-o", subformat]);
    let status = command.args([raw, image]).status();
    status.is_ok_and(|status| status.success())
}

/// Each form beside the raw disk.
pub fn vmdk(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("disk.raw");
    std::fs::write(&raw, realistic(DISK, 7)).unwrap();
    let mut images = vec![("raw", raw.clone())];
    for (name, subformat) in [
        ("sparse", "subformat=monolithicSparse"),
        ("flat", "subformat=twoGbMaxExtentFlat"),
        ("stream", "subformat=streamOptimized"),
    ] {
        let image = folder.path().join(format!("{name}.vmdk"));
        if !convert(&raw, &image, subformat) {
            println!("SKIPPED: qemu-img makes no {name} VMDK here");
            continue;
        }
        images.push((name, image));
    }
    let mut group = criterion.benchmark_group("vmdk");
    for (name, image) in images {
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("open/{name}"), |bencher| {
            bencher.iter(|| black_box(cairn_disk::open(&image).unwrap()));
        });
        let disk = cairn_disk::open(&image).unwrap();
        let mut buffer = vec![0; PIECE];
        group.throughput(Throughput::Bytes(DISK as u64));
        group.bench_function(format!("all/{name}"), |bencher| {
            bencher.iter(|| {
                for at in (0..DISK).step_by(PIECE) {
                    disk.read_exact_at(at as u64, &mut buffer).unwrap();
                    black_box(&buffer);
                }
            });
        });
        group.throughput(Throughput::Elements(READS as u64));
        group.bench_function(format!("scattered/{name}"), |bencher| {
            let mut noise = Noise::new(3);
            bencher.iter(|| {
                for _ in 0..READS {
                    let at = noise.below(0..DISK / SMALL) * SMALL;
                    let part = &mut buffer[..SMALL];
                    disk.read_exact_at(at as u64, part).unwrap();
                    black_box(&part);
                }
            });
        });
    }
    group.finish();
}
