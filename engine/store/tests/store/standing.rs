//! What is read while everybody waits for the publish lock: names, and no points that were there before.

use crate::flaky::{FlakyFolder, Why};
use crate::kit::{Kit, TestDisk, noise};
use crate::pruning::{exact, forget};
use cairn_base::{Folder, Kind, LocalFolder, Silent};
use cairn_store::{Session, SessionKind, Store, layout, prune};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// How many points were opened, and how many of them under the publish lock.
#[derive(Default)]
struct Opened {
    all: AtomicUsize,
    locked: AtomicUsize,
}

type Hook = Mutex<Option<Box<dyn FnOnce() + Send>>>;

/// The store, watched; `first` runs when the first point is opened.
fn watched(path: &Path, first: Hook) -> (Arc<Store>, Arc<Opened>) {
    let opened = Arc::new(Opened::default());
    let (counts, local) = (opened.clone(), LocalFolder::new(path));
    let folder = FlakyFolder::new(path, Why::Sector, move |path, range| {
        let name = path.rsplit('/').next().unwrap();
        if range.is_empty() && layout::PointFile::parse(name).is_some() {
            counts.all.fetch_add(1, Ordering::SeqCst);
            let locked = local.is_locked("locks/publish").unwrap();
            counts
                .locked
                .fetch_add(usize::from(locked), Ordering::SeqCst);
            if let Some(first) = first.lock().unwrap().take() {
                first();
            }
        }
        false
    });
    (Arc::new(Store::open(Arc::new(folder)).unwrap()), opened)
}

#[test]
fn a_prune_reads_points_before_it_lets_others_wait() {
    let kit = Kit::new();
    let points: Vec<_> = (0..6)
        .map(|number| kit.backup("m", TestDisk::new(noise(20_000, number))))
        .collect();
    forget(&kit, &[&points[1]]);
    let (store, opened) = watched(kit.path(), Mutex::new(None));
    let report = prune(&store, &exact(), &Silent).unwrap();
    assert!(report.deleted_packs > 0);
    assert_eq!(report.points, 5);
    assert_eq!(opened.locked.load(Ordering::SeqCst), 0);
    // Each once, however often they are listed; the latest once more for the order in which is copied.
    assert!(opened.all.load(Ordering::SeqCst) <= 6);
}

#[test]
fn a_point_that_comes_between_is_seen() {
    let kit = Kit::new();
    let points: Vec<_> = (0..3)
        .map(|number| kit.backup("m", TestDisk::new(noise(20_000, number))))
        .collect();
    forget(&kit, &[&points[0]]);
    let path: PathBuf = kit.path().to_path_buf();
    let first = Box::new(move || {
        let store = crate::tidying::open(&path);
        let disks = [crate::kit::input("disk0", TestDisk::new(noise(20_000, 9)))];
        let options = cairn_store::BackupOptions::new("new");
        let clock = crate::kit::TestClock::at(1_850_000_000);
        cairn_store::backup(&store, &disks, &options, &Silent, &clock).unwrap();
    });
    let (store, opened) = watched(kit.path(), Mutex::new(Some(first)));
    let report = prune(&store, &exact(), &Silent).unwrap();
    assert_eq!(report.points, 3);
    assert_eq!(opened.locked.load(Ordering::SeqCst), 1);
    let all = cairn_store::catalog::all_points(&kit.reopen()).unwrap();
    for point in &all.points {
        kit.read(point).unwrap();
    }
}

#[test]
fn nobody_begins_to_stand_on_one_of_many_points_that_is_gone() {
    let kit = Kit::new();
    let points: Vec<_> = (0..20)
        .map(|number| kit.backup("m", TestDisk::new(noise(5_000, number))))
        .collect();
    let all: Vec<_> = points.iter().collect();
    let begin = |points: &[&cairn_store::Point]| {
        Session::begin(kit.store.folder().clone(), SessionKind::Read, points)
    };
    assert!(begin(&all).unwrap().is_registered());
    forget(&kit, &[&points[7]]);
    let error = begin(&all).err().unwrap();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(
        error.to_string().contains(&points[7].id.to_string()),
        "{error}"
    );
    let rest: Vec<_> = all
        .into_iter()
        .filter(|point| point.id != points[7].id)
        .collect();
    assert!(begin(&rest).unwrap().is_registered());
}
