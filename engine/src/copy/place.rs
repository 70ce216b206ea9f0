//! Folders of the target. Everything is made, opened and renamed relative to an open folder, one name at a time, and no link is followed on the way:
//! a guest that has a link where another one has a folder must not lead us out of the target.

use crate::copy::name;
use crate::copy::spelling::{self, Spellings};
use cairn_base::{Error, Kind, Result};
use parking_lot::Mutex;
use rustix::fs::{AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// An open folder of the target.
pub struct Folder {
    fd: OwnedFd,
    path: PathBuf,
    /// Which spellings names have, where that matters.
    spellings: Arc<Mutex<Spellings>>,
    /// Whether names of two spellings are one, once that is known.
    folds: OnceLock<bool>,
}

/// Which file it is.
pub type Inode = (u64, u64);

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

impl Folder {
    /// The folder a user names; links in that path are the user's own.
    ///
    /// # Errors
    /// As the operating system reports.
    pub fn open(path: &Path) -> Result<Folder> {
        let fd = rustix::fs::openat(CWD, path, FOLDER, Mode::empty())
            .map_err(|e| Error::io("cannot open the folder", path, e.into()))?;
        Ok(Folder::at(fd, path.to_path_buf()))
    }

    fn at(fd: OwnedFd, path: PathBuf) -> Folder {
        Folder {
            fd,
            path,
            spellings: Arc::default(),
            folds: OnceLock::new(),
        }
    }

    /// The same folder, of which something is known from before.
    pub fn with(self, spellings: Arc<Mutex<Spellings>>) -> Folder {
        Folder { spellings, ..self }
    }

    /// Where it is, for messages.
    pub fn path_of(&self, name: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(name))
    }

    /// A folder in it. A link to a folder is none.
    ///
    /// # Errors
    /// [`Kind::Exists`] if it is something else; as the operating system reports.
    pub fn enter(&self, name: &[u8]) -> Result<Folder> {
        name::check(name)?;
        let path = self.path_of(name);
        match rustix::fs::openat(&self.fd, name, FOLDER | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => Ok(Folder::at(fd, path)),
            Err(Errno::LOOP | Errno::NOTDIR) => Err(Error::new(
                Kind::Exists,
                "something that is no folder is there already",
            )
            .at_path(path)),
            Err(e) => Err(Error::io("cannot open the folder", &path, e.into())),
        }
    }

    /// As [`enter`](Folder::enter); also a folder that is the user's own and has permissions of the guest that keep him out: it is given to him.
    ///
    /// # Errors
    /// As [`enter`](Folder::enter).
    pub fn enter_own(&self, name: &[u8]) -> Result<Folder> {
        let _before = self.allow(name, FileType::Directory, 0o700)?;
        self.enter(name)
    }

    /// Gives the owner of something these permissions for it, if he is the one who runs us. Answers those it had, if they were others.
    fn allow(&self, name: &[u8], kind: FileType, wanted: u32) -> Result<Option<Mode>> {
        let own = rustix::process::geteuid().as_raw();
        let Some(there) = self.stat(name)? else {
            return Ok(None);
        };
        if kind_of(&there) != kind || there.st_uid != own || there.st_mode & wanted == wanted {
            return Ok(None);
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let failed = |e| self.failed("cannot set the permissions", name, e);
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::empty()).map_err(failed)?;
        let same = rustix::fs::fstat(&fd).is_ok_and(|known| inode_of(&known) == inode_of(&there));
        if !same {
            return Ok(None);
        }
        // There is no other way to set them of what may not be opened, without following a link that came to be there.
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let before = Mode::from_raw_mode(there.st_mode & 0o7777);
        rustix::fs::chmod(path, before | Mode::from_raw_mode(wanted)).map_err(failed)?;
        Ok(Some(before))
    }

    /// The folder at a path of several names below this one.
    ///
    /// # Errors
    /// As [`enter`](Folder::enter).
    pub fn walk(&self, path: &[u8]) -> Result<Folder> {
        let fd = self.fd.try_clone();
        let fd = fd.map_err(|e| Error::io("cannot open the folder", &self.path, e))?;
        let mut at = Folder::at(fd, self.path.clone());
        for name in path.split(|byte| *byte == b'/').filter(|n| !n.is_empty()) {
            at = at.enter(name)?;
        }
        Ok(at)
    }

    /// Makes a folder in it that only its owner may enter; `false` if something of that name is there.
    ///
    /// # Errors
    /// As the operating system reports.
    pub fn make_folder(&self, name: &[u8], mode: u32) -> Result<bool> {
        name::check(name)?;
        let mut spellings = self.spellings.lock();
        match rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(mode)) {
            Ok(()) => {
                spellings.made(name);
                Ok(true)
            }
            Err(Errno::EXIST) => Ok(false),
            Err(e) => Err(self.failed("cannot make the folder", name, e)),
        }
    }

    /// What is there under a name, itself and not where it leads; none if nothing is.
    ///
    /// # Errors
    /// As the operating system reports.
    pub fn stat(&self, name: &[u8]) -> Result<Option<Stat>> {
        name::check(name)?;
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(self.failed("cannot look at it", name, e)),
        }
    }

    /// Makes a new file, locked as long as it is open.
    ///
    /// # Errors
    /// As the operating system reports.
    pub fn create(&self, name: &[u8]) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(0o600);
        let fd = rustix::fs::openat(&self.fd, name, flags | OFlags::CLOEXEC, mode)
            .map_err(|e| self.failed("cannot make the file", name, e))?;
        // Where there are no locks the sweep of another copy finds it unlocked; it sweeps only on request.
        let _locked = rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive);
        Ok(File::from(fd))
    }

    /// Opens a file for reading; a link is none.
    ///
    /// # Errors
    /// As the operating system reports.
    pub fn read(&self, name: &[u8]) -> Result<File> {
        name::check(name)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, name, flags, Mode::empty())
            .map(File::from)
            .map_err(|e| self.failed("cannot open the file", name, e))
    }

    /// As [`read`](Folder::read); also a file that is the user's own and has permissions of the guest that keep him from reading it. It keeps them.
    ///
    /// # Errors
    /// As the operating system reports.
    pub fn read_own(&self, name: &[u8]) -> Result<File> {
        match self.read(name) {
            Err(error) if error.kind() == Kind::Denied => {
                let before = self.allow(name, FileType::RegularFile, 0o400)?;
                let file = self.read(name)?;
                if let Some(before) = before {
                    rustix::fs::fchmod(&file, before)
                        .map_err(|e| self.failed("cannot set the permissions", name, e))?;
                }
                Ok(file)
            }
            read => read,
        }
    }

    /// Says to those who sweep that something is made in it that cannot be locked itself: a link, a device, a further name.
    pub fn hold(&self) {
        // Where folders cannot be locked, nobody sweeps such things.
        let _held = rustix::fs::flock(&self.fd, FlockOperation::NonBlockingLockShared);
    }

    /// Gives `made` its `name`: what is there is replaced if `replace`, else nothing happens, which `false` says.
    ///
    /// # Errors
    /// As the operating system reports.
    pub fn place(&self, made: &[u8], name: &[u8], replace: bool) -> Result<bool> {
        // Who finds the name taken must know by whom.
        let mut spellings = self.folds(made).then(|| self.spellings.lock());
        let placed = self.rename(made, name, replace)?;
        if let Some(spellings) = spellings.as_mut().filter(|_| placed) {
            spellings.made(name);
        }
        Ok(placed)
    }

    /// Whether something answers to another spelling of a name that is there.
    fn folds(&self, there: &[u8]) -> bool {
        *self.folds.get_or_init(|| {
            let other = spelling::other(there);
            other.is_some_and(|other| matches!(self.stat(&other), Ok(Some(_))))
        })
    }

    fn rename(&self, made: &[u8], name: &[u8], replace: bool) -> Result<bool> {
        name::check(name)?;
        let failed = |e| self.failed("cannot give it its name", name, e);
        if replace {
            rustix::fs::renameat(&self.fd, made, &self.fd, name).map_err(failed)?;
            return Ok(true);
        }
        let flags = RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(&self.fd, made, &self.fd, name, flags) {
            Ok(()) => return Ok(true),
            Err(Errno::EXIST) => return Ok(false),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            Err(e) => return Err(failed(e)),
        }
        // A file system that does not know how: a second name does not replace either.
        match rustix::fs::linkat(&self.fd, made, &self.fd, name, AtFlags::empty()) {
            Ok(()) => {
                self.remove(made);
                Ok(true)
            }
            Err(Errno::EXIST) => Ok(false),
            Err(e) => Err(failed(e)),
        }
    }

    /// Removes what was made and is not wanted; the failure that led here is the one to tell.
    pub fn remove(&self, name: &[u8]) {
        let _gone = rustix::fs::unlinkat(&self.fd, name, AtFlags::empty());
    }

    /// Removes what copies that were killed left half done.
    ///
    /// # Errors
    /// As the operating system reports.
    pub fn sweep(&self) -> Result<()> {
        let lock = FlockOperation::NonBlockingLockExclusive;
        let mut alone = None;
        for name in self.names()?.iter().filter(|name| name::is_partial(name)) {
            let Some(there) = self.stat(name)? else {
                continue;
            };
            // Who makes a file has it locked; who makes something else, or gives a file another name, holds the folder.
            let ours = match kind_of(&there) {
                FileType::Directory => false,
                FileType::RegularFile if there.st_nlink == 1 => {
                    let file = self.read_own(name);
                    file.is_ok_and(|file| rustix::fs::flock(&file, lock).is_ok())
                }
                _ => *alone.get_or_insert_with(|| rustix::fs::flock(&self.fd, lock).is_ok()),
            };
            if ours {
                self.remove(name);
            }
        }
        if alone == Some(true) {
            // It is held by nobody then; to hold it again is for those who make something.
            let _free = rustix::fs::flock(&self.fd, FlockOperation::Unlock);
        }
        Ok(())
    }

    /// Whether what answers to `name` is spelled otherwise: then two names of the guest are one here.
    ///
    /// # Errors
    /// As the operating system reports.
    pub fn is_spelled_otherwise(&self, name: &[u8]) -> Result<bool> {
        let Some(other) = spelling::other(name) else {
            return Ok(false);
        };
        let (here, there) = (self.stat(name)?, self.stat(&other));
        let same = match (here, there) {
            (Some(a), Ok(Some(b))) => inode_of(&a) == inode_of(&b),
            _ => false,
        };
        Ok(same && self.spellings.lock().is_other(name, || self.names())?)
    }

    fn names(&self) -> Result<Vec<Vec<u8>>> {
        let failed = |e: Errno| Error::io("cannot list the folder", &self.path, e.into());
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd).map_err(failed)? {
            names.push(entry.map_err(failed)?.file_name().to_bytes().to_vec());
        }
        Ok(names)
    }

    /// A failed system call on something in it.
    pub fn failed(&self, what: &'static str, name: &[u8], error: Errno) -> Error {
        Error::io(what, &self.path_of(name), error.into())
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Which file a status is of.
pub fn inode_of(stat: &Stat) -> Inode {
    (stat.st_dev, stat.st_ino)
}

/// What a status says it is.
pub fn kind_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_a_folder() {
        let temp = tempfile::tempdir().unwrap();
        let (inside, outside) = (temp.path().join("in"), temp.path().join("out"));
        std::fs::create_dir(&inside).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("file"), "mine").unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
        std::os::unix::fs::symlink(outside.join("file"), inside.join("to")).unwrap();
        let folder = Folder::open(&inside).unwrap();
        for name in ["", ".", "..", "a/b", "../out", "/", "a\0b"] {
            let name = name.as_bytes();
            assert!(folder.enter(name).is_err());
            assert!(folder.make_folder(name, 0o700).is_err());
            assert!(folder.read(name).is_err());
            assert!(folder.place(b"x", name, true).is_err());
        }
        assert_eq!(folder.enter(b"link").err().unwrap().kind(), Kind::Exists);
        assert!(folder.walk(b"link/deeper").is_err());
        assert!(folder.read(b"to").is_err());
        assert!(folder.create(b"to").is_err());
        // What replaces a link replaces the link.
        let made = name::partial().unwrap();
        drop(folder.create(&made).unwrap());
        assert!(!folder.place(&made, b"to", false).unwrap());
        assert!(folder.place(&made, b"to", true).unwrap());
        assert_eq!(std::fs::read(outside.join("file")).unwrap(), b"mine");
        assert!(!inside.join("to").is_symlink());
    }

    #[test]
    fn only_what_nobody_writes_is_swept() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::open(temp.path()).unwrap();
        let (left, held) = (name::partial().unwrap(), name::partial().unwrap());
        drop(folder.create(&left).unwrap());
        let _open = folder.create(&held).unwrap();
        std::fs::write(temp.path().join("kept"), "").unwrap();
        folder.sweep().unwrap();
        assert!(folder.stat(&left).unwrap().is_none());
        assert!(folder.stat(&held).unwrap().is_some());
        assert!(folder.stat(b"kept").unwrap().is_some());
    }

    #[test]
    fn what_cannot_be_locked_is_not_swept_while_the_folder_is_held() {
        let temp = tempfile::tempdir().unwrap();
        let (maker, sweeper) = (
            Folder::open(temp.path()).unwrap(),
            Folder::open(temp.path()).unwrap(),
        );
        let link = name::partial().unwrap();
        rustix::fs::symlinkat("nowhere", &maker, link.as_slice()).unwrap();
        maker.hold();
        sweeper.sweep().unwrap();
        assert!(sweeper.stat(&link).unwrap().is_some());
        drop(maker);
        sweeper.sweep().unwrap();
        assert!(sweeper.stat(&link).unwrap().is_none());
        // Nobody is kept from holding it afterwards.
        let other = Folder::open(temp.path()).unwrap();
        let lock = FlockOperation::NonBlockingLockExclusive;
        rustix::fs::flock(&other, lock).unwrap();
    }
}
