//! Many small packs become few; what cannot be checked is left alone.

use crate::kit::{Kit, R, TestDisk, files, files_in, noise, open_disk};
use crate::tidying::*;
use cairn_base::{LocalFolder, LockMode, Monitor, PackId, Silent, SystemClock};
use cairn_store::compact::tidy_up;
use cairn_store::tree::Spot;
use cairn_store::{Point, Session, SessionKind, Store, catalog, layout, verify};
use std::sync::Arc;

#[test]
fn many_small_backups_leave_few_packs() {
    let kit = Kit::new();
    let mut points = Vec::new();
    for number in 0..90 {
        points.push(kit.backup("m", TestDisk::new(content(number))));
        // A tier has at most 16 packs of each kind, and of these sizes there are three tiers.
        assert!(
            files_in(kit.path(), "packs").len() <= 2 * 3 * 16,
            "{number}"
        );
    }
    assert!(files_in(kit.path(), "packs").len() <= 40);
    assert!(points.iter().all(|point| point.record.warnings.is_empty()));
    assert_all_read_back(&kit.reopen(), &points, "at the end");
    assert!(verify(&kit.reopen(), false, &Silent).unwrap().is_clean());
    assert_no_orphans(kit.path(), "at the end");
    // Nothing is listed for ever: only what segments still name.
    let state = kit.reopen().state();
    assert!(state.replaced.len() < 80, "{}", state.replaced.len());
    let stats = cairn_store::stats(&kit.reopen(), &SystemClock).unwrap();
    assert_eq!(stats.packs, files_in(kit.path(), "packs").len() as u64);
}

#[test]
fn what_was_replaced_is_forgotten_when_no_segment_names_it() {
    let kit = Kit::new();
    let points = small_backups(&kit, 16);
    let segments: Vec<(String, Vec<u8>)> = files_in(kit.path(), "index")
        .into_iter()
        .map(|file| (file.clone(), std::fs::read(kit.path().join(file)).unwrap()))
        .collect();
    assert_eq!(tidy_at(kit.path()), [""; 0]);
    assert_eq!(files_in(kit.path(), "packs").len(), 2);
    assert_eq!(open(kit.path()).state().replaced.len(), 32);
    // Publications of others push the old segments out of both slots.
    unmerged_backups(&kit, 16..19);
    // A file that may be a segment, and cannot be read, may name anything. Publications sweep it.
    let old = kit.path().join(&segments[0].0);
    std::fs::write(&old, b"what is this").unwrap();
    tidy_at(kit.path());
    assert_eq!(open(kit.path()).state().replaced.len(), 32);
    assert!(!old.exists());
    // One that could not be deleted would be listed again if a slot were lost: what it names is not forgotten.
    std::fs::write(&old, &segments[0].1).unwrap();
    tidy_at(kit.path());
    assert_eq!(open(kit.path()).state().replaced.len(), 2);
    assert!(!old.exists());
    tidy_at(kit.path());
    assert_eq!(open(kit.path()).state().replaced, [[0; 16]; 0]);
    assert_all_read_back(&kit.reopen(), &points, "afterwards");
    let before = open(kit.path()).generation();
    tidy_at(kit.path());
    assert_eq!(open(kit.path()).generation(), before, "nothing to do");
}

#[test]
fn few_small_packs_stay_as_they_are() {
    let kit = Kit::new();
    small_backups(&kit, 15);
    let before = files_in(kit.path(), "packs");
    tidy_at(kit.path());
    assert_eq!(files_in(kit.path(), "packs"), before);
}

/// The pack in which the first chunk of a point lies.
fn data_pack(store: &Arc<Store>, point: &Point) -> PackId {
    let disk = open_disk(store, point, "disk0");
    let Spot::Leaf(id) = disk.tree().locate(0).unwrap() else {
        panic!("the disk begins with a hole");
    };
    let leaf = disk.tree().leaf(0, id).unwrap();
    let chunk = leaf.extents.iter().find_map(|extent| extent.chunk).unwrap();
    store.index().places(&chunk).unwrap()[0].pack
}

