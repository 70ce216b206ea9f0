//! A file system that this process has mounted: where it is now, what lies in it, and its end.

use super::helper;
use super::table::{self, Line};
use cairn::{Error, Kind, Result};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount as unmount_path};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What the kernel says of a descriptor, see proc_pid_fdinfo(5).
const DESCRIPTORS: &str = "/proc/self/fdinfo";
/// Mounts that an error names.
const NAMED: usize = 3;

/// A file system mounted by this process.
#[derive(Debug, Clone)]
pub struct Place {
    path: PathBuf,
    known: Option<Known>,
}

/// What tells a mount from all others, as long as there is one of the number: both are given again later.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    /// Device number as `/proc/self/mountinfo` writes it.
    number: String,
    /// The mount's id; none where the table did not have it.
    id: Option<u64>,
}

/// How unmounting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detached {
    /// It was unmounted, now or before.
    Gone,
    /// It is no longer in the tree of files, but lives until the last file in it is closed.
    InUse,
}

impl Place {
    /// Where the mount with this device number and this id was made or found.
    pub fn known(path: PathBuf, number: String, id: u64) -> Place {
        let id = Some(id);
        Place {
            path,
            known: Some(Known { number, id }),
        }
    }

    /// Whatever is mounted there: where the kernel's table cannot be read.
    pub fn unknown(path: PathBuf) -> Place {
        Place { path, known: None }
    }

    /// What was mounted there just now, by its device number if that is known.
    pub(super) fn made(path: PathBuf, number: Option<String>) -> Place {
        let all = table::lines().unwrap_or_default();
        let is_it = |line: &&Line| number.as_ref().is_none_or(|number| *number == line.number);
        let mut there = all.iter().rev().filter(|line| line.place == path);
        let line = there.find(is_it);
        let (told, id) = (
            line.map(|line| line.number.clone()),
            line.map(|line| line.id),
        );
        let known = number.or(told).map(|number| Known { number, id });
        Place { path, known }
    }

    /// Where it was mounted: it may have another path by now.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The device number; none where the kernel does not tell it.
    pub(super) fn number(&self) -> Option<&str> {
        self.known.as_ref().map(|known| &*known.number)
    }

    /// Where it is now: folders above it may have been renamed. None if it is in no tree of files any more, or nothing is known of it.
    ///
    /// # Errors
    /// If the kernel's table cannot be read.
    pub fn now(&self) -> Result<Option<PathBuf>> {
        Ok(self
            .line_of(&table::lines()?)
            .map(|line| line.place.clone()))
    }

    /// Whether others have mounted something at or below a path in it, which begins at its root; also where they gave its files a second place.
    ///
    /// # Errors
    /// If the kernel's table cannot be read.
    pub fn is_mounted_below(&self, path: &Path) -> Result<bool> {
        let all = table::lines()?;
        let path = Path::new("/").join(path);
        Ok(match self.number() {
            Some(number) => table::is_mounted_below(&all, number, &path),
            // Nothing tells it from others.
            None => true,
        })
    }

    fn line_of<'a>(&self, all: &'a [Line]) -> Option<&'a Line> {
        let known = self.known.as_ref()?;
        let is_it = |line: &&Line| match known.id {
            Some(id) => line.id == id,
            None => line.place == self.path,
        };
        let mut same = all.iter().rev().filter(|line| line.number == known.number);
        same.find(is_it)
    }
}

/// Whether it is in the tree of files, and nothing is mounted over it.
///
/// # Errors
/// [`Kind::Busy`] if another file system is mounted over it; if the kernel's table cannot be read.
pub fn is_topmost(place: &Place) -> Result<bool> {
    Found::of(place).map(|found| found.is_some())
}

/// A mount as the kernel's table has it.
#[derive(Debug)]
struct Found {
    id: u64,
    /// Where it is now.
    path: PathBuf,
    /// What others have mounted in it.
    inside: Vec<PathBuf>,
}

impl Found {
    fn of(place: &Place) -> Result<Option<Found>> {
        // Without a number nothing is it: nothing tells it from what others mounted there.
        if place.known.is_none() {
            return Ok(None);
        }
        let all = table::lines()?;
        let Some(line) = place.line_of(&all) else {
            return Ok(None);
        };
        let inside = table::inside(&all, line.id);
        let is_over = |other: &&Line| other.parent == line.id && other.place == line.place;
        if inside.iter().any(is_over) {
            let error = Error::new(Kind::Busy, "another file system is mounted over this one");
            return Err(error.at_path(&line.place).advise("unmount that first"));
        }
        Ok(Some(Found {
            id: line.id,
            path: line.place.clone(),
            inside: inside.iter().map(|other| other.place.clone()).collect(),
        }))
    }
}

