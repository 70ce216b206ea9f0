//! Backups of disks whose images tell what changed: what is believed of it, and what is read all the same.
#![allow(clippy::single_range_in_vec_init)]

use crate::kit::{Kit, R, TestDisk, caller, files_in, input, noise};
use cairn_base::{ReadAt, Result, Silent};
use cairn_store::codec;
use cairn_store::{
    BackupOptions, Change, ChangeSource, Changes, DiskInput, ImageState, Images, Point, Store,
    ToldBy, backup, layout,
};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

fn image(number: u8) -> Option<ImageState> {
    Some(ImageState {
        data_id: [number; 16],
        write_id: [number; 16],
        file_size: 100,
        modified_ns: 1,
        changed_ns: 2,
    })
}

/// Images of a disk of `size` bytes, each of the first ones with what it holds.
fn images(size: usize, states: &[u8], held: &[Range<usize>]) -> ChangeSource {
    let held = held.to_vec();
    ChangeSource::Images(Images {
        states: states.iter().map(|number| image(*number)).collect(),
        held: Box::new(move |count, _| {
            let ranges = held.iter().take(count).map(|range| Change {
                range: range.start as u64..range.end as u64,
                zero: false,
            });
            Changes::new(size as u64, ranges)
        }),
    })
}

/// A disk that nobody takes for one in memory, of which regions are looked at before they are read: so what is read is counted once, however busy the machine is.
struct Slow(Arc<TestDisk>);

impl ReadAt for Slow {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        std::thread::sleep(Duration::from_millis(2));
        self.0.read_exact_at(offset, buffer)
    }

    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        self.0.data_extents(range)
    }
}

struct Told {
    kit: Kit,
    options: BackupOptions,
}

impl Told {
    fn new() -> Told {
        Told {
            kit: Kit::new(),
            options: BackupOptions::new("m"),
        }
    }

    fn backup(&self, bytes: &[u8], changes: ChangeSource) -> Point {
        self.of(&self.kit.store, bytes, changes, false)
    }

    fn of(&self, store: &Arc<Store>, bytes: &[u8], changes: ChangeSource, mixed: bool) -> Point {
        let disk = Arc::new(TestDisk::new(bytes.to_vec()));
        let changed = move || -> Result<Option<String>> { Ok(mixed.then(|| "it did".into())) };
        let disks = [DiskInput {
            source: Arc::new(Slow(disk.clone())),
            changes: Some(changes),
            changed: Some(Box::new(changed)),
            ..input("disk0", TestDisk::new(vec![]))
        }];
        let report = backup(store, &disks, &self.options, &Silent, &self.kit.clock);
        let point = report.unwrap().point;
        assert_eq!(
            point.record.stats.read,
            disk.read.load(Ordering::Relaxed),
            "what is told is what the disk counted"
        );
        assert!(self.kit.read(&point).unwrap() == bytes);
        point
    }
}

fn told_by(point: &Point) -> ToldBy {
    point.origin("disk0").unwrap().told_by
}

fn flipped(bytes: &[u8], range: Range<usize>) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[range].iter_mut().for_each(|byte| *byte ^= 1);
    bytes
}

#[test]
fn what_children_hold_is_read_and_little_else() {
    let told = Told::new();
    let size = 20 * R;
    let first = noise(size, 40);
    let base = told.backup(&first, images(size, &[1], &[]));
    assert_eq!(told_by(&base), ToldBy::Nobody);
    assert_eq!(base.record.stats.read, size as u64);
    let second = flipped(&first, R + 5..R + 700);
    let child = told.backup(&second, images(size, &[2, 1], &[R..R + 4096]));
    assert_eq!(told_by(&child), ToldBy::Images);
    // One region to check, and the chunks around the change.
    assert!(child.record.stats.read < R as u64 + (600 << 10));
    let origin = child.origin("disk0").unwrap();
    assert_eq!(origin.unchanged, (size - 4096) as u64);
    assert_eq!(child.record.stats.unchanged, origin.unchanged);
    assert_eq!(origin.images, [image(2).unwrap(), image(1).unwrap()]);
    // Two at once.
    let third = flipped(&flipped(&second, 7 * R..7 * R + 9), 3 * R..3 * R + 1);
    let held = [7 * R..7 * R + 512, 3 * R..3 * R + 512];
    let grandchild = told.backup(&third, images(size, &[4, 3, 2, 1], &held));
    assert_eq!(told_by(&grandchild), ToldBy::Images);
    assert!(grandchild.record.stats.read < R as u64 + (1200 << 10));
    let none = [&child, &grandchild].map(|point| point.record.warnings.len());
    assert_eq!(none, [0, 0]);
    // The same again: its youngest image may have been written to.
    let again = told.backup(&third, images(size, &[4, 3, 2, 1], &held));
    assert_eq!(told_by(&again), ToldBy::Nobody);
    assert_eq!(again.record.stats.read, size as u64);
}

#[test]
fn whoever_asks_for_everything_gets_it() {
    let mut told = Told::new();
    let bytes = noise(3 * R, 41);
    told.backup(&bytes, images(3 * R, &[1], &[]));
    told.options.read_all = true;
    let point = told.backup(&bytes, images(3 * R, &[2, 1], &[0..512]));
    assert_eq!(told_by(&point), ToldBy::Nobody);
    assert_eq!(point.record.stats.read, 3 * R as u64);
    assert_eq!(point.record.stats.unchanged, 0);
    // What it was made from is kept all the same.
    told.options.read_all = false;
    let next = told.backup(&bytes, images(3 * R, &[3, 2, 1], &[0..512]));
    assert_eq!(told_by(&next), ToldBy::Images);
}

