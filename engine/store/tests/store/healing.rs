//! What is known to be damaged stays known, and whoever sees the bytes again stores them anew.

use crate::damage::{data_pack, flip};
use crate::kit::{Kit, R, TestDisk, files_in, mixed, noise, open_disk};
use cairn_base::read_at::read_vec;
use cairn_base::{LocalFolder, Silent};
use cairn_store::damage::DamageList;
use cairn_store::{Point, verify};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// As the next process finds it.
fn next_process(kit: Kit) -> Kit {
    let store = kit.reopen();
    Kit { store, ..kit }
}

fn listed(kit: &Kit) -> usize {
    DamageList::read(&LocalFolder::new(kit.path()))
        .unwrap()
        .len()
}

/// The smallest pack: the one with the map. Its frames begin behind 64 bytes.
fn map_pack(kit: &Kit) -> PathBuf {
    let packs = files_in(kit.path(), "packs");
    let smallest = packs
        .iter()
        .min_by_key(|p| std::fs::metadata(kit.path().join(p)).unwrap().len());
    kit.path().join(smallest.unwrap())
}

/// Who finds the damage.
#[derive(Clone, Copy, Debug)]
enum Finder {
    Verification,
    Reader,
}

fn find(kit: &Kit, point: &Point, finder: Finder) {
    match finder {
        Finder::Verification => {
            let report = verify(&kit.reopen(), false, &Silent).unwrap();
            assert!(!report.damaged.is_empty());
        }
        Finder::Reader => assert!(kit.read(point).is_err()),
    }
}

#[test]
fn what_one_process_finds_the_backup_of_another_heals() {
    for finder in [Finder::Verification, Finder::Reader] {
        for of_map in [false, true] {
            let kit = Kit::new();
            let bytes = noise(3 * R, 5);
            let first = kit.backup("m", TestDisk::new(bytes.clone()));
            if of_map {
                flip(&map_pack(&kit), 100);
            } else {
                flip(&data_pack(&kit), 1_000_000);
            }
            find(&kit, &first, finder);
            assert!(listed(&kit) > 0, "{finder:?} {of_map}");
            let kit = next_process(kit);
            let again = kit.backup("m", TestDisk::new(bytes.clone()));
            assert!(again.record.stats.new > 0 || of_map, "{finder:?}");
            // Less than a frame's worth, and the map: what is whole is not stored again.
            assert!(again.record.stats.stored < 300_000, "{:?}", again.record);
            for point in [&first, &again] {
                assert!(kit.read(point).unwrap() == bytes, "{finder:?} {of_map}");
            }
            let report = verify(&kit.reopen(), false, &Silent).unwrap();
            assert!(report.damaged.is_empty(), "{report:?}");
            // And from now on the machine's disk is compared with its last point again, at full speed.
            let kit = next_process(kit);
            let third = kit.backup("m", TestDisk::new(bytes.clone()));
            assert_eq!(third.record.stats.stored, 0);
        }
    }
}

#[test]
fn with_change_information_only_what_is_damaged_is_read_again() {
    for of_map in [false, true] {
        let kit = Kit::new();
        // Three regions of their own, and a map of a node and three leaves in one frame.
        let bytes = noise(3 * R, 6);
        let base = kit.backup("m", TestDisk::new(bytes.clone()));
        if of_map {
            flip(&map_pack(&kit), 100);
        } else {
            flip(&data_pack(&kit), 1_000_000);
        }
        find(&kit, &base, Finder::Verification);
        for changed in [vec![], vec![(2 * R as u64..2 * R as u64 + 1, false)]] {
            let kit = Kit {
                temp: copy_of(&kit),
                clock: crate::kit::TestClock::at(1_900_000_000),
                store: kit.reopen(),
            };
            let kit = next_process(kit);
            let disk = Arc::new(TestDisk::new(bytes.clone()));
            let again = kit.changed("m", &base, disk.clone(), &changed).unwrap();
            assert!(kit.read(&again).unwrap() == bytes, "{of_map}");
            assert!(kit.read(&base).unwrap() == bytes, "{of_map}");
            let read = disk.read.load(Ordering::Relaxed);
            if !of_map {
                // The damaged region, the one that is compared, and a part of the one that changed.
                assert!(read < 3 * R as u64, "{read}");
                assert_eq!(again.record.warnings, [] as [&str; 0]);
            }
        }
    }
}

fn copy_of(kit: &Kit) -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    for file in crate::kit::files(kit.path()) {
        let to = temp.path().join(&file);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(kit.path().join(&file), to).unwrap();
    }
    std::fs::create_dir_all(temp.path().join("sessions")).unwrap();
    temp
}

