//! What the doctor says of a store, whole or damaged, and that it changes nothing.

use crate::kit::{Kit, TestClock, TestDisk, files, files_in, noise};
use crate::tidying::{copy_store, open, small_backups};
use cairn_base::{Folder, Kind, LocalFolder, LockMode, SessionId, Silent, SystemClock};
use cairn_store::doctor::{Checkup, Condition, Severity, examine};
use cairn_store::layout::SessionName;
use cairn_store::{Session, SessionKind, VerifyOptions, verify_with};
use std::path::Path;
use std::sync::Arc;

fn look(path: &Path) -> Checkup {
    try_look(path).unwrap()
}

fn try_look(path: &Path) -> cairn_base::Result<Checkup> {
    let folder: Arc<dyn Folder> = Arc::new(LocalFolder::new(path));
    examine(&folder, &SystemClock)
}

fn topics(checkup: &Checkup) -> Vec<&str> {
    checkup.findings.iter().map(|found| found.topic).collect()
}

/// A store of the present, so that it is not overdue.
fn fresh() -> Kit {
    use cairn_base::Clock;
    let kit = Kit::new();
    let now = SystemClock.now().seconds;
    Kit {
        clock: TestClock::at(now),
        ..kit
    }
}

fn content(path: &Path) -> Vec<(String, Vec<u8>)> {
    let names = files(path).into_iter();
    names
        .map(|name| (name.clone(), std::fs::read(path.join(&name)).unwrap()))
        .collect()
}

#[test]
fn a_healthy_store_is_well() {
    let kit = fresh();
    let empty = look(kit.path());
    assert!(empty.findings.is_empty(), "{:?}", empty.findings);
    assert_eq!(empty.contents.unwrap().unverified_seconds, None);
    small_backups(&kit, 3);
    let before = content(kit.path());
    let checkup = look(kit.path());
    assert_eq!(before, content(kit.path()), "nothing is changed");
    assert!(checkup.findings.is_empty(), "{:?}", checkup.findings);
    assert!(checkup.sessions.is_empty() && checkup.temporary.is_empty());
    let whole = |copy: &cairn_store::doctor::Copy| copy.condition == Condition::Whole;
    assert!(checkup.headers.iter().all(whole) && checkup.headers.len() == 3);
    assert!(checkup.slots.iter().all(whole) && checkup.slots.len() == 2);
    assert!(checkup.space.is_some_and(|space| space.free <= space.total));
    let contents = checkup.contents.unwrap();
    assert_eq!((contents.points, contents.packs), (3, 6));
    assert_eq!(contents.proofs.unproven_packs, 6);
    assert_eq!(contents.generation, open(kit.path()).generation());
}

#[test]
fn sessions_are_living_or_dead_and_have_an_owner() {
    let kit = fresh();
    small_backups(&kit, 1);
    let folder: Arc<dyn Folder> = Arc::new(LocalFolder::new(kit.path()));
    let writer = Session::begin(folder.clone(), SessionKind::Write, &[]).unwrap();
    let reader = Session::begin(folder, SessionKind::Read, &[]).unwrap();
    let living = look(kit.path());
    assert!(living.findings.is_empty(), "{:?}", living.findings);
    assert_eq!(living.sessions.len(), 2);
    for session in &living.sessions {
        let owner = session.owner.as_ref().unwrap();
        assert_eq!(session.alive, Some(true));
        assert_eq!(owner.process, std::process::id());
        assert_eq!(owner.host, cairn_store::session::host_name());
    }
    // What a killed process leaves: the same files, without their locks.
    std::fs::write(kit.path().join(writer.scratch()).join("pack"), [0; 100]).unwrap();
    let copy = copy_store(kit.path());
    let dead = look(copy.path());
    assert_eq!(topics(&dead), ["dead-session"; 2]);
    let bytes: u64 = dead.sessions.iter().map(|session| session.bytes).sum();
    assert_eq!(bytes, 100);
    let process = format!("process {} on", std::process::id());
    assert!(
        dead.findings
            .iter()
            .all(|found| found.what.contains(&process))
    );
    assert!(
        dead.findings
            .iter()
            .all(|f| f.severity == Severity::Attention)
    );
    // A record may hold anything after a crash.
    for file in files_in(copy.path(), "sessions") {
        if !file.contains(".d/") {
            std::fs::write(copy.path().join(file), "torn").unwrap();
        }
    }
    assert_eq!(topics(&look(copy.path())), ["dead-session"; 2]);
    drop((writer, reader));
    assert!(look(kit.path()).sessions.is_empty());
    // The next writer clears away, as the doctor says.
    open(copy.path()).writer().unwrap();
    assert!(look(copy.path()).findings.is_empty());
}

#[test]
fn what_nothing_lists_is_an_orphan() {
    let kit = fresh();
    small_backups(&kit, 2);
    let pack = files_in(kit.path(), "packs").remove(0);
    let (home, _) = pack.rsplit_once('/').unwrap();
    let two = home.rsplit_once('/').unwrap().1;
    let orphan = format!("{home}/{two}{}", "0".repeat(30));
    std::fs::copy(kit.path().join(&pack), kit.path().join(&orphan)).unwrap();
    let segment = format!("index/{}", "1".repeat(32));
    std::fs::write(kit.path().join(segment), "x").unwrap();
    std::fs::write(kit.path().join("locks/state.0.new"), "x").unwrap();
    let checkup = look(kit.path());
    assert_eq!(topics(&checkup), ["orphans", "temporary"]);
    let contents = checkup.contents.unwrap();
    assert!(orphan.ends_with(&contents.orphan_packs[0].0.to_string()));
    assert_eq!(
        contents.orphan_packs.len() + contents.orphan_segments.len(),
        2
    );
    assert_eq!(checkup.temporary, ["locks/state.0.new"]);
    // Where the index is not all there, nobody can tell.
    let listed = kit.store.state().segments[0].segment();
    std::fs::remove_file(kit.path().join(cairn_store::layout::segment(listed))).unwrap();
    let checkup = look(kit.path());
    assert!(checkup.contents.unwrap().orphan_packs.is_empty());
}

