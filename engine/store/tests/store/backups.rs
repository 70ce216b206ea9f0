//! What goes in comes out, and what is the same is stored once.

use crate::kit::{Kit, R, TestClock, TestDisk, files_in, input, mixed, noise, open_disk};
use cairn_base::read_at::read_vec;
use cairn_base::{Error, Kind, Monitor, ReadAt, Silent, Stage, Time};
use cairn_store::{BackupOptions, CutParameters, PointName, backup, catalog, verify};
use std::sync::atomic::{AtomicU64, Ordering};

#[test]
fn disks_of_any_size_come_back() {
    for (seed, size) in [0, 1, 511, 4096, 4097, R - 1, R, R + 1, 3 * R + 12_345]
        .into_iter()
        .enumerate()
    {
        for cut in [
            CutParameters::default(),
            CutParameters::Fixed { size: 65536 },
        ] {
            let kit = Kit::with(cut);
            let bytes = mixed(size, seed as u64);
            let point = kit.backup("m", TestDisk::new(bytes.clone()));
            assert_eq!(kit.read(&point).unwrap(), bytes, "{size} {cut:?}");
            assert!(verify(&kit.reopen(), false, &Silent).unwrap().is_clean());
        }
    }
}

#[test]
fn the_map_is_canonical_whatever_is_allocated() {
    let mut bytes = noise(3 * R, 1);
    bytes[100_000..600_000].fill(0);
    bytes[R..2 * R].fill(0);
    let kit = Kit::new();
    let whole = kit.backup("a", TestDisk::new(bytes.clone()));
    let mut sparse = TestDisk::new(bytes.clone());
    let (r, end) = (R as u64, 3 * R as u64);
    sparse.extents = Some(vec![0..100_001, 599_999..r, 2 * r..end]);
    let sparse = kit.backup("b", sparse);
    assert_eq!(whole.record.disks[0].root, sparse.record.disks[0].root);
    assert_eq!(sparse.record.stats.new, 0);
    let disk = open_disk(&kit.store, &sparse, "disk0");
    let extents = disk.data_extents(0..end).unwrap();
    assert_eq!(extents, [0..102_400, 598_016..r, 2 * r..end]);
}

#[test]
fn an_unchanged_disk_costs_hashing_only() {
    let kit = Kit::new();
    let bytes = mixed(8 * R + 77, 3);
    let first = kit.backup("m", TestDisk::new(bytes.clone()));
    let packs = files_in(kit.path(), "packs");
    let second = kit.backup("m", TestDisk::new(bytes.clone()));
    assert_eq!(second.record.stats.new, 0);
    assert_eq!(second.record.stats.stored, 0);
    assert_eq!(files_in(kit.path(), "packs"), packs);
    assert_eq!(first.record.disks[0].root, second.record.disks[0].root);
    assert_eq!(second.record.base, Some(first.id.0));
    assert_eq!(second.record.sequence, 2);
}

#[test]
fn a_small_change_stores_little() {
    let kit = Kit::new();
    let mut bytes = noise(8 * R, 4);
    kit.backup("m", TestDisk::new(bytes.clone()));
    bytes[5 * R + 1000] ^= 1;
    let second = kit.backup("m", TestDisk::new(bytes.clone()));
    assert!(
        second.record.stats.new <= 3 * 128 * 1024,
        "{:?}",
        second.record.stats
    );
    assert_eq!(kit.read(&second).unwrap(), bytes);
    // Another machine with the same disk has nothing to compare with, and still stores nothing.
    let other = kit.backup("n", TestDisk::new(bytes.clone()));
    assert_eq!(other.record.stats.new, 0);
}

