//! An open store: its folder, header, keys, and the index of the generation last read.

use crate::cut::CutParameters;
use crate::hash::Keys;
use crate::header::Header;
use crate::index::{IndexSet, Segment};
use crate::layout::{self, HOST_LOCK, INDEX, LOCKS, PACKS, POINTS, SESSIONS};
use crate::session::{host_name, publish_lock, sweep_dead};
use crate::state::State;
use cairn_base::folder::{Lock, read_small};
use cairn_base::ids::random;
use cairn_base::{Clock, Error, Folder, Kind, LockMode, PackId, Result, SegmentId};
use parking_lot::RwLock;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// How often a reader that finds a segment gone re-reads the state before it reports damage.
const ATTEMPTS: usize = 5;

struct Current {
    state: State,
    index: IndexSet,
}

/// An open store. Shared by threads.
pub struct Store {
    folder: Arc<dyn Folder>,
    header: Header,
    keys: Keys,
    current: RwLock<Current>,
    warnings: Vec<String>,
}

impl Store {
    /// Makes a store in `folder`, which must be empty.
    ///
    /// # Errors
    /// [`Kind::Exists`] if anything is in the folder, [`Kind::Invalid`] for impossible cut parameters; as the folder reports.
    pub fn create(folder: Arc<dyn Folder>, cut: CutParameters, clock: &dyn Clock) -> Result<Store> {
        cut.check()?;
        let found = folder.list("")?;
        if found
            .iter()
            .any(|name| layout::HEADERS.contains(&name.as_str()))
        {
            return Err(
                Error::new(Kind::Exists, "there is a store already").at_path(folder.describe(""))
            );
        }
        if !found.is_empty() {
            return Err(
                Error::new(Kind::Exists, "the folder for the store is not empty")
                    .at_path(folder.describe(""))
                    .advise("name a new or empty folder"),
            );
        }
        for path in [LOCKS, SESSIONS, PACKS, INDEX, POINTS] {
            folder.create_folder(path)?;
        }
        State::default().publish(&*folder)?;
        let header = Header {
            store: random()?,
            read_flags: 0,
            write_flags: 0,
            created: clock.now().seconds,
            cut,
            id_key: random()?,
        };
        // The header comes last: without it the folder is no store, and making it again is refused only then.
        header.create(&*folder)?;
        Store::open(folder)
    }

    /// Opens a store for reading; writers call [`Store::writer`] on it.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if it is no store, [`Kind::Unsupported`] if it needs a newer program,
    /// [`Kind::Damaged`] if header, state or a segment cannot be read.
    pub fn open(folder: Arc<dyn Folder>) -> Result<Store> {
        let (header, mut warnings) = Header::read(&*folder)?;
        let keys = Keys::derive(&header.id_key);
        let (current, warning) = read_current(&*folder, header.store, &IndexSet::default())?;
        warnings.extend(warning);
        Ok(Store {
            folder,
            keys,
            header,
            current: RwLock::new(current),
            warnings,
        })
    }

    /// The folder it lies in.
    pub fn folder(&self) -> &Arc<dyn Folder> {
        &self.folder
    }

    /// What was fixed when it was made.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Its keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// What was found wrong, but not fatal, when it was opened.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The index of the generation last read.
    pub fn index(&self) -> IndexSet {
        self.current.read().index.clone()
    }

    /// The state last read.
    pub fn state(&self) -> State {
        self.current.read().state.clone()
    }

