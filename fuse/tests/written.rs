//! What is said of disks that were written to, in real mounts. Skipped, saying so, where there is no `/dev/fuse`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests are here"
)]

mod shared;

use cairn::{DiskView, Error, ReadAt};
use cairn_fuse::mount_image;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use shared::writable::{DISK, Mount, image, options, read};
use shared::{fuse_is_there, run};
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use tempfile::tempdir;

/// A disk of ones, with its first page and nothing else, or without any; one sector is bad if there is a first page.
struct Odd {
    first: u64,
}

/// Bytes of it, and the sector that cannot be read.
const ODD: u64 = 16 << 20;
const BAD: u64 = 8 << 20;

impl ReadAt for Odd {
    fn size(&self) -> u64 {
        ODD
    }
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> cairn::Result<()> {
        let end = offset + buffer.len() as u64;
        if self.first > 0 && offset < BAD + 512 && end > BAD {
            return Err(Error::damaged("a bad sector"));
        }
        for (at, byte) in (offset..).zip(buffer) {
            *byte = u8::from(at < self.first);
        }
        Ok(())
    }
    fn data_extents(&self, range: Range<u64>) -> cairn::Result<Vec<Range<u64>>> {
        let found = range.start..range.end.min(self.first);
        Ok(Some(found)
            .filter(|it| !it.is_empty())
            .into_iter()
            .collect())
    }
}

fn odd(scratch: &Path, first: u64) -> Option<Mount> {
    if !fuse_is_there() {
        return None;
    }
    let folder = tempdir().unwrap();
    let view = DiskView::new("disk0", Arc::new(Odd { first }), None);
    let mounted = mount_image(view, folder.path(), &options(scratch, false)).unwrap();
    Some(Mount { mounted, folder })
}

fn times(path: &Path) -> [(i64, i64); 2] {
    let found = fs::metadata(path).unwrap();
    [
        (found.mtime(), found.mtime_nsec()),
        (found.ctime(), found.ctime_nsec()),
    ]
}

/// **[written]** The times of a disk that was written to are those of the last write, of a kept one also of a write by another mount; its blocks are the point's and those of
/// the scratch files. After a `fallocate` that failed, those who have the disk open may go on reading what was there; who opens it then reads what is there.
#[test]
fn what_is_said_of_a_disk_follows_what_is_written() {
    let scratch = tempdir().unwrap();
    let Some(mount) = odd(scratch.path(), 0) else {
        return;
    };
    let path = mount.at(DISK);
    let mut before = times(&path);
    assert_eq!(before, times(&mount.at("disks/disk0.vhd")));
    let disk = mount.to_write(DISK);
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let write: [&dyn Fn(); 2] = [&|| disk.write_all_at(b"written", 1 << 20).unwrap(), &|| {
        fallocate(&disk, hole, 2 << 20, 5000).unwrap()
    }];
    for write in write {
        write();
        let after = times(&path);
        assert!(after[0] != before[0] && after[1] != before[1]);
        before = after;
    }
    assert_eq!(before, times(&path));
    let blocks = fs::metadata(&path).unwrap().blocks();
    assert!((1..ODD / 512).contains(&blocks), "{blocks}");
    packed_with_its_holes(&mount);
    drop(disk);
    mount.end();

    let mount = odd(scratch.path(), 4096).unwrap();
    let disk = mount.to_write(DISK);
    assert_eq!(read(&disk, 0, 4096), [1; 4096]);
    // Its first edge is zeros by then.
    let failed = fallocate(&disk, FallocateFlags::ZERO_RANGE, 100, BAD);
    assert_eq!(failed, Err(Errno::IO));
    drop(disk);
    let disk = File::open(mount.at(DISK)).unwrap();
    assert_eq!(read(&disk, 0, 4096)[100..], [0; 3996]);
    drop(disk);
    mount.end();

    let mount = image(scratch.path(), true).unwrap();
    let of_the_point = times(&mount.at(DISK));
    let disk = mount.to_write(DISK);
    disk.write_all_at(b"kept", 0).unwrap();
    let written = times(&mount.at(DISK));
    assert_ne!(written, of_the_point);
    let other = image(scratch.path(), true).unwrap();
    assert_eq!(times(&other.at(DISK)), written);
    other.end();
    drop(disk);
    mount.end();
    let mount = image(scratch.path(), true).unwrap();
    assert_eq!(times(&mount.at(DISK)), written);
    mount.end();
}

/// GNU tar takes files without blocks for holes, and does not read them.
fn packed_with_its_holes(mount: &Mount) {
    let temp = tempdir().unwrap();
    let (packed, disks) = (temp.path().join("packed"), mount.at("disks"));
    let (packed, disks) = (packed.to_str().unwrap(), disks.to_str().unwrap());
    let names = ["disk0.raw", "disk0.vhd", "disk0.vhdx"];
    run(
        "tar",
        &[&["-Scf", packed, "-C", disks], &names[..]].concat(),
    );
    run("tar", &["-xf", packed, "-C", temp.path().to_str().unwrap()]);
    for name in names {
        let shown = fs::read(mount.at("disks").join(name)).unwrap();
        assert!(fs::read(temp.path().join(name)).unwrap() == shown, "{name}");
    }
}
