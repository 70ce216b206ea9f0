//! Packs are merged while others work, and while disks fail: nobody meets a gap.

use crate::kit::{Kit, TestClock, TestDisk, files_in, noise};
use crate::tidying::*;
use crate::watched::WatchedFolder;
use cairn_base::{Folder, LocalFolder, LockMode, Monitor, Silent, Stage};
use cairn_store::{Point, Store, verify};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is left of a store when the calls `from..to` of a tidying fail: nothing is lost, even if a slot of the state is lost on
/// top, and the next one ends what was begun. Answers whether anybody noticed.
fn fail_calls(kit: &Kit, points: &[Point], from: u64, to: u64) -> bool {
    let copy = copy_store(kit.path());
    let folder = WatchedFolder::new(copy.path());
    folder.fail(from, to);
    let what = format!("calls {from} to {to}");
    let noticed = !matches!(tidy(Arc::new(folder)), Ok(warnings) if warnings.is_empty());
    for slot in ["state.0", "state.1"] {
        let without = copy_store(copy.path());
        std::fs::remove_file(without.path().join(slot)).unwrap();
        let what = format!("{what}, without {slot}");
        assert_all_read_back(&open(without.path()), points, &what);
        tidy_at(without.path());
        tidy_at(without.path());
        assert_all_read_back(&open(without.path()), points, &what);
        assert!(open(without.path()).missing_packs().unwrap().0.is_empty());
    }
    assert_all_read_back(&open(copy.path()), points, &what);
    assert_eq!(tidy_at(copy.path()), [""; 0], "{what}");
    assert_all_read_back(&open(copy.path()), points, &what);
    let report = verify(&open(copy.path()), false, &Silent).unwrap();
    assert!(report.is_clean(), "{what}: {report:?}");
    assert_no_orphans(copy.path(), &what);
    // A pack that could not be read for a moment was left alone.
    assert!(files_in(copy.path(), "packs").len() <= 3, "{what}");
    noticed
}

#[test]
fn a_crash_at_any_call_loses_nothing() {
    let kit = Kit::new();
    let points = small_backups(&kit, 17);
    let copy = copy_store(kit.path());
    let watched = WatchedFolder::new(copy.path());
    tidy(Arc::new(watched.clone())).unwrap();
    let changes = watched.changes();
    assert!(changes.len() > 100, "{}", changes.len());
    // Between two changes the disk is the same, whichever call is the last.
    for number in &changes {
        fail_calls(&kit, &points, *number, u64::MAX);
    }
}

#[test]
fn a_single_failure_at_any_call_loses_nothing() {
    let kit = Kit::new();
    let points = small_backups(&kit, 17);
    let copy = copy_store(kit.path());
    let watched = WatchedFolder::new(copy.path());
    tidy(Arc::new(watched.clone())).unwrap();
    let (calls, changes) = (watched.calls(), watched.changes());
    let tried = (0..calls).filter(|number| number % 11 == 0 || changes.contains(number));
    let noticed = tried.filter(|number| fail_calls(&kit, &points, *number, number + 1));
    assert!(noticed.count() > 100);
}

#[test]
fn a_slot_that_is_lost_later_loses_nothing() {
    for slot in ["state.0", "state.1"] {
        for more in 0..4 {
            let kit = Kit::new();
            let mut points = small_backups(&kit, 16);
            tidy_at(kit.path());
            for number in 16..16 + more {
                points.push(kit.backup("m", TestDisk::new(content(number))));
            }
            std::fs::remove_file(kit.path().join(slot)).unwrap();
            assert_all_read_back(&open(kit.path()), &points, slot);
            for number in 0..3 {
                kit.backup("n", TestDisk::new(content(900 + number)));
            }
            assert_all_read_back(&open(kit.path()), &points, slot);
            let report = verify(&open(kit.path()), false, &Silent).unwrap();
            assert!(report.is_clean(), "{slot} {more}: {report:?}");
            assert!(open(kit.path()).missing_packs().unwrap().0.is_empty());
        }
    }
}

#[test]
fn readers_of_an_older_generation_read_on() {
    let kit = Kit::new();
    let points = small_backups(&kit, 17);
    let old = open(kit.path());
    tidy_at(kit.path());
    assert_eq!(files_in(kit.path(), "packs").len(), 2);
    // Many threads find out at once.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_all_read_back(&old, &points, "an old reader"));
        }
    });
}

/// Merges, unless the work that is interrupted holds the publish lock: then a merge would wait for it.
fn tidy_unless_locked(path: &Path) {
    let free = LocalFolder::new(path)
        .lock("locks/publish", LockMode::Exclusive, false)
        .unwrap()
        .is_some();
    if free {
        assert_eq!(tidy_at(path), [""; 0]);
    }
}

