//! Copying files and folders out of a volume.

use cairn_base::ids::random;
use cairn_base::units::to_u64;
use cairn_base::{Error, Kind, Monitor, Result, Stage};
use cairn_guest::{Attributes, EntryId, EntryKind, Volume};
use rustix::fs::{AtFlags, Timespec, Timestamps};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Deepest folder copied; a file system with a loop is not followed for ever.
const MAX_DEPTH: usize = 4096;
/// Bytes read at once.
const BLOCK: usize = 1 << 20;

/// What was copied, and what was not.
#[derive(Debug, Default)]
pub struct CopyReport {
    /// Files copied.
    pub files: u64,
    /// Folders made.
    pub folders: u64,
    /// Symbolic links made.
    pub links: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// What could not be copied, or not with everything that belongs to it. The rest was.
    pub failed: Vec<Error>,
}

/// Copies the entry `id` and everything below it to `target`, which must not be there unless `force` is given and it is a file.
/// Content, holes, permission bits and times are kept, owners too if the process may set them. Symbolic links are
/// copied, not followed. One bad entry does not stop the rest: it is named in the report.
///
/// # Errors
/// [`Kind::Exists`] if the target is there; [`Kind::Interrupted`] on request.
pub fn copy_out(
    volume: &dyn Volume,
    id: EntryId,
    target: &Path,
    force: bool,
    monitor: &dyn Monitor,
) -> Result<CopyReport> {
    monitor.begin(Stage::Copy, 0);
    let mut copier = Copier {
        volume,
        monitor,
        report: CopyReport::default(),
        later: Vec::new(),
        owner: rustix::process::geteuid().is_root(),
    };
    let mut waiting = vec![(id, target.to_path_buf(), 0usize)];
    let mut first = true;
    while let Some((id, path, depth)) = waiting.pop() {
        if monitor.stop_requested() {
            return Err(Error::interrupted());
        }
        let result = copier.entry(id, &path, depth, force && first, &mut waiting);
        if let Err(error) = result {
            if error.kind() == Kind::Interrupted || (first && error.kind() == Kind::Exists) {
                return Err(error);
            }
            copier
                .report
                .failed
                .push(error.context(format!("{} was not copied", path.display())));
        }
        first = false;
    }
    // Folders get their times and permissions last, innermost first: filling them would change both.
    while let Some((path, attributes)) = copier.later.pop() {
        if let Err(error) = copier.dress(&path, &attributes) {
            copier.report.failed.push(error);
        }
    }
    monitor.finish(Stage::Copy);
    Ok(copier.report)
}

struct Copier<'a> {
    volume: &'a dyn Volume,
    monitor: &'a dyn Monitor,
    report: CopyReport,
    later: Vec<(PathBuf, Attributes)>,
    owner: bool,
}

