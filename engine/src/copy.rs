//! Copying files and folders out of recovery points: into a folder, or as a tar or zip stream.
//!
//! - [`item`]: an entry of a guest, with everything that belongs to it
//! - [`tree`]: an entry and everything below it
//! - [`content`]: bytes of files, without holes
//! - [`name`]: names at the target
//! - [`place`]: folders of the target, in which no link is followed
//! - [`spelling`]: names that are one where case does not count
//! - [`make`]: one entry, whole or not at all
//! - [`dress`]: owner, permissions, attributes, times
//! - [`windows`]: all that NTFS keeps, on NTFS
//! - [`check`]: reading back what was written
//! - [`shared`]: threads that fill a folder
//! - [`tops`]: paths that are named, and meet at the target
//! - [`folder`]: a folder as the target
//! - [`archive`]: a stream as the target
//! - [`tar`], [`zip`]: the forms of archives
//! - [`report`]: what was copied, and what was not

mod archive;
mod check;
mod content;
mod dress;
mod folder;
mod item;
mod make;
mod name;
mod place;
mod report;
mod shared;
mod spelling;
mod tar;
#[cfg(test)]
mod tests;
mod tops;
mod tree;
mod windows;
mod zip;

pub use folder::UNFINISHED;
pub use report::CopyReport;
pub use tree::bytes_below;

use archive::{Archive, ToArchive};
use cairn_base::{Error, Kind, Monitor, Result, Stage};
use cairn_guest::{EntryId, Volume};
use folder::{QUEUE, ToFolder};
use parking_lot::Mutex;
use place::Folder;
use shared::Shared;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
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
    /// Goes on with a copy that was broken off: what is there and the same, by its bytes, counts as done. Not with [`OnConflict::Rename`]: which of the
    /// numbered ones is to be gone on with cannot be known.
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
    /// Copies the entry and everything below it to `path` below the target: names divided by `/`. Folders above it are made; the last ones of them as the
    /// folders `above` of the volume are, if these are given. One bad entry does not stop the rest: it is named in the report.
    ///
    /// # Errors
    /// [`Kind::Interrupted`] on request; [`Kind::Full`] if the target is; as the operating system reports of the target as a whole.
    fn add(
        &mut self,
        volume: &Arc<dyn Volume>,
        id: EntryId,
        path: &[u8],
        above: &[EntryId],
    ) -> Result<()>;

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
/// What could not be copied is in the report. Of a copy to a folder that ended before its end, by an error of [`Copier::add`] or of `feed`, the report tells that in
/// [`stopped`](CopyReport::stopped): whatever was copied stays, and lies on the disk.
///
/// # Errors
/// As the operating system reports of the target; of an archive, which is not whole then, as [`Copier::add`] and as `feed`.
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
    if options.resume && options.on_conflict == OnConflict::Rename {
        let what = "a copy that gives other names to what is in its way cannot be gone on with";
        return Err(Error::invalid(what).advise("leave out --on-conflict rename, or --resume"));
    }
    let root = Folder::open(path)?;
    if options.resume {
        root.sweep()?;
    }
    let maker = make::Maker {
        options,
        monitor,
        dress: dress::Dress::new(),
        owners: Mutex::default(),
    };
    let shared = Shared::new(maker, root, path.to_path_buf());
    let threads = std::thread::available_parallelism().map_or(2, |count| count.get().clamp(2, 4));
    let (jobs, waiting) = sync_channel(QUEUE);
    let waiting = Mutex::new(waiting);
    let done = std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| shared.work(&waiting));
        }
        let mut to = ToFolder::new(&shared, jobs);
        let fed = feed(&mut to);
        let ended = to.end();
        fed.and(ended)
    });
    let mut report = shared.report.into_inner();
    report.end();
    report.stopped = done.err();
    Ok(report)
}

/// Makes a new file in a folder, under a name of what is not whole yet. As long as it is open nobody sweeps it.
///
/// # Errors
/// As the operating system reports.
pub fn new_partial(folder: &Path) -> Result<(File, PathBuf)> {
    let folder = Folder::open(folder)?;
    let name = name::partial()?;
    let file = folder.create(&name)?;
    Ok((file, folder.path_of(&name)))
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
        copier.add(volume, id, name.as_bytes(), &[])
    })?;
    if let Some(error) = report.stopped {
        return Err(error);
    }
    match report.failed.first() {
        Some(error) if report.copied() == 0 && error.kind() == Kind::Exists => Err(error.clone()),
        _ => Ok(report),
    }
}
