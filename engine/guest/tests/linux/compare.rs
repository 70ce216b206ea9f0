//! A volume against a folder of the host: a mount of the same image by the kernel, or what it was made from.

use crate::support::{Item, check_extents, walk};
use cairn_guest::{EntryKind, Volume};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;

/// How exactly a folder stands for the volume.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Exact {
    /// A mount: everything is the same.
    Mount,
    /// The source of the volume: inode numbers, times but the seconds of the last change, and sizes on disk differ.
    Source,
}

/// Every difference, in words; and how many entries and bytes were compared.
pub fn compare(volume: &dyn Volume, folder: &Path, exact: Exact) -> (Vec<String>, usize, u64) {
    let mut wrong = Vec::new();
    let mut items = walk(volume, true, usize::MAX, &mut |path, error| {
        wrong.push(format!("{}: {error}", OsStr::from_bytes(path).display()));
    });
    if exact == Exact::Source {
        items.remove(&b"/lost+found"[..]);
    }
    let count = items.len();
    let mut bytes = 0;
    let attributes = host_xattrs(folder);
    let mut todo = vec![folder.to_path_buf()];
    while let Some(here) = todo.pop() {
        for entry in std::fs::read_dir(&here).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            if metadata.is_dir() {
                todo.push(path.clone());
            }
            let inside = path.strip_prefix(folder).unwrap();
            let name = [b"/", inside.as_os_str().as_bytes()].concat();
            let Some(item) = items.remove(&name) else {
                wrong.push(format!("{}: missing", inside.display()));
                continue;
            };
            let mut found = Vec::new();
            compare_attributes(&item, &metadata, exact, &mut found);
            bytes += compare_content(volume, &item, &path, &mut found);
            let expected = attributes
                .get(path.as_os_str().as_bytes())
                .cloned()
                .unwrap_or_default();
            match volume.xattrs(item.id) {
                Ok(ours) => {
                    let ours: BTreeMap<_, _> = ours.into_iter().collect();
                    if ours != expected {
                        found.push(format!("xattrs {ours:?} are not {expected:?}"));
                    }
                }
                Err(error) => found.push(format!("xattrs: {error}")),
            }
            wrong.extend(
                found
                    .into_iter()
                    .map(|what| format!("{}: {what}", inside.display())),
            );
        }
    }
    for name in items.keys() {
        wrong.push(format!("{}: not there", OsStr::from_bytes(name).display()));
    }
    (wrong, count, bytes)
}

fn kind_of(metadata: &Metadata) -> EntryKind {
    let kind = metadata.file_type();
    if kind.is_dir() {
        EntryKind::Folder
    } else if kind.is_symlink() {
        EntryKind::Symlink
    } else if kind.is_char_device() {
        EntryKind::CharDevice
    } else if kind.is_block_device() {
        EntryKind::BlockDevice
    } else if kind.is_fifo() {
        EntryKind::Fifo
    } else if kind.is_socket() {
        EntryKind::Socket
    } else {
        EntryKind::File
    }
}

