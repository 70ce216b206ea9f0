//! Who works with a store now, and who did and died.

use crate::codec;
use crate::layout::{self, SESSIONS};
use crate::session::{MANIFEST, SessionKind, SessionRecord};
use cairn_base::folder::{join, optional, read_small};
use cairn_base::{Folder, Result, SessionId};

/// A session, living or dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionFacts {
    /// Its id.
    pub id: SessionId,
    /// What its record says; none if it cannot be read.
    pub owner: Option<Owner>,
    /// Whether its process lives; none if that cannot be told.
    pub alive: Option<bool>,
    /// Files in its folder.
    pub files: u64,
    /// Their length together in bytes.
    pub bytes: u64,
    /// Whether it died, or failed, while it published.
    pub publishing: bool,
}

/// Whose session it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// What it does.
    pub kind: SessionKind,
    /// Process id.
    pub process: u32,
    /// Name of the host.
    pub host: String,
    /// Generation it opened.
    pub generation: u64,
    /// How many points it stands on.
    pub points: usize,
}

/// Every session there is. With `quiet` the caller holds the publish lock, so that none begins just now.
pub(super) fn look(folder: &dyn Folder, quiet: bool) -> Result<Vec<SessionFacts>> {
    let mut ids: Vec<SessionId> = folder
        .list(SESSIONS)?
        .iter()
        .filter_map(|name| SessionId::parse(name.strip_suffix(".d").unwrap_or(name)).ok())
        .collect();
    ids.sort();
    ids.dedup();
    let mut found = Vec::new();
    for id in ids {
        found.extend(one(folder, id, quiet)?);
    }
    Ok(found)
}

/// `None` if it has ended since it was listed.
fn one(folder: &dyn Folder, id: SessionId, quiet: bool) -> Result<Option<SessionFacts>> {
    let path = layout::session(id);
    let locked = optional(folder.is_locked(&path))?;
    let mut facts = SessionFacts {
        id,
        owner: owner(folder, &path),
        // A folder without a file belongs to nobody.
        alive: (quiet || locked == Some(true)).then_some(locked == Some(true)),
        files: 0,
        bytes: 0,
        publishing: false,
    };
    let scratch = layout::session_folder(id);
    let Some(names) = optional(folder.list(&scratch))? else {
        let gone = locked.is_none() || optional(folder.size(&path))?.is_none();
        return Ok((!gone).then_some(facts));
    };
    for name in names {
        facts.files = facts.files.saturating_add(1);
        facts.publishing |= name == MANIFEST;
        let length = optional(folder.size(&join(&scratch, &name)))?;
        facts.bytes = facts.bytes.saturating_add(length.unwrap_or(0));
    }
    Ok(Some(facts))
}

fn owner(folder: &dyn Folder, path: &str) -> Option<Owner> {
    // A note that nothing depends on: after a crash it may hold anything.
    let bytes = read_small(folder, path, codec::MAX_FILE).ok()?;
    let record: SessionRecord = codec::open(&bytes).ok()?;
    Some(Owner {
        kind: record.kind,
        process: record.process,
        host: record.host,
        generation: record.generation,
        points: record.points.len(),
    })
}
