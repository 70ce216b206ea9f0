//! The mount comes and goes: umount, Ctrl-C, SIGTERM; of a store and of an image.

use super::bench::{Bench, Running, eventually, text, tool};
use super::browse::filled;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A mounted store or image; gone at the end of a test whatever happens.
pub(super) struct Mounted {
    pub(super) folder: PathBuf,
    process: Running,
}

impl Mounted {
    pub(super) fn new(bench: &Bench, source: &str) -> Mounted {
        Mounted::with(bench, source, &[])
    }

    /// Mounted with more options.
    pub(super) fn with(bench: &Bench, source: &str, options: &[&str]) -> Mounted {
        let folder = bench.path("mnt");
        if !folder.exists() {
            fs::create_dir(&folder).unwrap();
        }
        let process = bench.start(&[&["mount", source, text(&folder)], options].concat());
        let mut mounted = Mounted { folder, process };
        eventually("it is mounted", || {
            assert!(
                mounted.process.is_alive() || is_mounted(&mounted.folder),
                "it ended before it was mounted"
            );
            is_mounted(&mounted.folder)
        });
        mounted
    }

    /// Ends it as Ctrl-C does; what it said.
    pub(super) fn end(mut self) -> String {
        self.process.signal("INT");
        self.has_ended()
    }

    /// A file below the mount's folder.
    pub(super) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.join(name)).unwrap()
    }

    #[track_caller]
    pub(super) fn has_ended(&mut self) -> String {
        let (status, answer) = self.process.end();
        assert_eq!(status.code(), Some(0), "{}", answer.stderr);
        assert!(!is_mounted(&self.folder), "nothing is mounted any more");
        assert_eq!(fs::read_dir(&self.folder).unwrap().count(), 0);
        answer.stderr
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if is_mounted(&self.folder) {
            let mut lazily = Command::new("fusermount3");
            drop(lazily.args(["-u", "-z", text(&self.folder)]).status());
        }
    }
}

fn is_mounted(folder: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.contains(&format!(" {} ", text(folder)))
}

pub(super) fn have_fuse() -> bool {
    let there = Path::new("/dev/fuse").exists();
    if !there {
        println!("SKIPPED: there is no /dev/fuse");
    }
    there
}

/// Mounts something of others in a mount; says so if it cannot.
fn has_mounted_at(inside: &Path) -> bool {
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "cairn-test", text(inside)]);
    let done = mount.status().is_ok_and(|status| status.success());
    if !done {
        println!("SKIPPED: nothing can be mounted in a mount");
    }
    done
}

/// As a user unmounts: `umount` for root, `fusermount3 -u` for everybody.
fn unmount(folder: &Path) {
    let mut umount = Command::new("umount");
    let done = umount.arg(folder).stderr(Stdio::null()).status();
    if !done.is_ok_and(|status| status.success()) {
        let status = Command::new("fusermount3")
            .args(["-u", text(folder)])
            .status();
        assert!(status.unwrap().success());
    }
}

#[test]
fn a_mounted_store_shows_files_and_disks_and_ends_cleanly() {
    let bench = Bench::new();
    if !have_fuse() {
        return;
    }
    let Some(()) = filled(&bench) else { return };
    bench.backup("web01", &["disk.raw"]);
    for how in ["umount", "INT", "TERM"] {
        let mut mounted = Mounted::new(&bench, "store");
        let latest = mounted.folder.join("web01/latest");
        assert_eq!(
            fs::read(latest.join("files/disk0/p1/etc/hostname")).unwrap(),
            b"web01\n"
        );
        let disk = fs::read(latest.join("disks/disk0.raw")).unwrap();
        assert!(disk == fs::read(bench.path("disk.raw")).unwrap());
        match how {
            "umount" => unmount(&mounted.folder),
            signal => mounted.process.signal(signal),
        }
        mounted.has_ended();
    }
    assert_eq!(bench.store_files("sessions"), Vec::<PathBuf>::new());
}

/// Readers that go on until they fail; they must, once the mount has ended.
fn readers(path: &Path) -> Vec<std::process::Child> {
    let script = format!("while cat '{}' >/dev/null 2>&1; do :; done", text(path));
    let start = |_| Command::new("sh").args(["-c", &script]).spawn().unwrap();
    (0..8).map(start).collect()
}

