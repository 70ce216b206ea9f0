//! What is written to a kept disk in a mount is there for whoever opens the overlay otherwise, and the other way round.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests are here"
)]

mod shared;

use cairn::{DiskView, Overlay, OverlayBase, ReadAt};
use shared::fixture;
use shared::writable::{DISK, image, read};
use std::fs::File;
use std::os::unix::fs::FileExt;
use tempfile::tempdir;

#[test]
fn a_kept_disk_is_the_same_in_a_mount_and_without_one() {
    let scratch = tempdir().unwrap();
    let Some(mount) = image(scratch.path(), true) else {
        return;
    };
    let disk = mount.to_write(DISK);
    disk.write_all_at(b"from the mount", 5000).unwrap();
    drop(disk);
    mount.end();

    let view = DiskView::open_image(&fixture().disk).unwrap();
    let of = OverlayBase::of_view(&view);
    let overlay = Overlay::kept(view.disk().clone(), scratch.path(), &of).unwrap();
    let mut found = [0; 14];
    overlay.read_exact_at(5000, &mut found).unwrap();
    assert_eq!(&found, b"from the mount");
    overlay.write_at(70_000, b"from elsewhere").unwrap();
    overlay.flush().unwrap();
    drop(overlay);

    let mount = image(scratch.path(), true).unwrap();
    let disk = File::open(mount.at(DISK)).unwrap();
    assert_eq!(read(&disk, 5000, 14), b"from the mount");
    assert_eq!(read(&disk, 70_000, 14), b"from elsewhere");
    drop(disk);
    mount.end();
}
