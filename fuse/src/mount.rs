//! Mounting a store or an image, and ending the mount.

use crate::adapter::Adapter;
use crate::asker::{Asker, Asking};
use crate::device::{self, Connection, Detached, Manner, Place};
use crate::failure::Failure;
use crate::ground::Ground;
use crate::journal::{Journal, Sink};
use crate::look::Look;
use crate::stale::{self, Cleared};
use crate::tree::Tree;
use crate::writable::{Overlays, Scratch};
use cairn::{DiskView, Error, Kind, Result, Store};
use fuser::{Config, Session, SessionACL};
use parking_lot::{Condvar, Mutex};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How much the kernel reads ahead, where it lets us say so, in KiB: eight requests of 1 MiB, so that one reader keeps several threads decoding.
const READ_AHEAD: u32 = 8192;
/// How often a stop flag is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long the session may take to end once nothing is mounted.
const ENDING: Duration = Duration::from_secs(2);
/// How much of that the thread may take that asks the kernel.
const ASKING: Duration = Duration::from_secs(1);
/// How long unmounting is tried before what is in use is detached.
const PATIENCE: Duration = Duration::from_millis(500);

/// How to mount.
#[derive(Clone, Default)]
pub struct MountOptions {
    /// Others than the one who mounts may look, within the modes that the guests' files have.
    pub allow_other: bool,
    /// Threads that listen to the kernel; 0 chooses: twice the processors, at least 8.
    pub threads: usize,
    /// Raw disks can be written to, each in a private overlay there. Everything else stays as it is.
    pub writable: Option<Scratch>,
    /// How guests' entries are shown.
    pub look: Look,
    /// What `df` and `mount` show as the source; `cairn` if it is empty.
    pub source: String,
    /// Receives a line when something goes wrong while the mount is in use, see [`Journal`].
    pub journal: Option<Sink>,
}

impl fmt::Debug for MountOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MountOptions")
            .field("allow_other", &self.allow_other)
            .field("threads", &self.threads)
            .field("writable", &self.writable)
            .field("look", &self.look)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl MountOptions {
    fn loops(&self) -> usize {
        if self.threads > 0 {
            return self.threads.clamp(2, 256);
        }
        let processors = std::thread::available_parallelism().map_or(1, |count| count.get());
        processors.saturating_mul(2).clamp(8, 64)
    }
}

/// How a mount ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmounted {
    /// Nothing is left of it.
    Cleanly,
    /// Files in it are in use. It has vanished from the tree of files; their users get errors once this process ends.
    StillInUse,
}

/// A mounted file system. Dropping it unmounts it; where [`unmount`](Mounted::unmount) fails it is served until the process ends.
pub struct Mounted {
    tree: Arc<Tree>,
    place: Place,
    overlays: Option<Arc<Overlays>>,
    ended: Arc<Ended>,
}

/// Whether the session has ended, and what it left.
struct Ended {
    result: Mutex<Option<Result<()>>>,
    changed: Condvar,
    /// None when the session has ended.
    connection: Mutex<Option<Connection>>,
    /// Nothing is left in the tree of files: what is there from now on is another's.
    gone: AtomicBool,
    /// It was detached while it was in use: it is in no tree of files any more.
    detached: AtomicBool,
}

impl Ended {
    fn new(connection: Connection) -> Ended {
        Ended {
            result: Mutex::new(None),
            changed: Condvar::new(),
            connection: Mutex::new(Some(connection)),
            gone: AtomicBool::new(false),
            detached: AtomicBool::new(false),
        }
    }

    fn is_up(&self) -> bool {
        let connection = self.connection.lock();
        connection.as_ref().is_some_and(Connection::is_up)
    }

    /// Takes what nobody serves any more out of the tree of files, if that was not done, or seen to be so, before. What fails is tried again at the next call.
    fn detach(&self, place: &Place) -> Result<()> {
        if self.gone.load(Ordering::Acquire) {
            return Ok(());
        }
        // Up, though its threads have failed.
        device::unmount(place, true, &|| self.is_up())?;
        let is_gone = match self.is_up() {
            true => true,
            // What is alive is not this one, and may go before it is looked at again.
            false => stale::detach(place)? != Cleared::Alive,
        };
        self.gone.store(is_gone, Ordering::Release);
        Ok(())
    }

