//! Images of every kind and size that are written here, as other programs see them: QEMU's tools and libvhdi. And as their
//! specifications want them, byte for byte.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shared;
#[path = "shared/vhdi.rs"]
mod vhdi;

use cairn_disk::vhd::footer::{Footer, Geometry};
use cairn_disk::write::{
    DiskWriter, FixedVhdWriter, FixedVhdxWriter, VhdWriter, VhdxOptions, VhdxWriter,
};
use cairn_disk::{Format, Written, open};
use serde_json::Value;
use shared::{check_same, run};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use vhdi::Mounted;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// All that is written, with QEMU's names.
const FORMATS: [(Format, &str); 4] = [
    (Format::VhdDynamic, "vpc"),
    (Format::VhdFixed, "vpc"),
    (Format::VhdxDynamic, "vhdx"),
    (Format::VhdxFixed, "vhdx"),
];

/// A disk, mostly of zeros.
struct Disk {
    size: u64,
    /// Where there is data, and how much: ascending.
    pieces: Vec<(u64, u64)>,
}

impl Disk {
    /// Data at both ends and here and there, in pieces that fit no block.
    fn mixed(size: u64) -> Disk {
        let mut pieces = vec![(0, 5000.min(size))];
        for place in 1..9 {
            let at = size / 10 * place + 77;
            if at > 100_000 * place {
                pieces.push((at, 50_000 * place.min(size / MIB)));
            }
        }
        if size > 20_000 {
            pieces.push((size - 600, 600));
        }
        Disk { size, pieces }
    }

    fn bytes(&self, (at, length): (u64, u64)) -> Vec<u8> {
        (at..at + length)
            .map(|at| ((at / 509 * 7 + at % 251 + at / 1_000_003) as u8) | 1)
            .collect()
    }

    /// Written as a raw file by no code of ours.
    fn raw(&self, folder: &Path) -> PathBuf {
        let path = folder.join("disk.raw");
        let file = File::create(&path).unwrap();
        file.set_len(self.size).unwrap();
        for piece in &self.pieces {
            file.write_all_at(&self.bytes(*piece), piece.0).unwrap();
        }
        path
    }

    /// As a restore writes it: data is announced in disk order and comes in another one.
    fn write(&self, writer: Box<dyn DiskWriter>) -> Written {
        for (at, length) in &self.pieces {
            writer.reserve(*at..at + length).unwrap();
        }
        for piece in self.pieces.iter().rev() {
            writer.write_at(piece.0, &self.bytes(*piece)).unwrap();
        }
        writer.finish().unwrap()
    }

    /// What `read` gives where there is data, around it, and in the middle of nothing, is right.
    fn check_places(&self, what: &str, read: &dyn Fn(u64, &mut [u8])) {
        let mut places: Vec<(u64, u64)> = vec![(self.size / 3, 4096), (self.size / 7 * 5, 4096)];
        for (at, length) in &self.pieces {
            places.push((at.saturating_sub(5000), length + 10_000));
        }
        for (at, length) in places {
            let mut expected = vec![0; length.min(self.size - at) as usize];
            for piece in &self.pieces {
                for (byte, place) in self.bytes(*piece).into_iter().zip(piece.0..) {
                    if let Some(slot) = place.checked_sub(at).map(|slot| slot as usize)
                        && slot < expected.len()
                    {
                        expected[slot] = byte;
                    }
                }
            }
            let mut found = vec![0xEE; expected.len()];
            read(at, &mut found);
            assert!(found == expected, "{what}: differs near {at}");
        }
    }
}

fn writer(format: Format, path: &Path, size: u64) -> Box<dyn DiskWriter> {
    let vhdx = VhdxOptions::default();
    match format {
        Format::VhdDynamic => Box::new(VhdWriter::create(path, size, None).unwrap()),
        Format::VhdFixed => Box::new(FixedVhdWriter::create(path, size, None).unwrap()),
        Format::VhdxDynamic => Box::new(VhdxWriter::create(path, size, vhdx).unwrap()),
        _ => Box::new(FixedVhdxWriter::create(path, size, vhdx).unwrap()),
    }
}

fn qemu_img() -> Command {
    Command::new("qemu-img")
}