#[test]
fn a_base_that_is_named_is_what_changes_are_relative_to() {
    let mut told = Told::new();
    let first = noise(2 * R, 42);
    let base = told.backup(&first, images(2 * R, &[1], &[]));
    // Another branch, which is given up.
    let other = flipped(&first, R..R + 5000);
    told.backup(&other, images(2 * R, &[2, 1], &[R..R + 5000]));
    let now = flipped(&first, 9..10);
    let full = told.backup(&now, images(2 * R, &[3, 1], &[0..512]));
    assert_eq!(told_by(&full), ToldBy::Nobody);
    told.options.base = Some(base.id);
    let point = told.backup(&now, images(2 * R, &[3, 1], &[0..512]));
    assert_eq!(told_by(&point), ToldBy::Images);
    assert_eq!(point.record.base, Some(base.id.0));
}

#[test]
fn what_is_claimed_and_is_not_so_is_found_and_everything_read() {
    let told = Told::new();
    let first = noise(R, 43);
    told.backup(&first, images(R, &[1], &[]));
    let now = flipped(&first, 70_000..70_001);
    let point = told.backup(&now, images(R, &[2, 1], &[0..512]));
    assert_eq!(told_by(&point), ToldBy::Nobody);
    let warnings = &point.record.warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("where it was said to be unchanged"));
    assert!(warnings[0].contains("everything was read"));
}

#[test]
fn points_that_say_too_little_are_no_base() {
    let size = 2 * R;
    let bytes = noise(size, 44);
    let child = || images(size, &[2, 1], &[0..512]);
    let is_read = |told: &Told, why: &str| {
        let point = told.backup(&bytes, child());
        assert_eq!(told_by(&point), ToldBy::Nobody, "{why}");
        assert_eq!(point.record.stats.read, size as u64, "{why}");
        assert_eq!(point.record.warnings, [] as [&str; 0], "{why}");
        assert_eq!(
            told_by(&told.backup(&bytes, images(size, &[3, 2, 1], &[]))),
            ToldBy::Images
        );
    };

    // It changed while it was read.
    let told = Told::new();
    let base = told.of(&told.kit.store, &bytes, images(size, &[1], &[]), true);
    assert!(base.record.disks[0].mixed);
    is_read(&told, "mixed");

    // Another size.
    let told = Told::new();
    told.backup(&bytes[..size - 512], images(size - 512, &[1], &[]));
    is_read(&told, "size");

    // A caller told what changed: he may have been wrong.
    let mut told = Told::new();
    let base = told.backup(&bytes, images(size, &[1], &[]));
    told.options.base = Some(base.id);
    told.backup(&bytes, caller(Changes::new(size as u64, []).unwrap()));
    told.options.base = None;
    is_read(&told, "caller");

    // One of its images could change unseen.
    let told = Told::new();
    let mut unknown = images(size, &[1, 0], &[]);
    if let ChangeSource::Images(images) = &mut unknown {
        images.states[1] = None;
    }
    let base = told.backup(&bytes, unknown);
    assert_eq!(base.origin("disk0").unwrap().images, []);
    is_read(&told, "unknown");

    // Nothing is known of a disk of another name.
    let told = Told::new();
    told.kit.backup("m", TestDisk::new(bytes.clone()));
    is_read(&told, "nothing said");
}

#[test]
fn a_point_of_version_4_is_read_and_no_base() {
    let told = Told::new();
    let bytes = noise(2 * R, 45);
    let made = told.backup(&bytes, images(2 * R, &[1], &[]));
    let folder = told.kit.path().join(layout::machine_folder("m"));
    std::fs::remove_file(folder.join(made.file().name())).unwrap();
    // Version 5 ends with the list of origins.
    let mut record = made.record.clone();
    record.origins.clear();
    let new = codec::seal(&record).unwrap();
    let payload = &new[24..new.len() - 16 - 8];
    let mut old = [&new[..8], &4u32.to_le_bytes(), &[0; 4]].concat();
    old.extend((payload.len() as u64).to_le_bytes());
    old.extend(payload);
    old.extend(cairn_store::hash::checksum(&old));
    let point = Point {
        id: told.kit.store.keys().point_id(&old),
        record,
    };
    std::fs::write(folder.join(point.file().name()), old).unwrap();

    assert!(told.kit.read(&point).unwrap() == bytes);
    let now = flipped(&bytes, R..R + 1);
    let next = told.backup(&now, images(2 * R, &[2, 1], &[R..R + 512]));
    assert_eq!(next.record.base, Some(point.id.0));
    assert_eq!(told_by(&next), ToldBy::Nobody);
    assert_eq!(next.record.stats.read, 2 * R as u64);
    assert_eq!(next.record.warnings, [] as [&str; 0]);
}

#[test]
fn a_store_of_which_parts_are_missing_is_not_relied_on() {
    let told = Told::new();
    let first = noise(2 * R, 46);
    told.backup(&first, images(2 * R, &[1], &[]));
    for segment in files_in(told.kit.path(), "index") {
        std::fs::remove_file(told.kit.path().join(segment)).unwrap();
    }
    let now = flipped(&first, R..R + 1);
    let store = told.kit.reopen();
    let point = told.of(&store, &now, images(2 * R, &[2, 1], &[R..R + 512]), false);
    assert_eq!(told_by(&point), ToldBy::Nobody);
    assert!(point.record.stats.read >= 2 * R as u64);
}
