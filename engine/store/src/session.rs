//! Sessions: every writer and reader has a file that the kernel keeps locked while it lives, so that nothing it
//! stands on is deleted, and what a dead one left behind is swept.

mod host;
mod record;
mod sweep;

pub use host::{host_identity, host_key, host_name};
pub use record::{
    Manifest, Root, SessionKind, SessionRecord, is_elsewhere, read_session, session_names,
};
pub(crate) use sweep::{MANIFEST, Swept, sweep_one};
pub use sweep::{Named, sweep_dead};

use crate::codec;
use crate::layout::{self, PUBLISH_LOCK, SESSIONS, SessionName};
use crate::mistake::{self, Mistake};
use crate::point::Point;
use crate::state::State;
use cairn_base::folder::{Lock, join, publish_bytes};
use cairn_base::ids::random;
use cairn_base::{Error, Folder, Kind, LockMode, PackId, PointId, Result, SegmentId, SessionId};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use sweep::remove_session;

/// What a session has to know of a point to stand on it.
#[derive(Debug, Clone)]
pub struct Standing {
    id: PointId,
    /// The machine's folder, and the name of the point's file in it.
    place: (String, String),
    roots: Vec<Root>,
}

impl Standing {
    /// Of this point.
    pub fn of(point: &Point) -> Standing {
        Standing {
            id: point.id,
            place: (
                layout::machine_folder(&point.record.machine),
                point.file().name(),
            ),
            roots: Root::all_of(point).collect(),
        }
    }
}

/// A live session. Dropping it removes its file and everything it did not publish.
pub struct Session {
    folder: Arc<dyn Folder>,
    name: SessionName,
    record: Mutex<SessionRecord>,
    lock: Option<Box<dyn Lock>>,
    warning: Option<String>,
    before: usize,
}

/// Waits for the publish lock.
///
/// # Errors
/// As the folder reports.
pub fn publish_lock(folder: &dyn Folder) -> Result<Box<dyn Lock>> {
    let mode = match mistake::is_made(Mistake::PublishUnlocked) {
        true => LockMode::Shared,
        false => LockMode::Exclusive,
    };
    folder
        .lock(PUBLISH_LOCK, mode, true)?
        .ok_or_else(|| Error::new(Kind::Busy, "the store's publish lock is not to be had"))
}

/// How often a reader asks for the publish lock, every 10 ms: longer than a prune takes to read all points.
const PATIENCE: usize = 3000;

