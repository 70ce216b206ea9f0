use super::*;
use crate::device::Place;
use std::fs::{self, File};

fn is_there() -> bool {
    let there = Path::new("/dev/fuse").exists();
    if !there {
        println!("SKIPPED: no /dev/fuse");
    }
    there
}

/// Mounted, and served by nobody yet.
fn unserved(folder: &Path) -> (std::os::fd::OwnedFd, Place) {
    let manner = Manner {
        allow_other: false,
        writable: false,
        source: "cairn",
    };
    device::mount(folder, manner).unwrap()
}

/// A disk of nothing.
fn nothing() -> DiskView {
    DiskView::new("disk0", Arc::new(vec![0; 1 << 20]), None)
}

#[test]
fn what_was_not_detached_is_tried_again() {
    if !is_there() {
        return;
    }
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // The connection is gone, and what is mounted gives no answer.
    let (ended, place) = unserved(other.path());
    device::unmount(&place, true, &|| true).unwrap();
    let ended = Ended::new(Connection::of(&ended).unwrap());
    let (served, place) = unserved(folder.path());
    assert!(!ended.is_up());
    let error = ended.detach(&place).unwrap_err();
    assert_eq!(error.kind(), Kind::Busy);
    // Now it is known to be dead.
    drop(served);
    ended.detach(&place).unwrap();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table.contains(folder.path().to_str().unwrap()));
}

#[test]
fn what_was_detached_is_not_unmounted_again() {
    if !is_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mount = || mount_image(nothing(), folder.path(), &MountOptions::default()).unwrap();
    for known in [true, false] {
        let mut first = mount();
        if !known {
            // As where the kernel's table cannot be read.
            first.place = Place::unknown(folder.path().to_path_buf());
        }
        let held = File::open(folder.path().join("disks/disk0.raw")).unwrap();
        assert_eq!(first.unmount().unwrap(), Unmounted::StillInUse);
        let later = mount();
        for _ in 0..2 {
            assert_eq!(first.unmount().unwrap(), Unmounted::StillInUse);
            assert!(folder.path().join("disks").exists());
        }
        drop(held);
        first.wait().unwrap();
        assert_eq!(first.unmount().unwrap(), Unmounted::Cleanly);
        drop(first);
        assert!(folder.path().join("disks").exists());
        assert_eq!(later.unmount().unwrap(), Unmounted::Cleanly);
        assert!(!folder.path().join("disks").exists());
    }
}
