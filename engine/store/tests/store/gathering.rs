//! What days have scattered a prune gathers: counted in reads, not in time.

use crate::kit::{Kit, R, TestDisk, noise};
use crate::pruning::exact;
use cairn_base::Silent;
use cairn_store::publish::{merge_everything, merge_lock};
use cairn_store::{
    Locality, Point, PruneOptions, PruneReport, Session, SessionKind, catalog, locality, prune,
    verify,
};
use std::sync::Arc;

const REGIONS: usize = 8;
const BLOCK: usize = 64 << 10;
const DAYS: usize = 24;

/// A machine of which each day a block of each region changed; every point and what it has.
fn days(kit: &Kit, machine: &str, mut bytes: Vec<u8>, seed: usize) -> Vec<(Point, Vec<u8>)> {
    let first = kit.backup(machine, TestDisk::new(bytes.clone()));
    let mut points = vec![(first, bytes.clone())];
    for day in 0..DAYS {
        let mut ranges = Vec::new();
        for region in 0..REGIONS {
            // Far from each other, and not one after the other.
            let block = (day * 2 * 7 + region * 5 + seed) % (R / BLOCK);
            let at = region * R + block * BLOCK;
            let new = noise(BLOCK, (seed * 100_000 + day * 100 + region) as u64);
            bytes[at..at + BLOCK].copy_from_slice(&new);
            ranges.push((at as u64..(at + BLOCK) as u64, false));
        }
        let base = points.last().unwrap().0.clone();
        let point = kit.changed(machine, &base, Arc::new(bytes.clone()), &ranges);
        points.push((point.unwrap(), bytes.clone()));
    }
    points
}

fn newest(kit: &Kit, machine: &str) -> Locality {
    let store = kit.reopen();
    let point = catalog::latest(&store, machine).unwrap();
    locality(&store, &point, &Silent).unwrap()
}

/// A prune for which no pack is worth rewriting.
fn gathered(kit: &Kit, options: PruneOptions) -> PruneReport {
    let options = PruneOptions {
        max_unused: 1_000_000,
        gather: true,
        ..options
    };
    prune(&kit.reopen(), &options, &Silent).unwrap()
}

#[track_caller]
fn all_is_there(kit: &Kit, points: &[(Point, Vec<u8>)]) {
    for (point, bytes) in points.iter().step_by(5).chain(points.last()) {
        assert!(kit.read(point).unwrap() == *bytes);
    }
    assert!(verify(&kit.reopen(), false, &Silent).unwrap().is_clean());
}

#[test]
fn the_newest_point_comes_from_few_places_again() {
    let kit = Kit::new();
    let points = days(&kit, "m", noise(REGIONS * R, 1), 1);
    let before = newest(&kit, "m");
    assert_eq!((before.used_bytes, before.lost), ((REGIONS * R) as u64, 0));
    assert!(before.seeks > 20 * REGIONS as u64, "{before:?}");
    let report = gathered(&kit, exact());
    assert!(report.gathered_bytes > 0 && report.gathered_written_bytes > 0);
    assert_eq!(report.rewritten_packs, 0);
    let after = newest(&kit, "m");
    assert!(after.seeks <= 4 * REGIONS as u64, "{before:?} {after:?}");
    assert!(after.packs < before.packs, "{before:?} {after:?}");
    assert!(after.read_bytes < before.read_bytes);
    all_is_there(&kit, &points);
    // What lay where it was is not needed there any more; and there is nothing left to gather.
    let again = PruneOptions {
        gather: true,
        ..exact()
    };
    let again = prune(&kit.reopen(), &again, &Silent).unwrap();
    assert_eq!(again.gathered_bytes, 0);
    assert!(again.rewritten_packs + again.deleted_packs > 0);
    assert!(newest(&kit, "m").seeks <= after.seeks);
    all_is_there(&kit, &points);
}

#[test]
fn machines_that_share_do_not_take_it_from_each_other() {
    let kit = Kit::new();
    let disk = noise(REGIONS * R, 2);
    let a = days(&kit, "a", disk.clone(), 1);
    let b = days(&kit, "b", disk, 3);
    let before = [newest(&kit, "a"), newest(&kit, "b")];
    assert!(gathered(&kit, exact()).gathered_bytes > 0);
    let after = [newest(&kit, "a"), newest(&kit, "b")];
    for (before, after) in before.iter().zip(&after) {
        assert!(after.seeks < before.seeks, "{before:?} {after:?}");
    }
    assert_eq!(gathered(&kit, exact()).gathered_bytes, 0);
    assert_eq!([newest(&kit, "a"), newest(&kit, "b")], after);
    all_is_there(&kit, &a);
    all_is_there(&kit, &b);
}

#[test]
fn gathering_is_bounded_by_what_may_be_copied() {
    let kit = Kit::new();
    let points = days(&kit, "m", noise(REGIONS * R, 4), 1);
    let before = newest(&kit, "m");
    let little = |max_rewrite: u64| PruneOptions {
        max_rewrite,
        ..exact()
    };
    assert_eq!(gathered(&kit, little(0)).gathered_bytes, 0);
    assert_eq!(newest(&kit, "m"), before);
    // It ends with the region in which the bound is reached; the next one goes on.
    let first = gathered(&kit, little(1)).gathered_bytes;
    assert!(first > 0 && first <= R as u64, "{first}");
    let second = gathered(&kit, exact()).gathered_bytes;
    assert!(second > first, "{first} {second}");
    assert!(newest(&kit, "m").seeks < before.seeks / 4);
    all_is_there(&kit, &points);
}

#[test]
fn what_was_gathered_stays_so_when_segments_are_merged() {
    let kit = Kit::new();
    let points = days(&kit, "m", noise(REGIONS * R, 5), 1);
    assert!(gathered(&kit, exact()).gathered_bytes > 0);
    let after = newest(&kit, "m");
    let store = kit.reopen();
    {
        let _permit = store.writer().unwrap();
        let _merging = merge_lock(&**store.folder()).unwrap().unwrap();
        let session = Session::begin(store.folder().clone(), SessionKind::Write, &[]).unwrap();
        merge_everything(&store, &session).unwrap();
    }
    assert_eq!(store.index().segments().len(), 1);
    assert_eq!(newest(&kit, "m"), after);
    assert_eq!(gathered(&kit, exact()).gathered_bytes, 0);
    all_is_there(&kit, &points);
}
