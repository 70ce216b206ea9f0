//! diff: changed ranges, files, and what they are good for.

use super::bench::{Bench, have, text, tool};
use super::browse::{filled, lose_names};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::FileExt;

const MIB: u64 = 1 << 20;

fn write(bench: &Bench, name: &str, offset: u64, bytes: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(bench.path(name));
    file.unwrap().write_all_at(bytes, offset).unwrap();
}

/// Two points of an image of which some ranges changed.
fn two_points(bench: &Bench) -> [String; 2] {
    bench.noise("a.raw", 31, 24 * MIB);
    let id = |point: Value| point["point"].as_str().unwrap().to_string();
    let first = id(bench.backup("m", &["a.raw"]));
    write(bench, "a.raw", 5_000_000, b"changed");
    write(bench, "a.raw", 9 * MIB, &vec![0; 300_000]);
    write(bench, "a.raw", 24 * MIB - 10, b"the end");
    [first, id(bench.backup("m", &["a.raw"]))]
}

fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap()
}

#[test]
fn a_difference_is_what_a_backup_takes_as_change_information() {
    let bench = Bench::new();
    let [first, second] = two_points(&bench);
    let document = bench.expect(0, &["diff", "store", &first, &second, "--json"]);
    fs::write(bench.path("changed.json"), &document.stdout).unwrap();
    let ranges = document.json();
    let ranges = ranges.as_array().unwrap();
    // Few and small, but for the zeros, which are told as such.
    assert!(ranges.len() >= 3, "{ranges:?}");
    let zero: u64 = ranges
        .iter()
        .filter(|r| r["zero"] == true)
        .map(|r| number(r, "length"))
        .sum();
    assert!((290_000..=300_000).contains(&zero), "{ranges:?}");
    let data: u64 = ranges
        .iter()
        .filter(|r| r["zero"] == false)
        .map(|r| number(r, "length"))
        .sum();
    assert!(data < MIB, "{ranges:?}");
    for range in ranges {
        assert_eq!(
            (&range["depth"], &range["present"]),
            (&0.into(), &true.into())
        );
        assert_ne!(range["zero"], range["data"]);
    }
    // A point made of the first one and these ranges is the second one.
    let arguments = [
        "backup",
        "store",
        "--machine",
        "m",
        "--json",
        "--base",
        &first,
    ];
    let arguments = [&arguments[..], &["--changed", "changed.json", "a.raw"]].concat();
    let third = bench.expect(0, &arguments).json();
    assert!(number(&third, "read_bytes") < 6 * MIB, "{third}");
    assert!(number(&third, "unchanged_bytes") > 22 * MIB, "{third}");
    let third = third["point"].as_str().unwrap();
    let same = bench
        .expect(0, &["diff", "store", &second, third, "--json"])
        .json();
    assert_eq!(same, Value::Array(Vec::new()));
    let restored = bench.path("restored");
    bench.expect(0, &["restore", "store", third, "--to", text(&restored)]);
    let bytes = fs::read(restored.join("disk0.raw")).unwrap();
    assert!(bytes == fs::read(bench.path("a.raw")).unwrap());
}

#[test]
fn exact_ranges_are_blocks_that_differ() {
    let bench = Bench::new();
    let [first, second] = two_points(&bench);
    let exact = bench
        .expect(0, &["diff", "store", &first, &second, "--exact", "--json"])
        .json();
    let ranges: Vec<_> = exact
        .as_array()
        .unwrap()
        .iter()
        .map(|r| (number(r, "start"), number(r, "length"), r["zero"] == true))
        .collect();
    let zeros = 300_000 / 4096 * 4096;
    let expected = [
        (5_000_000 / 4096 * 4096, 4096, false),
        (9 * MIB, zeros, true),
        (9 * MIB + zeros, 4096, false),
        (24 * MIB - 4096, 4096, false),
    ];
    assert_eq!(ranges, expected);
    let lines = bench
        .expect(0, &["diff", "store", &first, &second, "--exact"])
        .lines();
    assert_eq!(lines.len(), 5);
    assert!(lines[1].ends_with("zeros"), "{lines:?}");
    assert!(
        lines[4].starts_with("disk0: ") && lines[4].contains("4 ranges"),
        "{lines:?}"
    );
}

