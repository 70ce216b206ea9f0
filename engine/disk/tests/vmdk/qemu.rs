//! What `qemu-img` makes.

use super::made::{Dice, all};
use super::shared::{check_same, run};
use cairn_disk::{Format, detect, open};
use serde_json::Value;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

fn qemu_img() -> Command {
    Command::new("qemu-img")
}

/// A raw disk with data at its ends and here and there, at the borders of 2 GiB above all.
fn raw(folder: &Path, size: u64) -> PathBuf {
    let path = folder.join(format!("{size}.raw"));
    let file = File::create(&path).unwrap();
    file.set_len(size).unwrap();
    let mut dice = Dice(size | 1);
    let mut put = |at: u64, length: u64| {
        let bytes = dice.bytes(length.min(size - at) as usize);
        file.write_all_at(&bytes, at).unwrap();
    };
    put(0, 4096);
    put(size - 512, 512);
    for place in 1..9 {
        put(size / 10 * place, 50_000 * place);
    }
    for border in (1..size >> 31).map(|n| n << 31) {
        put(border - 5000, 10_000);
    }
    path
}

/// The ranges that `qemu-img map` says are there, in grains.
fn map(path: &Path, size: u64) -> Vec<Range<u64>> {
    let text = run(qemu_img()
        .args(["map", "-f", "vmdk", "--output=json"])
        .arg(path));
    let items: Vec<Value> = serde_json::from_str(&text).unwrap();
    let there = items.iter().filter(|item| item["data"] == true);
    grains(
        there.map(|item| {
            let start = item["start"].as_u64().unwrap();
            start..start + item["length"].as_u64().unwrap()
        }),
        size,
    )
}

fn grains(ranges: impl Iterator<Item = Range<u64>>, size: u64) -> Vec<Range<u64>> {
    let whole = ranges.map(|range| {
        let end = range.end.next_multiple_of(65536).min(size);
        range.start / 65536 * 65536..end
    });
    cairn_base::read_at::joined(whole.collect())
}

#[test]
fn every_subformat_is_read() {
    let work = tempfile::tempdir().unwrap();
    for size in [512, (1 << 20) + 512 * 7, 150 << 20, (5 << 30) + 1024] {
        let raw = raw(work.path(), size);
        let source = open(&raw).unwrap();
        let is_split = size > 2 << 30;
        let sparse = match is_split {
            true => Format::VmdkSplit,
            false => Format::VmdkSparse,
        };
        for (options, format) in [
            ("subformat=monolithicSparse", Format::VmdkSparse),
            ("subformat=monolithicSparse,compat6=on", Format::VmdkSparse),
            (
                "subformat=monolithicSparse,hwversion=8,adapter_type=lsilogic",
                Format::VmdkSparse,
            ),
            (
                "subformat=monolithicSparse,zeroed_grain=on",
                Format::VmdkSparse,
            ),
            ("subformat=monolithicFlat", Format::VmdkFlat),
            ("subformat=twoGbMaxExtentSparse", sparse),
            (
                "subformat=twoGbMaxExtentFlat,adapter_type=buslogic",
                Format::VmdkFlat,
            ),
            ("subformat=streamOptimized", Format::VmdkStreamOptimized),
        ] {
            let what = format!("{options} {size}");
            let folder = tempfile::tempdir().unwrap();
            let image = folder.path().join("my disk, no 1.vmdk");
            run(qemu_img()
                .args(["convert", "-f", "raw", "-O", "vmdk", "-o", options])
                .args([&raw, &image]));
            let disk = open(&image).unwrap();
            assert_eq!(disk.format(), format, "{what}");
            assert_eq!(disk.sector_size(), 512);
            assert_eq!(disk.warnings(), [] as [String; 0], "{what}");
            check_same(&*disk, &*source, &what);
            let file = cairn_disk::FileSource::open(&image).unwrap();
            let detected = detect(&file).unwrap().to_string();
            assert!(detected.starts_with("vmdk"), "{what}: {detected}");
            let names: Vec<PathBuf> = fs::read_dir(folder.path())
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            let mut files = disk.files();
            assert_eq!(files[0], image);
            files.sort();
            assert_eq!(files, sorted(names), "{what}");
            assert_eq!(disk.changed().unwrap(), None);
            if format != Format::VmdkFlat {
                let extents = disk.data_extents(0..u64::MAX).unwrap();
                let extents = grains(extents.into_iter(), size);
                assert_eq!(extents, map(&image, size), "{what}");
            }
            if is_split {
                moved_together(&disk.files(), &image, &*source);
            }
        }
    }
}

