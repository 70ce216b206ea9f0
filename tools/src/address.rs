//! Addresses inside a store: `POINT[:/disk/pN/path]`, or `POINT:C:/path` with a drive letter of Windows.

use crate::exit::{self, Failure};
use cairn::{
    DiskView, EntryId, Error, Kind, PointView, ReadOptions, Store, Volume, VolumeView, walk,
};
use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::Display;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// What an address leads to.
pub enum Target {
    /// The point itself.
    Point,
    /// A disk of it.
    Disk(Arc<DiskView>),
    /// An entry of a volume.
    Entry(Arc<dyn Volume>, EntryId),
}

/// An address, taken apart.
pub struct Address<'a> {
    /// Which point.
    pub point: &'a str,
    /// What stands behind the colon, without the leading slash; with slashes between names.
    pub path: Cow<'a, [u8]>,
}

impl<'a> Address<'a> {
    /// Takes `POINT[:/disk/pN/path]`, `POINT:C:/path` or `POINT:C:\path` apart.
    pub fn parse(text: &'a OsStr) -> Result<Address<'a>, Failure> {
        let bytes = text.as_bytes();
        let colons = (0..bytes.len()).filter(|at| bytes[*at] == b':');
        let begins =
            |at: &usize| bytes[at + 1..].first() == Some(&b'/') || has_letter(&bytes[at + 1..]);
        let (point, path) = match colons.into_iter().find(begins) {
            Some(at) => (&bytes[..at], &bytes[at + 1..]),
            None => (bytes, &[][..]),
        };
        let path = path.strip_prefix(b"/").unwrap_or(path);
        // Only where a path begins as Windows writes it a backslash stands between names.
        let path = if has_letter(path) && path.get(2) == Some(&b'\\') {
            let slash = |byte: &u8| if *byte == b'\\' { b'/' } else { *byte };
            path.iter().map(slash).collect()
        } else {
            Cow::Borrowed(path)
        };
        let point = std::str::from_utf8(point)
            .map_err(|_| Error::invalid("a point's name is text in UTF-8"))?;
        Ok(Address { point, path })
    }

    /// The names of the path. That of a drive letter is the letter alone: a name with a colon means something else in archives and on Windows' own file
    /// systems.
    pub fn names(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        let (letter, below) = match &*self.path {
            [letter, b':', below @ ..] if has_letter(&self.path) => {
                (Some(std::slice::from_ref(letter)), below)
            }
            path => (None, path),
        };
        let names = below.split(|byte| *byte == b'/');
        let names = names.filter(|name| !name.is_empty() && *name != b".");
        letter.into_iter().chain(names)
    }

    /// The last name of the path.
    pub fn last_name(&self) -> &[u8] {
        self.names().next_back().unwrap_or_default()
    }
}

/// Opens the store and the point of an address, whose file systems are read as `reading` says.
pub fn open_point(
    store: &Path,
    address: &Address<'_>,
    reading: ReadOptions,
) -> Result<PointView, Failure> {
    let store = open_store(store)?.with_read_options(reading);
    open_named(&store, address.point)
}

/// Opens the point that a user names.
pub fn open_named(store: &Store, name: &str) -> Result<PointView, Failure> {
    let point = store.open_point(&store.find_point(name)?)?;
    if let Some(warning) = point.warning() {
        eprintln!("cairn: warning: {warning}");
    }
    Ok(point)
}

/// Opens a store and tells what is wrong with it, if anything is.
pub fn open_store(path: &Path) -> Result<Store, Failure> {
    let store = Store::open(path)?;
    for warning in store.warnings() {
        exit::warn(warning);
    }
    exit::watch(&store);
    Ok(store)
}

/// What an address leads to.
pub fn resolve(point: &PointView, path: &[u8]) -> Result<Target, Failure> {
    let mut parts = path.splitn(3, |byte| *byte == b'/');
    let part = |part: Option<&[u8]>| String::from_utf8_lossy(part.unwrap_or_default()).into_owned();
    let disk_name = part(parts.next());
    if disk_name.is_empty() {
        return Ok(Target::Point);
    }
    if has_letter(path) {
        let (volume, called) = lettered(point, path)?;
        return entry(point, &volume, &called, below_volume(path));
    }
    let disk = point.disk(&disk_name).ok_or_else(|| {
        let names: Vec<_> = point.disks().iter().map(|disk| disk.name()).collect();
        Error::not_found(format!("the point has no disk `{disk_name}`"))
            .advise(format!("it has {}", names.join(", ")))
    })?;
    let volume_name = part(parts.next());
    if volume_name.is_empty() {
        return Ok(Target::Disk(disk.clone()));
    }
    let volumes = disk.volumes().map_err(Failure::of_guest)?;
    let volume: &Arc<VolumeView> = volumes
        .iter()
        .find(|volume| volume.folder_name() == volume_name)
        .ok_or_else(|| {
            let names: Vec<_> = volumes.iter().map(|volume| volume.folder_name()).collect();
            Error::not_found(format!(
                "the disk {disk_name} has no volume `{volume_name}`"
            ))
            .advise(format!("it has {}", names.join(", ")))
        })?;
    let below = parts.next().unwrap_or_default();
    entry(point, volume, &format!("{disk_name}/{volume_name}"), below)
}

/// The entry at `below` of a volume that is called `called`.
fn entry(
    point: &PointView,
    volume: &VolumeView,
    called: &str,
    below: &[u8],
) -> Result<Target, Failure> {
    let files = volume.open().map_err(|e| {
        // What the guest did to its file system is not damage of the store.
        Failure::of_guest(e.context(format!("{called} cannot be read")))
    })?;
    tell_defects(point, called, volume);
    let id = walk::resolve(&*files, below).map_err(|error| {
        Failure::of_guest(if error.kind() == Kind::NotFound {
            error.advise("see `cairn ls`")
        } else {
            error
        })
    })?;
    Ok(Target::Entry(files, id))
}

/// Whether a path begins with a drive letter of Windows: `C:`, `C:/x` or `C:\x`.
fn has_letter(path: &[u8]) -> bool {
    match path {
        [letter, b':', rest @ ..] => {
            letter.is_ascii_alphabetic() && matches!(rest.first(), None | Some(b'/' | b'\\'))
        }
        _ => false,
    }
}

/// The names below its volume of a path, which follow its disk and partition or its drive letter.
pub fn below_volume(path: &[u8]) -> &[u8] {
    let above = if has_letter(path) { 2 } else { 3 };
    let below = path.splitn(above, |byte| *byte == b'/').nth(above - 1);
    below.unwrap_or_default()
}

/// The volume of a path with a drive letter, and where it is found.
fn lettered(point: &PointView, path: &[u8]) -> Result<(Arc<VolumeView>, String), Failure> {
    let layout = point.machine().layout();
    let letter = path.first().copied().unwrap_or_default();
    let found = layout.letter(letter);
    // Of a letter that is not there everything that is known may be why.
    let notes = layout.notes().iter();
    for note in notes.filter(|note| note.is_defect || found.is_none()) {
        exit::warn_once(&note.text);
    }
    if let Some(volume) = found {
        return Ok((volume.view().clone(), volume.path().to_string()));
    }
    let known: Vec<String> = layout.letters().map(|(c, _)| format!("{c}:")).collect();
    let advice = match known.is_empty() {
        true => "no Windows on its disks gives one of them a letter; see `cairn ls`".to_string(),
        false => format!("it has {}", known.join(", ")),
    };
    let letter = char::from(letter).to_ascii_uppercase();
    Err(
        Error::not_found(format!("the point has no volume `{letter}:`"))
            .advise(advice)
            .into(),
    )
}

/// Names why what a volume shows may be old, missing or wrong: once, whatever is asked of it.
pub fn tell_defects(point: &PointView, path: &str, volume: &VolumeView) {
    for defect in volume.defects() {
        tell_defect(point, path, &defect);
    }
}

/// Names what is wrong with the volume at a path, once.
pub fn tell_defect(point: &PointView, path: &str, defect: impl Display) {
    let point = point.point();
    let (machine, time) = (&point.record.machine, point.time().folder_name());
    exit::warn_once(&format!("{machine}@{time}:/{path}: {defect}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_is_no_last_name() {
        let name = |text: &'static str| {
            let address = Address::parse(OsStr::new(text)).ok();
            address.map(|address| address.last_name().to_vec())
        };
        for text in ["a@latest:/disk0/p1/x", "a@latest:/disk0/p1/x/./"] {
            assert_eq!(name(text), Some(b"x".to_vec()));
        }
    }

    #[test]
    fn the_first_colon_before_a_slash_divides() {
        let parse = |text: &'static str| {
            let address = Address::parse(OsStr::new(text))
                .ok()
                .map(|a| (a.point, a.path.into_owned()));
            address.unwrap_or_default()
        };
        for (text, point, path) in [
            ("a@latest", "a@latest", ""),
            ("a@latest:/disk0/p1/x:/y", "a@latest", "disk0/p1/x:/y"),
            (
                "a@2026-11-20T02:00:00Z:/disk0",
                "a@2026-11-20T02:00:00Z",
                "disk0",
            ),
        ] {
            assert_eq!(parse(text), (point, path.as_bytes().to_vec()), "{text}");
        }
    }

    #[test]
    fn a_letter_stands_for_disk_and_partition() {
        let parse = |text: &'static str| {
            let address = Address::parse(OsStr::new(text)).ok();
            let address = address.map(|a| (a.point, a.path.into_owned()));
            address.unwrap_or_default()
        };
        for (text, point, path) in [
            ("a@latest:C:", "a@latest", "C:"),
            ("a@latest:c:/x\\y", "a@latest", "c:/x\\y"),
            ("a@latest:/C:/x", "a@latest", "C:/x"),
            (r"a@latest:C:\Users\x", "a@latest", "C:/Users/x"),
            (
                "a@2026-11-20T02:00:00Z:D:/x",
                "a@2026-11-20T02:00:00Z",
                "D:/x",
            ),
            (r"a@latest:/disk0/p1/C:\x", "a@latest", r"disk0/p1/C:\x"),
        ] {
            assert_eq!(parse(text), (point, path.as_bytes().to_vec()), "{text}");
        }
        assert_eq!(below_volume(b"C:/Users/x"), b"Users/x");
        assert_eq!(below_volume(b"C:"), b"");
        assert_eq!(below_volume(b"disk0/p1/Users/x"), b"Users/x");
    }
}
