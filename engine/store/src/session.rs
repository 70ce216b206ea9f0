//! Sessions: every writer and reader has a file that the kernel keeps locked while it lives, so that nothing it
//! stands on is deleted, and what a dead one left behind is swept.

use crate::codec::{self, Record};
use crate::layout::{self, INDEX, PUBLISH_LOCK, SESSIONS};
use crate::mistake::{self, Mistake};
use crate::point::Point;
use crate::state::State;
use bincode::{Decode, Encode};
use cairn_base::folder::{Lock, join, optional, publish_bytes, read_small};
use cairn_base::ids::random;
use cairn_base::{
    ChunkId, Error, Folder, Kind, LockMode, PackId, PointId, Result, SegmentId, SessionId,
};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a session does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum SessionKind {
    /// Writes packs, segments and a point.
    Write,
    /// Reads points: mount, restore, verify, listing of files.
    Read,
}

/// The map of a disk that a session stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub struct Root {
    /// Id of the map's root.
    pub root: [u8; 32],
    /// Size of the disk in bytes.
    pub size: u64,
}

impl Root {
    /// The maps of a point's disks.
    pub fn all_of(point: &Point) -> impl Iterator<Item = Root> + '_ {
        point.record.disks.iter().map(|disk| Root {
            root: disk.root,
            size: disk.size,
        })
    }

    /// Id of the map's root.
    pub fn id(&self) -> ChunkId {
        ChunkId(self.root)
    }
}

/// What a session has to know of a point to stand on it.
#[derive(Debug, Clone)]
pub struct Standing {
    id: PointId,
    path: String,
    roots: Vec<Root>,
}

impl Standing {
    /// Of this point.
    pub fn of(point: &Point) -> Standing {
        let home = layout::machine_folder(&point.record.machine);
        Standing {
            id: point.id,
            path: join(&home, &point.file().name()),
            roots: Root::all_of(point).collect(),
        }
    }
}

/// What a session's file says.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SessionRecord {
    /// What it does.
    pub kind: SessionKind,
    /// The generation it opened.
    pub generation: u64,
    /// The points it stands on.
    pub points: Vec<[u8; 32]>,
    /// The maps of these points: what they reach stays, even if the points are forgotten.
    pub roots: Vec<Root>,
    /// Packs that it has published: as long as it lives they stay, although no point may reach them yet.
    pub packs: Vec<[u8; 16]>,
    /// Process id.
    pub process: u32,
    /// Name of the host.
    pub host: String,
}

impl Record for SessionRecord {
    const MAGIC: [u8; 8] = *b"CAIRNSES";
    const VERSION: u32 = 2;
    const NAME: &'static str = "session file";
}

/// What a session is about to make public: lets a later one clear away what a crash left in between.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Manifest {
    /// Packs that may have been renamed into place already.
    pub packs: Vec<[u8; 16]>,
    /// The segment that names them.
    pub segment: [u8; 16],
}

impl Record for Manifest {
    const MAGIC: [u8; 8] = *b"CAIRNMAN";
    const VERSION: u32 = 1;
    const NAME: &'static str = "publication manifest";
}

/// Name of the manifest in the session's folder.
pub(crate) const MANIFEST: &str = "manifest";

/// A live session. Dropping it removes its file and everything it did not publish.
pub struct Session {
    folder: Arc<dyn Folder>,
    id: SessionId,
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

/// What tells this host from others: its name, and its machine id where it has one.
pub fn host_identity() -> String {
    let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    format!("{} {}", host_name(), id.trim())
}

/// Name of this host, for messages.
pub fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
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
        let id = SessionId(random()?);
        let roots = points.iter().flat_map(|point| &point.roots);
        let mut roots: Vec<Root> = roots.copied().collect();
        roots.sort_unstable();
        roots.dedup();
        let mut session = Session {
            record: Mutex::new(SessionRecord {
                kind,
                generation: 0,
                points: points.iter().map(|point| point.id.0).collect(),
                roots,
                packs: Vec::new(),
                process: std::process::id(),
                host: host_name(),
            }),
            folder,
            id,
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
        for point in points {
            match self.folder.size(&point.path) {
                Err(error) if error.kind() == Kind::NotFound => {
                    let error = Error::not_found("the recovery point was forgotten meanwhile");
                    return Ok(Some(error.with_id(point.id).advise("see `cairn points`")));
                }
                // That it cannot be looked at now is found out when it is read.
                _ => {}
            }
        }
        let path = layout::session(self.id);
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
        let [a, b, c, d, e, f, g, h, ..] = self.id.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// How many sessions of other processes write now; as much a guess as [`before`](Session::before).
    ///
    /// # Errors
    /// If the sessions cannot be listed.
    pub fn others(&self) -> Result<usize> {
        let names = self.folder.list(SESSIONS)?;
        let process = self.record.lock().process;
        let ids = names.iter().filter_map(|name| name.strip_suffix(".d"));
        let is_other = |id: &SessionId| {
            let bytes = read_small(&*self.folder, &layout::session(*id), codec::MAX_FILE);
            let record = bytes.and_then(|bytes| codec::open::<SessionRecord>(&bytes));
            matches!(record, Ok(record) if record.process != process)
        };
        let ids = ids.filter_map(|id| SessionId::parse(id).ok());
        Ok(ids.filter(is_other).count())
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
        self.id
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
        layout::session_folder(self.id)
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
            let _later = remove_session(&*self.folder, self.id);
        }
    }
}

