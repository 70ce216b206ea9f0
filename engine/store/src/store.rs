//! An open store: its folder, header, keys, and the index of the generation last read.

mod create;
mod damage;
mod found;
mod healed;
mod presence;
mod removal;

use crate::claims::Claims;
use crate::hash::Keys;
use crate::header::Header;
use crate::index::IndexSet;
use crate::layout::HOST_LOCK;
use crate::mistake::{self, Mistake};
use crate::session::{host_identity, publish_lock, sweep_dead};
use crate::state::State;
use cairn_base::folder::{Lock, read_small};
use cairn_base::{ChunkId, Error, Folder, Kind, LockMode, PackId, Result};
pub(crate) use damage::DamageWatch;
use damage::Knowledge;
pub(crate) use found::complete;
use found::{ATTEMPTS, Found, read_current};
use parking_lot::RwLock;
use presence::{Presence, names};
pub use removal::RemovedSession;
use std::collections::HashSet;
use std::sync::Arc;

struct Current {
    state: State,
    index: IndexSet,
    /// Packs that are gone or cut short, as far as a writer has looked.
    missing: Arc<HashSet<PackId>>,
    /// Segments that could not be opened.
    lost: Vec<String>,
    /// A slot of the state was lost, and with it perhaps a segment that nothing names any more.
    doubtful: bool,
}

impl Current {
    fn of(found: Found, missing: HashSet<PackId>) -> Current {
        let mut current = Current {
            index: IndexSet::new(found.segments, HashSet::new()),
            state: found.state,
            missing: Arc::default(),
            doubtful: found.lost_slot.is_some(),
            lost: found.lost,
        };
        current.hide(missing);
        current
    }

    /// From now on look-ups do not answer places in these packs, nor in those that the state says are replaced, and those in condemned ones
    /// to readers alone.
    fn hide(&mut self, mut missing: HashSet<PackId>) {
        let unanswered = self.state.unanswered_packs();
        missing.retain(|id| !unanswered.contains(id));
        let mut hidden: HashSet<PackId> = self.state.replaced_packs().collect();
        hidden.extend(&missing);
        let condemned = self.state.condemned_packs().collect();
        self.index = IndexSet::new(self.index.segments().to_vec(), hidden).condemning(condemned);
        self.missing = Arc::new(missing);
    }
}

/// An open store. Shared by threads.
pub struct Store {
    folder: Arc<dyn Folder>,
    header: Header,
    keys: Keys,
    current: RwLock<Current>,
    /// What is known to be damaged: chunks without another place count as absent.
    knowledge: Knowledge,
    /// What backups of this process store now.
    claims: Arc<Claims>,
    /// What a writer of this process found to be there.
    presence: Presence,
    /// What had to be restored from parity.
    healed: healed::HealedPacks,
    warnings: Vec<String>,
}

impl Drop for Store {
    /// What this process found to be damaged is kept for others; if somebody publishes just now, or the media are read-only, it is found again.
    fn drop(&mut self) {
        self.keep_damage_at_end();
    }
}

