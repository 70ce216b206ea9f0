//! What keeps points open while the kernel knows of something in them.
//!
//! Where files are not opened (the kernel was told once that it need not ask), nobody says when a file is closed. So a point stays open as
//! long as the kernel remembers any number that it was told of the point, which it counts and says when it forgets. It forgets
//! when memory is short, or when it is asked to: what is in use it keeps even then. Only points are counted, never files.

use crate::failure::Result;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::Sender;

/// Points held before the kernel is asked to forget one: as many as are kept open besides.
const POINTS: usize = 16;

/// The points of which the kernel knows something, by their slots.
pub struct Holds<T> {
    state: Mutex<State<T>>,
    /// The thread that asks.
    thread: AtomicU32,
}

struct State<T> {
    held: HashMap<u32, Hold<T>>,
    clock: u64,
    /// Hears of points that should be forgotten.
    asker: Option<Sender<u32>>,
}

struct Hold<T> {
    /// None as long as it need not be open.
    point: Option<Arc<T>>,
    /// Numbers that the kernel was told and has not forgotten, each as often as it was told.
    known: u64,
    /// When something of it was last asked for, or the kernel was asked to forget it, by the clock of requests.
    used: u64,
}

impl<T> Default for Holds<T> {
    fn default() -> Holds<T> {
        Holds {
            state: Mutex::new(State {
                held: HashMap::new(),
                clock: 0,
                asker: None,
            }),
            thread: AtomicU32::new(0),
        }
    }
}

impl<T> Holds<T> {
    /// From now on `asker` hears of points that the kernel should be asked to forget.
    pub fn listen(&self, asker: Sender<u32>) {
        self.state.lock().asker = Some(asker);
    }

    /// The thread that asks, as the kernel numbers it.
    pub fn asks_from(&self, thread: rustix::thread::Pid) {
        let number = u32::try_from(thread.as_raw_nonzero().get()).unwrap_or(0);
        self.thread.store(number, Ordering::Relaxed);
    }

    /// Whether this thread, as the kernel numbers it, is the one that asks.
    pub fn is_asker(&self, thread: u32) -> bool {
        thread != 0 && thread == self.thread.load(Ordering::Relaxed)
    }

    /// The kernel knows of nothing any more, and is not to be asked.
    pub fn end(&self) {
        let mut state = self.state.lock();
        state.asker = None;
        let ended = mem::take(&mut state.held);
        // Closing may take a while: not under the lock.
        drop(state);
        drop(ended);
        self.thread.store(0, Ordering::Relaxed);
    }

    /// The kernel is about to be told a number in the point with this slot, and will ask again before it uses it for long.
    pub fn told(&self, slot: u32) {
        let mut state = self.state.lock();
        let hold = state.held.entry(slot).or_insert(Hold {
            point: None,
            known: 0,
            used: 0,
        });
        hold.known = hold.known.saturating_add(1);
    }

    /// Keeps the point open while the kernel knows of something in it. `open` opens it if that is not so already.
    ///
    /// # Errors
    /// What `open` reports.
    pub fn keep(&self, slot: u32, open: impl FnOnce() -> Result<Arc<T>>) -> Result<()> {
        match self.state.lock().touch(slot) {
            // Nothing is known of it: nothing would end it.
            None | Some(true) => return Ok(()),
            Some(false) => {}
        }
        // Not under the lock: it may take a while.
        let point = open()?;
        let mut state = self.state.lock();
        let Some(hold) = state.held.get_mut(&slot) else {
            return Ok(());
        };
        let before = hold.point.replace(point);
        if before.is_none() {
            state.ask();
        }
        drop(state);
        drop(before);
        Ok(())
    }

    /// The kernel has forgotten numbers in the point, so many tellings of them. Gives back the point if it is held no longer: closing it may take a while.
    #[must_use]
    pub fn forgotten(&self, slot: u32, tellings: u64) -> Option<Arc<T>> {
        let mut state = self.state.lock();
        let hold = state.held.get_mut(&slot)?;
        hold.known = hold.known.saturating_sub(tellings);
        if hold.known > 0 {
            return None;
        }
        state.held.remove(&slot)?.point
    }

    /// Whether the kernel knows of something in the point with this slot.
    pub fn has(&self, slot: u32) -> bool {
        self.state.lock().held.contains_key(&slot)
    }

    /// The slots of those beyond the number to be kept, which the kernel should be asked to forget: those not used for longest.
    pub fn beyond(&self) -> Vec<u32> {
        let mut state = self.state.lock();
        let excess = state.open().count().saturating_sub(POINTS);
        (0..excess).filter_map(|_| state.next()).collect()
    }

    /// The slots of all points of which it does.
    pub fn slots(&self) -> Vec<u32> {
        self.state.lock().held.keys().copied().collect()
    }

    /// The point, while it is held.
    pub fn point(&self, slot: u32) -> Option<Arc<T>> {
        let state = self.state.lock();
        state.held.get(&slot)?.point.clone()
    }
}

impl<T> State<T> {
    /// Says whether the point is kept open; nothing if nothing is known of it.
    fn touch(&mut self, slot: u32) -> Option<bool> {
        self.clock = self.clock.saturating_add(1);
        let hold = self.held.get_mut(&slot)?;
        hold.used = self.clock;
        Some(hold.point.is_some())
    }

    fn open(&self) -> impl Iterator<Item = (&u32, &Hold<T>)> + Clone {
        self.held.iter().filter(|(_, hold)| hold.point.is_some())
    }

    /// The one that was not used for longest. If the kernel cannot forget it, it is the turn of others.
    fn next(&mut self) -> Option<u32> {
        let oldest = self.open().min_by_key(|(_, hold)| hold.used);
        let slot = oldest.map(|(slot, _)| *slot)?;
        self.touch(slot);
        Some(slot)
    }

    /// Has the kernel asked to forget one, if there are too many.
    fn ask(&mut self) {
        if self.open().count() <= POINTS {
            return;
        }
        if let (Some(slot), Some(asker)) = (self.next(), &self.asker) {
            // If nobody listens, the mount is at its end.
            let _ = asker.send(slot);
        }
    }
}

#[cfg(test)]
mod tests;