/// As [`publish_lock`], but gives up after some seconds: a publisher that was stopped must not hang every reader.
///
/// # Errors
/// [`Kind::Busy`] if it is not to be had; as the folder reports.
pub(crate) fn patient_lock(folder: &dyn Folder) -> Result<Box<dyn Lock>> {
    for _ in 0..PATIENCE {
        if let Some(lock) = folder.lock(PUBLISH_LOCK, LockMode::Exclusive, false)? {
            return Ok(lock);
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Err(Error::new(
        Kind::Busy,
        "the store's publish lock is held for long",
    ))
}

impl Session {
    /// Begins a session that stands on `points`, of the generation read under the publish lock. From then on nothing that they reach is
    /// deleted.
    ///
    /// A reader on read-only media goes on without a file.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if one of the points is not there any more; as the folder reports.
    pub fn begin(folder: Arc<dyn Folder>, kind: SessionKind, points: &[&Point]) -> Result<Session> {
        let points: Vec<Standing> = points.iter().map(|point| Standing::of(point)).collect();
        Session::begin_on(folder, kind, &points)
    }

    /// As [`begin`](Session::begin), on points that are not at hand any more.
    ///
    /// # Errors
    /// As [`begin`](Session::begin).
    pub fn begin_on(
        folder: Arc<dyn Folder>,
        kind: SessionKind,
        points: &[Standing],
    ) -> Result<Session> {
        let name = SessionName {
            id: SessionId(random()?),
            host: Some(host_key()),
        };
        let roots = points.iter().flat_map(|point| &point.roots);
        let mut roots: Vec<Root> = roots.copied().collect();
        roots.sort_unstable();
        roots.dedup();
        let mut session = Session {
            record: Mutex::new(SessionRecord {
                points: points.iter().map(|point| point.id.0).collect(),
                roots,
                ..SessionRecord::of_this_process(kind)
            }),
            folder,
            name,
            lock: None,
            warning: None,
            before: 0,
        };
        match session.enter(kind, points) {
            Ok(None) => Ok(session),
            Ok(Some(forgotten)) => Err(forgotten),
            // Read-only media, a full disk: nobody can be told, but reading goes on.
            Err(error) if kind == SessionKind::Read && error.kind() != Kind::Damaged => {
                session.lock = None;
                session.warning = Some(format!(
                    "reading without a session file, so a prune may delete what is read: {error}"
                ));
                Ok(session)
            }
            Err(error) => Err(error),
        }
    }

    /// An error inside if one of the points is gone.
    fn enter(&mut self, kind: SessionKind, points: &[Standing]) -> Result<Option<Error>> {
        // Under the publish lock, so that nobody sweeps the file between its making and its locking, and nobody forgets a point
        // between our look at it and the file that says that we stand on it.
        let _publish = match kind {
            SessionKind::Write => publish_lock(&*self.folder)?,
            SessionKind::Read => patient_lock(&*self.folder)?,
        };
        if let Some(point) = first_gone(&*self.folder, points) {
            let error = Error::not_found("the recovery point was forgotten meanwhile");
            return Ok(Some(error.with_id(point.id).advise("see `cairn points`")));
        }
        let path = self.name.file();
        let lock = self
            .folder
            .lock(&path, LockMode::Exclusive, false)?
            .ok_or_else(|| Error::new(Kind::Busy, "a new session's file is locked already"))?;
        let (state, _) = State::read(&*self.folder)?;
        self.record.get_mut().generation = state.generation;
        lock.write_note(&codec::seal(&*self.record.get_mut())?)?;
        self.lock = Some(lock);
        if kind == SessionKind::Write {
            self.before = self.others()?;
            self.folder.create_folder(&self.scratch())?;
        }
        Ok(None)
    }

    /// How many other processes were writing when this session began. A guess: one that has died since the last writer began is counted too.
    pub fn before(&self) -> usize {
        self.before
    }

    /// A number of its own.
    pub fn seed(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.name.id.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// How many sessions of other processes write now; as much a guess as [`before`](Session::before).
    ///
    /// # Errors
    /// If the sessions cannot be listed.
    pub fn others(&self) -> Result<usize> {
        let names = self.folder.list(SESSIONS)?;
        let process = self.record.lock().process;
        // Only who writes has a folder.
        let folders = names.iter().filter(|name| name.ends_with(".d"));
        let is_other = |name: &SessionName| {
            let record = read_session(&*self.folder, *name);
            matches!(record, Ok(record) if record.process != process)
        };
        let others = folders.filter_map(|name| SessionName::parse(name));
        Ok(others.filter(is_other).count())
    }

    /// Whether the session has a file (a reader on read-only media has none).
    pub fn is_registered(&self) -> bool {
        self.lock.is_some()
    }

    /// Why it has no file, if it has none.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// The generation it opened.
    pub fn generation(&self) -> u64 {
        self.record.lock().generation
    }

    /// Its id.
    pub fn id(&self) -> SessionId {
        self.name.id
    }

    /// What its file and its folder are called.
    pub fn name(&self) -> SessionName {
        self.name
    }

    /// Notes that these packs are about to be listed by a state: they stay as long as the session lives. The caller holds the publish lock.
    ///
    /// # Errors
    /// As the folder reports.
    pub fn published(&self, packs: &[PackId]) -> Result<()> {
        let mut record = self.record.lock();
        record.packs.extend(packs.iter().map(|id| id.0));
        match &self.lock {
            Some(lock) => lock.write_note(&codec::seal(&*record)?),
            None => Ok(()),
        }
    }

    /// The folder for what is not published yet.
    pub fn scratch(&self) -> String {
        self.name.folder()
    }

    /// Notes durably what is about to be made public. The caller holds the publish lock.
    ///
    /// # Errors
    /// As the folder reports.
    pub fn announce(&self, packs: &[PackId], segment: SegmentId) -> Result<()> {
        let manifest = Manifest {
            packs: packs.iter().map(|id| id.0).collect(),
            segment: segment.0,
        };
        let scratch = self.scratch();
        let path = join(&scratch, MANIFEST);
        self.folder.remove(&path)?;
        publish_bytes(
            &*self.folder,
            &format!("{path}.new"),
            &scratch,
            MANIFEST,
            &codec::seal(&manifest)?,
        )
    }

    /// The manifest is fulfilled.
    ///
    /// # Errors
    /// As the folder reports.
    pub fn fulfilled(&self) -> Result<()> {
        self.folder.remove(&join(&self.scratch(), MANIFEST))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A publication that failed halfway has left files in public places: its manifest stays, so that the next writer
        // sweeps them.
        let unfulfilled = join(&self.scratch(), MANIFEST);
        let none = matches!(self.folder.size(&unfulfilled), Err(e) if e.kind() == Kind::NotFound);
        if self.lock.is_some() && none {
            // Whatever cannot be removed now is swept by the next writer.
            let _later = remove_session(&*self.folder, self.name);
        }
    }
}

/// Points of one machine for which its folder is listed once, instead of asking for each of their files.
const MANY: usize = 16;

/// The first of these points that is not there any more. That one cannot be looked at now is found out when it is read.
fn first_gone<'p>(folder: &dyn Folder, points: &'p [Standing]) -> Option<&'p Standing> {
    let mut machines: HashMap<&str, Vec<&Standing>> = HashMap::new();
    for point in points {
        machines.entry(&point.place.0).or_default().push(point);
    }
    for (machine, points) in machines {
        let names: Option<HashSet<String>> = match points.len() > MANY {
            true => match folder.list(machine) {
                Ok(names) => Some(names.into_iter().collect()),
                Err(error) if error.kind() == Kind::NotFound => Some(HashSet::new()),
                Err(_) => None,
            },
            false => None,
        };
        let is_gone = |point: &&&Standing| {
            let name = &point.place.1;
            match &names {
                Some(names) => !names.contains(name),
                None => {
                    let found = folder.size(&join(machine, name));
                    matches!(found, Err(error) if error.kind() == Kind::NotFound)
                }
            }
        };
        if let Some(gone) = points.iter().find(is_gone) {
            return Some(gone);
        }
    }
    None
}