/// For each call that `work` makes to the folder: a tidying comes just before it. Answers how many calls there were.
fn with_tidying_at_each_call(kit: &Kit, step: usize, work: impl Fn(Arc<Store>, &Path, &str)) {
    let (mut at, mut merged) = (0, 0);
    loop {
        let copy = copy_store(kit.path());
        let folder = WatchedFolder::new(copy.path());
        let store = Arc::new(Store::open(Arc::new(folder.clone())).unwrap());
        let path = copy.path().to_path_buf();
        folder.before(at, move || tidy_unless_locked(&path));
        work(store, copy.path(), &format!("a merge at call {at}"));
        if folder.waits() {
            break;
        }
        merged += usize::from(files_in(copy.path(), "packs").len() < 16);
        at += step as u64;
    }
    assert!(merged > 10, "{merged}");
}

#[test]
fn reading_never_meets_a_gap() {
    let kit = Kit::new();
    let points = small_backups(&kit, 16);
    with_tidying_at_each_call(&kit, 2, |store, _, what| {
        assert_all_read_back(&store, &points, what);
    });
}

#[test]
fn verification_never_takes_a_replaced_pack_for_damage() {
    let kit = Kit::new();
    let points = small_backups(&kit, 16);
    with_tidying_at_each_call(&kit, 5, |store, _, what| {
        for quick in [true, false] {
            let report = verify(&store, quick, &Silent).unwrap();
            assert!(report.is_clean(), "{what}: {report:?}");
            assert_eq!(report.points, points.len() as u64);
        }
    });
}

/// Merges when the verification has its list of packs, and before it reads the first.
struct TidyAtBegin<'a>(&'a Path, AtomicBool);

impl Monitor for TidyAtBegin<'_> {
    fn begin(&self, stage: Stage, _total: u64) {
        if stage == Stage::VerifyPacks {
            assert_eq!(tidy_at(self.0), [""; 0]);
            self.1.store(true, Ordering::SeqCst);
        }
    }
}

#[test]
fn what_replaced_a_pack_is_verified_instead_of_it() {
    let kit = Kit::new();
    small_backups(&kit, 16);
    let packed: u64 = open(kit.path())
        .live_packs()
        .iter()
        .map(|row| row.length)
        .sum();
    let monitor = TidyAtBegin(kit.path(), AtomicBool::new(false));
    let report = verify(&open(kit.path()), false, &monitor).unwrap();
    assert!(monitor.1.load(Ordering::SeqCst));
    assert!(report.is_clean(), "{report:?}");
    // All frames, once; the rest are heads, tables and footers.
    assert!(report.checked_bytes > packed * 9 / 10, "{report:?}");
    assert!(report.checked_bytes < packed, "{report:?}");
}

#[test]
fn a_backup_of_an_older_generation_is_whole() {
    let kit = Kit::new();
    let points = small_backups(&kit, 16);
    let mut bytes = content(3);
    bytes.extend(noise(9_000, 5));
    with_tidying_at_each_call(&kit, 7, |store, path, what| {
        let kit = Kit {
            temp: tempfile::tempdir().unwrap(),
            store,
            clock: TestClock::at(1_900_000_000),
        };
        let point = kit.backup("new", TestDisk::new(bytes.clone()));
        assert_eq!(point.record.warnings, [""; 0], "{what}");
        assert!(
            point.record.stats.new < 60_000,
            "{what}: {:?}",
            point.record.stats
        );
        let store = open(path);
        assert!(read(&store, &point).unwrap() == bytes, "{what}");
        assert_all_read_back(&store, &points, what);
        let report = verify(&store, false, &Silent).unwrap();
        assert!(report.is_clean(), "{what}: {report:?}");
    });
}

#[test]
fn backups_at_once_lose_nothing() {
    let kit = Kit::new();
    let kit = &kit;
    let points: Vec<Vec<Point>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4u64)
            .map(|thread| {
                scope.spawn(move || {
                    let machine = format!("m{thread}");
                    let disk = |n: u64| TestDisk::new(content(n * 4 + thread));
                    (0..20).map(|n| kit.backup(&machine, disk(n))).collect()
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let store = open(kit.path());
    for (thread, points) in points.iter().enumerate() {
        for (number, point) in points.iter().enumerate() {
            assert_eq!(point.record.warnings, [""; 0]);
            let expected = content((number * 4 + thread) as u64);
            assert!(
                read(&store, point).unwrap() == expected,
                "{thread} {number}"
            );
        }
    }
    assert!(verify(&store, false, &Silent).unwrap().is_clean());
    tidy_at(kit.path());
    assert_no_orphans(kit.path(), "at once");
    assert!(files_in(kit.path(), "packs").len() < 100);
}