/// Unmounts what is up, wherever it is now. What is in use is detached, if `lazy`. Nothing is done if `is_up` says, when it was looked what is mounted, that it is not up
/// any more: then another may have its number.
///
/// # Errors
/// [`Kind::Busy`] if it is in use and not `lazy`, others have mounted something in it or over it, or it cannot be reached; as the operating system reports.
pub fn unmount(place: &Place, lazy: bool, is_up: &dyn Fn() -> bool) -> Result<Detached> {
    let found = place.known.as_ref().map(|_| Found::of(place));
    // In this order: what is up now had the number before, and nothing else.
    if !is_up() {
        return Ok(Detached::Gone);
    }
    let Some(found) = found else {
        let flags = if lazy {
            UnmountFlags::DETACH
        } else {
            UnmountFlags::empty()
        };
        let how = unmount_path(&place.path, flags | UnmountFlags::NOFOLLOW);
        return ended(&place.path, lazy, how);
    };
    let Some(held) = found?.map(Held::of).transpose()? else {
        return Ok(Detached::Gone);
    };
    let how = if lazy {
        held.detach()
    } else {
        // What is held is in use.
        let path = held.let_go();
        ended(&path, false, unmount_path(&path, UnmountFlags::NOFOLLOW))
    };
    match how {
        // Somebody else was quicker.
        Err(_) if matches!(Found::of(place), Ok(None)) => Ok(Detached::Gone),
        how => how,
    }
}

fn ended(path: &Path, lazy: bool, how: rustix::io::Result<()>) -> Result<Detached> {
    let done = match lazy {
        true => Detached::InUse,
        false => Detached::Gone,
    };
    match how {
        Ok(()) => Ok(done),
        // No mount point any more.
        Err(Errno::INVAL | Errno::NOENT) => Ok(Detached::Gone),
        Err(Errno::PERM) => helper::unmount(path, lazy).map(|()| done),
        Err(error @ Errno::BUSY) => Err(helper::in_use(path, error.into())),
        Err(error) => Err(Error::io("cannot unmount", path, error.into())),
    }
}

/// A mount that is held, and so remains what it is from one look to the next: nothing else gets its number meanwhile.
#[derive(Debug)]
pub struct Held {
    found: Found,
    root: OwnedFd,
    /// Whether the kernel could be asked which mount it is: not where there is no descriptor left for that.
    is_sure: bool,
}

impl Held {
    /// The mount, where it is now. Nothing is asked of who serves it.
    ///
    /// # Errors
    /// [`Kind::Busy`] if another file system lies over it or over a folder above it; as the operating system reports.
    pub fn at(place: &Place) -> Result<Option<Held>> {
        Found::of(place)?.map(Held::of).transpose()
    }

    fn of(found: Found) -> Result<Held> {
        let how = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = match rustix::fs::open(&found.path, how, Mode::empty()) {
            Ok(root) => root,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(hidden(&found.path)),
            Err(error) => {
                let what = "cannot look at what is mounted there";
                return Err(Error::io(what, &found.path, error.into()));
            }
        };
        let id: Option<u64> = said_of(&root, "mnt_id:").and_then(|id| id.parse().ok());
        if id.is_some_and(|id| id != found.id) {
            return Err(hidden(&found.path));
        }
        let is_sure = id.is_some();
        Ok(Held {
            found,
            root,
            is_sure,
        })
    }

    /// Where it is in the tree of files.
    pub fn now(&self) -> &Path {
        &self.found.path
    }

    /// Another path to it, which leads nowhere else, for as long as it is held.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.root.as_raw_fd()).into()
    }

    /// Takes it out of the tree of files. (The helper, for those who may not, is told the path: what it finds there.)
    ///
    /// # Errors
    /// [`Kind::Busy`] if others have mounted something in it, which would be taken along; as the operating system reports.
    pub fn detach(self) -> Result<Detached> {
        if !self.found.inside.is_empty() {
            return Err(others_in(&self.found));
        }
        if !self.is_sure {
            let what = "cannot see which mount lies there: too many files may be open";
            let error = Error::new(Kind::Busy, what).at_path(&self.found.path);
            return Err(error.advise("try again"));
        }
        let how = unmount_path(self.path(), UnmountFlags::DETACH);
        ended(&self.found.path, true, how)
    }

    /// Its path.
    fn let_go(self) -> PathBuf {
        self.found.path
    }
}

fn hidden(path: &Path) -> Error {
    let what = "the mount cannot be reached: something is mounted over a folder above it, or that is renamed just now";
    let error = Error::new(Kind::Busy, what).at_path(path);
    error.advise("unmount what hides it, and try again")
}

fn others_in(found: &Found) -> Error {
    // Quoted, because guests may have given names in it.
    let named = found.inside.iter().take(NAMED);
    let mut named: Vec<String> = named.map(|path| format!("{path:?}")).collect();
    let more = found.inside.len().saturating_sub(NAMED);
    if more > 0 {
        named.push(format!("{more} more"));
    }
    let what = format!(
        "cannot unmount: others have mounted something in it, at {}",
        named.join(", ")
    );
    let error = Error::new(Kind::Busy, what).at_path(&found.path);
    error.advise("unmount that first, or all of it at once with `umount --lazy`")
}

/// What the kernel says of a descriptor under a name.
pub(super) fn said_of(descriptor: impl AsFd, name: &str) -> Option<String> {
    let number = descriptor.as_fd().as_raw_fd();
    let said = std::fs::read_to_string(format!("{DESCRIPTORS}/{number}")).ok()?;
    let value = said.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().to_string())
}