#[test]
fn a_mount_in_use_ends_without_leaving_anything() {
    let bench = Bench::new();
    if !have_fuse() {
        return;
    }
    let Some(()) = filled(&bench) else { return };
    bench.backup("web01", &["disk.raw"]);
    for how in ["INT", "umount -l"] {
        let mut mounted = Mounted::new(&bench, "store");
        let disk = mounted.folder.join("web01/latest/disks/disk0.raw");
        let readers = readers(&disk);
        assert!(fs::read(&disk).unwrap() == fs::read(bench.path("disk.raw")).unwrap());
        match how {
            "INT" => mounted.process.signal("INT"),
            _ => drop(tool("fusermount3", &["-u", "-z", text(&mounted.folder)])),
        }
        let (status, answer) = mounted.process.end();
        let code = status.code();
        let in_use = how == "INT" && code == Some(3) && answer.stderr.contains("still in use");
        assert!(
            in_use || code == Some(0),
            "{how}: {code:?} {}",
            answer.stderr
        );
        for mut reader in readers {
            assert!(reader.wait().unwrap().code().is_some());
        }
        assert!(!is_mounted(&mounted.folder), "{how}");
        assert_eq!(fs::read_dir(&mounted.folder).unwrap().count(), 0);
        assert_eq!(
            bench.store_files("sessions"),
            Vec::<PathBuf>::new(),
            "{how}"
        );
    }
}

/// What others mounted in it stays as long as they want, and so does the mount.
#[test]
fn a_mount_with_what_others_mounted_is_served_until_that_is_gone() {
    let bench = Bench::new();
    if !have_fuse() {
        return;
    }
    let Some(()) = filled(&bench) else { return };
    bench.backup("web01", &["disk.raw"]);
    let mut mounted = Mounted::new(&bench, "disk.raw");
    let inside = mounted.folder.join("files/disk0/p1/etc");
    if !has_mounted_at(&inside) {
        return;
    }
    fs::write(inside.join("kept"), "theirs").unwrap();
    mounted.process.signal("INT");
    // It tries for half a second before it gives up.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let stays = mounted.process.is_alive();
    let (kept, disk) = (
        fs::read(inside.join("kept")),
        fs::metadata(mounted.folder.join("disks/disk0.raw")),
    );
    unmount(&inside);
    assert!(stays, "it did not wait for what others mounted");
    assert_eq!(kept.unwrap(), b"theirs");
    assert!(disk.is_ok());
    let (status, answer) = mounted.process.end();
    let said = answer.stderr;
    assert_eq!(status.code(), Some(3), "{said}");
    assert!(!is_mounted(&mounted.folder));
    assert!(said.contains(&format!("{inside:?}")), "{said}");
    assert!(said.contains("Ctrl-C once more"), "{said}");
}

/// What is written while others keep it from ending is in the overlay, however it ends.
#[test]
fn what_is_written_to_a_mount_that_is_served_on_is_kept() {
    let bench = Bench::new();
    if !have_fuse() {
        return;
    }
    let Some(()) = filled(&bench) else { return };
    fs::create_dir(bench.path("scratch")).unwrap();
    let kept = ["--writable", "--keep", "--scratch", "scratch"];
    let mut mounted = Mounted::with(&bench, "disk.raw", &kept);
    let inside = mounted.folder.join("files/disk0/p1/etc");
    if !has_mounted_at(&inside) {
        return;
    }
    let disk = mounted.folder.join("disks/disk0.raw");
    let end = fs::metadata(&disk).unwrap().len() - 4096;
    mounted.process.signal("INT");
    std::thread::sleep(std::time::Duration::from_secs(2));
    let late = fs::OpenOptions::new().write(true).open(&disk);
    let written = late.and_then(|late| late.write_all_at(b"written late", end));
    std::thread::sleep(std::time::Duration::from_secs(2));
    mounted.process.signal("INT");
    mounted.process.end();
    unmount(&inside);
    unmount(&mounted.folder);
    written.unwrap();
    drop(mounted);
    let again = Mounted::with(&bench, "disk.raw", &kept);
    let mut found = [0; 12];
    let disk = fs::File::open(&disk).unwrap();
    disk.read_exact_at(&mut found, end).unwrap();
    drop(disk);
    again.end();
    assert_eq!(&found, b"written late");
}

