//! Whole disks brought back: sparse, in every format, cut short and gone on with, onto what was there before.
#![cfg(test)]

mod kit;

use crate::kit::*;
use cairn::{
    BackupOptions, DiskImage, ImageFormat, Kind, PointView, RestoreOptions, Restored, Silent,
    VerifyOptions, restore,
};
use cairn_base::read_at::read_vec;
use cairn_disk::write::{DiskWriter, VhdxOptions, VhdxWriter};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

#[test]
fn holes_are_exactly_where_the_map_has_them() {
    let bench = Bench::new();
    let bytes = disk();
    let point = bench.backup(&bytes);
    let target = bench.path("a.raw");
    let raw = RestoreOptions::default();
    let restored = restore(&point, "disk0", &target, &raw, &Silent).unwrap();
    assert!(fs::read(&target).unwrap() == bytes);
    let expected = holes(&bytes);
    assert!(expected.len() > 10);
    let zeros: u64 = expected.iter().map(|hole| hole.end - hole.start).sum();
    assert_eq!(restored.data_bytes, bytes.len() as u64 - zeros);
    let Some(found) = holes_of(&target) else {
        return;
    };
    assert_eq!(found, expected);
    // And when the restore goes on over what is anything but sparse.
    fs::write(&target, vec![0xEE; bytes.len() + 9999]).unwrap();
    let over = options(ImageFormat::Raw, true, true);
    restore(&point, "disk0", &target, &over, &Silent).unwrap();
    assert!(fs::read(&target).unwrap() == bytes);
    assert_eq!(holes_of(&target).unwrap(), expected);
}

#[test]
fn every_format_is_equal_and_laid_out_the_same_each_time() {
    let bench = Bench::new();
    let bytes = disk();
    let point = bench.backup(&bytes);
    for format in FORMATS {
        let mut files = Vec::new();
        for name in ["a", "b"] {
            let target = bench.path(name).with_extension(format.extension());
            let once = options(format, false, false);
            restore(&point, "disk0", &target, &once, &Silent).unwrap();
            same(&target, &bytes);
            files.push(fs::read(&target).unwrap());
            fs::remove_file(&target).unwrap();
        }
        // Ids and times stand in front and at the end.
        let inner = match format {
            ImageFormat::Raw => 0..files[0].len(),
            ImageFormat::Vhd => 512..files[0].len() - 512,
            ImageFormat::VhdFixed => 0..files[0].len() - 512,
            ImageFormat::Vhdx | ImageFormat::VhdxFixed => (3 << 20)..files[0].len(),
        };
        assert!(files[0][inner.clone()] == files[1][inner], "{format:?}");
    }
}

/// Restores, which is interrupted after `bytes`, and checks what stays.
#[track_caller]
fn interrupted(bench: &Bench, point: &PointView, target: &Path, o: &RestoreOptions, bytes: u64) {
    let stop = StopAfter::new(bytes);
    let error = restore(point, "disk0", target, o, &stop).unwrap_err();
    assert_eq!(error.kind(), Kind::Interrupted, "{error}");
    assert!(!target.exists());
    let mut names = bench.names();
    names.retain(|name| name.ends_with(".partial"));
    assert_eq!(names.len(), usize::from(o.resume), "{error}");
}

#[test]
fn an_interrupted_restore_goes_on_where_it_was() {
    let bytes = disk();
    let bench = Bench::new();
    let point = bench.backup(&bytes);
    for format in FORMATS {
        let target = bench.path("a").with_extension(format.extension());
        // Without being asked to it leaves nothing behind.
        let once = options(format, false, false);
        interrupted(&bench, &point, &target, &once, REGION as u64);
        let resume = options(format, false, true);
        interrupted(&bench, &point, &target, &resume, REGION as u64);
        interrupted(&bench, &point, &target, &resume, 3 * REGION as u64);
        let restored = restore(&point, "disk0", &target, &resume, &Silent).unwrap();
        same(&target, &bytes);
        assert!(restored.resumed_bytes > 0, "{restored:?}");
        assert!(restored.data_bytes < bytes.len() as u64, "{restored:?}");
        assert_eq!(bench.names().len(), 1);
        fs::remove_file(&target).unwrap();
    }
}

