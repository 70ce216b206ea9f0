//! The folder that scratch files lie in, and files in it that have no name.

use cairn_base::ids::random;
use cairn_base::{Error, Result};
use rustix::fs::{Mode, OFlags};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where scratch files go unless somebody says otherwise: a disk rather than memory.
pub(super) fn default_folder() -> PathBuf {
    match std::env::var_os("TMPDIR") {
        Some(folder) if !folder.is_empty() => PathBuf::from(folder),
        _ => PathBuf::from("/var/tmp"),
    }
}

/// Makes `folder`, and those above it, where they are not there.
///
/// # Errors
/// As the operating system reports.
pub(super) fn make(folder: &Path) -> Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder
        .create(folder)
        .map_err(|e| Error::io("cannot make the scratch folder", folder, e))
}

/// Makes durable the names in `folder`, its own name, and those of the folders above it, any of which may be new.
///
/// # Errors
/// As the operating system reports.
pub(super) fn sync(folder: &Path) -> Result<()> {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    let failed = |at: &Path, e| Error::io("cannot make the scratch folder durable", at, e);
    let device = |at: &Path| at.metadata().map(|found| found.dev());
    let own = device(&folder).map_err(|e| failed(&folder, e))?;
    for at in folder.ancestors() {
        // What lies in another file system holds a mount point: that is not new.
        if device(at).map_err(|e| failed(at, e))? != own {
            break;
        }
        match File::open(at) {
            Ok(opened) => opened.sync_all().map_err(|e| failed(at, e))?,
            // One above that only lets pass.
            Err(e) if e.kind() == ErrorKind::PermissionDenied && at != folder => {}
            Err(e) => return Err(failed(at, e)),
        }
    }
    Ok(())
}

/// How scratch files are opened: for their owner only.
pub(super) fn open_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// A file in `folder` that has no name.
///
/// # Errors
/// As the operating system reports.
pub(super) fn nameless(folder: &Path) -> Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(File::from(file)),
        // Not every file system knows files without a name.
        Err(_) => named_for_a_moment(folder),
    }
}

/// A file that has a name until this ends, and those that were left because a process ended in between.
pub(super) fn named_for_a_moment(folder: &Path) -> Result<File> {
    sweep(folder);
    let name = cairn_base::SessionId(random()?);
    let path = folder.join(format!("{PREFIX}{name}{SUFFIX}"));
    let file = open_options()
        .create_new(true)
        .open(&path)
        .map_err(|e| Error::io("cannot make a scratch file", &path, e))?;
    match std::fs::remove_file(&path) {
        // Somebody else sweeps.
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(file),
        Err(e) => Err(Error::io("cannot take away the name", &path, e)),
        Ok(()) => Ok(file),
    }
}

const PREFIX: &str = "cairn-";
const SUFFIX: &str = ".scratch";

/// Takes away the names of empty files that [`named_for_a_moment`] made. Whoever has just made one takes its name away too, so nothing is lost.
fn sweep(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    let is_left = |name: &str| {
        let id = name.strip_prefix(PREFIX);
        let id = id.and_then(|rest| rest.strip_suffix(SUFFIX));
        id.is_some_and(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(is_left)
            && entry
                .metadata()
                .is_ok_and(|found| found.is_file() && found.len() == 0)
        {
            // It may be another user's.
            let _if_it_can_be = std::fs::remove_file(entry.path());
        }
    }
}
