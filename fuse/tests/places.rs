//! Where nothing is mounted, and what is not left behind. Skipped, saying so, where there is no `/dev/fuse`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests are here"
)]

mod shared;

use cairn::{DiskView, Error, Kind, Store};
use cairn_fuse::device::{self, Detached, Place};
use cairn_fuse::stale::{self, Cleared};
use cairn_fuse::{MountOptions, Mounted, Scratch, Unmounted, mount_image, mount_store};
use rustix::mount::{UnmountFlags, unmount};
use shared::mounted::{Image, image, is_mounted};
use shared::{fixture, fuse_is_there, is_root, run, text};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use tempfile::tempdir;

#[track_caller]
fn is_refused(mounted: cairn::Result<Mounted>) {
    let error: Error = mounted.err().expect("it is mounted over what it needs");
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("would cover"), "{error}");
}

/// **[covered]** The mount lies neither over the store or image that it shows, the image's parents, or the scratch folder of one that can be written to, nor anywhere within the
/// store: it would wait for itself. Such a place is refused, however it is spelled.
#[test]
fn what_the_mount_stands_on_is_not_covered() {
    if !fuse_is_there() {
        return;
    }
    let temp = tempdir().unwrap();
    let at = |path: &str| temp.path().join(path);
    fs::create_dir_all(at("in/deep")).unwrap();
    symlink(at("in"), at("link")).unwrap();
    let of_store = |place: &str| {
        let store = Store::open(&at("link/deep/store")).unwrap();
        mount_store(store, &at(place), &MountOptions::default())
    };
    Store::create(&at("in/deep/store")).unwrap();
    for place in [
        "",
        "in",
        "link",
        "in/deep",
        "in/deep/store",
        "in/deep/store/packs",
    ] {
        fs::create_dir_all(at(place)).unwrap();
        is_refused(of_store(place));
    }
    fs::create_dir(at("in/deep/mnt")).unwrap();
    let mounted = of_store("in/deep/mnt").unwrap();
    assert_eq!(mounted.unmount().unwrap(), Unmounted::Cleanly);

    fs::copy(&fixture().disk, at("in/disk.raw")).unwrap();
    let of_image = |place: &str, image: &str, scratch: Option<&Path>| {
        let writable = scratch.map(|folder| Scratch {
            folder: Some(folder.to_path_buf()),
            keep: false,
        });
        let options = MountOptions {
            writable,
            ..MountOptions::default()
        };
        let view = DiskView::open_image(&at(image)).unwrap();
        mount_image(view, &at(place), &options)
    };
    is_refused(of_image("in", "in/disk.raw", None));
    is_refused(of_image("", "link/disk.raw", None));
    // The scratch folder need not be there yet; beside it, and within it, is room.
    fs::create_dir_all(at("room/mnt")).unwrap();
    for scratch in ["room", "room/new/folder"] {
        is_refused(of_image("room", "in/disk.raw", Some(&at(scratch))));
    }
    for scratch in ["room", "in"] {
        let mounted = of_image("room/mnt", "in/disk.raw", Some(&at(scratch))).unwrap();
        assert_eq!(mounted.unmount().unwrap(), Unmounted::Cleanly);
    }
    by_another_name(temp.path());
}

/// The same folder at another place: what is mounted over the one may show over the other.
fn by_another_name(temp: &Path) {
    let place = temp.join("other name");
    fs::create_dir(&place).unwrap();
    if !is_root() {
        return;
    }
    run("mount", &["--bind", text(&temp.join("in")), text(&place)]);
    let store = Store::open(&temp.join("in/deep/store")).unwrap();
    let mounted = mount_store(store, &place.join("deep"), &MountOptions::default());
    let refused = mounted.map(|mounted| assert_eq!(mounted.unmount().unwrap(), Unmounted::Cleanly));
    run("umount", &[text(&place)]);
    assert!(refused.is_err());
}

/// **[cut-off]** A mount that cannot be served any more, because its connection was cut or its threads have failed, is taken out of the tree of files by its program: nothing is left
/// that answers "Transport endpoint is not connected". If that cannot be done the program is told why, and tries again when it unmounts.
#[test]
fn what_is_served_no_more_does_not_stay() {
    let Some(image) = image() else { return };
    if !is_root() {
        return;
    }
    let folder = image.folder.path();
    let held = File::open(image.at("disks/disk0.raw")).unwrap();
    // It cuts the connection, and then finds it in use.
    let cut = unmount(folder, UnmountFlags::FORCE);
    assert_eq!(cut, Err(rustix::io::Errno::BUSY));
    drop(image.mounted.wait());
    let left = fs::read_dir(folder).map(|entries| entries.count());
    assert_eq!(left.map_err(|error| error.raw_os_error()), Ok(0));
    assert!(!is_mounted(folder));
    assert_eq!(image.mounted.unmount().unwrap(), Unmounted::Cleanly);
    drop(held);
}

