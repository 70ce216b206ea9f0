//! Points that stay open because the kernel knows of something in them. Skipped, saying so, where there is no `/dev/fuse`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests are here"
)]

mod shared;

use cairn::{BackupOptions, DiskImage, Silent, Store, Time};
use cairn_fuse::{Look, MountOptions, Tree, Unmounted, mount_store};
use rustix::fs::Advice;
use shared::asked::{damage, find, record_of};
use shared::days::{HOME, day, four_days};
use shared::{fuse_is_there, noise, run, text, until, writable};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
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

/// Reads from the program, not from what the kernel keeps.
fn read_anew(file: &File) -> Vec<u8> {
    rustix::fs::fadvise(file, 0, None, Advice::DontNeed).unwrap();
    let mut bytes = vec![0; SIZE];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Whether `mountinfo` has the folder.
fn is_mounted(folder: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let wanted = folder.to_str().unwrap();
    table
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(wanted))
}

/// Where something is mounted in a point.
enum Inside {
    AtItsPlace,
    /// A folder above the mount has another name by now.
    Renamed,
    /// By another path to the mount's files.
    Bound,
}

#[test]
fn what_others_mounted_in_a_point_stays() {
    if !fuse_is_there() {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: only root mounts a tmpfs");
        return;
    }
    for how in [Inside::AtItsPlace, Inside::Renamed, Inside::Bound] {
        stays_in_a_point(&how);
    }
}

fn stays_in_a_point(how: &Inside) {
    let (temp, above, bound) = (tempdir().unwrap(), tempdir().unwrap(), tempdir().unwrap());
    let store = days(temp.path(), 40);
    let mut folder = above.path().join("old/mnt");
    fs::create_dir_all(&folder).unwrap();
    let mounted = mount_store(store, &folder, &MountOptions::default()).unwrap();
    if matches!(how, Inside::Renamed) {
        fs::rename(above.path().join("old"), above.path().join("new")).unwrap();
        folder = above.path().join("new/mnt");
    }
    let raw = |name: &str| folder.join(format!("m/{name}/disks/disk0.raw"));
    let (bytes, name) = disk(1);
    assert!(fs::read(raw(&name)).unwrap() == bytes);
    let disks = |root: &Path| root.join(format!("{name}/disks"));
    let inside = match how {
        Inside::Bound => {
            run(
                "mount",
                &["--bind", text(&folder.join("m")), text(bound.path())],
            );
            disks(bound.path())
        }
        _ => disks(&folder.join("m")),
    };
    run("mount", &["-t", "tmpfs", "tmpfs", text(&inside)]);
    for day in 2..=40 {
        let (bytes, name) = disk(day);
        assert!(fs::read(raw(&name)).unwrap() == bytes, "{name}");
    }
    // The others were forgotten, those used last and kept open besides.
    until("fewer sessions", || sessions(temp.path()) < 40);
    let stays = is_mounted(&inside);
    let _ = Command::new("umount").arg(&inside).status();
    if matches!(how, Inside::Bound) {
        run("umount", &[text(bound.path())]);
    }
    assert!(stays, "what was mounted in a point is gone");
    assert_eq!(mounted.unmount().unwrap(), Unmounted::Cleanly);
}

/// A point that cannot be opened takes no other one's room.
#[test]
fn what_cannot_be_opened_closes_nothing() {
    let temp = tempdir().unwrap();
    let store = days(temp.path(), 18);
    let tree = Tree::of_store(store.clone());
    let disks = |day| find(&tree, &format!("m/{}/disks", disk(day).1)).inode;
    for day in 1..=16 {
        tree.readdir(disks(day)).unwrap();
    }
    assert_eq!(sessions(temp.path()), 16);
    let broken = store.find_point(&format!("m@{}", disk(17).1)).unwrap();
    damage(&record_of(temp.path(), &broken.id.to_string()));
    let broken = disks(17);
    for _ in 0..3 {
        assert!(tree.readdir(broken).is_err());
        assert_eq!(sessions(temp.path()), 16);
    }
    // One that can be opened takes the room of the one that was not used for longest.
    for day in [18, 1, 2, 18] {
        tree.readdir(disks(day)).unwrap();
        assert_eq!(sessions(temp.path()), 16);
    }
}

/// **[open-once]** Files are opened without asking, where nothing can be written and case counts: what would fail when a file is opened fails when it is read. A point then stays open
/// while the kernel remembers anything in it, a version of a file that was asked for too; of more than 16 the kernel is asked to forget those that are not in use.
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

/// Removes the record of a machine's latest point, as forgetting it does.
fn forget_latest(folder: &Path, store: &Store) -> PathBuf {
    let point = store.find_point("m@latest").unwrap();
    let record = record_of(folder, &point.id.to_string());
    fs::remove_file(&record).unwrap();
    record
}

