//! Sessions of other hosts: they hold back what they stand on, until the user says that they are over.

use super::bench::{Bench, Running, eventually};
use cairn_store::codec;
use cairn_store::session::SessionRecord;
use std::fs;
use std::path::PathBuf;

const MIB: u64 = 1 << 20;

/// A backup that was stopped in its middle, and its session's file, which another host's name was given.
fn stopped_elsewhere(bench: &Bench) -> (Running, PathBuf, String) {
    bench.noise("big.raw", 90, 300 * MIB);
    let mut backup = bench.start(&["backup", "store", "--machine", "big", "big.raw"]);
    eventually("it has a session", || {
        let files = bench.store_files("sessions");
        let large = |file: &PathBuf| fs::metadata(file).is_ok_and(|m| m.len() > MIB);
        files.iter().any(large)
    });
    backup.signal("STOP");
    let sessions = bench.path("store/sessions");
    let mut id = None;
    for entry in fs::read_dir(&sessions).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let (number, host) = name.split_once('-').unwrap();
        let end = if host.ends_with(".d") { ".d" } else { "" };
        let other = format!("{number}-0123456789abcdef{end}");
        fs::rename(sessions.join(&name), sessions.join(other)).unwrap();
        id = Some(number.to_string());
    }
    let id = id.unwrap();
    let file = sessions.join(format!("{id}-0123456789abcdef"));
    // What this very run of the kernel has started is here, whatever its host is called.
    let record: SessionRecord = codec::open(&fs::read(&file).unwrap()).unwrap();
    let record = SessionRecord {
        boot: "another".to_string(),
        ..record
    };
    fs::write(&file, codec::seal(&record).unwrap()).unwrap();
    (backup, file, id)
}

#[test]
fn a_session_of_another_host_holds_back_until_the_user_says_that_it_is_over() {
    let bench = Bench::new();
    for (number, name) in (1..).zip(["a.raw", "b.raw"]) {
        bench.noise(name, number, 3 * MIB);
        bench.backup("m", &[name]);
    }
    let (mut backup, file, id) = stopped_elsewhere(&bench);
    let keep = ["forget", "store", "--machine", "m", "--keep-last", "1"];
    bench.expect(0, &keep);
    let remove = ["doctor", "store", "--remove-session", &id];
    // It lives, and its lock reaches us.
    let refused = bench.expect(5, &remove);
    assert!(
        refused.stderr.contains("the session lives"),
        "{}",
        refused.stderr
    );
    backup.signal("KILL");
    backup.end();
    for machine in ["n", "o"] {
        let pruned = bench.expect(0, &["prune", "store", "--json"]).json();
        assert_eq!(pruned["deleted_packs"], 0);
        assert!(pruned["waiting_packs"].as_u64().unwrap() > 0);
        assert_eq!(pruned["waits_for"][0]["session"], *id);
        assert_eq!(pruned["waits_for"][0]["elsewhere"], true);
        // A backup leaves it alone as well.
        bench.backup(machine, &["b.raw"]);
        assert!(file.exists());
    }
    let told = bench.expect(0, &["prune", "store"]).text();
    assert!(told.contains("see `cairn doctor`"), "{told}");
    let looked = bench.expect(3, &["doctor", "store", "--json"]).json();
    let session = &looked["sessions"][0];
    assert_eq!(
        (&session["elsewhere"], &session["alive"]),
        (&true.into(), &().into())
    );
    assert!(session["waiting_packs"].as_u64().unwrap() > 0);
    let told = bench.expect(3, &["doctor", "store"]).text();
    for part in [
        "backup store --machine big",
        "wait for it",
        &remove.join(" "),
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let removed = bench.expect(0, &remove).text();
    assert!(
        removed.contains(&format!("removed session {id}: writing by process")),
        "{removed}"
    );
    assert_eq!(bench.store_files("sessions"), Vec::<PathBuf>::new());
    let pruned = bench.expect(0, &["prune", "store", "--json"]).json();
    assert!(pruned["deleted_packs"].as_u64().unwrap() > 0);
    bench.expect(1, &remove);
    bench.expect(2, &["doctor", "store", "--remove-session", "some"]);
    bench.expect(0, &["verify", "store", "--deep"]);
    bench.expect(0, &["doctor", "store"]);
}
