use super::*;
use crate::inode;
use crate::paths::PastPath;
use cairn::{BackupOptions, DiskImage, Silent, Store};
use std::sync::Arc;

fn number(tree: &Tree, folder: u64, name: &str) -> u64 {
    match tree.lookup(folder, name.as_bytes()).unwrap() {
        Found::Node(stat) => stat.inode,
        Found::Nothing { .. } => panic!("{name} is not there"),
    }
}

#[test]
fn above_a_path_is_its_folder_also_if_that_was_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(&folder.path().join("store")).unwrap();
    let disk = DiskImage::from_reader("disk0", Arc::new(vec![1u8; 1 << 20]));
    let options = BackupOptions::new("pc");
    store.backup(vec![disk], &options, &Silent).unwrap();
    let tree = Tree::of_store(store);
    let versions = number(&tree, number(&tree, 1, "pc"), "versions");
    // As if all paths above had been forgotten.
    let above = PastPath::top("pc".into()).child(b"disk0").child(b"p1");
    let path = above.child(b"home");
    tree.paths
        .remember(inode::split(versions).0, &path)
        .unwrap();
    let inode = Node::Past(path).inode(&tree.slots).unwrap();
    let found = number(&tree, inode, "..");
    assert_eq!(found, Node::Past(above).inode(&tree.slots).unwrap());
    assert_eq!(tree.getattr(found).unwrap().inode, found);
    let disk = number(&tree, found, "..");
    assert_eq!(number(&tree, disk, ".."), versions);
}
