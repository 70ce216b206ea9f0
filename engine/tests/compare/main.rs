//! Files that differ between two points, against what the file systems' own tools say.
#![cfg(test)]

mod layout;
#[path = "../shared/mod.rs"]
mod shared;

use cairn::{
    BackupOptions, Criteria, DiskImage, EntryKind, FileChange, FindEvent, Found, How, Part,
    PointView, Silent, Store, VolumeOf, VolumeView, changed_files, find_files, same_content,
    same_volume,
};
use shared::{have, noise, run, text};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

fn backup(store: &Store, machine: &str, image: &Path) -> PointView {
    let disk = DiskImage::open("disk0", image).unwrap();
    let options = BackupOptions::new(machine);
    let point = store.backup(vec![disk], &options, &Silent).unwrap();
    store.open_point(&point).unwrap()
}

/// What is told, in the order in which it is, and what could not be compared.
fn compare(older: &PointView, newer: &PointView) -> (Vec<FileChange>, Vec<String>) {
    let (mut changes, mut problems) = (Vec::new(), Vec::new());
    changed_files(older, newer, None, &Silent, &mut |found| {
        match found {
            Found::Change(change) => changes.push(change),
            Found::Problem(path, error) => {
                problems.push(format!("{}: {error}", String::from_utf8_lossy(&path)))
            }
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    (changes, problems)
}

fn path(change: &FileChange) -> String {
    let path = String::from_utf8(change.path.clone()).unwrap();
    path.strip_prefix("disk0/p0/").unwrap().to_string()
}

/// Paths and what became of them, sorted.
fn sorted(changes: &[FileChange]) -> Vec<(String, How, EntryKind)> {
    let mut all: Vec<_> = changes.iter().map(|c| (path(c), c.how, c.kind)).collect();
    all.sort_by_key(|(path, how, _)| (path.clone(), *how));
    all
}

/// Everything below a folder: files with their bytes, links with their targets.
fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = text(path.strip_prefix(root).unwrap()).to_string();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            if kind.is_dir() {
                found.insert(format!("{name}/"), Vec::new());
                folders.push(path);
            } else if kind.is_symlink() {
                let target = fs::read_link(&path).unwrap();
                found.insert(format!("{name}@"), text(&target).into());
            } else {
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// What is in one tree and not, or not the same, in the other.
fn truth(old: &Path, new: &Path) -> BTreeSet<(String, How)> {
    let (old, new) = (tree(old), tree(new));
    let mut all = BTreeSet::new();
    for (name, bytes) in &old {
        match new.get(name) {
            None => all.insert((name.clone(), How::Removed)),
            Some(other) if other != bytes => all.insert((name.clone(), How::Changed)),
            Some(_) => false,
        };
    }
    let added = new.keys().filter(|name| !old.contains_key(*name));
    all.extend(added.map(|name| (name.clone(), How::Added)));
    all
}

/// What is told of contents, as [`truth`] has it.
fn contents(changes: &[FileChange]) -> BTreeSet<(String, How)> {
    let counts = |c: &&FileChange| {
        c.how != How::Changed || c.parts.contains(&Part::Content) || c.parts.contains(&Part::Size)
    };
    let mark = |c: &FileChange| match c.kind {
        EntryKind::Folder => "/",
        EntryKind::Symlink => "@",
        _ => "",
    };
    let changes = changes.iter().filter(counts);
    changes
        .map(|c| (format!("{}{}", path(c), mark(c)), c.how))
        .collect()
}

fn debugfs(image: &Path, commands: &[String]) {
    for command in commands {
        run("debugfs", &["-w", "-R", command, text(image)]);
    }
}

/// An ext4 image with many files of all sizes in blocks of 1 KiB, so that several lie in one chunk.
fn filled(temp: &Path) -> PathBuf {
    let tree = temp.join("tree");
    for number in 0..60u64 {
        let folder = tree.join(format!("d{}", number % 6));
        fs::create_dir_all(&folder).unwrap();
        let bytes = noise(200 + (number as usize * 7919) % 90_000, number);
        fs::write(folder.join(format!("f{number}")), bytes).unwrap();
    }
    fs::create_dir_all(tree.join("etc/deep/er")).unwrap();
    fs::write(tree.join("etc/hostname"), "web01\n").unwrap();
    fs::write(tree.join("etc/deep/er/file"), "below\n").unwrap();
    symlink("hostname", tree.join("etc/link")).unwrap();
    symlink("hostname", tree.join("etc/other")).unwrap();
    let image = temp.join("disk.raw");
    let options = ["-q", "-t", "ext4", "-b", "1024", "-O", "inline_data", "-d"];
    let arguments = [&options[..], &[text(&tree), text(&image), "24M"]].concat();
    run("mke2fs", &arguments);
    image
}

/// Changes of every kind.
fn edit(temp: &Path, image: &Path) {
    let new = temp.join("new");
    fs::write(&new, noise(70_000, 99)).unwrap();
    let put = |to: &str| format!("write {} {to}", text(&new));
    debugfs(
        image,
        &[
            "rm /d0/f0".to_string(),
            "rm /d0/f6".to_string(),
            put("/d0/f6"),
            "mkdir /added".to_string(),
            "mkdir /added/more".to_string(),
            put("/added/more/inner"),
            put("/d1/new"),
            "sif /d1/f1 mode 0100600".to_string(),
            "sif /d2/f2 mtime @1000000000".to_string(),
            "sif /d4/f4 uid 1234".to_string(),
            "sif /d5 mtime @1000000000".to_string(),
            "sif /d4 mode 040700".to_string(),
            "rm /etc/link".to_string(),
            "mkdir /etc/link".to_string(),
            put("/etc/link/in"),
            "rm /etc/deep/er/file".to_string(),
            "rmdir /etc/deep/er".to_string(),
        ],
    );
    // Bytes in a file and nothing else of it: the files beside it lie in the same chunk.
    let block = run("debugfs", &["-R", "bmap /d3/f33 3", text(image)]);
    let block: u64 = block.trim().parse().unwrap();
    let file = fs::File::options().write(true).open(image).unwrap();
    file.write_all_at(b"changed", block * 1024 + 500).unwrap();
}

/// What [`edit`] did, sorted.
fn expected() -> Vec<(String, How, EntryKind)> {
    let expected = [
        ("added", How::Added, EntryKind::Folder),
        ("added/more", How::Added, EntryKind::Folder),
        ("added/more/inner", How::Added, EntryKind::File),
        ("d0/f0", How::Removed, EntryKind::File),
        ("d0/f6", How::Changed, EntryKind::File),
        ("d1/f1", How::Changed, EntryKind::File),
        ("d1/new", How::Added, EntryKind::File),
        ("d2/f2", How::Changed, EntryKind::File),
        ("d3/f33", How::Changed, EntryKind::File),
        ("d4", How::Changed, EntryKind::Folder),
        ("d4/f4", How::Changed, EntryKind::File),
        ("etc/deep/er", How::Removed, EntryKind::Folder),
        ("etc/deep/er/file", How::Removed, EntryKind::File),
        ("etc/link", How::Added, EntryKind::Folder),
        ("etc/link", How::Removed, EntryKind::Symlink),
        ("etc/link/in", How::Added, EntryKind::File),
    ];
    let all = expected.into_iter();
    all.map(|(path, how, kind)| (path.to_string(), how, kind))
        .collect()
}

/// What becomes of things if the points are taken the other way round.
fn turned((path, how, kind): (String, How, EntryKind)) -> (String, How, EntryKind) {
    let how = match how {
        How::Added => How::Removed,
        How::Removed => How::Added,
        How::Changed => How::Changed,
    };
    (path, how, kind)
}

/// Copies all files out of an image.
fn dump(image: &Path, target: &Path) {
    fs::create_dir(target).unwrap();
    run(
        "debugfs",
        &["-R", &format!("rdump / {}", text(target)), text(image)],
    );
}

/// A filled disk, and its first point.
struct Started {
    temp: tempfile::TempDir,
    image: PathBuf,
    store: Store,
    older: PointView,
}

/// Nothing where a tool is missing.
fn started() -> Option<Started> {
    if !have(&["mke2fs", "debugfs"]) {
        return None;
    }
    let temp = tempfile::tempdir().unwrap();
    let image = filled(temp.path());
    let store = Store::create(&temp.path().join("store")).unwrap();
    let older = backup(&store, "web01", &image);
    Some(Started {
        temp,
        image,
        store,
        older,
    })
}

#[test]
fn files_of_ext4_are_those_that_debugfs_changed() {
    let Some(Started {
        temp,
        image,
        store,
        older,
    }) = started()
    else {
        return;
    };
    let before = temp.path().join("before");
    dump(&image, &before);

    edit(temp.path(), &image);
    let newer = backup(&store, "web01", &image);
    let after = temp.path().join("after");
    dump(&image, &after);

    let (changes, problems) = compare(&older, &newer);
    assert!(problems.is_empty(), "{problems:?}");
    let expected = expected();
    assert_eq!(sorted(&changes), expected);
    assert_eq!(contents(&changes), truth(&before, &after));
    let parts = |name: &str| {
        let found = changes.iter().find(|change| path(change) == name);
        found.unwrap().parts.clone()
    };
    assert_eq!(parts("d1/f1"), [Part::Mode]);
    assert_eq!(parts("d2/f2"), [Part::Modified]);
    assert_eq!(parts("d4/f4"), [Part::Owner]);
    assert_eq!(parts("d3/f33"), [Part::Content]);
    assert_eq!(parts("d4"), [Part::Mode]);
    assert!(parts("d0/f6").starts_with(&[Part::Content, Part::Size]));

    // The other way round it is the same with the signs changed.
    let (back, problems) = compare(&newer, &older);
    assert!(problems.is_empty());
    let mut back: Vec<_> = sorted(&back).into_iter().map(turned).collect();
    back.sort_by_key(|(path, how, _)| (path.clone(), *how));
    assert_eq!(back, expected);
    // The same image as another machine, and the same point.
    let other = backup(&store, "web02", &image);
    for point in [&newer, &other] {
        assert_eq!(compare(&newer, point), (Vec::new(), Vec::new()));
    }
}

#[test]
fn content_that_lies_elsewhere_is_compared_by_its_bytes() {
    let Some(Started {
        temp,
        image: _,
        store,
        older,
    }) = started()
    else {
        return;
    };
    // The same files, written by another mke2fs with other blocks: nothing lies where it did.
    let moved = temp.path().join("moved.raw");
    fs::write(temp.path().join("tree/d3/f3"), noise(30_000, 4711)).unwrap();
    let small = temp.path().join("tree/etc/hostname");
    let times = fs::metadata(&small).unwrap().modified().unwrap();
    fs::write(&small, "web02\n").unwrap();
    fs::File::options()
        .write(true)
        .open(&small)
        .unwrap()
        .set_modified(times)
        .unwrap();
    let tree = temp.path().join("tree");
    run(
        "mke2fs",
        &[
            "-q",
            "-t",
            "ext4",
            "-b",
            "4096",
            "-d",
            text(&tree),
            text(&moved),
            "24M",
        ],
    );
    let newer = backup(&store, "web01", &moved);
    let (changes, problems) = compare(&older, &newer);
    assert!(problems.is_empty(), "{problems:?}");
    let with_content = contents(&changes);
    let expected = ["d3/f3", "etc/hostname"].map(|name| (name.to_string(), How::Changed));
    assert_eq!(with_content, BTreeSet::from(expected));
}

#[test]
fn files_of_ntfs_are_those_that_ntfscp_changed() {
    if !have(&["mkntfs", "ntfscp"]) {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let image = temp.path().join("disk.raw");
    fs::File::create(&image).unwrap().set_len(24 << 20).unwrap();
    run("mkntfs", &["-F", "-q", "-c", "4096", text(&image)]);
    let file = temp.path().join("file");
    let put = |name: &str, bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        run("ntfscp", &["-q", text(&image), text(&file), name]);
    };
    for number in 0..30u64 {
        let bytes = noise(3000 + (number as usize * 7919) % 200_000, number);
        put(&format!("file {number}.bin"), &bytes);
    }
    put("small.txt", b"a secret that lies in the record of the file");
    put("other.txt", b"another one that does not change");
    let store = Store::create(&temp.path().join("store")).unwrap();
    let older = backup(&store, "pc", &image);

    put("new.bin", &noise(50_000, 77));
    put("file 7.bin", &noise(3000 + 7 * 7919, 78));
    // In the record, and nothing else of it.
    let mut bytes = fs::read(&image).unwrap();
    let secret = b"a secret that lies";
    let at = bytes.windows(secret.len()).position(|part| part == secret);
    bytes[at.unwrap()..][..8].copy_from_slice(b"A SECRET");
    fs::write(&image, bytes).unwrap();
    let newer = backup(&store, "pc", &image);
    let (changes, problems) = compare(&older, &newer);
    assert!(problems.is_empty(), "{problems:?}");
    let expected = [
        ("file 7.bin", How::Changed, EntryKind::File),
        ("new.bin", How::Added, EntryKind::File),
        ("small.txt", How::Changed, EntryKind::File),
    ];
    let expected = expected.map(|(path, how, kind)| (path.to_string(), how, kind));
    assert_eq!(sorted(&changes), expected);
    for name in ["file 7.bin", "small.txt"] {
        let change = changes.iter().find(|change| path(change) == name);
        assert!(change.unwrap().parts.contains(&Part::Content), "{name}");
    }
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_compared() {
    let Some(Started {
        temp: _temp,
        image,
        store,
        older,
    }) = started()
    else {
        return;
    };
    let block = run("debugfs", &["-R", "bmap /d2 0", text(&image)]);
    let block: u64 = block.trim().parse().unwrap();
    debugfs(&image, &["rm /d3/f3".to_string(), "rm /d2/f2".to_string()]);
    let file = fs::File::options().write(true).open(&image).unwrap();
    file.write_all_at(&noise(1024, 5), block * 1024).unwrap();
    drop(file);
    let newer = backup(&store, "web01", &image);
    let (changes, problems) = compare(&older, &newer);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with("disk0/p0/d2: "), "{problems:?}");
    let expected = [("d3/f3".to_string(), How::Removed, EntryKind::File)];
    assert_eq!(sorted(&changes), expected);
}

/// Asked for one by one, files are as the comparison of all says: also one that was written anew with the same bytes, elsewhere on the disk.
#[test]
fn single_files_are_the_same_or_not() {
    let Some(Started {
        temp,
        image,
        store,
        older: old,
    }) = started()
    else {
        return;
    };
    let tree = tree(&temp.path().join("tree"));
    let new = temp.path().join("new");
    let mut bytes = tree["d1/f7"].clone();
    bytes[100] ^= 1;
    fs::write(&new, bytes).unwrap();
    let moved = temp.path().join("tree/d2/f8");
    let commands = [
        "rm /d1/f7".to_string(),
        format!("write {} /d1/f7", text(&new)),
        "rm /d2/f8".to_string(),
        format!("write {} /d2/f8", text(&moved)),
    ];
    debugfs(&image, &commands);
    let new = backup(&store, "web01", &image);
    let all = contents(&compare(&old, &new).0);
    let changed = BTreeSet::from([("d1/f7".to_string(), How::Changed)]);
    assert_eq!(all, changed);
    let volumes = [&old, &new].map(|point| point.disks()[0].volume(0).unwrap().unwrap().clone());
    fn place<'a>(point: &'a PointView, volume: &'a VolumeView) -> VolumeOf<'a> {
        VolumeOf {
            point,
            disk: 0,
            volume,
        }
    }
    let places = [place(&old, &volumes[0]), place(&new, &volumes[1])];
    assert!(same_volume(places[0], places[0]).unwrap());
    assert!(!same_volume(places[0], places[1]).unwrap());
    let mut seen = 0;
    for name in tree.keys().filter(|name| !name.ends_with(['/', '@'])) {
        let ids = [0, 1].map(|at: usize| {
            let files = volumes[at].open().unwrap();
            cairn::walk::resolve(&*files, name.as_bytes()).unwrap()
        });
        let same = same_content(places[0], places[1], ids, &Silent).unwrap();
        assert_eq!(same, *name != "d1/f7", "{name}");
        seen += 1;
    }
    assert!(seen >= 60);
    // Folders are never the same, and a file is no folder.
    let root = volumes[0].open().unwrap().root();
    assert!(!same_content(places[0], places[0], [root, root], &Silent).unwrap());
}
