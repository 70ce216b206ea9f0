//! What the threads that fill a folder have in common.

use crate::copy::check::{Found, Unread};
use crate::copy::item::{Identity, Item};
use crate::copy::make::{First, Made, Maker, Where};
use crate::copy::name::join;
use crate::copy::place::{Folder, Inode};
use crate::copy::report::CopyReport;
use crate::copy::windows;
use cairn_base::{Error, Kind, Result};
use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

/// Files with several names whose first one is remembered.
const MAX_LINKED: usize = 1 << 18;

/// An entry for one of the threads.
pub struct Job {
    /// The folder it goes to.
    pub folder: Arc<Folder>,
    /// The path of the folder below the target.
    pub within: Arc<Vec<u8>>,
    /// Its name.
    pub name: Vec<u8>,
    /// The entry.
    pub item: Item,
    /// Whether what is there is replaced, whatever is said of conflicts.
    pub replace: bool,
}

impl Job {
    fn to(&self) -> Where<'_> {
        Where {
            folder: &self.folder,
            name: &self.name,
            replace: self.replace,
        }
    }
}

/// Where the latest name of a file with several went: folder, name, and the file that got it.
type FirstName = (Arc<Vec<u8>>, Vec<u8>, Inode);

/// What the threads have in common.
pub struct Shared<'a> {
    /// Makes entries.
    pub maker: Maker<'a>,
    /// The target.
    pub root: Folder,
    /// Where it is.
    pub path: PathBuf,
    /// What was copied.
    pub report: Mutex<CopyReport>,
    /// Files that are to be read back.
    unread: Mutex<Vec<Unread>>,
    linked: Mutex<HashMap<Identity, FirstName>>,
    /// What makes it useless to go on.
    fatal: Mutex<Option<Error>>,
    /// Jobs that were handed out and are not done.
    open: Mutex<usize>,
    done: Condvar,
}

impl<'a> Shared<'a> {
    /// For a copy to `root`, which is at `path`.
    pub fn new(maker: Maker<'a>, root: Folder, path: PathBuf) -> Shared<'a> {
        Shared {
            maker,
            root,
            path,
            report: Mutex::default(),
            unread: Mutex::default(),
            linked: Mutex::default(),
            fatal: Mutex::default(),
            open: Mutex::new(0),
            done: Condvar::new(),
        }
    }

    /// Works until there is nothing left to come.
    pub fn work(&self, jobs: &Mutex<Receiver<Job>>) {
        loop {
            let next = jobs.lock().recv();
            let Ok(job) = next else { return };
            let _done = Done(self, jobs);
            if self.fatal.lock().is_none() {
                let made = self.maker.make(job.to(), &job.item);
                let _placed = self.note(&job, made);
            }
            drop(job);
        }
    }

    /// A job is on its way to the threads, or not, if that failed.
    pub fn opened(&self) {
        *self.open.lock() += 1;
    }

    /// A job is done, or was not handed out.
    pub fn closed(&self) {
        *self.open.lock() -= 1;
        self.done.notify_all();
    }

    /// Waits until everything that was handed out is done.
    ///
    /// # Errors
    /// As [`check`](Shared::check).
    pub fn wait(&self) -> Result<()> {
        let mut open = self.open.lock();
        while *open > 0 {
            self.done.wait(&mut open);
        }
        drop(open);
        self.check()
    }

    /// Whether to go on.
    ///
    /// # Errors
    /// [`Kind::Interrupted`] on request; what makes it useless to go on.
    pub fn check(&self) -> Result<()> {
        if self.maker.monitor.stop_requested() {
            return Err(Error::interrupted());
        }
        self.fatal.lock().clone().map_or(Ok(()), Err)
    }

    /// It is useless to go on.
    pub fn stop(&self, error: Error) {
        self.fatal.lock().get_or_insert(error);
    }

    /// A path below the target, for messages.
    pub fn at(&self, path: &[u8]) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        if path.is_empty() {
            return self.path.clone();
        }
        self.path.join(std::ffi::OsStr::from_bytes(path))
    }

    /// A file with several names: made at once, so that the next ones find it.
    ///
    /// # Errors
    /// As [`check`](Shared::check).
    pub fn make_linked(&self, identity: Identity, job: &Job) -> Result<()> {
        let made = match self.link(identity, job) {
            Some(made) => made,
            None => self.maker.make(job.to(), &job.item),
        };
        let Some((now, Some(inode))) = self.note(job, made) else {
            return self.check();
        };
        let mut linked = self.linked.lock();
        if linked.len() < MAX_LINKED || linked.contains_key(&identity) {
            // The name that it got last is the one that hardly anything has replaced yet.
            linked.insert(identity, (job.within.clone(), now, inode));
        } else {
            drop(linked);
            let what = "too many files have several names: further ones become files of their own";
            self.report.lock().fail(Error::unsupported(what));
        }
        self.check()
    }

