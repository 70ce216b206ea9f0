//! A folder as the target. One thread makes folders and hands everything in them to others, which read, decode and write.

use crate::copy::dress::Dress;
use crate::copy::item::Item;
use crate::copy::name::{join, numbered, split};
use crate::copy::place::{Folder, kind_of};
use crate::copy::shared::{Job, Shared};
use crate::copy::spelling::Spellings;
use crate::copy::tops::Tops;
use crate::copy::tree::{Takes, give};
use crate::copy::windows;
use crate::copy::{Copier, OnConflict};
use cairn_base::{Error, Kind, Result};
use cairn_guest::{EntryId, EntryKind, Volume};
use parking_lot::Mutex;
use rustix::fs::FileType;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

/// Entries that wait for a thread.
pub const QUEUE: usize = 256;
/// Files that wait to be read back, and paths at the top since everything was done.
const MAX_UNREAD: usize = 4096;

/// Lies in a folder that was named as long as its copy is not complete.
pub const UNFINISHED: &str = ".cairn-copy-unfinished";

/// A folder that gets its attributes when everything in it is there, for filling it changes its times, and its permissions may forbid it.
struct Later {
    path: Vec<u8>,
    /// None if it keeps those it has.
    item: Option<Item>,
    /// Whether it has the mark that it is not complete.
    marked: bool,
}

/// A folder's path, and what is known of the names in it.
type Known = (Arc<Vec<u8>>, Arc<Mutex<Spellings>>);

/// A copy to a folder.
pub struct ToFolder<'s, 'a> {
    shared: &'s Shared<'a>,
    jobs: SyncSender<Job>,
    tops: Tops,
    /// The folder that is being filled.
    current: Option<(Arc<Vec<u8>>, Arc<Folder>)>,
    /// What is known of the names in it and in those above.
    spellings: Vec<Known>,
    /// A folder on each file system that was entered.
    systems: Vec<(u64, Arc<Folder>)>,
    /// Folders at the top, and above that, which wait for their attributes; parents first.
    upper: Vec<Later>,
    /// Those below them.
    below: Vec<Later>,
    /// Folders above what is named that were seen to since everything was done.
    ready: HashSet<Vec<u8>>,
    /// Whether what is taken now is at the top.
    top: bool,
    /// Something ended before its end.
    broken: bool,
}

impl<'s, 'a> ToFolder<'s, 'a> {
    /// Hands what is to be done to `jobs`.
    pub fn new(shared: &'s Shared<'a>, jobs: SyncSender<Job>) -> ToFolder<'s, 'a> {
        ToFolder {
            shared,
            jobs,
            tops: Tops::default(),
            current: None,
            spellings: Vec::new(),
            systems: Vec::new(),
            upper: Vec::new(),
            below: Vec::new(),
            ready: HashSet::new(),
            top: false,
            broken: false,
        }
    }

    fn open(&mut self, path: &[u8]) -> Result<(Arc<Vec<u8>>, Arc<Folder>)> {
        match &self.current {
            Some((known, folder)) if known[..] == *path => Ok((known.clone(), folder.clone())),
            _ => {
                let folder = self.shared.root.walk(path)?;
                let path = Arc::new(path.to_vec());
                let folder = Arc::new(folder.with(self.spellings_in(&path)));
                let known = rustix::fs::fstat(&*folder)
                    .map_err(|e| folder.failed("cannot look at the folder", b"", e))?;
                if self.systems.iter().all(|(dev, _)| *dev != known.st_dev) {
                    self.systems.push((known.st_dev, folder.clone()));
                }
                let found = (path, folder);
                self.current = Some(found.clone());
                Ok(found)
            }
        }
    }

