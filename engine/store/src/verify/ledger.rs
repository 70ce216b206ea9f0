//! What a verification has proven so far, and how that becomes durable: now and then while it runs, and at its end.

use crate::index::PackRow;
use crate::layout::PUBLISH_LOCK;
use crate::proof::Proofs;
use crate::session::patient_lock;
use crate::store::Store;
use cairn_base::{LockMode, PackId, Result, Time};
use parking_lot::Mutex;
use std::collections::HashSet;

/// After so many bytes of packs what was proven is written down: a process that is killed loses no more work than this.
const KEEP_AFTER: u64 = 64 << 30;

/// What was found since it was last written down.
#[derive(Default)]
struct News {
    proven: Vec<(PackId, Time, bool)>,
    damaged: Vec<PackId>,
    met: Vec<(PackId, Time)>,
    bytes: u64,
}

/// Collects what the threads of a verification find.
pub struct Ledger<'a> {
    store: &'a Store,
    news: Mutex<News>,
}

impl<'a> Ledger<'a> {
    /// Of packs of this store.
    pub fn new(store: &'a Store) -> Ledger<'a> {
        Ledger {
            store,
            news: Mutex::default(),
        }
    }

    /// All of a pack was read, beginning at `at`, and is good; `decoded` if that includes its chunks.
    pub fn proven(&self, row: &PackRow, at: Time, decoded: bool) {
        let due = {
            let mut news = self.news.lock();
            news.proven.push((row.id, at, decoded));
            news.bytes = news.bytes.saturating_add(row.length);
            let due = news.bytes >= KEEP_AFTER;
            if due {
                news.bytes = 0;
            }
            due
        };
        if due {
            // If somebody publishes just now, or the media are read-only, the next time or the end will do.
            let _later = self.keep(false);
        }
    }

    /// These packs wait for their turn since `at`, unless more is known of them.
    pub fn met(&self, packs: &[PackId], at: Time) {
        let packs = packs.iter().map(|pack| (*pack, at));
        self.news.lock().met.extend(packs);
    }

    /// Something is wrong with a pack: what was said of it before does not count any more.
    pub fn damaged(&self, pack: PackId) {
        self.news.lock().damaged.push(pack);
    }

    /// Makes what was found durable, and drops what the record says of packs that are not live any more. Without `wait` nothing happens while
    /// somebody publishes.
    ///
    /// # Errors
    /// As the folder reports; what was found is kept for the next call.
    pub fn keep(&self, wait: bool) -> Result<()> {
        if self.news.lock().is_empty() {
            return Ok(());
        }
        let folder = &**self.store.folder();
        let _publish = if wait {
            patient_lock(folder)?
        } else {
            match folder.lock(PUBLISH_LOCK, LockMode::Exclusive, false)? {
                Some(lock) => lock,
                None => return Ok(()),
            }
        };
        self.store.refresh()?;
        let live: HashSet<PackId> = self.store.live_packs().iter().map(|row| row.id).collect();
        let mut proofs = match Proofs::read(folder) {
            Ok(proofs) => proofs,
            Err(error) if !error.is_momentary() => Proofs::default(),
            // A newer version, or a disk that fails for the moment: nothing is written over that.
            Err(error) => return Err(error),
        };
        let news = std::mem::take(&mut *self.news.lock());
        for (pack, at, decoded) in &news.proven {
            proofs.prove(*pack, *at, *decoded);
        }
        for (pack, at) in &news.met {
            proofs.meet(*pack, *at);
        }
        for pack in &news.damaged {
            proofs.forget(*pack);
        }
        proofs.retain(|pack| live.contains(pack));
        let written = proofs.write(folder);
        if written.is_err() {
            self.news.lock().put_back(news);
        }
        written
    }
}

impl News {
    fn is_empty(&self) -> bool {
        self.proven.is_empty() && self.damaged.is_empty() && self.met.is_empty()
    }

    fn put_back(&mut self, before: News) {
        self.proven.extend(before.proven);
        self.damaged.extend(before.damaged);
        self.met.extend(before.met);
    }
}
