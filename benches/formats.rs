//! QCOW2, VDI and VMDK of a disk of 64 MiB beside the raw disk: opening them, reading all of them, and reading here and there.

use crate::disk::{Noise, realistic};
use crate::image::{beside_plain, warm};
use crate::put::Ratios;
use cairn_base::AlignedBuffer;
use criterion::{Criterion, Throughput};
use std::fs::File;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const DISK: usize = 64 << 20;
/// As much as a backup reads at once.
const PIECE: usize = 1 << 20;
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
    warm(&folder.path().join("disk"));
    let mut group = criterion.benchmark_group("formats");
    for (name, format, options) in IMAGES {
        let image = folder.path().join(format!("{name}.{format}"));
        if !convert(folder.path(), &image, format, options) {
            println!("SKIPPED: qemu-img makes no {name} here");
            continue;
        }
        warm(&image);
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("open/{name}"), |bencher| {
            bencher.iter(|| black_box(cairn_disk::open(&image).unwrap()));
        });
        let disk = cairn_disk::open(&image).unwrap();
        let mut buffer = AlignedBuffer::new(PIECE);
        group.throughput(Throughput::Bytes(DISK as u64));
        // The image itself, whose bytes lie in the same pages of memory; what is compressed is too short for that.
        let plain = File::open(&image).unwrap();
        let is_long = plain.metadata().unwrap().len() >= DISK as u64;
        let plain = match is_long {
            true => plain,
            false => File::open(folder.path().join("disk")).unwrap(),
        };
        let mut ratios = Ratios::default();
        group.bench_function(format!("all/{name}"), |bencher| {
            bencher.iter_custom(|turns| {
                let mut total = Duration::ZERO;
                for _ in 0..turns {
                    total += beside_plain(&plain, &*disk, DISK, &mut buffer, &mut ratios);
                }
                total
            });
        });
        ratios.tell(&format!("formats/all/{name}"), "a plain read");
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
