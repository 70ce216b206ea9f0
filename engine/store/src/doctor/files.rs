//! The files of a store: copies of its records, what nothing lists, what a crash left.

use crate::codec::{self, Record};
use crate::doctor::Checkup;
use crate::doctor::findings::Finding;
use crate::header::Header;
use crate::layout::{self, INDEX, PACKS, STATES};
use crate::state::State;
use crate::store::Store;
use cairn_base::folder::{join, optional, read_small};
use cairn_base::{Error, Folder, Kind, PackId, Result, SegmentId};
use std::collections::HashSet;

/// How a copy of a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It checks.
    Whole,
    /// There is no such file.
    Missing,
    /// It does not check.
    Damaged,
    /// It is of a version that this program does not know.
    Unsupported,
    /// It cannot be read now.
    Unreadable,
}

/// One of several copies of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// Its name.
    pub file: &'static str,
    /// How it is.
    pub condition: Condition,
    /// Version of its format, if it is whole.
    pub version: Option<u32>,
    /// Of a slot of the state: its generation.
    pub generation: Option<u64>,
    /// What is wrong with it.
    pub why: Option<String>,
}

impl Copy {
    fn of<R: Record>(file: &'static str, read: &Result<R>) -> Copy {
        let condition = match read.as_ref().map_err(Error::kind) {
            Ok(_) => Condition::Whole,
            Err(Kind::NotFound) => Condition::Missing,
            Err(Kind::Damaged) => Condition::Damaged,
            Err(Kind::Unsupported) => Condition::Unsupported,
            Err(_) => Condition::Unreadable,
        };
        Copy {
            file,
            condition,
            version: read.is_ok().then_some(R::VERSION),
            generation: None,
            why: read.as_ref().err().map(ToString::to_string),
        }
    }
}

/// Looks at the copies of the header; the first that is whole.
///
/// # Errors
/// [`Kind::NotFound`] if there is none, [`Kind::Unsupported`] if one is of a newer version or needs a newer reader.
pub(super) fn headers(folder: &dyn Folder, checkup: &mut Checkup) -> Result<Option<Header>> {
    let copies = Header::copies(folder);
    let said = copies.iter().map(|(file, read)| Copy::of(file, read));
    checkup.headers = said.collect();
    let is = |condition| move |copy: &Copy| copy.condition == condition;
    let all_missing = checkup.headers.iter().all(is(Condition::Missing));
    if all_missing || checkup.headers.iter().any(is(Condition::Unsupported)) {
        // It says why.
        Header::read(folder)?;
    }
    let header = copies.into_iter().find_map(|(_, read)| read.ok());
    if header.as_ref().is_some_and(|h| h.unknown_flags().0 != 0) {
        Header::read(folder)?;
    }
    Ok(header)
}

/// Looks at the slots of the state.
pub(super) fn slots(folder: &dyn Folder, checkup: &mut Checkup) {
    for name in STATES {
        let read = read_small(folder, name, codec::MAX_FILE)
            .and_then(|bytes| codec::open::<State>(&bytes))
            .map_err(|e| e.at_path(folder.describe(name)));
        checkup.slots.push(Copy {
            generation: read.as_ref().ok().map(|state| state.generation),
            ..Copy::of(name, &read)
        });
    }
}

/// Packs that nothing lists, with their lengths in bytes, and segments.
type Orphans = (Vec<(PackId, u64)>, Vec<SegmentId>);

/// The packs and segments whose files are there.
#[derive(Default)]
pub(super) struct Listed {
    pub packs: Vec<PackId>,
    pub segments: Vec<SegmentId>,
}

/// Lists them, as far as that can be done.
pub(super) fn list(folder: &dyn Folder, findings: &mut Vec<Finding>) -> Listed {
    let mut names = |path: &str| {
        folder.list(path).unwrap_or_else(|error| {
            findings.push(Finding::unreadable(&error));
            Vec::new()
        })
    };
    let segments = names(INDEX);
    let mut listed = Listed {
        segments: segments
            .iter()
            .filter_map(|name| SegmentId::parse(name).ok())
            .collect(),
        packs: Vec::new(),
    };
    for home in names(PACKS) {
        let path = join(PACKS, &home);
        // A pack elsewhere than in its own folder is none.
        let packs = names(&path)
            .into_iter()
            .filter_map(|name| PackId::parse(&name).ok());
        listed
            .packs
            .extend(packs.filter(|id| layout::pack_folder(*id) == path));
    }
    listed
}

/// Of what was listed before the store was opened, what nothing names.
pub(super) fn orphans(store: &Store, listed: &Listed) -> Result<Orphans> {
    let folder = &**store.folder();
    let Some(known_segments) = State::listed(folder)? else {
        return Ok(Orphans::default());
    };
    let mut known: HashSet<PackId> = store.state().unanswered_packs();
    for row in store.index().packs() {
        known.insert(row?.id);
    }
    let mut packs = Vec::new();
    for id in listed.packs.iter().filter(|id| !known.contains(id)) {
        // It may have been replaced and deleted since it was listed.
        if let Some(length) = optional(folder.size(&layout::pack(*id)))? {
            packs.push((*id, length));
        }
    }
    let mut segments = Vec::new();
    for id in &listed.segments {
        let there = optional(folder.size(&layout::segment(*id)))?.is_some();
        if there && !known_segments.contains(id) {
            segments.push(*id);
        }
    }
    Ok((packs, segments))
}
