//! What the tree shows of stores and images, asked directly, without a kernel.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests are here"
)]

mod shared;

use cairn::{DiskView, EntryKind, Error, Kind, Store, Time};
use cairn_fuse::{Look, Tree, journal::Journal, tree::Found};
use shared::asked::{LATEST, content, damage, find, image, names, record_of, try_find};
use shared::{back_up, fixture, store};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tempfile::tempdir;

/// **[store]** The root of a mounted store holds a folder for every machine that has a point. A machine's folder holds a
/// folder for every point, named by its time (`2026-11-20T02-00-00Z`); in it lie `disks/<disk>.raw` and
/// `files/<disk>/p<N>/`.
#[test]
fn a_store_shows_machines_points_disks_and_files() {
    let temp = tempdir().unwrap();
    let tree = Tree::of_store(store(temp.path()));
    assert_eq!(names(&tree, ""), ["db", "web01"]);
    assert_eq!(
        names(&tree, "web01"),
        [
            "2026-11-19T02-00-00Z",
            "2026-11-20T02-00-00Z",
            "latest",
            "versions"
        ]
    );
    assert_eq!(names(&tree, LATEST), ["disks", "files"]);
    assert_eq!(
        names(&tree, &format!("{LATEST}/disks")),
        ["disk0.raw", "disk0.vhd", "disk0.vhdx"]
    );
    assert_eq!(names(&tree, &format!("{LATEST}/files")), ["disk0"]);
    let hostname = format!("{LATEST}/files/disk0/p1/etc/hostname");
    assert_eq!(content(&tree, &hostname), b"web01\n");
    let raw = find(&tree, &format!("{LATEST}/disks/disk0.raw"));
    assert_eq!(
        raw.attributes.size,
        fs::metadata(&fixture().disk).unwrap().len()
    );
    let whole = content(&tree, &format!("{LATEST}/disks/disk0.raw"));
    assert!(whole == fs::read(&fixture().disk).unwrap());
    assert_eq!(
        find(&tree, LATEST).attributes.modified,
        Time::parse("2026-11-20T02:00:00Z").unwrap()
    );
}

/// **[image]** The root of a mounted disk image holds `disks/disk0.raw` and `files/disk0/p<N>/` straight away.
#[test]
fn an_image_shows_its_disk_straight_away() {
    let tree = image();
    assert_eq!(names(&tree, ""), ["disks", "files"]);
    let disks = ["disk0.raw", "disk0.vhd", "disk0.vhdx"];
    assert_eq!(names(&tree, "disks"), disks);
    assert_eq!(content(&tree, "files/disk0/p1/etc/hostname"), b"web01\n");
    assert!(content(&tree, "disks/disk0.raw") == fs::read(&fixture().disk).unwrap());
}

/// **[latest]** `latest` in a machine's folder is a symbolic link to the point with the highest sequence number that is
/// not an import. A machine with nothing but imports has no such link, and neither has one whose newest point cannot be
/// read.
#[test]
fn latest_is_the_newest_that_is_no_import() {
    let temp = tempdir().unwrap();
    let store = store(temp.path());
    let import = back_up(&store, "web01", Some("2026-11-18T02:00:00Z"));
    assert!(import.record.import && import.record.sequence == 3);
    let tree = Tree::of_store(store.clone());
    let link = find(&tree, "web01/latest");
    assert_eq!(link.attributes.kind, EntryKind::Symlink);
    assert_eq!(tree.readlink(link.inode).unwrap(), b"2026-11-20T02-00-00Z");
    assert_eq!(link.attributes.size, 20);
    assert!(!link.lasting);
    // What a newer point that cannot be read would say is not known: no link rather than a wrong one.
    let newest = back_up(&store, "web01", Some("2026-11-21T02:00:00Z"));
    damage(&record_of(temp.path(), &newest.id.to_string()));
    let tree = Tree::of_store(store.clone());
    assert!(try_find(&tree, "web01/latest").is_none());
    // Only the import is left of `web01`'s points that can be read.
    for point in store.points(Some("web01")).unwrap().points {
        if !point.record.import {
            fs::remove_file(record_of(temp.path(), &point.id.to_string())).unwrap();
        }
    }
    fs::remove_file(record_of(temp.path(), &newest.id.to_string())).unwrap();
    let tree = Tree::of_store(store);
    assert_eq!(names(&tree, "web01"), ["2026-11-18T02-00-00Z", "versions"]);
    assert!(try_find(&tree, "web01/latest").is_none());
}

