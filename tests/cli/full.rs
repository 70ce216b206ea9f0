//! Disks that are full: a clear error, nothing lost, and on as soon as there is room.

use super::bench::{Bench, text};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system in memory, unmounted at the end.
struct Small(PathBuf);

impl Small {
    /// `None`, said as skipped, where mounting is not allowed.
    fn of(path: PathBuf, size: &str) -> Option<Small> {
        fs::create_dir(&path).unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs", text(&path)])
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Small(path));
        }
        println!("SKIPPED: a file system in memory cannot be mounted here");
        None
    }

    fn used(&self) -> u64 {
        used(&self.0)
    }
}

fn used(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let sizes = entries.map(|entry| match entry.metadata().unwrap() {
        found if found.is_dir() => used(&entry.path()),
        found => found.len(),
    });
    sizes.sum()
}

impl Drop for Small {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_backup_that_fills_the_disk_leaves_the_store_as_it_was() {
    let bench = Bench::new();
    let Some(small) = Small::of(bench.path("small"), "40M") else {
        return;
    };
    let first = fs::read(bench.noise("a.raw", 71, 8 << 20)).unwrap();
    bench.noise("b.raw", 72, 60 << 20);
    bench.expect(0, &["init", "small/store"]);
    bench.expect(0, &["backup", "small/store", "--machine", "a", "a.raw"]);
    let before = small.used();
    for _ in 0..2 {
        let failed = bench.expect(1, &["backup", "small/store", "--machine", "b", "b.raw"]);
        assert!(failed.stderr.contains("No space left"), "{}", failed.stderr);
        // Nothing is listed, nothing is lost, and nothing of it stays but what takes no room.
        let points = bench.expect(0, &["points", "small/store", "--json"]).json();
        assert_eq!(points.as_array().unwrap().len(), 1);
        bench.expect(0, &["verify", "small/store", "--deep"]);
        assert!(
            small.used() < before + (1 << 20),
            "{} of {before}",
            small.used()
        );
    }
    // What fits is backed up.
    bench.noise("c.raw", 73, 4 << 20);
    bench.expect(0, &["backup", "small/store", "--machine", "c", "c.raw"]);
    let restored = bench.expect(0, &["restore", "small/store", "a@latest", "--to", "-"]);
    assert!(restored.stdout == first);
}

#[test]
fn a_restore_that_fills_the_disk_says_so_and_goes_on_later() {
    let bench = Bench::new();
    let Some(small) = Small::of(bench.path("small"), "8M") else {
        return;
    };
    let bytes = fs::read(bench.noise("a.raw", 74, 6 << 20)).unwrap();
    bench.backup("a", &["a.raw"]);
    bench.noise("small/ballast", 75, 5 << 20);
    let restore = ["restore", "store", "a@latest", "--to", "small/back"];
    let failed = bench.expect(1, &restore);
    assert!(failed.stderr.contains("No space left"), "{}", failed.stderr);
    let target = small.0.join("back/disk0.raw");
    assert!(!target.exists());
    fs::remove_file(small.0.join("ballast")).unwrap();
    let again = [&restore[..], &["--resume"]].concat();
    bench.expect(0, &again);
    assert!(fs::read(target).unwrap() == bytes);
    // The store is none the worse for it.
    bench.expect(0, &["verify", "store"]);
}

#[test]
fn a_store_on_a_full_disk_can_be_read_and_none_can_be_made() {
    let bench = Bench::new();
    let Some(small) = Small::of(bench.path("small"), "6M") else {
        return;
    };
    let bytes = fs::read(bench.noise("a.raw", 76, 2 << 20)).unwrap();
    bench.expect(0, &["init", "small/store"]);
    bench.expect(0, &["backup", "small/store", "--machine", "a", "a.raw"]);
    // Not a byte is left.
    let mut filler = fs::File::create(small.0.join("filler")).unwrap();
    let filled = std::io::copy(&mut std::io::repeat(7), &mut filler);
    assert!(filled.is_err());
    let read = bench.run(&["restore", "small/store", "a@latest", "--to", "-"]);
    assert!(
        read.stdout == bytes,
        "{:?}",
        String::from_utf8_lossy(&read.stderr)
    );
    bench.expect(1, &["init", "small/other"]);
    bench.expect(1, &["backup", "small/store", "--machine", "a", "a.raw"]);
    drop(filler);
    fs::remove_file(small.0.join("filler")).unwrap();
    bench.expect(0, &["init", "small/other"]);
    bench.expect(0, &["backup", "small/store", "--machine", "a", "a.raw"]);
    bench.expect(0, &["verify", "small/store"]);
}
