//! Sessions of other hosts: nobody here takes them for dead, until the user says so.

use crate::kit::{Kit, R, TestDisk, files_in, noise};
use crate::pruning::{disk, exact, forget, pruned};
use cairn_base::{Kind, LockMode, SessionId, Silent, SystemClock};
use cairn_store::doctor::{Checkup, Severity, examine};
use cairn_store::layout::{self, HostKey, SessionName};
use cairn_store::session::{Manifest, Root, SessionRecord, host_key};
use cairn_store::{Point, SessionKind, codec, prune};

/// A session's name of another host.
fn foreign(id: u8) -> SessionName {
    SessionName {
        id: SessionId([id; 16]),
        host: Some(HostKey::of("another host")),
    }
}

fn record(kind: SessionKind, points: &[&Point]) -> SessionRecord {
    SessionRecord {
        points: points.iter().map(|point| point.id.0).collect(),
        roots: points
            .iter()
            .flat_map(|point| Root::all_of(point))
            .collect(),
        host: "another".to_string(),
        boot: "another boot".to_string(),
        process: 4711,
        command: "cairn mount store /mnt".to_string(),
        ..SessionRecord::of_this_process(kind)
    }
}

fn put(kit: &Kit, name: SessionName, record: &SessionRecord) {
    std::fs::write(kit.path().join(name.file()), codec::seal(record).unwrap()).unwrap();
}

fn look(kit: &Kit) -> Checkup {
    examine(kit.store.folder(), &SystemClock).unwrap()
}

/// What the doctor says of the session of this id.
fn finding(kit: &Kit, id: SessionId) -> (String, String) {
    let found = look(kit).findings.into_iter();
    let mut found =
        found.filter(|f| f.topic == "foreign-session" && f.what.contains(&id.to_string()));
    let finding = found.next().unwrap();
    assert_eq!(finding.severity, Severity::Attention);
    (finding.what, finding.advice)
}

fn is_there(kit: &Kit, name: SessionName) -> bool {
    kit.path().join(name.file()).exists()
}