    /// When the session has ended: whether it was unmounted, cut off, or has failed, nobody answers any more but threads that still work at a request.
    ///
    /// # Errors
    /// If something of it remains in the tree of files. That is tried again by whoever unmounts.
    fn clean_up(&self, tree: &Tree, place: &Place, asking: Option<Asking>) -> Result<()> {
        let detached = self.detach(place);
        self.connection.lock().take();
        tree.holds().end();
        // It works with the store, which may hang.
        if let Some(asking) = asking {
            asking.ends_within(ASKING);
        }
        detached
    }
}

/// Mounts all points of a store at `mountpoint`, an existing folder. Returns when the mount can be used.
///
/// # Errors
/// As [`device::mount`] and [`Ground::check`].
pub fn mount_store(store: Store, mountpoint: &Path, options: &MountOptions) -> Result<Mounted> {
    let source = store.place().map(Path::to_path_buf).into_iter().collect();
    mount(Tree::of_store(store), source, mountpoint, options)
}

/// Mounts what is on a disk image at `mountpoint`, an existing folder. Returns when the mount can be used.
///
/// # Errors
/// As [`device::mount`] and [`Ground::check`].
pub fn mount_image(view: DiskView, mountpoint: &Path, options: &MountOptions) -> Result<Mounted> {
    let source = view.files().to_vec();
    mount(Tree::of_image(view), source, mountpoint, options)
}

fn mount(
    mut tree: Tree,
    source: Vec<PathBuf>,
    mountpoint: &Path,
    options: &MountOptions,
) -> Result<Mounted> {
    let overlays = options.writable.clone().map(Overlays::new);
    let overlays = overlays.transpose()?.map(Arc::new);
    if let Some(overlays) = &overlays {
        tree = tree.with_overlays(overlays.clone());
    }
    let loops = options.loops();
    let mut config = Config::default();
    config.n_threads = Some(loops);
    config.clone_fd = device::can_open_devices(loops);
    let acl = if options.allow_other {
        SessionACL::All
    } else {
        SessionACL::Owner
    };
    let journal = clear_stale(mountpoint, options)?;
    let scratch = overlays.as_ref().map(|overlays| overlays.folder());
    Ground { source, scratch }.check(mountpoint)?;
    let manner = Manner {
        allow_other: options.allow_other,
        writable: overlays.is_some(),
        source: Some(&*options.source)
            .filter(|source| !source.is_empty())
            .unwrap_or(device::NAME),
    };
    let (fuse, place) = device::mount(mountpoint, manner)?;
    let tree = Arc::new(tree.shown(options.look.clone(), Arc::new(journal)));
    let connection = Connection::of(&fuse).map_err(|error| {
        let _ = device::unmount(&place, true, &|| true);
        Error::io("cannot open FUSE once more", mountpoint, error)
    })?;
    let ended = Arc::new(Ended::new(connection));
    let failed = |what: &'static str, error: std::io::Error| {
        // Nothing answers: whoever looks at it would hang.
        let _ = ended.detach(&place);
        Error::io(what, mountpoint, error)
    };
    // Where the kernel decides by modes it has to know of the lists that go with them.
    let lists = options.allow_other && options.look.is_the_guests();
    let adapter = Adapter::new(tree.clone(), loops, lists);
    let session = Session::from_fd(adapter, fuse, acl, config)
        .map_err(|error| failed("the kernel and FUSE do not agree", error))?;
    serve(session, &tree, &place, &ended)
        .map_err(|error| failed("cannot start a thread", error))?;
    device::set_read_ahead(&place, READ_AHEAD);
    Ok(Mounted {
        tree,
        place,
        overlays,
        ended,
    })
}

/// Answers the kernel, on threads of their own, until the session ends; then cleans up.
fn serve(
    session: Session<Adapter>,
    tree: &Arc<Tree>,
    place: &Place,
    ended: &Arc<Ended>,
) -> std::io::Result<()> {
    let asking = tree
        .is_of_store()
        .then(|| Asker::start(tree, session.notifier(), place.clone()))
        .transpose()?;
    let (tree, place, ended) = (tree.clone(), place.clone(), ended.clone());
    std::thread::Builder::new()
        .name("cairn-mount".into())
        .spawn(move || {
            let served = session.run();
            let left = ended.clean_up(&tree, &place, asking);
            drop(tree);
            let what = "serving the mount failed";
            let served = served.map_err(|error| Error::io(what, place.path(), error));
            *ended.result.lock() = Some(served.and(left));
            ended.changed.notify_all();
        })?;
    Ok(())
}

