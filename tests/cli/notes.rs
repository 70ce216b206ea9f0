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

/// An NTFS volume of 16 MiB with a file, and the byte in which `$Volume` says that it is dirty.
fn ntfs(bench: &Bench) -> Option<u64> {
    if !have(&["mkntfs", "ntfscp"]) {
        return None;
    }
    let image = bench.path("disk.raw");
    fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
    let options = ["-q", "-F", "-Q", "-p", "0", "-H", "0", "-S", "0"];
    tool("mkntfs", &[&options[..], &[text(&image)]].concat());
    fs::write(bench.path("hostname"), "web01\n").unwrap();
    let from = bench.path("hostname");
    tool("ntfscp", &["-q", text(&image), text(&from), "hostname"]);
    let bytes = fs::read(&image).unwrap();
    let table = u64::from_le_bytes(bytes[0x30..0x38].try_into().unwrap()) * 4096;
    let volume = table as usize + 3 * 1024;
    let mut attribute = volume + usize::from(bytes[volume + 20]);
    while bytes[attribute] != 0x70 {
        attribute += usize::from(bytes[attribute + 4]);
    }
    let value = attribute + usize::from(bytes[attribute + 20]);
    Some(value as u64 + 10)
}

#[test]
fn a_dirty_ntfs_volume_is_told_of_the_image_the_point_and_the_mount() {
    let bench = Bench::new();
    let Some(flags) = ntfs(&bench) else { return };
    let of_image = |code| {
        let document = bench.expect(code, &["disk", "--json", "disk.raw"]).json();
        document["partitions"][0]["file_system"].clone()
    };
    let closed = of_image(0);
    assert_eq!(
        (&closed["kind"], &closed["clean"]),
        (&"ntfs".into(), &true.into())
    );
    assert_eq!(closed["notes"].as_array().unwrap().len(), 0, "{closed}");
    bench.backup("web01", &["disk.raw"]);
    let path = "web01@latest:/disk0/p0/hostname";
    assert_eq!(bench.expect(0, &["cat", "store", path]).stderr, "");

    let image = fs::OpenOptions::new()
        .write(true)
        .open(bench.path("disk.raw"));
    image.unwrap().write_all_at(&[1], flags).unwrap();
    let dirty = of_image(0);
    assert_eq!(dirty["clean"], false);
    let note = dirty["notes"][0].as_str().unwrap();
    assert!(note.contains("marked dirty"), "{note}");
    let shown = bench.expect(0, &["disk", "disk.raw"]).text();
    assert!(shown.contains("not closed properly"), "{shown}");
    assert!(
        shown.contains("note: The volume is marked dirty"),
        "{shown}"
    );

    bench.backup("web01", &["disk.raw"]);
    let listed = bench.expect(3, &["ls", "--json", "store", "web01@latest:/disk0"]);
    let note = listed.json()[0]["notes"][0].clone();
    assert_eq!(note["defect"], true, "{note}");
    assert!(note["text"].as_str().unwrap().contains("marked dirty"));
    let read = bench.expect(3, &["cat", "store", path]);
    assert_eq!(read.stdout, b"web01\n");
    assert!(read.stderr.contains("marked dirty"), "{}", read.stderr);
    // The point before says nothing of the kind.
    let first = bench.points()[0]["point"].as_str().unwrap().to_string();
    bench.expect(0, &["ls", "store", &format!("{first}:/disk0")]);
    if !have_fuse() {
        return;
    }
    for (source, above) in [("store", "web01/latest/"), ("disk.raw", "")] {
        let mounted = Mounted::new(&bench, source);
        let notes = mounted.read(&format!("{above}files/disk0/p0.notes"));
        let notes = String::from_utf8(notes).unwrap();
        assert!(notes.contains("marked dirty"), "{notes}");
        let read = mounted.read(&format!("{above}files/disk0/p0/hostname"));
        assert_eq!(read, b"web01\n");
        assert!(mounted.end().contains("p0: The volume is marked dirty"));
    }
}
