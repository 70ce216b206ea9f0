//! Mounts by the kernel, where we are root.

use crate::support::shell;
use std::path::{Path, PathBuf};

/// A mount that ends with the value.
pub struct Mount(PathBuf);

impl Mount {
    /// Mounts `image` at `folder`; why not, if the kernel does not.
    pub fn new(image: &Path, options: &str, folder: &Path) -> Result<Mount, String> {
        std::fs::create_dir_all(folder).unwrap();
        let (image, at) = (image.display(), folder.display());
        shell(&format!("mount -t ext4 -o loop,{options} '{image}' '{at}'"))?;
        Ok(Mount(folder.to_path_buf()))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = shell(&format!("umount '{}'", self.0.display())) {
            println!("{error}");
        }
    }
}

/// Whether mounts are possible at all; says so if not.
pub fn can_mount() -> bool {
    let root = shell("test $(id -u) = 0 && test -e /dev/loop-control").is_ok();
    if !root {
        println!("SKIPPED: not root, or no loop devices");
    }
    root
}
