//! A backup that is killed, interrupted, or not alone.

use super::bench::{Bench, Running, eventually};
use std::fs;
use std::os::unix::process::ExitStatusExt;

/// Long enough that a signal meets it.
const BIG: u64 = 300 << 20;

/// Starts a backup of `big.raw` and waits until its packs are being written.
fn start_big(bench: &Bench) -> Running {
    let mut backup = bench.start(&["backup", "store", "--machine", "m", "big.raw", "--json"]);
    eventually("a pack is being written", || {
        assert!(backup.is_alive(), "it ended before its packs were seen");
        let files = bench.store_files("sessions");
        files
            .iter()
            .any(|path| fs::metadata(path).is_ok_and(|meta| meta.len() > 1 << 20))
    });
    backup
}

/// One earlier point, and the big disk.
fn prepared() -> Bench {
    let bench = Bench::new();
    bench.noise("small.raw", 41, 4 << 20);
    bench.backup("m", &["small.raw"]);
    bench.noise("big.raw", 42, BIG);
    bench
}

#[test]
fn a_killed_backup_leaves_earlier_points_whole_and_the_next_one_clears_up() {
    let bench = prepared();
    let packs = bench.store_files("packs");
    let mut backup = start_big(&bench);
    backup.signal("KILL");
    let (status, _) = backup.end();
    assert_eq!(status.signal(), Some(9));

    assert_eq!(bench.points().len(), 1, "nothing partial is listed");
    assert!(
        !bench.store_files("sessions").is_empty(),
        "it was killed while it wrote"
    );
    bench.expect(0, &["verify", "store"]);
    let small = bench.expect(0, &["cat", "store", "m@latest:/disk0"]).stdout;
    assert!(small == fs::read(bench.path("small.raw")).unwrap());

    // The machine is not locked by the dead, and what the dead left is gone.
    bench.backup("m", &["small.raw"]);
    assert_eq!(
        bench.store_files("sessions"),
        Vec::<std::path::PathBuf>::new()
    );
    assert_eq!(
        bench.store_files("packs"),
        packs,
        "the dead backup's packs are not kept"
    );
    bench.backup("m", &["big.raw"]);
    bench.expect(0, &["verify", "store"]);
    let streamed = bench
        .expect(0, &["restore", "store", "m@latest", "--to", "-"])
        .stdout;
    assert!(streamed == fs::read(bench.path("big.raw")).unwrap());
}

#[test]
fn an_interrupted_backup_ends_and_leaves_nothing() {
    for signal in ["INT", "TERM"] {
        let bench = prepared();
        let packs = bench.store_files("packs");
        let mut backup = start_big(&bench);
        // Stopped first, so that it cannot be done before the signal arrives.
        backup.signal("STOP");
        backup.signal(signal);
        backup.signal("CONT");
        let (status, answer) = backup.end();
        assert_eq!(status.code(), Some(1), "{signal}: {}", answer.stderr);
        assert!(answer.stdout.is_empty());
        assert!(
            answer.stderr.contains("stopped on request"),
            "{}",
            answer.stderr
        );
        assert_eq!(
            bench.store_files("sessions"),
            Vec::<std::path::PathBuf>::new()
        );
        assert_eq!(bench.store_files("packs"), packs);
        assert_eq!(bench.points().len(), 1);
        bench.expect(0, &["verify", "store"]);
    }
}

#[test]
fn one_backup_of_a_machine_at_a_time() {
    let bench = prepared();
    let mut backup = start_big(&bench);
    backup.signal("STOP");
    let busy = bench.expect(5, &["backup", "store", "--machine", "m", "small.raw"]);
    assert!(busy.stdout.is_empty());
    assert!(busy.stderr.contains('m'), "{}", busy.stderr);
    // The name is the same without regard to case; another machine is free, and so is reading.
    bench.expect(5, &["backup", "store", "--machine", "M", "small.raw"]);
    bench.backup("other", &["small.raw"]);
    bench.expect(0, &["verify", "store"]);
    backup.signal("CONT");
    let (status, answer) = backup.end();
    assert_eq!(status.code(), Some(0), "{}", answer.stderr);
    assert_eq!(answer.json()["machine"], "m");
    assert_eq!(bench.points().len(), 3);
    bench.expect(0, &["verify", "store"]);
}
