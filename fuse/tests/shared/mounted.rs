//! Real mounts.

use super::{fixture, fuse_is_there};
use cairn::DiskView;
use cairn_fuse::{MountOptions, Mounted, mount_image};
use std::collections::BTreeMap;
use std::fs::{self};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::{TempDir, tempdir};

/// An image mount. Unmounted before its folder is removed.
pub struct Image {
    pub mounted: Mounted,
    pub folder: TempDir,
}

pub fn image() -> Option<Image> {
    image_of(&fixture().disk)
}

pub fn image_of(disk: &Path) -> Option<Image> {
    image_with(disk, &MountOptions::default())
}

pub fn image_with(disk: &Path, options: &MountOptions) -> Option<Image> {
    if !fuse_is_there() {
        return None;
    }
    let folder = tempdir().unwrap();
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let view = DiskView::open_image(disk).unwrap();
    let mounted = mount_image(view, folder.path(), options).unwrap();
    Some(Image { mounted, folder })
}

impl Image {
    pub fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }
}

pub fn is_mounted(path: &Path) -> bool {
    let path = path.canonicalize().unwrap();
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    table
        .lines()
        .any(|line| line.split(' ').nth(1) == path.to_str())
}

/// Everything below a folder, by path.
pub fn listing(top: &Path) -> BTreeMap<PathBuf, fs::Metadata> {
    let (mut folders, mut found) = (vec![top.to_path_buf()], BTreeMap::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let metadata = fs::symlink_metadata(entry.path()).unwrap();
            if metadata.is_dir() {
                folders.push(entry.path());
            }
            found.insert(
                entry.path().strip_prefix(top).unwrap().to_path_buf(),
                metadata,
            );
        }
    }
    found
}

/// Runs a shell command as the user nobody; none without the rights to.
pub fn as_nobody(command: &str) -> Option<std::process::Output> {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: not root, who alone can become another user");
        return None;
    }
    let output = std::process::Command::new("setpriv")
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "sh",
            "-c",
            command,
        ])
        .output()
        .unwrap();
    Some(output)
}
