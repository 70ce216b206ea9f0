//! Whole disks come back, in every format, and replace nothing unasked.

use super::bench::{Bench, Running, eventually, have, same_disk, text, tool};
use std::fs;
use std::os::unix::fs::MetadataExt;

/// A disk of 24 MiB: data, a hole, data.
fn disk_with_a_hole(bench: &Bench) -> Vec<u8> {
    let path = bench.noise("a.raw", 21, 9 << 20);
    let mut bytes = fs::read(&path).unwrap();
    bytes[2 << 20..8 << 20].fill(0);
    bytes.resize(24 << 20, 0);
    fs::write(&path, &bytes).unwrap();
    bytes
}

#[test]
fn raw_disks_come_back_sparse_and_equal() {
    let bench = Bench::new();
    let bytes = disk_with_a_hole(&bench);
    bench.backup("m", &["a.raw"]);
    bench.expect(0, &["restore", "store", "m@latest", "--to", "out"]);
    let restored = bench.path("out/disk0.raw");
    assert!(fs::read(&restored).unwrap() == bytes);
    let used = fs::metadata(&restored).unwrap().blocks() * 512;
    assert!(
        used < 5 << 20,
        "{used} bytes used on disk for 3 MiB of data"
    );
    let streamed = bench.expect(0, &["restore", "store", "m@latest", "--to", "-"]);
    assert!(streamed.stdout == bytes);
}

#[test]
fn nothing_is_replaced_unasked() {
    let bench = Bench::new();
    let bytes = disk_with_a_hole(&bench);
    bench.backup("m", &["a.raw"]);
    // Longer than the disk, and without any hole: all of it must go.
    bench.noise("old", 22, 30 << 20);
    fs::create_dir(bench.path("out")).unwrap();
    fs::rename(bench.path("old"), bench.path("out/disk0.raw")).unwrap();
    let before = fs::read(bench.path("out/disk0.raw")).unwrap();
    let refused = bench.expect(1, &["restore", "store", "m@latest", "--to", "out"]);
    assert!(refused.stderr.contains("--force"), "{}", refused.stderr);
    assert!(fs::read(bench.path("out/disk0.raw")).unwrap() == before);
    bench.expect(
        0,
        &["restore", "store", "m@latest", "--to", "out", "--force"],
    );
    assert!(fs::read(bench.path("out/disk0.raw")).unwrap() == bytes);
    let names: Vec<_> = fs::read_dir(bench.path("out")).unwrap().collect();
    assert_eq!(names.len(), 1, "nothing but the disk is left: {names:?}");
}

#[test]
fn vhd_and_vhdx_are_what_qemu_img_reads() {
    let bench = Bench::new();
    if !have(&["qemu-img"]) {
        return;
    }
    disk_with_a_hole(&bench);
    bench.backup("m", &["a.raw"]);
    for (format, name, kind) in [
        ("vhd", "vpc", "vhd-dynamic"),
        ("vhd-dynamic", "vpc", "vhd-dynamic"),
        ("vhd-fixed", "vpc", "vhd-fixed"),
        ("vhdx", "vhdx", "vhdx-dynamic"),
        ("vhdx-dynamic", "vhdx", "vhdx-dynamic"),
        ("vhdx-fixed", "vhdx", "vhdx-fixed"),
    ] {
        let arguments = [
            "restore", "store", "m@latest", "--to", "out", "--force", "--format", format, "--json",
        ];
        let json = bench.expect(0, &arguments).json();
        assert_eq!(json[0]["disk"], "disk0");
        assert_eq!(json[0]["size"], 24 << 20);
        let extension = if name == "vpc" { "vhd" } else { "vhdx" };
        let restored = bench.path(&format!("out/disk0.{extension}"));
        same_disk(&bench.path("a.raw"), name, &restored);
        if name == "vhdx" {
            tool("qemu-img", &["check", "-f", name, text(&restored)]);
        }
        let used = fs::metadata(&restored).unwrap().blocks() * 512;
        assert!(used < 6 << 20, "{format}: {used} bytes for 3 MiB of data");
        // And what was restored is a source like any other.
        let again = bench.backup("again", &[text(&restored)]);
        assert_eq!(again["new_bytes"], 0);
        let listed = bench.expect(0, &["points", "store", "--machine", "again", "--json"]);
        let listed = listed.json();
        let last = listed.as_array().unwrap().last().unwrap();
        assert_eq!(last["disks"][0]["format"], kind);
    }
    let arguments = ["restore", "store", "m@latest", "--to", "-", "--format"];
    bench.expect(2, &[&arguments[..], &["vhd-fixed"]].concat());
    let refused = bench.expect(2, &[&arguments[..], &["vmdk"]].concat());
    assert!(refused.stderr.contains("vhdx-fixed"), "{}", refused.stderr);
}

