//! Images as libvhdi sees them, an implementation that is not ours: mounted by its `vhdimount`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mount of libvhdi, unmounted at the end.
pub struct Mounted(tempfile::TempDir);

impl Mounted {
    /// Whether anything can be mounted so here; says so if not.
    pub fn is_possible() -> bool {
        let is_there = |program: &str| Command::new(program).arg("-V").output().is_ok();
        let all = is_there("vhdimount") && is_there("fusermount3");
        if all && Path::new("/dev/fuse").exists() {
            return true;
        }
        println!("SKIPPED: vhdimount or FUSE is missing");
        false
    }

    /// Mounts `image`, and the parents it may have.
    pub fn of(image: &Path) -> Mounted {
        let folder = tempfile::tempdir().unwrap();
        let mut vhdimount = Command::new("vhdimount");
        let output = vhdimount.arg(image).arg(folder.path()).output().unwrap();
        assert!(output.status.success(), "{}: {output:?}", image.display());
        Mounted(folder)
    }

    /// The disk of an image as a file. The one without a parent has the number 1, its child 2.
    pub fn disk(&self, number: usize) -> PathBuf {
        self.0.path().join(format!("vhdi{number}"))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let mut command = Command::new("fusermount3");
        let status = command.args(["-u", "-z"]).arg(self.0.path()).status();
        assert!(status.is_ok_and(|status| status.success()));
    }
}
