//! QCOW2, VDI and VMDK of a disk of 64 MiB beside the raw disk: opening them, reading all of them, and reading here and there.

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

/// Name, format, and what `qemu-img convert` is told besides.
const IMAGES: [(&str, &str, &[&str]); 10] = [
    ("raw", "raw", &[]),
    ("plain", "qcow2", &[]),
    ("small-clusters", "qcow2", &["-o", "cluster_size=4k"]),
    ("subclusters", "qcow2", &["-o", "extended_l2=on"]),
    ("zlib", "qcow2", &["-c"]),
    ("zstd", "qcow2", &["-c", "-o", "compression_type=zstd"]),
    ("vdi", "vdi", &[]),
    ("sparse", "vmdk", &["-o", "subformat=monolithicSparse"]),
    ("flat", "vmdk", &["-o", "subformat=twoGbMaxExtentFlat"]),
    ("stream", "vmdk", &["-o", "subformat=streamOptimized"]),
];

fn convert(folder: &Path, image: &Path, format: &str, options: &[&str]) -> bool {
    let mut command = Command::new("qemu-img");
    command.args(["convert", "-f", "raw", "-O", format]);
    command.args(options).arg(folder.join("disk")).arg(image);
    command.status().is_ok_and(|status| status.success())
}

/// Each image, opened and read.
pub fn formats(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("disk"), realistic(DISK, 11)).unwrap();
    let mut group = criterion.benchmark_group("formats");
    for (name, format, options) in IMAGES {
        let image = folder.path().join(format!("{name}.{format}"));
        if !convert(folder.path(), &image, format, options) {
            println!("SKIPPED: qemu-img makes no {name} here");
            continue;
        }
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
            let mut noise = Noise::new(5);
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