#[test]
fn one_disk_of_several_is_chosen() {
    let bench = Bench::new();
    bench.noise("a.raw", 23, 1 << 20);
    bench.noise("b.raw", 24, 2 << 20);
    bench.backup("m", &["C=a.raw", "D=b.raw"]);
    bench.expect(2, &["restore", "store", "m@latest", "--to", "-"]);
    let streamed = bench.expect(
        0,
        &["restore", "store", "m@latest", "--to", "-", "--disk", "D"],
    );
    assert!(streamed.stdout == fs::read(bench.path("b.raw")).unwrap());
    bench.expect(
        1,
        &["restore", "store", "m@latest", "--to", "-", "--disk", "E"],
    );
    bench.expect(0, &["restore", "store", "m@latest", "--to", "out"]);
    for (disk, source) in [("out/C.raw", "a.raw"), ("out/D.raw", "b.raw")] {
        assert!(fs::read(bench.path(disk)).unwrap() == fs::read(bench.path(source)).unwrap());
    }
}

/// Starts a restore of a disk that takes a while, and waits until some of it is written.
fn start_big(bench: &Bench, more: &[&str]) -> Running {
    let mut arguments = vec!["restore", "store", "m@latest", "--to", "out"];
    arguments.extend_from_slice(more);
    let partial = bench.path("out/.disk0.raw.partial");
    // An earlier restore may have written some of it.
    let written = || fs::metadata(&partial).map_or(0, |found| found.blocks());
    let before = written();
    let mut restore = bench.start(&arguments);
    eventually("the disk is being written", || {
        assert!(restore.is_alive(), "it ended before it was seen");
        written() > before
    });
    restore.signal("STOP");
    restore
}

#[test]
fn a_restore_that_was_cut_short_goes_on() {
    let bench = Bench::new();
    let image = bench.noise("a.raw", 25, 400 << 20);
    bench.backup("m", &["a.raw"]);
    let restored = bench.path("out/disk0.raw");
    // Killed: what it left is neither used nor replaced unasked.
    let mut killed = start_big(&bench, &[]);
    let busy = bench.expect(
        5,
        &["restore", "store", "m@latest", "--to", "out", "--resume"],
    );
    assert!(busy.stderr.contains("another restore"), "{}", busy.stderr);
    killed.signal("KILL");
    killed.end();
    assert!(!restored.exists());
    let refused = bench.expect(1, &["restore", "store", "m@latest", "--to", "out"]);
    assert!(refused.stderr.contains("--resume"), "{}", refused.stderr);
    // Interrupted: it says how to go on.
    let mut interrupted = start_big(&bench, &["--resume"]);
    interrupted.signal("INT");
    interrupted.signal("CONT");
    let (status, answer) = interrupted.end();
    assert_eq!(status.code(), Some(1), "{}", answer.stderr);
    let (_, command) = answer.stderr.split_once("to go on: cairn ").unwrap();
    let mut words: Vec<_> = command.split_whitespace().collect();
    assert_eq!(words.last(), Some(&"--resume"));
    words.push("--json");
    let done = bench.expect(0, &words).json();
    assert!(done[0]["resumed_bytes"].as_u64().unwrap() > 0, "{done}");
    assert!(fs::read(&restored).unwrap() == fs::read(&image).unwrap());
    assert_eq!(fs::read_dir(bench.path("out")).unwrap().count(), 1);
    // An interrupted restore that nobody wants to go on with leaves nothing.
    fs::remove_file(&restored).unwrap();
    let mut interrupted = start_big(&bench, &[]);
    interrupted.signal("INT");
    interrupted.signal("CONT");
    let (status, answer) = interrupted.end();
    assert_eq!(status.code(), Some(1), "{}", answer.stderr);
    assert_eq!(fs::read_dir(bench.path("out")).unwrap().count(), 0);
}

#[test]
fn a_device_that_is_not_there_is_no_folder() {
    let bench = Bench::new();
    bench.noise("a.raw", 3, 1 << 20);
    bench.backup("m", &["a.raw"]);
    let refused = bench.expect(
        1,
        &[
            "restore",
            "store",
            "m@latest",
            "--to",
            "/dev/no-such-device",
            "--force",
        ],
    );
    assert!(
        refused.stderr.contains("no such device"),
        "{}",
        refused.stderr
    );
    assert!(!std::path::Path::new("/dev/no-such-device").exists());
}
