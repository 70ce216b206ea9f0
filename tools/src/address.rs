//! Addresses inside a store: `POINT[:/disk/pN/path]`.

use crate::exit::{self, Failure};
use cairn::{DiskView, EntryId, Error, Kind, PointView, Store, Volume, VolumeView, walk};
use std::ffi::OsStr;
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
    /// What stands behind the colon, without the leading slash.
    pub path: &'a [u8],
}

impl<'a> Address<'a> {
    /// Takes `POINT[:/disk/pN/path]` apart.
    pub fn parse(text: &'a OsStr) -> Result<Address<'a>, Failure> {
        let bytes = text.as_bytes();
        let colon = bytes.windows(2).position(|pair| pair == b":/");
        let (point, path) = match colon {
            Some(at) => (&bytes[..at], &bytes[at + 2..]),
            None => (bytes, &[][..]),
        };
        let point = std::str::from_utf8(point)
            .map_err(|_| Error::invalid("a point's name is text in UTF-8"))?;
        Ok(Address { point, path })
    }

    /// The last name of the path.
    pub fn last_name(&self) -> &'a [u8] {
        self.path
            .split(|byte| *byte == b'/')
            .rfind(|name| !name.is_empty() && *name != b".")
            .unwrap_or_default()
    }
}

/// Opens the store and the point of an address.
pub fn open_point(store: &Path, address: &Address<'_>) -> Result<PointView, Failure> {
    let store = open_store(store)?;
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
    let files = volume.open().map_err(|e| {
        // What the guest did to its file system is not damage of the store.
        Failure::of_guest(e.context(format!("{disk_name}/{volume_name} cannot be read")))
    })?;
    tell_defects(point, &format!("{disk_name}/{volume_name}"), volume);
    let id = walk::resolve(&*files, parts.next().unwrap_or_default()).map_err(|error| {
        Failure::of_guest(if error.kind() == Kind::NotFound {
            error.advise("see `cairn ls`")
        } else {
            error
        })
    })?;
    Ok(Target::Entry(files, id))
}

/// Names why what a volume shows may be old, missing or wrong: once, whatever is asked of it.
pub fn tell_defects(point: &PointView, path: &str, volume: &VolumeView) {
    let point = point.point();
    let (machine, time) = (&point.record.machine, point.time().folder_name());
    for defect in volume.defects() {
        exit::warn_once(&format!("{machine}@{time}:/{path}: {defect}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_is_no_last_name() {
        let name = |text: &'static str| {
            let address = Address::parse(OsStr::new(text)).ok();
            address.map(|address| address.last_name())
        };
        for text in ["a@latest:/disk0/p1/x", "a@latest:/disk0/p1/x/./"] {
            assert_eq!(name(text), Some(&b"x"[..]));
        }
    }

    #[test]
    fn the_first_colon_before_a_slash_divides() {
        let parse = |text: &'static str| {
            let address = Address::parse(OsStr::new(text))
                .ok()
                .map(|a| (a.point, a.path));
            address.unwrap_or_default()
        };
        assert_eq!(parse("a@latest"), ("a@latest", &b""[..]));
        assert_eq!(
            parse("a@latest:/disk0/p1/x:/y"),
            ("a@latest", &b"disk0/p1/x:/y"[..])
        );
        assert_eq!(
            parse("a@2026-11-20T02:00:00Z:/disk0"),
            ("a@2026-11-20T02:00:00Z", &b"disk0"[..])
        );
    }
}
