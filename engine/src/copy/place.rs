//! Folders of the target. Everything is made, opened and renamed relative to an open folder, one name at a time, and no link is followed on the way:
//! a guest that has a link where another one has a folder must not lead us out of the target.

use cairn_base::ids::random;
use cairn_base::{Error, Kind, Result};
use rustix::fs::{AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// An open folder of the target.
pub struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

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
        let path = path.to_path_buf();
        Ok(Folder { fd, path })
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
        check_name(name)?;
        let path = self.path_of(name);
        match rustix::fs::openat(&self.fd, name, FOLDER | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => Ok(Folder { fd, path }),
            Err(Errno::LOOP | Errno::NOTDIR) => Err(Error::new(
                Kind::Exists,
                "something that is no folder is there already",
            )
            .at_path(path)),
            Err(e) => Err(Error::io("cannot open the folder", &path, e.into())),
        }
    }

    /// The folder at a path of several names below this one.
    ///
    /// # Errors
    /// As [`enter`](Folder::enter).
    pub fn walk(&self, path: &[u8]) -> Result<Folder> {
        let fd = self.fd.try_clone();
        let fd = fd.map_err(|e| Error::io("cannot open the folder", &self.path, e))?;
        let path_here = self.path.clone();
        let mut at = Folder {
            fd,
            path: path_here,
        };
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
        check_name(name)?;
        match rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(mode)) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(e) => Err(self.failed("cannot make the folder", name, e)),
        }
    }

    /// What is there under a name, itself and not where it leads; none if nothing is.
    ///
    /// # Errors
    /// As the operating system reports.
    pub fn stat(&self, name: &[u8]) -> Result<Option<Stat>> {
        check_name(name)?;
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(self.failed("cannot look at it", name, e)),
        }
    }

    /// A name that is free, for what is not whole yet.
    ///
    /// # Errors
    /// Where the system has no randomness.
    pub fn beside(&self) -> Result<Vec<u8>> {
        let random = u64::from_le_bytes(random()?);
        Ok(format!("{BEFORE}{random:016x}{BEHIND}").into_bytes())
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
        check_name(name)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, name, flags, Mode::empty())
            .map(File::from)
            .map_err(|e| self.failed("cannot open the file", name, e))
    }

    /// Gives `made` its `name`: what is there is replaced if `replace`, else nothing happens, which `false` says.
    ///
    /// # Errors
    /// As the operating system reports.
    pub fn place(&self, made: &[u8], name: &[u8], replace: bool) -> Result<bool> {
        check_name(name)?;
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
        for name in self.names()? {
            if !name.starts_with(BEFORE.as_bytes()) || !name.ends_with(BEHIND.as_bytes()) {
                continue;
            }
            let Ok(file) = self.read(&name) else { continue };
            let lock = FlockOperation::NonBlockingLockExclusive;
            let ours = rustix::fs::flock(&file, lock).is_ok();
            if ours && file.metadata().is_ok_and(|known| known.is_file()) {
                self.remove(&name);
            }
        }
        Ok(())
    }

    /// Whether what answers to `name` is spelled otherwise: then two names of the guest are one here.
    ///
    /// # Errors
    /// As the operating system reports.
    pub fn is_spelled_otherwise(&self, name: &[u8]) -> Result<bool> {
        let Ok(text) = std::str::from_utf8(name) else {
            return Ok(false);
        };
        let (upper, lower) = (text.to_uppercase(), text.to_lowercase());
        let other = if upper == text { lower } else { upper };
        let (here, there) = (self.stat(name)?, self.stat(other.as_bytes()));
        let same = match (here, there) {
            (Some(a), Ok(Some(b))) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
            _ => false,
        };
        Ok(other != text && same && !self.names()?.iter().any(|known| known == name))
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

/// Of names of what is not whole yet.
const BEFORE: &str = ".cairn-";
const BEHIND: &str = ".partial";

/// What a status says it is.
pub fn kind_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Volumes promise such names; nobody is taken at their word.
fn check_name(name: &[u8]) -> Result<()> {
    let bad = matches!(name, b"" | b"." | b"..") || name.iter().any(|b| matches!(b, 0 | b'/'));
    if bad {
        let shown = String::from_utf8_lossy(name).into_owned();
        return Err(Error::damaged(format!("`{shown}` is no name of a file")));
    }
    Ok(())
}

/// `name`, `name (2)`, `name (3)`, ...: the number stands before the last dot.
pub fn numbered(name: &[u8], number: u32) -> Vec<u8> {
    let dot = name.iter().rposition(|byte| *byte == b'.');
    let at = dot.filter(|at| *at > 0).unwrap_or(name.len());
    let (stem, ending) = name.split_at(at);
    [stem, format!(" ({number})").as_bytes(), ending].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_numbers_before_their_ending() {
        for (name, expected) in [
            ("report.docx", "report (2).docx"),
            ("a.tar.gz", "a.tar (2).gz"),
            ("folder", "folder (2)"),
            (".profile", ".profile (2)"),
        ] {
            assert_eq!(numbered(name.as_bytes(), 2), expected.as_bytes());
        }
    }

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
        let made = folder.beside().unwrap();
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
        let (left, held) = (folder.beside().unwrap(), folder.beside().unwrap());
        drop(folder.create(&left).unwrap());
        let _open = folder.create(&held).unwrap();
        std::fs::write(temp.path().join("kept"), "").unwrap();
        folder.sweep().unwrap();
        assert!(folder.stat(&left).unwrap().is_none());
        assert!(folder.stat(&held).unwrap().is_some());
        assert!(folder.stat(b"kept").unwrap().is_some());
    }
}
