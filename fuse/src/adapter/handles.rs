//! What is open.

use crate::failure::{Failure, Result};
use fuser::FileHandle;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is open, by the number that the kernel was given for it. As many as the kernel has open.
pub(super) struct Handles<T> {
    open: RwLock<HashMap<u64, Arc<T>>>,
    next: AtomicU64,
}

impl<T> Default for Handles<T> {
    fn default() -> Handles<T> {
        Handles {
            open: RwLock::new(HashMap::new()),
            next: AtomicU64::new(1),
        }
    }
}

impl<T> Handles<T> {
    pub(super) fn add(&self, what: T) -> FileHandle {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.write().insert(number, Arc::new(what));
        FileHandle(number)
    }

    pub(super) fn get(&self, handle: FileHandle) -> Result<Arc<T>> {
        self.open
            .read()
            .get(&handle.0)
            .cloned()
            .ok_or(Failure::Stale)
    }

    pub(super) fn remove(&self, handle: FileHandle) {
        let closed = self.open.write().remove(&handle.0);
        // Closing may take a while: not under the lock.
        drop(closed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_forgotten_when_closed() {
        let handles = Handles::default();
        let one = handles.add("one");
        let two = handles.add("two");
        assert_eq!(*handles.get(one).unwrap(), "one");
        handles.remove(one);
        assert!(matches!(handles.get(one), Err(Failure::Stale)));
        assert_eq!(*handles.get(two).unwrap(), "two");
        assert_eq!(handles.open.read().len(), 1);
    }
}