/// **[partitions]** `files/<disk>` has a folder for every partition that holds a file system or something unknown, by
/// the number that the guest's kernel gives it; `p0` is a disk without partitions. Empty partitions have none.
#[test]
fn partitions_with_something_in_them_are_listed() {
    assert_eq!(
        names(&image(), "files/disk0"),
        ["p1", "p2", "p3", "p3.error"]
    );
    let temp = tempdir().unwrap();
    let bare = temp.path().join("bare.raw");
    let part = shared::PARTITIONS[1];
    let disk = fs::read(&fixture().disk).unwrap();
    fs::write(
        &bare,
        &disk[(part.0 << 20) as usize..((part.0 + part.1) << 20) as usize],
    )
    .unwrap();
    let tree = Tree::of_image(DiskView::open_image(&bare).unwrap());
    assert_eq!(names(&tree, "files/disk0"), ["p0"]);
    assert_eq!(
        content(&tree, "files/disk0/p0/report.txt"),
        b"windows says hello"
    );
}

/// **[error]** A partition that cannot be read is an empty folder `p<N>` beside `p<N>.error`, a text file that says in
/// sentences what is wrong. Its neighbours are not affected. A disk whose partition table cannot be read has the one
/// file `partitions.error`.
#[test]
fn what_cannot_be_read_is_explained_beside_an_empty_folder() {
    let tree = image();
    assert_eq!(names(&tree, "files/disk0/p3"), [""; 0]);
    let said = String::from_utf8(content(&tree, "files/disk0/p3.error")).unwrap();
    assert!(
        said.contains("partition 3 of disk0") && said.ends_with(".\n") || said.ends_with("it.\n"),
        "{said}"
    );
    let stat = find(&tree, "files/disk0/p3.error");
    assert_eq!(stat.attributes.size, said.len() as u64);
    assert!(!stat.lasting && !find(&tree, "files/disk0/p3").lasting);
    assert!(find(&tree, "files/disk0/p1/etc").lasting);
    assert!(try_find(&tree, "files/disk0/p1.error").is_none());
    assert!(try_find(&tree, "files/disk0/p4").is_none());

    struct Broken;
    impl cairn::ReadAt for Broken {
        fn size(&self) -> u64 {
            1 << 30
        }
        fn read_exact_at(&self, offset: u64, _: &mut [u8]) -> cairn::Result<()> {
            Err(Error::new(Kind::Io, "the disk is broken").at_offset(offset))
        }
    }
    let tree = Tree::of_image(DiskView::new("disk0", Arc::new(Broken), None));
    assert_eq!(names(&tree, "files/disk0"), ["partitions.error"]);
    let said = String::from_utf8(content(&tree, "files/disk0/partitions.error")).unwrap();
    assert!(said.contains("the disk is broken"), "{said}");
    assert_eq!(
        names(&tree, "disks"),
        ["disk0.raw", "disk0.vhd", "disk0.vhdx"]
    );
}

/// What is on an image, and the lines that the program is told.
fn opened(disk: &Path) -> (Tree, Arc<Mutex<Vec<String>>>) {
    let lines = Arc::new(Mutex::new(Vec::<String>::new()));
    let sink = lines.clone();
    let journal = Journal::new(Arc::new(move |line: &str| {
        sink.lock().unwrap().push(line.into())
    }));
    let tree = Tree::of_image(DiskView::open_image(disk).unwrap());
    (tree.shown(Look::default(), Arc::new(journal)), lines)
}

