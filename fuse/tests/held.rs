//! Points that stay open because the kernel knows of something in them. Skipped, saying so, where there is no `/dev/fuse`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests are here"
)]

mod shared;

use cairn::{BackupOptions, DiskImage, Silent, Store, Time};
use cairn_fuse::{MountOptions, mount_store};
use rustix::fs::Advice;
use shared::asked::record_of;
use shared::{fuse_is_there, noise};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::tempdir;

/// Bytes of each disk.
const SIZE: usize = 300_000;

/// The disk of a day, and its folder's name.
fn disk(day: u64) -> (Vec<u8>, String) {
    let time = Time::from_seconds(86_400 * i64::try_from(day).unwrap());
    (noise(SIZE, day), time.folder_name())
}

/// A store with a point of machine `m` for each day.
fn days(folder: &Path, days: u64) -> Store {
    let store = Store::create(&folder.join("store")).unwrap();
    for day in 1..=days {
        let (bytes, time) = disk(day);
        let disk = DiskImage::from_reader("disk0", Arc::new(bytes));
        let mut options = BackupOptions::new("m");
        options.time = Some(Time::parse(&time).unwrap());
        store.backup(vec![disk], &options, &Silent).unwrap();
    }
    store
}

fn sessions(folder: &Path) -> usize {
    fs::read_dir(folder.join("store/sessions")).unwrap().count()
}

/// Waits for what happens in its own time; a minute at most.
fn until(what: &str, is: impl Fn() -> bool) {
    for _ in 0..600 {
        if is() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("still not so after a minute: {what}");
}

/// Reads from the program, not from what the kernel keeps.
fn read_anew(file: &File) -> Vec<u8> {
    rustix::fs::fadvise(file, 0, None, Advice::DontNeed).unwrap();
    let mut bytes = vec![0; SIZE];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// **[open-once]** Files are opened without asking, where nothing can be written and case counts: what would fail when a file is opened fails when it is read. A point then stays open
/// while the kernel remembers anything in it; of more than 16 the kernel is asked to forget those that are not in use.
#[test]
fn of_many_points_only_some_stay_open() {
    if !fuse_is_there() {
        return;
    }
    let temp = tempdir().unwrap();
    let store = days(temp.path(), 30);
    let folder = tempdir().unwrap();
    let mounted = mount_store(store, folder.path(), &MountOptions::default()).unwrap();
    let raw = |name: &str| folder.path().join(format!("m/{name}/disks/disk0.raw"));
    let (first, name) = disk(1);
    let held = File::open(raw(&name)).unwrap();
    assert!(read_anew(&held) == first);
    for _ in 0..2 {
        for day in 1..=30 {
            let (bytes, name) = disk(day);
            assert!(fs::read(raw(&name)).unwrap() == bytes, "{name}");
        }
    }
    // Those that the program keeps open for the next, those the kernel may know of, and the one that is in use.
    until("few sessions", || sessions(temp.path()) <= 18);
    assert!(read_anew(&held) == first);
    drop(held);
    mounted.unmount().unwrap();
    drop(mounted);
    until("no session", || sessions(temp.path()) == 0);
}

/// What is promised of open files holds where nobody says that they are open.
#[test]
fn a_forgotten_point_is_open_as_long_as_a_file_of_it_is() {
    if !fuse_is_there() {
        return;
    }
    let temp = tempdir().unwrap();
    let store = days(temp.path(), 2);
    let folder = tempdir().unwrap();
    let (bytes, name) = disk(2);
    let point = store.find_point("m@latest").unwrap();
    let mounted = mount_store(store, folder.path(), &MountOptions::default()).unwrap();
    let above = folder.path().join(format!("m/{name}"));
    let held = File::open(above.join("disks/disk0.raw")).unwrap();
    assert!(read_anew(&held) == bytes);
    assert_eq!(sessions(temp.path()), 1);
    fs::remove_file(record_of(temp.path(), &point.id.to_string())).unwrap();
    until("the point is gone", || !above.exists());
    // More points than are kept for the next would be opened meanwhile; the file knows where it reads.
    assert!(read_anew(&held) == bytes);
    assert_eq!(sessions(temp.path()), 1);
    drop(held);
    until("no session", || sessions(temp.path()) == 0);
    mounted.unmount().unwrap();
}