#[test]
fn a_damaged_small_pack_is_left_alone() {
    for damage in ["flip", "cut", "swap"] {
        let kit = Kit::new();
        let points = small_backups(&kit, 20);
        let store = open(kit.path());
        let (fourth, fifth) = (data_pack(&store, &points[3]), data_pack(&store, &points[4]));
        let victim = kit.path().join(layout::pack(fourth));
        let mut bytes = std::fs::read(&victim).unwrap();
        match damage {
            "flip" => bytes[5000] ^= 1,
            "cut" => bytes.truncate(9000),
            _ => bytes = std::fs::read(kit.path().join(layout::pack(fifth))).unwrap(),
        }
        std::fs::write(&victim, &bytes).unwrap();
        let warnings = tidy(Arc::new(LocalFolder::new(kit.path()))).unwrap();
        assert!(!warnings.is_empty(), "{damage}");
        // The others are seen to be shorter or longer before they are opened.
        let name = fourth.to_string();
        let named = warnings.iter().any(|warning| warning.contains(&name));
        assert_eq!(named, damage == "flip", "{damage}: {warnings:?}");
        assert!(!open(kit.path()).known_damage().is_empty(), "{damage}");
        assert_eq!(std::fs::read(&victim).unwrap(), bytes, "{damage}");
        assert_eq!(files_in(kit.path(), "packs").len(), 3, "{damage}");
        for (number, point) in points.iter().enumerate() {
            let read = read(&open(kit.path()), point);
            if number == 3 {
                assert!(read.is_err(), "{damage}");
            } else {
                assert!(read.unwrap() == content(number as u64), "{damage} {number}");
            }
        }
    }
}

#[test]
fn a_pack_that_the_index_does_not_know_in_full_is_left_alone() {
    let kit = Kit::new();
    small_backups(&kit, 18);
    let before = files_in(kit.path(), "packs");
    // A page of the newest segment: its pack is there, but not known.
    let store = open(kit.path());
    let newest = store.state().segments.last().unwrap().segment();
    let path = kit.path().join(layout::segment(newest));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let warnings = tidy(Arc::new(LocalFolder::new(kit.path()))).unwrap();
    let left = warnings.iter().filter(|w| w.contains("stays as it is"));
    assert_eq!(left.count(), 2, "{warnings:?}");
    let after = files_in(kit.path(), "packs");
    let kept = before.iter().filter(|file| after.contains(file)).count();
    assert_eq!((kept, after.len()), (2, 4));
}

#[test]
fn a_lost_segment_stops_it() {
    let kit = Kit::new();
    small_backups(&kit, 18);
    let before = files_in(kit.path(), "packs");
    let oldest = open(kit.path()).state().segments[0].segment();
    let path = kit.path().join(layout::segment(oldest));
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    tidy(Arc::new(LocalFolder::new(kit.path()))).unwrap();
    assert_eq!(files_in(kit.path(), "packs"), before);
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(tidy_at(kit.path()), [""; 0]);
    assert_eq!(files_in(kit.path(), "packs").len(), 2);
}

struct Stop;

impl Monitor for Stop {
    fn stop_requested(&self) -> bool {
        true
    }
}

#[test]
fn a_request_to_stop_leaves_nothing_behind() {
    let kit = Kit::new();
    let points = small_backups(&kit, 16);
    let before = files(kit.path());
    let store = open(kit.path());
    let session = Session::begin(store.folder().clone(), SessionKind::Write, &[]).unwrap();
    assert_eq!(tidy_up(&store, &session, &Stop), [""; 0]);
    drop(session);
    assert_eq!(files(kit.path()), before);
    assert_all_read_back(&store, &points, "stopped");
}

#[test]
fn large_packs_stay_and_full_ones_are_made() {
    let kit = Kit::new();
    {
        let folder = kit.store.folder().clone();
        let _merging = folder
            .lock("locks/merge", LockMode::Exclusive, false)
            .unwrap();
        // Three of 24 MiB fill more than a pack: two of them become one that is small no more.
        for number in 0..3 {
            kit.backup("m", TestDisk::new(noise(6 * R, 300 + number)));
        }
    }
    assert_eq!(tidy_at(kit.path()), [""; 0]);
    let mut lengths: Vec<u64> = open(kit.path())
        .live_packs()
        .iter()
        .map(|r| r.length >> 20)
        .collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [0, 0, 0, 24, 48]);
    let before = files_in(kit.path(), "packs");
    tidy_at(kit.path());
    assert_eq!(files_in(kit.path(), "packs"), before);
    let points = catalog::all_points(&open(kit.path())).unwrap().points;
    for (number, point) in points.iter().enumerate() {
        let bytes = read(&open(kit.path()), point).unwrap();
        assert!(bytes == noise(6 * R, 300 + number as u64));
    }
}