/// **[notes]** Beside `p<N>` a text file `p<N>.notes` says what there is to know of its file system: first why what is shown may be old, missing or wrong (a
/// journal that cannot be replayed, a superblock that is damaged), then what is merely so (a journal that was replayed in memory). When the volume is opened the
/// program is told the former too, in a line each. Where there is nothing to say there is no such file.
#[test]
fn what_is_to_be_known_of_a_volume_stands_beside_it() {
    let temp = tempdir().unwrap();
    let disk = temp.path().join("disk.raw");
    fs::copy(&fixture().disk, &disk).unwrap();
    let part = format!(
        "{}?offset={}",
        shared::text(&disk),
        shared::PARTITIONS[0].0 << 20
    );
    let debugfs = |question: &str| shared::run("debugfs", &["-w", "-R", question, &part]);
    let journal: u64 = debugfs("bmap <8> 0").trim().parse().unwrap();
    let told = debugfs("stats -h");
    let size = told
        .lines()
        .find_map(|line| line.strip_prefix("Block size:"));
    let at =
        (shared::PARTITIONS[0].0 << 20) + journal * size.unwrap().trim().parse::<u64>().unwrap();
    debugfs("feature needs_recovery");
    let listed = ["p1", "p1.notes", "p2", "p3", "p3.error"];
    let (tree, lines) = opened(&disk);
    assert_eq!(names(&tree, "files/disk0"), listed);
    let said = String::from_utf8(content(&tree, "files/disk0/p1.notes")).unwrap();
    assert!(
        said.contains("Good to know:\n- The journal was replayed in memory"),
        "{said}"
    );
    assert!(!said.contains("wrong"), "{said}");
    assert!(lines.lock().unwrap().is_empty());

    let file = fs::OpenOptions::new().write(true).open(&disk).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0; 12], at).unwrap();
    let (tree, lines) = opened(&disk);
    // The files are there all the same.
    assert_eq!(content(&tree, "files/disk0/p1/etc/hostname"), b"web01\n");
    assert_eq!(names(&tree, "files/disk0"), listed);
    let lines = lines.lock().unwrap().clone();
    assert!(
        lines.len() == 1 && lines[0].starts_with("disk 0 p1: The journal cannot be replayed"),
        "{lines:?}"
    );
    let stat = find(&tree, "files/disk0/p1.notes");
    let said = String::from_utf8(content(&tree, "files/disk0/p1.notes")).unwrap();
    assert!(
        said.contains("wrong:\n- The journal cannot be replayed"),
        "{said}"
    );
    assert!(said.starts_with("Partition 1 of disk0 (ext4)"), "{said}");
    assert_eq!(stat.attributes.size, said.len() as u64);
    assert_eq!(
        (stat.attributes.mode, stat.attributes.kind),
        (0o444, EntryKind::File)
    );
    assert_eq!(tree.getattr(stat.inode).unwrap(), stat);
    for none in [
        "p2.notes",
        "p3.notes",
        "p1.error",
        "p1.notes.notes",
        "p9.notes",
    ] {
        assert!(
            try_find(&tree, &format!("files/disk0/{none}")).is_none(),
            "{none}"
        );
    }
}

/// **[damaged-point]** A point whose record cannot be read is listed by its time like any other; in it `point.error` says what is wrong. A file whose name is
/// not a point's any more is shown as `unreadable-<hash>.error` in its machine's folder. A machine whose name and points cannot be
/// read is shown as `<start of a point's id>.error` in the root. All other points stay.
#[test]
fn a_damaged_point_hides_no_other() {
    let temp = tempdir().unwrap();
    let store = store(temp.path());
    let points = store.points(None).unwrap().points;
    let of = |machine: &str| {
        let found = points.iter().find(|point| point.record.machine == machine);
        record_of(temp.path(), &found.unwrap().id.to_string())
    };
    let (web, db) = (of("web01"), of("db"));
    for record in [&web, &db] {
        damage(record);
    }
    let again = || Tree::of_store(Store::open(&temp.path().join("store")).unwrap());
    let tree = again();
    assert_eq!(names(&tree, ""), ["db", "web01"]);
    let both = [
        "2026-11-19T02-00-00Z",
        "2026-11-20T02-00-00Z",
        "latest",
        "versions",
    ];
    assert_eq!(names(&tree, "web01"), both);
    // A point that cannot be read is no `latest`.
    assert_eq!(names(&tree, "db"), ["2026-11-20T03-00-00Z", "versions"]);
    for point in ["db/2026-11-20T03-00-00Z", "web01/2026-11-19T02-00-00Z"] {
        assert_eq!(names(&tree, point), ["disks", "files", "point.error"]);
        let said = content(&tree, &format!("{point}/point.error"));
        let said = String::from_utf8(said).unwrap();
        assert!(said.starts_with("This point cannot be opened: "), "{said}");
        let disks = find(&tree, &format!("{point}/disks")).inode;
        assert_eq!(tree.readdir(disks).unwrap_err().errno(), 5);
    }
    let neighbour = format!("{LATEST}/files/disk0/p1/etc/hostname");
    assert_eq!(content(&tree, &neighbour), b"web01\n");
    what_lost_its_name_is_told(temp.path(), &web, &db);
}