#[test]
fn disks_may_grow_shrink_and_have_names() {
    let kit = Kit::new();
    let bytes = mixed(5 * R, 5);
    kit.backup("m", TestDisk::new(bytes.clone()));
    let mut grown = bytes.clone();
    grown.extend(noise(2 * R + 9, 6));
    let point = kit.backup("m", TestDisk::new(grown.clone()));
    assert_eq!(kit.read(&point).unwrap(), grown);
    let shrunk = &grown[..R + 5];
    let point = kit.backup("m", TestDisk::new(shrunk.to_vec()));
    assert_eq!(kit.read(&point).unwrap(), shrunk);
    let two = [
        input("C", TestDisk::new(bytes.clone())),
        input("data", TestDisk::new(noise(R, 7))),
    ];
    let options = BackupOptions::new("m");
    let point = backup(&kit.store, &two, &options, &Silent, &kit.clock)
        .unwrap()
        .point;
    let names: Vec<_> = point.record.disks.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, ["C", "data"]);
    let disk = open_disk(&kit.store, &point, "data");
    assert_eq!(read_vec(&disk, 0, R).unwrap(), noise(R, 7));
    for bad in [vec!["a", "A"], vec!["latest"], vec![]] {
        let disks: Vec<_> = bad
            .iter()
            .map(|n| input(n, TestDisk::new(vec![1])))
            .collect();
        let error = backup(&kit.store, &disks, &options, &Silent, &kit.clock).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{bad:?}");
    }
}

#[test]
fn reads_at_any_offset_agree() {
    let kit = Kit::new();
    let bytes = mixed(2 * R + 100, 8);
    let point = kit.backup("m", TestDisk::new(bytes.clone()));
    let disk = open_disk(&kit.store, &point, "disk0");
    let mut at = 7usize;
    for step in 0..400 {
        let length = [1, 4096, 131_072, 700_001][step % 4].min(bytes.len() - at);
        assert_eq!(
            read_vec(&disk, at as u64, length).unwrap(),
            bytes[at..at + length]
        );
        at = (at * 31 + 17 * step) % (bytes.len() - 1);
    }
    // Sequential, as a copy does it.
    let mut at = 0;
    while at < bytes.len() {
        let length = 131_072.min(bytes.len() - at);
        assert_eq!(
            read_vec(&disk, at as u64, length).unwrap(),
            bytes[at..at + length]
        );
        at += length;
    }
    assert_eq!(
        read_vec(&disk, 0, bytes.len() + 1).unwrap_err().kind(),
        Kind::Invalid
    );
}

#[test]
fn a_failing_source_leaves_nothing() {
    let kit = Kit::new();
    kit.backup("m", TestDisk::new(noise(R, 9)));
    let before = files_in(kit.path(), "packs");
    let mut disk = TestDisk::new(noise(6 * R, 10));
    disk.fail_at = Some(5 * R as u64);
    let error = kit.try_backup("m", disk, &Silent).unwrap_err();
    assert_eq!(error.kind(), Kind::Io);
    assert!(error.to_string().contains("disk0"), "{error}");
    assert_eq!(files_in(kit.path(), "packs"), before);
    assert_eq!(files_in(kit.path(), "sessions"), [] as [&str; 0]);
    assert_eq!(
        catalog::machine_points(&kit.store, "m")
            .unwrap()
            .points
            .len(),
        1
    );
}

struct StopAfter(AtomicU64);

impl Monitor for StopAfter {
    fn advance(&self, _stage: Stage, amount: u64) {
        let left = self.0.load(Ordering::Relaxed);
        self.0.store(left.saturating_sub(amount), Ordering::Relaxed);
    }
    fn stop_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

#[test]
fn a_stopped_backup_leaves_nothing() {
    let kit = Kit::new();
    let stop = StopAfter(AtomicU64::new(3 * R as u64));
    let error = kit
        .try_backup("m", TestDisk::new(noise(9 * R, 11)), &stop)
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Interrupted);
    assert_eq!(
        files_in(kit.path(), "packs").len() + files_in(kit.path(), "sessions").len(),
        0
    );
    kit.backup("m", TestDisk::new(noise(2 * R, 11)));
}

