//! What NTFS keeps beside content, on a target that is NTFS too: mounted by ntfs-3g, which takes it as extended attributes and named streams as it does itself.

use crate::copy::item::{Item, LONGEST, is_compressed};
use crate::copy::place::{Folder, inode_of};
use cairn_base::units::to_u64;
use cairn_base::{Error, Result};
use cairn_guest::{EntryKind, StreamInfo};
use rustix::fs::{AtFlags, Mode, OFlags, XattrFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;

/// FILE_ATTRIBUTE_DIRECTORY.
const DIRECTORY: u32 = 0x10;
/// Answers on every entry of such a target, and on nothing else that can be written to.
const ATTRIBUTES: &str = "system.ntfs_attrib_be";
const REPARSE: &str = "system.ntfs_reparse_data";
/// Bytes of a stream that are copied at once.
const PIECE: u64 = 1 << 20;

/// What is set, in this order, and what messages call it. A reparse point comes last: what the kernel has just seen as a file or folder becomes something else
/// with it, and cannot be asked for anything until the kernel has noticed.
const SET: [(&str, &str); 6] = [
    ("system.ntfs_ea", "the extended attributes"),
    ("system.ntfs_object_id", "the object id"),
    ("system.ntfs_acl", "the security descriptor"),
    (ATTRIBUTES, "the attributes"),
    ("system.ntfs_times_be", "the times"),
    (REPARSE, "the reparse point"),
];

/// Whether `item` comes from NTFS and what is made in `folder` takes what that keeps.
pub fn is_native(folder: impl AsFd, item: &Item) -> bool {
    let mut value = [0; 4];
    let is_ntfs = !item.unix && item.volume.info().file_system == "ntfs";
    is_ntfs && rustix::fs::fgetxattr(folder, ATTRIBUTES, &mut value[..]).is_ok()
}

/// Where something lies. There is no call for attributes of names relative to a folder.
fn path(folder: &Folder, name: &[u8]) -> Vec<u8> {
    let at = format!("/proc/self/fd/{}/", folder.as_fd().as_raw_fd());
    [at.as_bytes(), name].concat()
}

/// Gives the entry `name`, which is there with its content, everything that `item` has beside it. Answers what it did not take.
pub fn dress(folder: &Folder, name: &[u8], item: &Item) -> Vec<Error> {
    let at = path(folder, name);
    let mut wrong = Vec::new();
    match item.streams() {
        Ok(streams) => {
            for stream in streams {
                if let Err(error) = put_stream(folder, name, item, &stream) {
                    let shown = String::from_utf8_lossy(&stream.name);
                    wrong.push(error.context(format!("its stream `{shown}` is lost")));
                }
            }
        }
        Err(error) => wrong.push(error.context("its named streams are lost")),
    }
    let has_content = matches!(item.attributes.kind, EntryKind::File | EntryKind::Folder);
    for (attribute, what) in SET {
        let value = match item.volume.xattr(item.id, attribute.as_bytes()) {
            Ok(Some(value)) => value,
            Ok(None) => continue,
            Err(error) => {
                wrong.push(error.context(format!("{what} cannot be read")));
                continue;
            }
        };
        // A link is nothing else, and becomes so when it is made; of devices ntfs-3g makes what it was told to make of them.
        if attribute == REPARSE && (!has_content || is_compressed(&value)) {
            continue;
        }
        let set = rustix::fs::lsetxattr(at.as_slice(), attribute, &value, XattrFlags::empty());
        if let Err(error) = set {
            let what = format!("{what} could not be set: {error}");
            wrong.push(Error::unsupported(what));
        }
    }
    wrong
}

/// The reparse point of an entry; none if it is none.
///
/// # Errors
/// As the volume reports.
pub fn point_of(item: &Item) -> Result<Option<Vec<u8>>> {
    item.volume.xattr(item.id, REPARSE.as_bytes())
}

/// Makes `item`, which is a link and this reparse point, as one of the target, with all that it has beside. Answers what of that it did not take.
///
/// # Errors
/// As the operating system reports.
pub fn make_point(folder: &Folder, name: &[u8], item: &Item, point: &[u8]) -> Result<Vec<Error>> {
    let is_folder = item.attributes.dos_flags & DIRECTORY != 0;
    if is_folder {
        rustix::fs::mkdirat(folder, name, Mode::from_raw_mode(0o700))
            .map_err(|e| folder.failed("cannot make the folder of a junction", name, e))?;
    } else {
        drop(folder.create(name)?);
    }
    let wrong = dress(folder, name, item);
    let at = path(folder, name);
    let set = rustix::fs::lsetxattr(at.as_slice(), REPARSE, point, XattrFlags::empty());
    match set {
        Ok(()) => {
            // Who looks first at what has become something else gets an error, which makes the kernel look again.
            let _noticed = (0..3).any(|_| folder.stat(name).is_ok());
            Ok(wrong)
        }
        Err(error) => {
            if is_folder {
                let _gone = rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR);
            }
            Err(folder.failed("cannot make the reparse point", name, error))
        }
    }
}