/// QEMU accepts the image and sees so many bytes.
fn check_by_qemu(image: &Path, name: &str, size: u64, what: &str) {
    // Of a VHD there is nothing that it checks.
    if name == "vhdx" {
        run(qemu_img().args(["check", "-f", name]).arg(image));
    }
    let info = run(qemu_img()
        .args(["info", "--output=json", "-f", name])
        .arg(image));
    let info: Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["virtual-size"].as_u64(), Some(size), "{what}");
}

fn compare_by_qemu(raw: &Path, image: &Path, name: &str) {
    run(qemu_img()
        .args(["compare", "-f", "raw", "-F", name])
        .args([raw, image]));
}

/// QEMU reads the same from a VHDX as from the raw disk around each piece of data, and in the middle of nothing.
fn compare_places_by_qemu(disk: &Disk, raw: &Path, image: &Path) {
    let read = [raw, image].map(|path| {
        let format = if path == raw { "raw" } else { "vhdx" };
        let mut qemu_io = Command::new("qemu-io");
        qemu_io.args(["-r", "-f", format]);
        for (at, _) in disk.pieces.iter().chain(&[(disk.size / 3, 0)]) {
            let at = (at.saturating_sub(4096) & !511).min(disk.size - 8192);
            qemu_io.args(["-c", &format!("read -v {at} 8192")]);
        }
        let text = run(qemu_io.arg(path));
        let bytes = text.lines().filter(|line| line.contains(":  "));
        bytes.map(str::to_string).collect::<Vec<_>>()
    });
    assert_eq!(read[0].len(), (disk.pieces.len() + 1) * 512);
    assert!(read[0].iter().any(|line| !line.contains(":  00 00")));
    assert!(read[0] == read[1]);
}

/// libvhdi reads the disk where there is data, and in the middle of nothing.
fn check_by_libvhdi(disk: &Disk, mounted: &Mounted, what: &str) {
    let theirs = File::open(mounted.disk(1)).unwrap();
    assert_eq!(theirs.metadata().unwrap().len(), disk.size, "{what}");
    disk.check_places(&format!("{what}: libvhdi"), &|at, buffer| {
        theirs.read_exact_at(buffer, at).unwrap();
    });
}

/// What libvhdi's own program says of an image.
fn vhdiinfo(image: &Path) -> String {
    run(Command::new("vhdiinfo").arg(image))
}

#[test]
fn every_size_is_what_others_read() {
    let work = tempfile::tempdir().unwrap();
    let has_libvhdi = Mounted::is_possible();
    let last_byte = |size| Disk {
        size,
        pieces: vec![(size - 1, 1)],
    };
    let nothing = |size| Disk {
        size,
        pieces: Vec::new(),
    };
    let disks = [
        Disk::mixed(512),
        Disk::mixed(7 * 512),
        Disk::mixed(MIB - 512),
        Disk::mixed(2 * MIB),
        // One sector more than a block, than a MiB, and a size of no cylinders.
        Disk::mixed(2 * MIB + 512),
        Disk::mixed(33 * MIB + 3 * 512),
        Disk::mixed(150 * MIB + 7 * 512),
        last_byte(512),
        last_byte(8 * MIB),
        last_byte(33 * MIB + 512),
        nothing(512),
        nothing(33 * MIB + 512),
    ];
    for disk in disks {
        let raw = disk.raw(work.path());
        for (format, name) in FORMATS {
            let what = format!("{format} of {} bytes", disk.size);
            let image = work.path().join("image");
            let written = disk.write(writer(format, &image, disk.size));
            assert_eq!(written.disk_size, disk.size, "{what}");
            let found = std::fs::metadata(&image).unwrap();
            assert_eq!(found.len(), written.file_size, "{what}");
            let ours = open(&image).unwrap();
            assert_eq!(ours.format(), format, "{what}");
            assert!(ours.warnings().is_empty(), "{what}: {:?}", ours.warnings());
            check_same(&*ours, &*open(&raw).unwrap(), &what);
            check_by_qemu(&image, name, disk.size, &what);
            compare_by_qemu(&raw, &image, name);
            if has_libvhdi {
                let info = vhdiinfo(&image);
                let is_fixed = matches!(format, Format::VhdFixed | Format::VhdxFixed);
                let kind = if is_fixed { "Fixed" } else { "Dynamic" };
                assert!(info.contains(kind), "{what}: {info}");
                assert!(
                    info.contains(&format!("{} bytes", disk.size)),
                    "{what}: {info}"
                );
                let mounted = Mounted::of(&image);
                let theirs = std::fs::read(mounted.disk(1)).unwrap();
                assert!(theirs == std::fs::read(&raw).unwrap(), "{what}: libvhdi");
            }
            std::fs::remove_file(&image).unwrap();
        }
    }
}

