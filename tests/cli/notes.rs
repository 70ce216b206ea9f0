//! What cannot be shown as the guest left it is told wherever the files of the volume are shown.

use super::bench::{Bench, have, text, tool};
use super::browse::{block_of, filled};
use super::mount::{Mounted, have_fuse};
use std::fs;
use std::os::unix::fs::FileExt;

const PATH: &str = "web01@latest:/disk0/p1/etc/hostname";

/// Marks the partition of [`filled`] as one whose journal holds something. `spoiled`: that cannot be read.
fn crashed(bench: &Bench, spoiled: bool) {
    let part = bench.path("part.img");
    let journal = block_of(bench, "<8>", 0);
    tool(
        "debugfs",
        &["-w", "-R", "feature needs_recovery", text(&part)],
    );
    if spoiled {
        let file = fs::OpenOptions::new().write(true).open(&part).unwrap();
        file.write_all_at(&[0; 12], journal).unwrap();
    }
    let (from, to) = (
        format!("if={}", text(&part)),
        format!("of={}", text(&bench.path("disk.raw"))),
    );
    tool(
        "dd",
        &[&from, &to, "bs=1M", "seek=1", "conv=notrunc", "status=none"],
    );
}

#[test]
fn a_journal_that_is_not_replayed_is_told_everywhere() {
    let bench = Bench::new();
    let Some(()) = filled(&bench) else { return };
    if !have(&["debugfs"]) {
        return;
    }
    bench.backup("web01", &["disk.raw"]);
    // A journal that was replayed is no reason to doubt.
    crashed(&bench, false);
    bench.backup("web01", &["disk.raw"]);
    let sound = bench.expect(0, &["ls", "--json", "store", "web01@latest:/disk0"]);
    let notes = &sound.json()[0]["notes"];
    assert_eq!(notes[0]["defect"], false, "{notes}");
    assert_eq!(sound.stderr, "");
    assert_eq!(bench.expect(0, &["cat", "store", PATH]).stderr, "");

    crashed(&bench, true);
    bench.backup("web01", &["disk.raw"]);
    let first = bench.points()[0]["point"].as_str().unwrap().to_string();
    let told = |arguments: &[&str]| {
        let answer = bench.expect(3, arguments);
        let count = answer.stderr.matches("cannot be replayed").count();
        assert_eq!(count, 1, "{arguments:?}: {}", answer.stderr);
        assert!(answer.stderr.contains("disk0/p1"), "{}", answer.stderr);
        answer
    };
    let listed = told(&["ls", "--json", "store", "web01@latest:/disk0"]).json();
    assert_eq!(listed[0]["notes"][0]["defect"], true);
    assert_eq!(
        told(&["ls", "store", "web01@latest:/disk0"]).lines(),
        ["p1"]
    );
    assert_eq!(told(&["ls", "store", PATH]).lines(), ["hostname"]);
    assert_eq!(told(&["cat", "store", PATH]).stdout, b"web01\n");
    // Of several files of one volume once.
    let link = "web01@latest:/disk0/p1/etc/link";
    fs::create_dir(bench.path("to")).unwrap();
    told(&["copy", "store", PATH, link, "to"]);
    assert_eq!(fs::read(bench.path("to/hostname")).unwrap(), b"web01\n");
    let found = told(&["find", "store", "web01", "--name", "hostname", "--json"]);
    assert_eq!(found.json()[0]["points"], 3);
    told(&["diff", "store", &first, "web01@latest", "--files"]);
    // Whole disks have nothing to do with it.
    bench.expect(0, &["cat", "store", "web01@latest:/disk0"]);
}

#[test]
fn a_mount_tells_what_is_not_replayed() {
    let bench = Bench::new();
    let Some(()) = filled(&bench) else { return };
    if !have_fuse() || !have(&["debugfs"]) {
        return;
    }
    crashed(&bench, true);
    bench.backup("web01", &["disk.raw"]);
    for (source, above) in [("store", "web01/latest/"), ("disk.raw", "")] {
        let mounted = Mounted::new(&bench, source);
        let notes = mounted.read(&format!("{above}files/disk0/p1.notes"));
        let notes = String::from_utf8(notes).unwrap();
        assert!(notes.contains("cannot be replayed"), "{notes}");
        let name = mounted.read(&format!("{above}files/disk0/p1/etc/hostname"));
        assert_eq!(name, b"web01\n");
        let told = mounted.end();
        assert!(
            told.contains("p1: The journal cannot be replayed"),
            "{told}"
        );
    }
}