impl Copier<'_> {
    fn entry(
        &mut self,
        id: EntryId,
        path: &Path,
        depth: usize,
        force: bool,
        waiting: &mut Vec<(EntryId, PathBuf, usize)>,
    ) -> Result<()> {
        let attributes = self.volume.attributes(id)?;
        match attributes.kind {
            EntryKind::Folder => {
                if depth >= MAX_DEPTH {
                    return Err(Error::damaged("folders are nested too deeply"));
                }
                self.folder(id, path, depth, waiting)?;
                self.xattrs(id, path);
                self.later.push((path.to_path_buf(), attributes));
                self.report.folders += 1;
            }
            EntryKind::File => {
                self.file(id, path, force)?;
                self.streams(id, path);
                self.xattrs(id, path);
                self.dress(path, &attributes)?;
                self.report.files += 1;
            }
            EntryKind::Symlink => {
                let link = self.volume.read_link(id)?;
                std::os::unix::fs::symlink(OsStr::from_bytes(&link), path)
                    .map_err(|e| Error::io("cannot make the link", path, e))?;
                self.dress(path, &attributes)?;
                self.report.links += 1;
            }
            EntryKind::CharDevice
            | EntryKind::BlockDevice
            | EntryKind::Fifo
            | EntryKind::Socket => {
                return Err(Error::unsupported(
                    "device nodes, pipes and sockets are not copied",
                ));
            }
        }
        Ok(())
    }

    fn folder(
        &mut self,
        id: EntryId,
        path: &Path,
        depth: usize,
        waiting: &mut Vec<(EntryId, PathBuf, usize)>,
    ) -> Result<()> {
        // A folder that is there already is refused: it might be a link that leads elsewhere.
        std::fs::create_dir(path).map_err(|e| Error::io("cannot make the folder", path, e))?;
        let start = waiting.len();
        let read = self.volume.read_dir(id, 0, &mut |entry| {
            waiting.push((
                entry.id,
                path.join(OsStr::from_bytes(&entry.name)),
                depth + 1,
            ));
            ControlFlow::Continue(())
        });
        // Taken from the end: reversed, so that the order is the folder's own.
        if let Some(new) = waiting.get_mut(start..) {
            new.reverse();
        }
        if let Err(error) = read {
            let what = format!("{} was copied in part", path.display());
            self.report.failed.push(error.context(what));
        }
        Ok(())
    }

    fn file(&mut self, id: EntryId, path: &Path, force: bool) -> Result<()> {
        let source = self.volume.open(id)?;
        // What is replaced stays until the new file is whole.
        let beside = force
            .then(|| -> Result<PathBuf> {
                let random = u64::from_le_bytes(random()?);
                Ok(path.with_file_name(format!(".cairn-{random:016x}.partial")))
            })
            .transpose()?;
        let made = beside.as_deref().unwrap_or(path);
        let failed = |e| Error::io("cannot write the file", made, e);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(made)
            .map_err(|e| {
                Error::io("cannot make the file", made, e)
                    .advise("choose another target, or say --force")
            })?;
        let copied = self
            .content(&*source, &file, made)
            .and_then(|()| file.set_len(source.size()).map_err(failed))
            .and_then(|()| match &beside {
                Some(made) => std::fs::rename(made, path).map_err(failed),
                None => Ok(()),
            });
        if copied.is_err() {
            // A half file must not pass for a whole one.
            let _gone = std::fs::remove_file(made);
        }
        copied
    }

    fn content(&mut self, source: &dyn cairn_base::ReadAt, file: &File, path: &Path) -> Result<()> {
        let mut buffer = vec![0; BLOCK];
        let mut start = 0u64;
        // Extents are asked for step by step, so that a huge fragmented file needs no huge list.
        const STEP: u64 = 1 << 30;
        while start < source.size() {
            let end = start.saturating_add(STEP).min(source.size());
            for extent in source.data_extents(start..end)? {
                let mut at = extent.start;
                while at < extent.end {
                    if self.monitor.stop_requested() {
                        return Err(Error::interrupted());
                    }
                    let length = usize::try_from(extent.end - at).unwrap_or(BLOCK).min(BLOCK);
                    let part = buffer.get_mut(..length).unwrap_or_default();
                    source.read_exact_at(at, part)?;
                    file.write_all_at(part, at)
                        .map_err(|e| Error::io("cannot write the file", path, e))?;
                    at += to_u64(length);
                    self.report.bytes += to_u64(length);
                    self.monitor.advance(Stage::Copy, to_u64(length));
                }
            }
            start = end;
        }
        Ok(())
    }

    /// Named streams have no place on this side; they are named, not dropped in silence.
    fn streams(&mut self, id: EntryId, path: &Path) {
        match self.volume.streams(id) {
            Ok(streams) => {
                for stream in streams {
                    self.report.failed.push(Error::unsupported(format!(
                        "the stream `{}` of {} was not copied: {} bytes",
                        String::from_utf8_lossy(&stream.name),
                        path.display(),
                        stream.size
                    )));
                }
            }
            Err(error) => self.report.failed.push(error),
        }
    }

    /// Extended attributes and ACLs. What this side does not take is named.
    fn xattrs(&mut self, id: EntryId, path: &Path) {
        let attributes = match self.volume.xattrs(id) {
            Ok(attributes) => attributes,
            Err(error) => {
                let what = format!("the extended attributes of {} are lost", path.display());
                return self.report.failed.push(error.context(what));
            }
        };
        for (name, value) in attributes {
            let name = String::from_utf8_lossy(&name).into_owned();
            let flags = rustix::fs::XattrFlags::empty();
            if let Err(error) = rustix::fs::lsetxattr(path, name.as_str(), &value, flags) {
                let what = format!("cannot set the extended attribute {name}");
                self.report.failed.push(Error::io(what, path, error.into()));
            }
        }
    }

    /// Owner, permission bits and times.
    fn dress(&self, path: &Path, attributes: &Attributes) -> Result<()> {
        let failed = |what, e: std::io::Error| Error::io(what, path, e);
        // Windows file systems have no owners and modes of this kind: the copy gets those of whoever copies.
        let unix = !self.volume.info().ignores_case;
        if unix && self.owner {
            std::os::unix::fs::lchown(path, Some(attributes.uid), Some(attributes.gid))
                .map_err(|e| failed("cannot set the owner", e))?;
        }
        if unix && attributes.kind != EntryKind::Symlink {
            let mode = std::fs::Permissions::from_mode(attributes.mode & 0o7777);
            std::fs::set_permissions(path, mode)
                .map_err(|e| failed("cannot set the permissions", e))?;
        }
        let spec = |time: cairn_base::Time| Timespec {
            tv_sec: time.seconds,
            tv_nsec: i64::from(time.nanos),
        };
        let times = Timestamps {
            last_access: spec(attributes.accessed),
            last_modification: spec(attributes.modified),
        };
        rustix::fs::utimensat(rustix::fs::CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| failed("cannot set the times", e.into()))
    }
}