    /// Makes a second name; none if the file is to be made anew.
    fn link(&self, identity: Identity, job: &Job) -> Option<Result<Made>> {
        let (at, name, inode) = self.linked.lock().get(&identity)?.clone();
        let folder = self.root.walk(&at).ok()?;
        let first = First {
            folder: &folder,
            name: &name,
            inode,
        };
        match self.maker.link(identity, first, job.to(), &job.item) {
            Err(error) if error.kind() == Kind::Unsupported => {
                let path = self.at(&join(&job.within, &job.name));
                let what = format!("{} became a file of its own", path.display());
                self.report.lock().fail(error.context(what));
                None
            }
            made => made.transpose(),
        }
    }

    /// The volumes may go, and their addresses with them.
    pub fn forget_linked(&self) {
        self.linked.lock().clear();
        self.maker.owners.lock().clear();
    }

    /// Counts what became of an entry. Answers the name that it has now, and which file it is.
    fn note(&self, job: &Job, made: Result<Made>) -> Option<(Vec<u8>, Option<Inode>)> {
        let mut report = self.report.lock();
        let (now, new) = match made {
            Ok(Made::As(now, new)) => {
                report.made(job.item.attributes.kind);
                report.bytes += new.bytes;
                report.renamed += u64::from(now != job.name);
                if let Some(hash) = new.hash {
                    self.unread.lock().push(Unread {
                        within: job.within.clone(),
                        name: now.clone(),
                        hash,
                        inode: new.inode,
                    });
                }
                (now, new)
            }
            Ok(Made::Already(new)) => {
                report.already += 1;
                (job.name.clone(), new)
            }
            Ok(Made::Skipped) => {
                report.skipped += 1;
                return None;
            }
            Err(error) if matches!(error.kind(), Kind::Interrupted | Kind::Full) => {
                self.stop(error);
                return None;
            }
            Err(error) => {
                drop(report);
                self.fail(&join(&job.within, &job.name), error);
                return None;
            }
        };
        let path = || self.at(&join(&job.within, &job.name)).display().to_string();
        let native = windows::is_native(&*job.folder, &job.item);
        report.kept(&job.item, native, path);
        for error in new.wrong {
            report.fail(error.context(format!("{} is not complete", path())));
        }
        Some((now, new.inode))
    }

    /// Names what was not copied.
    pub fn fail(&self, path: &[u8], error: Error) {
        let what = format!("{} was not copied", self.at(path).display());
        self.report.lock().fail(error.context(what));
    }

    /// Files that wait to be read back.
    pub fn unread(&self) -> usize {
        self.unread.lock().len()
    }

    /// Reads back what waits for it, which lies on the disk.
    ///
    /// # Errors
    /// As [`check`](Shared::check).
    pub fn read_back(&self) -> Result<()> {
        let unread = std::mem::take(&mut *self.unread.lock());
        // Of files that got one name the last one has it.
        let known: HashSet<Inode> = unread.iter().filter_map(|file| file.inode).collect();
        for file in unread {
            self.check()?;
            match file.read_back(&self.root, self.maker.monitor) {
                Ok(Found::Same) => self.report.lock().verified += 1,
                Ok(Found::Another(inode)) if known.contains(&inode) => {}
                Ok(Found::Another(_)) => {
                    let path = self.at(&file.path());
                    let what = "another file took its place before it was read back";
                    let error = Error::new(Kind::Exists, what).at_path(&path);
                    self.report.lock().fail(error);
                }
                Err(error) if error.kind() == Kind::Interrupted => return Err(error),
                Err(error) => self.report.lock().fail(error),
            }
        }
        Ok(())
    }
}

/// At its end a job is done, also if it panicked: nobody waits for it.
struct Done<'s, 'a>(&'s Shared<'a>, &'s Mutex<Receiver<Job>>);

impl Drop for Done<'_, '_> {
    fn drop(&mut self) {
        let panics = std::thread::panicking();
        if panics {
            self.0
                .stop(Error::new(Kind::Io, "a thread of the copy failed"));
        }
        self.0.closed();
        if panics {
            // What waits is not done any more, but it must not fill the queue for ever either.
            self.0.work(self.1);
        }
    }
}