    /// What is known of the names in a folder; what lies beside the way there is forgotten.
    fn spellings_in(&mut self, path: &Arc<Vec<u8>>) -> Arc<Mutex<Spellings>> {
        let leads = |above: &[u8]| {
            let below = path.strip_prefix(above);
            below.is_some_and(|rest| above.is_empty() || matches!(rest, [] | [b'/', ..]))
        };
        while self.spellings.pop_if(|(last, _)| !leads(last)).is_some() {}
        match self.spellings.last() {
            Some((last, known)) if last == path => known.clone(),
            _ => {
                let known = Arc::<Mutex<Spellings>>::default();
                self.spellings.push((path.clone(), known.clone()));
                known
            }
        }
    }

    /// What was written lies on the disk from now on.
    fn sync(&self) -> Result<()> {
        let others = self.systems.iter().map(|(_, folder)| &**folder);
        for folder in std::iter::once(&self.shared.root).chain(others) {
            rustix::fs::syncfs(folder)
                .map_err(|e| folder.failed("cannot write to the disk", b"", e))?;
        }
        Ok(())
    }

    /// A folder was made or is gone on with, and gets its attributes later, if any.
    fn taken(&mut self, path: &[u8], item: Option<&Item>) {
        let later = Later {
            path: path.to_vec(),
            item: item.cloned(),
            marked: false,
        };
        if self.top {
            self.upper.push(later);
        } else if item.is_some() {
            self.below.push(later);
        }
    }

    /// A folder, made or gone on with. Answers its path.
    fn folder(&mut self, within: &[u8], name: &[u8], item: &Item) -> Result<Option<Vec<u8>>> {
        let (_, folder) = self.open(within)?;
        let options = self.shared.maker.options;
        let path = join(within, name);
        let made = if folder.make_folder(name, 0o700)? {
            self.taken(&path, Some(item));
            Some(path)
        } else if options.resume
            || matches!(
                options.on_conflict,
                OnConflict::Skip | OnConflict::Overwrite
            )
            || self.tops.is_own(&path, item)
        {
            self.merge(&folder, name, item, path)?
        } else {
            Some(self.renamed(&folder, within, name, item)?)
        };
        let mut report = self.shared.report.lock();
        if let Some(path) = &made {
            report.folders += 1;
            let native = windows::is_native(&*folder, item);
            report.kept(item, native, || self.shared.at(path).display().to_string());
        } else {
            report.skipped += 1;
        }
        Ok(made)
    }

