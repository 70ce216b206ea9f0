//! Who works with a store now, and who did and died.

use crate::layout::SessionName;
use crate::session::{
    MANIFEST, SessionKind, SessionRecord, is_elsewhere, read_session, session_names,
};
use crate::state::State;
use cairn_base::folder::{join, optional};
use cairn_base::units::to_u64;
use cairn_base::{Folder, PointId, Result, SessionId, Time};
use std::collections::HashSet;

/// A session, living or dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionFacts {
    /// Its id.
    pub id: SessionId,
    /// What its record says; none if it cannot be read.
    pub owner: Option<Owner>,
    /// Whether it is another host's, or of a host that is not known: then its lock may not reach this one.
    pub elsewhere: bool,
    /// Whether its process lives; none if that cannot be told.
    pub alive: Option<bool>,
    /// Points it stands on that were forgotten since: what they need stays as long as it is there.
    pub forgotten: u64,
    /// Packs that nothing needs and that wait for it.
    pub waiting: u64,
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
    /// The points it stands on.
    pub points: Vec<PointId>,
    /// When it began.
    pub began: Time,
    /// What the process was started as.
    pub command: String,
    /// Whether its host, this one, was started anew since.
    pub earlier_boot: bool,
}

impl SessionFacts {
    /// Notes what it holds back, in a store of this state with these points.
    pub(super) fn note_held(&mut self, state: &State, points: &HashSet<PointId>) {
        let Some(owner) = &self.owner else { return };
        let gone = owner.points.iter().filter(|id| !points.contains(id));
        self.forgotten = to_u64(gone.count());
        if owner.kind == SessionKind::Write {
            let rows = state.condemned.iter();
            let later = rows.filter(|row| owner.generation < row.generation);
            self.waiting = to_u64(later.count());
        }
    }
}

/// Every session there is. With `quiet` the caller holds the publish lock, so that none begins just now.
pub(super) fn look(folder: &dyn Folder, quiet: bool) -> Result<Vec<SessionFacts>> {
    let mut found = Vec::new();
    for name in session_names(folder)? {
        found.extend(one(folder, name, quiet)?);
    }
    Ok(found)
}

/// `None` if it has ended since it was listed.
fn one(folder: &dyn Folder, name: SessionName, quiet: bool) -> Result<Option<SessionFacts>> {
    let path = name.file();
    let locked = optional(folder.is_locked(&path))?;
    // A note: after a crash it may hold anything.
    let record = read_session(folder, name).ok();
    let elsewhere = is_elsewhere(name, record.as_ref());
    let tells = quiet && !elsewhere;
    let mut facts = SessionFacts {
        id: name.id,
        elsewhere,
        // A folder without a file belongs to nobody.
        alive: (tells || locked == Some(true)).then_some(locked == Some(true)),
        owner: record.map(|record| owner(record, elsewhere)),
        forgotten: 0,
        waiting: 0,
        files: 0,
        bytes: 0,
        publishing: false,
    };
    let scratch = name.folder();
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

fn owner(record: SessionRecord, elsewhere: bool) -> Owner {
    Owner {
        kind: record.kind,
        process: record.process,
        generation: record.generation,
        points: record.points.iter().map(|id| PointId(*id)).collect(),
        began: record.began(),
        earlier_boot: !elsewhere && record.is_of_earlier_boot(),
        host: record.host,
        command: record.command,
    }
}
