//! The programs that mount and unmount for those who may not.

use super::{DEVICE, Manner, NAME};
use cairn::{Error, Kind, Result};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

/// The current one first.
const HELPERS: [&str; 2] = ["fusermount3", "fusermount"];

/// Mounts at `path`, and answers with the device.
pub(super) fn mount(path: &Path, manner: Manner<'_>) -> Result<OwnedFd> {
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

/// Unmounts what is at `path`; if `lazy`, detaches it.
pub(super) fn unmount(path: &Path, lazy: bool) -> Result<()> {
    let options: &[&str] = if lazy {
        &["-u", "-z", "--"]
    } else {
        &["-u", "--"]
    };
    for helper in HELPERS {
        // In English.
        let mut command = Command::new(helper);
        match command.env("LC_ALL", "C").args(options).arg(path).output() {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
                // The path stands in it too.
                if said.ends_with("busy") {
                    return Err(in_use(path, std::io::Error::other(said)));
                }
                let what = format!("the mount helper does not unmount: {said}");
                let error = Error::new(Kind::Io, what).at_path(path);
                return Err(error.advise("whoever mounted it, or root, unmounts it with `umount`"));
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

/// What is told of a mount that is in use.
pub(super) fn in_use(path: &Path, error: std::io::Error) -> Error {
    let error = Error::new(Kind::Busy, "cannot unmount: files in it are in use").caused_by(error);
    error
        .at_path(path)
        .advise("close them, or see `fuser -vm` for who uses them")
}
