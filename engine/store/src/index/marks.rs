//! What was checked already, a bit each, so that a page of a mapped segment is checksummed once in the life of a process.
//!
//! Why that is sound. A segment is never changed, so what was good stays good, but for two cases:
//! - The disk fails to read a page that was dropped from memory. Then there are zeros in its place, and the map says so
//!   ([`Pages::lost_pages`](cairn_base::Pages::lost_pages)). Look-ups ask it, and from then on check all they use.
//! - The disk gives back other bytes than before, and no error. An entry that leads to a wrong place is noticed,
//!   because every chunk is checked against its id. An entry that is gone is not; so before a page that was trusted is said not to
//!   hold a chunk, it is checked again. This costs little, as the filter keeps all but one in 256 absent ids away from the pages.
//!   That it is a filter that changes after it was checked remains. It makes a chunk look absent: an error for a reader, a
//!   chunk that is stored twice for a writer.
//!
//! What lives on is never copied on trust: merges and verifications check every page, by reading the file.

use std::sync::atomic::{AtomicU64, Ordering};

/// A set of numbers below a bound, shared by threads; it only grows.
pub struct Marks(Vec<AtomicU64>);

impl Marks {
    /// An empty set of numbers below `bound`, which the caller has bounded by the size of a file.
    pub fn new(bound: u64) -> Marks {
        let words = usize::try_from(bound.div_ceil(64)).unwrap_or(0);
        Marks((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    fn place(&self, number: u64) -> Option<(&AtomicU64, u64)> {
        let word = usize::try_from(number >> 6).ok()?;
        Some((self.0.get(word)?, 1 << (number & 63)))
    }

    /// Whether `number` is in it.
    pub fn has(&self, number: u64) -> bool {
        // What was checked was checked by reading it; nothing else was made ready, so no order is needed.
        self.place(number)
            .is_some_and(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0)
    }

    /// Puts `number` into it; whether it was not there before.
    pub fn set(&self, number: u64) -> bool {
        self.place(number)
            .is_some_and(|(word, bit)| word.fetch_or(bit, Ordering::Relaxed) & bit == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_put_in_and_nothing_else() {
        let marks = Marks::new(130);
        for number in [0, 63, 64, 129] {
            assert!(!marks.has(number));
            assert!(marks.set(number) && !marks.set(number));
        }
        let there: Vec<u64> = (0..200).filter(|n| marks.has(*n)).collect();
        assert_eq!(there, [0, 63, 64, 129]);
        assert!(!marks.set(u64::MAX));
        assert!(!marks.has(u64::MAX) && !Marks::new(0).has(0));
    }
}
