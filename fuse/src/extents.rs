//! Holes: finding them one by one, and guessing how much of a large disk they are.

use crate::failure::{Failure, Result};
use cairn::ReadAt;
use std::ops::Range;

/// What is looked at first; each further look takes in twice as much.
const FIRST_LOOK: u64 = 16 << 20;
/// A disk up to this size is measured, a larger one is sampled.
const MEASURED: u64 = 1 << 30;
/// How many samples, and how long each is.
const SAMPLES: u64 = 256;
const SAMPLE: u64 = 4 << 20;

/// The first byte at or behind `offset` that may be data.
///
/// # Errors
/// [`Failure::BeyondEnd`] if only holes follow.
pub fn seek_data(content: &dyn ReadAt, offset: u64) -> Result<u64> {
    let mut found = None;
    each_extent(content, offset, |extent| {
        if extent.is_empty() {
            return true;
        }
        found = Some(extent.start.max(offset));
        false
    })?;
    found.ok_or(Failure::BeyondEnd)
}

/// The first byte at or behind `offset` that lies in a hole; the end is one.
///
/// # Errors
/// [`Failure::BeyondEnd`] if `offset` is not before the end.
pub fn seek_hole(content: &dyn ReadAt, offset: u64) -> Result<u64> {
    let mut at = offset;
    each_extent(content, offset, |extent| {
        let joined = extent.start <= at;
        if joined {
            at = extent.end;
        }
        joined
    })?;
    Ok(at.min(content.size()))
}

/// Tells `sink` the extents from `offset` on until it has had enough; an empty one marks a hole. Each look takes in more, so that neither a short
/// way to go nor a huge hole costs much.
fn each_extent(
    content: &dyn ReadAt,
    offset: u64,
    mut sink: impl FnMut(Range<u64>) -> bool,
) -> Result<()> {
    let size = content.size();
    if offset >= size {
        return Err(Failure::BeyondEnd);
    }
    let (mut start, mut look) = (offset, FIRST_LOOK);
    while start < size {
        let end = start.saturating_add(look).min(size);
        let extents = content.data_extents(start..end)?;
        let last = extents.last().map_or(start, |last| last.end);
        for extent in extents {
            if !sink(extent) {
                return Ok(());
            }
        }
        // A hole at the end of the look ends a run of data, wherever the next begins.
        if last < end && !sink(end..end) {
            return Ok(());
        }
        start = end;
        look = look.saturating_mul(2);
    }
    Ok(())
}

/// About how many bytes of `content` are data: counted where that is quick, else judged from samples. Never all of it
/// when a hole was seen: that tells `cp` and `tar` to look for holes.
pub fn allocated(content: &dyn ReadAt) -> u64 {
    let size = content.size();
    let count = |range: Range<u64>| -> u64 {
        let length = range.end.saturating_sub(range.start);
        match content.data_extents(range) {
            Ok(extents) => extents
                .iter()
                .map(|extent| extent.end.saturating_sub(extent.start))
                .fold(0, u64::saturating_add),
            // Reading will say what is wrong; a size is no place for it.
            Err(_) => length,
        }
    };
    if size <= MEASURED {
        return count(0..size);
    }
    let step = size.checked_div(SAMPLES).unwrap_or(size);
    let (mut data, mut seen) = (0u64, 0u64);
    for sample in 0..SAMPLES {
        let start = step.saturating_mul(sample);
        let end = start.saturating_add(SAMPLE.min(step)).min(size);
        data = data.saturating_add(count(start..end));
        seen = seen.saturating_add(end.saturating_sub(start));
    }
    let share = u128::from(size)
        .saturating_mul(u128::from(data))
        .checked_div(u128::from(seen))
        .unwrap_or(0);
    u64::try_from(share).unwrap_or(size).min(size)
}

#[cfg(test)]
mod tests;
