//! Files and folders in the tree, asked directly, without a kernel.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests are here"
)]

mod shared;

use cairn::{DiskView, EntryKind, Error, Kind, Store, Time};
use cairn_fuse::{Failure, Tree};
use shared::asked::{LATEST, content, files, find, image, names, record_of, walk};
use shared::{fixture, noise, store};
use std::collections::HashMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use tempfile::tempdir;

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
