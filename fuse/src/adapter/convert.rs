//! What the tree says, in the kernel's words.

use crate::failure::Failure;
use crate::stat::Stat;
use cairn::{EntryKind, Time};
use fuser::{Errno, FileAttr, FileType, INodeNo};
use std::time::{Duration, SystemTime};

/// How long the kernel may keep what never changes: longer than anything stays in its caches.
pub(super) const LASTING: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long it may keep what can change: listings, `latest`, errors.
const FLEETING: Duration = Duration::from_secs(1);
/// Unit of `st_blksize`.
const BLOCK: u32 = 4096;

pub(super) fn errno(failure: &Failure) -> Errno {
    Errno::from_i32(failure.errno())
}

pub(super) fn ttl(stat: &Stat) -> Duration {
    if stat.lasting { LASTING } else { FLEETING }
}

pub(super) fn file_type(kind: EntryKind) -> FileType {
    match kind {
        EntryKind::File => FileType::RegularFile,
        EntryKind::Folder => FileType::Directory,
        EntryKind::Symlink => FileType::Symlink,
        EntryKind::CharDevice => FileType::CharDevice,
        EntryKind::BlockDevice => FileType::BlockDevice,
        EntryKind::Fifo => FileType::NamedPipe,
        EntryKind::Socket => FileType::Socket,
    }
}

/// Times before 1970 count down in whole seconds and up in nanoseconds, as the guest's do.
fn system_time(time: Time) -> SystemTime {
    let epoch = SystemTime::UNIX_EPOCH;
    let seconds = Duration::from_secs(time.seconds.unsigned_abs());
    let whole = if time.seconds < 0 {
        epoch.checked_sub(seconds)
    } else {
        epoch.checked_add(seconds)
    };
    whole
        .and_then(|whole| whole.checked_add(Duration::from_nanos(time.nanos.into())))
        .unwrap_or(epoch)
}

pub(super) fn attributes(stat: &Stat) -> FileAttr {
    let of = &stat.attributes;
    FileAttr {
        ino: INodeNo(stat.inode),
        size: of.size,
        blocks: stat.blocks(),
        atime: system_time(of.accessed),
        mtime: system_time(of.modified),
        ctime: system_time(of.changed),
        crtime: system_time(of.created.unwrap_or(of.changed)),
        kind: file_type(of.kind),
        perm: u16::try_from(of.mode & 0o7777).unwrap_or(0),
        nlink: stat.links(),
        uid: of.uid,
        gid: of.gid,
        rdev: stat.device(),
        blksize: BLOCK,
        flags: 0,
    }
}

#[cfg(test)]
mod tests;
