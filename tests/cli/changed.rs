//! Backups with change information: from a hypervisor's overlay, and as a plain list.

use super::bench::{Bench, have, same_disk, text, tool};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::FileExt;

const MIB: u64 = 1 << 20;

/// Writes bytes into a file.
fn write(bench: &Bench, name: &str, offset: u64, bytes: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(bench.path(name));
    file.unwrap().write_all_at(bytes, offset).unwrap();
}

fn changed(bench: &Bench, code: i32, arguments: &[&str]) -> Value {
    let mut all = vec!["backup", "store", "--machine", "m", "--json"];
    all.extend_from_slice(arguments);
    bench.expect(code, &all).json()
}

#[test]
fn the_map_of_an_overlay_says_what_changed() {
    let bench = Bench::new();
    if !have(&["qemu-img", "qemu-io"]) {
        return;
    }
    let base = bench.noise("base.raw", 21, 24 * MIB);
    let file = fs::OpenOptions::new().write(true).open(&base).unwrap();
    file.set_len(48 * MIB).unwrap();
    bench.backup("m", &["base.raw"]);
    let (overlay, now) = (bench.path("overlay.qcow2"), bench.path("now.raw"));
    let overlay = text(&overlay);
    let create = [
        "create",
        "-q",
        "-f",
        "qcow2",
        "-b",
        text(&base),
        "-F",
        "raw",
        overlay,
    ];
    tool("qemu-img", &create);
    for command in [
        "write -q -P 7 1M 64k",
        "write -q -P 0 2M 192k",
        "write -q -z 4M 1M",
        "write -q -P 9 40M 512",
    ] {
        tool("qemu-io", &["-f", "qcow2", "-c", command, overlay]);
    }
    let map = tool(
        "qemu-img",
        &["map", "-f", "qcow2", "--output=json", overlay],
    );
    fs::write(bench.path("map.json"), map).unwrap();
    tool(
        "qemu-img",
        &["convert", "-f", "qcow2", "-O", "raw", overlay, text(&now)],
    );

    let point = changed(
        &bench,
        0,
        &["--base", "m@latest", "--changed", "map.json", "now.raw"],
    );
    // A check of one region, and what was written, with the chunks around it.
    assert!(point["read_bytes"].as_u64().unwrap() < 6 * MIB, "{point}");
    assert!(
        point["unchanged_bytes"].as_u64().unwrap() > 40 * MIB,
        "{point}"
    );
    assert!(point["new_bytes"].as_u64().unwrap() > 0, "{point}");
    let restored = bench.path("restored");
    bench.expect(
        0,
        &["restore", "store", "m@latest", "--to", text(&restored)],
    );
    same_disk(&now, "raw", &restored.join("disk0.raw"));
    // A backup that reads everything comes to the same point.
    let whole = bench.backup("other", &["now.raw"]);
    assert_eq!(whole["stored_bytes"], 0, "{whole}");
    assert_eq!(whole["unchanged_bytes"], 0);
}