#[test]
fn what_is_cut_or_wrong_in_a_partial_file_is_repaired_and_not_trusted() {
    let bytes = disk();
    let bench = Bench::new();
    let point = bench.backup(&bytes);
    for format in FORMATS {
        let target = bench.path("a").with_extension(format.extension());
        let partial = bench.path(&format!(".a.{}.partial", format.extension()));
        let once = options(format, false, false);
        restore(&point, "disk0", &target, &once, &Silent).unwrap();
        let whole = fs::read(&target).unwrap();
        fs::remove_file(&target).unwrap();
        for seed in 1..9 {
            let chance = noise(64, seed);
            let at = |n: usize| usize::from(chance[n]) * usize::from(chance[n + 1]) * 503;
            let mut cut = whole.clone();
            for hit in (2..40).step_by(2) {
                let place = at(hit) % (cut.len() - 5000);
                // Also where holes are, and in headers and tables.
                cut[place..place + 1 + at(hit) % 5000].fill(chance[hit] | 1);
            }
            // Shorter, or with something behind it.
            cut.resize(whole.len() / 3 + at(0) % whole.len(), 0x77);
            fs::write(&partial, &cut).unwrap();
            let resume = options(format, false, true);
            let restored = restore(&point, "disk0", &target, &resume, &Silent).unwrap();
            same(&target, &bytes);
            assert!(restored.resumed_bytes > 0 && restored.data_bytes > 0);
            let length = fs::metadata(&target).unwrap().len();
            assert_eq!(length, whole.len() as u64);
            assert_eq!(bench.names().len(), 1);
            fs::remove_file(&target).unwrap();
        }
    }
}

#[test]
fn what_a_restore_in_another_format_left_is_not_trusted() {
    let bytes = disk();
    let bench = Bench::new();
    let point = bench.backup(&bytes);
    use ImageFormat::{Vhd, VhdFixed, Vhdx, VhdxFixed};
    for (first, then, extension) in [
        (Vhd, VhdFixed, "vhd"),
        (VhdFixed, Vhd, "vhd"),
        (Vhdx, VhdxFixed, "vhdx"),
        (VhdxFixed, Vhdx, "vhdx"),
    ] {
        let target = bench.path("a").with_extension(extension);
        let partial = bench.path(&format!(".a.{extension}.partial"));
        let alone = bench.path("alone");
        let resume = |format| options(format, false, true);
        restore(&point, "disk0", &alone, &resume(then), &Silent).unwrap();
        // Cut short, and whole but for its name.
        interrupted(&bench, &point, &target, &resume(first), 3 * REGION as u64);
        for _ in 0..2 {
            restore(&point, "disk0", &target, &resume(then), &Silent).unwrap();
            same(&target, &bytes);
            let found = cairn_disk::open(&target).unwrap();
            let wanted = cairn_disk::open(&alone).unwrap();
            assert_eq!(found.format(), wanted.format());
            let length = |path| fs::metadata(path).unwrap().len();
            assert_eq!(length(&target), length(&alone), "{first:?}, {then:?}");
            fs::remove_file(&target).unwrap();
            restore(&point, "disk0", &target, &resume(first), &Silent).unwrap();
            fs::rename(&target, &partial).unwrap();
        }
        fs::remove_file(&partial).unwrap();
        fs::remove_file(&alone).unwrap();
    }
}

#[test]
fn a_disk_of_large_sectors_is_written_as_no_vhd() {
    let bench = Bench::new();
    let image = bench.path("4k.vhdx");
    let sectors = VhdxOptions {
        sector_size: 4096,
        ..VhdxOptions::default()
    };
    let writer = VhdxWriter::create(&image, 9 << 20, sectors).unwrap();
    writer.write_at(5000, b"some bytes").unwrap();
    Box::new(writer).finish().unwrap();
    let source = DiskImage::open("disk0", &image).unwrap();
    let options = BackupOptions::new("m");
    bench.store.backup(vec![source], &options, &Silent).unwrap();
    let latest = bench.store.find_point("m@latest").unwrap();
    let point = bench.store.open_point(&latest).unwrap();
    for format in FORMATS {
        let target = bench.path("a").with_extension(format.extension());
        if matches!(format, ImageFormat::Vhd | ImageFormat::VhdFixed) {
            for resume in [false, true] {
                let wanted = kit::options(format, false, resume);
                let error = restore(&point, "disk0", &target, &wanted, &Silent).unwrap_err();
                assert_eq!(error.kind(), Kind::Unsupported, "{error}");
            }
            continue;
        }
        let wanted = kit::options(format, false, false);
        restore(&point, "disk0", &target, &wanted, &Silent).unwrap();
        let found = cairn_disk::open(&target).unwrap();
        assert_eq!(read_vec(&*found, 5000, 10).unwrap(), b"some bytes");
        let is_raw = format == ImageFormat::Raw;
        assert_eq!(found.sector_size(), if is_raw { 512 } else { 4096 });
        fs::remove_file(&target).unwrap();
    }
    assert_eq!(bench.names(), ["4k.vhdx"]);
}

