//! The only door to the files of a store, so that crashes, full disks and bit rot can be played in tests.
//!
//! Paths are relative to the folder, separated by `/`, and made by the store itself: never user input.

use crate::error::{Kind, Result};
use crate::pages::Pages;
use crate::read_at::ReadAt;
use std::path::Path;
use std::sync::Arc;

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// With other shared holders.
    Shared,
    /// Alone.
    Exclusive,
}

/// A lock that the kernel keeps while the process lives; dropping it lets go.
pub trait Lock: Send + Sync {
    /// Replaces the content of the locked file. Not durable: a note for others who find the lock held.
    ///
    /// # Errors
    /// As the operating system reports.
    fn write_note(&self, note: &[u8]) -> Result<()>;

    /// Changes the mode without letting go in between where the system can; `false` if it is not to be had now.
    ///
    /// # Errors
    /// As the operating system reports.
    fn change(&self, mode: LockMode) -> Result<bool>;
}

/// Room on the file system of a folder, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What this user can still write.
    pub free: u64,
    /// All there is.
    pub total: u64,
}

/// What changes whenever a name in a folder is made, renamed or deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FolderStamp {
    /// Which folder of the system: device and inode.
    pub folder: (u64, u64),
    /// When its names last changed, and when anything of it did: seconds and nanoseconds.
    pub times: [(i64, i64); 2],
}

/// A file being written, from its start to its end, once.
pub trait NewFile: Send {
    /// Appends all of `bytes`.
    ///
    /// # Errors
    /// After an error the file must be abandoned: nothing is known of its content.
    fn append(&mut self, bytes: &[u8]) -> Result<()>;

    /// Asks the system to begin writing what was appended; a hint, not durable.
    fn start_write_back(&mut self) {}

    /// Makes the content durable (fsync). The name is durable only after [`Folder::sync_folder`].
    ///
    /// # Errors
    /// A file whose sync failed is abandoned and written anew; a second sync proves nothing.
    fn sync(&mut self) -> Result<()>;
}

/// A folder of the operating system, or a test's model of one.
pub trait Folder: Send + Sync {
    /// The names in the folder `path` (`""` is the top), unordered.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if there is no such folder.
    fn list(&self, path: &str) -> Result<Vec<String>>;

    /// Where it lies, if it is a folder of the operating system.
    fn place(&self) -> Option<&Path> {
        None
    }

    /// The stamp of the folder `path`. Two equal ones mean that no name in it changed in between. `None` where that is not
    /// sure: on network file systems, and as long as the last change is so recent that another one might get the same time.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if there is no such folder.
    fn stamp(&self, _path: &str) -> Result<Option<FolderStamp>> {
        Ok(None)
    }

    /// Size of the file `path` in bytes.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if there is no such file.
    fn size(&self, path: &str) -> Result<u64>;

    /// Opens a file for positional reads.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if there is no such file.
    fn open(&self, path: &str) -> Result<Arc<dyn ReadAt>>;

    /// Opens a file whose pages are read in place where the system allows it.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if there is no such file.
    fn open_pages(&self, path: &str) -> Result<Arc<dyn Pages>>;

    /// Makes a file that must not be there yet.
    ///
    /// # Errors
    /// [`Kind::Exists`] if it is.
    fn create(&self, path: &str) -> Result<Box<dyn NewFile>>;

    /// As [`create`](Folder::create), for a large file that nobody reads before it is synced: the folder may write it
    /// past the page cache, and what was appended may not be in the file before [`NewFile::sync`].
    ///
    /// # Errors
    /// [`Kind::Exists`] if it is there.
    fn create_large(&self, path: &str) -> Result<Box<dyn NewFile>> {
        self.create(path)
    }

    /// Makes a folder and makes its name durable; one that is there already is fine.
    ///
    /// # Errors
    /// As the operating system reports.
    fn create_folder(&self, path: &str) -> Result<()>;

    /// Renames a file, replacing what is called `to`. Atomic; durable after [`sync_folder`](Folder::sync_folder).
    ///
    /// # Errors
    /// As the operating system reports.
    fn replace(&self, from: &str, to: &str) -> Result<()>;

    /// Renames a file to a name that must be free. Atomic; durable after [`sync_folder`](Folder::sync_folder).
    ///
    /// # Errors
    /// [`Kind::Exists`] if the name is taken.
    fn publish(&self, from: &str, to: &str) -> Result<()>;

