//! What this process knows to be damaged, and how it becomes known to others.

use crate::damage::{BadPlace, DamageList, NOWHERE};
use crate::index::merge::each_entry;
use crate::index::packs::PackRows;
use crate::index::{IndexSet, Place};
use crate::layout::PUBLISH_LOCK;
use crate::session::publish_lock;
use crate::store::Store;
use crate::store::presence::names;
use cairn_base::{ChunkId, Error, Folder, LockMode, PackId, Result};
use parking_lot::{Mutex, RwLock};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Prefixes of chunks.
type Prefixes = HashSet<[u8; 16]>;

/// How often the list is read again when it changes meanwhile.
const RELOADS: usize = 4;

/// The list in memory.
#[derive(Default)]
pub(super) struct Knowledge {
    inner: RwLock<Inner>,
    /// Held by who finds out what is unhealed.
    turn: Mutex<()>,
}

#[derive(Default)]
struct Inner {
    list: DamageList,
    /// Why the file cannot be read: then nothing is taken for granted.
    unreadable: Option<String>,
    /// Counts changes.
    version: u64,
    /// The version that the file has.
    kept: u64,
    /// What was noted since they began, for each of the verifications that run, by their numbers.
    watches: Vec<(u64, DamageList)>,
    /// The number of the next one.
    next_watch: u64,
    /// The version at which the file is written next without being asked to.
    next: u64,
    /// Chunks without a good place, and for which generation and version that was found out.
    unhealed: Option<(u64, u64, Arc<Prefixes>)>,
}

impl Inner {
    /// Notes that the list is another one now, which is all in the file, if it was before.
    fn changed_as_file(&mut self) {
        let is_kept = self.version <= self.kept;
        self.version = self.version.saturating_add(1);
        if is_kept {
            self.kept = self.version;
        }
        self.unhealed = None;
    }
}

/// What was known to be damaged when a verification began; whatever is noted while it lives is not forgotten when the list is replaced.
pub(crate) struct DamageWatch<'a> {
    store: &'a Store,
    number: u64,
    before: DamageList,
}

impl DamageWatch<'_> {
    /// What was known when it began.
    pub fn before(&self) -> &DamageList {
        &self.before
    }
}

impl Drop for DamageWatch<'_> {
    fn drop(&mut self) {
        let mut inner = self.store.knowledge.inner.write();
        inner.watches.retain(|(number, _)| *number != self.number);
    }
}

impl Knowledge {
    /// What the file says.
    pub(super) fn read(folder: &dyn Folder) -> (Knowledge, Option<String>) {
        let mut inner = Inner::default();
        match DamageList::read(folder) {
            Ok(list) => inner.list = list,
            Err(error) => {
                inner.unreadable = Some(unreadable(&error));
            }
        }
        let warning = inner.unreadable.clone();
        let knowledge = Knowledge {
            inner: RwLock::new(inner),
            turn: Mutex::new(()),
        };
        (knowledge, warning)
    }
}

impl Store {
    /// Whether the bytes at this place are known to be damaged.
    pub fn is_bad(&self, id: &ChunkId, place: &Place) -> bool {
        self.knowledge
            .inner
            .read()
            .list
            .has(&id.prefix(), place.pack)
    }

    /// Whether any place of the chunk is known to be damaged.
    pub(super) fn mentions_damage(&self, id: &ChunkId) -> bool {
        let inner = self.knowledge.inner.read();
        !inner.list.is_empty() && inner.list.mentions(&id.prefix())
    }

    /// Whether every chunk of these packs is known to be damaged.
    pub(super) fn are_listed(&self, packs: &HashSet<PackId>) -> bool {
        let inner = self.knowledge.inner.read();
        packs.iter().all(|pack| inner.list.has_pack(*pack))
    }

    /// The list as this process knows it.
    pub fn known_damage(&self) -> DamageList {
        self.knowledge.inner.read().list.clone()
    }

    /// Why the list of what is known to be damaged cannot be read, if it cannot.
    pub fn unreadable_damage(&self) -> Option<String> {
        self.knowledge.inner.read().unreadable.clone()
    }

    /// Chunks that no good place is known of. Who sees their bytes stores them anew.
    pub(crate) fn unhealed(&self) -> Arc<Prefixes> {
        if self.knowledge.inner.read().list.is_empty() {
            return Arc::default();
        }
        // One thread finds out. Until it has, the others go by what was so before the last publication: that only heals.
        let turn = self.knowledge.turn.try_lock();
        let (index, generation) = (self.index(), self.generation());
        {
            let inner = self.knowledge.inner.read();
            if let Some((of, version, found)) = &inner.unhealed
                && *version == inner.version
                && (*of == generation || turn.is_none())
            {
                return found.clone();
            }
        }
        let _turn = turn.unwrap_or_else(|| self.knowledge.turn.lock());
        let (list, version) = {
            let inner = self.knowledge.inner.read();
            (inner.list.clone(), inner.version)
        };
        let prefixes = list.places().map(|(prefix, _)| *prefix);
        let lost = prefixes.filter(|prefix| !has_good_place(&index, &list, prefix));
        let found: Arc<Prefixes> = Arc::new(lost.collect());
        self.knowledge.inner.write().unhealed = Some((generation, version, found.clone()));
        found
    }