    /// What goes into a folder that is there. None if it is none, and is left alone.
    fn merge(
        &mut self,
        folder: &Folder,
        name: &[u8],
        item: &Item,
        path: Vec<u8>,
    ) -> Result<Option<Vec<u8>>> {
        let options = self.shared.maker.options;
        let own = self.tops.is_own(&path, item);
        // A link is not followed, and a file stays.
        let entered = if options.resume || own {
            folder.enter_own(name)
        } else {
            folder.enter(name)
        };
        let there = match entered {
            Ok(there) => there,
            Err(error)
                if error.kind() == Kind::Exists && options.on_conflict == OnConflict::Skip =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        refuse_other_spelling(folder, name)?;
        if options.resume {
            there.sweep()?;
        }
        if own {
            // It was seen to as one above something else; now it is filled itself.
            self.tops.fill_own(&path, item);
            self.upper.retain(|later| later.path != path);
        }
        let dressed = own || options.resume || options.on_conflict == OnConflict::Overwrite;
        self.taken(&path, Some(item).filter(|_| dressed));
        Ok(Some(path))
    }

    /// Something is in the way: the folder gets a number, or is not made.
    fn renamed(
        &mut self,
        folder: &Folder,
        within: &[u8],
        name: &[u8],
        item: &Item,
    ) -> Result<Vec<u8>> {
        let exists = |what| Error::new(Kind::Exists, what).at_path(folder.path_of(name));
        if self.shared.maker.options.on_conflict != OnConflict::Rename {
            return Err(exists("something of that name is there already")
                .advise("choose another target, or say --on-conflict"));
        }
        for number in 2..u32::from(u16::MAX) {
            let other = numbered(name, number);
            if folder.make_folder(&other, 0o700)? {
                let path = join(within, &other);
                self.shared.report.lock().renamed += 1;
                self.taken(&path, Some(item));
                return Ok(path);
            }
        }
        Err(exists("all numbered names are taken"))
    }

    /// Makes the folders above something that is named. Those of the guest, of which `above` has the last ones, are made as they are there.
    fn parents(
        &mut self,
        volume: &Arc<dyn Volume>,
        within: &[u8],
        above: &[EntryId],
    ) -> Result<Vec<u8>> {
        let options = self.shared.maker.options;
        let names: Vec<&[u8]> = within
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
            .collect();
        let first = names.len().saturating_sub(above.len());
        let mut path = Vec::new();
        for (number, name) in names.iter().enumerate() {
            let next = join(&path, name);
            let at = std::mem::replace(&mut path, next);
            if !self.ready.insert(path.clone()) {
                continue;
            }
            let (_, folder) = self.open(&at)?;
            let id = number.checked_sub(first).and_then(|at| above.get(at));
            let item = id.map(|id| Item::of(volume, *id)).transpose()?;
            let mode = match item {
                Some(_) => 0o700,
                None => self.shared.maker.dress.folder_mode(),
            };
            let made = folder.make_folder(name, mode)?;
            if !made {
                refuse_other_spelling(&folder, name)?;
            }
            // It may be there from before, and stays as it is then.
            let Some(item) = item else { continue };
            if made {
                self.tops.make_own(&path, &item);
            } else if options.resume || self.tops.is_own(&path, &item) {
                folder.enter_own(name)?;
            } else {
                continue;
            }
            self.top = true;
            self.taken(&path, Some(&item));
        }
        Ok(path)
    }

    /// Marks a folder at the top as not complete.
    fn mark(&mut self, path: &[u8]) {
        let Ok(folder) = self.shared.root.walk(path) else {
            return;
        };
        let made = folder.create(UNFINISHED.as_bytes()).is_ok();
        // It may be there, from the copy with which this one goes on.
        let ours = made || self.shared.maker.options.resume && has_mark(&folder);
        if let Some(later) = self.upper.last_mut().filter(|later| later.path == path) {
            later.marked = ours;
        }
    }

    /// The guest has something of the mark's name: that is what is copied.
    fn make_way(&mut self, within: &[u8]) {
        for later in self.upper.iter_mut().filter(|later| later.path == within) {
            if std::mem::take(&mut later.marked)
                && let Ok(folder) = self.shared.root.walk(within)
                && has_mark(&folder)
            {
                folder.remove(UNFINISHED.as_bytes());
            }
        }
    }

    /// Everything that was handed out is done; what is to be read back is, and folders have their attributes. So they do if something went wrong, but then
    /// marks stay where they are.
    fn finish(&mut self) -> Result<()> {
        let waited = self.shared.wait();
        self.tops.clear();
        self.ready.clear();
        self.current = None;
        let mut done = waited.and_then(|()| self.read_back());
        while let Some(later) = self.below.pop() {
            self.dress(&later, false);
        }
        // A folder loses its mark only when all of it lies on the disk.
        if self.upper.iter().any(|later| later.marked) {
            done = done.and_then(|()| self.sync());
        }
        let whole = done.is_ok() && !self.broken;
        while let Some(later) = self.upper.pop() {
            self.dress(&later, whole);
        }
        done
    }

    fn dress(&self, later: &Later, whole: bool) {
        let shared = self.shared;
        let dressed = shared.root.walk(&later.path).and_then(|folder| {
            let unmarked = later.marked && whole && has_mark(&folder);
            if unmarked {
                folder.remove(UNFINISHED.as_bytes());
            }
            let wrong = match &later.item {
                Some(item) => {
                    let (above, name) = split(&later.path);
                    let above = shared.root.walk(above)?;
                    Dress::open(&shared.maker.dress, &folder, (&above, name), item)
                }
                None => Vec::new(),
            };
            if unmarked {
                let failed = |e| folder.failed("cannot write the folder to the disk", b"", e);
                rustix::fs::fsync(&folder).map_err(failed)?;
            }
            Ok(wrong)
        });
        let mut report = shared.report.lock();
        match dressed {
            Ok(wrong) => {
                for error in wrong {
                    let what = format!("{} is not complete", shared.at(&later.path).display());
                    report.fail(error.context(what));
                }
            }
            Err(error) => report.fail(error),
        }
    }

    fn read_back(&self) -> Result<()> {
        if self.shared.unread() == 0 {
            return Ok(());
        }
        self.sync()?;
        self.shared.read_back()
    }
}

/// # Errors
/// [`Kind::Exists`] if two names of the guest are one here.
fn refuse_other_spelling(folder: &Folder, name: &[u8]) -> Result<()> {
    if folder.is_spelled_otherwise(name)? {
        let what = "it is there in another spelling already";
        let error = Error::new(Kind::Exists, what).at_path(folder.path_of(name));
        return Err(error.advise("say --on-conflict rename"));
    }
    Ok(())
}

/// Whether the mark that a copy left lies in a folder: an empty file.
fn has_mark(folder: &Folder) -> bool {
    let there = folder.stat(UNFINISHED.as_bytes()).ok().flatten();
    there.is_some_and(|there| kind_of(&there) == FileType::RegularFile && there.st_size == 0)
}

impl Takes for ToFolder<'_, '_> {
    fn take(&mut self, within: &[u8], name: &[u8], item: &Item) -> Result<Option<Vec<u8>>> {
        let shared = self.shared;
        shared.check()?;
        if shared.unread() >= MAX_UNREAD
            && let Err(error) = shared.wait().and_then(|()| self.read_back())
        {
            shared.stop(error.clone());
            return Err(error);
        }
        if !self.top && self.tops.has(within, name, item) {
            // It was named itself, and is there.
            return Ok(None);
        }
        if !self.top && name.eq_ignore_ascii_case(UNFINISHED.as_bytes()) {
            self.make_way(within);
        }
        if item.attributes.kind == EntryKind::Folder {
            let made = self.folder(within, name, item)?;
            if let Some(path) = made.as_ref().filter(|_| self.top) {
                self.mark(path);
            }
            self.top = false;
            return Ok(made);
        }
        let (within, folder) = self.open(within)?;
        let job = Job {
            folder,
            within,
            name: name.to_vec(),
            item: item.clone(),
            replace: self.top && shared.maker.options.force,
        };
        if let Some(identity) = item.identity() {
            shared.make_linked(identity, &job)?;
            return Ok(None);
        }
        shared.opened();
        if self.jobs.send(job).is_err() {
            shared.closed();
            return Err(Error::interrupted());
        }
        Ok(None)
    }