#[test]
fn a_mount_that_was_killed_is_named_and_cleared_away() {
    let bench = Bench::new();
    if !have_fuse() {
        return;
    }
    let Some(()) = filled(&bench) else { return };
    bench.backup("web01", &["disk.raw"]);
    let mut mounted = Mounted::new(&bench, "store");
    mounted.process.signal("KILL");
    mounted.process.end();
    assert!(is_mounted(&mounted.folder));
    let lost = fs::read_dir(&mounted.folder).unwrap_err();
    assert_eq!(lost.raw_os_error(), Some(107), "{lost}");
    let said = bench.expect(3, &["doctor", "store"]).text();
    assert!(
        said.contains(&format!("the mount at {}", text(&mounted.folder))),
        "{said}"
    );
    let findings = bench.expect(3, &["doctor", "store", "--json"]).json();
    let stale = |finding: &serde_json::Value| finding["topic"] == "stale mount";
    assert!(findings["findings"].as_array().unwrap().iter().any(stale));
    // The next one at the same place clears it away, and says so.
    let process = bench.start(&["mount", "disk.raw", text(&mounted.folder)]);
    mounted.process = process;
    let hostname = mounted.folder.join("files/disk0/p1/etc/hostname");
    eventually("it is mounted again", || fs::read(&hostname).is_ok());
    mounted.process.signal("INT");
    let (status, answer) = mounted.process.end();
    assert_eq!(status.code(), Some(0), "{}", answer.stderr);
    assert!(
        answer.stderr.contains("lost its program was cleared away"),
        "{}",
        answer.stderr
    );
    assert!(!is_mounted(&mounted.folder));
    assert_eq!(fs::read_dir(&mounted.folder).unwrap().count(), 0);
    let said = bench.run(&["doctor", "store"]).stdout;
    assert!(!String::from_utf8(said).unwrap().contains("the mount at"));
}

#[test]
fn options_say_how_files_are_shown() {
    let bench = Bench::new();
    fs::create_dir(bench.path("mnt")).unwrap();
    for wrong in [
        ["--uid", "no such user"],
        ["--gid", "-5"],
        ["--umask", "8"],
        ["--umask", "1777"],
    ] {
        bench.expect(2, &["mount", wrong[0], wrong[1], "store", "mnt"]);
    }
    if !have_fuse() {
        return;
    }
    let Some(()) = filled(&bench) else { return };
    let options = [
        "mount",
        "--uid",
        "1234",
        "--gid",
        "root",
        "--umask",
        "027",
        "--ignore-case",
    ];
    let arguments: Vec<&str> = options.iter().copied().chain(["disk.raw", "mnt"]).collect();
    let mut mounted = Mounted {
        folder: bench.path("mnt"),
        process: bench.start(&arguments),
    };
    let hostname = mounted.folder.join("FILES/disk0/p1/ETC/HostName");
    eventually("it is mounted", || hostname.exists());
    let facts = fs::metadata(&hostname).unwrap();
    assert_eq!(
        (facts.uid(), facts.gid(), facts.mode() & 0o777),
        (1234, 0, 0o640)
    );
    let source = tool("findmnt", &["-n", "-o", "SOURCE", text(&mounted.folder)]);
    assert_eq!(
        source.trim(),
        text(&bench.path("disk.raw").canonicalize().unwrap())
    );
    mounted.process.signal("INT");
    mounted.has_ended();
}

#[test]
fn an_image_is_mounted_without_a_store() {
    let bench = Bench::new();
    if !have_fuse() {
        return;
    }
    let Some(()) = filled(&bench) else { return };
    let mut mounted = Mounted::new(&bench, "disk.raw");
    assert_eq!(
        fs::read(mounted.folder.join("files/disk0/p1/etc/hostname")).unwrap(),
        b"web01\n"
    );
    assert!(
        fs::read(mounted.folder.join("disks/disk0.raw")).unwrap()
            == fs::read(bench.path("disk.raw")).unwrap()
    );
    mounted.process.signal("INT");
    mounted.has_ended();
}

