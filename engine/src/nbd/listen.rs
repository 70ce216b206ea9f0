//! Sockets: a path that only its owner can open, or a port of this machine.

use cairn_base::{Error, Kind, Result};
use rustix::fs::Mode;
use rustix::process::umask;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where clients knock.
pub(super) enum Listener {
    Unix(UnixListener, SocketFile),
    Tcp(TcpListener, SocketAddr),
}

/// A socket's file, deleted at the end if it still is ours.
pub(super) struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) == self.id)
        {
            drop(std::fs::remove_file(&self.path));
        }
    }
}

impl Listener {
    /// A socket at `path`, for its owner only. One that a process left which is gone is replaced.
    pub(super) fn unix(path: &Path) -> Result<Listener> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        clear_stale(&path)?;
        let failed = |e| Error::io("cannot make the socket", &path, e);
        // Nobody else can connect at any moment.
        let before = umask(Mode::RWXG | Mode::RWXO | Mode::XUSR);
        let bound = UnixListener::bind(&path);
        umask(before);
        let listener = bound.map_err(failed)?;
        let found = std::fs::symlink_metadata(&path).map_err(failed)?;
        let file = SocketFile {
            id: (found.dev(), found.ino()),
            path: path.clone(),
        };
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Listener::Unix(listener, file))
    }

    /// A port. Only of this machine, unless `allow_remote`.
    pub(super) fn tcp(address: SocketAddr, allow_remote: bool) -> Result<Listener> {
        if !address.ip().is_loopback() && !allow_remote {
            let why = format!(
                "{address} can be reached by other machines, and anybody there could read the disks"
            );
            return Err(Error::invalid(why).advise("listen on 127.0.0.1, or say --allow-remote"));
        }
        let failed = |e| Error::io(format!("cannot listen on {address}"), Path::new(""), e);
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Listener::Tcp(listener, address))
    }

    /// A client, if one waits.
    pub(super) fn accept(&self) -> io::Result<Stream> {
        let stream = match self {
            Listener::Unix(listener, _) => Stream::Unix(listener.accept()?.0),
            Listener::Tcp(listener, _) => Stream::Tcp(listener.accept()?.0),
        };
        match &stream {
            Stream::Unix(stream) => stream.set_nonblocking(false)?,
            Stream::Tcp(stream) => {
                stream.set_nonblocking(false)?;
                stream.set_nodelay(true)?;
            }
        }
        Ok(stream)
    }

    /// How clients name the export `name`.
    pub(super) fn uri(&self, name: &str) -> String {
        let name = escaped(Path::new(name));
        match self {
            Listener::Unix(_, file) => format!("nbd+unix:///{name}?socket={}", escaped(&file.path)),
            Listener::Tcp(_, address) => format!("nbd://{address}/{name}"),
        }
    }
}

/// A path in a URI.
fn escaped(path: &Path) -> String {
    let mut text = String::new();
    for byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-~".contains(byte) {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// Removes a socket that nobody listens on.
fn clear_stale(path: &Path) -> Result<()> {
    let Ok(found) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !found.file_type().is_socket() {
        return Err(
            Error::new(Kind::Exists, "there is a file where the socket should be").at_path(path),
        );
    }
    match UnixStream::connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)
            .map_err(|e| Error::io("cannot remove the socket that a process left", path, e)),
        _ => Err(Error::new(Kind::Busy, "another process listens on this socket").at_path(path)),
    }
}

/// A client's connection.
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    pub(super) fn try_clone(&self) -> io::Result<Stream> {
        Ok(match self {
            Stream::Unix(stream) => Stream::Unix(stream.try_clone()?),
            Stream::Tcp(stream) => Stream::Tcp(stream.try_clone()?),
        })
    }

    pub(super) fn shutdown(&self, how: Shutdown) {
        // One that is gone is what was wanted.
        let _gone = match self {
            Stream::Unix(stream) => stream.shutdown(how),
            Stream::Tcp(stream) => stream.shutdown(how),
        };
    }

    /// For how long a read and a write may take; `None`: as long as they like.
    pub(super) fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Stream::Unix(stream) => {
                stream.set_read_timeout(timeout)?;
                stream.set_write_timeout(timeout)
            }
            Stream::Tcp(stream) => {
                stream.set_read_timeout(timeout)?;
                stream.set_write_timeout(timeout)
            }
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.read(buffer),
            Stream::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.write(bytes),
            Stream::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
