//! The content of an attribute in clusters, not compressed.

use super::cluster::{Clusters, Vcn};
use super::run_list::RunList;
use cairn_base::read_at::{check_range, clip};
use cairn_base::units::to_u64;
use cairn_base::{ReadAt, Result};
use std::ops::Range;
use std::sync::Arc;

/// The most runs a hint looks at.
const HINT_RUNS: usize = 64;

/// Content in clusters, by its run list.
#[derive(Clone)]
pub struct Stream {
    clusters: Clusters,
    runs: Arc<RunList>,
    size: u64,
    initialized: u64,
}

impl Stream {
    /// `initialized` bytes come from `runs`, the rest of `size` reads as zeros.
    pub fn new(clusters: Clusters, runs: Arc<RunList>, size: u64, initialized: u64) -> Stream {
        Stream {
            clusters,
            runs,
            size,
            initialized: initialized.min(size),
        }
    }

    /// Number of runs held in memory.
    pub fn runs(&self) -> usize {
        self.runs.len()
    }
}

/// Cuts `buffer`, which stands for bytes from `offset` on, at `border`.
pub fn split_at_byte(buffer: &mut [u8], offset: u64, border: u64) -> (&mut [u8], &mut [u8]) {
    let before = usize::try_from(border.saturating_sub(offset)).unwrap_or(usize::MAX);
    let before = before.min(buffer.len());
    buffer.split_at_mut_checked(before).unwrap_or_default()
}

/// The parts of `range` that `runs` put into clusters, and everything below `end` that no run covers at all (there
/// a read fails, and must be tried to be noticed).
pub fn data_extents(
    clusters: &Clusters,
    runs: &RunList,
    range: Range<u64>,
) -> Result<Vec<Range<u64>>> {
    let mut extents: Vec<Range<u64>> = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let vcn = Vcn(at.checked_div(clusters.size()).unwrap_or(0));
        let (end, hole) = match runs.at(vcn) {
            Some(run) => (
                clusters.bytes(vcn.0.saturating_add(run.clusters))?,
                run.lcn.is_none(),
            ),
            None => (range.end, false),
        };
        let end = end.min(range.end);
        if !hole {
            match extents.last_mut() {
                Some(last) if last.end == at => last.end = end,
                _ => extents.push(at..end),
            }
        }
        at = end;
    }
    Ok(extents)
}

impl ReadAt for Stream {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size, offset, buffer.len())?;
        let (stored, zeros) = split_at_byte(buffer, offset, self.initialized);
        zeros.fill(0);
        self.clusters.read_runs(&self.runs, offset, stored)
    }

    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        data_extents(&self.clusters, &self.runs, clip(range, self.initialized))
    }

    fn will_need(&self, range: Range<u64>) {
        let range = clip(range, self.initialized);
        let mut at = range.start;
        for _ in 0..HINT_RUNS {
            if at >= range.end {
                break;
            }
            let size = self.clusters.size();
            let vcn = Vcn(at.checked_div(size).unwrap_or(0));
            let within = at & size.saturating_sub(1);
            let Some(run) = self.runs.at(vcn) else { break };
            let length = run.clusters.saturating_mul(size).saturating_sub(within);
            let length = length.min(range.end.saturating_sub(at));
            if let Some(lcn) = run.lcn {
                let place = lcn.0.saturating_mul(size).saturating_add(within);
                self.clusters.will_need(place, length);
            }
            at = at.saturating_add(length.max(1));
        }
    }
}

/// Content in the file record itself.
pub struct Resident(Vec<u8>);

impl Resident {
    /// The value of a resident attribute.
    pub fn new(value: Vec<u8>) -> Resident {
        Resident(value)
    }
}

impl ReadAt for Resident {
    fn size(&self) -> u64 {
        to_u64(self.0.len())
    }
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.0.read_exact_at(offset, buffer)
    }
}
