//! Files in memory that fail, or of which a power cut leaves something.

use super::{Random, SECTOR};
use crate::Kind;
use crate::overlay::length;
use crate::overlay::scratch::Scratch;
use cairn_base::{Error, Result};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// Sectors of a file by their number.
type Sectors = HashMap<u64, [u8; SECTOR as usize]>;

fn put(sectors: &mut Sectors, offset: u64, new: &[u8]) {
    let (mut at, mut left) = (offset, new);
    while !left.is_empty() {
        let inside = (at % SECTOR) as usize;
        let (now, rest) = left.split_at(left.len().min(SECTOR as usize - inside));
        let sector = sectors.entry(at / SECTOR).or_insert([0; SECTOR as usize]);
        sector[inside..inside + now.len()].copy_from_slice(now);
        (at, left) = (at + now.len() as u64, rest);
    }
}

/// A file that can fail, and that knows what of it would be there after the power was cut.
pub(super) struct Memory {
    live: Mutex<Sectors>,
    durable: Mutex<Sectors>,
    /// Since the last sync: offset and bytes.
    pending: Mutex<Vec<(u64, Vec<u8>)>>,
    faults: Arc<Faults>,
}

/// What goes wrong, in all files of an overlay together.
#[derive(Default)]
pub(super) struct Faults {
    /// The write with this number, and all after it, fail; 0: none does.
    pub(super) full_at: AtomicU64,
    pub(super) writes: AtomicU64,
    pub(super) sync_fails: AtomicBool,
    pub(super) syncs: AtomicUsize,
    /// Before the call with this number the power is cut; 0: it is not.
    pub(super) cut_at: AtomicU64,
    pub(super) calls: AtomicU64,
    pub(super) files: Mutex<Vec<Weak<Memory>>>,
    /// The files as they are found after that.
    pub(super) found: Mutex<Vec<Arc<Memory>>>,
}

impl Faults {
    pub(super) fn file(self: &Arc<Faults>) -> Arc<Memory> {
        let file = Arc::new(Memory::of(Sectors::new(), self.clone()));
        self.files.lock().push(Arc::downgrade(&file));
        file
    }

    fn called(&self) {
        let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        if number == self.cut_at.load(Ordering::Relaxed) {
            let mut random = Random(number);
            let files = self.files.lock();
            let found = files
                .iter()
                .map(|file| file.upgrade().unwrap().after_crash(&mut random));
            *self.found.lock() = found.collect();
        }
    }
}

impl Memory {
    fn of(sectors: Sectors, faults: Arc<Faults>) -> Memory {
        Memory {
            live: Mutex::new(sectors.clone()),
            durable: Mutex::new(sectors),
            pending: Mutex::default(),
            faults,
        }
    }

    fn change(&self, offset: u64, new: &[u8]) {
        put(&mut self.live.lock(), offset, new);
        self.pending.lock().push((offset, new.to_vec()));
    }

    /// The file after the power was cut: any of the sectors that were not synced are as they were before.
    fn after_crash(&self, random: &mut Random) -> Arc<Memory> {
        let mut sectors = self.durable.lock().clone();
        let size = SECTOR as usize;
        for (offset, new) in self.pending.lock().iter() {
            for (at, sector) in (*offset..).step_by(size).zip(new.chunks(size)) {
                if random.next(2) == 0 {
                    put(&mut sectors, at, sector);
                }
            }
        }
        Arc::new(Memory::of(sectors, Arc::default()))
    }
}

impl Scratch for Memory {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let live = self.live.lock();
        let mut at = offset;
        let mut left = buffer;
        while !left.is_empty() {
            let inside = (at % SECTOR) as usize;
            let length = left.len().min(SECTOR as usize - inside);
            let (now, rest) = left.split_at_mut(length);
            match live.get(&(at / SECTOR)) {
                Some(sector) => now.copy_from_slice(&sector[inside..inside + length]),
                None => now.fill(0),
            }
            (at, left) = (at + length as u64, rest);
        }
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.faults.called();
        let number = self.faults.writes.fetch_add(1, Ordering::Relaxed) + 1;
        let full_at = self.faults.full_at.load(Ordering::Relaxed);
        if full_at > 0 && number >= full_at {
            // A part of it may be there.
            self.change(
                offset,
                &bytes[..bytes.len() / 2 / SECTOR as usize * SECTOR as usize],
            );
            return Err(Error::new(Kind::Full, "the scratch disk is full"));
        }
        self.change(offset, bytes);
        Ok(())
    }

    fn punch(&self, range: Range<u64>) {
        self.faults.called();
        self.change(range.start, &vec![0; length(&range)]);
    }

    fn sync(&self) -> Result<()> {
        self.faults.called();
        self.faults.syncs.fetch_add(1, Ordering::Relaxed);
        if self.faults.sync_fails.load(Ordering::Relaxed) {
            return Err(Error::new(Kind::Io, "the scratch disk is gone"));
        }
        let mut durable = self.durable.lock();
        for (offset, new) in self.pending.lock().drain(..) {
            put(&mut durable, offset, &new);
        }
        Ok(())
    }

    fn used(&self) -> u64 {
        0
    }
}
