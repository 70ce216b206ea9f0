//! The tree, asked by paths.

use super::fixture;
use cairn::{DiskView, EntryKind};
use cairn_fuse::{Stat, Tree, tree::Found};
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of a point of [`super::store`].
pub const LATEST: &str = "web01/2026-11-20T02-00-00Z";

pub fn find(tree: &Tree, path: &str) -> Stat {
    try_find(tree, path).unwrap_or_else(|| panic!("{path} is not there"))
}

pub fn try_find(tree: &Tree, path: &str) -> Option<Stat> {
    let mut at = tree.getattr(1).unwrap();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        match tree.lookup(at.inode, name.as_bytes()).unwrap() {
            Found::Node(stat) => at = *stat,
            Found::Nothing { .. } => return None,
        }
    }
    Some(at)
}

pub fn names(tree: &Tree, path: &str) -> Vec<String> {
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

pub fn content(tree: &Tree, path: &str) -> Vec<u8> {
    let content = tree.open(find(tree, path).inode).unwrap();
    let mut bytes = vec![0; content.size() as usize + 10];
    let read = content.read(0, &mut bytes).unwrap();
    bytes.truncate(read);
    bytes
}

pub fn image() -> Tree {
    Tree::of_image(DiskView::open_image(&fixture().disk).unwrap())
}

/// The file of a point in the store.
pub fn record_of(folder: &Path, id: &str) -> PathBuf {
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

pub fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// All paths below `path` and their inode numbers. The number in the folder is the one of the look-up.
pub fn walk(tree: &Tree, path: &str) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    let mut folders = vec![(path.to_string(), find(tree, path).inode)];
    while let Some((path, inode)) = folders.pop() {
        for listed in tree.readdir(inode).unwrap().into_iter().skip(2) {
            let name = String::from_utf8(listed.name).unwrap();
            let full = format!("{path}/{name}");
            match listed.stat {
                Some(stat) => assert_eq!(stat.inode, listed.inode, "{full}"),
                // Only machines and versions are asked for one by one.
                None => assert!(
                    name == "versions" || !name.contains('.') && path.is_empty(),
                    "{full}"
                ),
            }
            // What is below leads to the same files again.
            if listed.kind == EntryKind::Folder && name != "versions" {
                folders.push((full.clone(), listed.inode));
            }
            found.push((full, listed.inode));
        }
    }
    found
}

pub fn files(folder: &Path) -> Vec<PathBuf> {
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