/// Of the mount of ours at a place.
fn id_of(place: &Path) -> u64 {
    let found = stale::mounts().into_iter().find(|it| it.path == place);
    found.unwrap().id
}

/// The kernel gives the number of a mount that has ended to the next.
#[test]
fn a_later_mount_of_the_same_number_is_left_alone() {
    let Some(Image { mounted, folder }) = image() else {
        return;
    };
    if !is_root() {
        return;
    }
    let place = folder.path().canonicalize().unwrap();
    let number = || {
        let mut mounts = stale::mounts().into_iter();
        mounts.find(|it| it.path == place).map(|it| it.number)
    };
    let (mut ended, mut before) = (mounted, number());
    for _ in 0..50 {
        run("umount", &[text(&place)]);
        ended.wait().unwrap();
        let view = DiskView::open_image(&fixture().disk).unwrap();
        let later = mount_image(view, &place, &MountOptions::default()).unwrap();
        let now = number();
        if now == before {
            assert_eq!(ended.unmount().unwrap(), Unmounted::Cleanly);
            assert_eq!(number(), now);
            drop(ended);
            assert_eq!(number(), now);
            // Nor by anybody else who thinks that it is what had the number before.
            let known = Place::known(place.clone(), now.clone().unwrap(), id_of(&place));
            assert_eq!(stale::detach(&known).unwrap(), Cleared::Alive);
            let unmounted = device::unmount(&known, true, &|| false).unwrap();
            assert_eq!((unmounted, number()), (Detached::Gone, now));
            assert!(place.join("files/disk0").exists());
            assert_eq!(later.unmount().unwrap(), Unmounted::Cleanly);
            assert!(number().is_none());
            return;
        }
        (ended, before) = (later, now);
    }
    println!("SKIPPED: the kernel gives no number a second time");
}

/// What has number and id of one that ended, but lies elsewhere where nobody can reach it, is another's, and no error.
#[test]
fn another_mount_of_the_same_number_out_of_reach_is_left_alone() {
    let Some(Image { mounted, folder }) = image() else {
        return;
    };
    if !is_root() {
        return;
    }
    let place = folder.path().canonicalize().unwrap();
    let line = stale::mounts().into_iter().find(|it| it.path == place);
    let line = line.unwrap();
    let view = DiskView::open_image(&fixture().disk).unwrap();
    let upper = mount_image(view, &place, &MountOptions::default()).unwrap();
    let known = |path: &Path| Place::known(path.to_path_buf(), line.number.clone(), line.id);
    let elsewhere = stale::detach(&known(Path::new("/nowhere/at/all")));
    let there = stale::detach(&known(&place));
    assert_eq!(upper.unmount().unwrap(), Unmounted::Cleanly);
    assert_eq!(mounted.unmount().unwrap(), Unmounted::Cleanly);
    assert_eq!(elsewhere.unwrap(), Cleared::Alive);
    assert_eq!(there.unwrap_err().kind(), Kind::Busy);
}

/// What is dead is not reached while another file system lies over it, and is not forgotten for that.
#[test]
fn what_is_dead_below_another_goes_when_it_can_be_reached() {
    let Some(Image { mounted, folder }) = image() else {
        return;
    };
    if !is_root() {
        return;
    }
    let place = folder.path().canonicalize().unwrap();
    let number = stale::mounts().into_iter().find(|it| it.path == place);
    let number = number.unwrap().number;
    let minor = number.strip_prefix("0:").unwrap();
    let view = DiskView::open_image(&fixture().disk).unwrap();
    let upper = mount_image(view, &place, &MountOptions::default()).unwrap();
    let connections = tempdir().unwrap();
    let made = Command::new("mount")
        .args(["-t", "fusectl", "cairn-test"])
        .arg(connections.path())
        .status();
    if !made.is_ok_and(|status| status.success()) {
        println!("SKIPPED: the kernel's connections cannot be mounted");
        return;
    }
    let cut = fs::write(connections.path().join(minor).join("abort"), "1");
    run("umount", &[text(connections.path())]);
    cut.unwrap();
    // Who waits is told that something is left.
    assert_eq!(mounted.wait().unwrap_err().kind(), Kind::Busy);
    let error = mounted.unmount().unwrap_err();
    assert_eq!(error.kind(), Kind::Busy);
    assert!(place.join("files/disk0").exists());
    assert_eq!(upper.unmount().unwrap(), Unmounted::Cleanly);
    assert!(stale::is_dead(&place));
    drop(mounted);
    assert!(!is_mounted(&place));
}