/// `web`, a point of `web01`, and the name of `db`, whose one point is damaged.
fn what_lost_its_name_is_told(path: &Path, web: &Path, db: &Path) {
    let again = || Tree::of_store(Store::open(&path.join("store")).unwrap());
    let id = |record: &Path| {
        let name = record.file_name().unwrap().to_str().unwrap();
        name.rsplit('-').next().unwrap().to_string()
    };
    // Nothing says which point it is, nor that it is not the latest.
    fs::rename(web, web.with_file_name(format!("0000000001-{}", id(web)))).unwrap();
    let tree = again();
    let listed = names(&tree, "web01");
    let [point, error, versions] = &*listed else {
        panic!("{listed:?}");
    };
    assert_eq!(
        (&**point, &**versions),
        ("2026-11-20T02-00-00Z", "versions")
    );
    let unknown = error.starts_with("unreadable-") && error.ends_with(".error");
    assert!(unknown, "{error}");
    let said = |tree: &Tree, path: &str| String::from_utf8(content(tree, path)).unwrap();
    let told = said(&tree, &format!("web01/{error}"));
    assert!(told.starts_with("This recovery point is not listed: ") && told.contains(&id(web)));
    let neighbour = format!("web01/{point}/files/disk0/p1/etc/hostname");
    assert_eq!(content(&tree, &neighbour), b"web01\n");
    fs::remove_file(db.with_file_name("name")).unwrap();
    let tree = again();
    let lost = format!("{}.error", &id(db)[..16]);
    let root: BTreeSet<String> = names(&tree, "").into_iter().collect();
    assert_eq!(root, BTreeSet::from([lost.clone(), "web01".into()]));
    assert!(said(&tree, &lost).starts_with("This recovery point is not listed: "));
}

/// A mount asks for names only until a point is entered; what changes is seen all the same.
#[test]
fn what_changes_among_the_points_is_seen() {
    let temp = tempdir().unwrap();
    let store = store(temp.path());
    let tree = Tree::of_store(store.clone());
    assert_eq!(
        names(&tree, "db"),
        ["2026-11-20T03-00-00Z", "latest", "versions"]
    );
    let newest = back_up(&store, "db", Some("2026-11-21T03:00:00Z"));
    back_up(&store, "New One", Some("2026-11-21T03:00:00Z"));
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(names(&tree, ""), ["New One", "db", "web01"]);
    let link = |tree: &Tree| tree.readlink(find(tree, "db/latest").inode).unwrap();
    assert_eq!(link(&tree), b"2026-11-21T03-00-00Z");
    assert_eq!(
        content(&tree, "db/2026-11-21T03-00-00Z/files/disk0/p1/etc/hostname"),
        b"web01\n"
    );
    fs::remove_file(record_of(temp.path(), &newest.id.to_string())).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(link(&tree), b"2026-11-20T03-00-00Z");
    assert_eq!(
        names(&tree, "db"),
        ["2026-11-20T03-00-00Z", "latest", "versions"]
    );
}

