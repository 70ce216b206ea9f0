//! The model checker's locks under the names of those that the product uses. There is no time: who waits for a while waits until he
//! is woken, or, where that is asked for, loses his patience at any moment.

use shuttle::rand::{Rng, thread_rng};
pub use shuttle::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::ops::{Deref, DerefMut};
use std::time::Duration;

shuttle::thread_local! {
    static IMPATIENT: std::cell::Cell<bool> = std::cell::Cell::new(false);
}

/// From now on this thread's waiting may end without a reason.
pub fn be_impatient() {
    IMPATIENT.with(|impatient| impatient.set(true));
}

fn loses_patience() -> bool {
    IMPATIENT.with(std::cell::Cell::get) && thread_rng().gen_range(0..4) == 0
}

#[derive(Default)]
pub struct Mutex<T>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub fn new(value: T) -> Mutex<T> {
        Mutex(shuttle::sync::Mutex::new(value))
    }

    pub fn lock(&self) -> Guard<'_, T> {
        Guard(Some(self.0.lock().unwrap()))
    }
}

/// Empty only while it waits.
pub struct Guard<'a, T>(Option<shuttle::sync::MutexGuard<'a, T>>);

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().unwrap()
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().unwrap()
    }
}

#[derive(Default)]
pub struct Condvar(shuttle::sync::Condvar);

impl Condvar {
    pub fn new() -> Condvar {
        Condvar(shuttle::sync::Condvar::new())
    }

    pub fn wait<T>(&self, guard: &mut Guard<'_, T>) {
        let inner = guard.0.take().unwrap();
        guard.0 = Some(self.0.wait(inner).unwrap());
    }

    pub fn wait_for<T>(&self, guard: &mut Guard<'_, T>, _at_most: Duration) {
        if !loses_patience() {
            self.wait(guard);
        }
    }

    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

pub struct Instant;

impl Instant {
    pub fn now() -> Instant {
        Instant
    }

    pub fn elapsed(&self) -> Duration {
        Duration::from_secs(if loses_patience() { 3600 } else { 0 })
    }
}
