//! The tree asked directly, without a kernel.

mod shared;

use cairn::{DiskView, EntryKind, Error, Kind, Store, Time};
use cairn_fuse::{Failure, Stat, Tree, tree::Found};
use shared::{back_up, fixture, noise, store};
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use tempfile::tempdir;

const LATEST: &str = "web01/2026-11-20T02-00-00Z";

fn find(tree: &Tree, path: &str) -> Stat {
    try_find(tree, path).unwrap_or_else(|| panic!("{path} is not there"))
}

fn try_find(tree: &Tree, path: &str) -> Option<Stat> {
    let mut at = tree.getattr(1).unwrap();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        match tree.lookup(at.inode, name.as_bytes()).unwrap() {
            Found::Node(stat) => at = *stat,
            Found::Nothing { .. } => return None,
        }
    }
    Some(at)
}

fn names(tree: &Tree, path: &str) -> Vec<String> {
    let listed = tree.readdir(find(tree, path).inode).unwrap();
    assert_eq!(
        (&*listed[0].name, &*listed[1].name),
        (&b"."[..], &b".."[..])
    );
    let mut names: Vec<String> = listed[2..]
        .iter()
        .map(|listed| String::from_utf8(listed.name.clone()).unwrap())
        .collect();
    names.sort();
    names
}

fn content(tree: &Tree, path: &str) -> Vec<u8> {
    let content = tree.open(find(tree, path).inode).unwrap();
    let mut bytes = vec![0; content.size() as usize + 10];
    let read = content.read(0, &mut bytes).unwrap();
    bytes.truncate(read);
    bytes
}

fn image() -> Tree {
    Tree::of_image(DiskView::open_image(&fixture().disk).unwrap())
}

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
        ["2026-11-19T02-00-00Z", "2026-11-20T02-00-00Z", "latest"]
    );
    assert_eq!(names(&tree, LATEST), ["disks", "files"]);
    assert_eq!(names(&tree, &format!("{LATEST}/disks")), ["disk0.raw"]);
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
    assert_eq!(names(&tree, "disks"), ["disk0.raw"]);
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
    assert_eq!(names(&tree, "web01"), ["2026-11-18T02-00-00Z"]);
    assert!(try_find(&tree, "web01/latest").is_none());
}

/// The file of a point in the store.
fn record_of(folder: &Path, id: &str) -> PathBuf {
    let mut folders = vec![folder.join("store")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if entry.file_name().to_str().unwrap().ends_with(id) {
                return entry.path();
            }
        }
    }
    panic!("no record of {id}");
}

fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
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
    let tree = Tree::of_image(DiskView::new("disk0", std::sync::Arc::new(Broken), None));
    assert_eq!(names(&tree, "files/disk0"), ["partitions.error"]);
    let said = String::from_utf8(content(&tree, "files/disk0/partitions.error")).unwrap();
    assert!(said.contains("the disk is broken"), "{said}");
    assert_eq!(names(&tree, "disks"), ["disk0.raw"]);
}

