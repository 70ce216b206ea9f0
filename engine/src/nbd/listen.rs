//! Sockets: a path that only its owner can open, or a port of this machine.

use cairn_base::{Error, Kind, Result};
use parking_lot::Mutex;
use rustix::fs::{FlockOperation, Mode, flock};
use rustix::process::umask;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// One who listens has answered by then, or has more to do than answer.
const KNOCK: Duration = Duration::from_secs(1);

/// The mask for new files is the whole process's.
static MASK: Mutex<()> = Mutex::new(());

/// Where clients knock.
pub(super) enum Listener {
    /// The file goes first: as long as somebody listens, nobody takes it for one that was left.
    Unix(SocketFile, UnixListener),
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
        let failed = |e| Error::io("cannot make the socket", &path, e);
        let _turn = Turn::wait_for(&path).map_err(failed)?;
        clear_stale(&path)?;
        // Nobody else can connect at any moment.
        let alone = MASK.lock();
        let before = umask(Mode::RWXG | Mode::RWXO | Mode::XUSR);
        let bound = UnixListener::bind(&path);
        umask(before);
        drop(alone);
        let listener = bound.map_err(failed)?;
        let found = std::fs::symlink_metadata(&path).map_err(failed)?;
        let file = SocketFile {
            id: (found.dev(), found.ino()),
            path: path.clone(),
        };
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Listener::Unix(file, listener))
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
            Listener::Unix(_, listener) => Stream::Unix(listener.accept()?.0),
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
            Listener::Unix(file, _) => format!("nbd+unix:///{name}?socket={}", escaped(&file.path)),
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
    match knock(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)
            .map_err(|e| Error::io("cannot remove the socket that a process left", path, e)),
        _ => Err(Error::new(Kind::Busy, "another process listens on this socket").at_path(path)),
    }
}

/// Whether somebody listens: [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) if nobody does. One who has let in nobody for long
/// would make a client wait for as long as he likes.
fn knock(path: &Path) -> io::Result<()> {
    let (tell, told) = mpsc::channel();
    let path = path.to_path_buf();
    std::thread::Builder::new()
        .name("nbd knock".to_string())
        .spawn(move || tell.send(UnixStream::connect(path).map(drop)))?;
    told.recv_timeout(KNOCK)
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Who looks for a socket that was left and makes his own is the only one to do so: a locked file beside it, which goes when that is done.
struct Turn {
    path: PathBuf,
    _locked: File,
}

impl Turn {
    fn wait_for(socket: &Path) -> io::Result<Turn> {
        let mut path = socket.as_os_str().to_os_string();
        path.push(".lock");
        let path = PathBuf::from(path);
        loop {
            let mut options = OpenOptions::new();
            options.write(true).create(true).mode(0o600);
            let file = options.open(&path)?;
            flock(&file, FlockOperation::LockExclusive)?;
            // Who had it before has deleted it: somebody else may have made another one.
            let (mine, now) = (file.metadata()?, std::fs::symlink_metadata(&path));
            if now.is_ok_and(|now| (now.dev(), now.ino()) == (mine.dev(), mine.ino())) {
                return Ok(Turn {
                    path,
                    _locked: file,
                });
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Still locked. One that stays is used by the next.
        drop(std::fs::remove_file(&self.path));
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn of_many_who_find_a_socket_that_was_left_one_gets_it() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("socket");
        for _ in 0..50 {
            drop(UnixListener::bind(&path).unwrap());
            let all = Barrier::new(4);
            let begin = || {
                all.wait();
                Listener::unix(&path)
            };
            let listeners: Vec<Listener> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(begin)).collect();
                let ended = threads.into_iter().map(|thread| thread.join().unwrap());
                ended
                    .filter_map(|listener| match listener {
                        Ok(listener) => Some(listener),
                        Err(error) => {
                            assert_eq!(error.kind(), Kind::Busy, "{error}");
                            None
                        }
                    })
                    .collect()
            });
            assert_eq!(listeners.len(), 1);
            UnixStream::connect(&path).unwrap();
            drop(listeners);
            let left: Vec<_> = std::fs::read_dir(temp.path()).unwrap().collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }
}
