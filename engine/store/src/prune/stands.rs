//! What must not be deleted: what points and living sessions stand on, listed in one step.

use crate::catalog::Walkable;
use crate::layout::SessionName;
use crate::session::{Root, SessionKind, is_elsewhere, publish_lock, read_session, session_names};
use crate::store::Store;
use cairn_base::folder::optional;
use cairn_base::{Error, Kind, PackId, Result, SessionId};
use std::collections::HashSet;

/// A living session that writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    /// Its id.
    pub session: SessionId,
    /// The generation it opened.
    pub generation: u64,
    /// Process id.
    pub process: u32,
    /// Name of the host.
    pub host: String,
    /// Whether that is another host, so that it counts as living until the user says that it does not.
    pub elsewhere: bool,
}

/// What points and sessions stand on.
#[derive(Debug, Default)]
pub struct Stands {
    /// The points and their maps.
    points: Walkable,
    /// The maps that living sessions stand on.
    sessions: HashSet<Root>,
    /// Who writes, but for ourselves.
    pub writers: Vec<Writer>,
    /// Packs that living writers have published: no point may reach them yet.
    pub packs: HashSet<PackId>,
}

impl Stands {
    /// Lists points and sessions under the publish lock. `own` is the session of the caller, if it is going to delete something: then what is not there is gone for
    /// good. Points are read before the lock is taken, and those that were there `before` not again: under it only those that are new since.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if a point, what a machine's points are kept by, or the record of a living session cannot be read, or a
    /// point is gone that nobody has forgotten; [`Kind::Unsupported`](cairn_base::Kind::Unsupported) if one is of a newer version: then nothing may be deleted
    /// (M5).
    pub fn list(store: &Store, own: Option<SessionId>, before: Option<&Stands>) -> Result<Stands> {
        let mut stands = Stands {
            points: before.map_or_else(Walkable::default, |before| before.points.clone()),
            ..Stands::default()
        };
        stands.points.read(store, own.is_some())?;
        let _publish = publish_lock(&**store.folder())?;
        let mut problems = stands.points.check(store, own.is_some())?.into_iter();
        if let Some(first) = problems.next() {
            let more = problems.len();
            let first = match more {
                0 => first,
                more => first.context(format!(
                    "nothing is deleted, for {} reasons",
                    more.saturating_add(1)
                )),
            };
            return Err(refuse(first));
        }
        stands.list_sessions(store, own)?;
        Ok(stands)
    }

    fn list_sessions(&mut self, store: &Store, own: Option<SessionId>) -> Result<()> {
        let folder = &**store.folder();
        for name in session_names(folder)?
            .into_iter()
            .filter(|name| Some(name.id) != own)
        {
            let record = read_session(folder, name);
            let elsewhere = is_elsewhere(name, record.as_ref().ok());
            // Locks may not reach from one host to another: what belongs to another one lives until somebody says that it does not.
            if !elsewhere && optional(folder.is_locked(&name.file()))? != Some(true) {
                continue;
            }
            if elsewhere && is_gone(store, name)? {
                continue;
            }
            let record = record.map_err(|error| unreadable(store, name, elsewhere, error))?;
            self.sessions.extend(&record.roots);
            self.packs.extend(record.packs.iter().map(|id| PackId(*id)));
            if record.kind == SessionKind::Write {
                self.writers.push(Writer {
                    session: name.id,
                    generation: record.generation,
                    process: record.process,
                    host: record.host,
                    elsewhere,
                });
            }
        }
        Ok(())
    }

    /// Number of points.
    pub fn points(&self) -> usize {
        self.points.points().count()
    }

    /// Every map, once, but for those that `before` has too, in the order of the points. The null map is left out.
    pub fn roots_since(&self, before: &Stands) -> Vec<Root> {
        let mut seen: HashSet<Root> = before.all().collect();
        let new = self
            .all()
            .filter(|root| !root.id().is_null() && seen.insert(*root));
        new.collect()
    }

    fn all(&self) -> impl Iterator<Item = Root> + '_ {
        let points = self.points.points().flat_map(|(_, roots)| roots);
        points.chain(&self.sessions).copied()
    }

    /// Writers that may rely on what was condemned with this generation.
    pub fn older_than(&self, generation: u64) -> impl Iterator<Item = &Writer> {
        let mut writers = self.writers.iter();
        std::iter::from_fn(move || writers.find(|writer| writer.generation < generation))
    }
}

/// Whether a session has ended since it was listed. One that has lost its file alone has not: its folder is there.
fn is_gone(store: &Store, name: SessionName) -> Result<bool> {
    let folder = &**store.folder();
    let file = optional(folder.size(&name.file()))?;
    Ok(file.is_none() && optional(folder.list(&name.folder()))?.is_none())
}

/// Why nothing is deleted as long as nobody knows what this session stands on.
fn unreadable(store: &Store, name: SessionName, elsewhere: bool, error: Error) -> Error {
    let kind = match error.kind() {
        // It is its folder that says that there is one.
        Kind::NotFound => Kind::Damaged,
        kind => kind,
    };
    let what = "what a session stands on that may live cannot be read";
    let refused = Error::new(kind, what)
        .at_path(store.folder().describe(&name.file()))
        .with_id(name.id)
        .caused_by(error);
    if elsewhere {
        return refused.advise(format!(
            "nothing is deleted as long as it is there; `cairn doctor` tells whose it is. If you are sure that its process has ended: `cairn doctor STORE --remove-session {}`",
            name.id
        ));
    }
    refuse(refused)
}

fn refuse(error: Error) -> Error {
    error.advise(
        "nothing is deleted as long as it cannot be read; run `cairn doctor` and `cairn verify`",
    )
}
