//! stats: what machines and points take, and the chart.

use super::bench::{Bench, has_fields, have, tool};
use serde_json::Value;
use std::fs;

const MIB: u64 = 1 << 20;

fn number(value: &Value, field: &str) -> u64 {
    value[field]
        .as_u64()
        .unwrap_or_else(|| panic!("`{field}` in {value}"))
}

/// Two machines; of the first one two points, a day apart.
fn three_points(bench: &Bench) {
    let time = |time: &str| -> Vec<String> {
        let all = ["backup", "store", "--json", "--time", time];
        all.map(str::to_string).to_vec()
    };
    let backup = |at: &str, machine: &str, image: &str| {
        let mut all = time(at);
        all.extend(["--machine", machine, image].map(str::to_string));
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        bench.expect(0, &all);
    };
    bench.noise("a.raw", 41, 8 * MIB);
    backup("2026-11-01T00:00:00Z", "alpha", "a.raw");
    let mut bytes = fs::read(bench.path("a.raw")).unwrap();
    let other = fs::read(bench.noise("b.raw", 42, 4 * MIB)).unwrap();
    bytes[..2 * MIB as usize].copy_from_slice(&other[..2 * MIB as usize]);
    fs::write(bench.path("a.raw"), bytes).unwrap();
    backup("2026-11-03T00:00:00Z", "alpha", "a.raw");
    backup("2026-11-02T00:00:00Z", "b <& c", "b.raw");
}

#[test]
fn machines_are_told_from_their_records() {
    let bench = Bench::new();
    three_points(&bench);
    let stats = bench.expect(0, &["stats", "store", "--json"]).json();
    let machines = stats["by_machine"].as_array().unwrap();
    assert_eq!(machines.len(), 2);
    let alpha = &machines[0];
    assert_eq!(alpha["machine"], "alpha");
    assert_eq!(number(alpha, "points"), 2);
    assert_eq!(number(alpha, "disk_bytes"), 8 * MIB);
    assert_eq!(number(alpha, "logical_bytes"), 16 * MIB);
    let points = bench.points();
    let added: Vec<u64> = points
        .iter()
        .map(|point| number(point, "added_bytes"))
        .collect();
    assert_eq!(number(alpha, "added_bytes"), added[0] + added[1]);
    // What the second one added, in two days.
    assert_eq!(number(alpha, "growth_bytes_per_day"), added[1] / 2);
    assert_eq!(machines[1]["growth_bytes_per_day"], Value::Null);
    assert_eq!(stats["needs"], Value::Null);
    let one = bench
        .expect(0, &["stats", "store", "--machine", "ALPHA", "--json"])
        .json();
    assert_eq!(one["by_machine"], serde_json::json!([alpha]));
    assert_eq!(one["points"], 3);
    bench.expect(1, &["stats", "store", "--machine", "nobody"]);
    let text = bench.expect(0, &["stats", "store"]).text();
    assert!(text.contains("alpha: 2 points from 2026-11-01"), "{text}");
}

#[test]
fn how_scattered_the_newest_points_lie_is_told() {
    let bench = Bench::new();
    three_points(&bench);
    let stats = bench.expect(0, &["stats", "store", "--json"]).json();
    assert_eq!(stats["locality"], Value::Null);
    let command = ["stats", "store", "--locality", "--json"];
    let stats = bench.expect(0, &command).json();
    let [alpha, b] = [&stats["locality"][0], &stats["locality"][1]];
    assert_eq!(
        (&alpha["machine"], &b["machine"]),
        (&"alpha".into(), &"b <& c".into())
    );
    // Its first 2 MiB lie in the pack of the second backup; the other machine has them there, too, and the rest in its own.
    assert_eq!(number(alpha, "packs"), 2);
    assert_eq!(number(alpha, "used_bytes"), 8 * MIB);
    assert_eq!(number(alpha, "lost_places"), 0);
    let seeks = number(alpha, "seeks");
    assert!((2..=6).contains(&seeks), "{alpha}");
    let per_gib = alpha["seeks_per_gib"].as_f64().unwrap();
    assert!((per_gib - seeks as f64 * 128.0).abs() < 0.1, "{alpha}");
    // Noise does not compress; what is read with it is little.
    let read = number(alpha, "read_bytes");
    assert!((8 * MIB - 200_000..10 * MIB).contains(&read), "{alpha}");
    let one = ["stats", "store", "--locality", "--machine", "ALPHA"];
    let text = bench.expect(0, &one).text();
    assert!(
        text.contains("seeks/GiB") && !text.contains("b <& c"),
        "{text}"
    );
}