    /// Whether what is damaged can be told chunk by chunk.
    pub(crate) fn damage_is_listed(&self) -> bool {
        let inner = self.knowledge.inner.read();
        inner.unreadable.is_none() && !inner.list.has_more()
    }

    /// Notes places that gave no or wrong bytes; no place at all if `places` is empty. Becomes durable as soon as that costs little, and with
    /// [`keep_damage`](Store::keep_damage).
    pub(crate) fn note_damaged(&self, id: &ChunkId, places: &[PackId]) {
        let prefix = id.prefix();
        let nowhere = [NOWHERE];
        let packs = if places.is_empty() {
            &nowhere[..]
        } else {
            places
        };
        let due = {
            let mut inner = self.knowledge.inner.write();
            for pack in packs {
                let new = inner.list.add((prefix, *pack));
                inner.version = inner.version.saturating_add(u64::from(new));
                // Also what was on the list: a verification may have found it good before, and be about to take it off.
                for (_, noted) in &mut inner.watches {
                    noted.add((prefix, *pack));
                }
            }
            // Each time there is twice as much: the file is written whole.
            inner.version > inner.kept && inner.version >= inner.next
        };
        if due {
            // Somebody publishes, or the media are read-only: tried again with the next.
            let _later = self.keep(false);
        }
    }

    /// Makes what this process found durable, for all that come later. Nothing to do is fine, and so is a list that cannot be read: only a
    /// full verification writes that anew.
    ///
    /// # Errors
    /// As the folder reports.
    pub fn keep_damage(&self) -> Result<()> {
        self.keep(true)
    }

    /// As [`keep_damage`](Store::keep_damage), but without waiting and without telling.
    pub(super) fn keep_damage_at_end(&self) {
        let _found_again_later = self.keep(false);
    }

    fn keep(&self, wait: bool) -> Result<()> {
        {
            let inner = self.knowledge.inner.read();
            if inner.version <= inner.kept || inner.unreadable.is_some() {
                return Ok(());
            }
        }
        let folder = &**self.folder();
        let _publish = if wait {
            publish_lock(folder)?
        } else {
            match folder.lock(PUBLISH_LOCK, LockMode::Exclusive, false)? {
                Some(lock) => lock,
                None => return Ok(()),
            }
        };
        // What others have found since.
        let others = DamageList::read(folder)?;
        // Nothing of the index is asked for while the list is locked: others hold the one and wait for the other.
        let is_fresh = self.refresh().is_ok();
        let (index, unanswered) = self.named_packs();
        let (mut list, version) = {
            let inner = self.knowledge.inner.read();
            (inner.list.clone(), inner.version)
        };
        list.merge(&others);
        let live: HashSet<PackId> = list
            .all_packs()
            .into_iter()
            .filter(|pack| *pack != NOWHERE && !unanswered.contains(pack))
            .filter(|pack| names(index.segments(), *pack))
            .collect();
        let all = list.clone();
        let needed = |(prefix, pack): &BadPlace| {
            live.contains(pack) || !has_good_place(&index, &all, prefix)
        };
        if is_fresh {
            list.retain(needed, |pack| live.contains(pack));
        }
        list.write(folder)?;
        let mut inner = self.knowledge.inner.write();
        inner.kept = inner.kept.max(version);
        inner.next = version.saturating_mul(2);
        if inner.version == version {
            inner.list = list;
        } else {
            inner.list.merge(&others);
        }
        inner.changed_as_file();
        Ok(())
    }

