//! Real mounts. Skipped, saying so, where there is no `/dev/fuse`.

mod shared;

use cairn::{DiskView, Store};
use cairn_fuse::{MountOptions, Mounted, Unmounted, mount_image, mount_store};
use rustix::fs::SeekFrom;
use shared::{back_up, fixture, fuse_is_there, run, store};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tempfile::{TempDir, tempdir};

/// An image mount. Unmounted before its folder is removed.
struct Image {
    mounted: Mounted,
    folder: TempDir,
}

fn image() -> Option<Image> {
    image_of(&fixture().disk)
}

fn image_of(disk: &Path) -> Option<Image> {
    if !fuse_is_there() {
        return None;
    }
    let folder = tempdir().unwrap();
    let view = DiskView::open_image(disk).unwrap();
    let mounted = mount_image(view, folder.path(), &MountOptions::default()).unwrap();
    Some(Image { mounted, folder })
}

impl Image {
    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }
}

fn is_mounted(path: &Path) -> bool {
    let path = path.canonicalize().unwrap();
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    table
        .lines()
        .any(|line| line.split(' ').nth(1) == path.to_str())
}

/// Everything below a folder, by path.
fn listing(top: &Path) -> BTreeMap<PathBuf, fs::Metadata> {
    let (mut folders, mut found) = (vec![top.to_path_buf()], BTreeMap::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let metadata = fs::symlink_metadata(entry.path()).unwrap();
            if metadata.is_dir() {
                folders.push(entry.path());
            }
            found.insert(
                entry.path().strip_prefix(top).unwrap().to_path_buf(),
                metadata,
            );
        }
    }
    found
}

/// **[entries]** Below `p<N>` every entry has the type, mode, owner, size, modification time, link target, device
/// number and content that the guest's own kernel would show.
#[test]
fn the_tree_is_the_one_that_was_copied_in() {
    let Some(image) = image() else { return };
    let source = listing(&fixture().source);
    let mut shown = listing(&image.at("files/disk0/p1"));
    shown
        .remove(Path::new("lost+found"))
        .expect("mke2fs makes lost+found");
    assert_eq!(
        source.keys().collect::<Vec<_>>(),
        shown.keys().collect::<Vec<_>>()
    );
    for (path, wanted) in &source {
        let found = &shown[path];
        let facts = |of: &fs::Metadata| (of.mode(), of.uid(), of.gid(), of.rdev(), of.mtime());
        assert_eq!(facts(found), facts(wanted), "{path:?}");
        let there = image.at("files/disk0/p1").join(path);
        let here = fixture().source.join(path);
        if wanted.is_symlink() {
            assert_eq!(
                fs::read_link(&there).unwrap(),
                fs::read_link(&here).unwrap()
            );
            assert_eq!(found.len(), wanted.len(), "{path:?}");
        } else if wanted.is_file() {
            assert_eq!(
                (found.len(), found.nlink()),
                (wanted.len(), wanted.nlink()),
                "{path:?}"
            );
            assert!(
                fs::read(&there).unwrap() == fs::read(&here).unwrap(),
                "{path:?}"
            );
        }
    }
    assert!(source.values().any(|entry| entry.file_type().is_fifo()));
    // GNU find, which skips folders that claim to hold none, sees the same.
    let seen = run(
        "find",
        &[
            image.at("files/disk0/p1").to_str().unwrap(),
            "-name",
            "file number*",
        ],
    );
    assert_eq!(seen.lines().count(), 700);
}

/// **[times]** Times are told to the nanosecond, as far as the guest's file system keeps them, also before 1970 and
/// after 2038.
#[test]
fn times_of_any_century_arrive() {
    let temp = tempdir().unwrap();
    let disk = temp.path().join("times.raw");
    fs::copy(&fixture().disk, &disk).unwrap();
    // What `mke2fs -d` leaves out is set by its own tool, the extra bits and nanoseconds too.
    let place = format!(
        "{}?offset={}",
        disk.display(),
        shared::PARTITIONS[0].0 << 20
    );
    for command in [
        "set_inode_field /etc/hostname mtime @-152389434",
        "set_inode_field /tool mtime @4102542245",
    ] {
        run("debugfs", &["-w", "-R", command, &place]);
    }
    let Some(image) = image_of(&disk) else { return };
    let time = |path: &str| {
        let metadata = fs::metadata(image.at("files/disk0/p1").join(path)).unwrap();
        (metadata.mtime(), metadata.mtime_nsec())
    };
    let wanted = |path: &str| {
        let said = run("debugfs", &["-R", &format!("stat /{path}"), &place]);
        let line = said
            .lines()
            .find_map(|line| line.trim().strip_prefix("mtime: 0x"))
            .unwrap()
            .to_string();
        let (seconds, extra) = line.split(' ').next().unwrap().split_once(':').unwrap();
        let low = i64::from(u32::from_str_radix(seconds, 16).unwrap() as i32);
        let extra = i64::from_str_radix(extra, 16).unwrap();
        (low + ((extra & 3) << 32), extra >> 2)
    };
    for (path, seconds) in [("etc/hostname", -152_389_434), ("tool", 4_102_542_245)] {
        assert_eq!(time(path), wanted(path), "{path}");
        assert_eq!(time(path).0, seconds, "{path}");
    }
    assert_eq!(time("large").0, 1_000_000_000);
}

