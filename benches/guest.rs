//! Walking a guest's volume: every name and the attributes of every entry. And reading large files of NTFS, plain ones beside a plain read of their bytes.

use crate::disk::realistic;
use crate::image::warm;
use crate::put::Ratios;
use cairn_base::{AlignedBuffer, ReadAt};
use cairn_guest::{EntryKind, Volume, open_volume};
use criterion::{Criterion, Throughput};
use std::fs::{self, File};
use std::hint::black_box;
use std::ops::{ControlFlow, Range};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

const FOLDERS: usize = 200;
const FILES: usize = 100;
/// Bytes of the files that are read.
const LARGE: usize = 128 << 20;
/// Bytes read at once: as a copy does, and as the kernel asks a mount for.
const BUFFERS: [usize; 2] = [1 << 20, 128 << 10];
/// Bytes of a fragment.
const FRAGMENT: usize = 64 << 10;

/// A tree of 20,000 small files.
fn tree(root: &Path) {
    for folder in 0..FOLDERS {
        let folder = root.join(format!("folder number {folder}"));
        fs::create_dir_all(&folder).unwrap();
        for file in 0..FILES {
            fs::write(
                folder.join(format!("file number {file}.txt")),
                vec![b'x'; file * 40],
            )
            .unwrap();
        }
    }
}

/// Runs a program; `false` if it is not there or does not succeed.
fn run(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .output()
        .is_ok_and(|output| output.status.success())
}

fn ext4(tree: &str, image: &str) -> bool {
    run(
        "mke2fs",
        &["-q", "-t", "ext4", "-N", "24000", "-d", tree, image, "192M"],
    )
}

fn ntfs(tree: &str, image: &str, mountpoint: &str) -> bool {
    fs::File::create(image).unwrap().set_len(192 << 20).unwrap();
    fs::create_dir(mountpoint).unwrap();
    if !run("mkntfs", &["-q", "-F", "-Q", image])
        || !run("ntfs-3g", &["-o", "big_writes", image, mountpoint])
    {
        return false;
    }
    let copied = run("cp", &["-r", tree, mountpoint]);
    run("umount", &[mountpoint]) && copied
}

/// Number of entries below the root.
fn walk(volume: &dyn Volume) -> usize {
    let mut open = vec![volume.root()];
    let mut count = 0;
    while let Some(folder) = open.pop() {
        let mut found = Vec::new();
        volume
            .read_dir(folder, 0, &mut |entry| {
                found.push(entry);
                ControlFlow::Continue(())
            })
            .unwrap();
        for entry in found {
            let attributes = volume.attributes(entry.id).unwrap();
            if attributes.kind == EntryKind::Folder {
                open.push(entry.id);
            }
            count += 1;
        }
    }
    count
}

pub fn guest_walk(c: &mut Criterion) {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name).display().to_string();
    tree(&temp.path().join("tree"));
    let volumes = [
        ("ext4", ext4(&path("tree"), &path("ext4"))),
        ("ntfs", ntfs(&path("tree"), &path("ntfs"), &path("mnt"))),
    ];
    let mut group = c.benchmark_group("guest_walk");
    for (name, made) in volumes {
        if !made {
            println!("SKIPPED: guest_walk/{name}: its tools are not here, or cannot be used");
            continue;
        }
        let disk = cairn_disk::open(Path::new(&path(name))).unwrap();
        let open = || open_volume(disk.clone() as Arc<dyn ReadAt>).unwrap();
        let entries = walk(&*open());
        assert!(entries > FOLDERS * FILES, "{entries}");
        group.throughput(Throughput::Elements(entries as u64));
        group.bench_function(name, |b| {
            // Opened anew each time, so that nothing is known yet.
            b.iter(|| walk(&*open()));
        });
    }
    group.finish();
}

/// A volume mounted by ntfs-3g until it is dropped.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        run("umount", &[&self.0.display().to_string()]);
    }
}