#[test]
fn an_older_copy_is_brought_up_to_date_by_what_differs() {
    let bench = Bench::new();
    let mut bytes = disk();
    let old = bench.backup(&bytes);
    bytes[5 * REGION + 100_000] ^= 1;
    // Zeros where data were, and data where zeros were.
    bytes[REGION / 2..REGION / 2 + 300_000].fill(0);
    bytes[3 * REGION + 77_777..][..50_000].fill(9);
    let new = bench.backup(&bytes);
    let target = bench.path("a.raw");
    restore(
        &old,
        "disk0",
        &target,
        &options(ImageFormat::Raw, false, false),
        &Silent,
    )
    .unwrap();
    let update = options(ImageFormat::Raw, true, true);
    let restored = restore(&new, "disk0", &target, &update, &Silent).unwrap();
    assert!(fs::read(&target).unwrap() == bytes);
    assert!(restored.data_bytes < 1 << 20, "{restored:?}");
    // A second name of the file must not be changed under its owner's feet.
    fs::hard_link(&target, bench.path("b")).unwrap();
    let refused = restore(&old, "disk0", &target, &update, &Silent).unwrap_err();
    assert_eq!(refused.kind(), Kind::Invalid, "{refused}");
    assert!(fs::read(bench.path("b")).unwrap() == bytes);
    let replace = options(ImageFormat::Raw, true, false);
    restore(&old, "disk0", &target, &replace, &Silent).unwrap();
    assert!(fs::read(bench.path("b")).unwrap() == bytes);
}

#[test]
fn two_restores_do_not_write_to_one_file() {
    let bench = Bench::new();
    let bytes = disk();
    let point = bench.backup(&bytes);
    let (target, partial) = (bench.path("a.raw"), bench.path(".a.raw.partial"));
    fs::write(&partial, "left by another").unwrap();
    let left = File::open(&partial).unwrap();
    flock(&left, FlockOperation::LockExclusive).unwrap();
    let try_to = |force, resume| {
        let options = options(ImageFormat::Raw, force, resume);
        restore(&point, "disk0", &target, &options, &Silent).map_err(|error| error.kind())
    };
    for (force, resume) in [(false, false), (true, false), (false, true), (true, true)] {
        assert_eq!(try_to(force, resume), Err(Kind::Busy));
    }
    drop(left);
    // Nobody writes it any more, but it is not replaced unasked.
    assert_eq!(try_to(false, false), Err(Kind::Exists));
    assert_eq!(fs::read(&partial).unwrap(), b"left by another");
    assert_eq!(try_to(true, false).unwrap().resumed_bytes, 0);
    assert!(fs::read(&target).unwrap() == bytes);
    assert_eq!(bench.names(), ["a.raw"]);
    // Nor does it lead to another file.
    fs::write(bench.path("precious"), "precious").unwrap();
    symlink(bench.path("precious"), &partial).unwrap();
    for (force, resume) in [(true, false), (true, true)] {
        try_to(force, resume).unwrap_err();
    }
    assert_eq!(fs::read(bench.path("precious")).unwrap(), b"precious");
    assert!(fs::read(&target).unwrap() == bytes);
}

#[test]
fn damage_names_the_disks_bytes_and_leaves_the_target_alone() {
    let bench = Bench::new();
    let bytes = noise(3 * REGION, 5);
    let point = bench.backup(&bytes);
    let largest = walk(&bench.folder.path().join("store/packs"));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&largest)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 6 << 20).unwrap();
    file.write_all_at(&[!byte[0]], 6 << 20).unwrap();
    let report = bench
        .store
        .verify(&VerifyOptions::default(), &Silent)
        .unwrap();
    let lost = &report.damaged[0];

    let target = bench.path("a.raw");
    fs::write(&target, "what was there").unwrap();
    let replace = options(ImageFormat::Raw, true, false);
    let error = restore(&point, "disk0", &target, &replace, &Silent).unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged);
    let named = format!(
        "{} bytes of the disk from byte {} on",
        lost.length, lost.offset
    );
    assert!(error.to_string().contains(&named), "{error}");
    assert_eq!(fs::read(&target).unwrap(), b"what was there");
    assert_eq!(bench.names(), ["a.raw"]);
    let error = restore(
        &point,
        "disk0",
        &bench.path("b"),
        &RestoreOptions::default(),
        &Silent,
    );
    assert_eq!(error.unwrap_err().kind(), Kind::Damaged);
    assert_eq!(bench.names(), ["a.raw"]);
}