#[test]
fn a_reader_elsewhere_keeps_what_it_stands_on() {
    let kit = Kit::new();
    let point = kit.backup("m", TestDisk::new(disk(1)));
    let name = foreign(7);
    put(&kit, name, &record(SessionKind::Read, &[&point]));
    forget(&kit, &[&point]);
    for _ in 0..2 {
        // Every writer clears away what is dead.
        kit.backup("n", TestDisk::new(noise(10_000, 1)));
        let report = pruned(&kit);
        assert_eq!((report.dead_packs, report.deleted_packs), (0, 0));
        assert!(is_there(&kit, name));
    }
    let (what, advice) = finding(&kit, name.id);
    for part in [
        "reading by process 4711 on another since 20",
        "`cairn mount store /mnt`",
        "what 1 forgotten points need stays",
    ] {
        assert!(what.contains(part), "{what}");
    }
    assert!(
        advice.contains(&format!("--remove-session {}", name.id)),
        "{advice}"
    );
    let facts = look(&kit).sessions;
    assert_eq!((facts[0].elsewhere, facts[0].alive), (true, None));
    let removed = kit.reopen().remove_session(name.id).unwrap();
    assert_eq!(removed.record.unwrap().process, 4711);
    assert_eq!(files_in(kit.path(), "sessions"), [""; 0]);
    assert!(pruned(&kit).deleted_packs > 0);
    let gone = kit.reopen().remove_session(name.id);
    assert_eq!(gone.unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn what_this_kernel_started_under_another_name_is_here() {
    let kit = Kit::new();
    let point = kit.backup("m", TestDisk::new(disk(1)));
    let name = foreign(9);
    let in_a_container = SessionRecord {
        boot: SessionRecord::of_this_process(SessionKind::Read).boot,
        ..record(SessionKind::Read, &[&point])
    };
    assert!(!in_a_container.boot.is_empty());
    put(&kit, name, &in_a_container);
    let folder = kit.store.folder().clone();
    let alive = folder.lock(&name.file(), LockMode::Exclusive, false);
    let alive = alive.unwrap().unwrap();
    forget(&kit, &[&point]);
    assert_eq!(pruned(&kit).deleted_packs, 0);
    assert!(is_there(&kit, name));
    drop(alive);
    kit.backup("n", TestDisk::new(noise(10_000, 1)));
    assert!(!is_there(&kit, name));
    assert!(pruned(&kit).deleted_packs > 0);
}

#[test]
fn a_writer_elsewhere_is_waited_for() {
    let kit = Kit::new();
    let point = kit.backup("m", TestDisk::new(disk(1)));
    let name = foreign(8);
    let generation = kit.reopen().generation();
    let writes = SessionRecord {
        generation,
        ..record(SessionKind::Write, &[])
    };
    put(&kit, name, &writes);
    forget(&kit, &[&point]);
    let packs = files_in(kit.path(), "packs");
    for _ in 0..2 {
        let report = pruned(&kit);
        assert_eq!(
            (report.deleted_packs, report.waiting_packs),
            (0, packs.len())
        );
        assert!(report.writers[0].elsewhere && report.writers[0].session == name.id);
    }
    let (what, _) = finding(&kit, name.id);
    let waits = format!("{} packs that nothing needs wait for it", packs.len());
    assert!(what.contains(&waits), "{what}");
    // One that lives is not removed, whatever anybody says.
    let lock = kit
        .store
        .folder()
        .lock(&name.file(), LockMode::Exclusive, false);
    assert!(lock.as_ref().unwrap().is_some());
    let refused = kit.reopen().remove_session(name.id).unwrap_err();
    assert_eq!(refused.kind(), Kind::Busy);
    assert!(
        look(&kit)
            .findings
            .iter()
            .all(|f| f.topic != "foreign-session")
    );
    drop(lock);
    assert_eq!(pruned(&kit).deleted_packs, 0);
    kit.reopen().remove_session(name.id).unwrap();
    assert_eq!(pruned(&kit).deleted_packs, packs.len());
}

#[test]
fn one_that_nobody_can_read_stops_every_deletion_unless_it_is_dead_for_sure() {
    let kit = Kit::new();
    let kept = kit.backup("m", TestDisk::new(disk(1)));
    let gone = kit.backup("m", TestDisk::new(noise(R, 9)));
    forget(&kit, &[&gone]);
    let nameless = SessionName {
        host: None,
        ..foreign(9)
    };
    let packs = files_in(kit.path(), "packs");
    for name in [foreign(9), nameless] {
        for content in [&b""[..], b"torn"] {
            std::fs::write(kit.path().join(name.file()), content).unwrap();
            let error = prune(&kit.reopen(), &exact(), &Silent).unwrap_err();
            assert_eq!(error.kind(), Kind::Damaged, "{error}");
            let way_out = format!("--remove-session {}", name.id);
            assert!(error.to_string().contains(&way_out), "{error}");
            let (what, advice) = finding(&kit, name.id);
            assert!(what.contains("no prune deletes anything"), "{what}");
            assert!(advice.contains(&way_out), "{advice}");
            assert_eq!(files_in(kit.path(), "packs"), packs);
            kit.reopen().remove_session(name.id).unwrap();
        }
    }
    // Only its folder is left.
    std::fs::create_dir(kit.path().join(foreign(9).folder())).unwrap();
    let error = prune(&kit.reopen(), &exact(), &Silent).unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged, "{error}");
    kit.reopen().remove_session(foreign(9).id).unwrap();
    assert_eq!(files_in(kit.path(), "sessions"), [""; 0]);
    // Of this host, whose locks tell: what a crash left that came before the record was written.
    let own = SessionName {
        host: Some(host_key()),
        ..foreign(9)
    };
    std::fs::write(kit.path().join(own.file()), "").unwrap();
    assert!(pruned(&kit).deleted_packs > 0);
    assert!(!is_there(&kit, own));
    assert_eq!(kit.read(&kept).unwrap(), disk(1));
}

#[test]
fn a_name_of_this_host_does_not_make_a_record_of_another_one_ours() {
    let kit = Kit::new();
    let point = kit.backup("m", TestDisk::new(noise(R, 9)));
    let own = SessionName {
        host: Some(host_key()),
        ..foreign(3)
    };
    put(&kit, own, &record(SessionKind::Read, &[&point]));
    forget(&kit, &[&point]);
    assert_eq!(pruned(&kit).deleted_packs, 0);
    assert!(is_there(&kit, own));
    // The same of this host, from before it was started anew.
    let ours = SessionRecord {
        boot: "an earlier one".to_string(),
        ..SessionRecord::of_this_process(SessionKind::Read)
    };
    put(&kit, own, &ours);
    let found = look(&kit).findings;
    let dead = found.iter().find(|f| f.topic == "dead-session").unwrap();
    assert!(
        dead.what.contains("before that was started anew"),
        "{}",
        dead.what
    );
    assert!(pruned(&kit).deleted_packs > 0);
    assert!(!is_there(&kit, own));
}

#[test]
fn what_a_writer_elsewhere_made_public_is_not_swept_before_it_is_removed() {
    let kit = Kit::new();
    let kept = kit.backup("m", TestDisk::new(noise(R, 1)));
    let copied = files_in(kit.path(), "packs").remove(0);
    let pack = cairn_base::PackId([5; 16]);
    let home = kit.path().join(layout::pack_folder(pack));
    std::fs::create_dir_all(home).unwrap();
    let path = kit.path().join(layout::pack(pack));
    std::fs::copy(kit.path().join(copied), &path).unwrap();
    let name = foreign(6);
    put(&kit, name, &record(SessionKind::Write, &[]));
    let scratch = kit.path().join(name.folder());
    std::fs::create_dir(&scratch).unwrap();
    let manifest = Manifest {
        packs: vec![pack.0],
        segment: [6; 16],
    };
    std::fs::write(scratch.join("manifest"), codec::seal(&manifest).unwrap()).unwrap();
    kit.backup("m", TestDisk::new(noise(R, 2)));
    assert!(path.exists() && scratch.exists());
    kit.reopen().remove_session(name.id).unwrap();
    assert!(!path.exists() && !scratch.exists());
    assert_eq!(kit.read(&kept).unwrap(), noise(R, 1));
}