/// **[damaged-point]** A point whose record cannot be read is shown as `<start of its id>.error` in its machine's
/// folder, or in the root if no point of its machine can be read. All other points stay.
#[test]
fn a_damaged_point_hides_no_other() {
    let temp = tempdir().unwrap();
    let store = store(temp.path());
    let points = store.points(None).unwrap().points;
    let of = |machine: &str| {
        points
            .iter()
            .find(|point| point.record.machine == machine)
            .unwrap()
            .id
            .to_string()
    };
    for machine in ["web01", "db"] {
        damage(&record_of(temp.path(), &of(machine)));
    }
    let tree = Tree::of_store(Store::open(&temp.path().join("store")).unwrap());
    let file = |machine: &str| format!("{}.error", &of(machine)[..16]);
    assert_eq!(
        names(&tree, ""),
        BTreeSet::from([file("db"), "web01".into()])
            .into_iter()
            .collect::<Vec<_>>()
    );
    let listed: BTreeSet<String> = names(&tree, "web01").into_iter().collect();
    assert_eq!(
        listed,
        BTreeSet::from([
            file("web01"),
            "2026-11-20T02-00-00Z".into(),
            "latest".into()
        ])
    );
    for path in [file("db"), format!("web01/{}", file("web01"))] {
        let said = String::from_utf8(content(&tree, &path)).unwrap();
        assert!(
            said.starts_with("This recovery point is not listed: "),
            "{said}"
        );
    }
    assert_eq!(
        content(&tree, &format!("{LATEST}/files/disk0/p1/etc/hostname")),
        b"web01\n"
    );
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

/// **[inodes]** An inode number stands for the same thing as long as the mount lives, and for the same thing in the next
/// mount of the store. Hard links of a guest's file share one number. (When two of thousands of volumes visited in one
/// mount fall on the same hash, one of them may be numbered anew in the next mount.)
#[test]
fn inode_numbers_are_stable() {
    let temp = tempdir().unwrap();
    let store = store(temp.path());
    let (one, other) = (Tree::of_store(store.clone()), Tree::of_store(store));
    // The other mount visits in the opposite order.
    let mut paths = walk(&one, "");
    assert!(paths.len() > 2000, "{}", paths.len());
    paths.reverse();
    for (path, inode) in &paths {
        assert_eq!(find(&other, path).inode, *inode, "{path}");
    }
    for (path, inode) in &paths {
        assert_eq!(one.getattr(*inode).unwrap().inode, *inode, "{path}");
    }
    let mut by_inode: HashMap<u64, Vec<&str>> = HashMap::new();
    for (path, inode) in &paths {
        by_inode.entry(*inode).or_default().push(path);
    }
    for (inode, paths) in by_inode {
        let links = one.getattr(inode).unwrap().attributes.links as usize;
        assert!(
            paths.len() == 1 || paths.len() == links && paths[0].contains("large"),
            "{paths:?}"
        );
    }
    assert!(matches!(one.getattr(0), Err(Failure::Stale)));
    assert!(matches!(one.getattr(u64::MAX), Err(Failure::Stale)));
}

/// All paths below `path` and their inode numbers. The number in the folder is the one of the look-up.
fn walk(tree: &Tree, path: &str) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    let mut folders = vec![(path.to_string(), find(tree, path).inode)];
    while let Some((path, inode)) = folders.pop() {
        for listed in tree.readdir(inode).unwrap().into_iter().skip(2) {
            let name = String::from_utf8(listed.name).unwrap();
            let full = format!("{path}/{name}");
            assert_eq!(listed.stat.unwrap().inode, listed.inode, "{full}");
            if listed.kind == EntryKind::Folder {
                folders.push((full.clone(), listed.inode));
            }
            found.push((full, listed.inode));
        }
    }
    found
}

/// **[readdir]** Reading a folder in pieces tells every name once. An entry whose attributes cannot be read is listed
/// all the same; asking for it gives the error.
#[test]
fn a_folder_read_in_pieces_tells_every_name_once() {
    let tree = image();
    for path in ["files/disk0/p1/many", "files/disk0/p2", "files/disk0", ""] {
        let folder = tree.open_folder(find(&tree, path).inode).unwrap();
        let whole: Vec<Vec<u8>> = tree
            .readdir(find(&tree, path).inode)
            .unwrap()
            .into_iter()
            .map(|listed| listed.name)
            .collect();
        for (piece, full) in [(1, true), (1, false), (7, true), (40, false), (1000, true)] {
            let (mut seen, mut offset) = (Vec::new(), 0);
            loop {
                let before = seen.len();
                tree.read_folder(&folder, offset, full, &mut |listed| {
                    if seen.len() - before == piece {
                        return ControlFlow::Break(());
                    }
                    offset = listed.offset;
                    seen.push(listed.name);
                    ControlFlow::Continue(())
                })
                .unwrap();
                if seen.len() == before {
                    break;
                }
            }
            assert_eq!(seen, whole, "{path} in pieces of {piece}");
        }
    }
    // An inode that is torn apart: its name stays.
    let temp = tempdir().unwrap();
    let torn = temp.path().join("torn.raw");
    fs::copy(&fixture().disk, &torn).unwrap();
    tear_inode(&torn, "etc/deep/er/still/empty");
    let tree = Tree::of_image(DiskView::open_image(&torn).unwrap());
    assert_eq!(names(&tree, "files/disk0/p1/etc/deep/er/still"), ["empty"]);
    let folder = find(&tree, "files/disk0/p1/etc/deep/er/still").inode;
    let listed = tree.readdir(folder).unwrap().pop().unwrap();
    assert_eq!(listed.stat, None);
    assert_eq!(tree.lookup(folder, b"empty").unwrap_err().errno(), 5);
    assert_eq!(content(&tree, "files/disk0/p1/etc/hostname"), b"web01\n");
}