#[test]
fn what_points_need_adds_up() {
    let bench = Bench::new();
    three_points(&bench);
    let command = ["stats", "store", "--points", "--json"];
    let stats = bench.expect(0, &command).json();
    let needs = &stats["needs"];
    has_fields(
        needs,
        &[
            ("dedup_ratio", "number"),
            ("compression_ratio", "number"),
            ("walks", "bytes"),
        ],
    );
    let parts = [
        "data_bytes",
        "map_bytes",
        "unneeded_bytes",
        "duplicate_bytes",
        "overhead_bytes",
        "unread_bytes",
    ];
    let sum: u64 = parts.iter().map(|part| number(needs, part)).sum();
    assert_eq!(sum, number(needs, "pack_bytes"));
    assert_eq!(number(needs, "used_bytes"), 20 * MIB);
    assert_eq!(number(needs, "unneeded_bytes"), 0);
    let [alpha, b] = [&stats["needs_by_machine"][0], &stats["needs_by_machine"][1]];
    // Its second point shares 6 MiB with the first one, and 2 MiB with the other machine; noise does not compress.
    let near = |value: u64, mib: u64| value.abs_diff(mib * MIB) < 200_000;
    assert!(near(number(alpha, "stored_bytes"), 10), "{alpha}");
    assert!(near(number(alpha, "unique_bytes"), 8), "{alpha}");
    assert!(near(number(b, "unique_bytes"), 2), "{b}");
    let first = &alpha["by_point"][0];
    assert!(near(number(first, "unique_bytes"), 2), "{first}");
    assert!(near(number(first, "shared_bytes"), 6), "{first}");
    for point in alpha["by_point"].as_array().unwrap() {
        let parts = number(point, "shared_bytes") + number(point, "unique_bytes");
        assert_eq!(number(point, "stored_bytes"), parts);
    }
    // In little memory it is walked several times, and comes to the same.
    let mut often = bench
        .expect(0, &[&command[..], &["--memory", "4K"]].concat())
        .json();
    assert!(number(&often["needs"], "walks") > 1);
    often["needs"]["walks"] = 1.into();
    assert_eq!(
        (&often["needs"], &often["needs_by_machine"]),
        (needs, &stats["needs_by_machine"])
    );
}

#[test]
fn what_forgetting_frees_is_told() {
    let bench = Bench::new();
    three_points(&bench);
    let stats = bench.expect(0, &["stats", "store", "--points", "--json"]);
    let stats = stats.json();
    let (needs, alpha) = (&stats["needs"], &stats["needs_by_machine"][0]);
    let first = &alpha["by_point"][0];
    let id = first["point"].as_str().unwrap();
    let frees = |names: &[&str]| {
        let command = ["stats", "store", "--json", "--forget-frees"];
        let answer = bench.expect(0, &[&command[..], names].concat()).json();
        assert_eq!(answer["needs"], Value::Null);
        number(&answer["forget_frees"], "bytes")
    };
    assert_eq!(frees(&[id]), number(first, "unique_bytes"));
    assert_eq!(
        frees(&[id, "alpha@latest", id]),
        number(alpha, "unique_bytes")
    );
    let all = frees(&[id, "alpha@latest", "b <& c@latest"]);
    assert_eq!(
        all,
        number(needs, "data_bytes") + number(needs, "map_bytes")
    );
    bench.expect(1, &["stats", "store", "--forget-frees", "nobody@latest"]);
    let text = bench
        .expect(0, &["stats", "store", "--points", "--forget-frees", id])
        .text();
    assert!(
        text.contains("2026-11-01T00-00-00Z") && text.contains("would free"),
        "{text}"
    );
}