/// The largest file below a folder.
fn walk(folder: &Path) -> PathBuf {
    let mut largest = (0, PathBuf::new());
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                largest = largest.max((fs::metadata(&path).unwrap().len(), path));
            }
        }
    }
    largest.1
}

#[test]
fn chunks_scattered_over_many_points_come_back() {
    let bench = Bench::new();
    let mut bytes = disk();
    let mut states = Vec::new();
    for turn in 0..6 {
        for place in (turn * 50_000..bytes.len() - 40_000).step_by(1_300_000) {
            let new = noise(30_000, (place + turn) as u64);
            bytes[place..place + new.len()].copy_from_slice(&new);
        }
        // Whole regions move, so that disk order is not the packs' order.
        bytes.rotate_left(REGION);
        states.push((bench.backup(&bytes), bytes.clone()));
    }
    for (number, (point, bytes)) in states.iter().enumerate() {
        let format = FORMATS[number % FORMATS.len()];
        let target = bench.path(&number.to_string());
        let once = options(format, false, false);
        restore(point, "disk0", &target, &once, &Silent).unwrap();
        same(&target, bytes);
        let mut stream = Vec::new();
        cairn::restore::restore_to(point, "disk0", &mut stream, &Silent).unwrap();
        assert!(stream == *bytes);
    }
}

#[test]
fn a_device_gets_what_differs_and_zeros_where_old_data_were() {
    let bench = Bench::new();
    let mut bytes = disk();
    let point = bench.backup(&bytes);
    let file = bench.path("device");
    fs::write(&file, vec![0xEE; 9 * REGION]).unwrap();
    let Some(device) = Loop::over(&file) else {
        println!("SKIPPED: no loop device can be made here");
        return;
    };
    let to_device = |point: &PointView, force, resume| -> cairn::Result<Restored> {
        let options = options(ImageFormat::Raw, force, resume);
        restore(point, "disk0", &device.0, &options, &Silent)
    };
    let unasked = to_device(&point, false, true).unwrap_err();
    assert_eq!(unasked.kind(), Kind::Exists);
    let check = |bytes: &[u8]| {
        let mut expected = bytes.to_vec();
        // What the disk does not cover is left alone.
        expected.resize(9 * REGION, 0xEE);
        let device = cairn_disk::open(&device.0).unwrap();
        assert!(read_vec(&*device, 0, expected.len()).unwrap() == expected);
    };
    to_device(&point, true, false).unwrap();
    check(&bytes);
    bytes[6 * REGION + 5] ^= 1;
    bytes[REGION + 8192..REGION + 200_000].fill(0);
    let newer = bench.backup(&bytes);
    let restored = to_device(&newer, true, true).unwrap();
    check(&bytes);
    // What changed, and both ends, which are written in any case.
    assert!(restored.data_bytes < 3 << 20, "{restored:?}");
    let stopped = StopAfter::new(REGION as u64);
    let force = options(ImageFormat::Raw, true, false);
    let error = restore(&point, "disk0", &device.0, &force, &stopped).unwrap_err();
    assert_eq!(error.kind(), Kind::Interrupted);
    // Nobody takes what it has left for a disk.
    let left = cairn_disk::open(&device.0).unwrap();
    assert!(
        read_vec(&*left, 0, 1 << 20)
            .unwrap()
            .iter()
            .all(|byte| *byte == 0)
    );
    to_device(&newer, true, true).unwrap();
    check(&bytes);
}

/// A loop device that goes when this goes.
struct Loop(PathBuf);

impl Loop {
    fn over(file: &Path) -> Option<Loop> {
        let mut losetup = std::process::Command::new("losetup");
        losetup.args(["--find", "--show"]).arg(file);
        let output = losetup.output().ok()?;
        let name = String::from_utf8(output.stdout).ok()?;
        output
            .status
            .success()
            .then(|| Loop(PathBuf::from(name.trim())))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let mut losetup = std::process::Command::new("losetup");
        drop(losetup.arg("--detach").arg(&self.0).status());
    }
}
