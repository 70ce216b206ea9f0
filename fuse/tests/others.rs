//! What others mounted in a mount, and folders that are renamed under it. Skipped, saying so, where there is no `/dev/fuse`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests are here"
)]

mod shared;

use cairn::{DiskView, Error, Kind};
use cairn_fuse::{MountOptions, Mounted, Unmounted, mount_image, stale};
use rustix::mount::{UnmountFlags, unmount};
use shared::mounted::{Image, image, is_mounted};
use shared::{fixture, fuse_is_there, is_root, run, text};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use tempfile::{TempDir, tempdir};

fn mount_at(place: &Path) -> Mounted {
    let view = DiskView::open_image(&fixture().disk).unwrap();
    mount_image(view, place, &MountOptions::default()).unwrap()
}

/// What is mounted by somebody else; unmounted at the end of a test whatever happens.
struct Other(PathBuf);

impl Other {
    fn at(place: PathBuf) -> Other {
        run("mount", &["-t", "tmpfs", "cairn-test", text(&place)]);
        Other(place)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // It may be gone.
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[track_caller]
fn is_refused(error: &Error, place: &Path) {
    assert_eq!(error.kind(), Kind::Busy, "{error}");
    let (named, said) = (format!("{place:?}"), error.to_string());
    assert!(said.contains(&named), "{said}");
    assert!(said.contains("unmount that first"), "{said}");
}

/// **[others-mounts]** What others have mounted in a mount is not taken along: while it is there, the mount is neither detached nor cleared away, and whoever wants that is told where it is. `cairn mount`
/// then serves it on, and ends as soon as it can; a second Ctrl-C ends it at once.
#[test]
fn what_others_mounted_is_not_taken_along() {
    let Some(Image { mounted, folder }) = image() else {
        return;
    };
    if !is_root() {
        return;
    }
    let inside = folder.path().canonicalize().unwrap().join("disks");
    let upper = Other::at(inside.clone());
    fs::create_dir(inside.join("a b")).unwrap();
    let deeper = Other::at(inside.join("a b"));
    fs::write(deeper.0.join("kept"), "theirs").unwrap();
    let error = mounted.unmount().unwrap_err();
    is_refused(&error, &inside);
    assert!(
        error.to_string().contains(&format!("{:?}", deeper.0)),
        "{error}"
    );
    assert_eq!(fs::read(deeper.0.join("kept")).unwrap(), b"theirs");
    let hostname = folder.path().join("files/disk0/p1/etc/hostname");
    assert_eq!(fs::read(&hostname).unwrap(), b"web01\n");
    drop(deeper);
    is_refused(&mounted.unmount().unwrap_err(), &inside);
    drop(upper);
    assert_eq!(mounted.unmount().unwrap(), Unmounted::Cleanly);
    assert!(!is_mounted(folder.path()));
}

/// Nor is it where the mount answers nobody any more.
#[test]
fn what_others_mounted_in_a_dead_mount_is_not_taken_along() {
    let Some(Image { mounted, folder }) = image() else {
        return;
    };
    if !is_root() {
        return;
    }
    let place = folder.path().canonicalize().unwrap();
    let other = Other::at(place.join("disks"));
    // It cuts the connection, and then finds it in use.
    let cut = unmount(&place, UnmountFlags::FORCE);
    assert_eq!(cut, Err(rustix::io::Errno::BUSY));
    // Whoever waits is told that something is left, whoever unmounts too, and the next who mounts there.
    is_refused(&mounted.wait().unwrap_err(), &other.0);
    is_refused(&mounted.unmount().unwrap_err(), &other.0);
    is_refused(&stale::clear(&place).unwrap_err(), &other.0);
    assert!(stale::is_dead(&place));
    drop(other);
    assert_eq!(mounted.unmount().unwrap(), Unmounted::Cleanly);
    assert!(!is_mounted(&place));

    // The same left by a program that was killed.
    let mounted = mount_at(&place);
    let other = Other::at(place.join("disks"));
    let _ = unmount(&place, UnmountFlags::FORCE);
    mounted.wait().unwrap_err();
    drop(mounted);
    is_refused(&stale::clear(&place).unwrap_err(), &other.0);
    drop(other);
    assert_eq!(stale::clear(&place).unwrap(), 1);
    assert!(!is_mounted(&place));
}

/// A folder in `temp`, with a mountpoint in it.
fn above(temp: &TempDir) -> (PathBuf, PathBuf) {
    let temp = temp.path().canonicalize().unwrap();
    let (old, new) = (temp.join("old"), temp.join("a new\nname"));
    fs::create_dir_all(old.join("mnt")).unwrap();
    (old, new)
}

/// **[renamed]** A mount whose folders above were renamed ends as any other, and nothing that lies at its old path by then is touched.
#[test]
fn a_mount_is_found_where_it_was_moved() {
    if !fuse_is_there() {
        return;
    }
    let temp = tempdir().unwrap();
    let (old, new) = above(&temp);
    let moved = || {
        let mounted = mount_at(&old.join("mnt"));
        fs::rename(&old, &new).unwrap();
        mounted
    };
    let back = || {
        assert_eq!(fs::read_dir(new.join("mnt")).unwrap().count(), 0);
        fs::rename(&new, &old).unwrap();
    };
    let mounted = moved();
    assert_eq!(mounted.unmount().unwrap(), Unmounted::Cleanly);
    back();

    // In use; with another one where it was made.
    let mounted = moved();
    let held = File::open(new.join("mnt/disks/disk0.raw")).unwrap();
    fs::create_dir_all(old.join("mnt")).unwrap();
    let later = mount_at(&old.join("mnt"));
    assert_eq!(mounted.unmount().unwrap(), Unmounted::StillInUse);
    assert!(old.join("mnt/disks").exists());
    drop(held);
    mounted.wait().unwrap();
    assert_eq!(later.unmount().unwrap(), Unmounted::Cleanly);
    fs::remove_dir_all(&old).unwrap();
    back();

    // Dropped, and cut off.
    drop(moved());
    back();
    if is_root() {
        let mounted = moved();
        let held = File::open(new.join("mnt/disks/disk0.raw")).unwrap();
        let _ = unmount(new.join("mnt"), UnmountFlags::FORCE);
        mounted.wait().unwrap();
        drop(held);
        back();
    }
}

/// What was mounted over a folder above hides the mount, and what lies at its path is another's.
#[test]
fn a_mount_that_is_hidden_is_told_and_found_again() {
    if !fuse_is_there() || !is_root() {
        return;
    }
    let temp = tempdir().unwrap();
    let (old, _) = above(&temp);
    let mounted = mount_at(&old.join("mnt"));
    let hides = Other::at(old.clone());
    let error = mounted.unmount().unwrap_err();
    assert_eq!(error.kind(), Kind::Busy, "{error}");
    fs::create_dir(old.join("mnt")).unwrap();
    let later = mount_at(&old.join("mnt"));
    assert_eq!(mounted.unmount().unwrap_err().kind(), Kind::Busy);
    assert_eq!(later.unmount().unwrap(), Unmounted::Cleanly);
    drop(hides);
    assert_eq!(mounted.unmount().unwrap(), Unmounted::Cleanly);
    assert_eq!(fs::read_dir(old.join("mnt")).unwrap().count(), 0);
}

/// A second path that somebody else gave the same files is not ours.
#[test]
fn what_others_bound_elsewhere_stays() {
    let Some(Image { mounted, folder }) = image() else {
        return;
    };
    if !is_root() {
        return;
    }
    let elsewhere = tempdir().unwrap();
    let bound = Other(elsewhere.path().canonicalize().unwrap());
    run("mount", &["--bind", text(folder.path()), text(&bound.0)]);
    assert_eq!(mounted.unmount().unwrap(), Unmounted::StillInUse);
    assert!(!is_mounted(folder.path()) && bound.0.join("disks/disk0.raw").exists());
    assert_eq!(mounted.unmount().unwrap(), Unmounted::StillInUse);
    assert!(is_mounted(&bound.0));
    drop(bound);
    mounted.wait().unwrap();
    assert_eq!(mounted.unmount().unwrap(), Unmounted::Cleanly);
}
