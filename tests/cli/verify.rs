//! verify in all its ways, what stats tells of it, and doctor.

use super::bench::{Bench, eventually, has_fields, text};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;

/// A store of several machines, so of several packs.
fn filled() -> Bench {
    let bench = Bench::without_parity();
    for number in 0..4u64 {
        let name = format!("{number}.raw");
        bench.noise(&name, 70 + number, MIB);
        bench.backup(&format!("m{number}"), &[&name]);
    }
    bench
}

fn verify(bench: &Bench, code: i32, more: &[&str]) -> Value {
    let arguments = [&["verify", "store", "--json"], more].concat();
    bench.expect(code, &arguments).json()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn largest_pack(bench: &Bench) -> PathBuf {
    let packs = bench.store_files("packs");
    let length = |path: &PathBuf| fs::metadata(path).unwrap().len();
    packs.into_iter().max_by_key(length).unwrap()
}

#[test]
fn each_way_reads_what_it_says() {
    let bench = filled();
    for (mode, option) in [
        ("quick", "--quick"),
        ("full", "--limit=10GB/s"),
        ("deep", "--deep"),
    ] {
        let report = verify(&bench, 0, &[option]);
        has_fields(
            &report,
            &[
                ("mode", "string"),
                ("begun", "string"),
                ("checked_bytes", "bytes"),
                ("checked_packs", "bytes"),
                ("packs", "bytes"),
                ("pack_bytes", "bytes"),
                ("seed", "null"),
                ("damaged", "array"),
                ("bad_packs", "array"),
                ("problems", "array"),
                ("repaired", "array"),
            ],
        );
        assert_eq!(report["mode"], mode);
        assert_eq!(report["packs"], 8);
        let read = if mode == "quick" { 0 } else { 8 };
        assert_eq!(report["checked_packs"], read, "{mode}");
    }
    let told = bench.expect(0, &["verify", "store"]).text();
    assert!(told.contains("everything can be restored"), "{told}");
    let told = bench.expect(0, &["verify", "store", "--slice", "3"]).text();
    assert!(told.contains("what was read is good"), "{told}");
}

#[test]
fn samples_slices_and_what_is_due() {
    let bench = filled();
    let sample = verify(&bench, 0, &["--sample", "30%"]);
    let seed = sample["seed"].as_u64().unwrap().to_string();
    let again = verify(&bench, 0, &["--sample", "30%", "--seed", &seed]);
    assert_eq!(sample["checked_packs"], again["checked_packs"]);
    let read = sample["checked_packs"].as_u64().unwrap();
    assert!((1..8).contains(&read), "{sample}");

    // What the sample read is not due any more.
    let rest = verify(&bench, 0, &["--since", "1h"]);
    assert_eq!(rest["checked_packs"], 8 - read);
    assert_eq!(verify(&bench, 0, &["--since", "1h"])["checked_packs"], 0);
    // Not by decoding, though; and a time that is to come makes everything due.
    let deep = verify(&bench, 0, &["--since", "1h", "--deep"]);
    assert_eq!(deep["checked_packs"], 8);
    let later = verify(&bench, 0, &["--since", "2199-01-01T00:00:00Z"]);
    assert_eq!(later["checked_packs"], 8);

    let mut bytes = 0;
    for _ in 0..4 {
        let slice = verify(&bench, 0, &["--slice", "4"]);
        bytes += slice["checked_bytes"].as_u64().unwrap();
        assert!(slice["checked_packs"].as_u64().unwrap() < 8);
    }
    assert!(bytes >= later["pack_bytes"].as_u64().unwrap());
}

#[test]
fn what_makes_no_sense_to_verify_is_refused_as_usage() {
    let bench = Bench::new();
    for options in [
        &["--quick", "--deep"][..],
        &["--quick", "--slice", "3"],
        &["--sample", "5%", "--slice", "3"],
        &["--sample", "5"],
        &["--sample", "0%"],
        &["--seed", "5"],
        &["--slice", "0"],
        &["--since", "yesterday"],
        &["--limit", "0"],
        &["--limit", "fast"],
    ] {
        bench.expect(2, &[&["verify", "store"], options].concat());
    }
}

#[test]
fn tags_and_decoding_name_the_same() {
    let bench = filled();
    let pack = largest_pack(&bench);
    flip(&pack, 500_000);
    let full = verify(&bench, 4, &[]);
    let deep = verify(&bench, 4, &["--deep"]);
    assert_eq!(full["damaged"], deep["damaged"]);
    assert_eq!(full["damaged"].as_array().unwrap().len(), 1);
    let name = pack.file_name().unwrap().to_str().unwrap();
    assert_eq!(full["bad_packs"][0], name);
    // Known from now on, also to those that do not read it; and due until it is good again.
    for options in [&["--quick"][..], &["--since", "1h"]] {
        assert_eq!(verify(&bench, 4, options)["damaged"][0]["pack"], name);
    }
    let doctor = bench.expect(4, &["doctor", "store"]).text();
    assert!(doctor.contains("known to be damaged"), "{doctor}");
    assert!(doctor.contains("cairn verify store"), "{doctor}");
    flip(&pack, 500_000);
    assert_eq!(verify(&bench, 0, &["--since", "1h"])["checked_packs"], 1);
    bench.expect(0, &["doctor", "store"]);
}

#[test]
fn stats_tells_what_was_never_verified_and_the_oldest() {
    let bench = filled();
    let stats = || bench.expect(0, &["stats", "store", "--json"]).json();
    let before = stats();
    has_fields(
        &before,
        &[
            ("unproven_packs", "bytes"),
            ("unproven_bytes", "bytes"),
            ("oldest_proof", "null"),
        ],
    );
    assert_eq!(before["unproven_packs"], before["packs"]);
    let told = bench.expect(0, &["stats", "store"]).text();
    assert!(
        told.contains("8 packs with") && told.contains("never"),
        "{told}"
    );
    let report = verify(&bench, 0, &[]);
    let after = stats();
    assert_eq!(
        (&after["unproven_packs"], &after["unproven_bytes"]),
        (&0.into(), &0.into())
    );
    assert!(after["oldest_proof"].as_str() >= report["begun"].as_str());
    let told = bench.expect(0, &["stats", "store"]).text();
    assert!(
        told.contains(after["oldest_proof"].as_str().unwrap()),
        "{told}"
    );
    // A lost record is a warning, and costs a verification.
    fs::write(bench.path("store/proofs"), "torn").unwrap();
    let warned = bench.expect(3, &["stats", "store", "--json"]);
    assert_eq!(warned.json()["unproven_packs"], 8);
    assert!(warned.stderr.contains("proofs"), "{}", warned.stderr);
    let again = verify(&bench, 3, &["--since", "1h"]);
    assert_eq!(
        (&again["checked_packs"], &again["problems"]),
        (&8.into(), &Value::Array(vec![]))
    );
    assert_eq!(stats()["unproven_packs"], 0);
}

#[test]
fn an_interrupted_verification_says_how_to_go_on() {
    let bench = Bench::new();
    for number in 0..3u64 {
        bench.noise("a.raw", 80 + number, 2 * MIB);
        bench.backup("m", &["a.raw"]);
    }
    // Slow enough that a signal meets it; the first pieces cost nothing.
    let mut running = bench.start(&["verify", "store", "--limit", "20KB/s"]);
    eventually("it has begun", || !bench.store_files("sessions").is_empty());
    running.signal("INT");
    let (status, answer) = running.end();
    assert_eq!(status.code(), Some(1), "{}", answer.stderr);
    assert!(answer.stdout.is_empty());
    assert!(bench.store_files("sessions").is_empty());
    let told = &answer.stderr;
    assert!(told.contains("stopped on request"), "{told}");
    let Some((_, since)) = told.split_once("--since ") else {
        panic!("it does not say how to go on: {told}");
    };
    let since: String = since.chars().take(20).collect();
    let report = verify(&bench, 0, &["--since", &since]);
    assert!(report["checked_packs"].as_u64().unwrap() > 0);
    assert_eq!(verify(&bench, 0, &["--since", &since])["checked_packs"], 0);
}

#[test]
fn the_doctor_tells_what_is_there_and_what_to_do() {
    let bench = filled();
    let well = bench.expect(0, &["doctor", "store", "--json"]).json();
    has_fields(
        &well,
        &[
            ("identity", "object"),
            ("header_copies", "array"),
            ("state_slots", "array"),
            ("contents", "object"),
            ("sessions", "array"),
            ("temporary", "array"),
            ("free_bytes", "bytes"),
            ("total_bytes", "bytes"),
            ("findings", "array"),
        ],
    );
    has_fields(
        &well["contents"],
        &[
            ("generation", "bytes"),
            ("points", "bytes"),
            ("packs", "bytes"),
            ("known_damage", "bytes"),
            ("orphan_packs", "array"),
            ("orphan_bytes", "bytes"),
            ("condemned_packs", "array"),
            ("unverified_seconds", "bytes"),
        ],
    );
    assert_eq!(well["contents"]["points"], 4);
    assert!(well["findings"].as_array().unwrap().is_empty());
    assert_eq!(well["header_copies"][2]["condition"], "whole");
    let told = bench.expect(0, &["doctor", "store"]).text();
    assert!(told.contains("all is well"), "{told}");
    bench.expect(1, &["doctor", text(&bench.folder)]);

    // A store that cannot be opened is explained all the same.
    for slot in ["state.0", "state.1"] {
        fs::write(bench.path("store").join(slot), "torn").unwrap();
    }
    let closed = bench.expect(4, &["doctor", "store", "--json"]).json();
    assert!(closed["contents"].is_null() && closed["identity"].is_object());
    assert_eq!(closed["findings"][0]["severity"], "damage");
}

#[test]
fn the_doctor_tells_the_living_from_the_dead() {
    let bench = filled();
    bench.noise("big.raw", 90, 300 * MIB);
    let mut backup = bench.start(&["backup", "store", "--machine", "big", "big.raw"]);
    eventually("it has a session", || {
        let files = bench.store_files("sessions");
        files
            .iter()
            .any(|file| fs::metadata(file).is_ok_and(|m| m.len() > MIB))
    });
    backup.signal("STOP");
    let living = bench.run(&["doctor", "store", "--json"]);
    let living: Value = serde_json::from_slice(&living.stdout).unwrap();
    let session = &living["sessions"][0];
    assert_eq!(
        (&session["alive"], &session["kind"]),
        (&true.into(), &"writing".into())
    );
    backup.signal("KILL");
    backup.end();
    let dead = bench.expect(3, &["doctor", "store", "--json"]).json();
    assert_eq!(dead["sessions"][0]["alive"], false);
    assert_eq!(dead["sessions"][0]["process"], session["process"]);
    assert!(dead["sessions"][0]["bytes"].as_u64().unwrap() > MIB);
    assert_eq!(dead["findings"][0]["topic"], "dead-session");
    let told = bench.expect(3, &["doctor", "store"]).text();
    let process = format!("process {}", session["process"]);
    assert!(told.contains(&process), "{told}");
    bench.backup("m0", &["0.raw"]);
    bench.expect(0, &["doctor", "store"]);
}
