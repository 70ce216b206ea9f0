//! What nothing needs goes, what anything needs stays.

use crate::kit::{Kit, R, TestClock, TestDisk, files_in, mixed, noise, open_disk};
use cairn_base::read_at::read_vec;
use cairn_base::{Kind, Monitor, PackId, ReadAt, Silent};
use cairn_store::catalog::{self, ForgetOptions, Survey};
use cairn_store::prune::provide_reserve;
use cairn_store::{
    Point, PruneOptions, PruneReport, Session, SessionKind, Store, layout, prune, verify,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub fn file_of(kit: &Kit, point: &Point) -> PathBuf {
    let home = layout::machine_folder(&point.record.machine);
    kit.path().join(home).join(point.file().name())
}

/// Forgets points of one machine, all of them if it comes to that.
pub fn forget(kit: &Kit, points: &[&Point]) {
    forget_at(kit.path(), points);
}

fn forget_at(path: &Path, points: &[&Point]) {
    let store = crate::tidying::open(path);
    let permit = store.writer().unwrap();
    let machine = &points[0].record.machine;
    let survey = Survey::of(&store, &layout::machine_folder(machine)).unwrap();
    let wanted = points.iter().map(|point| point.id).collect();
    let options = ForgetOptions {
        allow_empty: true,
        ..ForgetOptions::default()
    };
    let clock = TestClock::at(1_900_000_000);
    let done = catalog::forget(&store, &permit, &survey, &wanted, &options, &clock).unwrap();
    assert_eq!(done.forgotten.len(), points.len());
}

pub fn exact() -> PruneOptions {
    PruneOptions {
        max_unused: 0,
        ..PruneOptions::default()
    }
}

pub fn pruned(kit: &Kit) -> PruneReport {
    prune(&kit.reopen(), &exact(), &Silent).unwrap()
}

fn bytes_of_packs(kit: &Kit) -> u64 {
    let packs = files_in(kit.path(), "packs");
    let sizes = packs
        .iter()
        .map(|p| kit.path().join(p).metadata().unwrap().len());
    sizes.sum()
}

pub fn disk(seed: u64) -> Vec<u8> {
    mixed(3 * R + 77_777, seed)
}

/// A disk of which a tenth of the blocks of 64 KiB differ.
fn changed(mut disk: Vec<u8>, seed: u64) -> Vec<u8> {
    for (index, block) in disk.chunks_mut(65_536).enumerate() {
        if (index as u64 + seed).is_multiple_of(10) {
            block.copy_from_slice(&noise(block.len(), seed * 1000 + index as u64));
        }
    }
    disk
}

#[test]
fn a_store_without_waste_stays_as_it_is() {
    let kit = Kit::new();
    let bytes = disk(1);
    let point = kit.backup("m", TestDisk::new(bytes.clone()));
    let before = files_in(kit.path(), "packs");
    let report = pruned(&kit);
    assert_eq!(
        (report.points, report.dead_packs, report.rewritten_packs),
        (1, 0, 0)
    );
    assert_eq!(
        (
            report.deleted_packs,
            report.waiting_packs,
            report.unused_bytes
        ),
        (0, 0, 0)
    );
    assert!(report.chunks > 100 && report.nodes >= 5);
    assert_eq!(files_in(kit.path(), "packs"), before);
    assert_eq!(kit.read(&point).unwrap(), bytes);
}

#[test]
fn what_only_forgotten_points_need_goes_and_all_else_restores() {
    let kit = Kit::new();
    let first = disk(1);
    let kept = kit.backup("m", TestDisk::new(first.clone()));
    let mut forgotten = Vec::new();
    for day in 2..6 {
        forgotten.push(kit.backup("m", TestDisk::new(changed(first.clone(), day))));
    }
    let other = kit.backup("other", TestDisk::new(changed(first.clone(), 2)));
    let full = bytes_of_packs(&kit);
    forget(&kit, &forgotten.iter().collect::<Vec<_>>());
    let planned = prune(
        &kit.reopen(),
        &PruneOptions {
            dry_run: true,
            ..exact()
        },
        &Silent,
    )
    .unwrap();
    assert_eq!(bytes_of_packs(&kit), full);
    assert!(planned.dead_packs + planned.rewritten_packs > 0);
    let report = pruned(&kit);
    assert_eq!(report.left, [""; 0]);
    assert_eq!(report.waiting_packs, 0);
    assert!(report.deleted_packs >= planned.dead_packs + planned.rewritten_packs);
    // As much as in a store that never had anything else.
    let fresh = Kit::new();
    fresh.backup("m", TestDisk::new(first.clone()));
    fresh.backup("other", TestDisk::new(changed(first.clone(), 2)));
    let (left, needed) = (bytes_of_packs(&kit), bytes_of_packs(&fresh));
    assert!(left < needed + needed / 50, "{needed} {left} {full}");
    assert_eq!(kit.read(&kept).unwrap(), first);
    assert_eq!(kit.read(&other).unwrap(), changed(first.clone(), 2));
    assert!(verify(&kit.reopen(), false, &Silent).unwrap().is_clean());
    // A second one finds nothing to do.
    let again = pruned(&kit);
    assert_eq!(
        (again.dead_packs, again.rewritten_packs, again.deleted_packs),
        (0, 0, 0)
    );
    assert_eq!(kit.reopen().state().condemned.len(), 0);
    // And a backup finds what is there, and stores what is not.
    let back = kit.backup("m", TestDisk::new(changed(first.clone(), 3)));
    assert!(back.record.stats.new > 0);
    assert_eq!(kit.read(&back).unwrap(), changed(first, 3));
}

#[test]
fn a_store_of_which_all_is_forgotten_becomes_empty() {
    let kit = Kit::new();
    let point = kit.backup("m", TestDisk::new(disk(1)));
    forget(&kit, &[&point]);
    let report = pruned(&kit);
    assert_eq!((report.points, report.live_bytes), (0, 0));
    assert_eq!(files_in(kit.path(), "packs"), [""; 0]);
    // The index has nothing left to lead to.
    assert_eq!(kit.reopen().index().entries(), 0);
    assert!(verify(&kit.reopen(), false, &Silent).unwrap().is_clean());
    let bytes = disk(2);
    let point = kit.backup("m", TestDisk::new(bytes.clone()));
    assert_eq!(kit.read(&point).unwrap(), bytes);
}

#[test]
fn what_a_writer_that_began_before_may_rely_on_waits_for_it() {
    let kit = Kit::new();
    let bytes = disk(1);
    let point = kit.backup("m", TestDisk::new(bytes.clone()));
    let folder = kit.store.folder().clone();
    let writer = Session::begin(folder, SessionKind::Write, &[]).unwrap();
    forget(&kit, &[&point]);
    let before = files_in(kit.path(), "packs");
    let report = pruned(&kit);
    assert_eq!(
        (report.deleted_packs, report.waiting_packs),
        (0, before.len())
    );
    assert_eq!(report.writers.len(), 1);
    assert_eq!(report.writers[0].session, writer.id());
    assert_eq!(files_in(kit.path(), "packs"), before);
    // Still the same.
    assert_eq!(pruned(&kit).waiting_packs, before.len());
    drop(writer);
    let report = pruned(&kit);
    assert_eq!(
        (report.deleted_packs, report.waiting_packs),
        (before.len(), 0)
    );
    assert_eq!(files_in(kit.path(), "packs"), [""; 0]);
}

#[test]
fn who_began_before_a_slot_was_lost_is_waited_for() {
    let kit = Kit::new();
    let point = kit.backup("m", TestDisk::new(disk(1)));
    let begin = || Session::begin(kit.store.folder().clone(), SessionKind::Write, &[]).unwrap();
    let first = begin();
    forget(&kit, &[&point]);
    let waiting = pruned(&kit).waiting_packs;
    assert!(waiting > 0);
    drop(first);
    // It does not rely on what is condemned now; but a state that is lost may have said that it can.
    let began = begin();
    let state = kit.reopen().state();
    let mut rows = state.condemned.iter();
    assert!(rows.all(|row| row.generation <= began.generation()));
    let older = format!("state.{}", (state.generation + 1) % 2);
    std::fs::remove_file(kit.path().join(older)).unwrap();
    let report = pruned(&kit);
    assert_eq!((report.deleted_packs, report.waiting_packs), (0, waiting));
    drop(began);
    assert_eq!(pruned(&kit).deleted_packs, waiting);
}

/// Prunes in the middle of a backup, when all old points are gone.
pub struct PrunesWhileReading<'a> {
    pub kit: &'a Kit,
    pub bytes: Vec<u8>,
    pub forgotten: Point,
}

