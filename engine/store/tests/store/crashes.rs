//! What a process that died leaves behind is swept, and nothing else.

use crate::kit::{Kit, R, TestDisk, files_in, noise};
use cairn_base::{LockMode, SegmentId, SessionId, Silent};
use cairn_store::layout::SessionName;
use cairn_store::pack::{PackKind, PackWriter};
use cairn_store::{Session, SessionKind, verify};
use std::sync::Arc;

#[test]
fn dead_sessions_are_swept_and_live_ones_are_not() {
    let kit = Kit::new();
    let folder = kit.store.folder().clone();
    let live = Session::begin(folder.clone(), SessionKind::Write, &[]).unwrap();
    let reader = Session::begin(folder.clone(), SessionKind::Read, &[]).unwrap();
    let own = |id: u8| SessionName {
        id: SessionId([id; 16]),
        ..live.name()
    };
    let dead = own(1).file();
    std::fs::write(kit.path().join(&dead), b"").unwrap();
    std::fs::create_dir(kit.path().join(format!("{dead}.d"))).unwrap();
    std::fs::write(kit.path().join(format!("{dead}.d/pack")), b"half").unwrap();
    // A folder whose file is gone belongs to nobody either.
    std::fs::create_dir(kit.path().join(own(2).folder())).unwrap();
    kit.backup("m", TestDisk::new(noise(R, 1)));
    let mut names: Vec<_> = std::fs::read_dir(kit.path().join("sessions"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(live.is_registered() && reader.is_registered());
    drop((live, reader));
    assert_eq!(
        std::fs::read_dir(kit.path().join("sessions"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn packs_that_were_renamed_but_never_listed_are_swept() {
    let kit = Kit::new();
    let point = kit.backup("m", TestDisk::new(noise(R, 2)));
    let packs = files_in(kit.path(), "packs");
    let folder = kit.store.folder().clone();
    let session = Session::begin(folder.clone(), SessionKind::Write, &[]).unwrap();
    let pack = PackWriter::create(
        &*folder,
        &session.scratch(),
        kit.store.header(),
        PackKind::Data,
    )
    .unwrap();
    let sealed = pack.seal().unwrap();
    let named = kit.store.index().packs().next().unwrap().unwrap().id;
    let _listed_ones_stay = session.announce(&[sealed.id, named], SegmentId([9; 16]));
    folder
        .create_folder(&cairn_store::layout::pack_folder(sealed.id))
        .unwrap();
    folder
        .publish(&sealed.path, &cairn_store::layout::pack(sealed.id))
        .unwrap();
    assert_eq!(files_in(kit.path(), "packs").len(), packs.len() + 1);
    // The process dies here: its manifest stays, whether it is killed or the publication failed.
    drop(session);
    assert!(!files_in(kit.path(), "sessions").is_empty());
    kit.backup("m", TestDisk::new(noise(R, 2)));
    assert_eq!(files_in(kit.path(), "packs"), packs);
    assert_eq!(files_in(kit.path(), "sessions"), [] as [&str; 0]);
    assert_eq!(kit.read(&point).unwrap(), noise(R, 2));
    assert!(verify(&kit.reopen(), false, &Silent).unwrap().is_clean());
}

#[test]
fn another_host_is_told_to_wait() {
    let kit = Kit::new();
    let lock = kit
        .store
        .folder()
        .lock("locks/host", LockMode::Exclusive, false)
        .unwrap()
        .unwrap();
    lock.write_note(b"other-host").unwrap();
    assert!(lock.change(LockMode::Shared).unwrap());
    let error = kit
        .try_backup("m", TestDisk::new(vec![1]), &Silent)
        .unwrap_err();
    assert_eq!(error.kind(), cairn_base::Kind::Busy);
    assert!(error.to_string().contains("other-host"), "{error}");
    drop(lock);
    kit.backup("m", TestDisk::new(vec![1]));
}

#[test]
fn an_interrupted_init_can_begin_again() {
    let temp = tempfile::tempdir().unwrap();
    for name in ["locks", "sessions", "packs"] {
        std::fs::create_dir(temp.path().join(name)).unwrap();
    }
    let folder: Arc<dyn cairn_base::Folder> = Arc::new(cairn_base::LocalFolder::new(temp.path()));
    let create =
        || cairn_store::Store::create(folder.clone(), Default::default(), &cairn_base::SystemClock);
    create().unwrap();
    assert_eq!(create().err().unwrap().kind(), cairn_base::Kind::Exists);
    for header in ["header.0", "header.1", "header.2"] {
        std::fs::remove_file(temp.path().join(header)).unwrap();
    }
    std::fs::create_dir(temp.path().join("packs/ab")).unwrap();
    // A store that has lost its headers is not overwritten.
    assert_eq!(create().err().unwrap().kind(), cairn_base::Kind::Exists);
}
