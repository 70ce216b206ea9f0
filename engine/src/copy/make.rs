//! One entry that is no folder: made under a name of its own, and given its real one when it is whole.

use crate::copy::content::{Digest, Hash, Written, each_piece};
use crate::copy::dress::Dress;
use crate::copy::item::{Identity, Item};
use crate::copy::name::{numbered, partial};
use crate::copy::place::{Folder, Inode, inode_of, kind_of};
use crate::copy::windows;
use crate::copy::{CopyOptions, OnConflict};
use cairn_base::units::to_u64;
use cairn_base::{Error, Kind, Monitor, Result, Stage};
use cairn_guest::EntryKind;
use parking_lot::Mutex;
use rustix::fs::{FileType, Mode, Stat, makedev};
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Numbers tried for a name that is taken.
const MAX_NUMBER: u32 = 10_000;

/// What it takes to make entries.
pub struct Maker<'a> {
    /// What the caller wants.
    pub options: &'a CopyOptions,
    /// Receives progress, and can end it.
    pub monitor: &'a dyn Monitor,
    /// Sets attributes.
    pub dress: Dress,
    /// Whose the files are that were made of guest's files with several names. A number that comes back, for what was replaced is gone, is another's from the
    /// moment on in which that is made: before it has a name that could be linked.
    pub owners: Mutex<HashMap<Inode, Identity>>,
}

/// What became of an entry.
pub enum Made {
    /// It is there now, under this name.
    As(Vec<u8>, New),
    /// Something of that name is there, and was left alone.
    Skipped,
    /// It was there already.
    Already(New),
}

/// What was made, or is there.
#[derive(Default)]
pub struct New {
    /// Bytes of content that were written.
    pub bytes: u64,
    /// Of a file that is to be read back: what it must be.
    pub hash: Option<Hash>,
    /// Of a file: which one it is.
    pub inode: Option<Inode>,
    /// What of it is missing.
    pub wrong: Vec<Error>,
}

/// Where an entry goes.
#[derive(Clone, Copy)]
pub struct Where<'a> {
    /// The folder.
    pub folder: &'a Folder,
    /// The name in it.
    pub name: &'a [u8],
    /// Whether what is there is replaced, whatever is said of conflicts.
    pub replace: bool,
}

/// The first name of a file with several.
#[derive(Clone, Copy)]
pub struct First<'a> {
    /// The folder.
    pub folder: &'a Folder,
    /// The name in it.
    pub name: &'a [u8],
    /// The file that got it.
    pub inode: Inode,
}

