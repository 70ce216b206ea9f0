//! What is noted is not forgotten, whoever writes the list meanwhile.

use super::*;
use crate::cut::CutParameters;
use cairn_base::{LocalFolder, SystemClock};

#[test]
fn nobody_waits_for_ever() {
    let temp = tempfile::tempdir().unwrap();
    let folder: Arc<dyn Folder> = Arc::new(LocalFolder::new(temp.path()));
    let store = Store::create(folder, CutParameters::default(), &SystemClock).unwrap();
    let turns = || 0..60u8;
    std::thread::scope(|scope| {
        for thread in 0..2u8 {
            let store = &store;
            scope.spawn(move || {
                for turn in turns() {
                    let mut id = ChunkId([thread; 32]);
                    id.0[0] = turn;
                    store.note_damaged(&id, &[PackId([turn; 16])]);
                    store.keep_damage().unwrap();
                    assert!(store.known_damage().mentions(&id.prefix()));
                }
            });
            scope.spawn(move || turns().for_each(|_| drop(store.writer().unwrap())));
            scope.spawn(move || turns().for_each(|_| assert!(store.is_whole())));
            scope.spawn(move || turns().for_each(|_| drop(store.unhealed())));
        }
    });
    // The packs are not live, and the chunks are nowhere else.
    assert_eq!(store.unhealed().len(), 120);
    assert_eq!(DamageList::read(&**store.folder()).unwrap().len(), 120);
}

fn made() -> (tempfile::TempDir, Store) {
    let temp = tempfile::tempdir().unwrap();
    let folder: Arc<dyn Folder> = Arc::new(LocalFolder::new(temp.path()));
    let store = Store::create(folder, CutParameters::default(), &SystemClock).unwrap();
    (temp, store)
}

fn on_disk(store: &Store) -> DamageList {
    DamageList::read(&**store.folder()).unwrap()
}

#[test]
fn what_is_noted_while_everything_is_read_is_not_forgotten() {
    let (_temp, store) = made();
    let [old, again, new] = [1, 2, 3].map(|n| ChunkId([n; 32]));
    let pack = [PackId([9; 16])];
    for id in [old, again] {
        store.note_damaged(&id, &pack);
    }
    store.keep_damage().unwrap();
    let (watch, other) = (store.watch_damage(), store.watch_damage());
    drop(other);
    // Both after the verification has read the pack and found it good.
    for id in [again, new] {
        store.note_damaged(&id, &pack);
    }
    store.replace_damage(DamageList::default(), &watch).unwrap();
    drop(watch);
    for list in [store.known_damage(), on_disk(&store)] {
        let listed = [old, again, new].map(|id| list.has(&id.prefix(), pack[0]));
        assert_eq!(listed, [false, true, true]);
    }
    assert!(store.knowledge.inner.read().watches.is_empty());
}

#[test]
fn a_list_that_could_not_be_written_is_written_later() {
    let (temp, store) = made();
    let id = ChunkId([5; 32]);
    let mut found = DamageList::default();
    found.add((id.prefix(), NOWHERE));
    // Something stands where it is written at first.
    let scratch = temp.path().join(crate::layout::DAMAGE_SCRATCH);
    std::fs::create_dir(&scratch).unwrap();
    let watch = store.watch_damage();
    store.replace_damage(found, &watch).unwrap_err();
    assert!(store.known_damage().mentions(&id.prefix()));
    std::fs::remove_dir(&scratch).unwrap();
    store.keep_damage().unwrap();
    assert!(on_disk(&store).mentions(&id.prefix()));
}

#[test]
fn a_list_that_cannot_be_read_for_now_is_kept() {
    let (temp, store) = made();
    store.note_damaged(&ChunkId([6; 32]), &[]);
    store.keep_damage().unwrap();
    let (file, away) = (temp.path().join("damage"), temp.path().join("away"));
    std::fs::rename(&file, &away).unwrap();
    std::fs::create_dir(&file).unwrap();
    let watch = store.watch_damage();
    let failed = store.replace_damage(DamageList::default(), &watch);
    assert!(failed.unwrap_err().is_momentary());
    assert!(store.unreadable_damage().is_some());
    std::fs::remove_dir(&file).unwrap();
    std::fs::rename(&away, &file).unwrap();
    assert!(on_disk(&store).mentions(&[6; 16]));
}
