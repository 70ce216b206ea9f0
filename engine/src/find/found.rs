//! What is told of a search.

use cairn_base::{Error, Time};
use cairn_guest::EntryKind;
use cairn_store::layout::PointFile;
use std::ops::ControlFlow;

/// A version of a file, and the points that have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileVersion {
    /// As `cairn cat` takes it, without the first slash: `disk0/p1/etc/passwd`.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Size in bytes; of a link, of its target.
    pub size: u64,
    /// When its content was changed last.
    pub modified: Time,
    /// The first point that has it.
    pub first: PointFile,
    /// The last point that has it. All in between have it too, but for those of which the volume could not be read.
    pub last: PointFile,
    /// How many points have it.
    pub points: u64,
}

/// What is told.
#[derive(Debug)]
pub enum FindEvent {
    /// Something that was looked for.
    Found(FileVersion),
    /// Something could not be looked at: in which point (none if it is the point itself), its path, and why. Everything else is.
    Problem(Option<PointFile>, Vec<u8>, Error),
}

/// Receives what is found until it breaks: problems as they are met, then files by their paths, the versions of each from old to new.
pub type FindSink<'a> = &'a mut dyn FnMut(FindEvent) -> ControlFlow<()>;