/// Overwrites an inode of the ext4 partition, so that its checksum is wrong.
fn tear_inode(disk: &Path, path: &str) {
    use std::os::unix::fs::FileExt;
    let start = shared::PARTITIONS[0].0 << 20;
    let image = format!("{}?offset={start}", disk.display());
    let said = shared::run("debugfs", &["-R", &format!("imap /{path}"), &image]);
    let place = said.split("located at block ").nth(1).expect("a block");
    let (block, offset) = place.trim().split_once(", offset 0x").expect("an offset");
    let stats = shared::run("debugfs", &["-R", "stats -h", &image]);
    let size = stats
        .lines()
        .find_map(|line| line.strip_prefix("Block size:"))
        .unwrap();
    let at = start
        + block.parse::<u64>().unwrap() * size.trim().parse::<u64>().unwrap()
        + u64::from_str_radix(offset.trim(), 16).unwrap();
    let file = fs::OpenOptions::new().write(true).open(disk).unwrap();
    file.write_all_at(&noise(100, 8), at).unwrap();
}

/// **[read]** A read gives the bytes asked for up to the end of the file, or it fails; it never gives zeros for what
/// could not be read.
#[test]
fn a_read_is_complete_or_fails() {
    let tree = image();
    let source = fs::read(fixture().source.join("large")).unwrap();
    let large = tree
        .open(find(&tree, "files/disk0/p1/large").inode)
        .unwrap();
    for (offset, length) in [
        (0, 1),
        (4095, 2),
        (1_234_567, 70_000),
        (4_999_999, 100),
        (5_000_000, 1),
        (1 << 40, 9),
    ] {
        let mut buffer = vec![0xee; length];
        let read = large.read(offset, &mut buffer).unwrap();
        let wanted = source.get(offset as usize..).unwrap_or_default();
        assert_eq!(
            buffer[..read],
            wanted[..length.min(wanted.len())],
            "{offset}"
        );
    }
    let inode = find(&tree, "files/disk0/p1/etc").inode;
    assert!(matches!(tree.open(inode), Err(Failure::IsAFolder)));
    assert!(matches!(
        tree.open(find(&tree, "files/disk0/p1/link").inode),
        Err(Failure::Invalid)
    ));

    // A pack of the store is cut off: some reads fail, none gives anything but the guest's bytes.
    let temp = tempdir().unwrap();
    drop(store(temp.path()));
    let largest = files(&temp.path().join("store"))
        .into_iter()
        .max_by_key(|file| fs::metadata(file).unwrap().len())
        .unwrap();
    let mut bytes = fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0);
    fs::write(&largest, bytes).unwrap();
    let tree = Tree::of_store(Store::open(&temp.path().join("store")).unwrap());
    let raw = tree
        .open(find(&tree, &format!("{LATEST}/disks/disk0.raw")).inode)
        .unwrap();
    let truth = fs::read(&fixture().disk).unwrap();
    let (mut failed, mut buffer) = (0, vec![0; 64 << 10]);
    for (number, piece) in truth.chunks(buffer.len()).enumerate() {
        let length = piece.len();
        match raw.read(number as u64 * (64 << 10), &mut buffer[..length]) {
            Ok(read) => assert!(
                read == length && buffer[..length] == *piece,
                "piece {number}"
            ),
            Err(failure) => {
                assert_eq!(failure.errno(), 5);
                failed += 1;
            }
        }
    }
    assert!(
        failed > 0 && failed < truth.len() / buffer.len() / 4,
        "{failed} reads failed"
    );
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut folders, mut found) = (vec![folder.to_path_buf()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    found
}

/// **[nlink]** The number of links is the guest's. It is never 0, and for folders never less than 2.
#[test]
fn links_are_never_too_few() {
    let temp = tempdir().unwrap();
    let tree = Tree::of_store(store(temp.path()));
    for (path, inode) in walk(&tree, "") {
        let stat = tree.getattr(inode).unwrap();
        let least = if stat.attributes.kind == EntryKind::Folder {
            2
        } else {
            1
        };
        assert!(stat.links() >= least, "{path}");
    }
    let files = format!("{LATEST}/files/disk0/p1");
    assert_eq!(find(&tree, &format!("{files}/large")).links(), 2);
    // `etc` holds one folder: its name, its `.`, and that folder's `..`.
    assert_eq!(find(&tree, &format!("{files}/etc")).links(), 3);
}

/// **[statfs]** `df` on a guest's folder shows the size and the free space that the guest's file system counts.
#[test]
fn sizes_are_the_guests() {
    let tree = image();
    for (path, blocks) in [("files/disk0/p1", 64 << 20), ("files/disk0/p2", 16 << 20)] {
        let space = tree.statfs(find(&tree, path).inode).unwrap();
        let bytes = space.blocks * u64::from(space.block_size);
        assert!(
            bytes > blocks * 9 / 10 && bytes <= blocks,
            "{path}: {space:?}"
        );
        assert!(
            space.free > 0 && space.free < space.blocks,
            "{path}: {space:?}"
        );
    }
    let disk = tree.statfs(find(&tree, "files/disk0").inode).unwrap();
    assert_eq!(disk.blocks * u64::from(disk.block_size), 96 << 20);
    assert_eq!(tree.statfs(1).unwrap().blocks, 0);
}

/// **[errors]** A damaged structure is EIO; something well-formed that this version does not read is EOPNOTSUPP; what
/// is not there is ENOENT. Each kind of error of the engine has exactly one errno.
#[test]
fn every_kind_has_its_errno() {
    let wanted = [
        (Kind::NotFound, 2),
        (Kind::Interrupted, 4),
        (Kind::Io, 5),
        (Kind::Damaged, 5),
        (Kind::Denied, 13),
        (Kind::Busy, 16),
        (Kind::Exists, 17),
        (Kind::Invalid, 22),
        (Kind::Full, 28),
        (Kind::Unsupported, 95),
    ];
    for (kind, errno) in wanted {
        assert_eq!(
            Failure::from(Error::new(kind, "x")).errno(),
            errno,
            "{kind:?}"
        );
    }
}

/// **[open-files]** An open file or folder keeps its point open. A point that is forgotten stays readable for whoever
/// has a file of it open.
#[test]
fn open_files_outlive_their_point() {
    let temp = tempdir().unwrap();
    let store = store(temp.path());
    let tree = Tree::of_store(store.clone());
    let folder = format!("{LATEST}/files/disk0/p1");
    let large = tree
        .open(find(&tree, &format!("{folder}/large")).inode)
        .unwrap();
    let open = tree.open_folder(find(&tree, &folder).inode).unwrap();
    let point = store.find_point("web01@2026-11-20T02-00-00Z").unwrap();
    fs::remove_file(record_of(temp.path(), &point.id.to_string())).unwrap();
    let mut bytes = vec![0; 5_000_000];
    assert_eq!(large.read(0, &mut bytes).unwrap(), bytes.len());
    assert!(bytes == fs::read(fixture().source.join("large")).unwrap());
    let mut count = 0;
    tree.read_folder(&open, 0, true, &mut |_| {
        count += 1;
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(count > 5);
}

/// **[memory]** No table of visited files is kept: looking at a million files takes no more memory than looking at
/// one.
#[test]
fn files_that_were_visited_leave_no_trace() {
    let tree = image();
    walk(&tree, "");
    let slots = tree.slots_in_use();
    // Two volumes, and nothing for any of their files.
    assert_eq!(slots, 2);
    for _ in 0..3 {
        walk(&tree, "");
    }
    assert_eq!(tree.slots_in_use(), slots);
}

/// More points than are kept open at a time: their numbers go on working.
#[test]
fn closed_points_are_opened_again() {
    let temp = tempdir().unwrap();
    let store = Store::create(&temp.path().join("store")).unwrap();
    for day in 1..=20 {
        let image = vec![day as u8; 100_000];
        let disk = cairn::DiskImage::from_reader("disk0", std::sync::Arc::new(image));
        let mut options = cairn::BackupOptions::new("m");
        options.time = Some(Time::from_seconds(86_400 * day));
        store.backup(vec![disk], &options, &cairn::Silent).unwrap();
    }
    let tree = Tree::of_store(store);
    let raws: Vec<u64> = (1..=20)
        .map(|day| {
            let time = Time::from_seconds(86_400 * day).folder_name();
            find(&tree, &format!("m/{time}/disks/disk0.raw")).inode
        })
        .collect();
    for (day, inode) in raws.iter().enumerate() {
        let mut byte = [0];
        assert_eq!(tree.read(*inode, 99_999, &mut byte).unwrap(), 1);
        assert_eq!(usize::from(byte[0]), day + 1);
    }
}
