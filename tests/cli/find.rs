//! find: files in all points of machines, and what is copied of them.

use super::bench::{Bench, have, text, tool};
use super::browse::{START, block_of, filled, lose_names};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::FileExt;

/// Changes the ext4 file system in `part.img` and puts it on the disk.
fn change(bench: &Bench, commands: &[&str]) {
    let (part, disk) = (bench.path("part.img"), bench.path("disk.raw"));
    for command in commands {
        tool("debugfs", &["-w", "-R", command, text(&part)]);
    }
    let (from, to) = (format!("if={}", text(&part)), format!("of={}", text(&disk)));
    let how = ["bs=1M", "seek=1", "conv=notrunc", "status=none"];
    tool("dd", &[&[&from[..], &to], &how[..]].concat());
}

fn backup_at(bench: &Bench, time: &str) {
    let arguments = ["backup", "store", "--machine", "web01", "--time", time];
    bench.expect(0, &[&arguments[..], &["disk.raw"]].concat());
}

/// Five points: the first two are the same, in the third a file is new and another one has other content, in the fourth one is gone, in the fifth
/// something elsewhere on the disk changed.
fn five_points(bench: &Bench) -> Option<()> {
    if !have(&["debugfs"]) {
        return None;
    }
    filled(bench)?;
    backup_at(bench, "2026-01-01T00:00:00Z");
    backup_at(bench, "2026-01-02T00:00:00Z");
    fs::write(bench.path("new"), "a new file\n").unwrap();
    let write = format!("write {} /etc/report.odt", text(&bench.path("new")));
    // The same length, and the same time of change afterwards.
    let time = tool(
        "debugfs",
        &["-R", "stat /etc/hostname", text(&bench.path("part.img"))],
    );
    assert!(time.contains("mtime"));
    let block = block_of(bench, "/var/log/big", 3);
    change(bench, &[&write]);
    for (image, start) in [("part.img", 0), ("disk.raw", START)] {
        let file = fs::OpenOptions::new().write(true).open(bench.path(image));
        file.unwrap()
            .write_all_at(b"other bytes", start + block)
            .unwrap();
    }
    backup_at(bench, "2026-01-03T00:00:00Z");
    change(bench, &["rm /etc/report.odt"]);
    backup_at(bench, "2026-01-04T00:00:00Z");
    let file = fs::OpenOptions::new()
        .write(true)
        .open(bench.path("disk.raw"));
    file.unwrap()
        .write_all_at(b"x", (20 << 20) - (600 << 10))
        .unwrap();
    backup_at(bench, "2026-01-05T00:00:00Z");
    Some(())
}

fn day(value: &Value) -> String {
    value["time"].as_str().unwrap()[8..10].to_string()
}

/// Path, first and last day, number of points.
fn rows(answer: &Value) -> Vec<(String, String, String, u64)> {
    let row = |found: &Value| {
        (
            found["path"].as_str().unwrap().to_string(),
            day(&found["first"]),
            day(&found["last"]),
            found["points"].as_u64().unwrap(),
        )
    };
    answer.as_array().unwrap().iter().map(row).collect()
}

#[test]
fn versions_are_told_once_with_the_points_that_have_them() {
    let bench = Bench::new();
    let Some(()) = five_points(&bench) else {
        return;
    };
    let find = |arguments: &[&str]| {
        let all = [&["find", "store"], arguments, &["--json"]].concat();
        rows(&bench.expect(0, &all).json())
    };
    let row = |path: &str, first: &str, last: &str, points: u64| {
        (
            format!("disk0/p1/{path}"),
            first.to_string(),
            last.to_string(),
            points,
        )
    };
    let files = find(&["web01", "--type", "f"]);
    let expected = [
        row("etc/grüße x:y", "01", "05", 5),
        row("etc/hostname", "01", "05", 5),
        row("etc/report.odt", "03", "03", 1),
        // Same size, same times: told apart by their bytes.
        row("var/log/big", "01", "02", 2),
        row("var/log/big", "03", "05", 3),
    ];
    assert_eq!(files, expected);
    // All machines are this one.
    assert_eq!(find(&["--type", "f"]), expected);
    assert_eq!(
        find(&["--name", "*.odt"]),
        [row("etc/report.odt", "03", "03", 1)]
    );
    assert_eq!(
        find(&["--name", "HOST*", "-i"]),
        [row("etc/hostname", "01", "05", 5)]
    );
    assert!(find(&["--name", "HOST*"]).is_empty());
    assert_eq!(
        find(&["--path", "/disk0/p1/var/*g/*", "--newest"]),
        [expected[4].clone()]
    );
    assert_eq!(find(&["--size", "+1MB", "--newest"]), [expected[4].clone()]);
    assert_eq!(
        find(&["--size", "6..7"]),
        [row("etc/hostname", "01", "05", 5)]
    );
    assert_eq!(find(&["--type", "l"]), [row("etc/link", "01", "05", 5)]);
    assert_eq!(
        find(&["--type", "d", "--name", "etc"]),
        [row("etc", "01", "05", 5)]
    );
    assert!(find(&["--older", "2001-01-01T00:00:00Z"]).is_empty());
    assert_eq!(
        find(&["--newer", "2001-01-01T00:00:00Z", "--type", "f"]),
        expected
    );
}

