//! Views of disks as VHD and VHDX, before programs that know these formats: QEMU's tools and libvhdi's.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shared;

use cairn_base::read_at::{check_range, clip, read_vec};
use cairn_base::{ReadAt, Time};
use cairn_disk::{FormatHint, ViewFormat, ViewOptions, open, open_bytes, view};
use serde_json::Value;
use shared::{check_same, foreign_images, run, unpack};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// What `disk` is as a file of `format`.
fn shown(disk: Arc<dyn ReadAt>, format: ViewFormat, sector_size: u32) -> Arc<dyn ReadAt> {
    let options = ViewOptions {
        sector_size,
        seed: b"views",
        time: Time::from_seconds(1_795_000_000),
    };
    view(disk, format, &options).unwrap()
}

/// Writes all of `bytes` that may be something other than zeros to a file with holes.
fn write_out(bytes: &dyn ReadAt, path: &Path) {
    let file = File::create(path).unwrap();
    file.set_len(bytes.size()).unwrap();
    for extent in bytes.data_extents(0..u64::MAX).unwrap() {
        let mut at = extent.start;
        while at < extent.end {
            let length = (extent.end - at).min(1 << 20);
            let piece = read_vec(bytes, at, length as usize).unwrap();
            file.write_all_at(&piece, at).unwrap();
            at += length;
        }
    }
}

/// What QEMU calls the format.
fn qemu_name(format: ViewFormat) -> &'static str {
    match format {
        ViewFormat::Vhd => "vpc",
        ViewFormat::Vhdx => "vhdx",
    }
}

/// QEMU finds no fault in the image, and the raw disk in it.
fn check_with_qemu(raw: &Path, image: &Path, format: ViewFormat, size: u64) {
    let name = qemu_name(format);
    let qemu_img = || Command::new("qemu-img");
    if format == ViewFormat::Vhdx {
        // Of a VHD it has nothing to check.
        run(qemu_img().args(["check", "-q", "-f", name]).arg(image));
    }
    // It knows nothing of the holes of a VHDX, and would read them all.
    if format == ViewFormat::Vhd || size < 1 << 30 {
        run(qemu_img()
            .args(["compare", "-q", "-f", "raw", "-F", name])
            .args([raw, image]));
    }
    let info = run(qemu_img()
        .args(["info", "--output=json", "-f", name])
        .arg(image));
    let info: Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["virtual-size"].as_u64(), Some(size));
}

/// libvhdi says what the image is, and shows the raw disk in it.
fn check_with_libvhdi(raw: &Path, image: &Path, size: u64, sector_size: u32) {
    let there = Command::new("vhdiinfo").arg("-V").output().is_ok();
    if !there || !Path::new("/dev/fuse").exists() {
        println!("SKIPPED: no vhdiinfo (libvhdi-utils), or no /dev/fuse for vhdimount");
        return;
    }
    let info = run(Command::new("vhdiinfo").arg(image));
    let line = |label: &str| {
        let line = info.lines().find(|line| line.contains(label)).unwrap();
        line.split_once(": ").unwrap().1.to_string()
    };
    assert!(line("Disk type").contains("Dynamic"), "{info}");
    let media_size = line("Media size");
    assert!(
        media_size == format!("{size} bytes") || media_size.ends_with(&format!("({size} bytes)")),
        "{info}"
    );
    assert_eq!(line("Bytes per sector"), format!("{sector_size} bytes"));
    let folder = tempfile::tempdir().unwrap();
    run(Command::new("vhdimount").args([image, folder.path()]));
    let name = if image.extension().unwrap() == "vhd" {
        "vhd1"
    } else {
        "vhdi1"
    };
    let inside = [name, "vhdi1", "vhd1"].map(|name| folder.path().join(name));
    let inside = inside.iter().find(|path| path.exists()).cloned();
    let same = inside.map(|inside| {
        let compared = Command::new("cmp").args([&inside, raw]).output().unwrap();
        (compared.status.success(), compared)
    });
    run(Command::new("fusermount3").arg("-u").arg(folder.path()));
    let (same, compared) = same.unwrap();
    assert!(same, "{compared:?}");
}

/// A raw disk of `size` bytes, of which the last pieces are noise, here and there.
fn sample(folder: &Path, size: u64) -> PathBuf {
    let path = folder.join(format!("{size}.raw"));
    let file = File::create(&path).unwrap();
    file.set_len(size).unwrap();
    let mut state = size | 1;
    let mut put = |at: u64, length: u64| {
        let bytes: Vec<u8> = (0..length.min(size - at))
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8 | 1
            })
            .collect();
        file.write_all_at(&bytes, at).unwrap();
    };
    put(0, 4096);
    put(size.saturating_sub(500), 500);
    for place in 1..7 {
        put(size / 8 * place, 40_000 * place);
    }
    path
}

