//! Mounting and unmounting: `mount(2)` where the process may, `fusermount3` where it may not.
//!
//! A mount is known by its device number and its id, wherever it is, so that nothing is ever unmounted but what was mounted here. The kernel gives both again once
//! the mount has ended: so they count only while the connection is up, or while something holds the mount.

mod helper;
mod place;
pub mod table;

pub use place::{Detached, Held, Place, is_topmost, unmount};

use cairn::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::mount::MountFlags;
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

const DEVICE: &str = "/dev/fuse";
/// Behind `fuse.` the type that `mount` and `df` show, and the source unless another one is told.
pub const NAME: &str = "cairn";

/// Descriptors that are left for what is read: the files of a store or image, and those of overlays.
const SPARE: usize = 64;

/// The connection over which the kernel is answered, for those who do not answer.
#[derive(Debug)]
pub struct Connection(OwnedFd);

impl Connection {
    /// The one of this device. As long as it is open too, requests wait for an answer even if nobody is left who gives one.
    ///
    /// # Errors
    /// As the operating system reports.
    pub fn of(device: &OwnedFd) -> std::io::Result<Connection> {
        device.try_clone().map(Connection)
    }

    /// Whether the kernel still has the file system: it was neither unmounted nor cut off. Until then no other has its number.
    pub fn is_up(&self) -> bool {
        let mut polled = PollFd::new(&self.0, PollFlags::IN);
        // A signal is no answer, and without one it counts as up: the number is compared as well.
        let _ = retry_on_intr(|| {
            poll(
                std::slice::from_mut(&mut polled),
                Some(&Timespec::default()),
            )
        });
        !polled.revents().contains(PollFlags::ERR)
    }
}

/// What the kernel is told of a mount.
#[derive(Debug, Clone, Copy)]
pub struct Manner<'a> {
    /// Others than the one who mounts may look, and the kernel decides by modes and owners.
    pub allow_other: bool,
    /// Something in it can be written to.
    pub writable: bool,
    /// What `df` shows as the source.
    pub source: &'a str,
}

/// Mounts at `path`, an existing folder, and answers with the device the kernel is to be served by.
///
/// # Errors
/// [`Kind::NotFound`](cairn::Kind::NotFound) without the folder, FUSE or the helper, each with advice; [`Kind::Denied`](cairn::Kind::Denied),
/// [`Kind::Busy`](cairn::Kind::Busy), and
/// as the operating system reports.
pub fn mount(path: &Path, manner: Manner<'_>) -> Result<(OwnedFd, Place)> {
    let path = folder(path)?;
    let device = match mount_directly(&path, manner)? {
        Some(device) => device,
        None => helper::mount(&path, manner)?,
    };
    let place = Place::made(path, number_of(&device));
    Ok((device, place))
}

/// The number of what is served over this device, where the kernel tells it. All that FUSE mounts by itself is of major number 0.
fn number_of(device: &OwnedFd) -> Option<String> {
    Some(format!("0:{}", place::said_of(device, "fuse_connection:")?))
}

fn folder(path: &Path) -> Result<PathBuf> {
    let full = path.canonicalize().map_err(|error| {
        let advice = match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT) => "make the folder first",
            Some(Errno::NOTCONN) => "a mount of another program there lost it: unmount it first, with `umount` or `fusermount3 -u`",
            _ => "mount on a folder that can be reached",
        };
        Error::io("cannot mount there", path, error).advise(advice)
    })?;
    if !full.is_dir() {
        let error = Error::invalid("cannot mount there: it is no folder");
        return Err(error.at_path(path).advise("mount on an empty folder"));
    }
    Ok(full)
}

/// Whether each of `count` event loops can have a descriptor of its own, and enough are left for what is read.
pub fn can_open_devices(count: usize) -> bool {
    let wanted = count.saturating_add(SPARE);
    let opened: rustix::io::Result<Vec<OwnedFd>> = (0..wanted).map(|_| open_device()).collect();
    opened.is_ok()
}

fn open_device() -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}

/// None if this process may not mount.
fn mount_directly(path: &Path, manner: Manner<'_>) -> Result<Option<OwnedFd>> {
    let device = match open_device() {
        Ok(device) => device,
        Err(Errno::ACCESS | Errno::PERM) => return Ok(None),
        Err(Errno::NOENT | Errno::NODEV | Errno::NXIO) => {
            return Err(Error::not_found("this system has no FUSE")
                .at_path(DEVICE)
                .advise("load it with `modprobe fuse`; a container needs `--device /dev/fuse`"));
        }
        Err(error) => {
            return Err(Error::io(
                "cannot open FUSE",
                Path::new(DEVICE),
                error.into(),
            ));
        }
    };
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={}",
        device.as_raw_fd(),
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    );
    if manner.allow_other {
        data.push_str(",allow_other,default_permissions");
    }
    let data = CString::new(data).map_err(|_| Error::invalid("a NUL byte in the mount options"))?;
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    flags.set(MountFlags::RDONLY, !manner.writable);
    match rustix::mount::mount(manner.source, path, format!("fuse.{NAME}"), flags, &*data) {
        Ok(()) => Ok(Some(device)),
        Err(Errno::PERM) => Ok(None),
        Err(error @ Errno::BUSY) => Err(Error::io("cannot mount there", path, error.into())
            .advise("something is mounted there already: unmount it, or choose another folder")),
        Err(Errno::NODEV) => {
            Err(Error::not_found("this kernel has no FUSE").advise("load it with `modprobe fuse`"))
        }
        Err(error) => Err(Error::io("cannot mount there", path, error.into())),
    }
}

/// Lets the kernel read ahead by so many KiB instead of the 128 that FUSE offers. Only root can; others do without.
pub fn set_read_ahead(place: &Place, kib: u32) {
    if let Some(number) = place.number() {
        let file = format!("/sys/class/bdi/{number}/read_ahead_kb");
        // Slower without, never wrong.
        let _ = std::fs::write(file, kib.to_string());
    }
}