fn compare_attributes(item: &Item, metadata: &Metadata, exact: Exact, wrong: &mut Vec<String>) {
    let Ok(ours) = &item.attributes else { return };
    let kind = metadata.file_type();
    let expected = kind_of(metadata);
    let mut same = |what: &str, ours: i128, theirs: i128| {
        if ours != theirs {
            wrong.push(format!("{what} is {ours}, should be {theirs}"));
        }
    };
    same("kind", ours.kind as i128, expected as i128);
    same("kind of the name", item.kind as i128, expected as i128);
    same("mode", ours.mode.into(), (metadata.mode() & 0o7777).into());
    same("uid", ours.uid.into(), metadata.uid().into());
    same("gid", ours.gid.into(), metadata.gid().into());
    same(
        "mtime",
        ours.modified.seconds.into(),
        metadata.mtime().into(),
    );
    if !kind.is_dir() || exact == Exact::Mount {
        same("size", ours.size.into(), metadata.size().into());
    }
    if !kind.is_dir() {
        same("links", ours.links.into(), metadata.nlink().into());
    }
    if let Some((major, minor)) = ours.device {
        let device = metadata.rdev();
        same("major", major.into(), ((device >> 8) & 0xfff).into());
        same(
            "minor",
            minor.into(),
            ((device & 0xff) | ((device >> 12) & 0xfff00)).into(),
        );
    }
    if exact == Exact::Source {
        return;
    }
    same("inode", item.id.number.into(), metadata.ino().into());
    same("links", ours.links.into(), metadata.nlink().into());
    same(
        "mtime nanos",
        ours.modified.nanos.into(),
        metadata.mtime_nsec().into(),
    );
    same(
        "atime",
        ours.accessed.seconds.into(),
        metadata.atime().into(),
    );
    same(
        "atime nanos",
        ours.accessed.nanos.into(),
        metadata.atime_nsec().into(),
    );
    same(
        "ctime",
        ours.changed.seconds.into(),
        metadata.ctime().into(),
    );
    same(
        "ctime nanos",
        ours.changed.nanos.into(),
        metadata.ctime_nsec().into(),
    );
    // For content in inodes the kernel adds what it would take elsewhere.
    let inside = ours.size.div_ceil(512);
    if ours.size > 4096 || ours.allocated / 512 + inside != metadata.blocks() {
        same(
            "blocks",
            (ours.allocated / 512).into(),
            metadata.blocks().into(),
        );
    }
    if let (Some(created), Ok(time)) = (ours.created, metadata.created()) {
        let since = time.duration_since(std::time::UNIX_EPOCH).unwrap();
        same("crtime", created.seconds.into(), since.as_secs().into());
        same(
            "crtime nanos",
            created.nanos.into(),
            since.subsec_nanos().into(),
        );
    }
}

fn compare_content(volume: &dyn Volume, item: &Item, path: &Path, wrong: &mut Vec<String>) -> u64 {
    if item.kind == EntryKind::Symlink {
        let target = std::fs::read_link(path)
            .unwrap()
            .into_os_string()
            .into_vec();
        match volume.read_link(item.id) {
            Ok(ours) if ours == target => {}
            other => wrong.push(format!("target {other:?} is not {target:?}")),
        }
    }
    if item.kind != EntryKind::File {
        return 0;
    }
    let ours = match volume.open(item.id) {
        Ok(ours) => ours,
        // Encrypted: the kernel does not open it either.
        Err(error)
            if error.kind() == cairn_base::Kind::Unsupported && File::open(path).is_err() =>
        {
            return 0;
        }
        Err(error) => {
            wrong.push(format!("content: {error}"));
            return 0;
        }
    };
    let mut theirs = File::open(path).unwrap();
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut at = 0;
    while at < ours.size() {
        let length = (ours.size() - at).min(1 << 20) as usize;
        if let Err(error) = ours.read_exact_at(at, &mut left[..length]) {
            wrong.push(format!("content at {at}: {error}"));
            return at;
        }
        if theirs.read_exact(&mut right[..length]).is_err() || left[..length] != right[..length] {
            wrong.push(format!("content differs behind {at}"));
            return at;
        }
        at += length as u64;
    }
    if ours.size() <= 64 << 20 {
        check_extents(ours.as_ref(), &std::fs::read(path).unwrap());
    }
    at
}

type Xattrs = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

/// All extended attributes below `folder`, by path.
fn host_xattrs(folder: &Path) -> Xattrs {
    let output = Command::new("getfattr")
        .args([
            "-R",
            "-P",
            "-h",
            "-d",
            "-m",
            "-",
            "-e",
            "hex",
            "--absolute-names",
        ])
        .arg(folder)
        .output()
        .unwrap();
    let mut all = Xattrs::new();
    let mut path = Vec::new();
    for line in output.stdout.split(|byte| *byte == b'\n') {
        if let Some(name) = line.strip_prefix(b"# file: ") {
            path = unescape(name);
        } else if let Some(equals) = line.iter().position(|byte| *byte == b'=') {
            let hex = std::str::from_utf8(&line[equals + 3..]).unwrap();
            let value = (0..hex.len() / 2)
                .map(|index| u8::from_str_radix(&hex[index * 2..index * 2 + 2], 16).unwrap())
                .collect();
            all.entry(path.clone())
                .or_default()
                .insert(unescape(&line[..equals]), value);
        }
    }
    all
}

/// `getfattr` writes odd characters as a backslash and three octal digits.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((&first, more)) = rest.split_first() {
        let octal = more.get(..3).filter(|_| first == b'\\');
        match octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok())
        {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[3..];
            }
            None => {
                bytes.push(first);
                rest = more;
            }
        }
    }
    bytes
}