/// **[links]** Symbolic links are given as the guest wrote them. An absolute one leads out of the mount: it means the
/// path on the guest, and on this machine something else.
#[test]
fn links_are_the_guests() {
    let Some(image) = image() else { return };
    assert_eq!(
        fs::read_link(image.at("files/disk0/p1/away")).unwrap(),
        Path::new("/absolute/Ä")
    );
    assert_eq!(
        fs::read(image.at("files/disk0/p1/link")).unwrap(),
        b"web01\n"
    );
    assert!(fs::read(image.at("files/disk0/p1/away")).is_err());
}

/// **[parallel]** Any number of threads read at once, the same file or others. What hangs on one volume does not keep
/// others from being answered.
#[test]
fn many_threads_read_at_once() {
    let Some(image) = image() else { return };
    let source = fs::read(fixture().source.join("large")).unwrap();
    let disk = fs::read(&fixture().disk).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let (image, source, disk) = (&image, &source, &disk);
            scope.spawn(move || {
                let file = File::open(image.at("files/disk0/p1/large")).unwrap();
                let raw = File::open(image.at("disks/disk0.raw")).unwrap();
                let mut buffer = vec![0; 100_000];
                for round in 0..40 {
                    let offset = (thread * 611_953 + round * 1_299_709) % 4_900_000;
                    file.read_exact_at(&mut buffer, offset).unwrap();
                    assert!(buffer[..] == source[offset as usize..][..100_000]);
                    let offset = (thread * 15_485_863 + round * 32_452_843) % (95 << 20);
                    raw.read_exact_at(&mut buffer, offset).unwrap();
                    assert!(buffer[..] == disk[offset as usize..][..100_000]);
                    let many = image.at("files/disk0/p1/many");
                    let name = format!("file number {:04}", (thread * 87 + round) % 700);
                    fs::read(many.join(name)).unwrap();
                }
            });
        }
    });
    hangs_alone();
}

/// A disk that never answers reads beyond its start, until it is released.
struct Hanging {
    released: std::sync::Arc<AtomicBool>,
}

impl cairn::ReadAt for Hanging {
    fn size(&self) -> u64 {
        1 << 30
    }
    fn read_exact_at(&self, _: u64, _: &mut [u8]) -> cairn::Result<()> {
        while !self.released.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(cairn::Error::new(cairn::Kind::Io, "released"))
    }
}

/// Many more requests hang than there are threads that listen; what does not need the disk is answered.
fn hangs_alone() {
    let folder = tempdir().unwrap();
    let released = std::sync::Arc::new(AtomicBool::new(false));
    let disk = std::sync::Arc::new(Hanging {
        released: released.clone(),
    });
    let options = MountOptions {
        threads: 2,
        ..MountOptions::default()
    };
    let mounted = mount_image(DiskView::new("disk0", disk, None), folder.path(), &options).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..30 {
            let raw = folder.path().join("disks/disk0.raw");
            scope.spawn(move || {
                let mut byte = [0];
                File::open(raw)
                    .unwrap()
                    .read_exact_at(&mut byte, 0)
                    .unwrap_err();
            });
        }
        std::thread::sleep(Duration::from_millis(200));
        let started = Instant::now();
        for _ in 0..20 {
            assert_eq!(
                fs::read_dir(folder.path().join("files")).unwrap().count(),
                1
            );
        }
        assert!(started.elapsed() < Duration::from_secs(10));
        released.store(true, Ordering::Relaxed);
    });
    assert_eq!(mounted.unmount().unwrap(), Unmounted::Cleanly);
}