fn sorted(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    paths.sort();
    paths
}

/// All files of an image together in another folder are the image.
fn moved_together(files: &[PathBuf], image: &Path, source: &dyn cairn_disk::VirtualDisk) {
    let elsewhere = tempfile::tempdir_in(image.parent().unwrap()).unwrap();
    let moved = |path: &Path| elsewhere.path().join(path.file_name().unwrap());
    for file in files {
        fs::rename(file, moved(file)).unwrap();
    }
    let disk = open(&moved(image)).unwrap();
    check_same(&*disk, source, "moved");
    // Without one of them there is no disk.
    if let Some(extent) = files.iter().find(|file| *file != image) {
        let gone = moved(extent);
        fs::remove_file(&gone).unwrap();
        let error = open(&moved(image)).err().unwrap();
        let name = extent.file_name().unwrap().to_str().unwrap();
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn empty_images_hold_nothing() {
    for (options, size) in [
        ("subformat=monolithicSparse", 64u64 << 30),
        ("subformat=twoGbMaxExtentSparse", 9 << 30),
        ("subformat=monolithicFlat", 9 << 30),
        ("subformat=twoGbMaxExtentFlat", 9 << 30),
        ("subformat=streamOptimized", 64 << 30),
        (
            "subformat=monolithicSparse,zeroed_grain=on,compat6=on",
            4096,
        ),
    ] {
        let work = tempfile::tempdir().unwrap();
        let image = work.path().join("a.vmdk");
        run(qemu_img()
            .args(["create", "-q", "-f", "vmdk", "-o", options])
            .arg(&image)
            .arg(size.to_string()));
        let disk = open(&image).unwrap();
        assert_eq!(disk.size(), size, "{options}");
        // QEMU writes to the beginning of a flat file.
        let extents = disk.data_extents(0..u64::MAX).unwrap();
        let there: u64 = extents.iter().map(|extent| extent.end - extent.start).sum();
        let most = if options.contains("Flat") { 65536 } else { 0 };
        assert!(there <= most, "{options}: {extents:?}");
        let end = cairn_base::read_at::read_vec(&*disk, size - 4096, 4096).unwrap();
        assert_eq!(end, [0; 4096]);
    }
}

#[test]
fn a_change_of_any_file_shows() {
    let work = tempfile::tempdir().unwrap();
    let image = work.path().join("a.vmdk");
    run(qemu_img()
        .args([
            "create",
            "-q",
            "-f",
            "vmdk",
            "-o",
            "subformat=twoGbMaxExtentSparse",
        ])
        .arg(&image)
        .arg("5G"));
    for name in ["a.vmdk", "a-s001.vmdk", "a-s003.vmdk"] {
        let disk = open(&image).unwrap();
        assert_eq!(disk.changed().unwrap(), None);
        let path = work.path().join(name);
        let file = File::options().append(true).open(&path).unwrap();
        file.set_len(file.metadata().unwrap().len() + 1).unwrap();
        let changed = disk.changed().unwrap().unwrap();
        assert_eq!(changed.file_name().unwrap(), name);
        // It is another image from now on, whichever of its files it is.
        let again = open(&image).unwrap();
        assert_ne!(again.identity().file, disk.identity().file, "{name}");
    }
}

#[test]
fn zeroed_grains_are_zeros() {
    let work = tempfile::tempdir().unwrap();
    let image = work.path().join("a.vmdk");
    run(qemu_img()
        .args(["create", "-q", "-f", "vmdk", "-o", "zeroed_grain=on"])
        .arg(&image)
        .arg("1M"));
    run(Command::new("qemu-io")
        .args([
            "-f",
            "vmdk",
            "-c",
            "write -P 7 0 1M",
            "-c",
            "write -z 128k 64k",
        ])
        .arg(&image));
    let disk = open(&image).unwrap();
    let mut expected = vec![7; 1 << 20];
    expected[128 << 10..192 << 10].fill(0);
    assert_eq!(all(&*disk).unwrap(), expected);
    let extents = disk.data_extents(0..u64::MAX).unwrap();
    assert_eq!(extents, [0..128 << 10, 192 << 10..1 << 20]);
}
