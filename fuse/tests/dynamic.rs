//! Volumes of dynamic disks in the mount. The tree is asked directly.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests are here"
)]

#[path = "../../engine/guest/tests/ldm/maker.rs"]
mod maker;
#[path = "../../engine/guest/tests/ldm/records.rs"]
mod records;
mod shared;

use cairn::{BackupOptions, DiskImage, Silent, Store, Time};
use cairn_fuse::Tree;
use maker::{Group, SECTOR, Scheme};
use shared::asked::{content, names};
use shared::{noise, run, text};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use tempfile::tempdir;

/// An ext4 file system of so many sectors with the file `text` in it.
fn files(folder: &Path, sectors: u64, bytes: &[u8]) -> Vec<u8> {
    let (source, image) = (folder.join("source"), folder.join("image"));
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("text"), bytes).unwrap();
    fs::write(&image, vec![0; sectors as usize * SECTOR]).unwrap();
    run(
        "mke2fs",
        &["-q", "-t", "ext4", "-F", "-d", text(&source), text(&image)],
    );
    fs::read(&image).unwrap()
}

fn backup(store: &Store, disks: &[Vec<u8>], day: i64) {
    let disks = disks.iter().enumerate().map(|(number, disk)| {
        DiskImage::from_reader(format!("disk{number}"), Arc::new(disk.clone()))
    });
    let options = BackupOptions {
        time: Some(Time::from_seconds(1_793_500_000 + day * 86_400)),
        ..BackupOptions::new("pc")
    };
    store.backup(disks.collect(), &options, &Silent).unwrap();
}

/// **[dynamic]** The volumes of dynamic disks of Windows are folders `p<1000 + number>`, with the number that the disk group's database gives them, of the first
/// disk of the point that has a part of them. The partitions that they lie in have none. A volume that cannot do without a disk which is not in the point is an empty folder
/// beside an `.error` that names the disk. Where the database cannot be read those partitions are shown, each as an empty folder beside an `.error` that says why, and where it has lost records
/// the first of them is. A copy of a disk shows the volumes that lie on it alone.
#[test]
fn volumes_of_dynamic_disks_are_folders_of_their_first_disk() {
    let temp = tempdir().unwrap();
    let mut group = Group::new(Scheme::Gpt, true, 2);
    group.add("Volume1", 2, 0, &[(1, 6000)]).id = 0x21;
    group.add("Stripe1", 1, 128, &[(0, 6400), (1, 6400)]).id = 0x22;
    group.mirror("Mirror1", 6000, &[0, 1]).id = 0x23;
    let bytes = noise(700_000, 5);
    let contents = group.volumes.iter();
    let contents = contents.map(|volume| files(temp.path(), volume.size, &bytes));
    let mut contents: Vec<Vec<u8>> = contents.collect();
    let parts = |contents: &[Vec<u8>]| {
        let parts: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
        group.write(&parts)
    };
    let store = Store::create(&temp.path().join("store")).unwrap();
    let disks = parts(&contents);
    backup(&store, &disks, 0);
    // Of the file on the stripes something changes that lies on the second disk alone.
    let start = contents[1]
        .windows(4096)
        .position(|piece| *piece == bytes[..4096])
        .unwrap();
    let chunk = 128 * SECTOR;
    let odd = (start / chunk + 1) | 1;
    contents[1][odd * chunk + 100] ^= 1;
    let mut changed = bytes.clone();
    changed[odd * chunk + 100 - start] ^= 1;
    let later = parts(&contents);
    assert!(later[0] == disks[0] && later[1] != disks[1]);
    backup(&store, &later, 1);
    backup(&store, &later[..1], 2);
    let mut headless = later.clone();
    for sector in [1856, 2047] {
        headless[0][group.database_at(0) + sector * SECTOR] = b'x';
    }
    backup(&store, &headless, 3);
    let twice = [&later[..], &later[1..]].concat();
    backup(&store, &twice, 4);

    let tree = Tree::of_store(store);
    let points: Vec<String> = names(&tree, "pc");
    let at = |day: usize| format!("pc/{}/files", points[day]);
    assert_eq!(
        names(&tree, &format!("{}/disk0", at(0))),
        ["p1034", "p1035"]
    );
    assert_eq!(names(&tree, &format!("{}/disk1", at(0))), ["p1033"]);
    for (day, stripe) in [(0, &bytes), (1, &changed)] {
        for (path, wanted) in [
            ("disk1/p1033", &bytes),
            ("disk0/p1034", stripe),
            ("disk0/p1035", &bytes),
        ] {
            let read = content(&tree, &format!("{}/{path}/text", at(day)));
            assert!(read == *wanted, "{path} of {day}");
        }
    }
    // The first disk did not change, and yet its volume did; in the third point it cannot be read.
    let versions = names(&tree, "pc/versions/disk0/p1034/text");
    assert_eq!(versions[0], ".error");
    assert_eq!(versions[1..3], points[..2]);
    without_the_second_disk(&tree, &at(2), &group, &bytes);
    with_a_lost_database(&tree, &at(3));
    with_a_copy(&tree, &at(4), &bytes);
}

/// Of the first disk no private header is left.
fn with_a_lost_database(tree: &Tree, files: &str) {
    let first = format!("{files}/disk0");
    assert_eq!(names(tree, &first), ["p1", "p1.error", "p3", "p3.error"]);
    assert_eq!(names(tree, &format!("{first}/p3")), [""; 0]);
    let said = |name: &str| String::from_utf8(content(tree, &format!("{files}/{name}"))).unwrap();
    let error = said("disk0/p3.error");
    assert!(
        error.contains("partition 3 of disk0") && error.contains("private header"),
        "{error}"
    );
    // The second disk knows the volumes, and that one that it cannot find may be the first disk.
    let listed = ["p1033", "p1034", "p1034.error", "p1035", "p1035.notes"];
    assert_eq!(names(tree, &format!("{files}/disk1")), listed);
    let error = said("disk1/p1034.error");
    assert!(error.contains("may be `disk0`"), "{error}");
}

/// The second disk is there twice.
fn with_a_copy(tree: &Tree, files: &str, bytes: &[u8]) {
    for disk in ["disk1", "disk2"] {
        let read = content(tree, &format!("{files}/{disk}/p1033/text"));
        assert!(read == bytes, "{disk}");
        assert_eq!(names(tree, &format!("{files}/{disk}"))[0], "p1033");
    }
}

/// The mirror is read, with a note, and the stripes are not.
fn without_the_second_disk(tree: &Tree, files: &str, group: &Group, bytes: &[u8]) {
    let alone = format!("{files}/disk0");
    let listed = ["p1034", "p1034.error", "p1035", "p1035.notes"];
    assert_eq!(names(tree, &alone), listed);
    assert!(content(tree, &format!("{alone}/p1035/text")) == bytes);
    let said = |name: &str| String::from_utf8(content(tree, &format!("{alone}/{name}"))).unwrap();
    let error = said("p1034.error");
    let missing = format!("disk `Disk2` ({})", maker::guid_text(group.disks[1].guid));
    assert!(
        error.contains("striped volume `Stripe1`") && error.contains(&missing),
        "{error}"
    );
    let notes = said("p1035.notes");
    assert!(
        notes.starts_with("Volume `Mirror1` (ext4)") && notes.contains(&missing),
        "{notes}"
    );
    assert!(!notes.contains("may be old"), "{notes}");
}
