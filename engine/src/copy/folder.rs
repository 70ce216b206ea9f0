//! A folder as the target. One thread makes folders and hands everything in them to others, which read, decode and write.

use crate::copy::content::Hash;
use crate::copy::item::{Identity, Item};
use crate::copy::make::{Made, Maker, read_back};
use crate::copy::place::{Folder, numbered};
use crate::copy::report::CopyReport;
use crate::copy::tree::{Takes, give};
use crate::copy::{Copier, OnConflict};
use cairn_base::{Error, Kind, Result};
use cairn_guest::{EntryId, EntryKind, Volume};
use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

/// Entries that wait for a thread.
pub const QUEUE: usize = 256;
/// Files with several names whose first one is remembered.
const MAX_LINKED: usize = 1 << 18;
/// Files that wait to be read back.
const MAX_UNREAD: usize = 4096;

/// Lies in a folder that was named as long as its copy is not complete.
pub const UNFINISHED: &str = ".cairn-copy-unfinished";

/// An entry for one of the threads.
pub struct Job {
    folder: Arc<Folder>,
    /// The path of the folder below the target.
    within: Arc<Vec<u8>>,
    name: Vec<u8>,
    item: Item,
    replace: bool,
}

/// A file that is to be read back: its folder, its name, and what it must be.
type Unread = (Arc<Vec<u8>>, Vec<u8>, Hash);

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
            if self.fatal.lock().is_none() {
                let made = self
                    .maker
                    .make(&job.folder, &job.name, &job.item, job.replace);
                let _placed = self.note(&job.within, &job.name, &job.item, made);
            }
            drop(job);
            *self.open.lock() -= 1;
            self.done.notify_all();
        }
    }

    fn wait(&self) -> Result<()> {
        let mut open = self.open.lock();
        while *open > 0 {
            self.done.wait(&mut open);
        }
        drop(open);
        self.check()
    }

    fn check(&self) -> Result<()> {
        if self.maker.monitor.stop_requested() {
            return Err(Error::interrupted());
        }
        self.fatal.lock().clone().map_or(Ok(()), Err)
    }

    fn at(&self, within: &[u8], name: &[u8]) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        let below = |path: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(path));
        let path = [within, name].into_iter().filter(|part| !part.is_empty());
        path.fold(self.path.clone(), |path, part| path.join(below(part)))
    }

    /// Counts what became of an entry. Answers the name that it has now.
    fn note(
        &self,
        within: &Arc<Vec<u8>>,
        name: &[u8],
        item: &Item,
        made: Result<Made>,
    ) -> Option<Vec<u8>> {
        let mut report = self.report.lock();
        let incomplete = |errors: Vec<Error>, report: &mut CopyReport| {
            let path = self.at(within, name);
            for error in errors {
                report.fail(error.context(format!("{} is not complete", path.display())));
            }
        };
        match made {
            Ok(Made::As(now, new)) => {
                report.made(item.attributes.kind);
                report.bytes += new.bytes;
                report.renamed += u64::from(now != name);
                incomplete(new.wrong, &mut report);
                if let Some(hash) = new.hash {
                    self.unread.lock().push((within.clone(), now.clone(), hash));
                }
                return Some(now);
            }
            Ok(Made::Already(wrong)) => {
                report.already += 1;
                incomplete(wrong, &mut report);
                return Some(name.to_vec());
            }
            Ok(Made::Skipped) => report.skipped += 1,
            Err(error) if matches!(error.kind(), Kind::Interrupted | Kind::Full) => {
                self.fatal.lock().get_or_insert(error);
            }
            Err(error) => self.fail(&mut report, within, name, error),
        }
        None
    }

    fn fail(&self, report: &mut CopyReport, within: &[u8], name: &[u8], error: Error) {
        let path = self.at(within, name);
        report.fail(error.context(format!("{} was not copied", path.display())));
    }
}

/// A copy to a folder.
pub struct ToFolder<'s, 'a> {
    shared: &'s Shared<'a>,
    jobs: SyncSender<Job>,
    /// Where the first name of a file with several went: folder and name.
    linked: HashMap<Identity, (Arc<Vec<u8>>, Vec<u8>)>,
    /// What was taken at the top since everything was done: two of one name must come one after the other.
    tops: HashSet<Vec<u8>>,
    /// The folder that is being filled.
    current: Option<(Arc<Vec<u8>>, Arc<Folder>)>,
    /// Folders that get their attributes when everything in them is there, for filling them changes their times, and their permissions may forbid it.
    later: Vec<(Vec<u8>, Item)>,
    /// Folders at the top with the mark that they are not complete.
    marked: Vec<Vec<u8>>,
    /// Whether what is taken now is at the top.
    top: bool,
}