#[test]
fn disks_are_matched_by_name_and_may_have_grown() {
    let bench = Bench::new();
    bench.noise("a.raw", 32, 2 * MIB);
    bench.noise("b.raw", 33, MIB);
    bench.backup("m", &["a.raw", "data=b.raw"]);
    let file = fs::OpenOptions::new()
        .write(true)
        .open(bench.path("b.raw"))
        .unwrap();
    file.set_len(3 * MIB).unwrap();
    write(&bench, "b.raw", 2 * MIB, &[7; 4096]);
    bench.backup("other", &["DATA=b.raw", "more=a.raw"]);
    let [a, b] = ["m@latest", "other@latest"];
    // What only one of them has is named.
    let told = bench.expect(3, &["diff", "store", a, b]);
    assert!(
        told.stderr.contains("disk0") && told.stderr.contains("more"),
        "{}",
        told.stderr
    );
    let lines = told.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains(&format!("{}", 2 * MIB)), "{lines:?}");
    assert!(
        lines[1].contains("its size was 1048576 bytes and is 3145728"),
        "{lines:?}"
    );
    let json = bench
        .expect(0, &["diff", "store", a, b, "--disk", "data", "--json"])
        .json();
    assert_eq!(json.as_array().unwrap().len(), 1);
    assert_eq!(number(&json[0], "start"), 2 * MIB);
    bench.expect(1, &["diff", "store", a, b, "--disk", "disk0"]);
    bench.expect(1, &["diff", "store", a, b, "--files", "--disk", "nothing"]);
    // The ranges of one disk are a document, those of two are not.
    bench.backup("m", &["a.raw", "data=b.raw"]);
    let first = bench.points()[0]["point"].as_str().unwrap().to_string();
    let refused = bench.expect(2, &["diff", "store", &first, a, "--json"]);
    assert!(refused.stderr.contains("--disk"), "{}", refused.stderr);
    bench.expect(2, &["diff", "store", a, b, "--files", "--exact"]);
    bench.expect(2, &["diff", "store", a]);
    bench.expect(1, &["diff", "store", a, "nobody@latest"]);
}

#[test]
fn files_that_changed_are_listed() {
    let bench = Bench::new();
    let Some(()) = filled(&bench) else { return };
    if !have(&["debugfs"]) {
        return;
    }
    bench.backup("web01", &["disk.raw"]);
    let (part, disk) = (bench.path("part.img"), bench.path("disk.raw"));
    fs::write(bench.path("new"), "a new file\n").unwrap();
    let write = format!("write {} /etc/new", text(&bench.path("new")));
    for command in ["rm /var/log/big", "sif /etc/hostname mode 0100600", &write] {
        tool("debugfs", &["-w", "-R", command, text(&part)]);
    }
    let (from, to) = (format!("if={}", text(&part)), format!("of={}", text(&disk)));
    tool(
        "dd",
        &[&from, &to, "bs=1M", "seek=1", "conv=notrunc", "status=none"],
    );
    bench.backup("web01", &["disk.raw"]);
    let first = bench.points()[0]["point"].as_str().unwrap().to_string();
    let command = ["diff", "store", &first, "web01@latest", "--files"];
    let lines = bench.expect(0, &command).lines();
    assert_eq!(
        lines,
        [
            "M disk0/p1/etc/hostname  (mode)",
            "+ disk0/p1/etc/new",
            "- disk0/p1/var/log/big",
            "1 added, 1 removed, 1 changed"
        ]
    );
    let json = bench
        .expect(0, &[&command[..], &["--json"]].concat())
        .json();
    let paths: Vec<_> = json
        .as_array()
        .unwrap()
        .iter()
        .map(|c| (c["path"].as_str().unwrap(), c["change"].as_str().unwrap()))
        .collect();
    assert_eq!(
        paths,
        [
            ("disk0/p1/etc/hostname", "changed"),
            ("disk0/p1/etc/new", "added"),
            ("disk0/p1/var/log/big", "removed")
        ]
    );
    assert_eq!(json[0]["differs"], serde_json::json!(["mode"]));
    assert_eq!(json[1]["size_after"], 11);
    assert_eq!(json[2]["size_before"], 3_000_000);
    assert_eq!(json[2]["kind"], "file");
    // The path is one that the other commands take.
    let address = "web01@latest:/disk0/p1/etc/new";
    assert_eq!(
        bench.expect(0, &["cat", "store", address]).stdout,
        b"a new file\n"
    );
}

#[test]
fn a_folder_that_cannot_be_read_is_named() {
    let bench = Bench::new();
    let Some(()) = filled(&bench) else { return };
    if !have(&["debugfs"]) {
        return;
    }
    bench.backup("web01", &["disk.raw"]);
    // What is beside it is told.
    lose_names(&bench);
    bench.backup("web01", &["disk.raw"]);
    let first = bench.points()[0]["point"].as_str().unwrap().to_string();
    let named = bench.expect(3, &["diff", "store", &first, "web01@latest", "--files"]);
    assert!(named.stderr.contains("disk0/p1/var"), "{}", named.stderr);
    assert_eq!(named.lines(), ["0 added, 0 removed, 0 changed"]);
}
