//! Memory for requests and replies, of all connections of a server together.

use parking_lot::{Condvar, Mutex};

/// Bytes of all connections.
const MAX_ALL: u64 = 128 << 20;
/// A connection with nothing else in flight need not wait for this many: clients that take no replies cannot keep others from going on.
const ALWAYS: u64 = 2 << 20;

/// What is taken of the memory.
#[derive(Default)]
pub(super) struct Budget {
    state: Mutex<State>,
    room: Condvar,
}

#[derive(Default)]
struct State {
    bytes: u64,
    is_closed: bool,
}

/// A part of the memory, given back when it is dropped.
pub(super) struct Claim<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut state = self.budget.state.lock();
        state.bytes = state.bytes.saturating_sub(self.bytes);
        drop(state);
        self.budget.room.notify_all();
    }
}

impl Budget {
    /// Waits until there is room. `is_alone` tells, each time somebody else is done, whether nothing else of this connection is in flight; `None` if the
    /// connection is over. `None` if it is, or the server ends.
    pub(super) fn claim(
        &self,
        bytes: u64,
        is_alone: impl Fn() -> Option<bool>,
    ) -> Option<Claim<'_>> {
        let mut state = self.state.lock();
        loop {
            let is_alone = is_alone()?;
            if state.is_closed {
                return None;
            }
            let is_free = bytes == 0 || is_alone && bytes <= ALWAYS;
            if is_free || state.bytes.saturating_add(bytes) <= MAX_ALL {
                state.bytes = state.bytes.saturating_add(bytes);
                return Some(Claim {
                    budget: self,
                    bytes,
                });
            }
            self.room.wait(&mut state);
        }
    }

    /// Has those who wait look again whether theirs is over.
    pub(super) fn wake(&self) {
        // Whoever has looked, and does not wait yet, holds the lock.
        drop(self.state.lock());
        self.room.notify_all();
    }

    /// The server ends: nobody gets anything any more.
    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
        self.room.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn what_is_taken_comes_back_and_who_waits_can_be_sent_home() {
        let budget = Budget::default();
        let most = budget.claim(MAX_ALL, || Some(false)).unwrap();
        // Small ones of those who have nothing else, and what takes nothing.
        let small = budget.claim(ALWAYS, || Some(true)).unwrap();
        assert!(budget.claim(0, || Some(false)).is_some());
        assert_eq!(budget.state.lock().bytes, MAX_ALL + ALWAYS);
        drop(small);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let gone = scope.spawn(|| {
                let is_alone = || (!over.load(Ordering::SeqCst)).then_some(false);
                budget.claim(ALWAYS, is_alone).is_some()
            });
            over.store(true, Ordering::SeqCst);
            budget.wake();
            assert!(!gone.join().unwrap());
            let waits = scope.spawn(|| budget.claim(MAX_ALL, || Some(true)).is_some());
            drop(most);
            assert!(waits.join().unwrap());
        });
        assert_eq!(budget.state.lock().bytes, 0);
        budget.close();
        assert!(budget.claim(0, || Some(true)).is_none());
    }
}