impl Maker<'_> {
    /// Makes an entry.
    ///
    /// # Errors
    /// [`Kind::Exists`]; as the volume and the operating system report.
    pub fn make(&self, to: Where<'_>, item: &Item) -> Result<Made> {
        let Where { folder, name, .. } = to;
        if let Some(there) = folder.stat(name)? {
            if self.options.resume
                && let Some(new) = self.is_there(folder, name, &there, item)?
            {
                return Ok(Made::Already(new));
            }
            if self.may_skip(to, &there)? {
                return Ok(Made::Skipped);
            }
        }
        let made = partial()?;
        // Its lock is held until it has its name.
        let mut open = None;
        let placed = self
            .fill(folder, &made, item, &mut open)
            .and_then(|new| self.place(&made, to, new));
        if !matches!(placed, Ok(Made::As(..))) {
            folder.remove(&made);
        }
        placed
    }

    /// Makes another name of the file of `identity`, which got the name `first`. None if another one has that name now.
    ///
    /// # Errors
    /// [`Kind::Exists`]; [`Kind::Unsupported`] if the target has no such names.
    pub fn link(
        &self,
        identity: Identity,
        first: First<'_>,
        to: Where<'_>,
        item: &Item,
    ) -> Result<Option<Made>> {
        let Where { folder, name, .. } = to;
        let linked = || New {
            inode: Some(first.inode),
            ..New::default()
        };
        if let Some(there) = folder.stat(name)? {
            if inode_of(&there) == first.inode && self.is_of(first.inode, identity) {
                return Ok(Some(Made::Already(linked())));
            }
            if self.options.resume
                && let Some(mut new) = self.is_there(folder, name, &there, item)?
            {
                new.wrong.push(Error::unsupported(
                    "it is a file of its own, and no second name of one",
                ));
                return Ok(Some(Made::Already(new)));
            }
            if self.may_skip(to, &there)? {
                return Ok(Some(Made::Skipped));
            }
        }
        let made = partial()?;
        folder.hold();
        let flags = rustix::fs::AtFlags::empty();
        rustix::fs::linkat(first.folder, first.name, folder, made.as_slice(), flags).map_err(
            |e| {
                Error::unsupported("the target does not take a second name of a file")
                    .at_path(folder.path_of(name))
                    .caused_by(std::io::Error::from(e))
            },
        )?;
        // What the copy replaced meanwhile is another file under the same name.
        let placed = match folder.stat(&made) {
            Ok(Some(there))
                if inode_of(&there) == first.inode && self.is_of(first.inode, identity) =>
            {
                self.place(&made, to, linked()).map(Some)
            }
            other => other.map(|_| None),
        };
        // Also after a success: renaming one name of a file to another one of the same file does nothing.
        folder.remove(&made);
        placed
    }

    fn is_of(&self, inode: Inode, identity: Identity) -> bool {
        self.owners.lock().get(&inode) == Some(&identity)
    }

    fn replaces(&self, to: Where<'_>) -> bool {
        to.replace || self.options.on_conflict == OnConflict::Overwrite
    }

    /// Something is there: whether it is left alone, else it is replaced or the new one gets another name.
    fn may_skip(&self, to: Where<'_>, there: &Stat) -> Result<bool> {
        let (folder, name, replace) = (to.folder, to.name, self.replaces(to));
        let exists =
            |what: &'static str| Error::new(Kind::Exists, what).at_path(folder.path_of(name));
        match self.options.on_conflict {
            OnConflict::Rename if !replace => return Ok(false),
            OnConflict::Fail if !replace => {
                return Err(exists("something of that name is there already")
                    .advise("choose another target, or say --force or --on-conflict"));
            }
            _ => {}
        }
        if folder.is_spelled_otherwise(name)? {
            return Err(exists("it is there in another spelling already")
                .advise("say --on-conflict rename"));
        }
        if replace && kind_of(there) == FileType::Directory {
            return Err(exists("a folder is there, which is not replaced"));
        }
        Ok(!replace)
    }

    fn place(&self, made: &[u8], to: Where<'_>, new: New) -> Result<Made> {
        let Where { folder, name, .. } = to;
        if folder.place(made, name, false)? {
            return Ok(Made::As(name.to_vec(), new));
        }
        let replace = self.replaces(to);
        if !replace && self.options.on_conflict == OnConflict::Rename {
            for number in 2..MAX_NUMBER {
                let other = numbered(name, number);
                if folder.place(made, &other, false)? {
                    return Ok(Made::As(other, new));
                }
            }
            let what = "all numbered names are taken";
            return Err(Error::new(Kind::Exists, what).at_path(folder.path_of(name)));
        }
        // It is from before, or came meanwhile: another entry of the guest may have this name in another spelling.
        if let Some(there) = folder.stat(name)?
            && self.may_skip(to, &there)?
        {
            return Ok(Made::Skipped);
        }
        if folder.place(made, name, replace)? {
            return Ok(Made::As(name.to_vec(), new));
        }
        let what = "something of that name came to be there meanwhile";
        Err(Error::new(Kind::Exists, what).at_path(folder.path_of(name)))
    }

    fn fill(
        &self,
        folder: &Folder,
        made: &[u8],
        item: &Item,
        open: &mut Option<File>,
    ) -> Result<New> {
        let failed = |what, e| folder.failed(what, made, e);
        if item.attributes.kind == EntryKind::File {
            return self.file(folder, made, item, open);
        }
        folder.hold();
        if item.attributes.kind == EntryKind::Symlink
            && windows::is_native(folder, item)
            && let Some(point) = windows::point_of(item)?
        {
            return Ok(New {
                wrong: windows::make_point(folder, made, item, &point)?,
                ..New::default()
            });
        }
        match item.attributes.kind {
            EntryKind::Symlink => {
                let link = item.volume.read_link(item.id)?;
                rustix::fs::symlinkat(link.as_slice(), folder, made)
                    .map_err(|e| failed("cannot make the link", e))?;
            }
            EntryKind::File | EntryKind::Folder => {
                return Err(Error::invalid("it is made elsewhere"));
            }
            other => {
                let kind = match other {
                    EntryKind::CharDevice => FileType::CharacterDevice,
                    EntryKind::BlockDevice => FileType::BlockDevice,
                    EntryKind::Fifo => FileType::Fifo,
                    _ => FileType::Socket,
                };
                let (major, minor) = item.attributes.device.unwrap_or_default();
                let (mode, device) = (Mode::from_raw_mode(0o600), makedev(major, minor));
                rustix::fs::mknodat(folder, made, kind, mode, device)
                    .map_err(|e| failed("cannot make the device, pipe or socket", e))?;
            }
        }
        Ok(New {
            wrong: self.dress.closed(folder, made, item),
            ..New::default()
        })
    }

    fn file(
        &self,
        folder: &Folder,
        made: &[u8],
        item: &Item,
        open: &mut Option<File>,
    ) -> Result<New> {
        let source = item.volume.open(item.id)?;
        let file = &*open.insert(folder.create(made)?);
        let failed = |e| Error::io("cannot write the file", &folder.path_of(made), e);
        let known = rustix::fs::fstat(file).map_err(|e| failed(e.into()))?;
        let mut new = New {
            inode: Some(inode_of(&known)),
            ..New::default()
        };
        self.own(inode_of(&known), item);
        let mut digest = self.options.verify.then(Digest::default);
        each_piece(&*source, self.monitor, &mut |piece| {
            for range in piece.data {
                let bytes = piece.part(range);
                file.write_all_at(bytes, range.start).map_err(failed)?;
                new.bytes += to_u64(bytes.len());
                self.monitor.advance(Stage::Copy, to_u64(bytes.len()));
            }
            if let Some(digest) = &mut digest {
                digest.add(&piece);
            }
            Ok(())
        })?;
        let size = source.size();
        file.set_len(size).map_err(failed)?;
        // Holes count as done too.
        self.monitor
            .advance(Stage::Copy, size.saturating_sub(new.bytes));
        new.hash = digest.map(|digest| digest.finish(size));
        new.wrong = self.dress.open(file, (folder, made), item);
        Ok(new)
    }

    /// A file is of this entry from now on.
    fn own(&self, inode: Inode, item: &Item) {
        let mut owners = self.owners.lock();
        match item.identity() {
            Some(identity) => owners.insert(inode, identity),
            None => owners.remove(&inode),
        };
    }

    /// Whether what is there is what would be made: then it gets its attributes once more. Nothing is believed of a file but what is read.
    fn is_there(
        &self,
        folder: &Folder,
        name: &[u8],
        there: &Stat,
        item: &Item,
    ) -> Result<Option<New>> {
        let is = |kind| kind_of(there) == kind;
        let same = match item.attributes.kind {
            EntryKind::File => return self.file_is_there(folder, name, there, item),
            _ if windows::is_native(folder, item) && windows::is_point(folder, name, item) => true,
            EntryKind::Symlink => {
                let target = rustix::fs::readlinkat(folder, name, Vec::new());
                let link = item.volume.read_link(item.id)?;
                is(FileType::Symlink) && target.is_ok_and(|to| to.as_bytes() == link)
            }
            EntryKind::Folder => false,
            EntryKind::Fifo => is(FileType::Fifo),
            EntryKind::Socket => is(FileType::Socket),
            EntryKind::CharDevice | EntryKind::BlockDevice => {
                let (major, minor) = item.attributes.device.unwrap_or_default();
                let device = is(FileType::CharacterDevice) || is(FileType::BlockDevice);
                device && there.st_rdev == makedev(major, minor)
            }
        };
        Ok(same.then(|| New {
            wrong: self.dress.closed(folder, name, item),
            ..New::default()
        }))
    }

    fn file_is_there(
        &self,
        folder: &Folder,
        name: &[u8],
        there: &Stat,
        item: &Item,
    ) -> Result<Option<New>> {
        let size = u64::try_from(there.st_size).unwrap_or(u64::MAX);
        if kind_of(there) != FileType::RegularFile || size != item.attributes.size {
            return Ok(None);
        }
        let source = item.volume.open(item.id)?;
        let file = Written::new(folder.read_own(name)?, folder.path_of(name))?;
        if Digest::of(&*source, self.monitor)? != Digest::of(&file, self.monitor)? {
            return Ok(None);
        }
        self.monitor.advance(Stage::Copy, size);
        self.own(inode_of(there), item);
        Ok(Some(New {
            inode: Some(inode_of(there)),
            wrong: self.dress.open(&file, (folder, name), item),
            ..New::default()
        }))
    }
}