    /// What is known now, to be handed to [`replace_damage`](Store::replace_damage) after everything was read.
    pub(crate) fn watch_damage(&self) -> DamageWatch<'_> {
        let number = {
            let mut inner = self.knowledge.inner.write();
            let number = inner.next_watch;
            inner.next_watch = number.saturating_add(1);
            inner.watches.push((number, DamageList::default()));
            number
        };
        let mut before = DamageList::read(&**self.folder()).unwrap_or_default();
        before.merge(&self.knowledge.inner.read().list);
        DamageWatch {
            store: self,
            number,
            before,
        }
    }

    /// A verification has read what it was to read: what it found is all there is, but for what was noted since it began. A list that cannot be
    /// read for now, or that another version wrote, stays as it is; one that is damaged is written anew.
    ///
    /// # Errors
    /// As the folder reports; then this process goes by what was found all the same.
    pub(crate) fn replace_damage(
        &self,
        mut found: DamageList,
        watch: &DamageWatch<'_>,
    ) -> Result<()> {
        let folder = &**self.folder();
        let _publish = publish_lock(folder)?;
        let on_disk = DamageList::read(folder);
        let unread = on_disk.as_ref().err().filter(|e| e.is_momentary()).cloned();
        if let Ok(now) = &on_disk {
            found.merge_news(now, &watch.before);
        }
        let version = {
            let mut inner = self.knowledge.inner.write();
            found.merge_news(&inner.list, &watch.before);
            let noted = inner.watches.iter().find(|(of, _)| *of == watch.number);
            if let Some((_, noted)) = noted {
                found.merge(noted);
            }
            inner.list = found.clone();
            inner.unreadable = unread.as_ref().map(unreadable);
            inner.unhealed = None;
            inner.version = inner.version.saturating_add(1);
            inner.version
        };
        if let Some(error) = unread {
            return Err(error.context("the list of known damage stays as it is"));
        }
        match on_disk {
            Ok(now) if now == found => {}
            _ => found.write(folder)?,
        }
        let mut inner = self.knowledge.inner.write();
        inner.kept = inner.kept.max(version);
        Ok(())
    }

    /// Reads again what others have noted. A list that cannot be read changes nothing: this process has said so, or will.
    pub(super) fn reload_damage(&self) {
        for attempt in 1..=RELOADS {
            let version = self.knowledge.inner.read().version;
            let read = DamageList::read(&**self.folder());
            let mut inner = self.knowledge.inner.write();
            // What was noted and kept meanwhile is not in what was read.
            let moved = inner.version != version;
            if moved && attempt < RELOADS {
                continue;
            }
            match read {
                Ok(list) => {
                    inner.unreadable = None;
                    if inner.version > inner.kept || moved {
                        inner.list.merge(&list);
                    } else {
                        inner.list = list;
                    }
                    inner.changed_as_file();
                }
                Err(error) => inner.unreadable = Some(unreadable(&error)),
            }
            return;
        }
    }

    /// Lists every chunk of packs that are gone or cannot be read, as far as they are not listed. If a part of the index that may
    /// name more of them does not check, they stay packs of which not everything is known.
    ///
    /// # Errors
    /// As the folder reports.
    pub(crate) fn list_packs(&self, packs: &HashSet<PackId>, list: &mut DamageList) -> Result<()> {
        let packs: HashSet<PackId> = packs
            .iter()
            .copied()
            .filter(|p| !list.has_pack(*p))
            .collect();
        if packs.is_empty() {
            return Ok(());
        }
        let mut all_read = self.has_all_segments();
        for segment in self.index().segments() {
            let mut numbers = HashMap::new();
            for (number, row) in (0u32..).zip(PackRows::new(segment)) {
                match row {
                    Ok(row) if packs.contains(&row.id) => {
                        numbers.insert(number, row.id);
                    }
                    Ok(_) => {}
                    // Numbers behind it are not known.
                    Err(_) => {
                        all_read = false;
                        break;
                    }
                }
            }
            if numbers.is_empty() {
                continue;
            }
            let walked = each_entry(segment, &mut |entry| {
                if let Some(pack) = numbers.get(&entry.pack_number()) {
                    list.add((entry.prefix, *pack));
                }
            });
            all_read &= walked.is_ok();
        }
        if all_read {
            for pack in packs {
                list.add_pack(pack);
            }
        }
        Ok(())
    }

    /// Notes every chunk of packs that are gone.
    ///
    /// # Errors
    /// As the folder reports.
    pub(super) fn note_missing(&self, packs: &HashSet<PackId>) -> Result<()> {
        let unlisted: HashSet<PackId> = {
            let inner = self.knowledge.inner.read();
            let packs = packs.iter().copied();
            packs.filter(|pack| !inner.list.has_pack(*pack)).collect()
        };
        if unlisted.is_empty() {
            return Ok(());
        }
        // Only what is new is added: the list may be another one by then.
        let mut list = DamageList::default();
        self.list_packs(&unlisted, &mut list)?;
        {
            let mut inner = self.knowledge.inner.write();
            inner.list.merge(&list);
            for (_, noted) in &mut inner.watches {
                noted.merge(&list);
            }
            inner.version = inner.version.saturating_add(1);
        }
        self.keep_damage()
    }
}

fn unreadable(error: &Error) -> String {
    format!("what is known to be damaged cannot be read: {error}; run `cairn verify`")
}

/// Whether the index has a place of the chunk that is not listed.
fn has_good_place(index: &IndexSet, list: &DamageList, prefix: &[u8; 16]) -> bool {
    let mut id = ChunkId::NULL;
    for (to, from) in id.0.iter_mut().zip(prefix) {
        *to = *from;
    }
    // Only the first 16 bytes count for the index.
    let places = index.places(&id).unwrap_or_default();
    places.iter().any(|place| !list.has(prefix, place.pack))
}

#[cfg(test)]
mod tests;
