//! forget, pin, protect: what is kept and why, and what happens when the records of that are damaged.

use super::bench::{Answer, Bench, has_fields};
use serde_json::Value;
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;

/// A machine with points of these times.
fn with_points(bench: &Bench, machine: &str, times: &[&str]) -> Vec<Value> {
    bench.noise("disk.raw", 1, MIB);
    let backup = |time: &&str| {
        let arguments = [
            "backup",
            "store",
            "--json",
            "--machine",
            machine,
            "--time",
            time,
            "disk.raw",
        ];
        bench.expect(0, &arguments).json()
    };
    times.iter().map(backup).collect()
}

fn forget(bench: &Bench, code: i32, arguments: &[&str]) -> Answer {
    bench.expect(code, &[&["forget", "store"], arguments].concat())
}

/// The times of all points that are listed.
fn times(bench: &Bench) -> Vec<String> {
    let points = bench.points();
    let time = |point: &Value| point["time"].as_str().unwrap().to_string();
    points.iter().map(time).collect()
}

fn id(point: &Value) -> &str {
    point["point"].as_str().unwrap()
}

/// The file of a point.
fn file(bench: &Bench, point: &Value) -> PathBuf {
    let mut files = bench.store_files("points");
    files.retain(|path| path.to_str().unwrap().ends_with(id(point)));
    files.remove(0)
}

