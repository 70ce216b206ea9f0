//! How many walks through the points there may be at a time.

use parking_lot::{Condvar, Mutex};

/// Room for so many; others wait until one leaves.
pub struct Room {
    free: Mutex<usize>,
    left: Condvar,
}

/// One who is in, until it is dropped.
pub struct Guest<'a>(&'a Room);

impl Room {
    /// For so many.
    pub fn new(most: usize) -> Room {
        Room {
            free: Mutex::new(most),
            left: Condvar::new(),
        }
    }

    /// Waits for a place.
    pub fn enter(&self) -> Guest<'_> {
        let mut free = self.free.lock();
        loop {
            if let Some(rest) = free.checked_sub(1) {
                *free = rest;
                return Guest(self);
            }
            self.left.wait(&mut free);
        }
    }
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        let mut free = self.0.free.lock();
        *free = free.saturating_add(1);
        self.0.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    #[test]
    fn no_more_are_in_than_there_is_room_for() {
        let (room, inside, all) = (Room::new(2), AtomicUsize::new(0), AtomicUsize::new(0));
        let held = [room.enter(), room.enter()];
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let _guest = room.enter();
                        assert!(inside.fetch_add(1, Ordering::SeqCst) < 2);
                        thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        all.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            assert_eq!(all.load(Ordering::SeqCst), 0);
            drop(held);
        });
        assert_eq!(all.load(Ordering::SeqCst), 800);
        assert_eq!(*room.free.lock(), 2);
    }
}