    /// Makes the names in the folder `path` durable.
    ///
    /// # Errors
    /// As the operating system reports.
    fn sync_folder(&self, path: &str) -> Result<()>;

    /// Deletes a file; one that is gone already is fine.
    ///
    /// # Errors
    /// As the operating system reports.
    fn remove(&self, path: &str) -> Result<()>;

    /// Deletes an empty folder; one that is gone already is fine.
    ///
    /// # Errors
    /// As the operating system reports.
    fn remove_folder(&self, path: &str) -> Result<()>;

    /// Locks the file `path`, which is made if it is not there. Waits if `wait`, else `None` when somebody else
    /// holds it.
    ///
    /// # Errors
    /// As the operating system reports; [`Kind::Denied`] on read-only media.
    fn lock(&self, path: &str, mode: LockMode, wait: bool) -> Result<Option<Box<dyn Lock>>>;

    /// Whether somebody else holds the lock on the file `path`. Makes and changes nothing; the file must be there.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if there is no such file; as the operating system reports.
    fn is_locked(&self, path: &str) -> Result<bool> {
        self.size(path)?;
        Ok(self.lock(path, LockMode::Shared, false)?.is_none())
    }

    /// Room on the file system; `None` where that cannot be told.
    ///
    /// # Errors
    /// As the operating system reports.
    fn space(&self) -> Result<Option<Space>> {
        Ok(None)
    }

    /// Where the file lies, for messages.
    fn describe(&self, path: &str) -> String;
}

/// The content of a small file, at most `limit` bytes.
///
/// # Errors
/// [`Kind::Damaged`] if it is larger; what the folder reports otherwise.
pub fn read_small(folder: &dyn Folder, path: &str, limit: u64) -> Result<Vec<u8>> {
    let file = folder.open(path)?;
    let size = file.size();
    if size > limit {
        return Err(
            crate::Error::damaged(format!("{size} bytes where at most {limit} belong"))
                .at_path(folder.describe(path)),
        );
    }
    let length = usize::try_from(size).unwrap_or(0);
    crate::read_at::read_vec(&file, 0, length).map_err(|e| e.at_path(folder.describe(path)))
}

/// Writes `bytes` as `folder_path/name`, durably: file, sync, rename, sync of the folder. The name must be free.
/// `scratch` is the path of the file while it is not whole; it lies on the same file system.
///
/// # Errors
/// [`Kind::Exists`] if the name is taken; the scratch file is removed after any failure.
pub fn publish_bytes(
    folder: &dyn Folder,
    scratch: &str,
    folder_path: &str,
    name: &str,
    bytes: &[u8],
) -> Result<()> {
    write_scratch(folder, scratch, bytes)?;
    let path = join(folder_path, name);
    if let Err(error) = folder.publish(scratch, &path) {
        discard(folder, scratch);
        return Err(error);
    }
    folder.sync_folder(folder_path)
}

/// As [`publish_bytes`], but replaces what has the name.
///
/// # Errors
/// As the folder reports; the scratch file is removed after any failure.
pub fn replace_bytes(
    folder: &dyn Folder,
    scratch: &str,
    folder_path: &str,
    name: &str,
    bytes: &[u8],
) -> Result<()> {
    write_scratch(folder, scratch, bytes)?;
    if let Err(error) = folder.replace(scratch, &join(folder_path, name)) {
        discard(folder, scratch);
        return Err(error);
    }
    folder.sync_folder(folder_path)
}

fn write_scratch(folder: &dyn Folder, scratch: &str, bytes: &[u8]) -> Result<()> {
    // A scratch file left by a crash is nobody's: its writer held a lock that we hold now.
    folder.remove(scratch)?;
    let written = folder.create(scratch).and_then(|mut file| {
        file.append(bytes)?;
        file.sync()
    });
    if written.is_err() {
        discard(folder, scratch);
    }
    written
}

/// Best effort: the file is garbage, and the failure that made it so is what gets reported.
fn discard(folder: &dyn Folder, path: &str) {
    let _ignored = folder.remove(path);
}

/// `folder/name`, or just `name` at the top.
pub fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() {
        name.to_string()
    } else {
        format!("{folder}/{name}")
    }
}

/// `None` instead of [`Kind::NotFound`].
///
/// # Errors
/// Every other failure.
pub fn optional<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