#[test]
fn a_backup_that_relies_on_what_was_condemned_meanwhile_brings_it_back() {
    let kit = Kit::new();
    let bytes = disk(1);
    // Of another machine, so that the backup finds its chunks in the index and not in its base.
    let point = kit.backup("other", TestDisk::new(bytes.clone()));
    let disk = PrunesWhileReading {
        bytes: bytes.clone(),
        forgotten: point.clone(),
        kit: &kit,
    };
    let report = disk.run();
    assert!(report.waiting_packs > 0, "{report:?}");
    assert_eq!(report.deleted_packs, 0);
    let new = {
        let names = cairn_store::catalog::all_points(&kit.reopen()).unwrap();
        assert_eq!(names.points.len(), 1);
        names.points[0].clone()
    };
    assert_ne!(new.id, point.id);
    // It can be read although what it needs is condemned.
    assert_eq!(kit.read(&new).unwrap(), bytes);
    assert!(verify(&kit.reopen(), false, &Silent).unwrap().is_clean());
    let report = pruned(&kit);
    assert!(report.revived_packs > 0, "{report:?}");
    assert_eq!(kit.reopen().state().condemned.len(), 0);
    assert_eq!(kit.read(&new).unwrap(), bytes);
    assert!(verify(&kit.reopen(), false, &Silent).unwrap().is_clean());
}

