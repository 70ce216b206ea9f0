//! A bit for each unit of a part of a file. To set what is set already costs next to nothing: however often the same long range is claimed, and
//! wherever, all claims together take the time of the bits they newly set and a few steps each.

use std::ops::Range;

/// Bits of a word.
const WORD: u64 = 64;
/// Bits of a group: what is stepped over at once where all are set.
const GROUP: u64 = 1024;

/// Bits that are set and never cleared but all at once.
#[derive(Default)]
pub(super) struct Units {
    words: Vec<u64>,
    /// For each group, itself, or, if all its bits are set, a group behind it with none in between that is not: the forest of a union-find.
    next: Vec<u32>,
    /// No bit is set.
    is_clear: bool,
}

impl Units {
    /// Forgets all bits; from now on there are `count`, at most 2^32. What lies behind them is left out of every range. To forget nothing costs nothing.
    pub(super) fn clear(&mut self, count: u64) {
        let words = usize::try_from(count.div_ceil(WORD)).unwrap_or(0);
        if self.is_clear && self.words.len() == words {
            return;
        }
        self.is_clear = true;
        self.words.clear();
        self.words.resize(words, 0);
        self.next.clear();
        let groups = u32::try_from(count.div_ceil(GROUP)).unwrap_or(0);
        self.next.extend(0..=groups);
    }

    /// Whether a bit of `range` is set. If none is, as many words as the range has are looked at.
    pub(super) fn is_any_set(&self, range: Range<u64>) -> bool {
        let mut parts = self.parts(range);
        !self.is_clear
            && parts.any(|(word, mask)| self.words.get(word).is_some_and(|bits| bits & mask != 0))
    }

    /// How many bits of `range` are set.
    pub(super) fn count(&self, range: Range<u64>) -> u64 {
        if self.is_clear {
            return 0;
        }
        let counts = self.parts(range).map(|(word, mask)| {
            let bits = self.words.get(word).copied().unwrap_or(0);
            u64::from((bits & mask).count_ones())
        });
        counts.fold(0, u64::saturating_add)
    }

    /// Sets all bits of `range`, and answers how many groups it had to look at.
    pub(super) fn set(&mut self, range: Range<u64>) -> u64 {
        let mut group = self.open_group(range.start / GROUP);
        let mut looked = 0u64;
        while group.saturating_mul(GROUP) < range.end.min(self.room()) {
            looked = looked.saturating_add(1);
            let whole = group.saturating_mul(GROUP)..group.saturating_add(1).saturating_mul(GROUP);
            let part = range.start.max(whole.start)..range.end.min(whole.end);
            for (word, mask) in self.parts(part.clone()) {
                if let Some(bits) = self.words.get_mut(word) {
                    self.is_clear = false;
                    *bits |= mask;
                }
            }
            let behind = group.saturating_add(1);
            if part == whole {
                self.follow(group, behind);
            }
            group = self.open_group(behind);
        }
        looked
    }

    /// Bits there are, rounded up to whole words.
    fn room(&self) -> u64 {
        cairn_base::units::to_u64(self.words.len()).saturating_mul(WORD)
    }

    /// The first group from `group` on that is not known to be set as a whole.
    fn open_group(&mut self, group: u64) -> u64 {
        let mut group = group;
        loop {
            let next = self.next_of(group);
            if next <= group {
                return group;
            }
            let far = self.next_of(next);
            // Halves the way for those who come later.
            self.follow(group, far.max(next));
            group = next;
        }
    }

    fn next_of(&self, group: u64) -> u64 {
        let next = usize::try_from(group).ok().and_then(|at| self.next.get(at));
        next.map_or(group, |next| u64::from(*next))
    }

    fn follow(&mut self, group: u64, next: u64) {
        let at = usize::try_from(group).ok();
        let slot = at.and_then(|at| self.next.get_mut(at));
        if let (Some(slot), Ok(next)) = (slot, u32::try_from(next)) {
            *slot = next;
        }
    }

    /// The words that `range` touches, each with a mask of its own bits.
    fn parts(&self, range: Range<u64>) -> impl Iterator<Item = (usize, u64)> + use<> {
        let end = range.end.min(self.room());
        let first = range.start.min(end);
        let words = first / WORD..end.div_ceil(WORD).max(first / WORD);
        words.filter_map(move |word| {
            let start = word.saturating_mul(WORD);
            let from = first.saturating_sub(start);
            let to = end.saturating_sub(start).min(WORD);
            let below = |count: u64| match u32::try_from(count).ok().filter(|count| *count < 64) {
                Some(count) => 1u64.unbounded_shl(count).wrapping_sub(1),
                None => u64::MAX,
            };
            Some((usize::try_from(word).ok()?, below(to) & !below(from)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_set_is_stepped_over() {
        let mut units = Units::default();
        units.clear(1 << 26);
        assert!(units.set(0..1 << 26) >= (1 << 26) / GROUP);
        for start in 0..1000 {
            assert!(units.set(start..1 << 26) < 3, "from {start}");
        }
        // Behind the end there is nothing.
        assert_eq!(units.set(1 << 26..1 << 40), 0);
        assert!(!units.is_any_set(1 << 26..u64::MAX));
    }

    proptest! {
        #[test]
        fn as_one_by_one(
            count in 1u64..20_000,
            ranges in prop::collection::vec((0u64..21_000, 0u64..9_000), 1..60),
        ) {
            let mut units = Units::default();
            units.clear(count);
            let room = count.next_multiple_of(WORD);
            let mut plain = vec![false; usize::try_from(room).unwrap()];
            for (start, length) in ranges {
                let range = start..start + length;
                let of = |bit: u64| usize::try_from(bit.min(room)).unwrap();
                let part = of(range.start)..of(range.end);
                let set = plain[part.clone()].iter().filter(|bit| **bit).count();
                prop_assert_eq!(units.count(range.clone()), cairn_base::units::to_u64(set));
                prop_assert_eq!(units.is_any_set(range.clone()), set > 0);
                units.set(range);
                plain[part].fill(true);
            }
            let all = plain.iter().filter(|bit| **bit).count();
            prop_assert_eq!(units.count(0..u64::MAX), cairn_base::units::to_u64(all));
        }
    }
}
