//! Disk images read from their start to their end, each beside a plain read of the image's own file: all of it in the page cache.

use crate::disk::realistic;
use crate::made::{self, Op, Parent};
use crate::put::{DISK, Ratios};
use cairn_base::{AlignedBuffer, ReadAt};
use cairn_disk::write::{
    DiskWriter, FixedVhdWriter, FixedVhdxWriter, RawWriter, VhdWriter, VhdxOptions, VhdxWriter,
};
use criterion::{Criterion, Throughput};
use rustix::fs::{Advice, fadvise};
use std::cell::LazyCell;
use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Bytes read at once: as a backup does, and as the kernel asks a mount for.
const BUFFERS: [usize; 2] = [1 << 20, 128 << 10];
const NAMES: [&str; 7] = [
    "raw",
    "vhd-fixed",
    "vhd-dynamic",
    "vhdx-fixed",
    "vhdx-dynamic",
    "vhd-differencing, 2 images",
    "vhdx-differencing, 2 images",
];

/// Images of two disks, in a folder that vanishes: one, and one that lies in a differencing image and its parent.
struct Images {
    folder: tempfile::TempDir,
}

impl Images {
    fn new() -> Images {
        let images = Images {
            folder: tempfile::tempdir().unwrap(),
        };
        let bytes = realistic(DISK, 11);
        let size = DISK as u64;
        let vhdx = VhdxOptions::default();
        let path = |name: &str| images.path(name);
        let writers: [Box<dyn DiskWriter>; 5] = [
            Box::new(RawWriter::create(&path(NAMES[0]), size).unwrap()),
            Box::new(FixedVhdWriter::create(&path(NAMES[1]), size, None).unwrap()),
            Box::new(VhdWriter::create(&path(NAMES[2]), size, None).unwrap()),
            Box::new(FixedVhdxWriter::create(&path(NAMES[3]), size, vhdx).unwrap()),
            Box::new(VhdxWriter::create(&path(NAMES[4]), size, vhdx).unwrap()),
        ];
        for writer in writers {
            writer.reserve(0..size).unwrap();
            for (at, piece) in (0..).step_by(1 << 20).zip(bytes.chunks(1 << 20)) {
                writer.write_at(at, piece).unwrap();
            }
            writer.finish().unwrap();
        }
        images.chain(made::Kind::Vhd, 2 << 20, NAMES[5]);
        images.chain(made::Kind::Vhdx, 32 << 20, NAMES[6]);
        for name in NAMES {
            for path in [images.path(name), images.plain(name)] {
                warm(&path);
            }
        }
        images
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file to compare with: the image itself, whose bytes lie in the same pages of memory, or, of a disk in two images, one of the same bytes and
    /// nothing else.
    fn plain(&self, name: &str) -> PathBuf {
        match name.contains("differencing") {
            true => self.path(&format!("{name}.plain")),
            false => self.path(name),
        }
    }

    /// A child that has one of four MiB itself, and a parent that has everything.
    fn chain(&self, kind: made::Kind, block_size: u32, name: &str) {
        let sectors = DISK as u64 / 512;
        let parent = self.path(&format!("parent of {name}"));
        let image = |number, path, parent, ops| made::Image {
            kind,
            path,
            size: DISK as u64,
            block_size,
            sector: 512,
            number,
            parent,
            ops,
        };
        let all = vec![Op::Data(0..sectors)];
        image(1, parent.clone(), None, all).write();
        let quarter = (0..sectors).step_by(8192);
        let quarter = quarter.map(|at| Op::Data(at..at + 2048)).collect();
        let beside = Some(Parent::beside(kind, 1, &parent));
        image(2, self.path(name), beside, quarter).write();
        let disk = cairn_disk::open(&self.path(name)).unwrap();
        let file = File::create(self.plain(name)).unwrap();
        let mut buffer = vec![0; 1 << 20];
        for at in (0..DISK as u64).step_by(buffer.len()) {
            disk.read_exact_at(at, &mut buffer).unwrap();
            file.write_all_at(&buffer, at).unwrap();
        }
    }
}

/// Brings a file into the page cache, all of them in the same way: by reading it.
pub fn warm(path: &Path) {
    let file = File::open(path).unwrap();
    file.sync_all().unwrap();
    fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    std::io::copy(&mut &file, &mut std::io::sink()).unwrap();
}

/// Reads a disk of `size` bytes once, before it as much of `plain`, and answers how long the disk took.
pub fn beside_plain(
    plain: &File,
    disk: &dyn ReadAt,
    size: usize,
    buffer: &mut [u8],
    ratios: &mut Ratios,
) -> Duration {
    let started = Instant::now();
    for at in (0..size as u64).step_by(buffer.len()) {
        plain.read_exact_at(buffer, at).unwrap();
        black_box(&buffer);
    }
    let least = started.elapsed();
    let started = Instant::now();
    for at in (0..size as u64).step_by(buffer.len()) {
        disk.read_exact_at(at, buffer).unwrap();
        black_box(&buffer);
    }
    let took = started.elapsed();
    ratios.note(least, took);
    took
}

pub fn image(c: &mut Criterion) {
    let images = LazyCell::new(Images::new);
    let mut group = c.benchmark_group("image");
    group.throughput(Throughput::Bytes(DISK as u64));
    for name in NAMES {
        for length in BUFFERS {
            let what = format!("{name}, {} KiB", length >> 10);
            let mut ratios = Ratios::default();
            group.bench_function(&what, |b| {
                let disk = cairn_disk::open(&images.path(name)).unwrap();
                let plain = File::open(images.plain(name)).unwrap();
                let mut buffer = AlignedBuffer::new(length);
                b.iter_custom(|turns| {
                    let mut total = Duration::ZERO;
                    for _ in 0..turns {
                        total += beside_plain(&plain, &*disk, DISK, &mut buffer, &mut ratios);
                    }
                    total
                });
            });
            ratios.tell(&format!("image/{what}"), "a plain read");
        }
    }
    group.finish();
}
