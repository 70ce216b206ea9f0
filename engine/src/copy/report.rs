//! What was copied, and what was not.

use crate::copy::item::Item;
use cairn_base::{Error, Kind};
use cairn_guest::EntryKind;

/// Failures kept one by one; of more only the number is known.
const MAX_FAILED: usize = 1000;

/// What was copied, and what was not.
#[derive(Debug, Default)]
pub struct CopyReport {
    /// Files copied; further names of a file that has several count too.
    pub files: u64,
    /// Folders made, or filled further.
    pub folders: u64,
    /// Symbolic links made.
    pub links: u64,
    /// Devices, pipes and sockets made.
    pub specials: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// What was left alone because something of its name was there.
    pub skipped: u64,
    /// What got another name because something of its name was there.
    pub renamed: u64,
    /// What was there already, from a copy that was broken off.
    pub already: u64,
    /// Files that were read back and were what was written.
    pub verified: u64,
    /// What could not be copied, or not with everything that belongs to it. The rest was. At most 1,000.
    pub failed: Vec<Error>,
    /// Failures that are not in `failed`.
    pub unnamed: u64,
    /// Whether something could not be copied because a chunk of the store is lost.
    pub lost: bool,
    /// What no target of this kind can hold, counted: it is no failure of any one entry.
    pub notes: Vec<String>,
    /// Why the copy ended before its end. Everything else is what was done until then, and is at the target.
    pub stopped: Option<Error>,
    /// Entries of Windows whose target is none, and the first of them.
    windows: (u64, String),
    /// Entries of Windows that were copied to NTFS.
    native: u64,
}

impl CopyReport {
    /// Everything that is at the target now because of this copy, or of one before it.
    pub fn copied(&self) -> u64 {
        let made = [self.files, self.folders, self.links, self.specials];
        made.iter().sum::<u64>() + self.skipped + self.already
    }

    pub(super) fn fail(&mut self, error: Error) {
        // Lost chunks name themselves; anything else that could not be copied is the guest's or the target's.
        self.lost |= error.kind() == Kind::Damaged && error.id().is_some();
        if self.failed.len() < MAX_FAILED {
            self.failed.push(error);
        } else {
            self.unnamed += 1;
        }
    }

    /// An entry is at the target as far as that can hold it; `native` if that is NTFS, as its volume is.
    pub(super) fn kept(&mut self, item: &Item, native: bool, path: impl FnOnce() -> String) {
        if native {
            self.native += 1;
        } else if !item.unix {
            self.windows.0 += 1;
            if self.windows.0 == 1 {
                self.windows.1 = path();
            }
        }
    }

    /// That was all: what was counted is told.
    pub(super) fn end(&mut self) {
        let native = std::mem::take(&mut self.native);
        if native > 0 {
            self.notes.push(format!(
                "8.3 names, compression and the time of the last change of attributes are the target's own: {native} files and folders, which keep everything else that NTFS has"
            ));
        }
        let (count, first) = std::mem::take(&mut self.windows);
        if count > 0 {
            self.notes.push(format!(
                "access lists of Windows, attributes (hidden, system, read-only, ...) and times of making are not copied: \
                 {count} files and folders, of which the first is {first}"
            ));
        }
    }

    pub(super) fn made(&mut self, kind: EntryKind) {
        *match kind {
            EntryKind::File => &mut self.files,
            EntryKind::Folder => &mut self.folders,
            EntryKind::Symlink => &mut self.links,
            _ => &mut self.specials,
        } += 1;
    }
}