impl Store {
    /// Opens a store for reading; writers call [`Store::writer`] on it.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if it is no store, [`Kind::Unsupported`] if it needs a newer program,
    /// [`Kind::Damaged`] if header, state or a segment cannot be read.
    pub fn open(folder: Arc<dyn Folder>) -> Result<Store> {
        let (header, mut warnings) = Header::read(&*folder)?;
        let keys = Keys::derive(&header.id_key);
        let found = read_current(&*folder, header.store, &IndexSet::default())?;
        warnings.extend(found.lost_slot.iter().cloned());
        warnings.extend(found.lost.iter().cloned());
        let (knowledge, unreadable) = Knowledge::read(&*folder);
        warnings.extend(unreadable);
        Ok(Store {
            folder,
            keys,
            header,
            current: RwLock::new(Current::of(found, HashSet::new())),
            knowledge,
            claims: Arc::default(),
            presence: Presence::default(),
            healed: Default::default(),
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

    /// What backups of this process store now.
    pub(crate) fn claims(&self) -> &Arc<Claims> {
        &self.claims
    }

    /// The generation last read.
    pub fn generation(&self) -> u64 {
        self.current.read().state.generation
    }

    /// Whether a chunk of this length is stored, as far as is known: one that is damaged wherever it lies is not.
    ///
    /// # Errors
    /// As [`IndexSet::places`].
    pub fn holds(&self, id: &ChunkId, length: u32) -> Result<bool> {
        if !self.mentions_damage(id) || mistake::is_made(Mistake::DamageUnheard) {
            return self.index().holds(id, length);
        }
        let places = self.index().places(id)?;
        let mut good = places.iter().filter(|place| !self.is_bad(id, place));
        Ok(good.any(|place| place.length == length))
    }

    /// Whether every segment could be opened and, as far as a writer has looked, every pack is there or all that lay in it is on the list of
    /// damage: then whatever a map names is in the store, or on that list.
    pub fn is_whole(&self) -> bool {
        // One lock after the other, never one within the other.
        let (certain, missing) = {
            let current = self.current.read();
            let certain = current.lost.is_empty() && !current.doubtful;
            (certain, current.missing.clone())
        };
        certain && self.damage_is_listed() && self.are_listed(&missing)
    }

    /// Whether every segment that the state lists could be opened.
    pub fn has_all_segments(&self) -> bool {
        self.current.read().lost.is_empty()
    }

    /// Reads the state again; `true` if there is a newer generation. Segments that stay are not opened again.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn refresh(&self) -> Result<bool> {
        let (before, degraded) = {
            let current = self.current.read();
            (current.state.generation, !current.lost.is_empty())
        };
        let (state, _) = State::read(&*self.folder)?;
        if state.generation == before && !degraded {
            return Ok(false);
        }
        self.reload()
    }

    /// Reads state and index again; `true` if they are newer or more complete than before.
    fn reload(&self) -> Result<bool> {
        let known = self.index();
        let found = read_current(&*self.folder, self.header.store, &known)?;
        let mut slot = self.current.write();
        let (new, old) = (found.state.generation, slot.state.generation);
        // Another thread may have read an even newer one meanwhile; and a segment that cannot be opened for the moment must
        // not push out one that is open.
        if new < old || new == old && found.lost.len() > slot.lost.len() {
            return Ok(false);
        }
        if let Some(error) = found.momentary {
            return Err(error);
        }
        let changed = new > old || found.lost.len() < slot.lost.len();
        let (missing, doubtful) = (HashSet::clone(&slot.missing), slot.doubtful);
        *slot = Current::of(found, missing);
        slot.doubtful |= doubtful;
        Ok(changed)
    }

    /// Makes ready to write: takes the host's lock, mends lost copies of header and state, sweeps dead sessions, and looks whether
    /// every pack is there with its sealed length. From then on what lies in packs that are not counts as absent.
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
        let mut warnings;
        {
            let _publish = publish_lock(&*self.folder)?;
            self.header.heal(&*self.folder)?;
            let healed = self.heal_state()?;
            let (_, lost_slot) = State::read(&*self.folder)?;
            // Read anew whatever the generation: what was read without the lock may have been half of two publications.
            self.reload()?;
            let index = self.index();
            let named = |id: PackId| names(index.segments(), id);
            // Where something is lost, what nothing lists may yet be needed.
            let certain = lost_slot.is_none() && self.current.read().lost.is_empty();
            warnings = sweep_dead(&*self.folder, certain.then_some(&named))?;
            // What a lost slot listed may be lost with it: until all is read again nothing is taken for granted.
            self.current.write().doubtful |= healed.is_some();
            warnings.extend(healed);
        }
        let (missing, damage) = self.newly_missing_packs()?;
        // Chunks in packs that are not known are not found: what the base names is looked up.
        self.current.write().doubtful |= !damage.is_empty();
        warnings.extend(damage);
        let mut lost = Vec::new();
        {
            let mut current = self.current.write();
            current.hide(missing.clone());
            lost.extend(current.lost.iter().cloned());
        }
        warnings.extend(lost);
        self.reload_damage();
        self.note_missing(&missing)?;
        // Not for ever: once all of it is stored anew, nothing is lost any more.
        let healed = self.is_whole() && self.unhealed().is_empty();
        if !missing.is_empty() && !healed {
            warnings.push(format!(
                "{} packs of the store are missing or cut short: what lay in them and is seen again is stored anew; run `cairn verify`",
                missing.len()
            ));
        }
        Ok(WriterPermit {
            _host: host,
            warnings,
        })
    }

    /// If a slot of the state is lost, publishes both anew, with every whole segment there is. The caller holds the publish lock.
    pub(crate) fn heal_state(&self) -> Result<Option<String>> {
        let (mut state, lost_slot) = State::read(&*self.folder)?;
        if lost_slot.is_none() {
            return Ok(None);
        }
        complete(&*self.folder, self.header.store, &mut state)?;
        // Above the generation that may have been lost, so that everybody notices; twice, so that both slots are whole.
        // The slot that is left is written last.
        state.advance(3)?;
        // What was condemned may have been needed and answered again in the generation that is lost.
        state.condemn_anew();
        state.publish(&*self.folder)?;
        state.advance(1)?;
        state.condemn_anew();
        state.publish(&*self.folder)?;
        Ok(lost_slot)
    }

    fn host_lock(&self) -> Result<Box<dyn Lock>> {
        let folder = &*self.folder;
        let here = host_identity();
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
        for _ in 0..50 * ATTEMPTS {
            if let Some(lock) = folder.lock(HOST_LOCK, LockMode::Exclusive, false)? {
                // Alone: the note is ours to write. Going to shared mode lets other writers of this host in.
                lock.write_note(here.as_bytes())?;
                // The kernel lets go for a moment in between: somebody else may have written his name.
                let shared = lock.change(LockMode::Shared)?;
                if shared && read_small(folder, HOST_LOCK, 4096)? == here.as_bytes() {
                    return Ok(lock);
                }
            } else if let Some(lock) = folder.lock(HOST_LOCK, LockMode::Shared, false)? {
                let holder = read_small(folder, HOST_LOCK, 4096)?;
                if holder == here.as_bytes() {
                    return Ok(lock);
                }
                if !holder.is_empty() {
                    return Err(busy());
                }
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Err(busy())
    }
}

/// The right to write: while it lives no other host writes.
pub struct WriterPermit {
    _host: Box<dyn Lock>,
    warnings: Vec<String>,
}

impl WriterPermit {
    /// What is not as it should be.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}
