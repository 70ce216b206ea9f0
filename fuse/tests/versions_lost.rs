//! `versions` where something cannot be read. The tree is asked directly, and once through the kernel.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests are here"
)]

mod shared;

use cairn::{PointId, PointView, Store, VolumeOf, same_volume};
use cairn_fuse::{MountOptions, Tree, mount_store};
use shared::asked::{content, damage, files, find, names, record_of, try_find};
use shared::days::{Days, HOME, day, four_days};
use shared::{fuse_is_there, noise, run, text, until};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tempfile::tempdir;

/// **[versions-error]** What cannot be read of a point below `versions` hides nothing of the others: the folder has a file `.error` that names each such point and why. Two
/// versions that cannot be compared are both listed, and so is one whose attributes cannot be told. A name that was found nowhere is EIO, not ENOENT, if it may have been in what could
/// not be read. What could not be read is tried again after some seconds.
#[test]
fn points_that_cannot_be_read_hide_no_others() {
    let days = four_days();
    let second = days.store.find_point(&format!("pc@{}", day(2))).unwrap();
    damage(&record_of(days.folder.path(), &second.id.to_string()));
    let tree = days.tree();
    let report = format!("{HOME}/report.odt");
    // The second content is still there in the third point.
    let wanted = [".error".to_string(), format!("{}.odt", day(1))];
    let wanted = wanted
        .into_iter()
        .chain([3, 4].map(|number| format!("{}.odt", day(number))));
    assert_eq!(names(&tree, &report), wanted.collect::<Vec<_>>());
    for folder in ["pc/versions", "pc/versions/disk0", HOME, &report] {
        let said = String::from_utf8(content(&tree, &format!("{folder}/.error"))).unwrap();
        assert!(
            said.contains(&day(2)) && !said.contains(&day(3)),
            "{folder}: {said}"
        );
        let stat = find(&tree, &format!("{folder}/.error"));
        assert_eq!(
            (stat.attributes.size, stat.lasting),
            (said.len() as u64, false)
        );
    }
    // What is there is found, and of nothing else it is said that it never was: whether the names of the folder are known or not.
    for tree in [tree, days.tree()] {
        assert!(try_find(&tree, &report).is_some());
        for folder in ["pc/versions", "pc/versions/disk0/p0", HOME, &report] {
            let folder = find(&tree, folder).inode;
            let failed = tree.lookup(folder, b"nothing").unwrap_err();
            assert_eq!(failed.errno(), 5, "{failed}");
        }
        let failed = tree.lookup(find(&tree, &report).inode, day(2).as_bytes());
        assert_eq!(failed.unwrap_err().errno(), 5);
    }
}

/// The file has one number, and its text changes.
#[test]
fn what_is_said_of_points_that_cannot_be_read_is_read_anew() {
    if !fuse_is_there() {
        return;
    }
    let days = four_days();
    let lose = |number| {
        let point = days.store.find_point(&format!("pc@{}", day(number)));
        let id = point.unwrap().id.to_string();
        damage(&record_of(days.folder.path(), &id));
    };
    let path = format!("{HOME}/.error");
    let wanted = || String::from_utf8(content(&days.tree(), &path)).unwrap();
    lose(2);
    let folder = tempdir().unwrap();
    let mounted = mount_store(days.store.clone(), folder.path(), &MountOptions::default()).unwrap();
    let said = || fs::read_to_string(folder.path().join(&path)).unwrap();
    let before = said();
    assert_eq!(before, wanted());
    assert!(!before.contains(&day(3)), "{before}");
    lose(3);
    until("another text", || said() != before);
    assert_eq!(said(), wanted());
    assert!(said().contains(&day(3)), "{}", said());
    mounted.unmount().unwrap();
}

#[test]
fn a_version_of_an_impossible_size_is_listed_like_others() {
    let days = Days::new();
    days.back_up(1);
    days.change(&["set_inode_field /home/a/report.odt size 0x8000000000000000"]);
    days.back_up(2);
    days.write("/home/a/report.odt", &noise(40_000, 4));
    days.back_up(3);
    let tree = days.tree();
    let report = format!("{HOME}/report.odt");
    let wanted = [1, 2, 3].map(|number| format!("{}.odt", day(number)));
    assert_eq!(names(&tree, &report), wanted);
    let folder = find(&tree, &report).inode;
    let listed = tree.readdir(folder).unwrap();
    let known: Vec<bool> = listed[2..].iter().map(|it| it.stat.is_some()).collect();
    assert_eq!(known, [true, false, true]);
    let failed = tree.lookup(folder, wanted[1].as_bytes()).unwrap_err();
    assert_eq!(failed.errno(), 5);
    assert!(content(&tree, &format!("{report}/{}", wanted[2])) == noise(40_000, 4));
}