#[test]
fn others_read_what_is_shown() {
    let work = tempfile::tempdir().unwrap();
    for size in [512, 1000, (17 << 20) + 512 * 7, 5 << 30] {
        let raw = sample(work.path(), size);
        let disk: Arc<dyn ReadAt> = open(&raw).unwrap();
        for (format, sector_size) in [
            (ViewFormat::Vhd, 512),
            (ViewFormat::Vhdx, 512),
            (ViewFormat::Vhdx, 4096),
        ] {
            let image = work.path().join(format!("image.{}", format.extension()));
            write_out(&*shown(disk.clone(), format, sector_size), &image);
            // The raw disk as it is shown: with whole sectors.
            let rounded = size.next_multiple_of(u64::from(sector_size));
            let file = File::options().write(true).open(&raw).unwrap();
            file.set_len(rounded).unwrap();
            // QEMU reads no VHDX of other sectors.
            if sector_size == 512 {
                check_with_qemu(&raw, &image, format, rounded);
            }
            // What libvhdi shows has no holes: small disks are enough.
            if size < 1 << 30 {
                check_same(&*open(&image).unwrap(), &*open(&raw).unwrap(), "read back");
                check_with_libvhdi(&raw, &image, rounded, sector_size);
            }
            file.set_len(size).unwrap();
            std::fs::remove_file(image).unwrap();
        }
    }
}

/// Nothing but its ends.
struct Hollow(u64);

impl Hollow {
    fn pieces(&self) -> [Range<u64>; 2] {
        [0..4096, self.0 - 4096..self.0]
    }
}

impl ReadAt for Hollow {
    fn size(&self) -> u64 {
        self.0
    }
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> cairn_base::Result<()> {
        check_range(self.0, offset, buffer.len())?;
        for (at, byte) in (offset..).zip(buffer) {
            let is_data = self.pieces().iter().any(|piece| piece.contains(&at));
            *byte = if is_data { at as u8 | 1 } else { 0 };
        }
        Ok(())
    }
    fn data_extents(&self, range: Range<u64>) -> cairn_base::Result<Vec<Range<u64>>> {
        let range = clip(range, self.0);
        let clipped = self
            .pieces()
            .map(|piece| piece.start.max(range.start)..piece.end.min(range.end));
        Ok(clipped
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect())
    }
}

/// The largest VHD there can be: the last block's place still has an entry.
#[test]
fn the_largest_vhd_is_read_by_others() {
    let size = 2040 << 30;
    let work = tempfile::tempdir().unwrap();
    let (raw, image) = (work.path().join("disk.raw"), work.path().join("disk.vhd"));
    let disk = Arc::new(Hollow(size));
    write_out(&*disk, &raw);
    write_out(&*shown(disk, ViewFormat::Vhd, 512), &image);
    check_with_qemu(&raw, &image, ViewFormat::Vhd, size);
}

/// Disks that others made, shown as both, are read back the same; a few by others too. With `VIEWS_ALL=1` it is all of them, by all.
#[test]
fn real_disks_are_shown() {
    let Some(folder) = foreign_images() else {
        return;
    };
    let all = std::env::var_os("VIEWS_ALL").is_some();
    let mut images: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "zst"))
        .collect();
    images.sort();
    let mut seen = 0;
    // By their numbers, so that all kinds are among them.
    let chosen = images.iter().enumerate();
    for (number, image) in chosen.filter(|(number, _)| all || number % 4 == 0) {
        let work = tempfile::tempdir().unwrap();
        let Ok(disk) = open(&unpack(image, work.path())) else {
            continue;
        };
        let name = image.file_name().unwrap().to_str().unwrap();
        for format in ViewFormat::ALL {
            if !format.takes(disk.size(), disk.sector_size()) {
                continue;
            }
            let view = shown(disk.clone(), format, disk.sector_size());
            let back = open_bytes(view.clone(), FormatHint::Detect).unwrap();
            let size = disk.size();
            assert_eq!(
                back.size(),
                size.next_multiple_of(u64::from(disk.sector_size()))
            );
            if back.size() == size {
                check_same(&*back, &*disk, name);
            }
            seen += 1;
            if (all || number % 16 == 0) && size < 1 << 33 && disk.sector_size() == 512 {
                let (raw, file) = (work.path().join("raw"), work.path().join("view"));
                write_out(&*back, &raw);
                write_out(&*view, &file);
                check_with_qemu(&raw, &file, format, back.size());
            }
        }
    }
    println!("COUNTED: {seen} views of real disks");
    assert!(seen > if all { 150 } else { 40 }, "{seen}");
}

/// A view has the same bytes after an upgrade: there is nothing of the program's version in it.
#[test]
fn a_vhdx_does_not_tell_the_version() {
    let image = shown(Arc::new(vec![1; 1 << 20]), ViewFormat::Vhdx, 512);
    let creator = read_vec(&*image, 8, 512).unwrap();
    assert!(creator.starts_with(b"C\0a\0i\0r\0n\0"));
    assert!(creator[10..].iter().all(|byte| *byte == 0));
}
