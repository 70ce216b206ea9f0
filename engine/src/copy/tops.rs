//! What was named itself, to know when two paths meet at the target.

use crate::copy::item::Item;
use crate::copy::name::{folded, join};
use cairn_guest::{EntryId, Volume};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// A path, and what went there: the address of its volume, and which entry.
type Given = (Vec<u8>, usize, EntryId);

const LOWEST: EntryId = EntryId { tree: 0, number: 0 };

/// What was named itself.
#[derive(Default)]
pub struct Tops {
    /// Paths that were begun since everything was done, in small letters: the target may not care for case.
    begun: HashSet<Vec<u8>>,
    /// What lies above them.
    above: HashSet<Vec<u8>>,
    given: BTreeSet<Given>,
    /// Folders that were made because something below them is named.
    own: HashSet<Given>,
    /// Whether something that is given lies below the path that was begun last.
    below: bool,
}

impl Tops {
    /// How many paths were begun since everything was done.
    pub fn len(&self) -> usize {
        self.begun.len()
    }

    /// Whether a path is one of those that were begun, or lies below or above one: they must come one after the other.
    pub fn meets(&self, path: &[u8]) -> bool {
        let path = folded(path);
        self.above.contains(&path)
            || self.begun.contains(&path)
            || parents(&path).any(|parent| self.begun.contains(parent))
    }

    /// A path is begun.
    pub fn begin(&mut self, path: &[u8]) {
        let inside = join(path, b"");
        let next = self.given.range((inside.clone(), 0, LOWEST)..).next();
        self.below = next.is_some_and(|(path, ..)| path.starts_with(&inside));
        let path = folded(path);
        self.above.extend(parents(&path).map(<[u8]>::to_vec));
        self.begun.insert(path);
    }

    /// All of it was given.
    pub fn given(&mut self, volume: &Arc<dyn Volume>, id: EntryId, path: &[u8]) {
        self.given.insert((path.to_vec(), address(volume), id));
    }

    /// Whether an entry of the path that was begun last was given before, to the same place.
    pub fn has(&self, within: &[u8], name: &[u8], item: &Item) -> bool {
        let at = || (join(within, name), address(&item.volume), item.id);
        self.below && self.given.contains(&at())
    }

    /// A folder of the guest was made because something below it is named.
    pub fn make_own(&mut self, path: &[u8], item: &Item) {
        let own = (path.to_vec(), address(&item.volume), item.id);
        self.own.insert(own);
    }

    /// Whether it was.
    pub fn is_own(&self, path: &[u8], item: &Item) -> bool {
        let own = || (path.to_vec(), address(&item.volume), item.id);
        !self.own.is_empty() && self.own.contains(&own())
    }

    /// All of it is copied from now on: what comes to the same place later is another copy.
    pub fn fill_own(&mut self, path: &[u8], item: &Item) {
        let own = (path.to_vec(), address(&item.volume), item.id);
        self.own.remove(&own);
    }

    /// Everything is done.
    pub fn clear(&mut self) {
        self.begun.clear();
        self.above.clear();
    }

    /// The volumes may go, and their addresses with them.
    pub fn forget(&mut self) {
        self.given.clear();
        self.own.clear();
        self.below = false;
    }
}

fn address(volume: &Arc<dyn Volume>) -> usize {
    Arc::as_ptr(volume).cast::<()>().addr()
}

fn parents(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.filter_map(|(at, _)| path.get(..at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_meet_that_are_one_or_lie_in_one_another() {
        let mut tops = Tops::default();
        tops.begin(b"a/b/c");
        for (path, meets) in [
            ("a/b/c", true),
            ("A/b/C", true),
            ("a/b", true),
            ("a", true),
            ("a/b/c/d", true),
            ("a/b/d", false),
            ("a/b/cd", false),
            ("b", false),
        ] {
            assert_eq!(tops.meets(path.as_bytes()), meets, "{path}");
        }
        assert_eq!(tops.len(), 1);
        tops.clear();
        assert!(!tops.meets(b"a/b/c"));
    }
}