fn spoil(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn retention(bench: &Bench, point: &Value) -> PathBuf {
    file(bench, point).with_file_name("retention")
}

const AUTUMN: [&str; 5] = [
    "2026-10-24T21:30:00Z",
    "2026-10-24T22:30:00Z",
    "2026-10-25T22:30:00Z",
    "2026-10-25T23:30:00Z",
    "2026-10-26T12:00:00Z",
];

#[test]
fn rules_count_days_of_the_user() {
    let bench = Bench::new();
    with_points(&bench, "web01", &AUTUMN);
    let rules = ["--machine", "web01", "--keep-daily", "2", "--timezone"];
    let shown = |zone: &str| {
        let more = [zone, "--dry-run", "--json"];
        forget(&bench, 0, &[&rules[..], &more].concat()).json()
    };
    let document = shown("Europe/Berlin");
    has_fields(
        &document,
        &[
            ("timezone", "string"),
            ("dry_run", "bool"),
            ("forgotten", "bytes"),
            ("machines", "array"),
        ],
    );
    let points = document["machines"][0]["points"].as_array().unwrap();
    has_fields(
        &points[0],
        &[
            ("point", "string"),
            ("sequence", "bytes"),
            ("time", "string"),
            ("keep", "bool"),
            ("reasons", "array"),
        ],
    );
    // In Berlin the 25th lasts from 22:00 of the 24th to 23:00 of the 25th in UTC.
    let keep: Vec<bool> = points.iter().map(|p| p["keep"] == true).collect();
    assert_eq!(keep, [false, false, true, false, true]);
    assert_eq!(points[2]["reasons"][0], "daily 2026-10-25");
    assert_eq!(points[0]["reasons"][0], "no rule keeps it");
    let utc = shown("UTC");
    let keep = utc["machines"][0]["points"].as_array().unwrap().clone();
    let keep: Vec<bool> = keep.iter().map(|p| p["keep"] == true).collect();
    assert_eq!(keep, [false, false, false, true, true]);
    // That was a rehearsal.
    assert_eq!(times(&bench).len(), 5);
    let done = forget(&bench, 0, &[&rules[..], &["Europe/Berlin"]].concat());
    assert_eq!(done.lines().len(), 5);
    assert!(done.lines()[2].starts_with("keep    web01@2026-10-25T22-30-00Z"));
    assert!(done.lines()[3].starts_with("forget  web01@2026-10-25T23-30-00Z"));
    assert!(
        done.stderr.contains("3 points forgotten"),
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains("cairn prune store"), "{}", done.stderr);
    assert_eq!(times(&bench), [AUTUMN[2], AUTUMN[4]]);
    // Once more changes nothing.
    let again = forget(
        &bench,
        0,
        &[&rules[..], &["Europe/Berlin", "--json"]].concat(),
    );
    assert_eq!(again.json()["forgotten"], 0);
    bench.expect(0, &["verify", "store"]);
    let next = bench.backup("web01", &["disk.raw"]);
    let listed = bench.points();
    assert_eq!(listed[2]["point"], next["point"]);
    assert_eq!(listed[2]["sequence"], 6);
}

#[test]
fn every_rule_names_what_it_keeps() {
    let bench = Bench::new();
    with_points(&bench, "web01", &AUTUMN);
    for (rule, kept) in [
        (["--keep-last", "2"], 2),
        (["--keep-hourly", "9"], 5),
        (["--keep-weekly", "1"], 1),
        (["--keep-monthly", "3"], 1),
        (["--keep-yearly", "3"], 1),
        (["--keep-within", "1d"], 3),
        (["--keep-within", "99y"], 5),
    ] {
        let more = ["--all", "--timezone", "UTC", "--dry-run", "--json"];
        let document = forget(&bench, 0, &[&rule[..], &more].concat()).json();
        let points = document["machines"][0]["points"].as_array().unwrap();
        let keeps = points.iter().filter(|p| p["keep"] == true);
        assert_eq!(keeps.count(), kept, "{rule:?}");
    }
}

#[test]
fn what_says_too_little_or_too_much_is_usage() {
    let bench = Bench::new();
    with_points(&bench, "m", &AUTUMN[..1]);
    let usages: &[&[&str]] = &[
        &[],
        &["--machine", "m"],
        &["--all"],
        &["--machine", "m", "--keep-last", "0"],
        &["--keep-last", "1"],
        &["--machine", "m", "--all", "--keep-last", "1"],
        &["m@latest", "--keep-last", "1"],
        &["m@latest", "--machine", "m"],
        &["--machine", "m", "--keep-daily", "-1"],
        &["--machine", "m", "--keep-within", "30"],
        &[
            "--machine",
            "m",
            "--keep-last",
            "1",
            "--timezone",
            "Nowhere/Else",
        ],
        &["--machine", "m", "--keep-last", "1", "--accept-gone"],
        &["--machine", "m", "--keep-last", "1", "--damaged"],
    ];
    for usage in usages {
        let refused = forget(&bench, 2, usage);
        assert!(refused.stdout.is_empty() && !refused.stderr.is_empty());
    }
    forget(&bench, 1, &["--machine", "nobody", "--keep-last", "1"]);
    forget(&bench, 1, &["--machine", "nobody", "--accept-gone"]);
    forget(&bench, 1, &["nobody@latest"]);
    assert_eq!(bench.points().len(), 1);
}

#[test]
fn pins_keep_points_until_they_end() {
    let bench = Bench::new();
    let points = with_points(&bench, "web01", &AUTUMN);
    let pin =
        |code, arguments: &[&str]| bench.expect(code, &[&["pin", "store"], arguments].concat());
    pin(0, &[id(&points[0]), "--note", "before the move"]);
    let until = [
        "web01@2026-10-24T22-30-00Z",
        "--until",
        "2199-01-31",
        "--timezone",
        "Europe/Berlin",
    ];
    let answer = pin(0, &[&until[..], &["--json"]].concat()).json();
    assert_eq!(answer["pinned"]["until"], "2199-01-31T23:00:00Z");
    for bad in ["2020-01-01", "soon", "0d"] {
        pin(2, &["web01@latest", "--until", bad]);
    }
    pin(1, &["web01@2020-01-01T00-00-00Z"]);
    pin(2, &["--until", "30d"]);
    let listed = pin(0, &[]).lines();
    assert_eq!(listed.len(), 2);
    assert!(listed[0].contains("pinned (before the move)"), "{listed:?}");
    assert!(listed[1].contains("pinned until 2199-01-31T23:00:00Z"));
    let document = pin(0, &["--json"]).json();
    assert_eq!(document[0]["point"], points[0]["point"]);
    assert_eq!(document[1]["pinned"]["holds"], true);
    // `points` shows them.
    let listed = bench.points();
    assert_eq!(listed[0]["pinned"]["note"], "before the move");
    assert_eq!(listed[2]["pinned"], Value::Null);
    assert!(bench.expect(0, &["points", "store"]).lines()[0].contains("pinned"));
    // Neither rules nor names are stronger.
    forget(&bench, 0, &["--all", "--keep-last", "1"]);
    assert_eq!(times(&bench), [AUTUMN[0], AUTUMN[1], AUTUMN[4]]);
    let refused = forget(&bench, 1, &["web01@latest", id(&points[0])]);
    assert!(refused.stderr.contains("nothing was forgotten") && refused.stderr.contains("pinned"));
    assert_eq!(bench.points().len(), 3);
    pin(0, &[id(&points[0]), "--remove"]);
    let removed = pin(0, &[id(&points[0]), "--remove"]);
    assert!(removed.stderr.contains("was not pinned"));
    forget(&bench, 0, &[id(&points[0])]);
    assert_eq!(times(&bench), [AUTUMN[1], AUTUMN[4]]);
}

#[test]
fn young_points_cannot_be_forgotten() {
    let bench = Bench::new();
    bench.expect(0, &["init", "--immutable", "30d", "safe"]);
    std::fs::remove_dir_all(bench.path("store")).unwrap();
    std::fs::rename(bench.path("safe"), bench.path("store")).unwrap();
    let points = with_points(&bench, "web01", &AUTUMN);
    // Ages are counted from when points were made, whatever time they were given.
    let kept = forget(&bench, 0, &["--all", "--keep-last", "1", "--json"]).json();
    assert_eq!(kept["forgotten"], 0);
    let reasons = &kept["machines"][0]["points"][0]["reasons"];
    assert_eq!(
        reasons[0],
        "younger than the store's immutability of 30 days"
    );
    let named = forget(
        &bench,
        1,
        &[id(&points[0]), "--allow-empty", "--clock-is-right"],
    );
    assert!(named.stderr.contains("immutability"), "{}", named.stderr);
    assert_eq!(bench.points().len(), 5);

    let protect =
        |code, period: &[&str]| bench.expect(code, &[&["protect", "store"], period].concat());
    assert!(protect(0, &[]).text().contains("for 30 days"));
    let lower = protect(1, &["29d"]);
    assert!(lower.stderr.contains("never lowered"), "{}", lower.stderr);
    protect(0, &["30d"]);
    protect(2, &["11y"]);
    protect(2, &["for ever"]);
    let raised = protect(0, &["2m", "--json"]).json();
    assert_eq!(raised["immutable_seconds"], 62 * 86_400);
    bench.expect(2, &["init", "--immutable", "11y", "long"]);
    assert!(!bench.path("long").exists());

    let free = Bench::new();
    assert!(
        free.expect(0, &["protect", "store"])
            .text()
            .contains("at any age")
    );
    with_points(&free, "web01", &AUTUMN);
    let rules = ["--machine", "web01", "--keep-last", "1", "--min-age"];
    let kept = forget(&free, 0, &[&rules[..], &["1h"]].concat());
    assert!(kept.lines()[0].contains("younger than the minimum age of 1 hour"));
    assert_eq!(free.points().len(), 5);
}

#[test]
fn the_last_point_goes_only_on_purpose() {
    let bench = Bench::new();
    with_points(&bench, "web01", &AUTUMN[..2]);
    with_points(&bench, "web02", &AUTUMN[..1]);
    forget(&bench, 0, &["web01@2026-10-24T21-30-00Z"]);
    let refused = forget(&bench, 1, &["web01@latest"]);
    assert!(refused.stderr.contains("the machine's last point"));
    // To keep nothing must be said twice.
    let nothing = ["--machine", "web01", "--keep-last", "0"];
    forget(&bench, 2, &nothing);
    forget(&bench, 0, &[&nothing[..], &["--allow-empty"]].concat());
    let listed = bench.points();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["machine"], "web02");
    bench.expect(0, &["verify", "store"]);
    bench.expect(0, &["doctor", "store"]);
    forget(&bench, 0, &["web02@latest", "--allow-empty"]);
    assert!(bench.points().is_empty());
    bench.backup("web01", &["disk.raw"]);
    assert_eq!(bench.points()[0]["sequence"], 3);
    bench.expect(0, &["verify", "store"]);
}