/// Whether the entry `name` is the reparse point that `item` is.
pub fn is_point(folder: &Folder, name: &[u8], item: &Item) -> bool {
    let mut value = vec![0; 64 << 10];
    let at = path(folder, name);
    let length = rustix::fs::lgetxattr(at.as_slice(), REPARSE, &mut value[..]).unwrap_or(0);
    value.truncate(length);
    length > 0 && point_of(item).ok().flatten() == Some(value)
}

/// A stream: as an extended attribute where that is how the target shows them, which goes for short ones only; else as `name:stream`.
fn put_stream(folder: &Folder, name: &[u8], item: &Item, stream: &StreamInfo) -> Result<()> {
    let source = item.volume.open_stream(item.id, &stream.name)?;
    let mut refused = None;
    if source.size() <= LONGEST {
        let mut value = vec![0; usize::try_from(source.size()).unwrap_or(0)];
        source.read_exact_at(0, &mut value)?;
        let attribute = [b"user.", &stream.name[..]].concat();
        let at = path(folder, name);
        let flags = XattrFlags::empty();
        match rustix::fs::lsetxattr(at.as_slice(), attribute.as_slice(), &value, flags) {
            Ok(()) => return Ok(()),
            Err(error) => refused = Some(error),
        }
    }
    let Some(file) = open_stream(folder, name, &stream.name)? else {
        let what = match refused {
            Some(error) => format!("the target does not take it: {error}"),
            None => format!("{} bytes are too many for an attribute", source.size()),
        };
        return Err(Error::unsupported(what).advise(
            "mount the target with -o streams_interface=windows, or write it out with `cairn cat --stream`",
        ));
    };
    let failed = |e| Error::io("cannot write the stream", &folder.path_of(name), e);
    let mut buffer = Vec::new();
    let mut at = 0;
    while at < source.size() {
        let length = source.size().saturating_sub(at).min(PIECE);
        buffer.resize(usize::try_from(length).unwrap_or(0), 0);
        source.read_exact_at(at, &mut buffer)?;
        file.write_all_at(&buffer, at).map_err(failed)?;
        at = at.saturating_add(to_u64(buffer.len()));
    }
    file.set_len(source.size()).map_err(failed)
}

/// Opens `name:stream`, emptied; none if the target takes that for the name of a file.
fn open_stream(folder: &Folder, name: &[u8], stream: &[u8]) -> Result<Option<File>> {
    let whole = [name, b":", stream].concat();
    let itself = AtFlags::SYMLINK_NOFOLLOW;
    let failed = |e: Errno| folder.failed("cannot open the stream", &whole, e);
    let number = |of: &[u8]| rustix::fs::statat(folder, of, itself).map(|stat| inode_of(&stat));
    let file = number(name).map_err(failed)?;
    let flags = match number(&whole) {
        Ok(there) if there == file => OFlags::TRUNC,
        Ok(_) => return Ok(None),
        Err(Errno::NOENT) => OFlags::CREATE | OFlags::EXCL,
        Err(error) => return Err(failed(error)),
    };
    let flags = flags | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o600);
    let opened = match rustix::fs::openat(folder, whole.as_slice(), flags, mode) {
        Ok(opened) => opened,
        // A name that cannot be one of a file.
        Err(Errno::INVAL | Errno::NAMETOOLONG) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let known = rustix::fs::fstat(&opened).map_err(failed)?;
    if inode_of(&known) == file {
        return Ok(Some(File::from(opened)));
    }
    folder.remove(&whole);
    Ok(None)
}
