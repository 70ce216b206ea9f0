//! A folder of this machine's file system.

use crate::cold::Cold;
use crate::direct::DirectFile;
use crate::error::{Error, Result};
use crate::folder::{Folder, FolderStamp, Lock, LockMode, NewFile, Space};
use crate::mapped::{Mapped, start_write_back};
use crate::pages::{Pages, PreadPages};
use crate::read_at::{ReadAt, check_range};
use crate::units::to_u64;
use rustix::fs::{Advice, FlockOperation, RenameFlags, fadvise, flock};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

/// A folder that changed less than so many seconds ago may change again within the same tick of its file system's clock, which
/// is two seconds at most.
const SETTLED: u64 = 3;

/// A [`Folder`] at a path of this machine.
#[derive(Debug, Clone)]
pub struct LocalFolder {
    root: PathBuf,
    mapping: bool,
    network: bool,
}

impl LocalFolder {
    /// The folder at `root`, which is not looked at yet. Files are memory-mapped unless it lies on a network file
    /// system, where a lost server would be a signal rather than an error.
    pub fn new(root: impl Into<PathBuf>) -> LocalFolder {
        let root = root.into();
        // Absolute, so that it stays the same folder when the process moves, and has a parent to sync.
        let root = std::path::absolute(&root).unwrap_or(root);
        let network = on_network(&root);
        LocalFolder {
            root,
            mapping: !network,
            network,
        }
    }

    /// The same folder, read without memory maps.
    pub fn without_maps(mut self) -> LocalFolder {
        self.mapping = false;
        self
    }

    /// Where it lies.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, path: &str) -> PathBuf {
        if path.is_empty() {
            self.root.clone()
        } else {
            self.root.join(path)
        }
    }
}

impl LocalFolder {
    fn new_file(&self, path: &str) -> Result<(File, PathBuf)> {
        let path = self.path(path);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|e| Error::io("cannot create the file", &path, e))?;
        Ok((file, path))
    }
}

/// Whether `path` lies on NFS, SMB, Ceph or FUSE.
fn on_network(path: &Path) -> bool {
    const NETWORK: [u64; 6] = [
        0x6969,      // NFS_SUPER_MAGIC
        0xff53_4d42, // CIFS_SUPER_MAGIC
        0xfe53_4d42, // SMB2_SUPER_MAGIC
        0x517b,      // SMB_SUPER_MAGIC
        0x00c3_6400, // CEPH_SUPER_MAGIC
        0x6573_5546, // FUSE_SUPER_MAGIC
    ];
    rustix::fs::statfs(path)
        .is_ok_and(|stat| u64::try_from(stat.f_type).is_ok_and(|kind| NETWORK.contains(&kind)))
}

impl Folder for LocalFolder {
    fn place(&self) -> Option<&Path> {
        Some(&self.root)
    }
    fn list(&self, path: &str) -> Result<Vec<String>> {
        let path = self.path(path);
        let failed = |e| Error::io("cannot list the folder", &path, e);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&path).map_err(failed)? {
            // The store makes ASCII names only; anything else is not ours and is left alone.
            if let Ok(name) = entry.map_err(failed)?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn stamp(&self, path: &str) -> Result<Option<FolderStamp>> {
        if self.network {
            return Ok(None);
        }
        // Before the folder is looked at: what is old now is old then.
        let now = SystemTime::now();
        let path = self.path(path);
        let found = std::fs::metadata(&path)
            .map_err(|e| Error::io("cannot look at the folder", &path, e))?;
        let times = [
            (found.mtime(), found.mtime_nsec()),
            (found.ctime(), found.ctime_nsec()),
        ];
        let now = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |time| time.as_secs());
        let settled = times.iter().all(|(seconds, _)| {
            u64::try_from(*seconds).is_ok_and(|changed| changed.saturating_add(SETTLED) < now)
        });
        Ok(settled.then_some(FolderStamp {
            folder: (found.dev(), found.ino()),
            times,
        }))
    }