#[test]
fn a_damaged_point_is_kept_until_it_is_named_as_that() {
    let bench = Bench::new();
    let points = with_points(&bench, "web01", &AUTUMN);
    spoil(&file(&bench, &points[1]));
    let rules = ["--machine", "web01", "--keep-last", "1"];
    let done = forget(&bench, 4, &rules);
    assert!(
        done.text().contains("cannot be read: kept"),
        "{}",
        done.text()
    );
    assert!(done.stderr.contains(id(&points[1])), "{}", done.stderr);
    assert_eq!(done.lines().len(), 5);
    let refused = forget(&bench, 4, &[id(&points[1])]);
    assert!(refused.stderr.contains("--damaged"), "{}", refused.stderr);
    assert!(file(&bench, &points[1]).exists());
    forget(&bench, 0, &[id(&points[1]), "--damaged"]);
    assert_eq!(times(&bench), [AUTUMN[4]]);
    bench.expect(0, &["verify", "store"]);
    forget(&bench, 0, &rules);
}

#[test]
fn a_damaged_record_of_pins_stops_that_machine_only() {
    let bench = Bench::new();
    let points = with_points(&bench, "web01", &AUTUMN);
    with_points(&bench, "web02", &AUTUMN);
    bench.expect(0, &["pin", "store", id(&points[0])]);
    spoil(&retention(&bench, &points[0]));
    let done = forget(&bench, 4, &["--all", "--keep-last", "2", "--json"]);
    assert!(done.stderr.contains("--accept-gone"), "{}", done.stderr);
    assert_eq!(done.json()["forgotten"], 3);
    let listed = bench.expect(4, &["points", "store", "--json"]).json();
    assert_eq!(listed.as_array().unwrap().len(), 7);
    for command in ["verify", "doctor", "pin"] {
        bench.expect(4, &[command, "store"]);
    }
    bench.expect(4, &["pin", "store", id(&points[1])]);
    let next = ["backup", "store", "--machine", "web01", "disk.raw"];
    bench.expect(3, &next);
    let accepted = forget(
        &bench,
        3,
        &["--machine", "web01", "--accept-gone", "--json"],
    );
    assert_eq!(accepted.json()["accepted"][0]["pins_lost"], true);
    for command in ["verify", "doctor", "points", "pin"] {
        bench.expect(0, &[command, "store"]);
    }
    forget(&bench, 0, &["--machine", "web01", "--keep-last", "2"]);
    assert_eq!(bench.points().len(), 4);
    bench.expect(0, &next);
}

