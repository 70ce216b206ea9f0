//! prune: what is forgotten gives its space back, what is needed stays, and who is in the way is told.

use super::bench::{Bench, has_fields};
use serde_json::Value;
use std::fs::File;

const MIB: u64 = 1 << 20;

fn backup(bench: &Bench, image: &str) -> Value {
    let arguments = ["backup", "store", "--json", "--machine", "m", image];
    bench.expect(0, &arguments).json()
}

fn packs_bytes(bench: &Bench) -> u64 {
    let packs = bench.store_files("packs");
    packs
        .iter()
        .map(|path| path.metadata().unwrap().len())
        .sum()
}

#[test]
fn what_is_forgotten_gives_its_space_back() {
    let bench = Bench::new();
    for (number, name) in (1..).zip(["a.raw", "b.raw", "c.raw"]) {
        bench.noise(name, number, 3 * MIB);
        backup(&bench, name);
    }
    let full = packs_bytes(&bench);
    bench.expect(
        0,
        &["forget", "store", "--machine", "m", "--keep-last", "1"],
    );
    assert_eq!(packs_bytes(&bench), full);
    let planned = bench.expect(0, &["prune", "store", "--dry-run", "--json"]);
    let planned = planned.json();
    assert_eq!(packs_bytes(&bench), full);
    assert!(planned["dead_bytes"].as_u64().unwrap() > 6 * MIB);
    let pruned = bench.expect(0, &["prune", "store", "--json"]).json();
    has_fields(
        &pruned,
        &[
            ("points", "number"),
            ("live_bytes", "number"),
            ("rewritten_bytes", "number"),
            ("deleted_packs", "number"),
            ("waits_for", "array"),
            ("left", "array"),
        ],
    );
    let freed = pruned["deleted_bytes"].as_u64().unwrap();
    assert_eq!(pruned["points"], 1);
    assert_eq!(packs_bytes(&bench), full - freed);
    assert!(freed > 6 * MIB);
    let said = bench.expect(
        0,
        &["prune", "store", "--max-unused", "0%", "--max-time", "1h"],
    );
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("deleted 0 packs"), "{said}");
    bench.expect(0, &["verify", "store", "--deep"]);
    bench.expect(0, &["doctor", "store"]);
    bench.expect(0, &["restore", "store", "m@latest", "--to", "restored"]);
    let restored = std::fs::read(bench.path("restored/disk0.raw")).unwrap();
    assert!(restored == std::fs::read(bench.path("c.raw")).unwrap());
    bench.expect(2, &["prune", "store", "--max-unused", "much"]);
    bench.expect(2, &["prune", "store", "--max-time", "long"]);
}

#[test]
fn who_merges_is_waited_for_by_nobody_and_what_is_damaged_stops_it() {
    let bench = Bench::new();
    bench.noise("a.raw", 1, MIB);
    let first = backup(&bench, "a.raw");
    bench.noise("b.raw", 2, MIB);
    backup(&bench, "b.raw");
    {
        let lock = File::create(bench.path("store/locks/merge")).unwrap();
        lock.try_lock().unwrap();
        let busy = bench.expect(5, &["prune", "store"]);
        assert!(
            busy.stderr.contains("wait until it has finished"),
            "{}",
            busy.stderr
        );
    }
    let id = first["point"].as_str().unwrap();
    let mut files = bench.store_files("points");
    files.retain(|path| path.to_str().unwrap().ends_with(id));
    let whole = std::fs::read(&files[0]).unwrap();
    let mut bad = whole.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    std::fs::write(&files[0], &bad).unwrap();
    let before = packs_bytes(&bench);
    let refused = bench.expect(4, &["prune", "store"]);
    assert!(refused.stderr.contains(id), "{}", refused.stderr);
    assert_eq!(packs_bytes(&bench), before);
    // One that is gone, and that nobody has forgotten.
    std::fs::remove_file(&files[0]).unwrap();
    let refused = bench.expect(4, &["prune", "store"]);
    assert!(refused.stderr.contains("gone"), "{}", refused.stderr);
    assert_eq!(packs_bytes(&bench), before);
    bench.expect(0, &["forget", "store", "--machine", "m", "--accept-gone"]);
    bench.expect(0, &["prune", "store"]);
    assert!(packs_bytes(&bench) < before);
}
