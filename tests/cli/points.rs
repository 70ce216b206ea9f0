//! init, backup, points, stats, verify: what they do and which documents they print.

use super::bench::{Bench, has_fields};
use serde_json::Value;

const MIB: u64 = 1 << 20;

#[test]
fn a_store_is_made_once() {
    let bench = Bench::new();
    let again = bench.expect(1, &["init", "store"]);
    assert!(again.stderr.contains("there is a store already"));
    std::fs::create_dir(bench.path("full")).unwrap();
    std::fs::write(bench.path("full/file"), "x").unwrap();
    bench.expect(1, &["init", "full"]);
    assert_eq!(std::fs::read(bench.path("full/file")).unwrap(), b"x");
    bench.expect(0, &["init", "--fixed", "64", "grid"]);
    bench.expect(2, &["init", "--fixed", "7", "odd"]);
}

#[test]
fn documents_have_the_fields_of_the_contract() {
    let bench = Bench::new();
    bench.noise("a.raw", 1, 5 * MIB);
    let point = bench.backup("web01", &["a.raw"]);
    has_fields(
        &point,
        &[
            ("point", "string"),
            ("machine", "string"),
            ("time", "string"),
            ("read_bytes", "bytes"),
            ("new_bytes", "bytes"),
            ("stored_bytes", "bytes"),
            ("excluded_bytes", "bytes"),
            ("seconds", "number"),
            ("warnings", "array"),
        ],
    );
    assert_eq!(point["machine"], "web01");
    assert_eq!(point["read_bytes"], 5 * MIB);
    assert_eq!(point["new_bytes"], 5 * MIB);
    assert_eq!(point["excluded_bytes"], 0);
    // RFC 3339 in UTC.
    let time = point["time"].as_str().unwrap();
    assert!(time.len() == 20 && time.ends_with('Z') && time.contains('T'));

    let points = bench.points();
    assert_eq!(points.len(), 1);
    has_fields(
        &points[0],
        &[
            ("point", "string"),
            ("machine", "string"),
            ("time", "string"),
            ("disks", "array"),
            ("added_bytes", "bytes"),
        ],
    );
    assert_eq!(points[0]["point"], point["point"]);
    assert_eq!(points[0]["time"], point["time"]);
    assert_eq!(points[0]["added_bytes"], point["stored_bytes"]);
    assert_eq!(points[0]["disks"][0]["name"], "disk0");
    assert_eq!(points[0]["disks"][0]["size"], 5 * MIB);
}

#[test]
fn documents_about_the_store_have_the_fields_of_the_contract() {
    let bench = Bench::new();
    bench.noise("a.raw", 1, 5 * MIB);
    bench.backup("web01", &["a.raw"]);
    let stats = bench.expect(0, &["stats", "store", "--json"]).json();
    let bytes = [
        "points",
        "machines",
        "chunks",
        "packs",
        "logical_bytes",
        "stored_bytes",
    ];
    has_fields(&stats, &bytes.map(|name| (name, "bytes")));
    assert_eq!(stats["points"], 1);
    assert_eq!(stats["machines"], 1);
    assert_eq!(stats["logical_bytes"], 5 * MIB);
    assert!(stats["stored_bytes"].as_u64().unwrap() > 5 * MIB);

    let verified = bench.expect(0, &["verify", "store", "--json"]).json();
    has_fields(
        &verified,
        &[
            ("checked_bytes", "bytes"),
            ("damaged", "array"),
            ("repaired", "array"),
        ],
    );
    assert!(verified["checked_bytes"].as_u64().unwrap() >= 5 * MIB);
    assert_eq!(verified["damaged"], Value::Array(Vec::new()));
}

#[test]
fn the_same_disk_again_takes_no_space() {
    let bench = Bench::new();
    let size = 64 * MIB;
    bench.noise("a.raw", 2, size);
    bench.backup("web01", &["a.raw"]);
    let again = bench.backup("web01", &["a.raw"]);
    assert_eq!(again["new_bytes"], 0);
    assert!(
        again["stored_bytes"].as_u64().unwrap() < size / 1000,
        "{again}"
    );
    // Under another name and as another machine as well.
    let other = bench.backup("web02", &["system=a.raw"]);
    assert!(
        other["stored_bytes"].as_u64().unwrap() < size / 1000,
        "{other}"
    );
    assert_eq!(bench.points().len(), 3);
}

#[test]
fn points_are_named_by_machine_time_and_id() {
    let bench = Bench::new();
    bench.noise("a.raw", 3, MIB);
    let time = "2026-11-19T02:00:00Z";
    let backup = [
        "backup",
        "store",
        "--machine",
        "web01",
        "a.raw",
        "--json",
        "--time",
    ];
    let first = bench.expect(0, &[&backup[..], &[time]].concat()).json();
    assert_eq!(first["time"], time);
    let taken = bench.expect(1, &[&backup[..], &[time]].concat());
    assert!(taken.stderr.contains("2026-11-19"), "{}", taken.stderr);

    let second = bench.backup("web01", &["a.raw"]);
    let id = first["point"].as_str().unwrap();
    for name in [
        "web01@2026-11-19T02-00-00Z",
        "web01@2026-11-19T02:00:00Z",
        &id[..12],
    ] {
        bench.expect(0, &["ls", "store", name]);
    }
    // An import lies before the latest point and never becomes it.
    bench.expect(0, &[&backup[..], &["2026-11-18T02:00:00Z"]].concat());
    let listed = bench.expect(0, &["points", "store", "--machine", "web01"]);
    assert_eq!(listed.lines().len(), 3);
    assert!(listed.text().contains("import"));
    let latest = bench
        .points()
        .into_iter()
        .find(|p| p["point"] == second["point"]);
    assert_eq!(latest.unwrap()["import"], false);

    for name in ["web02@latest", "web01@2020-01-01T00-00-00Z", "0000000000"] {
        bench.expect(1, &["ls", "store", name]);
    }
    for name in ["web01", "xyz", ""] {
        bench.expect(2, &["ls", "store", name]);
    }
}

#[test]
fn a_clock_that_went_back_is_a_warning() {
    let bench = Bench::new();
    bench.noise("a.raw", 4, MIB);
    let backup = ["backup", "store", "--machine", "web01", "a.raw", "--json"];
    bench.expect(
        0,
        &[&backup[..], &["--time", "2199-01-01T00:00:00Z"]].concat(),
    );
    let later = bench.expect(3, &backup);
    assert_eq!(later.json()["warnings"].as_array().unwrap().len(), 1);
    assert!(later.stderr.contains("warning"));
    bench.expect(0, &["verify", "store"]);
}

#[test]
fn what_makes_no_sense_is_refused_as_usage() {
    let bench = Bench::new();
    bench.noise("a.raw", 5, MIB);
    let usages: &[&[&str]] = &[
        &["backup", "store", "a.raw"],
        &["backup", "store", "--machine", "m"],
        &["backup", "store", "--machine", "a/b", "a.raw"],
        &["backup", "store", "--machine", ".m", "a.raw"],
        &[
            "backup",
            "store",
            "--machine",
            "m",
            "--time",
            "yesterday",
            "a.raw",
        ],
        &["backup", "store", "--machine", "m", "x=a.raw", "X=a.raw"],
        &["backup", "store", "--machine", "m", "x="],
        &["restore", "store", "m@latest"],
        &["points", "store", "--colour"],
        &[],
    ];
    for usage in usages {
        let refused = bench.expect(2, usage);
        assert!(refused.stdout.is_empty());
        assert!(!refused.stderr.is_empty());
    }
    assert!(bench.points().is_empty());
}