    fn size(&self, path: &str) -> Result<u64> {
        let path = self.path(path);
        let found =
            std::fs::metadata(&path).map_err(|e| Error::io("cannot look at the file", &path, e))?;
        Ok(found.len())
    }

    fn open(&self, path: &str) -> Result<Arc<dyn ReadAt>> {
        Ok(Arc::new(LocalFile::open(self.path(path))?))
    }

    fn open_pages(&self, path: &str) -> Result<Arc<dyn Pages>> {
        let file = LocalFile::open(self.path(path))?;
        if self.mapping
            && file.size > 0
            && let Some(mapped) = Mapped::open(&file.file, &file.path)?
        {
            return Ok(Arc::new(mapped));
        }
        Ok(Arc::new(PreadPages(Arc::new(file))))
    }

    fn create(&self, path: &str) -> Result<Box<dyn NewFile>> {
        let (file, path) = self.new_file(path)?;
        Ok(Box::new(LocalNewFile {
            file,
            path,
            written: 0,
            started: 0,
        }))
    }

    fn create_large(&self, path: &str) -> Result<Box<dyn NewFile>> {
        let (file, path) = self.new_file(path)?;
        Ok(Box::new(DirectFile::new(file, path)))
    }

    fn create_folder(&self, path: &str) -> Result<()> {
        let full = self.path(path);
        match std::fs::create_dir(&full) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && full.is_dir() => {}
            Err(e) => return Err(Error::io("cannot make the folder", &full, e)),
        }
        match full.parent() {
            Some(parent) => sync_path(parent),
            None => Ok(()),
        }
    }

    fn replace(&self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (self.path(from), self.path(to));
        std::fs::rename(&from, &to).map_err(|e| Error::io("cannot rename the file", &to, e))
    }

    fn publish(&self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (self.path(from), self.path(to));
        let here = rustix::fs::CWD;
        match rustix::fs::renameat_with(here, &from, here, &to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            // Some file systems (older NFS, some FUSE) cannot refuse to replace: link, which can, then unlink.
            Err(
                rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP,
            ) => std::fs::hard_link(&from, &to)
                .and_then(|()| std::fs::remove_file(&from))
                .map_err(|e| Error::io("cannot publish the file", &to, e)),
            Err(e) => Err(Error::io("cannot publish the file", &to, e.into())),
        }
    }

    fn sync_folder(&self, path: &str) -> Result<()> {
        sync_path(&self.path(path))
    }

    fn remove(&self, path: &str) -> Result<()> {
        let path = self.path(path);
        gone_is_fine(std::fs::remove_file(&path))
            .map_err(|e| Error::io("cannot delete the file", &path, e))
    }

    fn remove_folder(&self, path: &str) -> Result<()> {
        let path = self.path(path);
        gone_is_fine(std::fs::remove_dir(&path))
            .map_err(|e| Error::io("cannot delete the folder", &path, e))
    }

    fn lock(&self, path: &str, mode: LockMode, wait: bool) -> Result<Option<Box<dyn Lock>>> {
        let path = self.path(path);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|e| Error::io("cannot open the lock", &path, e))?;
        let lock = LocalLock { file, path };
        Ok(if lock.flock(mode, wait)? {
            Some(Box::new(lock))
        } else {
            None
        })
    }

    fn is_locked(&self, path: &str) -> Result<bool> {
        let path = self.path(path);
        let file = File::open(&path).map_err(|e| Error::io("cannot open the lock", &path, e))?;
        // Shared, so that two who ask do not take each other for the holder; let go with the file.
        Ok(!LocalLock { file, path }.flock(LockMode::Shared, false)?)
    }

    fn space(&self) -> Result<Option<Space>> {
        let found = rustix::fs::statvfs(&self.root).map_err(|e| {
            let what = "cannot look at the file system";
            Error::io(what, &self.root, e.into())
        })?;
        Ok(Some(Space {
            free: found.f_bavail.saturating_mul(found.f_frsize),
            total: found.f_blocks.saturating_mul(found.f_frsize),
        }))
    }

    fn describe(&self, path: &str) -> String {
        self.path(path).display().to_string()
    }
}