    /// Reads the state again; `true` if there is a newer generation. Segments that stay are not opened again.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn refresh(&self) -> Result<bool> {
        let (before, index) = {
            let current = self.current.read();
            (current.state.generation, current.index.clone())
        };
        let (state, _) = State::read(&*self.folder)?;
        if state.generation == before {
            return Ok(false);
        }
        let (current, _) = read_current(&*self.folder, self.header.store, &index)?;
        let mut slot = self.current.write();
        // Another thread may have read an even newer one meanwhile.
        if slot.state.generation < current.state.generation {
            *slot = current;
        }
        Ok(true)
    }

    /// Makes ready to write: takes the host's lock, sweeps dead sessions, mends lost copies of the header, and looks whether every
    /// pack is there with its sealed length. Answers the lock and the packs that must not be relied on.
    ///
    /// # Errors
    /// [`Kind::Busy`] if another host writes, [`Kind::Unsupported`] if the store needs a newer program to write.
    pub fn writer(&self) -> Result<WriterPermit> {
        if !self.header.writable() {
            return Err(
                Error::unsupported("the store can only be read by this program")
                    .at_path(self.folder.describe(""))
                    .advise("use a newer version of cairn to write to it"),
            );
        }
        let host = self.host_lock()?;
        {
            let _publish = publish_lock(&*self.folder)?;
            self.header.heal(&*self.folder)?;
            let (state, damaged_slot) = State::read(&*self.folder)?;
            self.refresh()?;
            let named: HashSet<PackId> = self.index().packs().iter().map(|row| row.id).collect();
            // With a slot lost the state may be an older one: what it does not list may yet be needed.
            sweep_dead(
                &*self.folder,
                &state,
                damaged_slot.is_none().then_some(&named),
            )?;
        }
        let missing = self.missing_packs()?;
        Ok(WriterPermit {
            _host: host,
            missing,
        })
    }

    fn host_lock(&self) -> Result<Box<dyn Lock>> {
        let folder = &*self.folder;
        let here = host_name();
        let busy = || {
            let holder = read_small(folder, HOST_LOCK, 4096).unwrap_or_default();
            Error::new(
                Kind::Busy,
                format!(
                    "another host ({}) writes to the store",
                    String::from_utf8_lossy(&holder)
                ),
            )
            .at_path(folder.describe(""))
            .advise("one host at a time writes a store: wait until it has finished")
        };
        for _ in 0..ATTEMPTS {
            if let Some(lock) = folder.lock(HOST_LOCK, LockMode::Exclusive, false)? {
                // Alone: the note is ours to write. Going to shared mode lets other writers of this host in.
                lock.write_note(here.as_bytes())?;
                if lock.change(LockMode::Shared)? {
                    return Ok(lock);
                }
            } else if let Some(lock) = folder.lock(HOST_LOCK, LockMode::Shared, false)? {
                let holder = read_small(folder, HOST_LOCK, 4096)?;
                return if holder == here.as_bytes() {
                    Ok(lock)
                } else {
                    Err(busy())
                };
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Err(busy())
    }

    /// Packs that segments name but that are gone or do not have their sealed length.
    ///
    /// # Errors
    /// As the folder reports, but for files that are not there.
    pub fn missing_packs(&self) -> Result<HashSet<PackId>> {
        let mut missing = HashSet::new();
        for row in self.index().packs() {
            match self.folder.size(&layout::pack(row.id)) {
                Ok(length) if length == row.length => {}
                Ok(_) => {
                    missing.insert(row.id);
                }
                Err(error) if error.kind() == Kind::NotFound => {
                    missing.insert(row.id);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(missing)
    }
}

/// The right to write: while it lives no other host writes.
pub struct WriterPermit {
    _host: Box<dyn Lock>,
    missing: HashSet<PackId>,
}

impl WriterPermit {
    /// Packs that are gone or cut short: what lies in them counts as absent.
    pub fn missing(&self) -> &HashSet<PackId> {
        &self.missing
    }
}

fn read_current(
    folder: &dyn Folder,
    store: [u8; 16],
    known: &IndexSet,
) -> Result<(Current, Option<String>)> {
    let known: HashMap<SegmentId, Arc<Segment>> = known
        .segments()
        .iter()
        .map(|segment| (segment.id(), segment.clone()))
        .collect();
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let (state, warning) = State::read(folder)?;
        let opened: Result<Vec<Arc<Segment>>> = state
            .segments
            .iter()
            .map(|row| match known.get(&row.segment()) {
                Some(segment) => Ok(segment.clone()),
                None => Segment::open(folder, store, row.segment()).map(Arc::new),
            })
            .collect();
        match opened {
            Ok(segments) => {
                let hidden = state.condemned_packs().collect();
                let index = IndexSet::new(segments, hidden);
                return Ok((Current { state, index }, warning));
            }
            // A merge may have replaced it since the state was read.
            Err(error) if error.kind() == Kind::NotFound => last = Some(error),
            Err(error) => return Err(error.context("the store's index cannot be opened")),
        }
    }
    let error = last.unwrap_or_else(|| Error::damaged("the index keeps changing"));
    Err(Error::damaged("a segment of the store's index is missing").caused_by(error))
}