#[test]
fn the_largest_disks_are_what_others_read() {
    let work = tempfile::tempdir().unwrap();
    let has_libvhdi = Mounted::is_possible();
    let around = |places: &[u64], size| Disk {
        size,
        pieces: places.iter().map(|at| (at - 700, 1400)).collect(),
    };
    // QEMU reads every byte of a VHDX to compare it: of that one, places.
    let cases = [
        (Format::VhdDynamic, "vpc", 2040 * GIB),
        (Format::VhdFixed, "vpc", 2040 * GIB),
        (Format::VhdxDynamic, "vhdx", 3 * TIB + 512),
        (Format::VhdxFixed, "vhdx", 3 * TIB + 512),
    ];
    for (format, name, size) in cases {
        let mut disk = around(&[4 * GIB, 777 * 16 * MIB, TIB, size - GIB], size);
        disk.pieces.insert(0, (0, 5));
        disk.pieces.push((size - 1, 1));
        let what = format!("{format} of {size} bytes");
        let image = work.path().join("image");
        let written = disk.write(writer(format, &image, size));
        let found = std::fs::metadata(&image).unwrap();
        assert_eq!(found.len(), written.file_size, "{what}");
        let used = found.blocks() * 512;
        assert!(used < 8 * MIB, "{what}: {used} bytes of the disk are used");
        check_by_qemu(&image, name, size, &what);
        let ours = open(&image).unwrap();
        disk.check_places(&what, &|at, buffer| ours.read_exact_at(at, buffer).unwrap());
        let raw = disk.raw(work.path());
        if name == "vpc" {
            compare_by_qemu(&raw, &image, name);
        } else {
            compare_places_by_qemu(&disk, &raw, &image);
        }
        // Libvhdi takes it that the table of a fixed VHDX has no entries of sector bitmaps: what it reads behind the first chunk, 4 GiB here, lies
        // elsewhere, in those that QEMU makes too.
        if has_libvhdi && format != Format::VhdxFixed {
            let mounted = Mounted::of(&image);
            check_by_libvhdi(&disk, &mounted, &what);
        }
        std::fs::remove_file(&image).unwrap();
    }
}

#[test]
fn a_table_that_is_written_in_several_pieces_is_what_others_read() {
    let work = tempfile::tempdir().unwrap();
    // Every 512th block of 1 MiB is there: their entries, and the zeros between them, are more than the MiB of table that is written at once.
    let (step, count) = (512 * MIB, 300);
    let size = step * count + 3 * 512;
    let pieces: Vec<(u64, u64)> = (0..count).map(|at| (at * step + 4000, 700)).collect();
    let disk = Disk { size, pieces };
    let image = work.path().join("image.vhdx");
    let options = VhdxOptions {
        block_size: Some(1 << 20),
        ..VhdxOptions::default()
    };
    let writer = VhdxWriter::create(&image, size, options).unwrap();
    let written = disk.write(Box::new(writer));
    let found = std::fs::metadata(&image).unwrap();
    assert_eq!(found.len(), written.file_size);
    let ours = open(&image).unwrap();
    assert!(ours.warnings().is_empty(), "{:?}", ours.warnings());
    disk.check_places("ours", &|at, buffer| {
        ours.read_exact_at(at, buffer).unwrap()
    });
    let extents = ours.data_extents(0..u64::MAX).unwrap();
    assert_eq!(extents.len(), disk.pieces.len());
    for (extent, (at, length)) in extents.iter().zip(&disk.pieces) {
        assert!(
            extent.start <= *at && at + length <= extent.end,
            "{extent:?}"
        );
    }
    check_by_qemu(&image, "vhdx", size, "vhdx");
    let map = run(qemu_img()
        .args(["map", "--output=json", "-f", "vhdx"])
        .arg(&image));
    let map: Value = serde_json::from_str(&map).unwrap();
    let lengths = map.as_array().unwrap().iter();
    let mapped: u64 = lengths.map(|part| part["length"].as_u64().unwrap()).sum();
    assert_eq!(mapped, size);
    let raw = disk.raw(work.path());
    compare_places_by_qemu(&disk, &raw, &image);
    if Mounted::is_possible() {
        check_by_libvhdi(&disk, &Mounted::of(&image), "vhdx");
    }
}

