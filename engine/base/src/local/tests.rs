use super::*;
use crate::error::Kind;
use crate::folder::{publish_bytes, read_small, replace_bytes};

fn folder() -> (tempfile::TempDir, LocalFolder) {
    let temp = tempfile::tempdir().unwrap();
    let folder = LocalFolder::new(temp.path());
    (temp, folder)
}

#[test]
fn published_names_are_never_replaced() {
    let (_temp, folder) = folder();
    publish_bytes(&folder, "t", "", "a", b"one").unwrap();
    let error = publish_bytes(&folder, "t", "", "a", b"two").unwrap_err();
    assert_eq!(error.kind(), Kind::Exists);
    assert_eq!(read_small(&folder, "a", 10).unwrap(), b"one");
    replace_bytes(&folder, "t", "", "a", b"three").unwrap();
    assert_eq!(read_small(&folder, "a", 10).unwrap(), b"three");
    assert_eq!(
        read_small(&folder, "a", 4).unwrap_err().kind(),
        Kind::Damaged
    );
    assert_eq!(folder.list("").unwrap(), ["a"]);
    assert_eq!(folder.open("b").err().unwrap().kind(), Kind::NotFound);
    folder.remove("a").unwrap();
    folder.remove("a").unwrap();
}

#[test]
fn new_files_are_for_their_owner_alone() {
    let (temp, folder) = folder();
    folder.create("small").unwrap().sync().unwrap();
    folder.create_large("large").unwrap().sync().unwrap();
    for name in ["small", "large"] {
        let found = std::fs::metadata(temp.path().join(name)).unwrap();
        assert_eq!(found.mode() & 0o777, 0o600, "{name}");
    }
}

#[test]
fn locks_exclude_and_let_go() {
    let (_temp, folder) = folder();
    let first = folder.lock("l", LockMode::Shared, false).unwrap().unwrap();
    let second = folder.lock("l", LockMode::Shared, false).unwrap();
    assert!(second.is_some());
    assert!(
        folder
            .lock("l", LockMode::Exclusive, false)
            .unwrap()
            .is_none()
    );
    assert!(!first.change(LockMode::Exclusive).unwrap());
    drop(second);
    assert!(first.change(LockMode::Exclusive).unwrap());
    first.write_note(b"mine").unwrap();
    assert_eq!(read_small(&folder, "l", 10).unwrap(), b"mine");
    assert!(folder.lock("l", LockMode::Shared, false).unwrap().is_none());
    drop(first);
    assert!(
        folder
            .lock("l", LockMode::Exclusive, false)
            .unwrap()
            .is_some()
    );
}

#[test]
fn pages_are_the_same_with_and_without_a_map() {
    let (temp, folder) = folder();
    std::fs::write(
        temp.path().join("p"),
        (0..=255u8).cycle().take(9000).collect::<Vec<_>>(),
    )
    .unwrap();
    for folder in [folder.clone(), folder.without_maps()] {
        let pages = folder.open_pages("p").unwrap();
        let mut scratch = Vec::new();
        assert_eq!(pages.size(), 9000);
        assert_eq!(pages.bytes(8998, 2, &mut scratch).unwrap(), [38, 39]);
        assert!(pages.bytes(8999, 2, &mut scratch).is_err());
    }
}

#[test]
fn a_folder_that_is_there_is_fine() {
    let (_temp, folder) = folder();
    folder.create_folder("x").unwrap();
    folder.create_folder("x").unwrap();
    let mut file = folder.create("x/f").unwrap();
    file.append(b"abc").unwrap();
    file.start_write_back();
    file.append(b"def").unwrap();
    file.sync().unwrap();
    assert_eq!(folder.size("x/f").unwrap(), 6);
    assert_eq!(folder.create("x/f").err().unwrap().kind(), Kind::Exists);
    assert_eq!(
        folder.create_folder("x/f").unwrap_err().kind(),
        Kind::Exists
    );
}
