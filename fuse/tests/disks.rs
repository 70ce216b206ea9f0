//! What lies in `disks`: raw disks, and the images they are shown as. Skipped, saying so, where there is no `/dev/fuse`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests are here"
)]

mod shared;

use cairn::{DiskView, ReadAt, Result};
use cairn_fuse::{MountOptions, Mounted, Tree, mount_image, mount_store};
use shared::asked::{LATEST, content, find, image, names, try_find};
use shared::{fixture, fuse_is_there, run, store};
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::{TempDir, tempdir};

/// A disk that holds its first and last page and nothing else, and counts what is asked of it.
struct Hollow {
    size: u64,
    reads: AtomicU64,
    looks: AtomicU64,
}

impl Hollow {
    fn new(size: u64) -> Arc<Hollow> {
        Arc::new(Hollow {
            size,
            reads: AtomicU64::new(0),
            looks: AtomicU64::new(0),
        })
    }
}

impl ReadAt for Hollow {
    fn size(&self) -> u64 {
        self.size
    }
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        for (at, byte) in (offset..).zip(buffer) {
            let is_data = at < 4096 || at >= self.size - 4096;
            *byte = if is_data { at as u8 | 1 } else { 0 };
        }
        Ok(())
    }
    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let clip = |part: Range<u64>| part.start.max(range.start)..part.end.min(range.end);
        let parts = [0..4096, self.size - 4096..self.size].map(clip);
        Ok(parts.into_iter().filter(|part| !part.is_empty()).collect())
    }
}

fn hollow(size: u64, sector_size: Option<u32>) -> (Arc<Hollow>, DiskView) {
    let disk = Hollow::new(size);
    let view = DiskView::new("disk0", disk.clone(), sector_size);
    (disk, view)
}

/// **[disks]** `disks` shows each disk as `<disk>.raw`, and as `<disk>.vhd` and `<disk>.vhdx` if such an image can hold it: a VHD has at most 2040 GiB
/// and sectors of 512 bytes, a VHDX at most 64 TiB. Listing them and asking for their sizes reads no data, and of the map, once for each disk, what
/// its number of blocks is judged by: up to 1 GiB all of it, of a larger disk 256 samples. They are never 0, so that no program takes the file for a hole.
#[test]
fn disks_are_shown_as_what_can_hold_them() {
    for (size, sector_size, extensions) in [
        (1 << 30, None, &["raw", "vhd", "vhdx"][..]),
        (1 << 30, Some(512), &["raw", "vhd", "vhdx"]),
        (1 << 30, Some(4096), &["raw", "vhdx"]),
        (2040 << 30, None, &["raw", "vhd", "vhdx"]),
        ((2040 << 30) + 1, None, &["raw", "vhdx"]),
        (64 << 40, None, &["raw", "vhdx"]),
        ((64 << 40) + 512, None, &["raw"]),
    ] {
        let (disk, view) = hollow(size, sector_size);
        let tree = Tree::of_image(view);
        let wanted: Vec<String> = extensions.iter().map(|it| format!("disk0.{it}")).collect();
        assert_eq!(names(&tree, "disks"), wanted);
        for name in ["disk0.vhd", "disk0.vhdx", "disk0.raw"] {
            let stat = try_find(&tree, &format!("disks/{name}"));
            assert_eq!(
                stat.is_some(),
                wanted.contains(&name.to_string()),
                "{size} {name}"
            );
            if let Some(stat) = stat {
                assert!(stat.lasting && stat.attributes.size >= size && stat.blocks() > 0);
                assert!(stat.attributes.size > size || name == "disk0.raw");
                assert_eq!(tree.getattr(stat.inode).unwrap(), stat);
                tree.open(stat.inode).unwrap();
            }
        }
        let looks = if size > 1 << 30 { 256 } else { 1 };
        assert_eq!(disk.looks.load(Ordering::Relaxed), looks, "{size}");
        assert_eq!(disk.reads.load(Ordering::Relaxed), 0, "{size}");
        for name in [
            "disk0",
            "disk0.",
            "disk0.VHD",
            "disk1.vhd",
            "disk0.raw.vhd",
            ".vhd",
            "vhd",
        ] {
            assert!(
                try_find(&tree, &format!("disks/{name}")).is_none(),
                "{name}"
            );
        }
    }
}

