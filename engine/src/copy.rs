//! Copying files and folders out of recovery points: into a folder, or as a tar or zip stream.
//!
//! - [`item`]: an entry of a guest, with everything that belongs to it
//! - [`tree`]: an entry and everything below it
//! - [`content`]: bytes of files, without holes
//! - [`place`]: folders of the target, in which no link is followed
//! - [`make`]: one entry, whole or not at all
//! - [`dress`]: owner, permissions, attributes, times
//! - [`folder`]: a folder as the target, filled by several threads
//! - [`archive`]: a stream as the target
//! - [`tar`], [`zip`]: the forms of archives
//! - [`report`]: what was copied, and what was not

mod archive;
mod content;
mod dress;
mod folder;
mod item;
mod make;
mod place;
mod report;
mod tar;
mod tree;
mod zip;

pub use folder::UNFINISHED;
pub use report::CopyReport;
pub use tree::bytes_below;

use archive::{Archive, ToArchive};
use cairn_base::{Error, Kind, Monitor, Result, Stage};
use cairn_guest::{EntryId, Volume};
use folder::{QUEUE, Shared, ToFolder};
use parking_lot::Mutex;
use place::Folder;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

/// What happens when something of the name is at the target already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnConflict {
    /// It is named as a failure, and everything else is copied.
    #[default]
    Fail,
    /// What is there stays; folders are filled.
    Skip,
    /// What is there is replaced when the new one is whole; folders are filled, and never replaced.
    Overwrite,
    /// The new one gets a number: `report (2).odt`.
    Rename,
}

/// How to copy.
#[derive(Debug, Clone, Default)]
pub struct CopyOptions {
    /// What happens when something is there already.
    pub on_conflict: OnConflict,
    /// Files that are named themselves replace files that are there; what lies in folders that are named does not.
    pub force: bool,
    /// Goes on with a copy that was broken off: what is there and the same, by its bytes, counts as done.
    pub resume: bool,
    /// Files are read back from the disk, and compared with what was written. Of archives: files are read before they begin, so that what cannot be read is left out.
    pub verify: bool,
    /// Bytes that are expected, for progress; 0 if that is not known.
    pub total: u64,
}

/// Forms of archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// POSIX pax, with GNU's sparse files; everything a Linux guest has is kept.
    Tar,
    /// Zip with 64-bit sizes and Unix permissions: no owners' names, devices, extended attributes or hard links.
    Zip,
}

/// Where to.
pub enum CopyTarget<'a> {
    /// Into this folder, which is there.
    Folder(&'a Path),
    /// As an archive.
    Archive(ArchiveFormat, &'a mut (dyn Write + Send)),
}

/// Takes what is to be copied.
pub trait Copier {
    /// Copies the entry and everything below it to `path` below the target: names divided by `/`. Folders above it are made. One bad entry does not
    /// stop the rest: it is named in the report.
    ///
    /// # Errors
    /// [`Kind::Interrupted`] on request; [`Kind::Full`] if the target is; as the operating system reports of the target as a whole.
    fn add(&mut self, volume: &Arc<dyn Volume>, id: EntryId, path: &[u8]) -> Result<()>;

    /// Everything that was added is done: points and volumes may be closed. Hard links to what was added before become files of their own from here on.
    ///
    /// # Errors
    /// As [`add`](Copier::add).
    fn settle(&mut self) -> Result<()>;

    /// That was all.
    ///
    /// # Errors
    /// As [`add`](Copier::add).
    fn end(&mut self) -> Result<()>;
}

/// Copies what `feed` adds. Content, holes, permissions, times and extended attributes are kept, owners too if the process may set them, and several names of one
/// file stay that. Symbolic links are copied, not followed. A file has its name only when it is whole, with everything; in the end all of it lies on the disk.
///
/// # Errors
/// As [`Copier::add`] and as `feed`; what could not be copied is in the report. Whatever was copied stays.
pub fn copy_files(
    target: CopyTarget<'_>,
    options: &CopyOptions,
    monitor: &dyn Monitor,
    feed: &mut dyn FnMut(&mut dyn Copier) -> Result<()>,
) -> Result<CopyReport> {
    monitor.begin(Stage::Copy, options.total);
    let report = match target {
        CopyTarget::Folder(path) => to_folder(path, options, monitor, feed)?,
        CopyTarget::Archive(format, out) => {
            let mut to = ToArchive::new(Archive::new(format, out), options, monitor);
            feed(&mut to)?;
            to.end()?;
            to.report
        }
    };
    monitor.finish(Stage::Copy);
    Ok(report)
}

fn to_folder(
    path: &Path,
    options: &CopyOptions,
    monitor: &dyn Monitor,
    feed: &mut dyn FnMut(&mut dyn Copier) -> Result<()>,
) -> Result<CopyReport> {
    let root = Folder::open(path)?;
    if options.resume {
        root.sweep()?;
    }
    let maker = make::Maker {
        options,
        monitor,
        dress: dress::Dress::new(),
    };
    let shared = Shared::new(maker, root, path.to_path_buf());
    let threads = std::thread::available_parallelism().map_or(2, |count| count.get().clamp(2, 4));
    let (jobs, waiting) = sync_channel(QUEUE);
    let waiting = Mutex::new(waiting);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| shared.work(&waiting));
        }
        let mut to = ToFolder::new(&shared, jobs);
        feed(&mut to)?;
        to.end()
    })?;
    Ok(shared.report.into_inner())
}

/// Copies the entry `id` and everything below it to `target`, which must not be there unless `force` is given and it is a file. As [`copy_files`].
///
/// # Errors
/// [`Kind::Exists`] if the target is there; as [`copy_files`].
pub fn copy_out(
    volume: &Arc<dyn Volume>,
    id: EntryId,
    target: &Path,
    force: bool,
    monitor: &dyn Monitor,
) -> Result<CopyReport> {
    let name = target
        .file_name()
        .ok_or_else(|| Error::new(Kind::Exists, "the target is there").at_path(target))?;
    let within = target.parent().filter(|path| !path.as_os_str().is_empty());
    let options = CopyOptions {
        force,
        ..CopyOptions::default()
    };
    let to = CopyTarget::Folder(within.unwrap_or(Path::new(".")));
    let report = copy_files(to, &options, monitor, &mut |copier| {
        copier.add(volume, id, name.as_bytes())
    })?;
    match report.failed.first() {
        Some(error) if report.copied() == 0 && error.kind() == Kind::Exists => Err(error.clone()),
        _ => Ok(report),
    }
}