#[test]
fn other_machines_damage_does_not_slow_a_backup() {
    let kit = Kit::new();
    let (theirs, mine) = (noise(2 * R, 7), noise(3 * R, 8));
    let lost = kit.backup("theirs", TestDisk::new(theirs));
    flip(&data_pack(&kit), 1_000_000);
    let base = kit.backup("mine", TestDisk::new(mine.clone()));
    find(&kit, &lost, Finder::Verification);
    let kit = next_process(kit);
    let disk = Arc::new(TestDisk::new(mine.clone()));
    let again = kit.changed("mine", &base, disk.clone(), &[]).unwrap();
    assert_eq!(again.record.warnings, [] as [&str; 0]);
    // One region is compared, as always.
    assert_eq!(disk.read.load(Ordering::Relaxed), R as u64);
    assert_eq!(kit.read(&again).unwrap(), mine);
}

#[test]
fn a_lost_pack_is_a_list_of_chunks_and_its_loss_is_forgotten_when_healed() {
    for who_looks in [true, false] {
        let kit = Kit::new();
        let bytes = mixed(6 * R, 9);
        let base = kit.backup("m", TestDisk::new(bytes.clone()));
        std::fs::remove_file(data_pack(&kit)).unwrap();
        if who_looks {
            find(&kit, &base, Finder::Verification);
        }
        let kit = next_process(kit);
        // Nothing is said to have changed, and yet all that is lost is read.
        let disk = Arc::new(TestDisk::new(bytes.clone()));
        let again = kit.changed("m", &base, disk, &[]).unwrap();
        let warnings = &again.record.warnings;
        assert!(
            warnings.iter().any(|w| w.contains("missing")),
            "{warnings:?}"
        );
        assert!(kit.read(&again).unwrap() == bytes && kit.read(&base).unwrap() == bytes);
        let kit = next_process(kit);
        let disk = Arc::new(TestDisk::new(bytes.clone()));
        let third = kit.changed("m", &again, disk.clone(), &[]).unwrap();
        assert_eq!(third.record.warnings, [] as [&str; 0]);
        assert_eq!(disk.read.load(Ordering::Relaxed), R as u64);
    }
}

#[test]
fn a_list_that_cannot_be_read_is_told_and_made_anew_by_a_verification() {
    let kit = Kit::new();
    let bytes = noise(3 * R, 10);
    let base = kit.backup("m", TestDisk::new(bytes.clone()));
    flip(&data_pack(&kit), 1_000_000);
    find(&kit, &base, Finder::Verification);
    let count = listed(&kit);
    let path = kit.path().join("damage");
    flip(&path, 30);
    let kit = next_process(kit);
    assert!(kit.store.warnings().iter().any(|w| w.contains("damaged")));
    // Nothing is taken for granted: all is read.
    let disk = Arc::new(TestDisk::new(bytes.clone()));
    let again = kit.changed("m", &base, disk.clone(), &[]).unwrap();
    assert!(!again.record.warnings.is_empty());
    assert!(disk.read.load(Ordering::Relaxed) >= 3 * R as u64);
    let report = verify(&kit.reopen(), false, &Silent).unwrap();
    assert!(
        !report.damaged.is_empty(),
        "nobody knew, so it was not healed"
    );
    assert_eq!(listed(&kit), count);
    let kit = next_process(kit);
    assert!(kit.store.warnings().is_empty());
    let healed = kit.changed("m", &again, Arc::new(TestDisk::new(bytes.clone())), &[]);
    assert!(kit.read(&healed.unwrap()).unwrap() == bytes);
}

#[test]
fn what_comes_back_is_taken_from_the_list_by_a_verification() {
    let kit = Kit::new();
    let bytes = noise(2 * R, 11);
    let point = kit.backup("m", TestDisk::new(bytes.clone()));
    flip(&data_pack(&kit), 1_000_000);
    find(&kit, &point, Finder::Reader);
    assert!(listed(&kit) > 0);
    flip(&data_pack(&kit), 1_000_000);
    // Listed, and yet it is served: it is what was written.
    assert!(kit.read(&point).unwrap() == bytes);
    assert!(verify(&kit.reopen(), false, &Silent).unwrap().is_clean());
    assert_eq!(listed(&kit), 0);
}

#[test]
fn a_chunk_with_another_good_place_is_served_from_there() {
    let kit = Kit::new();
    let bytes = noise(2 * R, 12);
    let first = kit.backup("m", TestDisk::new(bytes.clone()));
    flip(&data_pack(&kit), 1_000_000);
    find(&kit, &first, Finder::Reader);
    let kit = next_process(kit);
    kit.backup("m", TestDisk::new(bytes.clone()));
    let disk = open_disk(&kit.reopen(), &first, "disk0");
    assert!(read_vec(&disk, 0, bytes.len()).unwrap() == bytes);
}