/// **[images]** A `.vhd` or `.vhdx` is a dynamic image whose disk is, byte for byte, the raw one, rounded up with zeros to whole sectors. It is made as it is
/// read, and always the same file: its ids follow from the point and the disk's name. Blocks without data are not allocated in it; every block has a place of
/// its own, so that the file is as long as the disk, and holes of the file are where nothing is.
#[test]
fn images_are_the_disk_and_always_the_same() {
    let temp = tempdir().unwrap();
    let tree = Tree::of_store(store(temp.path()));
    let whole = fs::read(&fixture().disk).unwrap();
    let mut seen = Vec::new();
    for name in ["disk0.vhd", "disk0.vhdx"] {
        let shown = content(&tree, &format!("{LATEST}/disks/{name}"));
        let path = temp.path().join(name);
        fs::write(&path, &shown).unwrap();
        let back = DiskView::open_image(&path).unwrap();
        assert!(back.warnings().is_empty());
        let mut bytes = vec![0; back.size() as usize];
        back.disk().read_exact_at(0, &mut bytes).unwrap();
        assert!(bytes == whole, "{name}");
        // Another look by another process would see the same; another point has other ids.
        let again = Tree::of_store(cairn::Store::open(&temp.path().join("store")).unwrap());
        assert!(content(&again, &format!("{LATEST}/disks/{name}")) == shown);
        let other = content(&tree, &format!("web01/2026-11-19T02-00-00Z/disks/{name}"));
        assert!(other.len() == shown.len() && other != shown);
        seen.push(find(&tree, &format!("{LATEST}/disks/{name}")).inode);
        assert_eq!(
            seen.last(),
            Some(&find(&again, &format!("{LATEST}/disks/{name}")).inode)
        );
    }
    seen.push(find(&tree, &format!("{LATEST}/disks/disk0.raw")).inode);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3);
    // Of a size that is not made of sectors.
    let (_, view) = hollow((5 << 20) + 77, None);
    let tree = Tree::of_image(view);
    for name in ["disk0.vhd", "disk0.vhdx"] {
        let path = temp.path().join(name);
        fs::write(&path, content(&tree, &format!("disks/{name}"))).unwrap();
        let back = DiskView::open_image(&path).unwrap();
        assert_eq!(back.size(), (5 << 20) + 512);
        let mut end = [1; 435 + 1];
        back.disk().read_exact_at((5 << 20) + 76, &mut end).unwrap();
        assert!(end[0] != 0 && end[1..].iter().all(|byte| *byte == 0));
    }
    let sizes = ["raw", "vhd", "vhdx"].map(|it| find(&image(), &format!("disks/disk0.{it}")));
    let [raw, vhd, vhdx] = sizes.map(|stat| stat.attributes);
    assert!(vhd.size > raw.size && vhdx.size > raw.size);
    assert!(vhd.allocated < vhd.size && vhdx.allocated < vhdx.size);
}

/// A mount of one disk.
fn mounted(view: DiskView) -> Option<(Mounted, TempDir)> {
    if !fuse_is_there() {
        return None;
    }
    let folder = tempdir().unwrap();
    let mounted = mount_image(view, folder.path(), &MountOptions::default()).unwrap();
    Some((mounted, folder))
}

fn compare(raw: &Path, image: &Path) {
    let format = match image.extension().unwrap().to_str().unwrap() {
        "vhd" => "vpc",
        other => other,
    };
    let (raw, image) = (raw.to_str().unwrap(), image.to_str().unwrap());
    if format == "vhdx" {
        run("qemu-img", &["check", "-q", "-f", format, image]);
    }
    run(
        "qemu-img",
        &["compare", "-q", "-f", "raw", "-F", format, raw, image],
    );
}

/// QEMU and libvhdi read the images of a point through the kernel, and find the disk that was backed up.
#[test]
fn hypervisors_read_images_through_the_mount() {
    if !fuse_is_there() {
        return;
    }
    let (temp, folder) = (tempdir().unwrap(), tempdir().unwrap());
    let options = MountOptions::default();
    let mounted = mount_store(store(temp.path()), folder.path(), &options).unwrap();
    let disks = folder.path().join(LATEST).join("disks");
    let raw = disks.join("disk0.raw");
    for name in ["disk0.vhd", "disk0.vhdx"] {
        let image = disks.join(name);
        assert_eq!(fs::metadata(&image).unwrap().mode() & 0o7777, 0o400);
        compare(&fixture().disk, &image);
        compare(&raw, &image);
        // A sparse copy of it is still the disk.
        let copy = temp.path().join(name);
        run(
            "cp",
            &[
                "--sparse=auto",
                image.to_str().unwrap(),
                copy.to_str().unwrap(),
            ],
        );
        let (copied, shown) = (fs::metadata(&copy).unwrap(), fs::metadata(&image).unwrap());
        assert_eq!(copied.len(), shown.len());
        assert!(copied.blocks() * 512 < shown.len());
        compare(&raw, &copy);
        if Command::new("vhdiinfo").arg("-V").output().is_err() {
            println!("SKIPPED: no vhdiinfo (libvhdi-utils)");
            continue;
        }
        let inside = tempdir().unwrap();
        run(
            "vhdimount",
            &[image.to_str().unwrap(), inside.path().to_str().unwrap()],
        );
        let found = fs::read_dir(inside.path())
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        let same = fs::read(found).unwrap() == fs::read(&fixture().disk).unwrap();
        run("fusermount3", &["-u", inside.path().to_str().unwrap()]);
        assert!(same, "{name}");
    }
    drop(mounted);
}

/// The largest disks there can be: opened by QEMU and read at their ends through the kernel, in no time.
#[test]
fn the_largest_disks_are_read_through_the_mount() {
    for (size, name, format) in [
        (2040u64 << 30, "disk0.vhd", "vpc"),
        (64 << 40, "disk0.vhdx", "vhdx"),
    ] {
        let Some((_mounted, folder)) = mounted(hollow(size, None).1) else {
            return;
        };
        let image = folder.path().join("disks").join(name);
        let image = image.to_str().unwrap();
        let said = run("qemu-img", &["info", "-f", format, image]);
        assert!(said.contains(&format!("({size} bytes)")), "{said}");
        let raw = File::open(folder.path().join("disks/disk0.raw")).unwrap();
        for at in [0, 4096, size / 2, size - 4096] {
            let mut wanted = [0; 512];
            raw.read_exact_at(&mut wanted, at).unwrap();
            let read = format!("read -v {at} 512");
            let said = run("qemu-io", &["-r", "-f", format, "-c", &read, image]);
            // Lines of a place, 16 bytes, and the same as text.
            let dumped: Vec<u8> = said
                .lines()
                .filter_map(|line| line.split_once(":  "))
                .flat_map(|(_, bytes)| bytes.split(' ').take(16))
                .map(|byte| u8::from_str_radix(byte, 16).unwrap())
                .collect();
            assert!(dumped == wanted, "{at}: {said}");
        }
    }
}