#[test]
fn a_plain_list_is_for_the_disk_that_it_names() {
    let bench = Bench::new();
    bench.noise("a.raw", 22, 9 * MIB);
    bench.noise("b.raw", 23, 9 * MIB);
    let first = bench.backup("m", &["a.raw", "data=b.raw"]);
    write(&bench, "a.raw", 5000, b"changed");
    write(&bench, "b.raw", 8 * MIB, &[0; 20_000]);
    fs::write(bench.path("a.json"), r#"[{"start": 5000, "length": 7}]"#).unwrap();
    let zeros = format!(
        r#"[{{"start": {}, "length": 20000, "zero": true}}]"#,
        8 * MIB
    );
    fs::write(bench.path("b.json"), zeros).unwrap();
    let id = first["point"].as_str().unwrap();
    for changes in [["a.json", "b.json"], ["data=b.json", "disk0=a.json"]] {
        let [x, y] = changes;
        // The second one by its place is for the second disk.
        let point = changed(
            &bench,
            0,
            &[
                "--base",
                id,
                "--changed",
                x,
                "--changed",
                y,
                "a.raw",
                "data=b.raw",
            ],
        );
        let read = point["read_bytes"].as_u64().unwrap();
        assert!(read < 10 * MIB, "{point}");
        assert_eq!(point["unchanged_bytes"], 2 * 9 * MIB - 20_007);
    }
    let restored = bench.path("restored");
    bench.expect(
        0,
        &["restore", "store", "m@latest", "--to", text(&restored)],
    );
    for (disk, image) in [("disk0.raw", "a.raw"), ("data.raw", "b.raw")] {
        let same = fs::read(restored.join(disk)).unwrap() == fs::read(bench.path(image)).unwrap();
        assert!(same, "{disk}");
    }
}

#[test]
fn information_that_is_wrong_is_found_and_named() {
    let bench = Bench::new();
    bench.noise("a.raw", 24, 10 * MIB);
    bench.backup("m", &["a.raw"]);
    for region in 0..3 {
        write(&bench, "a.raw", region * 4 * MIB + 100_000, b"nobody told");
    }
    fs::write(bench.path("none.json"), "[]").unwrap();
    let point = changed(
        &bench,
        3,
        &["--base", "m@latest", "--changed", "none.json", "a.raw"],
    );
    let warning = point["warnings"][0].as_str().unwrap();
    assert!(
        warning.starts_with("disk0: it differs from the base at offset "),
        "{warning}"
    );
    assert_eq!(point["unchanged_bytes"], 0);
    // So everything was read.
    let whole = bench.backup("other", &["a.raw"]);
    assert_eq!(whole["stored_bytes"], 0, "{whole}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let bench = Bench::new();
    bench.noise("a.raw", 25, MIB);
    bench.backup("m", &["a.raw"]);
    bench.backup("n", &["a.raw"]);
    fs::write(bench.path("none.json"), "[]").unwrap();
    fs::write(
        bench.path("far.json"),
        r#"[{"start": 1048576, "length": 1}]"#,
    )
    .unwrap();
    fs::write(bench.path("other.json"), r#"[{"offset": 0, "length": 1}]"#).unwrap();
    let [option, base] = ["--base", "m@latest"];
    for (code, arguments) in [
        (2, &["--changed", "none.json", "a.raw"][..]),
        (2, &[option, base, "a.raw"]),
        (2, &[option, base, "--changed", "x=none.json", "a.raw"]),
        (
            2,
            &[
                option,
                base,
                "--changed",
                "none.json",
                "--changed",
                "disk0=none.json",
                "a.raw",
            ],
        ),
        (2, &[option, base, "--changed", "far.json", "a.raw"]),
        (2, &[option, base, "--changed", "other.json", "a.raw"]),
        (1, &[option, base, "--changed", "missing.json", "a.raw"]),
        (
            1,
            &[
                option,
                "m@2001-01-01T00-00-00Z",
                "--changed",
                "none.json",
                "a.raw",
            ],
        ),
        (1, &[option, "n@latest", "--changed", "none.json", "a.raw"]),
        (2, &[option, base, "--changed", "none.json", "C=a.raw"]),
    ] {
        let mut all = vec!["backup", "store", "--machine", "m"];
        all.extend_from_slice(arguments);
        let refused = bench.expect(code, &all);
        assert!(!refused.stderr.is_empty(), "{arguments:?}");
    }
    assert_eq!(bench.points().len(), 2);
}

#[test]
fn what_cannot_be_read_is_refused_with_its_place() {
    let bench = Bench::new();
    bench.noise("a.raw", 26, MIB);
    bench.backup("m", &["a.raw"]);
    fs::write(bench.path("bad.json"), "[{\"start\": 0,\n \"length\": -5}]").unwrap();
    let command = ["backup", "store", "--machine", "m", "--base", "m@latest"];
    let refused = bench.expect(
        2,
        &[&command[..], &["--changed", "bad.json", "a.raw"]].concat(),
    );
    assert!(
        refused.stderr.contains("line 2 column"),
        "{}",
        refused.stderr
    );
}
