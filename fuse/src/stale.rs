//! Mounts that lost their program: it was killed, or its machine's memory ran out. They answer "Transport endpoint is not connected" until somebody unmounts them.

use crate::device::{self, Held, NAME, Place};
use cairn::{Error, Kind, Result};
use rustix::io::Errno;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// Mounts of one place that are cleared, one under the other.
const MOST: usize = 64;
/// How long a mount may take to answer. One that takes longer is slow, not dead.
const PATIENCE: Duration = Duration::from_secs(5);

/// A mount of `cairn` in this process's tree of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFacts {
    /// Where it is.
    pub path: PathBuf,
    /// What is mounted, as `df` shows it.
    pub source: String,
    /// Its device number, `0:57`.
    pub number: String,
}

/// All mounts of `cairn`, in the order in which they were made. See proc_pid_mountinfo(5).
pub fn mounts() -> Vec<MountFacts> {
    let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let lines = table.split(|byte| *byte == b'\n');
    lines.filter_map(of_line).collect()
}

fn of_line(line: &[u8]) -> Option<MountFacts> {
    let mut fields = line.split(|byte| *byte == b' ').skip(2);
    let number = String::from_utf8_lossy(fields.next()?).into_owned();
    let path = unescape(fields.nth(1)?);
    // Optional fields, a hyphen, the type, the source.
    let kind = fields.by_ref().skip_while(|field| *field != b"-").nth(1)?;
    let source = unescape(fields.next()?);
    (kind == format!("fuse.{NAME}").as_bytes()).then(|| MountFacts {
        path: PathBuf::from(std::ffi::OsString::from_vec(path)),
        source: String::from_utf8_lossy(&source).into_owned(),
        number,
    })
}

/// The kernel writes blanks, tabs, newlines and backslashes as `\040` and the like.
fn unescape(field: &[u8]) -> Vec<u8> {
    let (mut plain, mut rest) = (Vec::with_capacity(field.len()), field);
    while let [first, tail @ ..] = rest {
        let digits = tail
            .get(..3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match byte.filter(|_| *first == b'\\') {
            Some(byte) => {
                plain.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    plain
}

/// Whether what is mounted at `path` has lost its program. What does not answer in time, or not to us, has not; nor does what cannot be asked count as dead.
pub fn is_dead(path: &Path) -> bool {
    ask(path).unwrap_or(false)
}

/// The same; an error if there is no thread to ask.
fn ask(path: &Path) -> std::io::Result<bool> {
    let (tell, answer) = mpsc::channel();
    let asked = path.to_path_buf();
    // A program that hangs must not hang us. Nothing that the kernel remembers answers this question.
    std::thread::Builder::new()
        .name("cairn-stale".into())
        .spawn(move || {
            let asked = rustix::fs::statfs(&asked);
            // Nobody may wait for it any more.
            let _ = tell.send(matches!(asked, Err(Errno::NOTCONN)));
        })?;
    Ok(answer.recv_timeout(PATIENCE).unwrap_or(false))
}

/// The mounts of `cairn` that lost their program; of one source, or of all. Of several at one place only the topmost can be asked.
pub fn dead_mounts(source: Option<&str>) -> Vec<MountFacts> {
    let mut mounts = mounts();
    let all = mounts.clone();
    mounts.retain(|mount| {
        let above = all.iter().rev().find(|other| other.path == mount.path);
        above == Some(mount)
            && source.is_none_or(|source| source == mount.source)
            && is_dead(&mount.path)
    });
    mounts
}

/// Takes what is mounted there on top out of the tree of files, if it has the number of this place and has lost its program: what is alive is another mount, which got the number
/// later. Says whether it did. Between looking and doing nothing can take its place, but where the helper has to do it.
///
/// # Errors
/// As [`Held::at`] and [`Held::detach`], and if there is no thread to ask it.
pub fn detach(place: &Place) -> Result<bool> {
    let Some(held) = Held::at(place)? else {
        return Ok(false);
    };
    let is_dead = ask(&held.path()).map_err(|error| {
        let what = "cannot look whether what is mounted there is alive";
        Error::io(what, place.path(), error)
    })?;
    if is_dead {
        held.detach()?;
    }
    Ok(is_dead)
}

/// Unmounts what `cairn` mounted at `mountpoint` and what lost its program: nothing else is there to be lost. Answers how many there were.
///
/// # Errors
/// [`Kind::Denied`] with advice if this user may not.
pub fn clear(mountpoint: &Path) -> Result<usize> {
    let Some(path) = full_path(mountpoint) else {
        return Ok(0);
    };
    let mut cleared = 0usize;
    while cleared < MOST {
        let ours = mounts().into_iter().rev().find(|mount| mount.path == path);
        let Some(ours) = ours else { break };
        // Another file system may lie over it.
        let place = Place::known(path.clone(), ours.number);
        if !device::is_topmost(&place).unwrap_or(false) || !is_dead(&path) {
            break;
        }
        let detached = detach(&place).map_err(|error| {
            let what = "a mount there lost its program, and cannot be cleared away";
            Error::new(Kind::Denied, what)
                .at_path(mountpoint)
                .caused_by(error)
                .advise("whoever mounted it, or root, clears it with `fusermount3 -u` or `umount`")
        })?;
        if !detached {
            break;
        }
        cleared = cleared.saturating_add(1);
    }
    Ok(cleared)
}

/// The path without links, also if its last folder does not answer.
fn full_path(path: &Path) -> Option<PathBuf> {
    if let Ok(full) = path.canonicalize() {
        return Some(full);
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    Some(parent.canonicalize().ok()?.join(path.file_name()?))
}

#[cfg(test)]
mod tests;
