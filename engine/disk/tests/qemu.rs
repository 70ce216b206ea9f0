//! Against QEMU's own tools: what they write is read, and what is written here they accept and read.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shared;

use cairn_disk::write::{DiskWriter, RawWriter, VhdWriter, VhdxOptions, VhdxWriter};
use cairn_disk::{Format, open};
use serde_json::Value;
use shared::{check_same, run};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A raw disk of `size` bytes (whole sectors) with data at its ends and here and there, from a fixed seed.
fn sample(folder: &Path, size: u64) -> PathBuf {
    let path = folder.join(format!("{size}.raw"));
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(size).unwrap();
    let mut state = size ^ 0x9E37_79B9_7F4A_7C15;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut put = |at: u64, length: u64| {
        let bytes: Vec<u8> = (0..length.min(size - at))
            .map(|_| next() as u8 | 1)
            .collect();
        file.write_all_at(&bytes, at).unwrap();
    };
    put(0, 4096);
    put(size - 512, 512);
    for place in 1..9 {
        put(size / 10 * place, 50_000 * place);
    }
    path
}

fn qemu_img() -> Command {
    Command::new("qemu-img")
}

/// The ranges that `qemu-img map` says are data.
fn map(format: &str, path: &Path) -> Vec<Range<u64>> {
    let text = run(qemu_img()
        .args(["map", "--output=json", "-f", format])
        .arg(path));
    let entries: Value = serde_json::from_str(&text).unwrap();
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for entry in entries.as_array().unwrap() {
        if entry["data"] == true {
            let start = entry["start"].as_u64().unwrap();
            let end = start + entry["length"].as_u64().unwrap();
            match ranges.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => ranges.push(start..end),
            }
        }
    }
    ranges
}

/// The blocks of 2 MiB that `ranges` touch.
fn whole_blocks(ranges: &[Range<u64>]) -> Vec<u64> {
    let mut blocks: Vec<u64> = ranges
        .iter()
        .flat_map(|range| range.start >> 21..=(range.end - 1) >> 21)
        .collect();
    blocks.dedup();
    blocks
}

#[test]
fn what_qemu_writes_is_read() {
    let work = tempfile::tempdir().unwrap();
    let cases: [(&str, &str, Format, u64); 11] = [
        (
            "vpc",
            "subformat=dynamic,force_size=on",
            Format::VhdDynamic,
            (150 << 20) + 512 * 7,
        ),
        ("vpc", "subformat=dynamic", Format::VhdDynamic, 64 << 20),
        (
            "vpc",
            "subformat=fixed,force_size=on",
            Format::VhdFixed,
            33 << 20,
        ),
        (
            "vhdx",
            "block_size=1M",
            Format::VhdxDynamic,
            (150 << 20) + 512 * 7,
        ),
        ("vhdx", "block_size=2M", Format::VhdxDynamic, 33 << 20),
        ("vhdx", "block_size=32M", Format::VhdxDynamic, 150 << 20),
        ("vhdx", "block_size=256M", Format::VhdxDynamic, 150 << 20),
        (
            "vhdx",
            "block_size=1M,log_size=4M",
            Format::VhdxDynamic,
            33 << 20,
        ),
        (
            "vhdx",
            "subformat=fixed,block_size=1M",
            Format::VhdxFixed,
            33 << 20,
        ),
        ("vhdx", "subformat=fixed", Format::VhdxFixed, 150 << 20),
        // More than 4 GiB with blocks of 1 MiB: sector bitmap entries stand between the others.
        ("vhdx", "block_size=1M", Format::VhdxDynamic, 9 << 30),
    ];
    for (format, options, expected, size) in cases {
        let raw = sample(work.path(), size);
        let image = work.path().join("image");
        run(qemu_img()
            .args(["convert", "-f", "raw", "-O", format, "-o", options])
            .args([&raw, &image]));
        let disk = open(&image).unwrap();
        let what = format!("{format} {options}");
        assert_eq!(disk.format(), expected, "{what}");
        assert_eq!(disk.sector_size(), 512, "{what}");
        assert!(disk.warnings().is_empty(), "{what}: {:?}", disk.warnings());
        // Without force_size QEMU rounds up to cylinders.
        let back = work.path().join("back.raw");
        run(qemu_img()
            .args(["convert", "-f", format, "-O", "raw"])
            .args([&image, &back]));
        check_same(&*disk, &*open(&back).unwrap(), &what);
        if expected == Format::VhdDynamic {
            // QEMU says what blocks there are; here holes of the file within them are known as well.
            let ours = disk.data_extents(0..u64::MAX).unwrap();
            assert_eq!(
                whole_blocks(&ours),
                whole_blocks(&map(format, &image)),
                "{what}"
            );
        }
        std::fs::remove_file(image).unwrap();
    }
}

#[test]
fn what_is_written_here_qemu_reads() {
    let work = tempfile::tempdir().unwrap();
    for size in [512, 1 << 20, (150 << 20) + 512 * 7, 5 << 30] {
        let raw = sample(work.path(), size);
        let source = open(&raw).unwrap();
        let path = |name: &str| work.path().join(format!("{size}-{name}"));
        let small = VhdxOptions {
            block_size: Some(1 << 20),
            ..VhdxOptions::default()
        };
        let writers: Vec<(&str, PathBuf, Box<dyn DiskWriter>)> = vec![
            (
                "raw",
                path("a"),
                Box::new(RawWriter::create(&path("a"), size).unwrap()),
            ),
            (
                "vpc",
                path("b"),
                Box::new(VhdWriter::create(&path("b"), size, None).unwrap()),
            ),
            (
                "vhdx",
                path("c"),
                Box::new(VhdxWriter::create(&path("c"), size, small).unwrap()),
            ),
            (
                "vhdx",
                path("d"),
                Box::new(VhdxWriter::create(&path("d"), size, VhdxOptions::default()).unwrap()),
            ),
        ];
        for (format, image, writer) in writers {
            // In pieces that fit no block, the last first.
            for extent in source.data_extents(0..size).unwrap().into_iter().rev() {
                let mut end = extent.end;
                while end > extent.start {
                    let start = end.saturating_sub(777_216).max(extent.start);
                    let bytes =
                        cairn_base::read_at::read_vec(&*source, start, (end - start) as usize)
                            .unwrap();
                    writer.write_at(start, &bytes).unwrap();
                    end = start;
                }
            }
            let written = writer.finish().unwrap();
            assert_eq!(written.disk_size, size);
            let disk = open(&image).unwrap();
            check_same(&*disk, &*source, format);
            if format == "vhdx" {
                run(qemu_img().args(["check", "-f", format]).arg(&image));
            }
            // Identical to QEMU's eyes as well, and of the same size.
            run(qemu_img()
                .args(["compare", "-f", "raw", "-F", format])
                .args([&raw, &image]));
            let info = run(qemu_img()
                .args(["info", "--output=json", "-f", format])
                .arg(&image));
            let info: Value = serde_json::from_str(&info).unwrap();
            assert_eq!(info["virtual-size"].as_u64(), Some(size));
            // And it can be written to.
            if format != "raw" {
                let script = "write -P 0x5a 0 512";
                run(Command::new("qemu-io")
                    .args(["-f", format, "-c", script])
                    .arg(&image));
                let mut byte = [0];
                open(&image).unwrap().read_exact_at(100, &mut byte).unwrap();
                assert_eq!(byte, [0x5a], "{format} {size}");
            }
            std::fs::remove_file(image).unwrap();
        }
    }
}
