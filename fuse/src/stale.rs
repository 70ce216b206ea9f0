//! Mounts that lost their program: it was killed, or its machine's memory ran out. They answer "Transport endpoint is not connected" until somebody unmounts them.

use crate::device::table::{self, Line};
use crate::device::{self, Held, NAME, Place};
use cairn::{Error, Kind, Result};
use rustix::io::{Errno, retry_on_intr};
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
    /// Which mount it is, of those that there are now.
    pub id: u64,
}

/// All mounts of `cairn`, in the order in which they were made; none if the kernel's table cannot be read.
pub fn mounts() -> Vec<MountFacts> {
    let lines = table::lines().unwrap_or_default();
    lines.into_iter().filter_map(ours).collect()
}

fn ours(line: Line) -> Option<MountFacts> {
    (line.kind == format!("fuse.{NAME}").as_bytes()).then(|| MountFacts {
        path: line.place,
        source: String::from_utf8_lossy(&line.source).into_owned(),
        number: line.number,
        id: line.id,
    })
}

/// What a mount says when it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// That it has lost its program.
    Dead,
    /// Anything else.
    Alive,
    /// Nothing, for so long.
    None,
}

/// What became of a mount that was to be detached if it is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleared {
    /// It was dead, and is in no tree of files any more.
    Detached,
    /// There is none.
    Nothing,
    /// What is there is alive, or not where it was and out of reach: another mount, which got the number later.
    Alive,
}

/// Whether what is mounted at `path` has lost its program. What does not answer in time, or not to us, has not; nor does what cannot be asked count as dead.
pub fn is_dead(path: &Path) -> bool {
    ask(path).is_ok_and(|answer| answer == Answer::Dead)
}

/// Asks it; an error if there is no thread to ask.
fn ask(path: &Path) -> std::io::Result<Answer> {
    let (tell, answer) = mpsc::channel();
    let asked = path.to_path_buf();
    // A program that hangs must not hang us. Nothing that the kernel remembers answers this question.
    std::thread::Builder::new()
        .name("cairn-stale".into())
        .spawn(move || {
            let answer = match retry_on_intr(|| rustix::fs::statfs(&asked)) {
                Err(Errno::NOTCONN) => Answer::Dead,
                _ => Answer::Alive,
            };
            // Nobody may wait for it any more.
            let _ = tell.send(answer);
        })?;
    Ok(answer.recv_timeout(PATIENCE).unwrap_or(Answer::None))
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

/// Takes the mount out of the tree of files, if it has lost its program: what is alive is another, which got the number later. Between looking and doing nothing can take its
/// place, but where the helper has to do it.
///
/// # Errors
/// As [`Held::at`] and [`Held::detach`]; [`Kind::Busy`] if it gives no answer; if there is no thread to ask it.
pub fn detach(place: &Place) -> Result<Cleared> {
    // Number and id are given again: what cannot be reached or asked elsewhere is not known to be the same.
    let held = match Held::at(place) {
        Err(error) if error.kind() == Kind::Busy && error.path() != Some(place.path()) => {
            return Ok(Cleared::Alive);
        }
        held => held?,
    };
    let Some(held) = held else {
        return Ok(Cleared::Nothing);
    };
    let answer = ask(&held.path()).map_err(|error| {
        let what = "cannot look whether what is mounted there is alive";
        Error::io(what, held.now(), error)
    })?;
    match answer {
        Answer::Dead => held.detach().map(|_| Cleared::Detached),
        Answer::Alive => Ok(Cleared::Alive),
        Answer::None if held.now() != place.path() => Ok(Cleared::Alive),
        Answer::None => {
            let what = "what is mounted there does not answer, so that it may be alive";
            let error = Error::new(Kind::Busy, what).at_path(held.now());
            Err(error.advise("try again later, or unmount it with `umount --lazy`"))
        }
    }
}

/// Unmounts what `cairn` mounted at `mountpoint` and what lost its program: nothing else is there to be lost. Answers how many there were.
///
/// # Errors
/// [`Kind::Busy`] if others have mounted something in it; [`Kind::Denied`] with advice if this user may not.
pub fn clear(mountpoint: &Path) -> Result<usize> {
    let Some(path) = full_path(mountpoint) else {
        return Ok(0);
    };
    let mut cleared = 0usize;
    while cleared < MOST {
        let ours = mounts().into_iter().rev().find(|mount| mount.path == path);
        let Some(ours) = ours else { break };
        // Another file system may lie over it.
        let place = Place::known(path.clone(), ours.number, ours.id);
        if !device::is_topmost(&place).unwrap_or(false) || !is_dead(&path) {
            break;
        }
        let detached = detach(&place).map_err(|error| {
            let what = "a mount there lost its program, and cannot be cleared away";
            match error.kind() {
                Kind::Busy => error.context(what),
                _ => Error::new(Kind::Denied, what)
                    .at_path(mountpoint)
                    .caused_by(error)
                    .advise(
                        "whoever mounted it, or root, clears it with `fusermount3 -u` or `umount`",
                    ),
            }
        })?;
        if detached != Cleared::Detached {
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
