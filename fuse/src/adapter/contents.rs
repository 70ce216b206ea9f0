//! What is read without having been opened.

use crate::failure::Result;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

/// Files of each of two generations.
const FILES: usize = 512;

/// The files read last, by their inode numbers, so that each read need not find the file's extents anew. When the younger of two generations is full, the older one goes.
pub(super) struct Contents<T> {
    generations: Mutex<Generations<T>>,
}

struct Generations<T> {
    young: HashMap<u64, Arc<T>>,
    old: HashMap<u64, Arc<T>>,
}

impl<T> Default for Contents<T> {
    fn default() -> Contents<T> {
        Contents {
            generations: Mutex::new(Generations {
                young: HashMap::new(),
                old: HashMap::new(),
            }),
        }
    }
}

impl<T> Contents<T> {
    /// The file with this number; `open` opens it if it was not read lately. It is open for the next as well if `lasts` says that it never changes.
    pub(super) fn get(
        &self,
        inode: u64,
        lasts: impl FnOnce(&T) -> bool,
        open: impl FnOnce() -> Result<T>,
    ) -> Result<Arc<T>> {
        if let Some(known) = self.known(inode) {
            return Ok(known);
        }
        // Not under the lock: it may take a while.
        let opened = Arc::new(open()?);
        if !lasts(&opened) {
            return Ok(opened);
        }
        let gone = self.generations.lock().add(inode, opened.clone());
        drop(gone);
        Ok(opened)
    }

    fn known(&self, inode: u64) -> Option<Arc<T>> {
        let mut generations = self.generations.lock();
        if let Some(known) = generations.young.get(&inode) {
            return Some(known.clone());
        }
        let known = generations.old.remove(&inode)?;
        let gone = generations.add(inode, known.clone());
        drop(generations);
        drop(gone);
        Some(known)
    }

    /// It will not be read again before it is looked up again. Gives back what is not kept open any more.
    #[must_use]
    pub(super) fn forget(&self, inode: u64) -> [Option<Arc<T>>; 2] {
        let mut generations = self.generations.lock();
        [
            generations.young.remove(&inode),
            generations.old.remove(&inode),
        ]
    }
}

impl<T> Generations<T> {
    /// Adds a file, and gives back what has to go for it.
    #[must_use]
    fn add(&mut self, inode: u64, file: Arc<T>) -> HashMap<u64, Arc<T>> {
        let mut gone = HashMap::new();
        if self.young.len() >= FILES {
            gone = mem::replace(&mut self.old, mem::take(&mut self.young));
        }
        self.young.insert(inode, file);
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;

    #[test]
    fn what_was_read_lately_is_not_opened_again() {
        let contents = Contents::default();
        let again = || Err(Failure::Stale);
        let files = u64::try_from(FILES).unwrap();
        for number in 0..files {
            contents.get(number, |_| true, || Ok(number)).unwrap();
        }
        // One more begins the second generation; what is read stays.
        for number in files..files * 3 {
            contents.get(number, |_| true, || Ok(number)).unwrap();
            assert_eq!(*contents.get(5, |_| true, again).unwrap(), 5);
        }
        assert!(contents.get(6, |_| true, again).is_err());
        drop(contents.forget(5));
        assert!(contents.get(5, |_| true, again).is_err());
        let generations = contents.generations.lock();
        assert!(generations.young.len() + generations.old.len() <= 2 * FILES);
    }

    #[test]
    fn what_changes_is_opened_anew() {
        let contents = Contents::default();
        for text in ["first", "second"] {
            let read = contents.get(1, |_| false, || Ok(text)).unwrap();
            assert_eq!((*read, Arc::strong_count(&read)), (text, 1));
        }
    }

    #[test]
    fn what_is_forgotten_is_closed() {
        let contents = Contents::default();
        let held = contents.get(1, |_| true, || Ok("one")).unwrap();
        assert_eq!(Arc::strong_count(&held), 2);
        drop(contents.forget(1));
        assert_eq!(Arc::strong_count(&held), 1);
        let failed: Result<Arc<&str>> = contents.get(1, |_| true, || Err(Failure::Invalid));
        assert!(failed.is_err() && contents.known(1).is_none());
    }
}