#[test]
fn a_point_that_is_gone_is_missed_until_that_is_accepted() {
    let bench = Bench::new();
    let points = with_points(&bench, "web01", &AUTUMN);
    std::fs::remove_file(file(&bench, &points[1])).unwrap();
    let missed = bench.expect(4, &["verify", "store"]);
    let said = missed.text() + &missed.stderr;
    assert!(
        said.contains("number 2") && said.contains("--accept-gone"),
        "{said}"
    );
    let accepted = forget(&bench, 0, &["--machine", "web01", "--accept-gone"]);
    assert!(
        accepted.stderr.contains("number 2 to 2"),
        "{}",
        accepted.stderr
    );
    bench.expect(0, &["verify", "store"]);
    let again = forget(&bench, 0, &["--machine", "web01", "--accept-gone"]);
    assert!(again.stderr.contains("nothing is gone"), "{}", again.stderr);
}

#[test]
fn without_its_policy_a_store_forgets_nothing() {
    let bench = Bench::new();
    let points = with_points(&bench, "web01", &AUTUMN);
    std::fs::remove_file(bench.path("store/policy")).unwrap();
    let refused = forget(&bench, 4, &["--all", "--keep-last", "1"]);
    assert!(
        refused.stderr.contains("cairn protect"),
        "{}",
        refused.stderr
    );
    forget(&bench, 4, &[id(&points[0])]);
    for command in ["verify", "doctor", "protect"] {
        bench.expect(4, &[command, "store"]);
    }
    bench.expect(4, &["protect", "store", "30d"]);
    bench.expect(0, &["protect", "store", "1h", "--damaged"]);
    bench.expect(0, &["verify", "store"]);
    assert_eq!(bench.points().len(), 5);
}