#[test]
fn some_points_and_lines() {
    let bench = Bench::new();
    let Some(()) = five_points(&bench) else {
        return;
    };
    let row = |day: &str| {
        (
            "disk0/p1/var/log/big".to_string(),
            day.to_string(),
            day.to_string(),
            1,
        )
    };
    let two = ["web01@2026-01-02T00-00-00Z", "web01@2026-01-04T00-00-00Z"];
    assert_eq!(
        rows(
            &bench
                .expect(
                    0,
                    &["find", "store", two[0], two[1], "--name", "big", "--json"]
                )
                .json()
        ),
        [row("02"), row("04")]
    );
    let lines = bench
        .expect(0, &["find", "store", "web01", "--name", "hostname"])
        .lines();
    assert_eq!(lines.len(), 1);
    let whole = "web01@2026-01-01T00-00-00Z..2026-01-05T00-00-00Z (5):/disk0/p1/etc/hostname";
    assert!(lines[0].ends_with(whole), "{lines:?}");
    bench.expect(1, &["find", "store", "nobody"]);
    bench.expect(2, &["find", "store", "web01", "--name", "["]);
    bench.expect(2, &["find", "store", "web01", "--size", "much"]);
}

#[test]
fn what_is_found_can_be_copied() {
    let bench = Bench::new();
    let Some(()) = five_points(&bench) else {
        return;
    };
    let list = |how: &str| {
        let arguments = [
            "find", "store", "web01", "--name", "*o*", "--type", "f", "--newest", how,
        ];
        let found = bench.expect(0, &arguments).stdout;
        fs::write(bench.path("list"), &found).unwrap();
        found
    };
    let lines = String::from_utf8(list("--plain")).unwrap();
    assert_eq!(
        lines.lines().collect::<Vec<_>>(),
        [
            "web01@2026-01-05T00-00-00Z:/disk0/p1/etc/hostname",
            "web01@2026-01-03T00-00-00Z:/disk0/p1/etc/report.odt",
        ]
    );
    bench.expect(0, &["copy", "store", "--from-file", "list", "lines"]);
    let nulls = list("-0");
    assert_eq!(nulls.iter().filter(|byte| **byte == 0).count(), 2);
    let copied = bench.expect(
        0,
        &[
            "copy",
            "store",
            "--from-file",
            "list",
            "-0",
            "nulls",
            "--json",
        ],
    );
    assert_eq!(copied.json()["files"], 2);
    for folder in ["lines", "nulls"] {
        let read = |name: &str| fs::read(bench.path(folder).join(name)).unwrap();
        assert_eq!(read("hostname"), b"web01\n");
        assert_eq!(read("report.odt"), b"a new file\n");
    }
    // All versions of a file, each where it was.
    let arguments = ["find", "store", "web01", "--name", "big", "-0"];
    fs::write(bench.path("list"), bench.expect(0, &arguments).stdout).unwrap();
    bench.expect(
        0,
        &[
            "copy",
            "store",
            "--from-file",
            "list",
            "-0",
            "--parents",
            "all",
        ],
    );
    let read = |day: u8| {
        let path = format!("all/web01/2026-01-0{day}T00-00-00Z/disk0/p1/var/log/big");
        fs::read(bench.path(&path)).unwrap()
    };
    assert!(read(2) == fs::read(bench.path("tree/var/log/big")).unwrap());
    assert!(read(2) != read(5));
}

#[test]
fn what_cannot_be_read_is_named_at_the_end() {
    let bench = Bench::new();
    let Some(()) = filled(&bench) else { return };
    if !have(&["debugfs"]) {
        return;
    }
    backup_at(&bench, "2026-01-01T00:00:00Z");
    lose_names(&bench);
    backup_at(&bench, "2026-01-02T00:00:00Z");
    // Its superblock is gone, and so are all of its copies.
    let file = fs::OpenOptions::new()
        .write(true)
        .open(bench.path("disk.raw"))
        .unwrap();
    file.write_all_at(&[0x55; 16 << 20], START).unwrap();
    backup_at(&bench, "2026-01-03T00:00:00Z");
    let answer = bench.expect(3, &["find", "store", "web01", "--type", "f", "--json"]);
    for named in [
        "2026-01-02T00-00-00Z:/disk0/p1/var",
        "2026-01-03T00-00-00Z:/disk0/p1",
    ] {
        assert!(answer.stderr.contains(named), "{}", answer.stderr);
    }
    let found = rows(&answer.json());
    assert!(
        found
            .iter()
            .any(|(path, _, last, _)| path.ends_with("hostname") && last == "02")
    );
    assert!(
        found
            .iter()
            .any(|(path, _, last, _)| path.ends_with("big") && last == "01")
    );
    // A point's own file that is damaged is damage of the store.
    let points = bench.store_files("points");
    let point = points
        .iter()
        .find(|path| text(path).contains("0000000002-"))
        .unwrap();
    let mut bytes = fs::read(point).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(point, bytes).unwrap();
    let answer = bench.expect(
        4,
        &["find", "store", "web01", "--name", "hostname", "--json"],
    );
    assert_eq!(answer.json().as_array().unwrap().len(), 1);
}

