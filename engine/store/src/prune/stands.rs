//! What must not be deleted: what points and living sessions stand on, listed in one step.

use crate::catalog;
use crate::codec;
use crate::layout::{self, SESSIONS};
use crate::session::{Root, SessionKind, SessionRecord, host_name, publish_lock};
use crate::store::Store;
use cairn_base::folder::{optional, read_small};
use cairn_base::{Error, PackId, Result, SessionId};
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
}

/// What points and sessions stand on.
#[derive(Debug, Default)]
pub struct Stands {
    points: usize,
    /// The maps of all points, by machine and number: what follows each other is much the same.
    roots: Vec<Root>,
    /// The maps that living sessions stand on.
    sessions: HashSet<Root>,
    /// Who writes, but for ourselves.
    pub writers: Vec<Writer>,
    /// Packs that living writers have published: no point may reach them yet.
    pub packs: HashSet<PackId>,
}

impl Stands {
    /// Lists points and sessions under the publish lock. `own` is the session of the caller.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if a point, what a machine's points are kept by, or the record of a living session cannot be read, or a
    /// point is gone that nobody has forgotten; [`Kind::Unsupported`](cairn_base::Kind::Unsupported) if one is of a newer version: then nothing may be deleted
    /// (M5).
    pub fn list(store: &Store, own: Option<SessionId>) -> Result<Stands> {
        let mut stands = Stands::default();
        let _publish = publish_lock(&**store.folder())?;
        let mut problems = catalog::check_walkable(store, &mut |point| {
            stands.points = stands.points.saturating_add(1);
            stands.roots.extend(Root::all_of(&point));
        })?
        .into_iter();
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
        for name in folder.list(SESSIONS)? {
            let Ok(id) = SessionId::parse(&name) else {
                continue;
            };
            if Some(id) == own {
                continue;
            }
            let path = layout::session(id);
            let bytes = match optional(read_small(folder, &path, codec::MAX_FILE)) {
                Ok(Some(bytes)) => Ok(bytes),
                Ok(None) => continue,
                Err(error) => Err(error),
            };
            let record = bytes.and_then(|bytes| codec::open::<SessionRecord>(&bytes));
            let locked = optional(folder.is_locked(&path))?;
            // Locks may not reach from one host to another: what belongs to another one lives until somebody says that it does not.
            let foreign = matches!(&record, Ok(record) if record.host != host_name());
            match locked {
                None => continue,
                Some(false) if !foreign => continue,
                Some(_) => {}
            }
            let record = record.map_err(|e| {
                refuse(e.at_path(folder.describe(&path)))
                    .context("what a living session stands on cannot be read")
            })?;
            self.sessions.extend(&record.roots);
            self.packs.extend(record.packs.iter().map(|id| PackId(*id)));
            if record.kind == SessionKind::Write {
                self.writers.push(Writer {
                    session: id,
                    generation: record.generation,
                    process: record.process,
                    host: record.host,
                });
            }
        }
        Ok(())
    }

    /// Number of points.
    pub fn points(&self) -> usize {
        self.points
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
        self.roots.iter().chain(&self.sessions).copied()
    }

    /// Writers that may rely on what was condemned with this generation.
    pub fn older_than(&self, generation: u64) -> impl Iterator<Item = &Writer> {
        let mut writers = self.writers.iter();
        std::iter::from_fn(move || writers.find(|writer| writer.generation < generation))
    }
}

fn refuse(error: Error) -> Error {
    error.advise(
        "nothing is deleted as long as it cannot be read; run `cairn doctor` and `cairn verify`",
    )
}