/// The elements of an XML document, each with its attributes; it must be well-formed.
fn elements(text: &str) -> Vec<(String, Vec<(String, String)>)> {
    let (mut open, mut found) = (Vec::new(), Vec::new());
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let between = &rest[..at];
        assert!(!between.contains('>'), "{between}");
        for (start, _) in between.match_indices('&') {
            assert!(
                between[start..].find(';').is_some_and(|end| end < 7),
                "{between}"
            );
        }
        let end = at + rest[at..].find('>').expect("a tag ends");
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name));
            continue;
        }
        let inner = tag.strip_suffix('/').unwrap_or(tag).trim_end();
        let (name, mut attributes) = inner.split_once(' ').unwrap_or((inner, ""));
        let mut all = Vec::new();
        while let Some((key, behind)) = attributes.split_once("=\"") {
            let (value, behind) = behind.split_once('"').expect("a value ends");
            assert!(!value.contains('<'));
            all.push((key.trim().to_string(), value.to_string()));
            attributes = behind;
        }
        assert!(attributes.trim().is_empty(), "{tag}");
        found.push((name.to_string(), all));
        if !tag.ends_with('/') {
            open.push(name.to_string());
        }
    }
    assert!(open.is_empty() && !rest.contains('&'));
    found
}

/// Corners of lines of this width, but for those in the legend.
fn lines(picture: &str, width: &str) -> Vec<Vec<(i64, i64)>> {
    let all = elements(picture)
        .into_iter()
        .filter(|(name, _)| name == "polyline");
    let all = all.filter(|(_, attributes)| {
        attributes.contains(&("stroke-width".to_string(), width.to_string()))
    });
    let corners = |attributes: &[(String, String)]| -> Vec<(i64, i64)> {
        let points = attributes.iter().find(|(key, _)| key == "points");
        let points = points.unwrap().1.split_whitespace();
        points
            .map(|pair| pair.split_once(',').unwrap())
            .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
            .collect()
    };
    all.map(|(_, attributes)| corners(&attributes))
        .filter(|corners| corners.len() > 2)
        .collect()
}

#[test]
fn the_chart_shows_what_was_stored() {
    let bench = Bench::new();
    three_points(&bench);
    bench.expect(0, &["stats", "store", "--chart", "chart.svg"]);
    let picture = fs::read_to_string(bench.path("chart.svg")).unwrap();
    assert_eq!(elements(&picture)[0].0, "svg");
    assert!(picture.contains("b &lt;&amp; c") && picture.contains("alpha"));
    if have(&["python3"]) {
        let parse = "import sys, xml.dom.minidom as d; d.parse(sys.argv[1])";
        tool(
            "python3",
            &["-c", parse, bench.path("chart.svg").to_str().unwrap()],
        );
    }
    let machines = lines(&picture, "2");
    let total = lines(&picture, "3");
    assert_eq!((machines.len(), total.len()), (2, 1));
    // Heights are to each other as the bytes: the lines begin at nothing and go up in steps.
    let points = bench.points();
    let added: Vec<f64> = points
        .iter()
        .map(|p| number(p, "added_bytes") as f64)
        .collect();
    let sum: f64 = added.iter().sum();
    let height = |line: &[(i64, i64)], corner: usize| (line[0].1 - line[corner].1) as f64;
    let whole = height(&total[0], total[0].len() - 1);
    assert!(whole > 300.0, "{whole}");
    let is = |line: &[(i64, i64)], corner: usize, bytes: f64| {
        let expected = bytes / sum * whole;
        let found = height(line, corner);
        assert!((found - expected).abs() < 3.0, "{found}, not {expected}");
    };
    is(&machines[0], 2, added[0]);
    is(&machines[0], machines[0].len() - 1, added[0] + added[1]);
    is(&machines[1], machines[1].len() - 1, added[2]);
    is(&total[0], 2, added[0]);
    is(&total[0], 4, added[0] + added[2]);
    // In time too: the second machine's point lies in the middle.
    let (begin, end) = (total[0][0].0, total[0].last().unwrap().0);
    assert!(
        (machines[1][1].0 - (begin + end) / 2).abs() <= 2,
        "{machines:?}"
    );

    // A file that is there stays, unless it is to be replaced.
    fs::write(bench.path("chart.svg"), "mine").unwrap();
    let refused = bench.expect(1, &["stats", "store", "--chart", "chart.svg"]);
    assert!(refused.stderr.contains("--force"), "{}", refused.stderr);
    assert_eq!(fs::read(bench.path("chart.svg")).unwrap(), b"mine");
    bench.expect(
        0,
        &[
            "stats",
            "store",
            "--chart",
            "chart.svg",
            "--force",
            "--machine",
            "alpha",
        ],
    );
    let picture = fs::read_to_string(bench.path("chart.svg")).unwrap();
    assert_eq!(lines(&picture, "2").len(), 1);
    bench.expect(2, &["stats", "store", "--force"]);
}