#[test]
fn a_backup_shows_up_in_a_mounted_store() {
    let bench = Bench::new();
    if !have_fuse() {
        return;
    }
    bench.noise("a.raw", 51, 1 << 20);
    bench.backup("one", &["a.raw"]);
    let mut mounted = Mounted::new(&bench, "store");
    bench.backup("two", &["a.raw"]);
    let disk = mounted.folder.join("two/latest/disks/disk0.raw");
    eventually("the new machine is listed", || disk.exists());
    assert!(fs::read(&disk).unwrap() == fs::read(bench.path("a.raw")).unwrap());
    mounted.process.signal("INT");
    mounted.has_ended();
}

#[test]
fn what_cannot_be_mounted_is_refused() {
    let bench = Bench::new();
    fs::create_dir(bench.path("mnt")).unwrap();
    fs::create_dir(bench.path("folder")).unwrap();
    let refused = bench.expect(1, &["mount", "folder", "mnt"]);
    assert!(refused.stderr.contains("no store"), "{}", refused.stderr);
    bench.expect(1, &["mount", "nowhere", "mnt"]);
    bench.expect(1, &["mount", "store", "no-folder"]);
}

/// Where not every thread can have a descriptor of its own, they share one.
#[test]
fn few_descriptors_are_enough() {
    let bench = Bench::new();
    if !have_fuse() {
        return;
    }
    let Some(()) = filled(&bench) else { return };
    for limit in [10, 11, 12, 16] {
        let folder = bench.path("mnt");
        fs::create_dir_all(&folder).unwrap();
        let arguments = ["mount", "disk.raw", text(&folder)];
        let process = bench.start_with_descriptors(limit, &arguments);
        let mut mounted = Mounted { folder, process };
        let hostname = mounted.folder.join("files/disk0/p1/etc/hostname");
        eventually("it is served", || {
            let is_alive = mounted.process.is_alive();
            assert!(is_alive, "ended with {limit} descriptors");
            fs::read(&hostname).is_ok_and(|content| content == b"web01\n")
        });
        mounted.end();
    }
}

/// A point's disk is written to: for this mount only, or for the next one too.
#[test]
fn disks_are_written_to_for_once_or_for_good() {
    let bench = Bench::new();
    if !have_fuse() {
        return;
    }
    let Some(()) = filled(&bench) else { return };
    bench.backup("web01", &["disk.raw"]);
    let original = fs::read(bench.path("disk.raw")).unwrap();
    let scratch = bench.path("scratch");
    let here =
        |options: &[&'static str]| [&["--writable", "--scratch", "scratch"], options].concat();
    for (options, byte, found) in [
        (here(&[]), 1, original[0]),
        (here(&["--keep"]), 2, original[0]),
        (here(&["--keep"]), 3, 2),
        (here(&[]), 4, original[0]),
        (vec!["--writable"], 5, original[0]),
        (here(&["--keep"]), 6, 3),
    ] {
        let mut mounted = Mounted::with(&bench, "store", &options);
        let path = mounted.folder.join("web01/latest/disks/disk0.raw");
        let mut shown = fs::read(&path).unwrap();
        assert_eq!(shown[0], found, "{options:?}");
        shown[0] = original[0];
        assert!(shown == original);
        let disk = fs::File::options().write(true).open(&path).unwrap();
        disk.write_all_at(&[byte], 0).unwrap();
        drop(disk);
        assert_eq!(fs::read(&path).unwrap()[0], byte);
        mounted.process.signal("INT");
        mounted.has_ended();
        let left = fs::read_dir(&scratch).map_or(0, |files| files.count());
        assert_eq!(left > 0, byte > 1, "{options:?}");
    }
    // What makes no sense is refused before anything is mounted.
    for options in [
        &["--scratch", "scratch"][..],
        &["--writable", "--keep"],
        &["--keep"],
    ] {
        let arguments = [&["mount", "store", text(&scratch)], options].concat();
        bench.expect(2, &arguments);
    }
}