#[test]
fn damage_is_named_and_what_is_left_is_told() {
    let kit = fresh();
    small_backups(&kit, 2);
    kit.backup("n", TestDisk::new(noise(50_000, 1)));
    let damaged = |path: &str| {
        let copy = copy_store(kit.path());
        std::fs::write(copy.path().join(path), "not what was written").unwrap();
        let checkup = look(copy.path());
        assert!(
            checkup
                .findings
                .iter()
                .any(|f| f.severity == Severity::Damage),
            "{path}: {:?}",
            checkup.findings
        );
        checkup
    };
    let segment = cairn_store::layout::segment(kit.store.state().segments[0].segment());
    let point = files_in(kit.path(), "points")
        .into_iter()
        .find(|name| name.contains("/0000000001-"));
    let pack = files_in(kit.path(), "packs").remove(0);
    for path in [
        "header.1",
        "state.0",
        "state.1",
        &segment,
        &point.unwrap(),
        "damage",
    ] {
        let checkup = damaged(path);
        let contents = checkup.contents.unwrap();
        assert!(contents.points >= 2, "{path}");
    }
    let lost = damaged(&pack);
    assert_eq!(topics(&lost), ["missing-packs"]);
    assert_eq!(lost.contents.unwrap().missing.len(), 1);
    // Beyond opening: the rest is told all the same.
    let copy = copy_store(kit.path());
    for slot in ["state.0", "state.1"] {
        std::fs::write(copy.path().join(slot), "x").unwrap();
    }
    let closed = look(copy.path());
    assert!(closed.contents.is_none() && closed.identity.is_some());
    assert!(
        closed
            .slots
            .iter()
            .all(|slot| slot.condition == Condition::Damaged)
    );
    assert!(
        closed.findings[0].what.contains("state"),
        "{:?}",
        closed.findings
    );
    for header in ["header.0", "header.1", "header.2"] {
        std::fs::write(copy.path().join(header), "x").unwrap();
    }
    let headless = look(copy.path());
    assert!(headless.identity.is_none() && !headless.findings.is_empty());
    for header in ["header.0", "header.1", "header.2"] {
        std::fs::remove_file(copy.path().join(header)).unwrap();
    }
    let error = try_look(copy.path()).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
}

#[test]
fn known_damage_and_a_lost_record_are_findings() {
    let kit = fresh();
    small_backups(&kit, 2);
    let pack = kit.path().join(files_in(kit.path(), "packs").remove(0));
    let mut bytes = std::fs::read(&pack).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&pack, bytes).unwrap();
    let options = VerifyOptions::default();
    let report = verify_with(&open(kit.path()), &options, &Silent, &SystemClock).unwrap();
    assert!(!report.is_clean());
    let checkup = look(kit.path());
    assert_eq!(topics(&checkup), ["known-damage"]);
    assert!(checkup.contents.unwrap().known_damage > 0);
    std::fs::write(kit.path().join("proofs"), "x").unwrap();
    assert_eq!(topics(&look(kit.path())), ["known-damage", "proofs"]);
}

#[test]
fn what_was_not_read_back_for_long_is_overdue() {
    let kit = Kit::new();
    small_backups(&kit, 2);
    let folder: Arc<dyn Folder> = Arc::new(LocalFolder::new(kit.path()));
    let made = kit.store.header().created;
    let day = 86_400;
    let at = |days: i64| examine(&folder, &TestClock::at(made + days * day)).unwrap();
    assert!(at(29).findings.is_empty());
    assert_eq!(topics(&at(31)), ["unverified"]);
    let clock = TestClock::at(made + 31 * day);
    verify_with(
        &open(kit.path()),
        &VerifyOptions::default(),
        &Silent,
        &clock,
    )
    .unwrap();
    assert!(at(32).findings.is_empty());
    assert_eq!(topics(&at(63)), ["unverified"]);
}

#[test]
fn while_somebody_publishes_nobody_is_called_dead() {
    let kit = fresh();
    small_backups(&kit, 1);
    let folder: Arc<dyn Folder> = Arc::new(LocalFolder::new(kit.path()));
    let session = Session::begin(folder.clone(), SessionKind::Read, &[]).unwrap();
    let other = SessionName {
        id: SessionId([2; 16]),
        ..session.name()
    };
    let (file, other) = (session.name().file(), other.file());
    std::fs::copy(kit.path().join(file), kit.path().join(other)).unwrap();
    let lock = folder
        .lock("locks/publish", LockMode::Exclusive, false)
        .unwrap();
    let checkup = look(kit.path());
    assert_eq!(topics(&checkup), ["locks"]);
    let mut alive: Vec<_> = checkup.sessions.iter().map(|s| s.alive).collect();
    alive.sort();
    assert_eq!(alive, [None, Some(true)]);
    drop(lock);
    assert_eq!(topics(&look(kit.path())), ["dead-session"]);
    drop(session);
}
