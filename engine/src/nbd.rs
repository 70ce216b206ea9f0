//! Disks served over the NBD protocol, to hypervisors, the kernel, and `qemu-img`, `nbdcopy` and their like.
//!
//! Newstyle fixed handshake, simple and structured replies, `base:allocation`, many requests at once on each of several connections. No TLS: a socket that only its
//! owner can open, or a port of this machine. Threads, as everywhere here; whatever a client sends is bounded.
//!
//! ```
//! use cairn::{NbdExport, NbdServer, Silent};
//! # use std::sync::{Arc, atomic::AtomicBool};
//! # fn main() -> cairn::Result<()> {
//! # let temp = tempfile::tempdir().unwrap();
//! # let disk = Arc::new(vec![5u8; 100_000]);
//! let exports = vec![NbdExport::fixed("disk0", "web01@latest", disk)];
//! let server = NbdServer::unix(exports, &temp.path().join("socket"))?;
//! println!("{}", server.uris()[0]); // nbd+unix:///disk0?socket=...
//! let stop = AtomicBool::new(true); // set when it should end
//! server.run(&stop, Arc::new(Silent))?;
//! # Ok(())
//! # }
//! ```

mod budget;
mod execute;
mod export;
mod handshake;
mod listen;
mod protocol;
#[cfg(test)]
mod tests;
mod transmit;

pub use export::NbdExport;

use budget::Budget;
use cairn_base::{Error, Monitor, Result};
use export::Exports;
use listen::{Listener, Stream};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Clients at once.
const MAX_CONNECTIONS: usize = 32;
/// A client that has not agreed on a disk by then is sent away.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// How often it is looked whether somebody knocks, or whether it is time to end.
const PAUSE: Duration = Duration::from_millis(10);
/// How long requests in flight are waited for at the end; and then, how long their threads.
const GRACE: Duration = Duration::from_secs(3);

/// A server of disks.
pub struct NbdServer {
    exports: Arc<Exports>,
    listener: Listener,
    budget: Arc<Budget>,
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NbdEnded {
    /// All requests were answered.
    Done,
    /// Requests of so many connections could not be ended: what they read hangs.
    Hanging(usize),
}

/// The connections there are, by numbers of no meaning.
type Connections = Arc<Mutex<HashMap<u64, Stream>>>;

impl NbdServer {
    /// A server on a socket that only its owner can open. One that a process left which is gone is replaced; it is deleted at the end.
    ///
    /// # Errors
    /// [`Kind::Busy`](crate::Kind::Busy) if another process listens there, [`Kind::Exists`](crate::Kind::Exists) if it is some other file,
    /// [`Kind::Invalid`](crate::Kind::Invalid) if there is no disk, or two have the same name; as the operating system reports.
    pub fn unix(exports: Vec<NbdExport>, path: &Path) -> Result<NbdServer> {
        Ok(NbdServer {
            exports: Arc::new(Exports::new(exports)?),
            listener: Listener::unix(path)?,
            budget: Arc::default(),
        })
    }

    /// A server on a port; 0 is any that is free. Nothing is encrypted and nobody is asked who he is.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::Kind::Invalid) as [`unix`](NbdServer::unix) says, and if other machines could reach it without `allow_remote`;
    /// as the operating system reports.
    pub fn tcp(
        exports: Vec<NbdExport>,
        address: SocketAddr,
        allow_remote: bool,
    ) -> Result<NbdServer> {
        Ok(NbdServer {
            exports: Arc::new(Exports::new(exports)?),
            listener: Listener::tcp(address, allow_remote)?,
            budget: Arc::default(),
        })
    }

    /// How clients name each export, in order.
    pub fn uris(&self) -> Vec<String> {
        let exports = self.exports.all().iter();
        exports
            .map(|export| self.listener.uri(export.name()))
            .collect()
    }