/// Of a whole machine, whose own folder is gone too. The kernel drops the names of what is in use, and has to find it again.
#[test]
fn a_forgotten_machine_is_open_as_long_as_a_file_of_it_is() {
    if !fuse_is_there() {
        return;
    }
    let temp = tempdir().unwrap();
    let store = days(temp.path(), 1);
    let folder = tempdir().unwrap();
    let (bytes, name) = disk(1);
    let mounted = mount_store(store.clone(), folder.path(), &MountOptions::default()).unwrap();
    let machine = folder.path().join("m");
    let held = File::open(machine.join(name).join("disks/disk0.raw")).unwrap();
    assert!(read_anew(&held) == bytes);
    let record = forget_latest(temp.path(), &store);
    fs::remove_dir_all(record.parent().unwrap()).unwrap();
    until("the machine is gone", || !machine.exists());
    // Longer than until it is looked for what was forgotten: that finds the file in use, and is not seen by others.
    for _ in 0..120 {
        std::thread::sleep(Duration::from_millis(100));
        assert!(!machine.exists());
    }
    assert!(read_anew(&held) == bytes);
    assert_eq!(sessions(temp.path()), 1);
    drop(held);
    until("no session", || sessions(temp.path()) == 0);
    mounted.unmount().unwrap();
}

/// What is promised of open files holds for versions too, which are files of points.
#[test]
fn a_version_is_open_though_nothing_was_read_of_it() {
    if !fuse_is_there() {
        return;
    }
    let days = four_days();
    let folder = tempdir().unwrap();
    let mounted = mount_store(days.store.clone(), folder.path(), &MountOptions::default()).unwrap();
    let report = folder.path().join(format!("{HOME}/report.odt"));
    let open = |number| File::open(report.join(format!("{}.odt", day(number)))).unwrap();
    let looked_up = open(1);
    assert_eq!(fs::read_dir(&report).unwrap().count(), 3);
    let listed = open(2);
    for number in [1, 2] {
        let point = days.store.find_point(&format!("pc@{}", day(number)));
        let id = point.unwrap().id.to_string();
        fs::remove_file(record_of(days.folder.path(), &id)).unwrap();
    }
    until("the points are gone", || {
        let is_there = |number| folder.path().join("pc").join(day(number)).exists();
        !is_there(1) && !is_there(2)
    });
    for (file, seed) in [(&looked_up, 1), (&listed, 3)] {
        let mut bytes = vec![0; 50_000];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes == noise(50_000, seed));
    }
    mounted.unmount().unwrap();
}

/// What the mount keeps open for whoever comes next is closed when the store has forgotten it, however it is mounted.
#[test]
fn a_forgotten_point_is_closed_though_nobody_was_in_it() {
    if !fuse_is_there() {
        return;
    }
    let (scratch, look) = (tempdir().unwrap(), Look::default());
    let ignoring = MountOptions {
        look: Look {
            ignore_case: true,
            ..look
        },
        ..MountOptions::default()
    };
    let all = [
        MountOptions::default(),
        ignoring,
        writable::options(scratch.path(), false),
    ];
    let mounts = all.map(|options| {
        let (temp, folder) = (tempdir().unwrap(), tempdir().unwrap());
        let store = days(temp.path(), 2);
        let mounted = mount_store(store.clone(), folder.path(), &options).unwrap();
        let machine = folder.path().join("m");
        let (bytes, name) = disk(2);
        let raw = machine.join(name).join("disks/disk0.raw");
        assert!(fs::read(raw).unwrap() == bytes);
        // The newest point is kept open for the next who looks for a name.
        assert!(!machine.join("versions/disk0/p0/nothing").exists());
        assert_eq!(sessions(temp.path()), 1);
        forget_latest(temp.path(), &store);
        (mounted, temp, folder)
    });
    for (mounted, temp, _folder) in mounts {
        until("no session", || sessions(temp.path()) == 0);
        mounted.unmount().unwrap();
    }
}

/// The kernel is asked to forget a point by its name, and does so too where somebody stands in just this folder.
#[test]
fn whoever_stands_in_a_point_still_has_a_path() {
    if !fuse_is_there() {
        return;
    }
    let temp = tempdir().unwrap();
    let store = days(temp.path(), 20);
    let folder = tempdir().unwrap();
    let mounted = mount_store(store, folder.path(), &MountOptions::default()).unwrap();
    let point = |day| folder.path().join("m").join(disk(day).1);
    let read = |day| fs::read(point(day).join("disks/disk0.raw")).unwrap();
    assert!(read(1) == disk(1).0);
    let mut stands = Command::new("sleep")
        .arg("600")
        .current_dir(point(1))
        .spawn()
        .unwrap();
    for day in 2..=20 {
        assert!(read(day) == disk(day).0);
    }
    // The kernel has forgotten the first: nothing of it is in use but a folder that needs no point to be open.
    until("few sessions", || sessions(temp.path()) <= 17);
    std::thread::sleep(Duration::from_millis(500));
    let stood = fs::read_link(format!("/proc/{}/cwd", stands.id()));
    stands.kill().unwrap();
    stands.wait().unwrap();
    assert_eq!(stood.unwrap(), point(1).canonicalize().unwrap());
    mounted.unmount().unwrap();
}