#[test]
fn sectors_of_4096_bytes_are_what_libvhdi_reads() {
    if !Mounted::is_possible() {
        return;
    }
    let work = tempfile::tempdir().unwrap();
    // QEMU reads no VHDX with such sectors. At 32 GiB the first chunk of a sector bitmap ends, behind which libvhdi reads no fixed one.
    for (size, is_fixed) in [
        (4096, false),
        (4096, true),
        (33 * MIB + 4096, false),
        (33 * MIB + 4096, true),
        (30 * GIB, true),
        (70 * GIB + 8192, false),
    ] {
        let disk = Disk::mixed(size);
        let options = VhdxOptions {
            sector_size: 4096,
            block_size: Some(1 << 20),
            disk_id: None,
        };
        let image = work.path().join("image");
        let writer: Box<dyn DiskWriter> = match is_fixed {
            false => Box::new(VhdxWriter::create(&image, size, options).unwrap()),
            true => Box::new(FixedVhdxWriter::create(&image, size, options).unwrap()),
        };
        disk.write(writer);
        let ours = open(&image).unwrap();
        assert_eq!(ours.sector_size(), 4096);
        let what = format!("{size}, fixed: {is_fixed}");
        disk.check_places(&what, &|at, buffer| ours.read_exact_at(at, buffer).unwrap());
        check_by_libvhdi(&disk, &Mounted::of(&image), &what);
        std::fs::remove_file(&image).unwrap();
    }
}

#[test]
fn what_is_zeros_is_not_there() {
    let work = tempfile::tempdir().unwrap();
    let size = 300 * MIB + 512;
    let disk = Disk {
        size,
        pieces: vec![(5 * MIB + 77, 3 * MIB), (size - 1, 1)],
    };
    for (format, name) in FORMATS {
        let image = work.path().join("image");
        let writer = writer(format, &image, size);
        // Zeros that are written, and zeros that are named.
        writer.write_at(100 * MIB, &vec![0; 4 << 20]).unwrap();
        writer.write_zeros(200 * MIB..250 * MIB).unwrap();
        disk.write(writer);
        let used = std::fs::metadata(&image).unwrap().blocks() * 512;
        assert!(used < 9 * MIB, "{format}: {used} bytes are used");
        if format == Format::VhdDynamic {
            let map = run(qemu_img()
                .args(["map", "--output=json", "-f", name])
                .arg(&image));
            let map: Value = serde_json::from_str(&map).unwrap();
            let data = map.as_array().unwrap().iter();
            let data = data.filter(|entry| entry["data"] == true);
            let starts: Vec<_> = data.map(|entry| entry["start"].as_u64()).collect();
            let blocks = [4 * MIB, 6 * MIB, 8 * MIB, 300 * MIB];
            assert_eq!(starts, blocks.map(Some));
        }
        std::fs::remove_file(&image).unwrap();
    }
}

#[test]
fn cylinders_heads_and_sectors_are_those_of_qemu() {
    let work = tempfile::tempdir().unwrap();
    let image = work.path().join("image");
    // Each branch of the computation, on both sides of its borders.
    for mib in [
        0, 1, 2, 33, 70, 100, 126, 127, 139, 246, 247, 300, 504, 1024, 5000, 32_000, 32_256,
        33_000, 120_000, 130_000,
    ] {
        // Asked like this, QEMU makes the disk so large that they cover it.
        run(qemu_img()
            .args(["create", "-q", "-f", "vpc", "-o", "subformat=fixed"])
            .arg(&image)
            .arg((mib * MIB).max(512).to_string()));
        let file = File::open(&image).unwrap();
        let size = file.metadata().unwrap().len() - 512;
        let mut bytes = [0; 512];
        file.read_exact_at(&mut bytes, size).unwrap();
        let theirs = Footer::parse(&bytes, size).unwrap();
        assert_eq!(theirs.current_size, size);
        assert_eq!(Geometry::of(size), theirs.geometry, "{size} bytes");
        assert_eq!(theirs.geometry.bytes(), size);
        // A sector less is a cylinder less: what others see is never more than there is.
        assert!(Geometry::of(size - 512).bytes() < size);
    }
}