impl PrunesWhileReading<'_> {
    pub fn run(self) -> PruneReport {
        struct Disk {
            bytes: Vec<u8>,
            reads: AtomicUsize,
            forgotten: Point,
            path: PathBuf,
            report: Arc<parking_lot::Mutex<Option<PruneReport>>>,
        }
        impl ReadAt for Disk {
            fn size(&self) -> u64 {
                self.bytes.len() as u64
            }
            fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> cairn_base::Result<()> {
                // Late: most was looked up by then.
                if offset >= 3 * R as u64 && self.reads.fetch_add(1, Ordering::SeqCst) == 0 {
                    forget_at(&self.path, &[&self.forgotten]);
                    let folder = cairn_base::LocalFolder::new(&self.path);
                    let store = Arc::new(Store::open(Arc::new(folder)).unwrap());
                    *self.report.lock() = Some(prune(&store, &exact(), &Silent).unwrap());
                }
                self.bytes.read_exact_at(offset, buffer)
            }
        }
        let report = Arc::new(parking_lot::Mutex::new(None));
        let disk = Disk {
            bytes: self.bytes,
            reads: AtomicUsize::new(0),
            forgotten: self.forgotten,
            path: self.kit.path().to_path_buf(),
            report: report.clone(),
        };
        let input = cairn_store::DiskInput {
            source: Arc::new(disk),
            ..crate::kit::input("disk0", TestDisk::new(vec![]))
        };
        let options = cairn_store::BackupOptions {
            threads: 1,
            ..cairn_store::BackupOptions::new("new")
        };
        cairn_store::backup(
            &self.kit.store,
            &[input],
            &options,
            &Silent,
            &self.kit.clock,
        )
        .unwrap();
        report.lock().take().unwrap()
    }
}

#[test]
fn what_an_open_point_needs_stays_although_it_is_forgotten() {
    let kit = Kit::new();
    let bytes = disk(1);
    let point = kit.backup("m", TestDisk::new(bytes.clone()));
    let store = kit.reopen();
    let session = Session::begin(store.folder().clone(), SessionKind::Read, &[&point]).unwrap();
    forget(&kit, &[&point]);
    let report = pruned(&kit);
    assert_eq!((report.dead_packs, report.deleted_packs), (0, 0));
    let open = open_disk(&store, &point, "disk0");
    assert_eq!(read_vec(&open, 0, bytes.len()).unwrap(), bytes);
    drop(session);
    assert!(pruned(&kit).deleted_packs > 0);
    // Nobody can begin to stand on it now.
    let late = Session::begin(store.folder().clone(), SessionKind::Read, &[&point]);
    assert_eq!(late.err().unwrap().kind(), Kind::NotFound);
}

#[test]
fn what_is_published_before_its_point_stays_as_long_as_its_writer_lives() {
    let kit = Kit::new();
    let bytes = noise(9 * R, 5);
    let options = cairn_store::BackupOptions {
        checkpoint: 100,
        threads: 1,
        ..cairn_store::BackupOptions::new("m")
    };
    struct Prunes {
        path: PathBuf,
        found: parking_lot::Mutex<Vec<PruneReport>>,
    }
    impl Monitor for Prunes {
        fn advance(&self, _stage: cairn_base::Stage, _amount: u64) {
            let folder = cairn_base::LocalFolder::new(&self.path);
            let store = Arc::new(Store::open(Arc::new(folder)).unwrap());
            // Merging may be under way just now.
            if let Ok(report) = prune(&store, &exact(), &Silent) {
                self.found.lock().push(report);
            }
        }
    }
    let prunes = Prunes {
        path: kit.path().to_path_buf(),
        found: Default::default(),
    };
    let disks = [crate::kit::input("disk0", TestDisk::new(bytes.clone()))];
    let point = cairn_store::backup(&kit.store, &disks, &options, &prunes, &kit.clock)
        .unwrap()
        .point;
    let found = prunes.found.into_inner();
    assert!(found.iter().any(|report| report.packs > 0));
    assert!(
        found.iter().all(|report| report.dead_packs == 0),
        "{found:?}"
    );
    assert_eq!(point.record.warnings, [""; 0]);
    assert_eq!(kit.read(&point).unwrap(), bytes);
}

