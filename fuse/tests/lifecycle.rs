//! Real mounts that come and go, and who may look. Skipped, saying so, where there is no `/dev/fuse`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests are here"
)]

mod shared;

use cairn::{DiskView, Store};
use cairn_fuse::device::{self, Manner};
use cairn_fuse::journal::{Journal, Sink};
use cairn_fuse::stale;
use cairn_fuse::{Failure, Look, MountOptions, Tree, Unmounted, mount_image, mount_store};
use parking_lot::Mutex;
use shared::asked::{damage, find, record_of};
use shared::mounted::{as_nobody, image, is_mounted};
use shared::{back_up, fixture, fuse_is_there, run, store};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tempfile::tempdir;

/// **[read-only]** Unless it is mounted writable nothing can be written: the mount is `ro`, `nosuid` and `nodev`, and `access` refuses writing with
/// EROFS.
#[test]
fn nothing_can_be_written() {
    let Some(image) = image() else { return };
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    let folder = image.folder.path().canonicalize().unwrap();
    let line = table
        .lines()
        .find(|line| line.split(' ').nth(1) == folder.to_str())
        .unwrap();
    let fields: Vec<&str> = line.split(' ').collect();
    assert_eq!((fields[0], fields[2]), ("cairn", "fuse.cairn"));
    let options: Vec<&str> = fields[3].split(',').collect();
    for option in ["ro", "nosuid", "nodev"] {
        assert!(options.contains(&option), "{line}");
    }
    let read_only = Some(rustix::io::Errno::ROFS.raw_os_error());
    let tool = image.at("files/disk0/p1/tool");
    let error = File::options().write(true).open(&tool).unwrap_err();
    assert_eq!(error.raw_os_error(), read_only);
    assert_eq!(
        fs::create_dir(image.at("new")).unwrap_err().raw_os_error(),
        read_only
    );
    assert_eq!(
        fs::remove_file(&tool).unwrap_err().raw_os_error(),
        read_only
    );
    let access = |path: &str, how| rustix::fs::access(image.at(path), how);
    assert_eq!(
        access("files/disk0/p1/tool", rustix::fs::Access::WRITE_OK),
        Err(rustix::io::Errno::ROFS)
    );
    assert_eq!(
        access("files/disk0/p1/tool", rustix::fs::Access::EXEC_OK),
        Ok(())
    );
    assert_eq!(
        access("files/disk0/p1/etc/hostname", rustix::fs::Access::EXEC_OK),
        Err(rustix::io::Errno::ACCESS)
    );
    assert_eq!(
        access("files/disk0/p1/etc/private", rustix::fs::Access::READ_OK),
        Ok(())
    );
}

/// **[owner]** Without `allow_other` only the user who mounted can look, and the modes of the guest's files do not hold
/// him back: he could read the disk as well. They are shown, not enforced.
#[test]
fn only_the_one_who_mounted_can_look() {
    let Some(image) = image() else { return };
    let private = image.at("files/disk0/p1/etc/private");
    assert_eq!(fs::metadata(&private).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::read(&private).unwrap(), b"for root\n");
    if let Some(output) = as_nobody(&format!("ls {}", image.folder.path().display())) {
        assert!(!output.status.success());
        nobody_mounts();
    }
}

/// A user without rights mounts by the helper, reads what is not his on the guest, and unmounts.
fn nobody_mounts() {
    let temp = tempdir().unwrap();
    let open = |path: &Path| {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap()
    };
    open(temp.path());
    let (disk, folder) = (temp.path().join("disk.raw"), temp.path().join("mnt"));
    fs::copy(&fixture().disk, &disk).unwrap();
    fs::create_dir(&folder).unwrap();
    open(&disk);
    open(&folder);
    std::os::unix::fs::chown(&folder, Some(65534), Some(65534)).unwrap();
    let this = temp.path().join("tests");
    fs::copy(std::env::current_exe().unwrap(), &this).unwrap();
    // A namespace of mounts whose FUSE is open to all, as distributions have it.
    let node = temp.path().join("fuse");
    let script = format!(
        "mknod -m 666 {node} c 10 229 && mount --bind {node} /dev/fuse || exit 77
        export CAIRN_TEST_DISK={} CAIRN_TEST_FOLDER={}
        exec setpriv --reuid=65534 --regid=65534 --clear-groups {} --ignored --exact --nocapture as_a_user_without_rights",
        disk.display(),
        folder.display(),
        this.display(),
        node = node.display(),
    );
    let output = std::process::Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .output()
        .unwrap();
    if output.status.code() == Some(77) {
        println!("SKIPPED: no device can be made for a user without rights");
        return;
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{errors}"
    );
    assert!(!is_mounted(&folder));
}

