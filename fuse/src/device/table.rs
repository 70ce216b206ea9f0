//! What is mounted where, as the kernel tells it.

use cairn::{Error, Result};
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// See proc_pid_mountinfo(5).
const TABLE: &str = "/proc/self/mountinfo";

/// What the kernel's table says of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Which mount it is, of those that there are now.
    pub id: u64,
    /// The mount that it lies in.
    pub parent: u64,
    /// Its device number, `0:57`: of its file system, which others may have mounted at a second place.
    pub number: String,
    /// The folder of the file system that is mounted, `/` if it is all of it.
    pub root: PathBuf,
    /// Where it is.
    pub place: PathBuf,
    /// The type that `mount` and `df` show.
    pub kind: Vec<u8>,
    /// What is mounted, as `df` shows it.
    pub source: Vec<u8>,
}

/// Everything that is mounted in this process's tree of files, lowest first.
///
/// # Errors
/// If the kernel's table cannot be read.
pub fn lines() -> Result<Vec<Line>> {
    let what = "cannot see what is mounted";
    let table = std::fs::read(TABLE).map_err(|error| Error::io(what, Path::new(TABLE), error))?;
    let lines = table.split(|byte| *byte == b'\n');
    Ok(lines.filter_map(line).collect())
}

/// What one line of the table says; none if it is none.
fn line(line: &[u8]) -> Option<Line> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = decimal(fields.next()?)?;
    let parent = decimal(fields.next()?)?;
    let number = String::from_utf8_lossy(fields.next()?).into_owned();
    let root = path(fields.next()?);
    let place = path(fields.next()?);
    // Options and optional fields, a hyphen, the type, the source.
    let kind = fields.by_ref().skip_while(|field| *field != b"-").nth(1)?;
    let source = unescape(fields.next()?);
    Some(Line {
        id,
        parent,
        number,
        root,
        place,
        kind: kind.to_vec(),
        source,
    })
}

fn decimal(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn path(field: &[u8]) -> PathBuf {
    OsString::from_vec(unescape(field)).into()
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

/// What is mounted in the mount with this id, over it, and in these in turn.
pub(super) fn inside(all: &[Line], id: u64) -> Vec<&Line> {
    let mut children: HashMap<u64, Vec<&Line>> = HashMap::new();
    for line in all {
        children.entry(line.parent).or_default().push(line);
    }
    let mut found: Vec<&Line> = children.remove(&id).unwrap_or_default();
    let mut next = 0usize;
    // Each mount's are taken once, so that it ends whatever the table says.
    while let Some(line) = found.get(next) {
        found.extend(children.remove(&line.id).unwrap_or_default());
        next = next.saturating_add(1);
    }
    found
}

/// Whether anything is mounted at or below a path of the file system with this device number, at whatever place of it.
pub(super) fn is_mounted_below(all: &[Line], number: &str, path: &Path) -> bool {
    let mut mounts = all.iter().filter(|line| line.number == number);
    mounts.any(|mount| {
        let mut others = all.iter().filter(|other| other.parent == mount.id);
        others.any(|other| {
            let below = other.place.strip_prefix(&mount.place);
            below.is_ok_and(|below| mount.root.join(below).starts_with(path))
        })
    })
}

#[cfg(test)]
mod tests;
