//! What a folder tells of its entries: their names from its index, the rest from their file records.

use super::entry::Entry;
use super::file_name::FileName;
use super::folder::{Blocks, Folder, Found, Listed};
use super::mft::Mft;
use super::name;
use super::nature::{self, Nature};
use super::passing::is_passing;
use super::record::Reference;
use super::reparse;
use super::standard_information::{REPARSE, SYSTEM};
use crate::volume::{DirEntry, DirSink, EntryId, EntryKind};
use cairn_base::{Error, Kind, Result};
use std::ops::ControlFlow;

/// The tree of ids that lead nowhere: of names whose file record was given to another file.
const STALE: u64 = u64::MAX;
/// The trees of ids of names whose file record cannot be read: from here on, by the sequence number that it must have.
const UNREAD: u64 = 1 << 32;
/// The first record that is not the file system's own.
const FIRST_USER: u64 = 16;

/// Loads the entry that `id` names.
///
/// # Errors
/// [`Kind::NotFound`] for an id that is not in use, [`Kind::Damaged`] for a bad record and for a name that leads to
/// another file's.
pub fn load(mft: &Mft, id: EntryId) -> Result<Entry> {
    let wanted = |sequence: u16| Reference {
        number: id.number,
        sequence,
    };
    let behind = id.tree.checked_sub(UNREAD);
    let sequence = behind.and_then(|behind| u16::try_from(behind).ok());
    match (id.tree, sequence) {
        (0, _) => Entry::load(mft, id.number),
        (STALE, _) => Err(stale(wanted(0))),
        (_, Some(sequence)) => belonging(wanted(sequence), Entry::load(mft, id.number)),
        _ => Err(Error::not_found("NTFS has one tree only")),
    }
}

fn stale(name: Reference) -> Error {
    Error::damaged(format!(
        "a name points to file record {}, which is not its file's any more",
        name.number
    ))
}

fn is_of(name: Reference, file: &Entry) -> bool {
    name.sequence == 0 || name.sequence == file.sequence()
}

/// Refuses a file whose record, as it was loaded, is not in use or not the one that `name` means.
fn belonging(name: Reference, file: Result<Entry>) -> Result<Entry> {
    match file {
        Ok(entry) if is_of(name, &entry) => Ok(entry),
        Ok(_) => Err(stale(name)),
        Err(error) if error.kind() == Kind::NotFound => Err(stale(name).caused_by(error)),
        Err(error) => Err(error),
    }
}

/// The entry that a name leads to which was looked up.
///
/// # Errors
/// [`Kind::Damaged`] if its record is damaged or another file's.
pub fn looked_up(mft: &Mft, found: &Found) -> Result<DirEntry> {
    let file = belonging(found.file, Entry::load(mft, found.file.number))?;
    dir_entry(mft, found, 0, Some(&file))
}

/// Tells `sink` the names in `folder`, which is record `number`, as [`Folder::walk`] does; those of the file system's
/// own files are left out, and 8.3 names of files that have a long one there.
///
/// # Errors
/// As [`Folder::walk`]; and what passes where a record is looked at. A record that is damaged or another file's is no
/// error: its name is told with an id that leads to nothing but the reason.
pub fn list(
    mft: &Mft,
    (folder, number): (&Folder, u64),
    blocks: &Blocks,
    after: u64,
    sink: DirSink<'_>,
) -> Result<()> {
    let mut failed = None;
    let walked = folder.walk(
        blocks,
        after,
        &mut |listed| match told(mft, number, &listed) {
            Ok(Some(entry)) => sink(entry),
            Ok(None) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        },
    );
    failed.map_or(walked, Err)
}

/// What is told of a name in the folder `folder`, if it is.
fn told(mft: &Mft, folder: u64, listed: &Listed<'_>) -> Result<Option<DirEntry>> {
    if listed.file.number < FIRST_USER {
        return Ok(None);
    }
    let loaded = Entry::load(mft, listed.file.number);
    // The id must lead to the reason, and never to the content of whatever file has the record now.
    let tree = match &loaded {
        Ok(entry) if is_of(listed.file, entry) => 0,
        Ok(_) => STALE,
        Err(error) if error.kind() == Kind::NotFound => STALE,
        Err(error) if is_passing(error) => return Err(error.clone()),
        Err(_) => UNREAD.saturating_add(u64::from(listed.file.sequence)),
    };
    let file = loaded.ok().filter(|_| tree == 0);
    if listed.name.is_dos() && has_long_name(mft, folder, file.as_ref())? {
        return Ok(None);
    }
    dir_entry(mft, &listed.to_found(), tree, file.as_ref()).map(Some)
}

/// Whether a file has a name in the folder `folder` that is more than an 8.3 form; so it is taken if its record does
/// not say, for as a rule there is one.
fn has_long_name(mft: &Mft, folder: u64, file: Option<&Entry>) -> Result<bool> {
    let Some(file) = file else { return Ok(true) };
    match nature::names(mft, file) {
        Ok(names) => Ok(names
            .iter()
            .any(|name| !name.is_dos() && name.parent.number == folder)),
        Err(error) if is_passing(&error) => Err(error),
        Err(_) => Ok(true),
    }
}

/// What is told of a name whose file is `file`; none if that cannot be read.
fn dir_entry(mft: &Mft, found: &Found, tree: u64, file: Option<&Entry>) -> Result<DirEntry> {
    Ok(DirEntry {
        name: name::shown(&found.name.name),
        id: EntryId {
            tree,
            number: found.file.number,
        },
        kind: kind_by_name(mft, &found.name, file)?,
        cookie: found.cookie,
    })
}

/// What a name in a folder's index says of its file. Only links and special files need that to be looked at.
fn kind_by_name(mft: &Mft, name: &FileName, file: Option<&Entry>) -> Result<EntryKind> {
    let plain = if name.is_folder() {
        EntryKind::Folder
    } else {
        EntryKind::File
    };
    let is_tagged = name.flags & REPARSE != 0;
    if is_tagged && name.tag != 0 {
        return Ok(reparse::kind_of(name.tag).unwrap_or(plain));
    }
    let may_be_special = name.flags & SYSTEM != 0 && plain == EntryKind::File;
    let Some(file) = file.filter(|_| is_tagged || may_be_special) else {
        return Ok(plain);
    };
    match Nature::of(mft, file) {
        Ok(nature) => Ok(nature.kind),
        Err(error) if is_passing(&error) => Err(error),
        Err(_) => Ok(plain),
    }
}
