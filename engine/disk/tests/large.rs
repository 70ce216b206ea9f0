//! The largest disks there may be: to open one costs little, whatever its block table would weigh, and to look through one is bounded work.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "shared/counted.rs"]
mod counted;
#[path = "chains/made.rs"]
#[allow(dead_code, reason = "made for chains; one image is enough here")]
mod made;
mod shared;

use cairn_base::read_at::read_vec;
use cairn_disk::write::{DiskWriter, VhdWriter, VhdxOptions, VhdxWriter};
use counted::opened;
use shared::run;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// A large disk: its image, its size and that of a block, and at which places it has something other than zeros, 4 KiB each.
struct Large {
    name: String,
    path: PathBuf,
    size: u64,
    block_size: u64,
    places: Vec<u64>,
}

/// The first block, one in the middle, and the last one.
fn places(size: u64) -> Vec<u64> {
    vec![8192, size / 2 + 4096, size - 4096]
}

fn ours(folder: &Path, size: u64, block_size: u32) -> Large {
    let path = folder.join(format!("ours-{block_size}"));
    let options = VhdxOptions {
        block_size: Some(block_size),
        ..VhdxOptions::default()
    };
    let writer = VhdxWriter::create(&path, size, options).unwrap();
    finished(Box::new(writer), path, u64::from(block_size))
}

fn finished(writer: Box<dyn DiskWriter>, path: PathBuf, block_size: u64) -> Large {
    let size = writer.size();
    for at in places(size) {
        writer.write_at(at, &[0x5a; 4096]).unwrap();
    }
    writer.finish().unwrap();
    Large {
        name: path.file_name().unwrap().to_string_lossy().into_owned(),
        path,
        size,
        block_size,
        places: places(size),
    }
}

/// Made and written to by QEMU; `None` where it is not there.
fn of_qemu(folder: &Path, size: u64, block_size: u64) -> Option<Large> {
    if Command::new("qemu-img").arg("--version").output().is_err() {
        println!("SKIPPED: qemu-img is missing");
        return None;
    }
    let path = folder.join(format!("qemu-{block_size}"));
    run(Command::new("qemu-img")
        .args(["create", "-q", "-f", "vhdx", "-o"])
        .arg(format!("block_size={block_size}"))
        .arg(&path)
        .arg(size.to_string()));
    let mut qemu_io = Command::new("qemu-io");
    qemu_io.args(["-f", "vhdx"]);
    for at in places(size) {
        qemu_io.args(["-c", &format!("write -P 0x5a {at} 4096")]);
    }
    run(qemu_io.arg(&path));
    Some(Large {
        name: format!("QEMU, {block_size}"),
        path,
        size,
        block_size,
        places: places(size),
    })
}

/// A VHD with blocks of a size that no tool makes.
fn by_hand(folder: &Path, size: u64, block_size: u32) -> Large {
    let places = places(size);
    let ops = places.iter().map(|at| at / 512..at / 512 + 8);
    let image = made::Image {
        kind: made::Kind::Vhd,
        path: folder.join(format!("vhd-{block_size}")),
        size,
        block_size,
        sector: 512,
        number: 1,
        parent: None,
        ops: ops.map(made::Op::Data).collect(),
    };
    image.write();
    Large {
        name: format!("VHD, {block_size}"),
        path: image.path,
        size,
        block_size: u64::from(block_size),
        places,
    }
}

fn all(folder: &Path) -> Vec<Large> {
    let vhd = folder.join("vhd");
    let writer = Box::new(VhdWriter::create(&vhd, 2040 * GIB, None).unwrap());
    let mut all = vec![
        ours(folder, 64 * TIB, 1 << 20),
        ours(folder, 64 * TIB, 64 << 20),
        ours(folder, 64 * TIB, 256 << 20),
        finished(writer, vhd, 2 * MIB),
        by_hand(folder, 2040 * GIB, 512 << 10),
    ];
    for block_size in [MIB, 256 * MIB] {
        all.extend(of_qemu(folder, 64 * TIB, block_size));
    }
    all
}