#[test]
fn names_that_are_no_text_are_told_with_their_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let bench = Bench::new();
    if !have(&["mke2fs"]) {
        return;
    }
    let name = std::ffi::OsStr::from_bytes(b"odd \xff name");
    fs::create_dir(bench.path("tree")).unwrap();
    fs::write(bench.path("tree").join(name), "odd\n").unwrap();
    let (tree, image) = (bench.path("tree"), bench.path("whole.raw"));
    tool(
        "mke2fs",
        &["-q", "-t", "ext4", "-d", text(&tree), text(&image), "8m"],
    );
    bench.backup("m", &["whole.raw"]);
    let found = bench
        .expect(0, &["find", "store", "--name", "odd ? name", "--json"])
        .json();
    assert_eq!(found[0]["path"], "disk0/p0/odd \u{fffd} name");
    assert_eq!(
        found[0]["path_hex"],
        "6469736b302f70302f6f646420ff206e616d65"
    );
    let plain = bench
        .expect(0, &["find", "store", "--name", "odd*", "-0"])
        .stdout;
    fs::write(bench.path("list"), plain).unwrap();
    bench.expect(0, &["copy", "store", "--from-file", "list", "-0", "out"]);
    assert_eq!(fs::read(bench.path("out").join(name)).unwrap(), b"odd\n");
}

/// The lines of `ls` and the paths that `find` tells of `/many`, of which one block of names in the middle is lost.
#[test]
fn a_folder_with_a_bad_block_shows_the_names_that_can_be_read() {
    let bench = Bench::new();
    if !have(&["mke2fs", "debugfs"]) {
        return;
    }
    let (tree, part) = (bench.path("tree"), bench.path("part.img"));
    fs::create_dir_all(tree.join("many")).unwrap();
    for number in 0..300 {
        fs::write(
            tree.join(format!("many/a file with a long name {number:04}")),
            "",
        )
        .unwrap();
    }
    let make = ["-q", "-t", "ext4", "-b", "1024", "-N", "1000", "-d"];
    tool(
        "mke2fs",
        &[&make[..], &[text(&tree), text(&part), "8m"]].concat(),
    );
    let at = block_of(&bench, "/many", 4);
    let file = fs::OpenOptions::new().write(true).open(&part).unwrap();
    file.write_all_at(&[0x55; 1024], at).unwrap();
    bench.backup("m", &["part.img"]);
    let found = bench.expect(3, &["find", "store", "m", "--type", "f", "--plain"]);
    assert!(found.stderr.contains("/disk0/p0/many"), "{}", found.stderr);
    let listed = bench.expect(3, &["ls", "store", "m@latest:/disk0/p0/many"]);
    assert!(!listed.stderr.is_empty());
    let (found, listed) = (found.lines().len(), listed.lines().len());
    assert!(found > 20 && found < 300, "{found}");
    assert_eq!(listed, found);
}

#[test]
fn a_named_stream_is_part_of_a_version() {
    let bench = Bench::new();
    if !have(&["mkntfs", "ntfscp"]) {
        return;
    }
    let (image, file) = (bench.path("pc.raw"), bench.path("file"));
    fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
    tool("mkntfs", &["-F", "-q", text(&image)]);
    let put = |content: &str, how: &[&str]| {
        fs::write(&file, content).unwrap();
        let rest = [text(&image), text(&file), "report.txt"];
        tool("ntfscp", &[&["-q"], how, &rest].concat());
    };
    let versions = |code: i32| {
        let find = ["find", "store", "pc", "--name", "report.txt", "--json"];
        let answer = bench.expect(code, &find);
        assert_eq!(answer.stderr, "");
        answer.json().as_array().unwrap().len()
    };
    put("content\n", &[]);
    bench.backup("pc", &["pc.raw"]);
    // A new one, one of another length, one of the same.
    for (round, content) in ["1\n", "22\n", "33\n"].iter().enumerate() {
        put(content, &["-N", "stream"]);
        bench.backup("pc", &["pc.raw"]);
        assert_eq!(versions(0), round + 2, "{content}");
    }
}
