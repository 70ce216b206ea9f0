//! Drive letters and links of a Windows machine, in real mounts: the kernel itself follows them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests are here"
)]

mod shared;

use cairn::{BackupOptions, DiskImage, DiskView, Silent, Store, Time};
use cairn_fuse::tree::Found;
use cairn_fuse::{Failure, Look, MountOptions, Mounted, Stat, Tree, mount_store};
use shared::asked::content;
use shared::disks::{D_START, Windows, windows};
use shared::mounted::{image_of, image_with};
use shared::{fuse_is_there, made};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;
use tempfile::{TempDir, tempdir};

const TIME: &str = "2026-11-20T02-00-00Z";

/// A store with one point of both disks, mounted.
struct Shown {
    mounted: Option<Mounted>,
    folder: TempDir,
    mnt: TempDir,
}

impl Shown {
    fn new(more: &dyn Fn(&Path, &Path), look: Look) -> Option<Shown> {
        if !fuse_is_there() {
            return None;
        }
        let (folder, mnt) = (tempdir().unwrap(), tempdir().unwrap());
        let Windows { system, data } = windows(folder.path(), more)?;
        let store = Store::create(&folder.path().join("store")).unwrap();
        let disks = vec![
            DiskImage::open("sys", &system).unwrap(),
            DiskImage::open("data", &data).unwrap(),
        ];
        let mut options = BackupOptions::new("pc");
        options.time = Some(Time::parse("2026-11-20T02:00:00Z").unwrap());
        store.backup(disks, &options, &Silent).unwrap();
        let options = MountOptions {
            look,
            ..MountOptions::default()
        };
        let mounted = mount_store(store, mnt.path(), &options).unwrap();
        Some(Shown {
            mounted: Some(mounted),
            folder,
            mnt,
        })
    }

    fn machine(&self) -> PathBuf {
        self.mnt.path().join("pc")
    }

    fn files(&self) -> PathBuf {
        self.machine().join(TIME).join("files")
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        drop(self.mounted.take());
        assert!(self.folder.path().exists());
    }
}

fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn target(path: &Path) -> String {
    let target = fs::read_link(path).unwrap().into_os_string();
    let target = target.into_string().unwrap();
    let size = fs::symlink_metadata(path).unwrap().len();
    assert_eq!(size, target.len() as u64, "{}", path.display());
    target
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// **[letters]** Where Windows lies on a disk, `files` has a symbolic link to `<disk>/p<N>` for each drive letter, `C:`, that its registry gives to a volume of the same
/// point or image. Of several installations that one counts which has a letter for the volume it lies on, and of several such the one whose registry was written last. A
/// letter that fits two volumes is shown for neither. `letters.notes` says why letters may be missing, old or those of another Windows than the machine's, and which other Windows there is; where there is nothing to
/// say there is no such file.
#[test]
fn letters_are_links_to_their_volumes() {
    let Some(shown) = Shown::new(&|_, _| {}, Look::default()) else {
        return;
    };
    let files = shown.files();
    assert_eq!(names(&files), ["C:", "D:", "data", "sys"]);
    assert_eq!(target(&files.join("C:")), "sys/p2");
    assert_eq!(target(&files.join("D:")), "data/p1");
    assert_eq!(text(&files.join("C:/Users/ann/notes.txt")), "ann's notes");
    assert_eq!(text(&files.join("D:/Data/table.txt")), "a table");
    let latest = shown.machine().join("latest/files/C:/windows");
    assert_eq!(names(&latest), ["System32"]);
    for missing in ["E:", "F:", "c:", "C:x", "C", "letters.notes"] {
        let error = fs::symlink_metadata(files.join(missing)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{missing}");
    }
    // An image has the letters of what lies on it.
    let image = image_of(&shown.folder.path().join("system.raw")).unwrap();
    assert_eq!(names(&image.at("files")), ["C:", "disk0"]);
    assert_eq!(
        text(&image.at("files/C:/Users/ann/notes.txt")),
        "ann's notes"
    );
    let image = image_of(&shown.folder.path().join("data.raw")).unwrap();
    assert_eq!(names(&image.at("files")), ["disk0"]);
}

#[test]
fn another_windows_is_told_of() {
    let old = made::system(&[(
        r"\DosDevices\C:",
        made::by_place(shared::disks::D_SIGNATURE, shared::disks::D_START),
    )]);
    let more = |_: &Path, d: &Path| {
        let config = d.join("Windows/System32/config");
        fs::create_dir_all(&config).unwrap();
        let mut old = old.clone();
        made::put(&mut old, 12, 0);
        made::put(&mut old, 16, 0x01d0_0000);
        made::sum(&mut old);
        fs::write(config.join("SYSTEM"), old).unwrap();
    };
    let Some(shown) = Shown::new(&more, Look::default()) else {
        return;
    };
    let files = shown.files();
    assert_eq!(names(&files), ["C:", "D:", "data", "letters.notes", "sys"]);
    assert_eq!(target(&files.join("C:")), "sys/p2");
    assert_eq!(
        text(&files.join("letters.notes")),
        "Drive letters of Windows.\nGood to know:\n- There is another Windows in data/p1/Windows; the drive letters are those of \
         the one in sys/p2/Windows.\n"
    );
}

/// **[windows-links]** Symbolic links and junctions of Windows work in the mount. A relative target is the same with `/` for `\`, and goes no higher than the root of its
/// volume. One that leads to a drive letter, to a volume by its GUID or to the root of the link's own volume becomes the path from the link to that place in the same
/// point, from `versions` too. What leads to another machine, to a device, or to a volume that is not there begins with `/??/`, and leads nowhere. None leads out of the
/// mount. The size of a link is that of the target that is shown.
#[test]
fn links_of_windows_are_followed_by_the_kernel() {
    let Some(shown) = Shown::new(&|_, _| {}, Look::default()) else {
        return;
    };
    let files = shown.files();
    let ann = files.join("sys/p2/Users/ann");
    for (path, wanted) in [
        ("../../Documents and Settings/ann/notes.txt", "ann's notes"),
        ("data/table.txt", "a table"),
        ("volume/Data/table.txt", "a table"),
        ("data/back/data/back/notes.txt", "ann's notes"),
        ("rel", "ann's notes"),
        ("deep/rel", "ann's notes"),
        ("deep/rooted", "ann's notes"),
        ("deep/er/high/notes.txt", "ann's notes"),
        ("case", "ann's notes"),
        ("above/notes.txt", "ann's notes"),
    ] {
        assert_eq!(text(&ann.join(path)), wanted, "{path}");
        let by_letter = files.join("C:/Users/ann").join(path);
        assert_eq!(text(&by_letter), wanted, "{path}");
    }
    let up = "../".repeat(6);
    for (path, wanted) in [
        ("rel", "notes.txt".to_string()),
        ("deep/rel", "../notes.txt".to_string()),
        ("deep/er/high", "../../../../Users/ann".to_string()),
        (
            "deep/rooted",
            format!("../{up}{TIME}/files/sys/p2/Users/ann/notes.txt"),
        ),
        ("data", format!("{up}{TIME}/files/data/p1/Data")),
        ("volume", format!("{up}{TIME}/files/data/p1")),
        (
            "case",
            format!("{up}{TIME}/files/sys/p2/USERS/Ann/NOTES.txt"),
        ),
        ("server", "/??/UNC/server/share/x".to_string()),
        ("nowhere", "/??/X:/dir".to_string()),
        (
            "unknown",
            "/??/Volume{99999999-89ab-cdef-0123-456789abcdef}".to_string(),
        ),
    ] {
        assert_eq!(target(&ann.join(path)), wanted, "{path}");
    }
    for path in ["server", "nowhere", "unknown"] {
        assert!(fs::metadata(ann.join(path)).is_err(), "{path}");
    }
    // The same link, as a version of itself.
    let versions = shown.machine().join("versions/sys/p2/Users/ann");
    assert_eq!(
        text(&versions.join("data").join(TIME).join("table.txt")),
        "a table"
    );
    assert_eq!(
        target(&versions.join("data").join(TIME)),
        target(&ann.join("data"))
    );
    let old = versions.join("../../Documents and Settings").join(TIME);
    assert_eq!(names(&old), ["ann"]);
}

/// A disk that does not answer until it is released, and is empty then.
struct Hanging(Arc<AtomicBool>);

impl cairn::ReadAt for Hanging {
    fn size(&self) -> u64 {
        1 << 20
    }
    fn read_exact_at(&self, _: u64, buffer: &mut [u8]) -> cairn::Result<()> {
        while !self.0.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        buffer.fill(0);
        Ok(())
    }
}

/// **[slow-letters]** Which volume a drive letter means is known when all disks of a point have been looked at. Whoever asks first waits three seconds for that; while a disk does not answer nobody waits
/// any longer. Then `files` has no letters, and looking one up fails; a link of Windows that leads to a volume by its letter or its GUID is listed with a size of 4095 bytes, which the kernel keeps for no longer than a second, and reading where it leads fails.
/// Everything else on the disks that answer, other links too, is as ever. Links to letters and GUIDs that no volume is found for are the same after a failure that says nothing of a disk, such as that of a server that is away, until it was tried again some seconds later. A sector that cannot be
/// read is not waited for; `letters.notes` says of either what is not known.
#[test]
fn a_disk_that_hangs_holds_up_no_other() {
    let folder = tempdir().unwrap();
    let Some(Windows { system, data }) = windows(folder.path(), &|_, _| {}) else {
        return;
    };
    let released = Arc::new(AtomicBool::new(false));
    let disk = |name: &str, path: &Path| {
        let disk = DiskView::open_image(path).unwrap().disk().clone();
        DiskView::new(name, disk, None)
    };
    let disks = vec![
        disk("sys", &system),
        disk("data", &data),
        DiskView::new("gone", Arc::new(Hanging(released.clone())), None),
    ];
    let tree = Arc::new(Tree::of_images(disks));
    let (tell, told) = std::sync::mpsc::channel();
    let asked = tree.clone();
    let asker = std::thread::spawn(move || {
        meanwhile(&asked);
        tell.send(()).unwrap();
    });
    let answer = told.recv_timeout(Duration::from_secs(120));
    released.store(true, Ordering::Relaxed);
    answer.expect("a disk that hangs holds up others");
    asker.join().unwrap();
    // Once it answers all is told, and may be kept.
    let ann = look_up(&tree, 1, &["files", "sys", "p2", "Users", "ann"]).unwrap();
    let target = loop {
        let link = look_up(&tree, ann.inode, &["data"]).unwrap();
        match tree.readlink(link.inode) {
            Ok(target) => break target,
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let link = look_up(&tree, ann.inode, &["data"]).unwrap();
    assert_eq!(link.attributes.size, target.len() as u64);
    assert!(link.lasting);
    assert!(target.ends_with(b"../data/p1/Data"));
    assert!(
        look_up(&tree, 1, &["files", "C:", "Users"]).is_err(),
        "a link is no folder"
    );
    assert!(look_up(&tree, 1, &["files", "C:"]).is_ok());
}

/// What is told while a disk hangs.
fn meanwhile(tree: &Tree) {
    const EIO: i32 = 5;
    let ann = look_up(tree, 1, &["files", "sys", "p2", "Users", "ann"]).unwrap();
    let listed = tree.readdir(ann.inode).unwrap();
    let of = |name: &str| {
        let found = listed.iter().find(|listed| listed.name == name.as_bytes());
        found.unwrap().stat.clone().unwrap()
    };
    for name in ["data", "volume"] {
        for stat in [of(name), look_up(tree, ann.inode, &[name]).unwrap()] {
            assert_eq!(
                (stat.attributes.size, stat.lasting),
                (4095, false),
                "{name}"
            );
            assert_eq!(stat.attributes.kind, cairn::EntryKind::Symlink);
            assert_eq!(tree.readlink(stat.inode).unwrap_err().errno(), EIO);
        }
    }
    // The file system's own, and one to the root of its own volume.
    assert_eq!(of("rel").attributes.size, 9);
    assert!(of("rel").lasting);
    assert_eq!(tree.readlink(of("rel").inode).unwrap(), b"notes.txt");
    let rooted = look_up(tree, ann.inode, &["deep", "rooted"]).unwrap();
    assert!(rooted.lasting && tree.readlink(rooted.inode).is_ok());
    let notes = look_up(tree, ann.inode, &["notes.txt"]).unwrap();
    let mut text = [0; 11];
    tree.open(notes.inode).unwrap().read(0, &mut text).unwrap();
    assert_eq!(&text, b"ann's notes");
    let files = look_up(tree, 1, &["files"]).unwrap();
    let listed = tree.readdir(files.inode).unwrap();
    let names: Vec<&[u8]> = listed.iter().skip(2).map(|listed| &*listed.name).collect();
    assert_eq!(names, [&b"sys"[..], b"data", b"gone"]);
    for name in ["C:", "letters.notes"] {
        assert_eq!(look_up(tree, files.inode, &[name]).unwrap_err(), EIO);
    }
}

/// What is at a path, or the errno of why not.
fn look_up(tree: &Tree, from: u64, path: &[&str]) -> Result<Stat, i32> {
    let mut at = tree.getattr(from).map_err(|failure| failure.errno())?;
    for name in path {
        match tree.lookup(at.inode, name.as_bytes()) {
            Ok(Found::Node(stat)) => at = *stat,
            Ok(Found::Nothing { .. }) => return Err(2),
            Err(failure) => return Err(failure.errno()),
        }
    }
    Ok(at)
}

#[test]
fn links_of_windows_work_in_images() {
    let folder = tempdir().unwrap();
    if !fuse_is_there() {
        return;
    }
    let Some(made) = windows(folder.path(), &|_, _| {}) else {
        return;
    };
    let look = Look {
        ignore_case: true,
        ..Look::default()
    };
    let options = MountOptions {
        look,
        ..MountOptions::default()
    };
    let image = image_with(&made.system, &options).unwrap();
    let settings = image.at("files/disk0/p2/Documents and Settings");
    assert_eq!(target(&settings), "../../disk0/p2/Users");
    assert_eq!(text(&settings.join("ann/deep/rooted")), "ann's notes");
    // Letters in other letters, where that is asked for.
    assert_eq!(
        text(&image.at("files/c:/users/ANN/notes.TXT")),
        "ann's notes"
    );
    // D: is not on this disk.
    assert_eq!(target(&image.at("files/C:/Users/ann/data")), "/??/D:/Data");
}

/// A disk whose bytes in a range cannot be read, for the reason of this number, unless that is 0.
struct Failing {
    disk: Arc<dyn cairn::ReadAt>,
    range: Range<u64>,
    errno: Arc<AtomicI32>,
}

impl cairn::ReadAt for Failing {
    fn size(&self) -> u64 {
        self.disk.size()
    }
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> cairn::Result<()> {
        let errno = self.errno.load(Ordering::Relaxed);
        let is_hit = offset < self.range.end && offset + buffer.len() as u64 > self.range.start;
        if errno != 0 && is_hit {
            let error = std::io::Error::from_raw_os_error(errno);
            return Err(cairn::Error::io("cannot read", Path::new("data"), error));
        }
        self.disk.read_exact_at(offset, buffer)
    }
}

/// Both disks; the head of the volume on the second one cannot be read while the number is not 0.
fn failing(folder: &Path, errno: &Arc<AtomicI32>) -> Option<Tree> {
    let Windows { system, data } = windows(folder, &|_, _| {})?;
    let [system, data] = [system, data].map(|path| {
        let view = DiskView::open_image(&path).unwrap();
        view.disk().clone()
    });
    let data = Failing {
        disk: data,
        range: D_START..D_START + 4096,
        errno: errno.clone(),
    };
    Some(Tree::of_images(vec![
        DiskView::new("sys", system, None),
        DiskView::new("data", Arc::new(data), None),
    ]))
}

/// Links to volumes that are not there, and where they lead to once that is known.
const NOWHERE: [(&str, &str); 2] = [
    ("nowhere", "/??/X:/dir"),
    (
        "unknown",
        "/??/Volume{99999999-89ab-cdef-0123-456789abcdef}",
    ),
];

#[test]
fn a_bad_sector_is_not_waited_for() {
    let folder = tempdir().unwrap();
    let errno = Arc::new(AtomicI32::new(5));
    let Some(tree) = failing(folder.path(), &errno) else {
        return;
    };
    let ann = look_up(&tree, 1, &["files", "sys", "p2", "Users", "ann"]).unwrap();
    for (name, wanted) in NOWHERE {
        let link = look_up(&tree, ann.inode, &[name]).unwrap();
        assert_eq!(
            (link.attributes.size, link.lasting),
            (wanted.len() as u64, true),
            "{name}"
        );
        assert_eq!(tree.readlink(link.inode).unwrap(), wanted.as_bytes());
    }
    let files = look_up(&tree, 1, &["files"]).unwrap();
    let absent = tree.lookup(files.inode, b"Q:").unwrap();
    assert_eq!(absent, Found::Nothing { lasting: true });
    // What could not be looked at is told, and the partition has its letter all the same.
    let notes = String::from_utf8(content(&tree, "files/letters.notes")).unwrap();
    assert!(notes.contains("data/p1"), "{notes}");
    assert_eq!(target_of(&tree, "files/D:"), "data/p1");
}

#[test]
fn a_server_that_was_away_is_asked_again() {
    const ETIMEDOUT: i32 = 110;
    let folder = tempdir().unwrap();
    let errno = Arc::new(AtomicI32::new(ETIMEDOUT));
    let Some(tree) = failing(folder.path(), &errno) else {
        return;
    };
    let ann = look_up(&tree, 1, &["files", "sys", "p2", "Users", "ann"]).unwrap();
    let files = look_up(&tree, 1, &["files"]).unwrap();
    for (name, _) in NOWHERE {
        let link = look_up(&tree, ann.inode, &[name]).unwrap();
        assert_eq!((link.attributes.size, link.lasting), (4095, false));
        let Err(Failure::Engine(error)) = tree.readlink(link.inode) else {
            panic!("where `{name}` leads to cannot be known");
        };
        let said = error.to_string();
        assert!(said.contains("could not be read just now"), "{said}");
    }
    let absent = tree.lookup(files.inode, b"Q:").unwrap();
    assert_eq!(absent, Found::Nothing { lasting: false });
    errno.store(0, Ordering::Relaxed);
    let link = || look_up(&tree, ann.inode, &[NOWHERE[0].0]).unwrap();
    let is_known = (0..1200).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        link().lasting
    });
    assert!(is_known, "the disk is not asked again");
    assert_eq!(tree.readlink(link().inode).unwrap(), b"/??/X:/dir");
    let absent = tree.lookup(files.inode, b"letters.notes").unwrap();
    assert_eq!(absent, Found::Nothing { lasting: true });
}

/// Where a link of the mount's own leads to.
fn target_of(tree: &Tree, path: &str) -> String {
    let link = shared::asked::find(tree, path);
    String::from_utf8(tree.readlink(link.inode).unwrap()).unwrap()
}