/// **[holes]** `SEEK_HOLE` and `SEEK_DATA` tell the holes of disks and of guests' files; a hole reads as zeros. The
/// allocated blocks of a disk of more than 1 GiB are judged from 256 samples; no disk with a hole in a sample shows as
/// fully allocated.
#[test]
fn holes_show() {
    let Some(image) = image() else { return };
    let sparse = File::open(image.at("files/disk0/p1/sparse")).unwrap();
    let seek = |to| rustix::fs::seek(&sparse, to);
    assert_eq!(seek(SeekFrom::Data(0)), Ok(4 << 20));
    assert_eq!(seek(SeekFrom::Hole(4 << 20)), Ok((4 << 20) + 8192));
    assert_eq!(seek(SeekFrom::Data(5 << 20)), Ok(20 << 20));
    assert_eq!(seek(SeekFrom::Data(21 << 20)), Err(rustix::io::Errno::NXIO));
    assert_eq!(seek(SeekFrom::Hole(0)), Ok(0));
    assert!(sparse.metadata().unwrap().blocks() < 100);
    let mut zeros = vec![1; 1 << 20];
    sparse.read_exact_at(&mut zeros, 10 << 20).unwrap();
    assert!(zeros.iter().all(|byte| *byte == 0));
    // The disk: the last 7 MiB but for the second partition table.
    let raw = File::open(image.at("disks/disk0.raw")).unwrap();
    assert!(raw.metadata().unwrap().blocks() < (96 << 20) / 512);
    let hole = rustix::fs::seek(&raw, SeekFrom::Hole(83 << 20)).unwrap();
    assert!(hole < 95 << 20, "{hole}");
    // `cp` finds them too.
    let copy = image.folder.path().with_extension("copy");
    let source = image.at("files/disk0/p1/sparse");
    run("cp", &[source.to_str().unwrap(), copy.to_str().unwrap()]);
    let copied = fs::metadata(&copy).unwrap();
    assert!(fs::read(&copy).unwrap() == fs::read(fixture().source.join("sparse")).unwrap());
    fs::remove_file(&copy).unwrap();
    assert!(
        copied.blocks() * 512 < 1 << 20,
        "{} blocks",
        copied.blocks()
    );
}

/// **[xattr]** Extended attributes are those of the guest. A named stream of NTFS is the attribute `user.<stream>`; one
/// of more than 64 KiB, which Linux cannot pass on, is listed, and reading it fails with E2BIG.
#[test]
fn attributes_and_streams_arrive() {
    let Some(image) = image() else { return };
    let get = |path: &str, name: &str| {
        let mut value = vec![0; 70_000];
        let length = rustix::fs::getxattr(image.at(path), name, &mut value[..])?;
        Ok::<_, rustix::io::Errno>(value[..length].to_vec())
    };
    let list = |path: &str| {
        let mut names = vec![0; 1000];
        let length = rustix::fs::listxattr(image.at(path), &mut names[..]).unwrap();
        let names = String::from_utf8(names[..length].to_vec()).unwrap();
        names
            .split_terminator('\0')
            .map(str::to_string)
            .collect::<Vec<_>>()
    };
    if rustix::process::geteuid().is_root() {
        assert_eq!(get("files/disk0/p1/tool", "user.note").unwrap(), b"kept");
        assert_eq!(list("files/disk0/p1/tool"), ["user.note"]);
    }
    let report = "files/disk0/p2/Report.TXT";
    let mut streams = list(report);
    streams.sort();
    assert_eq!(streams, ["user.Zone.Identifier", "user.huge"]);
    assert_eq!(
        get(report, "user.Zone.Identifier").unwrap(),
        b"[ZoneTransfer]"
    );
    assert_eq!(get(report, "user.huge"), Err(rustix::io::Errno::TOOBIG));
    assert_eq!(get(report, "user.none"), Err(rustix::io::Errno::NODATA));
    assert_eq!(
        get("disks/disk0.raw", "user.none"),
        Err(rustix::io::Errno::NODATA)
    );
    let mut small = [0u8; 3];
    let error = rustix::fs::getxattr(image.at(report), "user.Zone.Identifier", &mut small[..]);
    assert_eq!(error, Err(rustix::io::Errno::RANGE));
}

/// **[read-only]** Nothing can be written: the mount is `ro`, `nosuid` and `nodev`, and `access` refuses writing with
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

/// Runs a shell command as the user nobody; none without the rights to.
fn as_nobody(command: &str) -> Option<std::process::Output> {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: not root, who alone can become another user");
        return None;
    }
    let output = std::process::Command::new("setpriv")
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "sh",
            "-c",
            command,
        ])
        .output()
        .unwrap();
    Some(output)
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
}

/// **[others]** With `allow_other` others can look too, and the kernel enforces the guest's modes and numeric owners,
/// for the one who mounted as well unless he is root. `disks/*.raw` is for the one who mounted only, because it holds
/// everything. NTFS has no such modes: its files can then be read by everybody.
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
    let names = |path: &str| {
        let mut names: Vec<String> = fs::read_dir(folder.join(path))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
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

/// Numbers that the kernel shows are the same in two mounts.
#[test]
fn inode_numbers_are_the_same_in_two_mounts() {
    let (Some(one), Some(other)) = (image(), image()) else {
        return;
    };
    let numbers = |image: &Image| -> BTreeMap<PathBuf, u64> {
        let found = listing(image.folder.path());
        found
            .into_iter()
            .map(|(path, metadata)| (path, metadata.ino()))
            .collect()
    };
    let found = numbers(&one);
    assert!(found.len() > 700);
    assert_eq!(found, numbers(&other));
}
