//! The first and last bytes of a device, which are written last.
//!
//! A restore to a device that is cut short leaves a mixture of old and new data. Its partition tables and boot code must not make a disk of that: so
//! they are gone before anything else is written, and come back when all of it is on stable storage.

use cairn_base::units::to_u64;
use parking_lot::Mutex;
use std::ops::Range;

/// Bytes at either end: more than any partition table or boot loader before the first partition needs.
const EDGE: u64 = 1 << 20;

/// What is to be written at either end of a disk.
pub(super) struct Edges {
    parts: [Mutex<Vec<u8>>; 2],
    ranges: [Range<u64>; 2],
}

impl Edges {
    /// Of a disk of `size` bytes: zeros, until something is put there.
    pub(super) fn of(size: u64) -> Edges {
        let head = 0..size.min(EDGE);
        let tail = size.saturating_sub(EDGE).max(head.end)..size;
        let zeros = |range: &Range<u64>| {
            let length = range.end.saturating_sub(range.start);
            Mutex::new(vec![0; usize::try_from(length).unwrap_or(0)])
        };
        Edges {
            parts: [zeros(&head), zeros(&tail)],
            ranges: [head, tail],
        }
    }

    /// Where they are.
    pub(super) fn ranges(&self) -> &[Range<u64>; 2] {
        &self.ranges
    }

    /// The part of `range` between them.
    pub(super) fn between(&self, range: &Range<u64>) -> Range<u64> {
        let [head, tail] = &self.ranges;
        let start = range.start.clamp(head.end, tail.start);
        start..range.end.clamp(start, tail.start)
    }

    /// Keeps what of `length` bytes at `offset` lies in them; `copy` is told the part of the caller's bytes and where it goes.
    pub(super) fn keep(&self, offset: u64, length: usize, copy: &dyn Fn(Range<usize>, &mut [u8])) {
        let end = offset.saturating_add(to_u64(length));
        for (part, range) in self.parts.iter().zip(&self.ranges) {
            let shared = offset.max(range.start)..end.min(range.end);
            if shared.is_empty() {
                continue;
            }
            let within =
                |at: u64, start: u64| usize::try_from(at.saturating_sub(start)).unwrap_or(0);
            let to = within(shared.start, range.start)..within(shared.end, range.start);
            let from = within(shared.start, offset)..within(shared.end, offset);
            if let Some(to) = part.lock().get_mut(to) {
                copy(from, to);
            }
        }
    }

    /// Their offsets and bytes.
    pub(super) fn into_parts(self) -> impl Iterator<Item = (u64, Vec<u8>)> {
        let starts = self.ranges.map(|range| range.start);
        starts.into_iter().zip(self.parts.map(Mutex::into_inner))
    }
}
