//! The content of a file, and the ranges of the volume in which something lies.

use super::chain::Chain;
use super::table::Table;
use crate::volume::{Extent, ExtentSink, Reading};
use cairn_base::read_at::{check_range, clip};
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result};
use std::ops::Range;
use std::sync::Arc;

/// The most runs a hint looks at.
const HINT_RUNS: usize = 64;

/// A file's content, by its chain of clusters.
pub struct Content {
    table: Arc<Table>,
    /// Nothing if no byte of it is stored.
    chain: Option<Arc<Chain>>,
    size: u64,
    valid: u64,
    name: String,
}

impl Content {
    /// `size` bytes, of which `valid` lie in the clusters of `chain` and the rest are zeros. `name` is for errors.
    pub fn new(
        table: Arc<Table>,
        chain: Option<Arc<Chain>>,
        size: u64,
        valid: u64,
        name: String,
    ) -> Content {
        let valid = if chain.is_some() { valid.min(size) } else { 0 };
        Content {
            table,
            chain,
            size,
            valid,
            name,
        }
    }

    /// Where byte `at` lies on the volume, and how many bytes from there on are neighbours.
    fn place(&self, at: u64) -> Result<(u64, u64)> {
        let heap = self.table.heap();
        let index = at.checked_div(heap.size()).unwrap_or(0);
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        let found = match &self.chain {
            Some(chain) => chain.run(&self.table, index),
            None => Ok(None),
        };
        let run = match found {
            Ok(Some(run)) => run,
            Ok(None) => {
                return Err(Error::damaged(format!(
                    "file `{}` has {} bytes, but its chain of clusters ends before number {index}",
                    self.name, self.size
                )));
            }
            Err(error) => return Err(error.context(format!("file `{}`", self.name))),
        };
        let within = at & heap.size().saturating_sub(1);
        let length = u64::from(run.count).saturating_mul(heap.size());
        Ok((
            heap.place(run.cluster).saturating_add(within),
            length.saturating_sub(within),
        ))
    }
}

impl ReadAt for Content {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size, offset, buffer.len())?;
        let stored = usize::try_from(self.valid.saturating_sub(offset)).unwrap_or(usize::MAX);
        let stored = stored.min(buffer.len());
        let (mut rest, zeros) = buffer.split_at_mut_checked(stored).unwrap_or_default();
        zeros.fill(0);
        let mut at = offset;
        while !rest.is_empty() {
            let (position, length) = self.place(at)?;
            let take = usize::try_from(length)
                .unwrap_or(usize::MAX)
                .min(rest.len());
            let Some((now, later)) = rest.split_at_mut_checked(take) else {
                break;
            };
            self.table
                .heap()
                .read(position, now)
                .map_err(|error| error.context(format!("file `{}`", self.name)))?;
            at = at.saturating_add(to_u64(take));
            rest = later;
        }
        Ok(())
    }

    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let stored = clip(range, self.valid);
        Ok(std::iter::once(stored)
            .filter(|range| !range.is_empty())
            .collect())
    }

    fn will_need(&self, range: Range<u64>) {
        let range = clip(range, self.valid);
        let mut at = range.start;
        for _ in 0..HINT_RUNS {
            if at >= range.end {
                break;
            }
            let Ok((position, length)) = self.place(at) else {
                break;
            };
            let length = length.min(range.end.saturating_sub(at)).max(1);
            self.table.heap().will_need(position, length);
            at = at.saturating_add(length);
        }
    }
}

/// Tells `sink` where the first `bytes` in the clusters of `chain` lie: all of them if it ends before.
///
/// # Errors
/// Damaged where the chain is broken, after what is before it was told.
pub fn extents(
    table: &Table,
    chain: &Chain,
    bytes: u64,
    stream: Option<u32>,
    reading: Reading,
    sink: ExtentSink<'_>,
) -> Result<()> {
    let heap = table.heap();
    let mut index = 0u32;
    let mut offset = 0u64;
    while offset < bytes {
        let Some(run) = chain.run(table, index)? else {
            break;
        };
        let start = heap.place(run.cluster);
        let length = u64::from(run.count)
            .saturating_mul(heap.size())
            .min(bytes.saturating_sub(offset));
        let extent = Extent {
            place: start..start.saturating_add(length),
            stream,
            offset,
            reading,
        };
        if sink(extent).is_break() {
            break;
        }
        index = index.saturating_add(run.count);
        offset = offset.saturating_add(length);
    }
    Ok(())
}