impl<'s, 'a> ToFolder<'s, 'a> {
    /// Hands what is to be done to `jobs`.
    pub fn new(shared: &'s Shared<'a>, jobs: SyncSender<Job>) -> ToFolder<'s, 'a> {
        ToFolder {
            shared,
            jobs,
            linked: HashMap::new(),
            tops: HashSet::new(),
            current: None,
            later: Vec::new(),
            marked: Vec::new(),
            top: false,
        }
    }

    fn open(&mut self, path: &[u8]) -> Result<(Arc<Vec<u8>>, Arc<Folder>)> {
        match &self.current {
            Some((known, folder)) if known[..] == *path => Ok((known.clone(), folder.clone())),
            _ => {
                let folder = Arc::new(self.shared.root.walk(path)?);
                let found = (Arc::new(path.to_vec()), folder);
                self.current = Some(found.clone());
                Ok(found)
            }
        }
    }

    /// A folder, made or gone on with. Answers its path.
    fn folder(&mut self, within: &[u8], name: &[u8], item: &Item) -> Result<Option<Vec<u8>>> {
        let (_, folder) = self.open(within)?;
        let options = self.shared.maker.options;
        let path = |name: &[u8]| match within {
            b"" => name.to_vec(),
            _ => [within, b"/", name].concat(),
        };
        if folder.make_folder(name, 0o700)? {
            self.later.push((path(name), item.clone()));
            self.shared.report.lock().folders += 1;
            return Ok(Some(path(name)));
        }
        let exists = |what| Error::new(Kind::Exists, what).at_path(folder.path_of(name));
        let merges = options.resume
            || matches!(
                options.on_conflict,
                OnConflict::Skip | OnConflict::Overwrite
            );
        if merges {
            // A link is not followed, and a file stays.
            let there = match folder.enter(name) {
                Ok(there) => there,
                Err(error)
                    if error.kind() == Kind::Exists && options.on_conflict == OnConflict::Skip =>
                {
                    self.shared.report.lock().skipped += 1;
                    return Ok(None);
                }
                Err(error) => return Err(error),
            };
            if folder.is_spelled_otherwise(name)? {
                return Err(exists("it is there in another spelling already")
                    .advise("say --on-conflict rename"));
            }
            if options.resume {
                there.sweep()?;
            }
            if options.resume || options.on_conflict == OnConflict::Overwrite {
                self.later.push((path(name), item.clone()));
            }
            self.shared.report.lock().folders += 1;
            return Ok(Some(path(name)));
        }
        if options.on_conflict != OnConflict::Rename {
            return Err(exists("something of that name is there already")
                .advise("choose another target, or say --on-conflict"));
        }
        for number in 2..u32::from(u16::MAX) {
            let other = numbered(name, number);
            if folder.make_folder(&other, 0o700)? {
                let mut report = self.shared.report.lock();
                report.folders += 1;
                report.renamed += 1;
                self.later.push((path(&other), item.clone()));
                return Ok(Some(path(&other)));
            }
        }
        Err(exists("all numbered names are taken"))
    }

    /// A file with several names: made at once, so that the next ones find it.
    fn linked(
        &mut self,
        identity: Identity,
        within: &Arc<Vec<u8>>,
        folder: &Arc<Folder>,
        (name, item): (&[u8], &Item),
    ) -> Result<()> {
        let shared = self.shared;
        let replace = self.top && shared.maker.options.force;
        if let Some((at, of)) = self.linked.get(&identity) {
            let first = shared.root.walk(at)?;
            match shared.maker.link((&first, of), (folder, name), replace) {
                Err(error) if error.kind() == Kind::Unsupported => {
                    let mut report = shared.report.lock();
                    let path = shared.at(within, name);
                    let what = format!("{} became a file of its own", path.display());
                    report.fail(error.context(what));
                }
                made => {
                    shared.note(within, name, item, made);
                    return Ok(());
                }
            }
        }
        let made = shared.maker.make(folder, name, item, replace);
        if let Some(now) = shared.note(within, name, item, made) {
            if self.linked.len() < MAX_LINKED {
                self.linked.entry(identity).or_insert((within.clone(), now));
            } else {
                let what =
                    "too many files have several names: further ones become files of their own";
                shared.report.lock().fail(Error::unsupported(what));
            }
        }
        shared.check()
    }

