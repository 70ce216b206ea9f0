//! Run lists ("mapping pairs"): which clusters of the volume hold a non-resident attribute.
//!
//! Each run is a byte with two lengths in nibbles, then a count of clusters and a signed step from the cluster
//! where the run before began; a run without a step is a hole. A zero byte ends the list.

use super::cluster::{Lcn, Vcn};
use cairn_base::{Error, Result, View};

/// The most runs of one stream that are held in memory: 16 MiB of them.
pub const MAX_RUNS: usize = 1 << 20;

/// No stream is longer than this many clusters (2^63 bytes in clusters of 512).
const MAX_CLUSTERS: u64 = 1 << 54;

const HOLE: u64 = u64::MAX;

/// Where a run begins, in the stream and on the volume. It ends where the next begins.
#[derive(Debug, Clone, Copy)]
struct Start {
    vcn: u64,
    lcn: u64,
}

/// What [`RunList::at`] answers: clusters from the one asked for to the end of its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Where the first of them is; nothing for a hole.
    pub lcn: Option<Lcn>,
    /// How many there are, at least 1.
    pub clusters: u64,
}

/// The runs of a stream from cluster 0 on, neighbours merged.
#[derive(Debug, Default)]
pub struct RunList {
    starts: Vec<Start>,
    end: u64,
}

impl RunList {
    /// An empty list.
    pub fn new() -> RunList {
        RunList::default()
    }

    /// The first cluster that no run covers.
    pub fn end(&self) -> Vcn {
        Vcn(self.end)
    }

    /// Number of runs.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there are no runs.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The run that covers `vcn`, from there on.
    pub fn at(&self, vcn: Vcn) -> Option<Run> {
        if vcn.0 >= self.end {
            return None;
        }
        let next = self.starts.partition_point(|start| start.vcn <= vcn.0);
        let start = self.starts.get(next.checked_sub(1)?)?;
        let end = self.starts.get(next).map_or(self.end, |next| next.vcn);
        let skipped = vcn.0.saturating_sub(start.vcn);
        Some(Run {
            lcn: (start.lcn != HOLE).then(|| Lcn(start.lcn.saturating_add(skipped))),
            clusters: end.saturating_sub(vcn.0),
        })
    }

    /// Appends a run behind the last.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) for impossible lengths,
    /// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) beyond [`MAX_RUNS`].
    pub fn push(&mut self, lcn: Option<Lcn>, clusters: u64) -> Result<()> {
        let end = self
            .end
            .checked_add(clusters)
            .filter(|&end| end <= MAX_CLUSTERS)
            .ok_or_else(|| Error::damaged("a run list covers more than any disk can hold"))?;
        let lcn = lcn.map_or(HOLE, |lcn| lcn.0);
        let continues = self.starts.last().is_some_and(|last| {
            if last.lcn == HOLE || lcn == HOLE {
                last.lcn == lcn
            } else {
                let length = self.end.saturating_sub(last.vcn);
                last.lcn.checked_add(length) == Some(lcn)
            }
        });
        if !continues {
            if self.starts.len() >= MAX_RUNS {
                return Err(Error::unsupported(format!(
                    "a stream in more than {MAX_RUNS} pieces is not read"
                )));
            }
            self.starts.push(Start { vcn: self.end, lcn });
        }
        self.end = end;
        Ok(())
    }

    /// Appends the encoded runs in `view`.
    ///
    /// # Errors
    /// As [`push`](RunList::push); [`Kind::Damaged`](cairn_base::Kind::Damaged) for runs that end early or step
    /// before the start of the volume.
    pub fn decode(&mut self, view: View<'_>) -> Result<()> {
        let mut at = 0usize;
        let mut lcn = 0i64;
        while at < view.len() {
            let head = view.u8(at)?;
            if head == 0 {
                break;
            }
            let length_bytes = usize::from(head & 15);
            let step_bytes = usize::from(head.checked_shr(4).unwrap_or(0));
            let length_at = at.saturating_add(1);
            let step_at = length_at.saturating_add(length_bytes);
            let clusters = signed(view.slice(length_at, length_bytes)?)
                .and_then(|length| u64::try_from(length).ok())
                .filter(|&length| length > 0)
                .ok_or_else(|| view.damaged(at, "a run has no possible length"))?;
            let place = if step_bytes == 0 {
                None
            } else {
                let step = signed(view.slice(step_at, step_bytes)?)
                    .ok_or_else(|| view.damaged(at, "a run's place has too many bytes"))?;
                lcn = lcn
                    .checked_add(step)
                    .ok_or_else(|| view.damaged(at, "a run lies beyond any disk"))?;
                // NT 3 marked holes with cluster -1.
                if lcn == -1 {
                    None
                } else {
                    let place = u64::try_from(lcn)
                        .ok()
                        .filter(|&place| place < MAX_CLUSTERS);
                    Some(Lcn(place.ok_or_else(|| {
                        view.damaged(at, "a run lies before the start or beyond any disk")
                    })?))
                }
            };
            self.push(place, clusters)?;
            at = step_at.saturating_add(step_bytes);
        }
        Ok(())
    }
}

/// A little-endian signed number of 1 to 8 bytes.
fn signed(bytes: &[u8]) -> Option<i64> {
    let last = *bytes.last()?;
    let fill = if last & 0x80 == 0 { 0 } else { 0xFF };
    let mut full = [fill; 8];
    full.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(i64::from_le_bytes(full))
}

#[cfg(test)]
mod tests;
