//! Ranges of bytes laid over each other, each step in the order of their starts.

use std::ops::Range;

/// A lost range and the number of the damage that names it.
pub(super) type Lost = (Range<u64>, usize);

/// More ranges than this are not kept apart: those that lie closest together are joined.
const MAX_APART: usize = 1 << 20;

/// What both have.
pub(super) fn shared(a: &Range<u64>, b: &Range<u64>) -> Range<u64> {
    let start = a.start.max(b.start);
    start..a.end.min(b.end).max(start)
}

fn length(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}

/// How long they are together.
pub(super) fn bytes(lost: &[Lost]) -> u64 {
    let lengths = lost.iter().map(|(range, _)| length(range));
    lengths.fold(0, u64::saturating_add)
}

/// Those of `lost`, ascending and apart, that `range` touches: the first of them, and how many.
pub(super) fn touched<'a>(lost: &'a [Lost], range: &Range<u64>) -> &'a [Lost] {
    let first = lost.partition_point(|(lost, _)| lost.end <= range.start);
    let rest = lost.get(first..).unwrap_or_default();
    let count = rest.partition_point(|(lost, _)| lost.start < range.end);
    rest.get(..count).unwrap_or_default()
}

/// What of the lost ranges, ascending and apart, lies in none of `others`, which are so too.
pub(super) fn without(lost: &[Lost], others: &[Range<u64>]) -> Vec<Lost> {
    let mut rest = Vec::new();
    let mut others = others.iter().peekable();
    for (range, number) in lost {
        let mut at = range.start;
        while let Some(other) = others.peek() {
            if other.start >= range.end {
                break;
            }
            if other.start > at {
                rest.push((at..other.start, *number));
            }
            at = at.max(other.end);
            // It may reach into the next lost range.
            if other.end > range.end {
                break;
            }
            others.next();
        }
        if at < range.end {
            rest.push((at..range.end, *number));
        }
    }
    rest
}

/// A set of bytes, as ranges; told in any order, in bounded memory.
#[derive(Default)]
pub(super) struct Covered {
    ranges: Vec<Range<u64>>,
    /// How many there were after they were last joined.
    joined: usize,
}

impl Covered {
    /// Adds a range.
    pub fn add(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        if let Some(last) = self.ranges.last_mut()
            && last.end == range.start
        {
            last.end = range.end;
            return;
        }
        self.ranges.push(range);
        if self.ranges.len() > self.joined.saturating_mul(2).max(1024) {
            self.join();
        }
    }

    /// All of them, ascending and apart.
    pub fn ranges(&mut self) -> &[Range<u64>] {
        self.join();
        &self.ranges
    }

    fn join(&mut self) {
        self.ranges.sort_unstable_by_key(|range| range.start);
        let mut gap = 0u64;
        loop {
            let mut joined: Vec<Range<u64>> = Vec::new();
            for range in &self.ranges {
                match joined.last_mut() {
                    Some(last) if range.start <= last.end.saturating_add(gap) => {
                        last.end = last.end.max(range.end);
                    }
                    _ => joined.push(range.clone()),
                }
            }
            self.ranges = joined;
            if self.ranges.len() <= MAX_APART {
                break;
            }
            gap = gap.saturating_mul(2).max(4096);
        }
        self.joined = self.ranges.len();
    }
}

/// How much of each lost range holds nothing.
pub(super) struct Unused<'a> {
    lost: &'a [Lost],
    /// Bytes, in the order of the ranges.
    free: Vec<u64>,
}

impl<'a> Unused<'a> {
    /// Of these ranges, ascending and apart; none of them, so far.
    pub fn of(lost: &'a [Lost]) -> Unused<'a> {
        Unused {
            lost,
            free: vec![0; lost.len()],
        }
    }

    /// A range holds nothing.
    pub fn add(&mut self, range: &Range<u64>) {
        let first = self
            .lost
            .partition_point(|(lost, _)| lost.end <= range.start);
        let here = self.lost.iter().zip(&mut self.free).skip(first);
        for ((lost, _), free) in here.take_while(|((lost, _), _)| lost.start < range.end) {
            let more = length(&shared(lost, range));
            *free = free.saturating_add(more).min(length(lost));
        }
    }

    /// What holds nothing, and then what does: bytes, and the numbers of the damages.
    pub fn split(&self) -> [(u64, Vec<usize>); 2] {
        let mut unused = (0u64, Vec::new());
        let mut used = (0u64, Vec::new());
        for ((range, number), free) in self.lost.iter().zip(&self.free) {
            let rest = length(range).saturating_sub(*free);
            for (part, bytes) in [(&mut unused, *free), (&mut used, rest)] {
                if bytes > 0 {
                    part.0 = part.0.saturating_add(bytes);
                    part.1.push(*number);
                }
            }
        }
        [unused, used]
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_taken_out_of_ranges() {
        let rest = |others: &[Range<u64>]| {
            let lost = without(&[(10..20, 7), (20..30, 8), (40..50, 9)], others);
            lost.into_iter()
                .map(|(range, number)| (range.start, range.end, number))
                .collect::<Vec<_>>()
        };
        let all = [(10, 20, 7), (20, 30, 8), (40, 50, 9)];
        assert_eq!(rest(&[]), all);
        assert_eq!(rest(&[0..10, 30..40, 50..60]), all);
        assert_eq!(
            rest(&[0..12, 13..15, 18..22, 45..46]),
            [
                (12, 13, 7),
                (15, 18, 7),
                (22, 30, 8),
                (40, 45, 9),
                (46, 50, 9)
            ]
        );
        assert_eq!(rest(&[5..45]), [(45, 50, 9)]);
        assert!(rest(&[5..60]).is_empty());
        assert_eq!(rest(&[10..20, 25..41]), [(20, 25, 8), (41, 50, 9)]);
    }

    #[test]
    fn what_is_covered_is_the_same_in_any_order_and_bounded() {
        let mut covered = Covered::default();
        for n in (0..5000u64).rev() {
            covered.add(n * 10..n * 10 + 5);
            covered.add(n * 10 + 3..n * 10 + 6);
        }
        assert_eq!(covered.ranges().len(), 5000);
        assert_eq!(covered.ranges()[7], 70..76);
        for n in 0..5000u64 {
            covered.add(n * 10 + 5..n * 10 + 11);
        }
        assert_eq!(covered.ranges(), [0..50_001]);
        let mut many = Covered::default();
        let count = MAX_APART as u64 * 2;
        (0..count).for_each(|n| many.add(n * 8192..n * 8192 + 1));
        assert!(many.ranges().len() <= MAX_APART);
        assert!(many.ranges.capacity() < MAX_APART * 4);
    }

    #[test]
    fn many_lost_ranges_and_many_free_ones_are_laid_over_each_other() {
        let lost: Vec<Lost> = (0..300_000u64)
            .map(|n| (n * 100..n * 100 + 60, n as usize))
            .collect();
        let others: Vec<Range<u64>> = (0..600_000).map(|n| n * 50 + 10..n * 50 + 20).collect();
        let rest = without(&lost, &others);
        assert_eq!(bytes(&rest), 300_000 * 50);
        let mut unused = Unused::of(&lost);
        others.iter().for_each(|range| unused.add(range));
        let [free, used] = unused.split();
        assert_eq!((free.0, free.1.len()), (300_000 * 10, 300_000));
        assert_eq!(used.0, 300_000 * 50);
        assert_eq!(touched(&lost, &(130..250)).len(), 2);
        assert!(touched(&lost, &(60..100)).is_empty());
    }
}