#[test]
fn one_of_two_copies_goes_only_if_the_other_one_is_good() {
    for damaged in [false, true] {
        let kit = Kit::new();
        let bytes = noise(R, 3);
        let point = kit.backup("m", TestDisk::new(bytes.clone()));
        // What is on the list of damage is stored anew: then it is there twice, and both are good.
        let packs = kit.reopen().live_packs();
        let data: Vec<PackId> = packs
            .iter()
            .filter(|row| row.kind == cairn_store::pack::PackKind::Data)
            .map(|row| row.id)
            .collect();
        let path = kit.path().join(layout::pack(data[0]));
        let whole = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let second = kit.backup("n", TestDisk::new(bytes.clone()));
        std::fs::write(&path, &whole).unwrap();
        std::fs::remove_file(kit.path().join("damage")).ok();
        let copies = kit.reopen().live_packs();
        let newer: Vec<PackId> = copies
            .iter()
            .filter(|row| row.kind == cairn_store::pack::PackKind::Data && row.id != data[0])
            .map(|row| row.id)
            .collect();
        assert_eq!(newer.len(), 1);
        let newer = kit.path().join(layout::pack(newer[0]));
        if damaged {
            let mut bad = std::fs::read(&newer).unwrap();
            let middle = bad.len() / 2;
            bad[middle] ^= 0x40;
            std::fs::write(&newer, &bad).unwrap();
        }
        // Which one is kept is no matter, as long as it is good. That the one that was to stay is bad the first prune finds, the second one goes by it.
        let first = pruned(&kit);
        assert!(path.exists() || !damaged, "{first:?}");
        let report = pruned(&kit);
        let left = kit.reopen().live_packs();
        let left = left
            .iter()
            .filter(|row| row.kind == cairn_store::pack::PackKind::Data);
        assert_eq!(left.count(), 1, "{report:?}");
        for point in [&point, &second] {
            assert_eq!(kit.read(point).unwrap(), bytes);
        }
    }
}

#[test]
fn an_interrupted_prune_is_gone_on_with() {
    struct Stops(AtomicUsize, usize);
    impl Monitor for Stops {
        fn stop_requested(&self) -> bool {
            self.0.fetch_add(1, Ordering::Relaxed) >= self.1
        }
    }
    let kit = Kit::new();
    let first = disk(1);
    let kept = kit.backup("m", TestDisk::new(first.clone()));
    let days: Vec<Point> = (2..6)
        .map(|day| kit.backup("m", TestDisk::new(changed(first.clone(), day))))
        .collect();
    let last = kit.backup("n", TestDisk::new(changed(first.clone(), 4)));
    forget(&kit, &days.iter().collect::<Vec<_>>());
    let mut stopped = 0;
    for turns in (0..400).step_by(7) {
        match prune(&kit.reopen(), &exact(), &Stops(AtomicUsize::new(0), turns)) {
            Err(error) => {
                assert_eq!(error.kind(), Kind::Interrupted);
                stopped += 1;
            }
            Ok(_) => break,
        }
        assert_eq!(kit.read(&kept).unwrap(), first, "{turns}");
    }
    assert!(stopped > 2);
    pruned(&kit);
    assert_eq!(kit.read(&last).unwrap(), changed(first, 4));
    assert!(verify(&kit.reopen(), false, &Silent).unwrap().is_clean());
    let again = pruned(&kit);
    assert_eq!(
        (again.dead_packs, again.rewritten_packs, again.unused_bytes),
        (0, 0, 0)
    );
    assert_eq!(files_in(kit.path(), "sessions"), [""; 0]);
}

#[test]
fn the_reserve_is_made_once_and_left_alone() {
    let kit = Kit::new();
    let folder = kit.store.folder().clone();
    provide_reserve(&*folder).unwrap();
    let path = kit.path().join("reserve");
    assert_eq!(path.metadata().unwrap().len(), 1 << 20);
    let bytes = std::fs::read(&path).unwrap();
    provide_reserve(&*folder).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    // It is no stranger to a store.
    kit.backup("m", TestDisk::new(disk(1)));
    assert!(verify(&kit.reopen(), true, &Silent).unwrap().is_clean());
}
