//! Mounts whose disks can be written to.

use super::{fixture, fuse_is_there};
use cairn::DiskView;
use cairn_fuse::{MountOptions, Mounted, Scratch, Unmounted, mount_image};
use rustix::io::Errno;
use std::fs::File;
use std::io::Error;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tempfile::{TempDir, tempdir};

/// The disk of the fixture in an image mount.
pub const DISK: &str = "disks/disk0.raw";
/// Its bytes.
pub const LENGTH: u64 = 96 << 20;

/// A writable mount. Unmounted before its folders are removed.
pub struct Mount {
    pub mounted: Mounted,
    pub folder: TempDir,
}

impl Mount {
    pub fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub fn to_write(&self, path: &str) -> File {
        File::options()
            .read(true)
            .write(true)
            .open(self.at(path))
            .unwrap()
    }

    pub fn end(self) {
        self.mounted.flush().unwrap();
        assert_eq!(self.mounted.unmount().unwrap(), Unmounted::Cleanly);
    }
}

pub fn options(scratch: &Path, keep: bool) -> MountOptions {
    MountOptions {
        writable: Some(Scratch {
            folder: Some(scratch.to_path_buf()),
            keep,
        }),
        ..MountOptions::default()
    }
}

/// The fixture's disk.
pub fn image(scratch: &Path, keep: bool) -> Option<Mount> {
    if !fuse_is_there() {
        return None;
    }
    let folder = tempdir().unwrap();
    let view = DiskView::open_image(&fixture().disk).unwrap();
    let mounted = mount_image(view, folder.path(), &options(scratch, keep)).unwrap();
    Some(Mount { mounted, folder })
}

pub fn read(file: &File, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset).unwrap();
    bytes
}

pub fn errno(result: Result<impl std::fmt::Debug, Error>) -> Option<i32> {
    result.unwrap_err().raw_os_error()
}

/// What `path` says when written to so.
pub fn refused(errno: Errno) -> Option<i32> {
    Some(errno.raw_os_error())
}
