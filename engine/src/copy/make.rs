//! One entry that is no folder: made under a name of its own, and given its real one when it is whole.

use crate::copy::content::{Digest, Hash, Written, each_piece};
use crate::copy::dress::Dress;
use crate::copy::item::Item;
use crate::copy::place::{Folder, kind_of, numbered};
use crate::copy::{CopyOptions, OnConflict};
use cairn_base::units::to_u64;
use cairn_base::{Error, Kind, Monitor, Result, Stage};
use cairn_guest::EntryKind;
use rustix::fs::{FileType, Mode, Stat, makedev};
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
}

/// What became of an entry.
pub enum Made {
    /// It is there now, under this name.
    As(Vec<u8>, New),
    /// Something of that name is there, and was left alone.
    Skipped,
    /// It was there already; and what of it is missing.
    Already(Vec<Error>),
}

/// What was made.
#[derive(Default)]
pub struct New {
    /// Bytes of content that were written.
    pub bytes: u64,
    /// Of a file that is to be read back: what it must be.
    pub hash: Option<Hash>,
    /// What of it is missing.
    pub wrong: Vec<Error>,
}

impl Maker<'_> {
    /// Makes the entry `name` in `folder`. What is there is replaced if `replace`.
    ///
    /// # Errors
    /// [`Kind::Exists`]; as the volume and the operating system report.
    pub fn make(&self, folder: &Folder, name: &[u8], item: &Item, replace: bool) -> Result<Made> {
        let replace = replace || self.options.on_conflict == OnConflict::Overwrite;
        if let Some(there) = folder.stat(name)? {
            if self.options.resume
                && let Some(wrong) = self.is_there(folder, name, &there, item)?
            {
                return Ok(Made::Already(wrong));
            }
            if self.may_skip(folder, name, &there, replace)? {
                return Ok(Made::Skipped);
            }
        }
        let made = folder.beside()?;
        let placed = self
            .fill(folder, &made, item)
            .and_then(|new| self.place(folder, &made, name, replace, new));
        if !matches!(placed, Ok(Made::As(..))) {
            folder.remove(&made);
        }
        placed
    }

    /// Makes `name` another name of the file `of` in the folder `at`.
    ///
    /// # Errors
    /// [`Kind::Exists`]; [`Kind::Unsupported`] if the target has no such names.
    pub fn link(
        &self,
        (at, of): (&Folder, &[u8]),
        (folder, name): (&Folder, &[u8]),
        replace: bool,
    ) -> Result<Made> {
        let replace = replace || self.options.on_conflict == OnConflict::Overwrite;
        if let Some(there) = folder.stat(name)? {
            let first = at.stat(of)?;
            if first.is_some_and(|f| (f.st_dev, f.st_ino) == (there.st_dev, there.st_ino)) {
                return Ok(Made::Already(Vec::new()));
            }
            if self.may_skip(folder, name, &there, replace)? {
                return Ok(Made::Skipped);
            }
        }
        let made = folder.beside()?;
        rustix::fs::linkat(
            at,
            of,
            folder,
            made.as_slice(),
            rustix::fs::AtFlags::empty(),
        )
        .map_err(|e| {
            let path = folder.path_of(name);
            Error::unsupported("the target does not take a second name of a file")
                .at_path(path)
                .caused_by(std::io::Error::from(e))
        })?;
        let placed = self.place(folder, &made, name, replace, New::default());
        // Also after a success: renaming one name of a file to another one of the same file does nothing.
        folder.remove(&made);
        placed
    }

    /// Something is there: whether it is left alone, else it is replaced or the new one gets another name.
    fn may_skip(&self, folder: &Folder, name: &[u8], there: &Stat, replace: bool) -> Result<bool> {
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

    fn place(
        &self,
        folder: &Folder,
        made: &[u8],
        name: &[u8],
        replace: bool,
        new: New,
    ) -> Result<Made> {
        if folder.place(made, name, replace)? {
            return Ok(Made::As(name.to_vec(), new));
        }
        match self.options.on_conflict {
            OnConflict::Skip => return Ok(Made::Skipped),
            OnConflict::Rename => {}
            _ => {
                let what = "something of that name came to be there meanwhile";
                return Err(Error::new(Kind::Exists, what).at_path(folder.path_of(name)));
            }
        }
        for number in 2..MAX_NUMBER {
            let other = numbered(name, number);
            if folder.place(made, &other, false)? {
                return Ok(Made::As(other, new));
            }
        }
        Err(Error::new(Kind::Exists, "all numbered names are taken").at_path(folder.path_of(name)))
    }

    fn fill(&self, folder: &Folder, made: &[u8], item: &Item) -> Result<New> {
        let failed = |what, e| folder.failed(what, made, e);
        match item.attributes.kind {
            EntryKind::File => return self.file(folder, made, item),
            EntryKind::Symlink => {
                let link = item.volume.read_link(item.id)?;
                rustix::fs::symlinkat(link.as_slice(), folder, made)
                    .map_err(|e| failed("cannot make the link", e))?;
            }
            EntryKind::Folder => return Err(Error::invalid("a folder is made elsewhere")),
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

    fn file(&self, folder: &Folder, made: &[u8], item: &Item) -> Result<New> {
        let source = item.volume.open(item.id)?;
        let file = folder.create(made)?;
        let failed = |e| Error::io("cannot write the file", &folder.path_of(made), e);
        let mut new = New::default();
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
        new.wrong = self.dress.open(&file, item);
        Ok(new)
    }

    /// Whether what is there is what would be made: then it gets its attributes once more. Nothing is believed of a file but what is read.
    fn is_there(
        &self,
        folder: &Folder,
        name: &[u8],
        there: &Stat,
        item: &Item,
    ) -> Result<Option<Vec<Error>>> {
        let is = |kind| kind_of(there) == kind;
        let same = match item.attributes.kind {
            EntryKind::File => return self.file_is_there(folder, name, there, item),
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
        Ok(same.then(|| self.dress.closed(folder, name, item)))
    }

    fn file_is_there(
        &self,
        folder: &Folder,
        name: &[u8],
        there: &Stat,
        item: &Item,
    ) -> Result<Option<Vec<Error>>> {
        let size = u64::try_from(there.st_size).unwrap_or(u64::MAX);
        if kind_of(there) != FileType::RegularFile || size != item.attributes.size {
            return Ok(None);
        }
        let source = item.volume.open(item.id)?;
        let file = Written::new(folder.read(name)?, folder.path_of(name))?;
        if Digest::of(&*source, self.monitor)? != Digest::of(&file, self.monitor)? {
            return Ok(None);
        }
        self.monitor.advance(Stage::Copy, size);
        Ok(Some(self.dress.open(&file, item)))
    }
}

/// Reads a file back, past what the system has in memory where it lets us, and compares.
///
/// # Errors
/// [`Kind::Io`] if it is not what was written; as the operating system reports.
pub fn read_back(folder: &Folder, name: &[u8], hash: &Hash, monitor: &dyn Monitor) -> Result<()> {
    let file: File = folder.read(name)?;
    // What fails is told when it is read.
    let _dropped = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    let written = Written::new(file, folder.path_of(name))?;
    if Digest::of(&written, monitor)? == *hash {
        return Ok(());
    }
    folder.remove(name);
    let what = "what was written does not read back as it was; the file was removed";
    Err(Error::new(Kind::Io, what)
        .at_path(folder.path_of(name))
        .advise("check the disk it lies on"))
}