#[test]
#[ignore = "run by the test of the owner, as another user"]
fn as_a_user_without_rights() {
    let (Some(disk), Some(folder)) = (
        std::env::var_os("CAIRN_TEST_DISK"),
        std::env::var_os("CAIRN_TEST_FOLDER"),
    ) else {
        println!("SKIPPED: not run by the other test");
        return;
    };
    let (disk, folder) = (Path::new(&disk), Path::new(&folder));
    assert!(!rustix::process::geteuid().is_root());
    let open = || DiskView::open_image(disk).unwrap();
    let options = MountOptions {
        allow_other: true,
        ..MountOptions::default()
    };
    if let Err(error) = mount_image(open(), folder, &options) {
        assert!(error.to_string().contains("user_allow_other"), "{error}");
    }
    let mounted = mount_image(open(), folder, &MountOptions::default()).unwrap();
    assert!(is_mounted(folder));
    assert_eq!(
        fs::read(folder.join("files/disk0/p1/etc/private")).unwrap(),
        b"for root\n"
    );
    assert_eq!(mounted.unmount().unwrap(), Unmounted::Cleanly);
    assert!(!is_mounted(folder));
    // Where a folder above has another name at the end, in use and not.
    for in_use in [false, true] {
        let (old, new) = (folder.join("old"), folder.join("new"));
        fs::create_dir_all(old.join("mnt")).unwrap();
        let mounted = mount_image(open(), &old.join("mnt"), &MountOptions::default()).unwrap();
        fs::rename(&old, &new).unwrap();
        let held = in_use.then(|| File::open(new.join("mnt/disks/disk0.raw")).unwrap());
        let how = mounted.unmount().unwrap();
        assert_eq!(how == Unmounted::StillInUse, in_use);
        assert!(!is_mounted(&new.join("mnt")));
        drop(held);
        mounted.wait().unwrap();
        fs::remove_dir_all(&new).unwrap();
    }
}