    /// Serves until `stop` is set. What could not be read or written is told to `monitor`, and the client.
    ///
    /// # Errors
    /// As the operating system reports.
    pub fn run(&self, stop: &AtomicBool, monitor: Arc<dyn Monitor>) -> Result<NbdEnded> {
        let connections = Connections::default();
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            match self.listener.accept() {
                Ok(stream) => {
                    number += 1;
                    if let Err(error) = self.begin(stream, number, &connections, &monitor) {
                        monitor.warn(&format!("a client could not be served: {error}"));
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(PAUSE),
                // Gone again, or no descriptor is free: others may have better luck.
                Err(_) => std::thread::sleep(PAUSE * 10),
            }
        }
        // Who waits for memory has not begun.
        self.budget.close();
        Ok(end(&connections))
    }

    fn begin(
        &self,
        stream: Stream,
        number: u64,
        connections: &Connections,
        monitor: &Arc<dyn Monitor>,
    ) -> Result<()> {
        let mut all = connections.lock();
        if all.len() >= MAX_CONNECTIONS {
            let why = format!("there are {MAX_CONNECTIONS} already");
            return Err(Error::new(cairn_base::Kind::Busy, why));
        }
        let failed = |e| Error::io("cannot serve a connection", Path::new(""), e);
        all.insert(number, stream.try_clone().map_err(failed)?);
        drop(all);
        let leaves = Leaves(connections.clone(), number);
        let (exports, monitor) = (self.exports.clone(), monitor.clone());
        let budget = self.budget.clone();
        let serve = move || {
            let _leaves = leaves;
            // A client that breaks off has its reasons.
            let _ended = converse(stream, &exports, &*monitor, &budget);
        };
        std::thread::Builder::new()
            .name("nbd client".to_string())
            .spawn(serve)
            .map_err(failed)?;
        Ok(())
    }
}

/// Takes a connection off the list, however its thread ends.
struct Leaves(Connections, u64);

impl Drop for Leaves {
    fn drop(&mut self) {
        if let Some(stream) = self.0.lock().remove(&self.1) {
            stream.shutdown(Shutdown::Both);
        }
    }
}

/// Lets requests in flight come to their end, then no more.
fn end(connections: &Connections) -> NbdEnded {
    for how in [Shutdown::Read, Shutdown::Both] {
        connections
            .lock()
            .values()
            .for_each(|stream| stream.shutdown(how));
        let begun = Instant::now();
        while begun.elapsed() < GRACE {
            if connections.lock().is_empty() {
                return NbdEnded::Done;
            }
            std::thread::sleep(PAUSE);
        }
    }
    NbdEnded::Hanging(connections.lock().len())
}

/// One client from its first byte to its last.
fn converse(
    stream: Stream,
    exports: &Exports,
    monitor: &dyn Monitor,
    budget: &Budget,
) -> io::Result<()> {
    let mut reader = Hurried {
        stream: stream.try_clone()?,
        until: Instant::now() + HANDSHAKE,
    };
    let mut writer = stream;
    let Some(agreed) = handshake::negotiate(&mut reader, &mut writer, exports)? else {
        return Ok(());
    };
    let mut reader = reader.stream;
    reader.set_timeout(None)?;
    transmit::transmit(&mut reader, writer, &agreed, monitor, budget)
}

/// Serves one client that talks through `reader` and `writer`, whatever they are, until it goes away.
///
/// # Errors
/// As they report, and [`InvalidData`](io::ErrorKind::InvalidData) if the client does not keep to the protocol;
/// [`Kind::Invalid`](crate::Kind::Invalid) as [`NbdServer::unix`] says.
pub fn serve_stream<R: Read, W: Write + Send>(
    exports: Vec<NbdExport>,
    mut reader: R,
    mut writer: W,
    monitor: &dyn Monitor,
) -> Result<()> {
    let exports = Exports::new(exports)?;
    let failed = |e| Error::io("the conversation with a client has ended", Path::new(""), e);
    match handshake::negotiate(&mut reader, &mut writer, &exports).map_err(failed)? {
        Some(agreed) => {
            let budget = Budget::default();
            transmit::transmit(&mut reader, writer, &agreed, monitor, &budget).map_err(failed)
        }
        None => Ok(()),
    }
}

/// A connection of which all reads together must end in time.
struct Hurried {
    stream: Stream,
    until: Instant,
}

impl Read for Hurried {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_timeout(Some(left))?;
        self.stream.read(buffer)
    }
}