    fn missed(&mut self, within: &[u8], name: &[u8], error: Error) -> Result<()> {
        if matches!(error.kind(), Kind::Interrupted | Kind::Full) {
            return Err(error);
        }
        self.shared.check()?;
        let path = if name.is_empty() {
            within.to_vec()
        } else {
            join(within, name)
        };
        self.shared.fail(&path, error);
        Ok(())
    }
}

impl Copier for ToFolder<'_, '_> {
    fn add(
        &mut self,
        volume: &Arc<dyn Volume>,
        id: EntryId,
        path: &[u8],
        above: &[EntryId],
    ) -> Result<()> {
        let (within, name) = split(path);
        if self.tops.meets(path) || self.tops.len() >= MAX_UNREAD {
            self.finish()?;
        }
        self.tops.begin(path);
        let given = match self.parents(volume, within, above) {
            Ok(made) => {
                self.top = true;
                give(
                    volume,
                    id,
                    (&made, name),
                    self.shared.maker.monitor,
                    &mut *self,
                )
            }
            Err(error) => self.missed(within, name, error),
        };
        self.top = false;
        self.broken |= given.is_err();
        self.tops.given(volume, id, path);
        given
    }

    fn settle(&mut self) -> Result<()> {
        self.finish()?;
        self.tops.forget();
        self.shared.forget_linked();
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        // What is there lies on the disk, whatever went wrong.
        let done = self.finish();
        done.and(self.sync())
    }
}
