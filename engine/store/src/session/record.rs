//! What the files of sessions say.

use crate::codec::{self, Record};
use crate::layout::{SESSIONS, SessionName};
use crate::point::Point;
use crate::session::host::{boot_id, command, host_key, host_name};
use bincode::{Decode, Encode};
use cairn_base::folder::read_small;
use cairn_base::{ChunkId, Clock, Folder, Result, SystemClock, Time};

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
    /// What the host's kernel calls the time since it was started; empty where it does not say.
    pub boot: String,
    /// When it began, seconds since 1970.
    pub began: i64,
    /// What the process was started as.
    pub command: String,
}

impl Record for SessionRecord {
    const MAGIC: [u8; 8] = *b"CAIRNSES";
    const VERSION: u32 = 3;
    const NAME: &'static str = "session file";
}

impl SessionRecord {
    /// Of this process, now; of no generation, and standing on nothing.
    pub fn of_this_process(kind: SessionKind) -> SessionRecord {
        SessionRecord {
            kind,
            generation: 0,
            points: Vec::new(),
            roots: Vec::new(),
            packs: Vec::new(),
            process: std::process::id(),
            host: host_name(),
            boot: boot_id(),
            began: SystemClock.now().seconds,
            command: command(),
        }
    }

    /// When it began.
    pub fn began(&self) -> Time {
        Time::from_seconds(self.began)
    }

    /// Whether it is known that its host was started anew since. Of another host nobody knows.
    pub fn is_of_earlier_boot(&self) -> bool {
        let now = boot_id();
        !now.is_empty() && !self.boot.is_empty() && self.boot != now
    }
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

/// The names of all sessions, each once, ascending: of those that have a file, a folder or both.
///
/// # Errors
/// If they cannot be listed.
pub fn session_names(folder: &dyn Folder) -> Result<Vec<SessionName>> {
    let names = folder.list(SESSIONS)?;
    let mut names: Vec<SessionName> = names.iter().filter_map(|n| SessionName::parse(n)).collect();
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// What the file of a session says.
///
/// # Errors
/// [`Kind::NotFound`](cairn_base::Kind::NotFound) if there is none; [`Kind::Damaged`](cairn_base::Kind::Damaged) or
/// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) if it cannot be made out; as the folder reports.
pub fn read_session(folder: &dyn Folder, name: SessionName) -> Result<SessionRecord> {
    let path = name.file();
    let bytes = read_small(folder, &path, codec::MAX_FILE)?;
    codec::open(&bytes).map_err(|e| e.at_path(folder.describe(&path)))
}

/// Whether a session is another host's, or of a host that is not known: then its lock decides nothing, because it may not reach from there to here.
/// What the kernel of this very run has started is here, whatever its host is called: a container often has a new name each time.
pub fn is_elsewhere(name: SessionName, record: Option<&SessionRecord>) -> bool {
    let boot = boot_id();
    if !boot.is_empty() && record.is_some_and(|record| record.boot == boot) {
        return false;
    }
    name.host != Some(host_key()) || record.is_some_and(|record| record.host != host_name())
}