/// **[folder-times]** A machine's folder has the time of its newest point, and the root that of the mount, until points or machines come or go, of whatever time: from then on these, and
/// the folders below `versions`, have a time that is later with each change, by which NFS servers and clients see that lists they keep are old.
#[test]
fn folders_tell_when_their_points_change() {
    let temp = tempdir().unwrap();
    let store = store(temp.path());
    let tree = Tree::of_store(store.clone());
    let times =
        || ["", "web01", "web01/versions", "db"].map(|path| find(&tree, path).attributes.modified);
    let before = times();
    let newest = |time: &str| Time::parse(time).unwrap();
    assert_eq!(before[1], newest("2026-11-20T02:00:00Z"));
    assert_eq!(before[3], newest("2026-11-20T03:00:00Z"));
    let import = back_up(&store, "web01", Some("2026-11-18T02:00:00Z"));
    back_up(&store, "third", Some("2026-11-18T02:00:00Z"));
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let added = times();
    assert!((0..3).all(|at| added[at] > before[at]), "{added:?}");
    assert_eq!(added[3], before[3]);
    fs::remove_file(record_of(temp.path(), &import.id.to_string())).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let gone = times();
    assert!((1..3).all(|at| gone[at] > added[at]), "{gone:?}");
    assert_eq!([gone[0], gone[3]], [added[0], added[3]]);
    // In the next mount it may be another list of the same time.
    let changed = |tree: &Tree| find(tree, "db").attributes.changed;
    assert!(changed(&Tree::of_store(store)) > changed(&tree));
}

/// **[names]** A machine, point or disk has one name, in exactly these letters. Below `p<N>` the guest's file system
/// compares names by its own rules: NTFS without regard to case, ext4 with it.
#[test]
fn names_are_compared_as_their_owners_do() {
    let temp = tempdir().unwrap();
    let tree = Tree::of_store(store(temp.path()));
    for nothing in [
        "WEB01",
        "web01/2026-11-20T02:00:00Z",
        "web01/2026-11-20T03-00-00+01:00",
        "web01/2026-11-20T02-00-01Z",
        "web01/LATEST",
        "a@b",
        "..x/y",
    ] {
        assert!(try_find(&tree, nothing).is_none(), "{nothing}");
    }
    let files = format!("{LATEST}/files/disk0");
    let report = find(&tree, &format!("{files}/p2/Report.TXT"));
    assert_eq!(
        find(&tree, &format!("{files}/p2/rEPORT.txt")).inode,
        report.inode
    );
    assert!(try_find(&tree, &format!("{files}/p1/ETC")).is_none());
    assert!(try_find(&tree, &format!("{files}/P1")).is_none());
    assert!(try_find(&tree, &format!("{LATEST}/disks/disk0")).is_none());
    assert!(try_find(&tree, &format!("{LATEST}/disks/disk1.raw")).is_none());
    // What is not there can be remembered where nothing can come to be, and only there.
    let negative =
        |path: &str, name: &str| match tree.lookup(find(&tree, path).inode, name.as_bytes()) {
            Ok(Found::Nothing { lasting }) => lasting,
            other => panic!("{path}/{name}: {other:?}"),
        };
    assert!(negative(&format!("{files}/p1"), "nothing"));
    assert!(!negative("", "nothing") && !negative("web01", "nothing") && !negative(&files, "p9"));
}

/// **[closed-point]** A point that cannot be opened has a file `point.error` beside `disks` and `files`, which cannot be listed then. Once
/// it can be opened again, the file is gone.
#[test]
fn a_point_that_cannot_be_opened_says_why() {
    let temp = tempdir().unwrap();
    let tree = Tree::of_store(store(temp.path()));
    assert_eq!(names(&tree, "web01").len(), 4);
    let sessions = temp.path().join("store/sessions");
    let states = ["state.0", "state.1"].map(|name| temp.path().join("store").join(name));
    let kept = states
        .clone()
        .map(|state| fs::read(state).unwrap_or_default());
    for state in &states {
        fs::write(state, "nothing").unwrap();
    }
    assert!(sessions.exists());
    assert_eq!(names(&tree, LATEST), ["disks", "files", "point.error"]);
    let said = String::from_utf8(content(&tree, &format!("{LATEST}/point.error"))).unwrap();
    assert!(said.starts_with("This point cannot be opened: "), "{said}");
    let disks = find(&tree, &format!("{LATEST}/disks")).inode;
    assert_eq!(tree.readdir(disks).unwrap_err().errno(), 5);
    for (state, bytes) in states.iter().zip(kept) {
        fs::write(state, bytes).unwrap();
    }
    assert_eq!(names(&tree, LATEST), ["disks", "files"]);
    assert_eq!(
        names(&tree, &format!("{LATEST}/disks")),
        ["disk0.raw", "disk0.vhd", "disk0.vhdx"]
    );
}
