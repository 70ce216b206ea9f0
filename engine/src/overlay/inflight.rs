//! Writers of the same unit wait for each other: who fills up a unit from the base must not undo what another one wrote to it.

use parking_lot::{Condvar, Mutex};
use std::ops::Range;

/// The units that are being written. A handful at any time: as many as there are threads that write.
#[derive(Default)]
pub(super) struct InFlight {
    ranges: Mutex<Vec<Range<u64>>>,
    left: Condvar,
}

/// Units nobody else writes while it lives.
pub(super) struct Claim<'a> {
    all: &'a InFlight,
    units: Range<u64>,
}

impl InFlight {
    /// Waits until nobody writes any of `units`, which are not empty, and keeps others from it.
    pub(super) fn claim(&self, units: Range<u64>) -> Claim<'_> {
        let mut ranges = self.ranges.lock();
        while ranges
            .iter()
            .any(|other| other.start < units.end && units.start < other.end)
        {
            self.left.wait(&mut ranges);
        }
        ranges.push(units.clone());
        Claim { all: self, units }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut ranges = self.all.ranges.lock();
        if let Some(at) = ranges.iter().position(|range| *range == self.units) {
            ranges.swap_remove(at);
        }
        drop(ranges);
        self.all.left.notify_all();
    }
}