#[test]
fn the_largest_disks_are_read_without_their_tables() {
    let folder = tempfile::tempdir().unwrap();
    for large in all(folder.path()) {
        let name = &large.name;
        let (disk, work) = opened(&large.path);
        assert_eq!(disk.size(), large.size, "{name}");
        let (reads, bytes, looks) = work.take();
        assert!(
            reads < 40 && bytes < 512 * KIB && looks == 0,
            "{name}: opening took {reads} reads of {bytes} bytes and {looks} looks for holes"
        );
        for at in &large.places {
            let expected = |offset: u64| match large.path.ends_with("vhd-524288") {
                true => made::byte(1, offset),
                false => 0x5a,
            };
            let found = read_vec(&*disk, *at, 4096).unwrap();
            let right = |(offset, byte): (u64, &u8)| *byte == expected(offset);
            assert!((*at..).zip(&found).all(right), "{name}: at {at}");
            // A page of the table, a bitmap of a VHD, the data.
            let (reads, bytes, _) = work.take();
            assert!(
                reads <= 3 && bytes <= 3 * 4096,
                "{name}: {reads}, {bytes} bytes"
            );
            // In front of it there is nothing.
            let before = read_vec(&*disk, at - 4096, 4096).unwrap();
            assert!(before.iter().all(|byte| *byte == 0), "{name}: before {at}");
            work.take();
        }
        let far = read_vec(&*disk, large.size / 3, 8 << 20).unwrap();
        assert!(far.iter().all(|byte| *byte == 0), "{name}");
        let (reads, ..) = work.take();
        assert!(reads <= 2, "{name}: {reads} reads of zeros");
    }
}

#[test]
fn extents_of_the_largest_disks_are_bounded_work() {
    let folder = tempfile::tempdir().unwrap();
    for large in all(folder.path()) {
        let name = &large.name;
        let (disk, work) = opened(&large.path);
        work.take();
        let extents = disk.data_extents(0..u64::MAX).unwrap();
        let (reads, bytes, looks) = work.take();
        // Holes of the file within blocks are holes of the disk. What was made by hand has something to hide in its blocks.
        assert!(extents.len() <= 6, "{name}: {extents:?}");
        for at in &large.places {
            let inside = |extent: &&Range<u64>| extent.start <= *at && at + 4096 <= extent.end;
            let extent = extents.iter().find(inside).unwrap();
            let length = extent.end - extent.start;
            assert!(length <= large.block_size, "{name}: {extent:?}");
        }
        // The table is walked in steps, each one read at most, and in a VHDX only where the file has something of it.
        let steps = large.size.div_ceil(large.block_size).div_ceil(8192);
        assert!(
            reads <= steps && looks <= steps + 16,
            "{name}: {reads}, {looks}, {steps}"
        );
        // QEMU writes all of a table.
        let is_ours = large.name.starts_with("ours");
        let table = large.size / large.block_size * 8;
        let most = if is_ours { 0 } else { table } + MIB;
        assert!(bytes < most, "{name}: {bytes} bytes were read");
        assert!(!is_ours || reads <= 3, "{name}: {reads}");
        // And a backup, which asks for a GiB at a time, does not read anything twice.
        for at in 0..64 {
            disk.data_extents(at * GIB..(at + 1) * GIB).unwrap();
        }
        let (reads, bytes, _) = work.take();
        assert!(
            reads <= 64 * 2 && bytes <= MIB,
            "{name}: {reads} reads of {bytes} bytes"
        );
    }
}

/// Private memory of this process in KiB; `None` where the system does not tell.
fn private_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// The name of an image, for the process that measures itself.
const IMAGE: &str = "CAIRN_TEST_LARGE_IMAGE";

#[test]
fn the_largest_disks_take_little_memory() {
    if let Some(path) = std::env::var_os(IMAGE) {
        let before = private_memory().unwrap();
        let disk = cairn_disk::open(Path::new(&path)).unwrap();
        disk.data_extents(0..u64::MAX).unwrap();
        for part in 0..500 {
            read_vec(&*disk, disk.size() / 500 * part, 4096).unwrap();
        }
        println!("took {} KiB", private_memory().unwrap() - before);
        return;
    }
    if private_memory().is_none() {
        println!("SKIPPED: the system does not tell the memory of a process");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for large in all(folder.path()) {
        // A process of its own, in which no other test runs.
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "the_largest_disks_take_little_memory"]);
        let text = run(again.arg("--nocapture").env(IMAGE, &large.path));
        let (_, text) = text.split_once("took ").unwrap();
        let (took, _) = text.split_once(" KiB").unwrap();
        let took: u64 = took.parse().unwrap();
        // Of a table 4 MiB are kept, and of a VHD's bitmaps a byte each, 4 MiB at most.
        assert!(took < 12 * KIB, "{}: {took} KiB", large.name);
    }
}
