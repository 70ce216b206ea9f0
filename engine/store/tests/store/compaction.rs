//! Many small packs become few, whatever happens meanwhile.

use crate::kit::{Kit, R, TestDisk, files_in, noise, open_disk};
use crate::watched::WatchedFolder;
use cairn_base::read_at::read_vec;
use cairn_base::{Folder, LocalFolder, LockMode, Monitor, ReadAt, Silent, Stage};
use cairn_store::compact::tidy_up;
use cairn_store::{Point, Session, SessionKind, Store, catalog, layout, verify};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the disk of backup `number` holds.
fn content(number: u64) -> Vec<u8> {
    noise(
        20_000 + usize::try_from(number).unwrap() * 100,
        7000 + number,
    )
}

/// Makes backups whose packs and segments nobody merges.
fn small_backups(kit: &Kit, count: u64) -> Vec<Point> {
    unmerged_backups(kit, 0..count)
}

fn unmerged_backups(kit: &Kit, numbers: std::ops::Range<u64>) -> Vec<Point> {
    let folder = kit.store.folder().clone();
    let _merging = folder
        .lock("locks/merge", LockMode::Exclusive, false)
        .unwrap()
        .unwrap();
    numbers
        .map(|number| kit.backup("m", TestDisk::new(content(number))))
        .collect()
}

fn open(path: &Path) -> Arc<Store> {
    Arc::new(Store::open(Arc::new(LocalFolder::new(path))).unwrap())
}

/// What another process does at the end of a backup.
fn tidy(folder: Arc<dyn Folder>) -> cairn_base::Result<Vec<String>> {
    let store = Store::open(folder)?;
    let permit = store.writer()?;
    let session = Session::begin(store.folder().clone(), SessionKind::Write, &[])?;
    let mut warnings = tidy_up(&store, &session, &Silent);
    warnings.extend(permit.warnings().iter().cloned());
    Ok(warnings)
}

fn tidy_at(path: &Path) -> Vec<String> {
    tidy(Arc::new(LocalFolder::new(path))).unwrap()
}

fn copy_store(from: &Path) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                std::fs::create_dir(&to).unwrap();
                copy(&entry.path(), &to);
            } else {
                std::fs::copy(entry.path(), &to).unwrap();
            }
        }
    }
    let to = tempfile::tempdir().unwrap();
    copy(from, to.path());
    to
}

fn read(store: &Arc<Store>, point: &Point) -> cairn_base::Result<Vec<u8>> {
    let disk = open_disk(store, point, "disk0");
    read_vec(&disk, 0, usize::try_from(disk.size()).unwrap())
}

fn assert_all_read_back(store: &Arc<Store>, points: &[Point], what: &str) {
    for (number, point) in points.iter().enumerate() {
        let bytes = read(store, point);
        let bytes = bytes.unwrap_or_else(|e| panic!("{what}: point {number}: {e}"));
        assert!(bytes == content(number as u64), "{what}: point {number}");
    }
}

/// The files of packs, and the packs that the index names and answers.
fn pack_files(path: &Path) -> (BTreeSet<String>, BTreeSet<String>) {
    let files = files_in(path, "packs").into_iter().collect();
    let rows = open(path).live_packs();
    (files, rows.iter().map(|row| layout::pack(row.id)).collect())
}

fn assert_no_orphans(path: &Path, what: &str) {
    let (files, live) = pack_files(path);
    assert_eq!(files, live, "{what}");
    let state = open(path).state();
    // What the older slot lists stays for one more publication.
    let listed: BTreeSet<_> = state
        .segments
        .iter()
        .map(|r| r.segment().to_string())
        .collect();
    let segments = files_in(path, "index");
    for segment in &listed {
        assert!(segments.contains(&format!("index/{segment}")), "{what}");
    }
    assert_eq!(files_in(path, "sessions"), [] as [&str; 0], "{what}");
}

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
    assert!(state.replaced.len() < 120, "{}", state.replaced.len());
    let stats = cairn_store::stats(&kit.reopen()).unwrap();
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
    // One that could not be deleted would be listed again if a slot were lost.
    let old = kit.path().join(&segments[0].0);
    std::fs::write(&old, &segments[0].1).unwrap();
    tidy_at(kit.path());
    assert_eq!(open(kit.path()).state().replaced.len(), 32);
    std::fs::remove_file(&old).unwrap();
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
        assert!(open(without.path()).missing_packs().unwrap().is_empty());
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
            assert!(open(kit.path()).missing_packs().unwrap().is_empty());
        }
    }
}

#[test]
fn a_damaged_small_pack_is_left_alone() {
    for damage in ["flip", "cut", "swap"] {
        let kit = Kit::new();
        let points = small_backups(&kit, 20);
        let store = open(kit.path());
        // The pack with the data of the fourth backup.
        let rows = store.live_packs();
        let victim = kit.path().join(layout::pack(rows[6].id));
        let mut bytes = std::fs::read(&victim).unwrap();
        match damage {
            "flip" => bytes[5000] ^= 1,
            "cut" => bytes.truncate(9000),
            _ => bytes = std::fs::read(kit.path().join(layout::pack(rows[8].id))).unwrap(),
        }
        std::fs::write(&victim, &bytes).unwrap();
        let warnings = tidy(Arc::new(LocalFolder::new(kit.path()))).unwrap();
        assert!(!warnings.is_empty(), "{damage}");
        // The others are seen to be shorter or longer before they are opened.
        let name = rows[6].id.to_string();
        let named = warnings.iter().any(|warning| warning.contains(&name));
        assert_eq!(named, damage == "flip", "{damage}: {warnings:?}");
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
            clock: crate::kit::TestClock::at(1_900_000_000),
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
    let before = crate::kit::files(kit.path());
    let store = open(kit.path());
    let session = Session::begin(store.folder().clone(), SessionKind::Write, &[]).unwrap();
    assert_eq!(tidy_up(&store, &session, &Stop), [""; 0]);
    drop(session);
    assert_eq!(crate::kit::files(kit.path()), before);
    assert_all_read_back(&store, &points, "stopped");
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
