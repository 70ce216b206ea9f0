//! The end of a session of which only the user knows that it is over.

use crate::session::{SessionRecord, Swept, publish_lock, read_session, session_names, sweep_one};
use crate::state::State;
use crate::store::Store;
use crate::store::presence::names;
use cairn_base::folder::optional;
use cairn_base::{Error, Kind, PackId, Result, SessionId};

/// A session that was removed.
#[derive(Debug)]
pub struct RemovedSession {
    /// What its file said, if it could be made out.
    pub record: Option<SessionRecord>,
    /// What is not as it should be in the store.
    pub warnings: Vec<String>,
}

impl Store {
    /// Removes a session, and what it left, on the word of the user that its process has ended: one of another host, whose lock may not reach this one.
    /// If the process lives after all, what it relies on may be deleted by the next prune.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if there is no such session; [`Kind::Busy`] if somebody holds its lock, so that it lives, or another host writes;
    /// [`Kind::Damaged`] if it published when it ended, and a part of the state or the index is lost; as the folder reports.
    pub fn remove_session(&self, id: SessionId) -> Result<RemovedSession> {
        let folder = &**self.folder();
        let all = session_names(folder)?;
        let Some(name) = all.into_iter().find(|name| name.id == id) else {
            return Err(Error::not_found("there is no such session")
                .with_id(id)
                .advise("`cairn doctor` names those that there are"));
        };
        let lives = || {
            Error::new(Kind::Busy, "the session lives: a process holds its lock")
                .at_path(folder.describe(&name.file()))
                .with_id(id)
                .advise("wait until it has ended, or end its process")
        };
        if optional(folder.is_locked(&name.file()))? == Some(true) {
            return Err(lives());
        }
        let record = read_session(folder, name).ok();
        // Mends what is lost, and clears away what is dead here.
        let permit = self.writer()?;
        let warnings = permit.warnings().to_vec();
        let _publish = publish_lock(folder)?;
        let (_, lost_slot) = State::read(folder)?;
        self.refresh()?;
        let index = self.index();
        let named = |id: PackId| names(index.segments(), id);
        let certain = lost_slot.is_none() && self.has_all_segments();
        match sweep_one(folder, certain.then_some(&named), name)? {
            Swept::Gone => Ok(RemovedSession { record, warnings }),
            Swept::Alive => Err(lives()),
            Swept::Kept => Err(Error::damaged(
                "the session published when it ended, and what of that is public cannot be told",
            )
            .with_id(id)
            .advise("run `cairn verify STORE --repair` first; if a newer version of cairn wrote it, use that one")),
        }
    }
}
