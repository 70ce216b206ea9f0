//! The file a disk is restored to before it is whole: `.NAME.partial` beside its place, locked while it is written.

use cairn_base::{Error, Kind, Result};
use rustix::fs::{FlockOperation, OFlags, RenameFlags, flock};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a partial file that goes while it is opened is looked for again.
const ATTEMPTS: usize = 8;

/// How often a lock is tried, and how long is waited in between.
const PATIENCE: usize = 25;
const MOMENT: Duration = Duration::from_millis(20);

/// What is done with what an earlier restore has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leftover {
    /// The restore goes on with it.
    GoOn,
    /// It begins from the start.
    Replace,
    /// It is left alone, and the restore refused.
    Refuse,
}

/// A partial file, locked.
pub(super) struct Partial {
    path: PathBuf,
    file: File,
    /// Whether it was there before.
    pub(super) is_old: bool,
}

/// The name of the partial file of `target`.
pub(super) fn partial_path(target: &Path) -> Result<PathBuf> {
    let name = target
        .file_name()
        .ok_or_else(|| Error::invalid("the target of the restore has no name").at_path(target))?;
    let mut partial = OsString::from(".");
    partial.push(name);
    partial.push(".partial");
    Ok(target.with_file_name(partial))
}

impl Partial {
    /// Makes the partial file of `target`, or opens the one that an earlier restore has left. It is locked, so that two restores
    /// to one target cannot write into each other's file.
    ///
    /// # Errors
    /// [`Kind::Busy`] if another restore writes it, [`Kind::Exists`] if it is there and to be left alone.
    pub(super) fn open(target: &Path, leftover: Leftover) -> Result<Partial> {
        let path = partial_path(target)?;
        for _ in 0..ATTEMPTS {
            if let Some(partial) = Partial::try_open(&path, leftover)? {
                return Ok(partial);
            }
        }
        Err(busy(&path))
    }

    /// `None` if the file went or was replaced meanwhile.
    fn try_open(path: &Path, leftover: Leftover) -> Result<Option<Partial>> {
        let failed = |e| Error::io("cannot open the partial file of the restore", path, e);
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            // A disk holds everything that its machine's users may not read.
            .mode(0o600)
            // Who can make files here must not lead us to write to another one.
            .custom_flags(i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0));
        let (file, is_old) = match options.clone().create_new(true).open(path) {
            Ok(file) => (file, false),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => match options.open(path) {
                Ok(file) => (file, true),
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
                Err(e) => return Err(failed(e)),
            },
            Err(e) => return Err(failed(e)),
        };
        match lock(&file) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(busy(path)),
            // Some file systems know no locks. A file that we made is ours all the same.
            Err(e) if is_old => return Err(failed(e.into())),
            Err(_) => {}
        }
        // Until it was locked another restore may have given it its final name.
        let is = file.metadata().map_err(failed)?;
        match std::fs::symlink_metadata(path) {
            Ok(found) if (found.dev(), found.ino()) == (is.dev(), is.ino()) => {}
            _ => return Ok(None),
        }
        if is_old && !is.is_file() {
            return Err(Error::invalid("the partial file of the restore is no file").at_path(path));
        }
        // Made by a restore that has not got to lock it yet, or never did: nothing is in it.
        let is_old = is_old && is.len() > 0;
        if is_old && leftover == Leftover::Refuse {
            return Err(Error::new(
                Kind::Exists,
                "an interrupted restore has left its partial file",
            )
            .at_path(path)
            .advise("say --resume to go on with it, or --force to begin from the start"));
        }
        let is_old = is_old && leftover == Leftover::GoOn;
        if !is_old {
            file.set_len(0).map_err(failed)?;
        }
        Ok(Some(Partial {
            path: path.to_path_buf(),
            file,
            is_old,
        }))
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file, open for reading and writing.
    pub(super) fn file(&self) -> Result<File> {
        self.file
            .try_clone()
            .map_err(|e| Error::io("cannot open the partial file again", &self.path, e))
    }

    /// Deletes it.
    pub(super) fn remove(self) -> Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                Err(Error::io("cannot remove the partial file", &self.path, e))
            }
            _ => Ok(()),
        }
    }

    /// Gives the finished file its name, and makes the name durable.
    pub(super) fn put_in_place(self, target: &Path, replace: bool) -> Result<()> {
        let renamed = if replace {
            std::fs::rename(&self.path, target)
        } else {
            rename_new(&self.path, target)
        };
        renamed.map_err(|e| Error::io("cannot put the restored disk in its place", target, e))?;
        let folder = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|e| Error::io("cannot make the restored disk's name durable", folder, e))
    }
}

/// Makes the image `target` the partial file that a restore goes on with, if there is none. So an older copy of the same disk is
/// brought to what the point has by writing what differs, and has its name again only when it is whole.
///
/// # Errors
/// [`Kind::Invalid`] for what must not be written to under another name.
pub(super) fn take_over(target: &Path) -> Result<()> {
    let partial = partial_path(target)?;
    let found = std::fs::symlink_metadata(target)
        .map_err(|e| Error::io("cannot look at the restore's target", target, e))?;
    if partial.exists() {
        return Ok(());
    }
    if !found.is_file() || found.nlink() != 1 {
        return Err(
            Error::invalid("the target is a link, or has other names beside this one")
                .at_path(target)
                .advise("leave out --resume to replace only this name"),
        );
    }
    match rename_new(target, &partial) {
        // Another restore was quicker, and holds the partial file.
        Err(e) if e.kind() == ErrorKind::AlreadyExists || e.kind() == ErrorKind::NotFound => Ok(()),
        other => other.map_err(|e| Error::io("cannot rename the restore's target", target, e)),
    }
}

/// Locks the file. A process that was forked while a restore had it open holds the lock for a moment longer, until it has become another program.
fn lock(file: &File) -> rustix::io::Result<()> {
    for _ in 0..PATIENCE {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(MOMENT),
            other => return other,
        }
    }
    flock(file, FlockOperation::NonBlockingLockExclusive)
}

fn busy(path: &Path) -> Error {
    Error::new(Kind::Busy, "another restore writes to this target").at_path(path)
}

/// Renames without replacing what somebody may have made meanwhile, as well as the file system can.
fn rename_new(from: &Path, to: &Path) -> std::io::Result<()> {
    use rustix::io::Errno;
    let here = rustix::fs::CWD;
    match rustix::fs::renameat_with(here, from, here, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            if to.exists() {
                return Err(ErrorKind::AlreadyExists.into());
            }
            std::fs::rename(from, to)
        }
        other => other.map_err(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_partial_file_is_nobodys_work() {
        let temp = tempfile::tempdir().unwrap();
        let target = temp.path().join("disk0.raw");
        let path = partial_path(&target).unwrap();
        std::fs::write(&path, b"").unwrap();
        let partial = Partial::open(&target, Leftover::Refuse).unwrap();
        assert!(!partial.is_old);
        let busy = Partial::open(&target, Leftover::Refuse).err().unwrap();
        assert_eq!(busy.kind(), Kind::Busy);
        drop(partial);
        std::fs::write(&path, b"x").unwrap();
        let refused = Partial::open(&target, Leftover::Refuse).err().unwrap();
        assert_eq!(refused.kind(), Kind::Exists);
    }
}