/// **[others]** With `allow_other` others can look too, and the kernel enforces the guest's modes and numeric owners,
/// for the one who mounted as well unless he is root. `disks/*.raw` is for the one who mounted only, because it holds
/// everything. Those of NTFS come from its access lists; FAT and exFAT
/// have none: their files can then be read by everybody.
#[test]
fn others_see_what_the_guest_lets_them() {
    if !fuse_is_there() || as_nobody("true").is_none() {
        return;
    }
    let temp = tempdir().unwrap();
    fs::set_permissions(
        temp.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let folder = temp.path().join("mnt");
    fs::create_dir(&folder).unwrap();
    let options = MountOptions {
        allow_other: true,
        ..MountOptions::default()
    };
    let view = DiskView::open_image(&fixture().disk).unwrap();
    let mounted = mount_image(view, &folder, &options).unwrap();
    let can_read = |path: &str| {
        let command = format!("head -c 10 '{}'", folder.join(path).display());
        as_nobody(&command).unwrap().status.success()
    };
    assert!(can_read("files/disk0/p1/etc/hostname"));
    assert!(can_read("files/disk0/p2/Report.TXT"));
    assert!(!can_read("files/disk0/p1/etc/private"));
    assert!(!can_read("disks/disk0.raw"));
    assert_eq!(
        fs::read(folder.join("files/disk0/p1/etc/private")).unwrap(),
        b"for root\n"
    );
    assert_eq!(mounted.unmount().unwrap(), Unmounted::Cleanly);
}

/// **[new-points]** A point that is added while the store is mounted shows up within two seconds, and so does a new
/// `latest`. A point that was forgotten vanishes from the listing in the same time.
#[test]
fn points_come_and_go() {
    if !fuse_is_there() {
        return;
    }
    let temp = tempdir().unwrap();
    let store = store(temp.path());
    let folder = temp.path().join("mnt");
    fs::create_dir(&folder).unwrap();
    let mounted = mount_store(store.clone(), &folder, &MountOptions::default()).unwrap();
    // The points of a machine, or the machines; there is more in a machine's folder.
    let names = |path: &str| {
        let entries = fs::read_dir(folder.join(path)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name != "versions").collect();
        names.sort();
        names
    };
    let latest = || fs::read_link(folder.join("web01/latest")).unwrap();
    assert_eq!(names(""), ["db", "web01"]);
    assert_eq!(
        names("web01"),
        ["2026-11-19T02-00-00Z", "2026-11-20T02-00-00Z", "latest"]
    );
    assert_eq!(latest(), Path::new("2026-11-20T02-00-00Z"));
    assert!(!folder.join("web01/2026-11-21T02-00-00Z").exists());
    // Another program adds points.
    let other = Store::open(&temp.path().join("store")).unwrap();
    back_up(&other, "web01", Some("2026-11-21T02:00:00Z"));
    back_up(&other, "third", None);
    let soon = |what: &dyn Fn() -> bool| {
        let started = Instant::now();
        while !what() {
            assert!(started.elapsed() < Duration::from_millis(2500), "too late");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    soon(&|| latest() == Path::new("2026-11-21T02-00-00Z"));
    soon(&|| names("") == ["db", "third", "web01"]);
    assert_eq!(
        fs::read(folder.join("web01/latest/files/disk0/p1/etc/hostname")).unwrap(),
        b"web01\n"
    );
    let oldest = store
        .find_point("web01@2026-11-19T02-00-00Z")
        .unwrap()
        .id
        .to_string();
    let found = run(
        "find",
        &[
            temp.path().join("store").to_str().unwrap(),
            "-name",
            &format!("*{oldest}"),
        ],
    );
    fs::remove_file(found.lines().next().unwrap()).unwrap();
    soon(&|| names("web01") == ["2026-11-20T02-00-00Z", "2026-11-21T02-00-00Z", "latest"]);
    assert_eq!(mounted.unmount().unwrap(), Unmounted::Cleanly);
}

/// **[gone]** What belongs to a point that was forgotten is ESTALE, what is damaged EIO. A failure that is no ordinary answer is told to the program in a line, the same line
/// once a minute, and a flood of them is cut short; `cairn mount` prints them. Control characters in it, which guests may have in names, are written as `\u{1b}`. All else
/// goes on.
#[test]
fn what_goes_wrong_is_answered_and_told() {
    let temp = tempdir().unwrap();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let kept = lines.clone();
    let sink: Sink = Arc::new(move |line: &str| kept.lock().push(line.to_string()));
    let tree = Tree::of_store(store(temp.path()));
    let tree = tree.shown(Look::default(), Arc::new(Journal::new(sink)));
    let disks = |point: &str| find(&tree, &format!("{point}/disks")).inode;
    let (first, second) = ("web01/2026-11-19T02-00-00Z", "web01/2026-11-20T02-00-00Z");
    let (gone, broken, fine) = (
        disks(first),
        disks(second),
        disks("db/2026-11-20T03-00-00Z"),
    );
    let store = Store::open(&temp.path().join("store")).unwrap();
    let record = |point: &str| {
        let point = store.find_point(&point.replace('/', "@")).unwrap();
        record_of(temp.path(), &point.id.to_string())
    };
    let (forgotten, damaged) = (record(first), record(second));
    fs::remove_file(forgotten).unwrap();
    damage(&damaged);
    for _ in 0..3 {
        assert_eq!(tree.readdir(gone).unwrap_err().errno(), 116);
        assert_eq!(tree.readdir(broken).unwrap_err().errno(), 5);
        assert!(tree.readdir(fine).unwrap().len() > 2);
        assert!(matches!(tree.getattr(12345), Err(Failure::Stale)));
    }
    let told = lines.lock().clone();
    let [one, other] = &*told else {
        panic!("{told:?}");
    };
    assert!(one.starts_with("web01 2026-11-19T02-00-00Z: "), "{one}");
    assert!(other.starts_with("web01 2026-11-20T02-00-00Z: "), "{other}");
    let kept = lines.clone();
    let journal = Journal::new(Arc::new(move |line: &str| {
        kept.lock().push(line.to_string())
    }));
    journal.tell("a\x1b[2J\nb");
    assert_eq!(lines.lock().last().unwrap(), "a\\u{1b}[2J\\u{a}b");
}

/// **[mount-errors]** Mounting fails with advice if the folder is not there or is no folder, if there is no FUSE, or if
/// the helper is missing. A folder that is not empty is covered until the unmount.
#[test]
fn a_bad_place_is_refused_with_advice() {
    let temp = tempdir().unwrap();
    let view = || DiskView::open_image(&fixture().disk).unwrap();
    let mount = |path: &Path| mount_image(view(), path, &MountOptions::default());
    let missing = mount(&temp.path().join("missing")).err().unwrap();
    assert_eq!(missing.kind(), cairn::Kind::NotFound);
    assert!(
        missing.to_string().contains("make the folder first"),
        "{missing}"
    );
    let file = temp.path().join("file");
    fs::write(&file, "x").unwrap();
    let no_folder = mount(&file).err().unwrap();
    assert_eq!(no_folder.kind(), cairn::Kind::Invalid);
    assert!(
        no_folder.to_string().contains("mount on an empty folder"),
        "{no_folder}"
    );
    if !fuse_is_there() {
        let none = mount(temp.path()).err().unwrap();
        assert!(none.to_string().contains("modprobe fuse"), "{none}");
        return;
    }
    let mounted = mount(temp.path()).unwrap();
    assert!(!file.exists());
    assert!(temp.path().join("files/disk0").exists());
    assert_eq!(mounted.unmount().unwrap(), Unmounted::Cleanly);
    assert_eq!(fs::read(&file).unwrap(), b"x");
}

/// **[stale]** A mount whose program was killed answers "Transport endpoint is not connected". The next mount at the same place clears it away and says so, if the kernel's
/// table says that it is one of `cairn`'s and it gives that answer: nothing can be lost with it. What is alive, slow or another program's is left alone. `cairn doctor` names
/// such mounts of a store.
#[test]
fn what_lost_its_program_is_cleared_away() {
    let Some(image) = image() else { return };
    let folder = image.folder.path();
    // One that is alive is covered, and comes back.
    let view = || DiskView::open_image(&fixture().disk).unwrap();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let kept = lines.clone();
    let options = MountOptions {
        source: "/a store, with\\ odd name".into(),
        journal: Some(Arc::new(move |line: &str| {
            kept.lock().push(line.to_string())
        })),
        ..MountOptions::default()
    };
    let upper = mount_image(view(), folder, &options).unwrap();
    let here = folder.canonicalize().unwrap();
    let ours = || {
        let mut mounts = stale::mounts();
        mounts.retain(|mount| mount.path == here);
        mounts
            .into_iter()
            .map(|mount| mount.source)
            .collect::<Vec<_>>()
    };
    assert_eq!(ours(), ["cairn", "/a store, with\\ odd name"]);
    assert_eq!(stale::clear(folder).unwrap(), 0);
    assert_eq!(upper.unmount().unwrap(), Unmounted::Cleanly);
    assert_eq!(image.mounted.unmount().unwrap(), Unmounted::Cleanly);
    // One whose program has gone without a word.
    let manner = Manner {
        allow_other: false,
        writable: false,
        source: "cairn",
    };
    let (served, _place) = device::mount(folder, manner).unwrap();
    drop(served);
    assert_eq!(ours(), ["cairn"]);
    assert!(stale::is_dead(folder));
    let dead = stale::dead_mounts(Some("cairn"));
    assert_eq!(dead.iter().filter(|mount| mount.path == here).count(), 1);
    assert!(stale::dead_mounts(Some("/other")).is_empty());
    let next = mount_image(view(), folder, &options).unwrap();
    assert_eq!(ours().len(), 1);
    assert!(
        lines.lock()[0].contains("lost its program was cleared away"),
        "{:?}",
        lines.lock()
    );
    assert!(folder.join("files/disk0").exists());
    assert_eq!(next.unmount().unwrap(), Unmounted::Cleanly);
    assert!(!is_mounted(folder));
}

/// **[unmount]** The mount ends with `umount` or `fusermount3 -u`, or when the program unmounts it. Nothing else is ever
/// unmounted by mistake: not what lies below at the same place, nor what was mounted there later.
#[test]
fn it_ends_however_it_is_unmounted() {
    let Some(image) = image() else { return };
    let folder = image.folder.path().to_path_buf();
    let stop = AtomicBool::new(true);
    assert!(!image.mounted.wait_or(&stop).unwrap());
    stop.store(false, Ordering::Relaxed);
    run("umount", &[folder.to_str().unwrap()]);
    image.mounted.wait().unwrap();
    assert!(image.mounted.wait_or(&stop).unwrap());
    assert_eq!(image.mounted.unmount().unwrap(), Unmounted::Cleanly);

    // Two at one place: the upper one is not touched by the lower one's end, nor the lower by the upper's.
    let view = || DiskView::open_image(&fixture().disk).unwrap();
    let mount = || mount_image(view(), &folder, &MountOptions::default()).unwrap();
    let (lower, upper) = (mount(), mount());
    let error = lower.unmount().err().unwrap();
    assert!(
        error.to_string().contains("mounted over this one"),
        "{error}"
    );
    run("fusermount3", &["-u", folder.to_str().unwrap()]);
    upper.wait().unwrap();
    drop(upper);
    assert!(folder.join("files").exists() && is_mounted(&folder));
    drop(lower);
    assert!(!is_mounted(&folder));
}

/// **[busy]** When the program unmounts while files are in use, it tries for half a second and then detaches the mount:
/// it vanishes at once, files that are open stay readable until the program ends, and the program is told so.
#[test]
fn what_is_in_use_is_detached() {
    let Some(image) = image() else { return };
    let mut file = File::open(image.at("files/disk0/p1/large")).unwrap();
    assert_eq!(image.mounted.unmount().unwrap(), Unmounted::StillInUse);
    assert!(!is_mounted(image.folder.path()));
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    assert!(bytes == fs::read(fixture().source.join("large")).unwrap());
    drop(file);
    image.mounted.wait().unwrap();
}
