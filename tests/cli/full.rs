//! Disks that are full: a clear error, nothing lost, and on as soon as there is room.

use super::bench::{Bench, eventually, text};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system in memory, unmounted at the end.
pub(super) struct Small(PathBuf);

impl Small {
    /// `None`, said as skipped, where mounting is not allowed.
    pub(super) fn of(path: PathBuf, size: &str) -> Option<Small> {
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

/// Another program writes until not a byte is left.
fn fill(small: &Small) -> PathBuf {
    let path = small.0.join("filler");
    let mut filler = fs::File::create(&path).unwrap();
    assert!(std::io::copy(&mut std::io::repeat(7), &mut filler).is_err());
    path
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
    let filler = fill(&small);
    let read = bench.run(&["restore", "small/store", "a@latest", "--to", "-"]);
    assert!(
        read.stdout == bytes,
        "{:?}",
        String::from_utf8_lossy(&read.stderr)
    );
    bench.expect(1, &["init", "small/other"]);
    bench.expect(1, &["backup", "small/store", "--machine", "a", "a.raw"]);
    fs::remove_file(filler).unwrap();
    bench.expect(0, &["init", "small/other"]);
    bench.expect(0, &["backup", "small/store", "--machine", "a", "a.raw"]);
    bench.expect(0, &["verify", "small/store"]);
}

#[test]
fn a_prune_gives_space_back_where_not_a_byte_is_left() {
    let bench = Bench::new();
    let Some(small) = Small::of(bench.path("small"), "140M") else {
        return;
    };
    bench.expect(0, &["init", "small/store"]);
    let backup = ["backup", "small/store", "--machine", "m"];
    bench.noise("a.raw", 81, 24 << 20);
    let kept = fs::read(bench.noise("b.raw", 82, 8 << 20)).unwrap();
    for image in ["a.raw", "b.raw"] {
        bench.expect(0, &[&backup[..], &[image]].concat());
    }
    bench.expect(0, &["prune", "small/store"]);
    let reserve = small.0.join("store/reserve");
    assert!(reserve.exists());
    let keep = ["--machine", "m", "--keep-last", "1"];
    bench.expect(0, &[&["forget", "small/store"], &keep[..]].concat());
    let filler = fill(&small);
    let before = used(&small.0.join("store"));
    let pruned = bench.expect(3, &["prune", "small/store", "--json"]);
    assert!(
        pruned.stderr.contains("the disk is full"),
        "{}",
        pruned.stderr
    );
    assert!(pruned.json()["deleted_bytes"].as_u64().unwrap() > 24 << 20);
    assert!(used(&small.0.join("store")) < before - (24 << 20));
    assert!(reserve.exists());
    let restore = ["restore", "small/store", "m@latest", "--to", "-"];
    assert!(bench.expect(0, &restore).stdout == kept);
    // There is room now, so nothing more is left to say.
    bench.expect(0, &["prune", "small/store"]);
    fs::remove_file(filler).unwrap();
    bench.expect(0, &["verify", "small/store", "--deep"]);
}

/// Fills the disk while a prune copies; whether it was caught at that.
fn fill_while_it_copies(bench: &Bench, small: &Small) -> bool {
    let before = fs::read(small.0.join("store/state.0")).unwrap();
    let mut prune = bench.start(&["prune", "small/store", "--max-unused", "0%"]);
    let sessions = small.0.join("store/sessions");
    eventually("it copies, or has ended", || {
        used(&sessions) > 1 << 20 || !prune.is_alive()
    });
    prune.signal_if_alive("STOP");
    let filler = fill(small);
    prune.signal_if_alive("CONT");
    let (status, answer) = prune.end();
    let caught = answer.stderr.contains("the disk is full");
    assert_eq!(
        status.code(),
        Some(if caught { 3 } else { 0 }),
        "{}",
        answer.stderr
    );
    assert_ne!(fs::read(small.0.join("store/state.0")).unwrap(), before);
    for (point, image) in [("m@latest", "half.raw"), ("n@latest", "b.raw")] {
        let restored = bench.expect(0, &["restore", "small/store", point, "--to", "-"]);
        assert!(restored.stdout == fs::read(bench.path(image)).unwrap());
    }
    fs::remove_file(filler).unwrap();
    caught
}

#[test]
fn a_prune_that_runs_out_of_space_while_it_copies_loses_nothing() {
    let bench = Bench::new();
    let Some(small) = Small::of(bench.path("small"), "300M") else {
        return;
    };
    let whole = fs::read(bench.noise("whole.raw", 83, 56 << 20)).unwrap();
    fs::write(bench.path("half.raw"), &whole[..28 << 20]).unwrap();
    bench.noise("b.raw", 84, 2 << 20);
    let prepare = || {
        bench.expect(0, &["init", "small/store"]);
        for (machine, image) in [("m", "whole.raw"), ("m", "half.raw"), ("n", "b.raw")] {
            bench.expect(0, &["backup", "small/store", "--machine", machine, image]);
        }
        let keep = ["--machine", "m", "--keep-last", "1"];
        bench.expect(0, &[&["forget", "small/store"], &keep[..]].concat());
    };
    prepare();
    // One that is too quick for us is made to do it again.
    let mut turns = 1;
    while !fill_while_it_copies(&bench, &small) {
        turns += 1;
        assert!(turns < 10, "it was never caught while it copied");
        fs::remove_dir_all(small.0.join("store")).unwrap();
        prepare();
    }
    let rest = bench.expect(0, &["prune", "small/store", "--max-unused", "0%", "--json"]);
    let rest = rest.json();
    assert!(rest["rewritten_packs"].as_u64().unwrap() > 0);
    assert_eq!(
        (&rest["unused_bytes"], &rest["ended_early"]),
        (&0.into(), &().into())
    );
    assert!(used(&small.0.join("store/packs")) < 32 << 20);
    bench.expect(0, &["verify", "small/store", "--deep"]);
}