const FAR: &str = "/home/a/far.odt";

/// Changes bytes of a file, and of nothing else, in the second region of the disk: where they lie.
fn write_far(days: &Days, seed: u64) -> u64 {
    let question = format!("bmap {FAR} 4800");
    let block = run("debugfs", &["-R", &question, text(&days.image)]);
    let place = block.trim().parse::<u64>().unwrap() * 1024;
    assert!((4 << 20..8 << 20).contains(&place));
    let image = fs::File::options().write(true).open(&days.image).unwrap();
    image.write_all_at(&noise(1024, seed), place).unwrap();
    place
}

/// Copies the store and flips a byte of one of `packs` so that what the map of `lost` says of the region around `place` is lost, and nothing else: then `lost` and
/// `other` cannot be compared, and a file elsewhere can be read in both.
fn lose_leaf(days: &Days, packs: &[PathBuf], place: u64, lost: PointId, other: PointId) -> Tree {
    let (from, to) = (
        days.folder.path().join("store"),
        days.folder.path().join("copy"),
    );
    for pack in packs {
        let length = fs::metadata(pack).unwrap().len() as usize;
        // Packs of data are larger.
        if length > 20_000 {
            continue;
        }
        for at in (64..length).step_by(40) {
            fs::remove_dir_all(&to).ok();
            copy_folder(&from, &to);
            let copied = to.join(pack.strip_prefix(&from).unwrap());
            let mut bytes = fs::read(&copied).unwrap();
            bytes[at] ^= 0x55;
            fs::write(&copied, bytes).unwrap();
            let store = Store::open(&to).unwrap();
            if is_lost(&store, place, lost, other) {
                return Tree::of_store(store);
            }
        }
    }
    panic!("no such byte was found");
}

fn copy_folder(from: &Path, to: &Path) {
    for path in files(from) {
        let copy = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(&path, copy).unwrap();
    }
    fs::create_dir_all(to.join("sessions")).unwrap();
}

/// Whether two points cannot be compared because of what `lost` has lost around `place`, and yet a file elsewhere can be read in both.
fn is_lost(store: &Store, place: u64, lost: PointId, other: PointId) -> bool {
    let open = |id: PointId| {
        let point = store.find_point(&id.to_string()).ok()?;
        let view = store.open_point(&point).ok()?;
        let volume = view.disks()[0].volume(0).ok()??.clone();
        let files = volume.open().ok()?;
        let file = cairn::walk::resolve(&*files, b"home/a/report.odt").ok()?;
        let file = files.open(file).ok()?;
        let mut bytes = vec![0; file.size() as usize];
        file.read_exact_at(0, &mut bytes).ok()?;
        Some((view, volume))
    };
    let (Some((lost, was)), Some((other, is))) = (open(lost), open(other)) else {
        return false;
    };
    let of = |point, volume| VolumeOf {
        point,
        disk: 0,
        volume,
    };
    let reads = |point: &PointView| {
        let read = point.disks()[0].disk().read_exact_at(place, &mut [0; 512]);
        read.is_ok()
    };
    reads(&other) && !reads(&lost) && same_volume(of(&lost, &was), of(&other, &is)).is_err()
}

#[test]
fn a_lost_part_of_a_map_hides_no_other_point() {
    // Who recognises file systems looks at the last region too, but not at the second of three.
    let days = Days::of_size("12m");
    days.write(FAR, &noise(1000, 1).repeat(5000));
    let (mut points, mut made, mut place) = (Vec::new(), Vec::new(), 0);
    for number in 1..=4 {
        place = write_far(&days, 100 + u64::from(number));
        points.push(days.back_up(number));
        let mut packs = files(&days.folder.path().join("store/packs"));
        packs.retain(|pack| !made.iter().flatten().any(|known| known == pack));
        made.push(packs);
    }
    let wanted = [1, 2, 3, 4].map(|number| format!("{}.odt", day(number)));
    let far = format!("{HOME}/far.odt");
    assert_eq!(names(&days.tree(), &far), wanted);
    for (lost, other) in [(0, 1), (3, 2)] {
        let tree = lose_leaf(&days, &made[lost], place, points[lost], points[other]);
        let found = names(&tree, &far);
        assert_eq!(found[0], ".error");
        assert_eq!(found[1..], wanted);
    }
}
