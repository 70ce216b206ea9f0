//! Mounting and unmounting: `mount(2)` where the process may, `fusermount3` where it may not.
//!
//! A mount is known by its device number, so that nothing is ever unmounted but what was mounted here. The kernel gives a number again once its mount has
//! ended: so it counts only while the connection is up, or while something holds the mount.

mod table;

pub use table::is_mounted_below;

use cairn::{Error, Kind, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::mount::{MountFlags, UnmountFlags, unmount as unmount_path};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use std::ffi::CString;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use table::{Line, TABLE, all_at};

const DEVICE: &str = "/dev/fuse";
/// What the kernel says of a descriptor, see proc_pid_fdinfo(5).
const DESCRIPTORS: &str = "/proc/self/fdinfo";
/// Behind `fuse.` the type that `mount` and `df` show, and the source unless another one is told.
pub const NAME: &str = "cairn";
/// The programs that mount for those who may not, the current one first.
const HELPERS: [&str; 2] = ["fusermount3", "fusermount"];

/// Descriptors that are left for what is read: the files of a store or image, and those of overlays.
const SPARE: usize = 64;

/// A file system mounted by this process.
#[derive(Debug, Clone)]
pub struct Place {
    path: PathBuf,
    /// Device number as `/proc/self/mountinfo` writes it; none where that cannot be read.
    number: Option<String>,
}

impl Place {
    /// Where the file system with this device number is mounted.
    pub fn known(path: PathBuf, number: String) -> Place {
        Place {
            path,
            number: Some(number),
        }
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

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

/// How unmounting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detached {
    /// It was unmounted, now or before.
    Gone,
    /// It is no longer in the tree of files, but lives until the last file in it is closed.
    InUse,
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
/// [`Kind::NotFound`] without the folder, FUSE or the helper, each with advice; [`Kind::Denied`], [`Kind::Busy`], and
/// as the operating system reports.
pub fn mount(path: &Path, manner: Manner<'_>) -> Result<(OwnedFd, Place)> {
    let path = folder(path)?;
    let device = match mount_directly(&path, manner)? {
        Some(device) => device,
        None => mount_by_helper(&path, manner)?,
    };
    let number = number_of(&device).or_else(|| topmost(&path));
    Ok((device, Place { path, number }))
}

/// The number of what is served over this device, where the kernel tells it. All that FUSE mounts by itself is of major number 0.
fn number_of(device: &OwnedFd) -> Option<String> {
    Some(format!("0:{}", said_of(device, "fuse_connection:")?))
}

/// What the kernel says of a descriptor under a name.
fn said_of(descriptor: impl AsFd, name: &str) -> Option<String> {
    let number = descriptor.as_fd().as_raw_fd();
    let said = std::fs::read_to_string(format!("{DESCRIPTORS}/{number}")).ok()?;
    let value = said.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().to_string())
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

fn mount_by_helper(path: &Path, manner: Manner<'_>) -> Result<OwnedFd> {
    let how = if manner.writable { "rw" } else { "ro" };
    // A comma ends an option unless it is escaped.
    let source = manner.source.replace('\\', "\\\\").replace(',', "\\,");
    let mut options = format!("{how},nosuid,nodev,fsname={source},subtype={NAME}");
    if manner.allow_other {
        options.push_str(",allow_other,default_permissions");
    }
    for helper in HELPERS {
        let failed = |error| Error::io("cannot run the mount helper", Path::new(helper), error);
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        // Its standard input is the socket: that needs no descriptor left open across the start.
        let spawned = Command::new(helper)
            .args(["-o", &options, "--"])
            .arg(path)
            .env("_FUSE_COMMFD", "0")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let child = match spawned {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        };
        let device = receive(&ours);
        let output = child.wait_with_output().map_err(failed)?;
        return match device {
            Some(device) if output.status.success() => Ok(device),
            _ => Err(refused(path, &String::from_utf8_lossy(&output.stderr))),
        };
    }
    Err(
        Error::not_found("not permitted to mount, and `fusermount3` is not there to do it")
            .at_path(path)
            .advise("install the package fuse3, or mount as root"),
    )
}

fn refused(path: &Path, said: &str) -> Error {
    let said = said.trim().replace('\n', "; ");
    let (kind, advice) = if said.contains("user_allow_other") {
        (
            Kind::Denied,
            "an administrator allows it with the line `user_allow_other` in /etc/fuse.conf",
        )
    } else if said.contains(DEVICE) && said.contains("Permission denied") {
        (
            Kind::Denied,
            "an administrator opens it to all with `chmod 666 /dev/fuse`, or mount as root",
        )
    } else if said.contains("Permission denied") || said.contains("not permitted") {
        (Kind::Denied, "mount on a folder of your own")
    } else if said.contains(DEVICE) {
        (
            Kind::NotFound,
            "load FUSE with `modprobe fuse`; a container needs `--device /dev/fuse`",
        )
    } else {
        (Kind::Io, "see what the helper says")
    };
    Error::new(kind, format!("the mount helper refuses: {said}"))
        .at_path(path)
        .advise(advice)
}

/// The descriptor that the helper sends; none if it ends without one.
fn receive(socket: &UnixStream) -> Option<OwnedFd> {
    let mut byte = [0u8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    loop {
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut byte)];
        match rustix::net::recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => continue,
            Err(_) => return None,
            Ok(_) => {
                return control.drain().find_map(|message| match message {
                    RecvAncillaryMessage::ScmRights(mut sent) => sent.next(),
                    _ => None,
                });
            }
        }
    }
}

/// Unmounts what is up. What is in use is detached, if `lazy`. Nothing is done if `is_up` says, when it was looked what is mounted, that it is not up
/// any more: then another may have its number.
///
/// # Errors
/// [`Kind::Busy`] if it is in use and not `lazy`, or another file system lies over it; as the operating system reports.
pub fn unmount(place: &Place, lazy: bool, is_up: &dyn Fn() -> bool) -> Result<Detached> {
    let is_topmost = match place.number {
        Some(_) => is_topmost(place),
        None => Ok(true),
    };
    // In this order: what is up now had the number before, and nothing else.
    if !is_up() || !is_topmost? {
        return Ok(Detached::Gone);
    }
    let flags = if lazy {
        UnmountFlags::DETACH
    } else {
        UnmountFlags::empty()
    };
    ended(
        &place.path,
        lazy,
        unmount_path(&place.path, flags | UnmountFlags::NOFOLLOW),
    )
}

fn ended(path: &Path, lazy: bool, how: rustix::io::Result<()>) -> Result<Detached> {
    match how {
        Ok(()) if lazy => Ok(Detached::InUse),
        Ok(()) => Ok(Detached::Gone),
        // No mount point any more.
        Err(Errno::INVAL | Errno::NOENT) => Ok(Detached::Gone),
        Err(Errno::PERM) => unmount_by_helper(path, lazy),
        Err(error @ Errno::BUSY) => Err(in_use(path, error.into())),
        Err(error) => Err(Error::io("cannot unmount", path, error.into())),
    }
}

/// A mount that is held, and so remains what it is from one look to the next: nothing else gets its number meanwhile.
#[derive(Debug)]
pub struct Held<'a> {
    place: &'a Place,
    root: OwnedFd,
}

