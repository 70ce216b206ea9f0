//! Trees of files on the host and on volumes, and programs that are not ours.

use crate::support::{Item, check_extents, read_all, shell, walk};
use cairn_guest::{EntryKind, Volume};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What is at a path: nothing for a folder, or the content and the time of the last change.
pub type Tree = BTreeMap<String, Option<(Vec<u8>, i64)>>;

/// Everything below `root`.
pub fn on_host(root: &Path) -> Tree {
    let mut found = Tree::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes();
            let name = format!("/{}", String::from_utf8_lossy(name));
            let about = fs::symlink_metadata(&path).unwrap();
            if about.is_dir() {
                open.push(path);
                found.insert(name, None);
            } else {
                found.insert(name, Some((fs::read(&path).unwrap(), about.mtime())));
            }
        }
    }
    found
}

/// Everything on a sound volume; on the way it is checked that names are found, parents are right, and extents tell the truth.
pub fn on_volume(volume: &dyn Volume) -> Tree {
    let items = walk(volume, true, usize::MAX, &mut |path, error| {
        panic!("{}: {error}", String::from_utf8_lossy(path))
    });
    let tree = items.into_iter().map(|(path, item)| {
        let content = (item.kind == EntryKind::File).then(|| content(volume, &item));
        (String::from_utf8(path).unwrap(), content)
    });
    tree.collect()
}

fn content(volume: &dyn Volume, item: &Item) -> (Vec<u8>, i64) {
    let attributes = item.attributes.as_ref().unwrap();
    let file = volume.open(item.id).unwrap();
    assert_eq!(file.size(), attributes.size);
    let mut bytes = Vec::new();
    read_all(&*file, |piece| bytes.extend_from_slice(piece)).unwrap();
    check_extents(&*file, &bytes);
    (bytes, attributes.modified.seconds)
}

/// The same without times.
pub fn timeless(tree: Tree) -> BTreeMap<String, Option<Vec<u8>>> {
    let plain = tree
        .into_iter()
        .map(|(path, content)| (path, content.map(|(bytes, _)| bytes)));
    plain.collect()
}

/// Where two trees differ, in few words.
pub fn compare<T: PartialEq>(ours: &BTreeMap<String, T>, theirs: &BTreeMap<String, T>, what: &str) {
    let mut wrong = Vec::new();
    for (path, content) in theirs {
        match ours.get(path) {
            None => wrong.push(format!("{path} is missing")),
            Some(other) if other != content => wrong.push(format!("{path} differs")),
            Some(_) => {}
        }
    }
    let more = ours.keys().filter(|path| !theirs.contains_key(*path));
    wrong.extend(more.map(|path| format!("{path} is ours only")));
    let count = wrong.len();
    wrong.truncate(20);
    assert!(count == 0, "{what}: {count} differences: {wrong:#?}");
}

/// What The Sleuth Kit gets out of `image`, in a new folder in `scratch`. It makes no empty folders.
pub fn by_sleuth_kit(image: &Path, scratch: &Path, kind: &str) -> Tree {
    let to = scratch.join("tsk");
    let _ = fs::remove_dir_all(&to);
    fs::create_dir(&to).unwrap();
    let (image, folder) = (image.display(), to.display());
    shell(&format!(
        "TZ=UTC tsk_recover -a -f {kind} '{image}' '{folder}'"
    ))
    .unwrap();
    let mut tree = on_host(&to);
    let is_own = |path: &str| {
        ["/$ALLOC_BITMAP", "/$UPCASE_TABLE"].contains(&path) || path.contains("$OrphanFiles")
    };
    tree.retain(|path, content| content.is_some() && !is_own(path));
    tree
}

/// Only files: to compare with programs that make no empty folders, or that leave empty files out.
pub fn files(mut tree: BTreeMap<String, Option<Vec<u8>>>) -> BTreeMap<String, Option<Vec<u8>>> {
    tree.retain(|_, content| content.as_ref().is_some_and(|bytes| !bytes.is_empty()));
    tree
}

/// Bytes that differ for each `seed`.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let bytes = (0..length).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    });
    bytes.collect()
}

/// A file of `bytes` zeros in `scratch`.
pub fn blank(scratch: &Path, bytes: u64) -> PathBuf {
    let image = scratch.join("image");
    fs::File::create(&image).unwrap().set_len(bytes).unwrap();
    image
}
