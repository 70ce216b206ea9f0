//! What of a disk was written, where the rest must be made zeros at the end.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Range;

/// Ranges of a disk, start to end. Neighbours are joined, so that it stays small when ranges come more or less in order.
#[derive(Default)]
pub(super) struct Covered(Mutex<BTreeMap<u64, u64>>);

impl Covered {
    pub(super) fn mark(&self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let mut done = self.0.lock();
        let (mut start, mut end) = (range.start, range.end);
        // The one that reaches up to the start, and all that begin up to the end.
        if let Some((&before, &its_end)) = done.range(..=start).next_back()
            && its_end >= start
        {
            start = before;
            end = end.max(its_end);
        }
        while let Some((&next, &its_end)) = done.range(start..=end).next_back() {
            end = end.max(its_end);
            done.remove(&next);
        }
        done.insert(start, end);
    }

    /// Every range up to `size` that was not marked.
    pub(super) fn gaps(&self, size: u64) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = 0;
        for (&start, &end) in self.0.lock().iter() {
            gaps.push(at..start);
            at = end;
        }
        gaps.push(at..size);
        gaps.retain(|gap| !gap.is_empty());
        gaps
    }
}