impl Held<'_> {
    /// What is mounted there on top, if it has the number of this place. Nothing is asked of who serves it.
    ///
    /// # Errors
    /// [`Kind::Busy`] if another file system lies over what has the number; as the operating system reports.
    pub fn at(place: &Place) -> Result<Option<Held<'_>>> {
        // Without a number nothing is it: nothing tells it from what others mounted there.
        if !is_topmost(place)? {
            return Ok(None);
        }
        let how = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = match rustix::fs::open(&place.path, how, Mode::empty()) {
            Ok(root) => root,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => {
                let what = "cannot look at what is mounted there";
                return Err(Error::io(what, &place.path, error.into()));
            }
        };
        let Some(line) = on_top(place)? else {
            return Ok(None);
        };
        if said_of(&root, "mnt_id:").as_ref() != Some(&line.id) {
            let error = Error::new(Kind::Busy, "what is mounted there changes just now");
            return Err(error.at_path(&place.path).advise("try again"));
        }
        Ok(Some(Held { place, root }))
    }

    /// Another path to it, which leads nowhere else, for as long as it is held.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.root.as_raw_fd()).into()
    }

    /// Takes it out of the tree of files. (The helper, for those who may not, is told the place's path: what it finds there.)
    ///
    /// # Errors
    /// As the operating system reports.
    pub fn detach(self) -> Result<()> {
        let how = unmount_path(self.path(), UnmountFlags::DETACH);
        ended(&self.place.path, true, how).map(|_| ())
    }
}

fn in_use(path: &Path, error: std::io::Error) -> Error {
    let error = Error::new(Kind::Busy, "cannot unmount: files in it are in use").caused_by(error);
    error
        .at_path(path)
        .advise("close them, or see `fuser -vm` for who uses them")
}

fn unmount_by_helper(path: &Path, lazy: bool) -> Result<Detached> {
    let options: &[&str] = if lazy {
        &["-u", "-z", "--"]
    } else {
        &["-u", "--"]
    };
    for helper in HELPERS {
        match Command::new(helper).args(options).arg(path).output() {
            Ok(output) if output.status.success() => {
                return Ok(if lazy {
                    Detached::InUse
                } else {
                    Detached::Gone
                });
            }
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
                return Err(in_use(path, std::io::Error::other(said)));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(Error::io(
                    "cannot run the mount helper",
                    Path::new(helper),
                    error,
                ));
            }
        }
    }
    Err(Error::not_found("`fusermount3` is not there to unmount").at_path(path))
}

/// Lets the kernel read ahead by so many KiB instead of the 128 that FUSE offers. Only root can; others do without.
pub fn set_read_ahead(place: &Place, kib: u32) {
    if let Some(number) = &place.number {
        let file = format!("/sys/class/bdi/{number}/read_ahead_kb");
        // Slower without, never wrong.
        let _ = std::fs::write(file, kib.to_string());
    }
}

/// Whether something of its number is mounted there, and nothing over it.
///
/// # Errors
/// [`Kind::Busy`] if another file system is mounted over it; as the operating system reports.
pub fn is_topmost(place: &Place) -> Result<bool> {
    on_top(place).map(|line| line.is_some())
}

/// What is mounted there on top, if it has the number.
fn on_top(place: &Place) -> Result<Option<Line>> {
    let what = "cannot see what is mounted";
    let all = all_at(&place.path).map_err(|error| Error::io(what, Path::new(TABLE), error))?;
    let (mut found, mut over) = (None, false);
    for line in all {
        over = found.is_some();
        if Some(&line.number) == place.number.as_ref() {
            (found, over) = (Some(line), false);
        }
    }
    if over {
        let error = Error::new(Kind::Busy, "another file system is mounted over this one");
        return Err(error.at_path(&place.path).advise("unmount that first"));
    }
    Ok(found)
}

/// The device number of what is mounted on top at `path`.
fn topmost(path: &Path) -> Option<String> {
    Some(all_at(path).ok()?.pop()?.number)
}
