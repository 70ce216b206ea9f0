//! Nothing is deleted while something cannot be read that must be.

use crate::kit::{Kit, R, TestDisk, files_in, noise};
use crate::pruning::{disk, exact, file_of, forget, pruned};
use cairn_base::{Kind, Monitor, Silent, Stage};
use cairn_store::pack::PackKind;
use cairn_store::{Point, Session, SessionKind, layout, prune, verify};
use std::path::PathBuf;
use std::sync::Mutex;

/// A store with a point that is kept, one of another machine, and something to delete.
struct Store {
    kit: Kit,
    kept: Point,
    latest: Point,
    packs: Vec<String>,
}

impl Store {
    fn new() -> Store {
        let kit = Kit::new();
        let kept = kit.backup("m", TestDisk::new(disk(1)));
        let gone = kit.backup("m", TestDisk::new(noise(2 * R, 9)));
        let latest = kit.backup("n", TestDisk::new(noise(R, 10)));
        forget(&kit, &[&gone]);
        let packs = files_in(kit.path(), "packs");
        Store {
            kit,
            kept,
            latest,
            packs,
        }
    }

    fn refuses(&self, what: &str, kind: Kind) {
        let error = prune(&self.kit.reopen(), &exact(), &Silent).unwrap_err();
        assert_eq!(error.kind(), kind, "{what}: {error}");
        assert_eq!(files_in(self.kit.path(), "packs"), self.packs, "{what}");
        assert_eq!(self.kit.reopen().state().condemned.len(), 0, "{what}");
    }

    /// All is well again.
    fn prunes(&self) {
        assert!(pruned(&self.kit).deleted_packs > 0);
        assert_eq!(self.kit.read(&self.kept).unwrap(), disk(1));
    }
}

#[test]
fn points_and_sessions() {
    let store = Store::new();
    let (kit, latest, kept) = (&store.kit, &store.latest, &store.kept);
    // A point.
    let path = file_of(kit, latest);
    let whole = std::fs::read(&path).unwrap();
    let mut bad = whole.clone();
    bad[30] ^= 1;
    std::fs::write(&path, &bad).unwrap();
    store.refuses("a damaged point", Kind::Damaged);
    std::fs::rename(&path, path.with_file_name("renamed")).unwrap();
    store.refuses("a point without its name", Kind::Damaged);
    std::fs::rename(path.with_file_name("renamed"), &path).unwrap();
    // A point of a newer version.
    let mut newer = whole.clone();
    newer[8] += 1;
    let end = newer.len() - 16;
    let sum = blake3::hash(&newer[..end]);
    newer[end..].copy_from_slice(&sum.as_bytes()[..16]);
    std::fs::write(&path, &newer).unwrap();
    store.refuses("a point of a newer version", Kind::Unsupported);
    std::fs::write(&path, &whole).unwrap();
    // The record of a session that lives.
    let folder = kit.store.folder().clone();
    let session = Session::begin(folder, SessionKind::Read, &[kept]).unwrap();
    let record = kit.path().join(session.name().file());
    let told = std::fs::read(&record).unwrap();
    std::fs::write(&record, &told[..told.len() / 2]).unwrap();
    store.refuses("a session's record", Kind::Damaged);
    std::fs::write(&record, &told).unwrap();
    drop(session);
    store.prunes();
}

#[test]
fn maps_and_index() {
    let store = Store::new();
    let kit = &store.kit;
    // A part of a map.
    let maps: Vec<String> = store
        .packs
        .iter()
        .filter(|file| {
            let bytes = std::fs::read(kit.path().join(file)).unwrap();
            bytes[12] == 1
        })
        .cloned()
        .collect();
    assert!(!maps.is_empty());
    let saved: Vec<Vec<u8>> = maps
        .iter()
        .map(|file| std::fs::read(kit.path().join(file)).unwrap())
        .collect();
    for (file, bytes) in maps.iter().zip(&saved) {
        let mut bad = bytes.clone();
        bad[64..200].fill(0xee);
        std::fs::write(kit.path().join(file), &bad).unwrap();
    }
    store.refuses("a part of a map", Kind::Damaged);
    for (file, bytes) in maps.iter().zip(&saved) {
        std::fs::write(kit.path().join(file), bytes).unwrap();
    }
    std::fs::remove_file(kit.path().join("damage")).ok();
    // A segment of the index.
    let segment = kit.path().join(&files_in(kit.path(), "index")[0]);
    let bytes = std::fs::read(&segment).unwrap();
    std::fs::remove_file(&segment).unwrap();
    store.refuses("a segment", Kind::Damaged);
    std::fs::write(&segment, &bytes).unwrap();
    let mut bad = bytes.clone();
    bad[100] ^= 1;
    std::fs::write(&segment, &bad).unwrap();
    store.refuses("a page of the index", Kind::Damaged);
    std::fs::write(&segment, &bytes).unwrap();
    store.prunes();
}

