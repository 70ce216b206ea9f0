//! What the tree shows of encrypted volumes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests are here"
)]

#[allow(dead_code, reason = "the tests of the reader use all of it")]
#[path = "../../engine/guest/tests/bitlocker/maker.rs"]
mod maker;
mod shared;

use cairn::{DiskView, Keys};
use cairn_fuse::Tree;
use maker::{KEPT, Looks, Protect, RECOVERY, Recipe, make};
use shared::asked::{content, names};
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::tempdir;

/// A volume of ext4 with one file, beside BitLocker's own areas, encrypted.
fn encrypted(folder: &Path, protectors: &[Protect]) -> DiskView {
    let (files, image) = (folder.join("files"), folder.join("image"));
    fs::create_dir_all(&files).unwrap();
    fs::write(files.join("name"), "web01\n").unwrap();
    let mut command = Command::new("mke2fs");
    // Its structures lie before the areas or behind them.
    command.args([
        "-q",
        "-F",
        "-t",
        "ext4",
        "-O",
        "^has_journal,^resize_inode",
        "-b",
        "4096",
        "-N",
        "16",
        "-d",
    ]);
    command.arg(&files).arg(&image).arg("16M");
    assert!(command.status().unwrap().success());
    let mut plain = fs::read(&image).unwrap();
    plain[KEPT.start as usize..KEPT.end as usize].fill(0);
    let recipe = Recipe::new(Looks::Windows7, 0x8003).protect(protectors);
    fs::write(&image, make(&recipe, &plain)).unwrap();
    DiskView::open_image(&image).unwrap()
}

/// **[encrypted]** A volume that BitLocker encrypts is a folder like any other if a key that opens it was given to the mount, or if its protection is suspended, which `p<N>.notes` says then.
/// Otherwise it is one that cannot be read, and `p<N>.error` names the ids of the keys that would open it.
#[test]
fn encrypted_volumes_are_shown_if_a_key_opens_them() {
    let temp = tempdir().unwrap();
    let view = || encrypted(temp.path(), &[Protect::Tpm, Protect::Recovery]);
    let mut keys = Keys::new();
    keys.add_recovery_password(RECOVERY).unwrap();
    let open = Tree::of_image(view().with_read_options(keys.into()));
    assert_eq!(content(&open, "files/disk0/p0/name"), b"web01\n");
    assert_eq!(names(&open, "files/disk0"), ["p0"]);

    let locked = Tree::of_image(view());
    assert_eq!(names(&locked, "files/disk0"), ["p0", "p0.error"]);
    assert!(names(&locked, "files/disk0/p0").is_empty());
    let error = String::from_utf8(content(&locked, "files/disk0/p0.error")).unwrap();
    // The first groups of an id are little-endian.
    assert!(
        error.contains("34241404-5444-7464-8494-A4B4C4D4E4F4"),
        "{error}"
    );

    let suspended = Tree::of_image(encrypted(temp.path(), &[Protect::Tpm, Protect::Clear]));
    assert_eq!(content(&suspended, "files/disk0/p0/name"), b"web01\n");
    let notes = String::from_utf8(content(&suspended, "files/disk0/p0.notes")).unwrap();
    assert!(notes.contains("suspended"), "{notes}");
}