#[test]
fn points_are_found_by_all_their_names() {
    let kit = Kit::new();
    let first = kit.backup("Web 01", TestDisk::new(noise(R, 12)));
    let second = kit.backup("web 01", TestDisk::new(noise(R, 13)));
    let find = |name: &str| catalog::find(&kit.store, &PointName::parse(name).unwrap());
    assert_eq!(find("WEB 01@latest").unwrap().id, second.id);
    assert_eq!(
        find(&format!("web 01@{}", first.time().folder_name()))
            .unwrap()
            .id,
        first.id
    );
    assert_eq!(find(&first.id.to_string()[..10]).unwrap().id, first.id);
    assert_eq!(find("nobody@latest").unwrap_err().kind(), Kind::NotFound);
    assert_eq!(
        find("web 01@2001-01-01T00-00-00Z").unwrap_err().kind(),
        Kind::NotFound
    );
    // The first spelling stays.
    assert_eq!(catalog::machines(&kit.store).unwrap().0, ["Web 01"]);
}

#[test]
fn imports_are_never_latest_and_taken_times_are_refused() {
    let kit = Kit::new();
    let now = kit.backup("m", TestDisk::new(noise(R, 14)));
    let at = |time: Time| {
        let options = BackupOptions {
            time: Some(time),
            ..BackupOptions::new("m")
        };
        let disks = [input("disk0", TestDisk::new(noise(R, 15)))];
        backup(&kit.store, &disks, &options, &Silent, &kit.clock).map(|r| r.point)
    };
    let old = at(Time::from_seconds(1_000_000_000)).unwrap();
    assert!(old.record.import);
    assert_eq!(catalog::latest(&kit.store, "m").unwrap().id, now.id);
    assert_eq!(at(now.time()).unwrap_err().kind(), Kind::Exists);
}

#[test]
fn a_clock_that_went_back_is_a_warning() {
    let kit = Kit::new();
    kit.backup("m", TestDisk::new(noise(R, 16)));
    let disks = [input("disk0", TestDisk::new(noise(R, 17)))];
    let clock = TestClock::at(1_000);
    let options = BackupOptions::new("m");
    let point = backup(&kit.store, &disks, &options, &Silent, &clock)
        .unwrap()
        .point;
    assert!(point.record.warnings.iter().any(|w| w.contains("clock")));
    assert!(!point.record.import);
    assert_eq!(catalog::latest(&kit.store, "m").unwrap().id, point.id);
}

#[test]
fn many_backups_at_once_and_many_segments() {
    let kit = Kit::new();
    std::thread::scope(|scope| {
        for machine in 0..4u64 {
            let kit = &kit;
            scope.spawn(move || {
                for day in 0..6 {
                    // Half is the same for everybody, half is the machine's own.
                    let mut bytes = noise(R, 100 + day);
                    bytes.extend(noise(R, 1000 * machine + day));
                    let point = kit.backup(&format!("m{machine}"), TestDisk::new(bytes.clone()));
                    assert_eq!(kit.read(&point).unwrap(), bytes);
                }
            });
        }
    });
    // Whoever found another one merging went on without. The next backup merges what that left, and with the one after it
    // neither slot of the state lists what was merged.
    for seed in [9998, 9999] {
        kit.backup("m0", TestDisk::new(noise(R, seed)));
    }
    let store = kit.reopen();
    assert!(
        store.index().segments().len() <= 6,
        "{}",
        store.index().segments().len()
    );
    assert!(files_in(kit.path(), "index").len() <= 2 * store.index().segments().len() + 3);
    let report = verify(&store, false, &Silent).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.points, 26);
    assert_eq!(files_in(kit.path(), "sessions"), [] as [&str; 0]);
}

#[test]
fn one_backup_of_a_machine_at_a_time() {
    let kit = Kit::new();
    let _held = catalog::lock_machine(&kit.store, "m").unwrap();
    let busy: Error = kit
        .try_backup("M", TestDisk::new(vec![1]), &Silent)
        .unwrap_err();
    assert_eq!(busy.kind(), Kind::Busy);
    kit.backup("other", TestDisk::new(vec![1]));
}

#[test]
fn a_changed_image_is_named() {
    let kit = Kit::new();
    let mut disk = input("disk0", TestDisk::new(noise(R, 18)));
    disk.changed = Some(Box::new(|| Ok(Some("it grew".to_string()))));
    let options = BackupOptions::new("m");
    let point = backup(&kit.store, &[disk], &options, &Silent, &kit.clock)
        .unwrap()
        .point;
    assert!(point.record.warnings[0].contains("it grew"));
}