#[test]
fn a_pack_that_cannot_be_read_stays() {
    let kit = Kit::new();
    let kept = kit.backup("m", TestDisk::new(disk(1)));
    let before = files_in(kit.path(), "packs");
    let gone = kit.backup("m", TestDisk::new(noise(2 * R, 9)));
    forget(&kit, &[&gone]);
    let new: Vec<String> = files_in(kit.path(), "packs")
        .into_iter()
        .filter(|file| !before.contains(file))
        .collect();
    for file in &new {
        let path = kit.path().join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        let end = bytes.len();
        bytes[end - 100] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
    }
    let report = pruned(&kit);
    assert_eq!(report.left.len(), new.len(), "{:?}", report.left);
    assert!(new.iter().all(|file| kit.path().join(file).exists()));
    assert_eq!(kit.read(&kept).unwrap(), disk(1));
}

/// Stores the same bytes once more, in a pack of their own: the packs that have them are away meanwhile. Answers the pack.
fn stored_again(kit: &Kit, machine: &str, bytes: &[u8], others: &[PathBuf]) -> PathBuf {
    let kept: Vec<Vec<u8>> = others
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect();
    for path in others {
        std::fs::remove_file(path).unwrap();
    }
    kit.backup(machine, TestDisk::new(bytes.to_vec()));
    for (path, kept) in others.iter().zip(kept) {
        std::fs::write(path, kept).unwrap();
    }
    std::fs::remove_file(kit.path().join("damage")).ok();
    let packs = kit.reopen().live_packs();
    let data = packs.iter().filter(|row| row.kind == PackKind::Data);
    let mut paths = data.map(|row| kit.path().join(layout::pack(row.id)));
    paths.find(|path| !others.contains(path)).unwrap()
}

#[test]
fn of_three_copies_two_do_not_go_on_the_word_of_each_other() {
    let kit = Kit::new();
    let bytes = noise(R, 3);
    let mut copies = Vec::new();
    for machine in ["m", "n", "o"] {
        copies.push(stored_again(&kit, machine, &bytes, &copies));
    }
    // The one that is found first is the one that was written last.
    let mut bad = std::fs::read(&copies[2]).unwrap();
    let middle = bad.len() / 2;
    bad[middle] ^= 0x40;
    std::fs::write(&copies[2], &bad).unwrap();
    let report = pruned(&kit);
    assert!(copies[..2].iter().any(|path| path.exists()), "{report:?}");
    // Now it is known which one is bad: what is good goes into one pack.
    pruned(&kit);
    pruned(&kit);
    assert_eq!(
        kit.reopen()
            .live_packs()
            .iter()
            .filter(|row| row.kind == PackKind::Data)
            .count(),
        1
    );
    for point in cairn_store::catalog::all_points(&kit.reopen())
        .unwrap()
        .points
    {
        assert_eq!(kit.read(&point).unwrap(), bytes);
    }
    assert!(verify(&kit.reopen(), false, &Silent).unwrap().is_clean());
}

/// Ends a writer when all is marked.
struct Ends(Mutex<Option<Session>>);

impl Monitor for Ends {
    fn finish(&self, stage: Stage) {
        if stage == Stage::Mark {
            drop(self.0.lock().unwrap().take());
        }
    }
}

#[test]
fn what_waits_when_a_prune_begins_is_not_deleted_without_a_look() {
    let kit = Kit::new();
    let gone = kit.backup("m", TestDisk::new(disk(1)));
    kit.backup("n", TestDisk::new(noise(R, 10)));
    let writer = Session::begin(kit.store.folder().clone(), SessionKind::Write, &[]).unwrap();
    forget(&kit, &[&gone]);
    let waiting = pruned(&kit).waiting_packs;
    assert!(waiting > 0);
    // The writer ends after it was decided what is looked into.
    let ends = Ends(Mutex::new(Some(writer)));
    let report = prune(&kit.reopen(), &exact(), &ends).unwrap();
    assert_eq!(
        (report.deleted_packs, report.waiting_packs),
        (0, waiting),
        "{report:?}"
    );
    assert_eq!(pruned(&kit).deleted_packs, waiting);
}
