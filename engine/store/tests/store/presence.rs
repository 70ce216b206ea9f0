//! A writer looks whether packs are there, and not twice at what has not changed.

use crate::kit::{Kit, TestDisk, files_in, noise};
use crate::watched::WatchedFolder;
use cairn_base::{Folder, LocalFolder};
use cairn_store::Store;
use std::sync::Arc;

fn content() -> Vec<u8> {
    noise(50_000, 1)
}

fn watched() -> (Kit, WatchedFolder) {
    let kit = Kit::new();
    for seed in 0..4 {
        kit.backup("m", TestDisk::new(noise(50_000, seed)));
    }
    let folder = WatchedFolder::new(kit.path());
    let store = Arc::new(Store::open(Arc::new(folder.clone())).unwrap());
    (Kit { store, ..kit }, folder)
}

#[test]
fn folders_that_did_not_change_are_not_looked_into_again() {
    let (kit, folder) = watched();
    kit.backup("m", TestDisk::new(content()));
    assert_eq!(folder.looks(), 8, "the first time each pack");
    kit.backup("m", TestDisk::new(content()));
    assert_eq!(folder.looks(), 8, "nothing was added");
    kit.backup("n", TestDisk::new(noise(50_000, 9)));
    assert_eq!(folder.looks(), 8);
    kit.backup("n", TestDisk::new(noise(50_000, 9)));
    let looks = folder.looks() - 8;
    assert!((2..8).contains(&looks), "only where packs came: {looks}");
    assert_eq!(kit.store.missing_packs().unwrap().0.len(), 0);
    assert!(folder.looks() >= 18, "a verification looks at each");
}

#[test]
fn a_pack_that_vanishes_between_two_backups_of_a_process_is_noticed() {
    let (kit, _) = watched();
    let point = kit.backup("m", TestDisk::new(content()));
    assert_eq!(point.record.warnings, [""; 0]);
    for pack in files_in(kit.path(), "packs") {
        let path = kit.path().join(&pack);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let point = kit.backup("m", TestDisk::new(content()));
        assert!(!point.record.warnings.is_empty(), "{pack}");
        assert_eq!(kit.read(&point).unwrap(), content());
        std::fs::write(&path, bytes).unwrap();
    }
    let point = kit.backup("m", TestDisk::new(content()));
    assert_eq!(point.record.warnings, [""; 0]);
}

#[test]
fn a_folder_that_has_just_changed_has_no_stamp() {
    let kit = Kit::new();
    kit.backup("m", TestDisk::new(content()));
    let pack = files_in(kit.path(), "packs").remove(0);
    let home = pack.rsplit_once('/').unwrap().0;
    let folder = LocalFolder::new(kit.path());
    assert_eq!(folder.stamp(home).unwrap(), None);
    assert!(folder.stamp("packs/none").is_err());
}
