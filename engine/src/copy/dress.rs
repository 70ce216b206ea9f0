//! Owner, extended attributes, permissions and times of what was copied.

use crate::copy::item::{Extended, Item};
use crate::copy::place::Folder;
use crate::copy::windows;
use cairn_base::{Error, Time};
use cairn_guest::EntryKind;
use rustix::fs::{AtFlags, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd};

/// What this process may set, and what it sets where the guest has nothing.
pub struct Dress {
    /// Whether owners can be set.
    owner: bool,
    /// Permissions that new files do not get.
    umask: u32,
}

impl Dress {
    /// Of this process.
    pub fn new() -> Dress {
        // There is no way to ask for it without setting it, which other threads would feel.
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
        let umask = line.and_then(|text| u32::from_str_radix(text.trim(), 8).ok());
        Dress {
            owner: rustix::process::geteuid().is_root(),
            umask: umask.unwrap_or(0o022),
        }
    }

    fn mode(&self, item: &Item) -> Mode {
        let usual = match item.attributes.kind {
            EntryKind::Folder => 0o777,
            _ => 0o666,
        };
        Mode::from_raw_mode(if item.unix {
            item.attributes.mode & 0o7777
        } else {
            usual & !self.umask
        })
    }

    /// Permissions of something that has its owner, if it got one: without those that let others act as an owner whom the guest did not mean.
    fn safe_mode(&self, item: &Item, known: Result<Stat, Errno>, wrong: &mut Wrong) -> Mode {
        let (mode, acts) = (self.mode(item), Mode::SUID | Mode::SGID);
        // Of a folder they say only whose new files are.
        if item.attributes.kind == EntryKind::Folder || !mode.intersects(acts) {
            return mode;
        }
        let meant = (item.attributes.uid, item.attributes.gid);
        if known.is_ok_and(|known| (known.st_uid, known.st_gid) == meant) {
            return mode;
        }
        let what = "it does not act as its owner or group (set-user-ID, set-group-ID), which are others here";
        wrong.0.push(Error::unsupported(what));
        mode.difference(acts)
    }

    /// Permissions of folders that the guest did not have.
    pub fn folder_mode(&self) -> u32 {
        0o777 & !self.umask
    }

    /// An open file or folder, which lies in `folder` as `name`. Answers what it did not take.
    pub fn open(&self, fd: impl AsFd, (folder, name): (&Folder, &[u8]), item: &Item) -> Vec<Error> {
        if windows::is_native(folder, item) {
            return windows::dress(folder, name, item);
        }
        let fd = fd.as_fd();
        let mut wrong = Wrong::default();
        if let Some((uid, gid)) = self.owner_of(item) {
            wrong.note("the owner", rustix::fs::fchown(fd, uid, gid));
        }
        // Behind the owner, which takes capabilities away; before the mode, without which they may not be set any more.
        let Extended { values, missing } = item.extended();
        wrong.0.extend(missing);
        for (name, value) in values {
            let set = rustix::fs::fsetxattr(fd, name.as_slice(), &value, XattrFlags::empty());
            wrong.attribute(&name, set);
        }
        let mode = self.safe_mode(item, rustix::fs::fstat(fd), &mut wrong);
        wrong.note("the permissions", rustix::fs::fchmod(fd, mode));
        wrong.note("the times", rustix::fs::futimens(fd, &times(item)));
        wrong.0
    }

    /// Something in a folder that cannot be opened: a link, a device, a pipe, a socket.
    pub fn closed(&self, folder: &Folder, name: &[u8], item: &Item) -> Vec<Error> {
        if windows::is_native(folder, item) {
            return windows::dress(folder, name, item);
        }
        let mut wrong = Wrong::default();
        let itself = AtFlags::SYMLINK_NOFOLLOW;
        if let Some((uid, gid)) = self.owner_of(item) {
            let set = rustix::fs::chownat(folder, name, uid, gid, itself);
            wrong.note("the owner", set);
        }
        let Extended { values, missing } = item.extended();
        wrong.0.extend(missing);
        // There is no call for names relative to a folder.
        let at = format!("/proc/self/fd/{}/", folder.as_fd().as_raw_fd());
        let path = [at.as_bytes(), name].concat();
        for (attribute, value) in values {
            let set = rustix::fs::lsetxattr(
                path.as_slice(),
                attribute.as_slice(),
                &value,
                XattrFlags::empty(),
            );
            wrong.attribute(&attribute, set);
        }
        if item.attributes.kind != EntryKind::Symlink {
            let known = rustix::fs::statat(folder, name, itself);
            let mode = self.safe_mode(item, known, &mut wrong);
            let set = rustix::fs::chmodat(folder, name, mode, AtFlags::empty());
            wrong.note("the permissions", set);
        }
        let set = rustix::fs::utimensat(folder, name, &times(item), itself);
        wrong.note("the times", set);
        wrong.0
    }

    fn owner_of(&self, item: &Item) -> Option<(Option<Uid>, Option<Gid>)> {
        let (uid, gid) = (item.attributes.uid, item.attributes.gid);
        // The highest number means `leave it` to the system.
        let uid = (uid != u32::MAX).then(|| Uid::from_raw(uid));
        let gid = (gid != u32::MAX).then(|| Gid::from_raw(gid));
        // Windows file systems have no owners of this kind: the copy gets those of whoever copies.
        (self.owner && item.unix).then_some((uid, gid))
    }
}

#[derive(Default)]
struct Wrong(Vec<Error>);

impl Wrong {
    fn note(&mut self, what: &str, set: Result<(), Errno>) {
        if let Err(error) = set {
            self.0.push(Error::unsupported(format!(
                "{what} could not be set: {error}"
            )));
        }
    }

    fn attribute(&mut self, name: &[u8], set: Result<(), Errno>) {
        if set.is_err() {
            let name = String::from_utf8_lossy(name);
            self.note(&format!("the extended attribute {name}"), set);
        }
    }
}

fn times(item: &Item) -> Timestamps {
    let spec = |time: Time| Timespec {
        tv_sec: time.seconds,
        tv_nsec: i64::from(time.nanos),
    };
    Timestamps {
        last_access: spec(item.attributes.accessed),
        last_modification: spec(item.attributes.modified),
    }
}