/// A volume with files of the same bytes: `plain` in as few pieces as it gets, `fragments` in pieces of 64 KiB, and `packed`, compressed. Nothing if the tools are not
/// here.
fn large_files(folder: &Path, bytes: &[u8]) -> Option<PathBuf> {
    let (image, point) = (folder.join("large"), folder.join("mnt"));
    File::create(&image).unwrap().set_len(1 << 30).unwrap();
    fs::create_dir(&point).unwrap();
    let (image_text, point_text) = (image.display().to_string(), point.display().to_string());
    let options = ["-o", "big_writes,compression", &image_text, &point_text];
    if !run("mkntfs", &["-q", "-F", "-Q", &image_text]) || !run("ntfs-3g", &options) {
        return None;
    }
    let mounted = Mounted(point);
    fs::write(mounted.0.join("plain"), bytes).unwrap();
    // Two files that grow in turns lie between each other.
    let turns = ["fragments", "between"].map(|name| File::create(mounted.0.join(name)).unwrap());
    for (at, piece) in (0..).step_by(FRAGMENT).zip(bytes.chunks(FRAGMENT)) {
        for file in &turns {
            file.write_all_at(piece, at).unwrap();
        }
    }
    drop(turns);
    let packed = mounted.0.join("packed");
    fs::create_dir(&packed).unwrap();
    // FILE_ATTRIBUTE_COMPRESSED on the folder: new files inherit it.
    let flag = ["-h", "-n", "system.ntfs_attrib_be", "-v", "0x00000800"];
    let packed_text = packed.display().to_string();
    if run("setfattr", &[&flag[..], &[&packed_text]].concat()) {
        fs::write(packed.join("packed"), bytes).unwrap();
    }
    drop(mounted);
    warm(&image);
    Some(image)
}

/// A file's content, and where it lies on its volume.
type Placed = (Arc<dyn ReadAt>, Vec<Range<u64>>);

/// The file at `path`, if it is there.
fn places(volume: &dyn Volume, path: &[&str]) -> Option<Placed> {
    let mut id = volume.root();
    for name in path {
        id = volume.lookup(id, name.as_bytes()).unwrap()?.id;
    }
    let mut places = Vec::new();
    let sink = &mut |extent: cairn_guest::Extent| {
        places.push(extent.place);
        ControlFlow::Continue(())
    };
    volume.extents(id, sink).unwrap();
    Some((volume.open(id).unwrap(), places))
}

/// Reads the file once, before it the bytes of the image in which it lies, and answers how long the file took.
fn beside_image(
    image: &File,
    places: &[Range<u64>],
    content: &dyn ReadAt,
    buffer: &mut [u8],
    ratios: &mut Ratios,
) -> Duration {
    let started = Instant::now();
    for place in places {
        for at in place.clone().step_by(buffer.len()) {
            let length = (place.end - at).min(buffer.len() as u64) as usize;
            image.read_exact_at(&mut buffer[..length], at).unwrap();
            black_box(&buffer);
        }
    }
    let least = started.elapsed();
    let took = read_all(content, buffer);
    ratios.note(least, took);
    took
}

fn read_all(content: &dyn ReadAt, buffer: &mut [u8]) -> Duration {
    let started = Instant::now();
    for at in (0..content.size()).step_by(buffer.len()) {
        let length = (content.size() - at).min(buffer.len() as u64) as usize;
        content.read_exact_at(at, &mut buffer[..length]).unwrap();
        black_box(&buffer);
    }
    started.elapsed()
}

pub fn guest_read(c: &mut Criterion) {
    let temp = tempfile::tempdir().unwrap();
    let mut group = c.benchmark_group("guest_read");
    let bytes = realistic(LARGE, 11);
    let Some(path) = large_files(temp.path(), &bytes) else {
        println!("SKIPPED: guest_read: the tools for NTFS are not here, or cannot be used");
        return;
    };
    drop(bytes);
    let disk = cairn_disk::open(&path).unwrap();
    let volume = open_volume(disk as Arc<dyn ReadAt>).unwrap();
    let image = File::open(&path).unwrap();
    group.throughput(Throughput::Bytes(LARGE as u64));
    for name in ["plain", "fragments"] {
        let (content, places) = places(&*volume, &[name]).unwrap();
        println!("guest_read/{name}: {} pieces", places.len());
        for length in BUFFERS {
            let what = format!("{name}, {} KiB", length >> 10);
            let mut ratios = Ratios::default();
            group.bench_function(&what, |b| {
                let mut buffer = AlignedBuffer::new(length);
                b.iter_custom(|turns| {
                    let turn =
                        |_| beside_image(&image, &places, &*content, &mut buffer, &mut ratios);
                    (0..turns).map(turn).sum()
                });
            });
            ratios.tell(&format!("guest_read/{what}"), "a plain read of its bytes");
        }
    }
    match places(&*volume, &["packed", "packed"]) {
        None => println!("SKIPPED: guest_read/compressed: setfattr is not here"),
        Some((content, _)) => {
            group.bench_function("compressed with LZNT1", |b| {
                let mut buffer = AlignedBuffer::new(BUFFERS[0]);
                b.iter_custom(|turns| (0..turns).map(|_| read_all(&*content, &mut buffer)).sum());
            });
        }
    }
    group.finish();
}
