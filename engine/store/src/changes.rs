//! Change information: which parts of a disk may differ from what they were in an earlier point.

use cairn_base::{Error, Result};
use std::ops::Range;

/// Ranges kept at most of a disk, 24 bytes each. Where there are more, those that lie close together become one: that costs reading,
/// and nothing else.
const MAX_RANGES: usize = 1 << 18;
/// Gaps that are closed first when there are too many ranges, in bytes.
const FIRST_GAP: u64 = 64 << 10;

/// A range of a disk that may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Bytes of the disk; not empty.
    pub range: Range<u64>,
    /// Whether it is known to read as zeros now: then it is not read.
    pub zero: bool,
}

/// The changes of one disk since a point. Whatever lies outside is claimed to be as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    size: u64,
    /// Ascending, not overlapping, not empty.
    ranges: Vec<Change>,
}

impl Changes {
    /// The changes of a disk of `size` bytes, in any order; they may overlap.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) for a range that ends beyond the disk.
    pub fn new(size: u64, changes: impl IntoIterator<Item = Change>) -> Result<Changes> {
        let mut list = ChangeList::new(size);
        for change in changes {
            let Range { start, end } = change.range;
            list.add(start, end.saturating_sub(start), change.zero)?;
        }
        Ok(list.finish())
    }

    /// Size of the disk in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that may have changed.
    pub fn bytes(&self) -> u64 {
        let length = |change: &Change| change.range.end.saturating_sub(change.range.start);
        self.ranges.iter().map(length).sum()
    }

    /// The changes within `range`, cut to it, ascending.
    pub fn within(&self, range: Range<u64>) -> impl Iterator<Item = Change> + '_ {
        let first = self.first_behind(range.start);
        let touching = self.ranges.get(first..).unwrap_or_default().iter();
        touching
            .take_while(move |change| change.range.start < range.end)
            .map(move |change| Change {
                range: change.range.start.max(range.start)..change.range.end.min(range.end),
                zero: change.zero,
            })
    }

    /// The first byte at `offset` or behind it that may have changed.
    pub fn next(&self, offset: u64) -> Option<u64> {
        let change = self.ranges.get(self.first_behind(offset))?;
        Some(change.range.start.max(offset))
    }

    /// The first change that ends behind `offset`.
    fn first_behind(&self, offset: u64) -> usize {
        self.ranges
            .partition_point(|change| change.range.end <= offset)
    }
}

/// Collects changes; bounded memory, however many there are.
#[derive(Debug)]
pub struct ChangeList {
    size: u64,
    ranges: Vec<Change>,
    limit: usize,
}

impl ChangeList {
    /// For a disk of `size` bytes.
    pub fn new(size: u64) -> ChangeList {
        ChangeList {
            size,
            ranges: Vec::new(),
            limit: MAX_RANGES,
        }
    }

    /// Size of the disk in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a range; an empty one is nothing. A byte that is said to be zeros and to be something else counts as
    /// something else.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) for a range that ends beyond the disk.
    pub fn add(&mut self, start: u64, length: u64, zero: bool) -> Result<()> {
        let end = start.checked_add(length).filter(|end| *end <= self.size);
        let Some(end) = end else {
            return Err(Error::invalid(format!(
                "a changed range of {length} bytes ends beyond the disk of {} bytes",
                self.size
            ))
            .at_offset(start));
        };
        if length > 0 {
            let range = start..end;
            self.ranges.push(Change { range, zero });
        }
        if self.ranges.len() >= self.limit {
            self.join(0);
            // Half, so that this happens seldom.
            let mut gap = FIRST_GAP;
            while self.ranges.len() > self.limit / 2 {
                self.join(gap);
                gap = gap.saturating_mul(2);
            }
        }
        Ok(())
    }

    /// All of them, in order.
    pub fn finish(mut self) -> Changes {
        self.join(0);
        Changes {
            size: self.size,
            ranges: self.ranges,
        }
    }

    /// Brings the ranges in order and joins those that overlap, and those with at most `gap` bytes between them.
    fn join(&mut self, gap: u64) {
        self.ranges
            .sort_unstable_by_key(|change| change.range.start);
        self.ranges.dedup_by(|next, last| {
            let between = next.range.start.checked_sub(last.range.end);
            let joins = match between {
                None => true,
                Some(0) => gap > 0 || next.zero == last.zero,
                Some(between) => between <= gap,
            };
            if joins {
                // Nobody knows what stands in a gap.
                last.zero &= next.zero && between.is_none_or(|between| between == 0);
                last.range.end = last.range.end.max(next.range.end);
            }
            joins
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::Kind;
    use proptest::prelude::*;

    fn change(range: Range<u64>, zero: bool) -> Change {
        Change { range, zero }
    }

    #[test]
    fn they_come_in_order_and_joined() {
        let changes = Changes::new(
            1000,
            [
                change(500..600, false),
                change(0..10, false),
                change(10..20, false),
                change(20..30, true),
                change(600..600, true),
                change(550..700, true),
            ],
        )
        .unwrap();
        let all: Vec<_> = changes.within(0..1000).collect();
        let expected = [
            change(0..20, false),
            change(20..30, true),
            change(500..700, false),
        ];
        assert_eq!(all, expected);
        assert_eq!(changes.bytes(), 230);
        let part: Vec<_> = changes.within(15..501).collect();
        let expected = [
            change(15..20, false),
            change(20..30, true),
            change(500..501, false),
        ];
        assert_eq!(part, expected);
        assert_eq!(changes.within(30..500).count(), 0);
        assert_eq!(changes.next(0), Some(0));
        assert_eq!(changes.next(25), Some(25));
        assert_eq!(changes.next(30), Some(500));
        assert_eq!(changes.next(700), None);
    }

    #[test]
    fn beyond_the_end_is_refused() {
        for (start, length) in [(999, 2), (1001, 0), (u64::MAX, 1), (0, u64::MAX)] {
            let error = ChangeList::new(1000).add(start, length, false).unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid);
        }
        assert!(ChangeList::new(1000).add(999, 1, false).is_ok());
    }

    proptest! {
        #[test]
        fn too_many_become_fewer_and_none_is_forgotten(
            ranges in proptest::collection::vec((0u64..1 << 24, 1u64..5000, any::<bool>()), 1..300),
        ) {
            let size = 1 << 25;
            let mut few = ChangeList::new(size);
            few.limit = 8;
            let mut all = ChangeList::new(size);
            for (start, length, zero) in &ranges {
                few.add(*start, *length, *zero).unwrap();
                all.add(*start, *length, *zero).unwrap();
                prop_assert!(few.ranges.len() < 8);
            }
            let (few, all) = (few.finish(), all.finish());
            for change in all.within(0..size) {
                let covered: Vec<_> = few.within(change.range.clone()).collect();
                let data = !change.zero;
                prop_assert_eq!(covered.iter().map(|c| c.range.end - c.range.start).sum::<u64>(),
                    change.range.end - change.range.start);
                // What may be data is never called zeros.
                prop_assert!(!data || covered.iter().all(|c| !c.zero));
            }
            let ends: Vec<_> = all.within(0..size).map(|c| c.range).collect();
            prop_assert!(ends.windows(2).all(|pair| pair[0].end <= pair[1].start));
        }
    }
}