/// Clears away what a killed program left there, and tells of it.
fn clear_stale(mountpoint: &Path, options: &MountOptions) -> Result<Journal> {
    let journal = options.journal.clone().map(Journal::new);
    let journal = journal.unwrap_or_default();
    if stale::clear(mountpoint)? > 0 {
        let shown = mountpoint.display();
        journal.tell(&format!(
            "a mount at {shown} that had lost its program was cleared away"
        ));
    }
    Ok(journal)
}

impl Mounted {
    /// Waits until it was unmounted, by whomever.
    ///
    /// # Errors
    /// If it could not be served to the end, or something of it remains in the tree of files that nobody serves: [`unmount`](Mounted::unmount) tries that again.
    pub fn wait(&self) -> Result<()> {
        let mut result = self.ended.result.lock();
        loop {
            if let Some(result) = &*result {
                return result.clone();
            }
            self.ended.changed.wait(&mut result);
        }
    }

    /// Waits until it was unmounted or `stop` is set. Says whether it was unmounted; if not, it is still there.
    ///
    /// # Errors
    /// As [`wait`](Mounted::wait).
    pub fn wait_or(&self, stop: &AtomicBool) -> Result<bool> {
        while !stop.load(Ordering::Relaxed) {
            if self.ended_within(LOOK) {
                return self.wait().map(|()| true);
            }
        }
        Ok(false)
    }

    /// Unmounts, from any thread. If files are in use for longer than a moment, it is detached: then the end of this
    /// process ends it. As long as it fails it is served on.
    ///
    /// # Errors
    /// [`Kind::Busy`] if others have mounted something in it or over it, or over a folder above it; as the operating system reports.
    pub fn unmount(&self) -> Result<Unmounted> {
        if self.ended_within(Duration::ZERO) {
            return self.ended.detach(&self.place).map(|()| Unmounted::Cleanly);
        }
        // What is at its place now is another's.
        if self.ended.detached.load(Ordering::Relaxed) {
            return Ok(match self.ended_within(LOOK) {
                true => Unmounted::Cleanly,
                false => Unmounted::StillInUse,
            });
        }
        let is_up = || self.ended.is_up();
        let started = Instant::now();
        let detached = loop {
            match device::unmount(&self.place, false, &is_up) {
                Err(error) if error.kind() == Kind::Busy && started.elapsed() < PATIENCE => {
                    std::thread::sleep(LOOK);
                }
                Err(error) if error.kind() == Kind::Busy => {
                    break device::unmount(&self.place, true, &is_up)?;
                }
                other => break other?,
            }
        };
        let ended = self.ended_within(match detached {
            Detached::Gone => ENDING,
            Detached::InUse => {
                self.ended.detached.store(true, Ordering::Relaxed);
                self.ended.gone.store(true, Ordering::Release);
                LOOK
            }
        });
        if !ended {
            return Ok(Unmounted::StillInUse);
        }
        self.ended.detach(&self.place).map(|()| Unmounted::Cleanly)
    }

    /// Ends the sessions of the points that are open: for a process that ends while files are in use. Whoever still reads, until then, has nothing that keeps it
    /// from being deleted.
    pub fn leave(&self) {
        self.tree.leave();
    }

    /// Makes durable what was written to disks, where it is kept: for the end, when nobody is left to be told.
    ///
    /// # Errors
    /// What the overlays report.
    pub fn flush(&self) -> Result<()> {
        let Some(overlays) = &self.overlays else {
            return Ok(());
        };
        overlays.flush().map_err(|failure| match failure {
            Failure::Engine(error) => error,
            other => Error::new(Kind::Io, other.to_string()),
        })
    }

    fn ended_within(&self, time: Duration) -> bool {
        let mut result = self.ended.result.lock();
        if result.is_none() && !time.is_zero() {
            self.ended.changed.wait_for(&mut result, time);
        }
        result.is_some()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // There is nobody to tell; `unmount` is there for those who want to know.
        let _ = self.unmount();
    }
}

#[cfg(test)]
mod tests;