fn gone_is_fine(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn sync_path(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(|e| Error::io("cannot make the folder durable", path, e))
}

/// Reads of at least so many bytes, into aligned memory, go past the page cache where it has little of them.
const LARGE: usize = 128 << 10;

struct LocalFile {
    file: File,
    path: PathBuf,
    size: u64,
    /// Made for the first large read: most files see none.
    cold: OnceLock<Option<Cold>>,
}

impl LocalFile {
    fn open(path: PathBuf) -> Result<LocalFile> {
        let failed = |e| Error::io("cannot open the file", &path, e);
        let file = File::open(&path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.size();
        Ok(LocalFile {
            file,
            path,
            size,
            cold: OnceLock::new(),
        })
    }
}

impl ReadAt for LocalFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size, offset, buffer.len()).map_err(|e| e.at_path(&self.path))?;
        let mut done = 0;
        if buffer.len() >= LARGE
            && let Some(cold) = self.cold.get_or_init(|| Cold::of(&self.file))
            && cold.is_usable()
        {
            done = cold.read(&self.file, offset, buffer);
        }
        let offset = offset.saturating_add(to_u64(done));
        self.file
            .read_exact_at(buffer.get_mut(done..).unwrap_or_default(), offset)
            .map_err(|e| Error::io("cannot read the file", &self.path, e).at_offset(offset))
    }

    fn will_need(&self, range: Range<u64>) {
        let length = NonZeroU64::new(range.end.saturating_sub(range.start));
        // Only a hint; without a length it would be for all of the file.
        if length.is_some() {
            let _hint = fadvise(&self.file, range.start, length, Advice::WillNeed);
        }
    }
}

struct LocalNewFile {
    file: File,
    path: PathBuf,
    written: u64,
    started: u64,
}

impl NewFile for LocalNewFile {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| {
            Error::io("cannot write the file", &self.path, e)
                .at_offset(self.written)
                .advise("free some space on the disk of the store if it is full")
        })?;
        self.written = self.written.saturating_add(to_u64(bytes.len()));
        Ok(())
    }

    fn start_write_back(&mut self) {
        // Only a hint: sync() is what counts, and it reports the failures.
        let length = self.written.saturating_sub(self.started);
        start_write_back(&self.file, self.started, length);
        self.started = self.written;
    }

    fn sync(&mut self) -> Result<()> {
        self.file
            .sync_all()
            .map_err(|e| Error::io("cannot make the file durable", &self.path, e))
    }
}

struct LocalLock {
    file: File,
    path: PathBuf,
}

impl LocalLock {
    fn flock(&self, mode: LockMode, wait: bool) -> Result<bool> {
        let operation = match (mode, wait) {
            (LockMode::Shared, true) => FlockOperation::LockShared,
            (LockMode::Shared, false) => FlockOperation::NonBlockingLockShared,
            (LockMode::Exclusive, true) => FlockOperation::LockExclusive,
            (LockMode::Exclusive, false) => FlockOperation::NonBlockingLockExclusive,
        };
        loop {
            match flock(&self.file, operation) {
                Ok(()) => return Ok(true),
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(false),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(Error::io("cannot lock the file", &self.path, e.into())),
            }
        }
    }
}

impl Lock for LocalLock {
    fn write_note(&self, note: &[u8]) -> Result<()> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.write_all_at(note, 0))
            .map_err(|e| Error::io("cannot write the lock's note", &self.path, e))
    }

    fn change(&self, mode: LockMode) -> Result<bool> {
        self.flock(mode, false)
    }
}

#[cfg(test)]
mod tests;
