//! A file system as a tree of folders, each of which can be walked: what FAT and exFAT give to whoever looks for names in them.

use cairn_base::{Error, Result};
use std::ops::ControlFlow;

/// The root folder's number.
pub const ROOT: u64 = 1;

/// A name in a folder.
pub struct Name {
    /// As it is shown, in UTF-16.
    pub units: Vec<u16>,
    /// Another one that leads to the same (the 8.3 name), if there is one.
    pub other: Option<Vec<u16>>,
    /// Whether what is shown was perhaps another file's name: it leads here only if no other name does.
    pub is_stray: bool,
    /// The number of what it names.
    pub number: u64,
    /// Whether that is a folder.
    pub is_folder: bool,
    /// The first of its entries in the folder.
    pub start: u64,
    /// The entry behind it; never 0.
    pub next: u64,
}

/// What a walk over a folder comes to.
pub enum Met {
    /// A cluster that the folder has.
    Cluster(u32),
    /// A name.
    Name(Name),
}

/// A file system as a tree of folders.
pub trait Folders {
    /// Tells `sink` everything in `folder` from its entry `from` on. Answers the first damage, after all that can be read was told.
    ///
    /// # Errors
    /// If there is no such folder, and what is no damage: whatever the disk reports.
    fn walk(
        &self,
        folder: u64,
        from: u64,
        sink: &mut dyn FnMut(Met) -> ControlFlow<()>,
    ) -> Result<Option<Error>>;
}
