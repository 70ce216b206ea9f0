//! What was copied, and what was not.

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

    pub(super) fn made(&mut self, kind: EntryKind) {
        *match kind {
            EntryKind::File => &mut self.files,
            EntryKind::Folder => &mut self.folders,
            EntryKind::Symlink => &mut self.links,
            _ => &mut self.specials,
        } += 1;
    }
}