/// Removes a session's folder and then its file.
fn remove_session(folder: &dyn Folder, id: SessionId) -> Result<()> {
    let scratch = layout::session_folder(id);
    if let Some(names) = optional(folder.list(&scratch))? {
        for name in names {
            folder.remove(&join(&scratch, &name))?;
        }
        folder.remove_folder(&scratch)?;
    }
    folder.remove(&layout::session(id))
}

/// Sweeps what dead sessions left: their folders, and packs and segments that were renamed into place but
/// that no state ever listed. The caller holds the publish lock. One session that cannot be swept does not stop the rest;
/// the answer says what could not be done.
///
/// `named` tells which packs live segments name; `None` if that is not known for sure: then published names are left alone.
///
/// # Errors
/// If the sessions cannot be listed.
pub fn sweep_dead(
    folder: &dyn Folder,
    named: Option<&dyn Fn(PackId) -> bool>,
) -> Result<Vec<String>> {
    let mut ids: Vec<SessionId> = folder
        .list(SESSIONS)?
        .iter()
        .filter_map(|name| SessionId::parse(name.strip_suffix(".d").unwrap_or(name)).ok())
        .collect();
    ids.sort();
    ids.dedup();
    let mut warnings = Vec::new();
    for id in ids {
        if let Err(error) = sweep_one(folder, named, id) {
            warnings.push(format!(
                "what the dead session {id} left could not be removed: {error}"
            ));
        }
    }
    Ok(warnings)
}

fn sweep_one(
    folder: &dyn Folder,
    named: Option<&dyn Fn(PackId) -> bool>,
    id: SessionId,
) -> Result<()> {
    let Some(_lock) = folder.lock(&layout::session(id), LockMode::Exclusive, false)? else {
        return Ok(());
    };
    let manifest = join(&layout::session_folder(id), MANIFEST);
    if let Some(bytes) = optional(read_small(folder, &manifest, codec::MAX_FILE))? {
        let Some(named) = named else {
            return Ok(());
        };
        match codec::open::<Manifest>(&bytes) {
            Ok(manifest) if remove_unlisted(folder, named, &manifest)? => {}
            Ok(_) => return Ok(()),
            // One that does not check was not durable, so nothing was renamed after it.
            Err(error) if error.kind() == Kind::Damaged => {}
            // A newer program's: it knows what to do with it.
            Err(_) => return Ok(()),
        }
    }
    remove_session(folder, id)
}

/// Removes what the manifest names and neither slot of the state does; `false` if a slot is lost, so that this is not known.
fn remove_unlisted(
    folder: &dyn Folder,
    named: &dyn Fn(PackId) -> bool,
    manifest: &Manifest,
) -> Result<bool> {
    let segment = SegmentId(manifest.segment);
    let Some(listed) = State::listed(folder)? else {
        return Ok(false);
    };
    // Whoever renamed the newest state into place may have been killed before it was durable.
    folder.sync_folder("")?;
    // It was public. If it was merged since, the older slot still leads to it, until the next publication.
    if listed.contains(&segment) {
        return Ok(true);
    }
    folder.remove(&layout::segment(segment))?;
    let mut homes = BTreeSet::from([INDEX.to_string()]);
    for pack in manifest.packs.iter().map(|id| PackId(*id)) {
        if !named(pack) {
            folder.remove(&layout::pack(pack))?;
            homes.insert(layout::pack_folder(pack));
        }
    }
    // Durable before the manifest goes: without it nobody would look for what came back.
    for home in homes {
        match folder.sync_folder(&home) {
            // No pack ever got so far.
            Err(error) if error.kind() == Kind::NotFound => {}
            other => other?,
        }
    }
    Ok(true)
}