    /// Everything that was handed out is done; what is to be read back is, and folders have their attributes.
    fn settle(&mut self) -> Result<()> {
        self.shared.wait()?;
        self.tops.clear();
        self.current = None;
        self.read_back()?;
        for path in self.marked.drain(..) {
            if let Ok(folder) = self.shared.root.walk(&path) {
                folder.remove(UNFINISHED.as_bytes());
            }
        }
        while let Some((path, item)) = self.later.pop() {
            let shared = self.shared;
            match shared.root.walk(&path) {
                Ok(folder) => {
                    let at = shared.at(&path, b"");
                    for error in shared.maker.dress.open(&folder, &item) {
                        let what = format!("{} is not complete", at.display());
                        shared.report.lock().fail(error.context(what));
                    }
                }
                Err(error) => shared.report.lock().fail(error),
            }
        }
        Ok(())
    }

    fn read_back(&mut self) -> Result<()> {
        let unread = std::mem::take(&mut *self.shared.unread.lock());
        if unread.is_empty() {
            return Ok(());
        }
        sync(&self.shared.root)?;
        for (within, name, hash) in unread {
            self.shared.check()?;
            let folder = self.shared.root.walk(&within)?;
            match read_back(&folder, &name, &hash, self.shared.maker.monitor) {
                Ok(()) => self.shared.report.lock().verified += 1,
                Err(error) if error.kind() == Kind::Interrupted => return Err(error),
                Err(error) => self.shared.report.lock().fail(error),
            }
        }
        Ok(())
    }
}

/// What was written lies on the disk from now on.
fn sync(root: &Folder) -> Result<()> {
    rustix::fs::syncfs(root).map_err(|e| root.failed("cannot write to the disk", b"", e))
}

impl Takes for ToFolder<'_, '_> {
    fn take(&mut self, within: &[u8], name: &[u8], item: &Item) -> Result<Option<Vec<u8>>> {
        let shared = self.shared;
        shared.check()?;
        if shared.unread.lock().len() >= MAX_UNREAD {
            shared.wait()?;
            self.read_back()?;
        }
        if item.attributes.kind == EntryKind::Folder {
            let made = self.folder(within, name, item)?;
            if let Some(path) = made.as_ref().filter(|_| self.top) {
                // It may be there, from the copy with which this one goes on.
                drop(shared.root.walk(path)?.create(UNFINISHED.as_bytes()));
                self.marked.push(path.clone());
            }
            self.top = false;
            return Ok(made);
        }
        let (within, folder) = self.open(within)?;
        if let Some(identity) = item.identity() {
            self.linked(identity, &within, &folder, (name, item))?;
            return Ok(None);
        }
        *shared.open.lock() += 1;
        let job = Job {
            folder,
            within,
            name: name.to_vec(),
            item: item.clone(),
            replace: self.top && shared.maker.options.force,
        };
        if self.jobs.send(job).is_err() {
            *shared.open.lock() -= 1;
            return Err(Error::interrupted());
        }
        Ok(None)
    }

    fn missed(&mut self, within: &[u8], name: &[u8], error: Error) -> Result<()> {
        if matches!(error.kind(), Kind::Interrupted | Kind::Full) {
            return Err(error);
        }
        let mut report = self.shared.report.lock();
        self.shared.fail(&mut report, within, name, error);
        Ok(())
    }
}

impl Copier for ToFolder<'_, '_> {
    fn add(&mut self, volume: &Arc<dyn Volume>, id: EntryId, path: &[u8]) -> Result<()> {
        let at = path.iter().rposition(|byte| *byte == b'/');
        let (within, name) = path.split_at(at.map_or(0, |at| at + 1));
        // Targets may not care for case.
        let known = String::from_utf8_lossy(path).to_lowercase().into_bytes();
        if !self.tops.insert(known) || self.tops.len() > MAX_UNREAD {
            self.settle()?;
        }
        let mut made = Vec::new();
        for parent in within.split(|byte| *byte == b'/').filter(|n| !n.is_empty()) {
            let folder = self.shared.root.walk(&made)?;
            // It may be there: from before, or from another path of this copy.
            folder.make_folder(parent, self.shared.maker.dress.folder_mode())?;
            let deeper = [&made, &b"/"[..], parent].concat();
            made = if made.is_empty() {
                parent.to_vec()
            } else {
                deeper
            };
        }
        self.top = true;
        give(volume, id, (&made, name), self.shared.maker.monitor, self)
    }

    fn settle(&mut self) -> Result<()> {
        ToFolder::settle(self)?;
        // The volumes may go now, and their addresses with them.
        self.linked.clear();
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        ToFolder::settle(self)?;
        sync(&self.shared.root)
    }
}
