//! A file with its log replayed (\[MS-VHDX\] 2.3.3), without a byte of it being written: what the log changes is laid over
//! the file when it is read.

use super::log::{Change, Entry, SECTOR, Sector};
use crate::align::to_usize;
use cairn_base::read_at::{check_range, clip, joined};
use cairn_base::units::to_u64;
use cairn_base::{ReadAt, Result};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// The file as it is once its log is replayed.
struct Replayed {
    image: Arc<dyn ReadAt>,
    size: u64,
    /// By the first byte; none overlaps another.
    patches: BTreeMap<u64, Patch>,
}

/// A range of the file that is not what lies there.
#[derive(Debug, Clone, Copy)]
struct Patch {
    end: u64,
    /// `None` for zeros.
    sector: Option<Sector>,
}

/// `image` with `entries` replayed; `image` itself if they change nothing.
pub(super) fn over(image: Arc<dyn ReadAt>, entries: &[Entry]) -> Arc<dyn ReadAt> {
    let largest = entries.iter().map(|entry| entry.last_size).max();
    let size = image.size().max(largest.unwrap_or(0));
    let mut patches = BTreeMap::new();
    for change in entries.iter().flat_map(|entry| &entry.changes) {
        match change {
            Change::Zero(range) => put(&mut patches, range.clone(), None),
            Change::Data(sector) => {
                let range = sector.offset..sector.offset.saturating_add(SECTOR);
                put(&mut patches, range, Some(*sector));
            }
        }
    }
    if patches.is_empty() && size == image.size() {
        return image;
    }
    Arc::new(Replayed {
        image,
        size,
        patches,
    })
}

/// Lays a change over those made before. Sectors are replaced as a whole, for all changes are whole sectors.
fn put(patches: &mut BTreeMap<u64, Patch>, range: Range<u64>, sector: Option<Sector>) {
    if range.is_empty() {
        return;
    }
    // The one that begins before the range and reaches into it: only zeros are longer than a sector.
    if let Some((start, before)) = patches.range(..range.start).next_back()
        && before.end > range.start
    {
        let (start, before) = (*start, *before);
        let end = range.start;
        patches.insert(start, Patch { end, ..before });
        if before.end > range.end {
            patches.insert(range.end, before);
        }
    }
    while let Some((start, inside)) = patches.range(range.clone()).next() {
        let (start, inside) = (*start, *inside);
        patches.remove(&start);
        if inside.end > range.end {
            patches.insert(range.end, inside);
        }
    }
    let end = range.end;
    patches.insert(range.start, Patch { end, sector });
}

impl Replayed {
    /// The changes that touch `range`.
    fn touched(&self, range: &Range<u64>) -> impl Iterator<Item = (Range<u64>, Option<Sector>)> {
        let before = self.patches.range(..range.start).next_back();
        let from = before.map_or(range.start, |(start, _)| *start);
        let start_of_range = range.start;
        self.patches
            .range(from..range.end)
            .map(|(start, patch)| (*start..patch.end, patch.sector))
            .filter(move |(patched, _)| patched.end > start_of_range)
    }

    /// Bytes of the file itself.
    fn of_file(&self, range: Range<u64>) -> Range<u64> {
        clip(range, self.image.size())
    }
}

impl ReadAt for Replayed {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size, offset, buffer.len())?;
        let wanted = offset..offset.saturating_add(to_u64(buffer.len()));
        let of_file = self.of_file(wanted.clone());
        let length = to_usize(of_file.end.saturating_sub(of_file.start))?;
        let (there, beyond) = buffer.split_at_mut(length.min(buffer.len()));
        if !there.is_empty() {
            self.image.read_exact_at(offset, there)?;
        }
        // The log makes the file longer.
        beyond.fill(0);
        for (range, sector) in self.touched(&wanted) {
            let (from, to) = (range.start.max(wanted.start), range.end.min(wanted.end));
            let at = to_usize(from.saturating_sub(offset))?;
            let length = to_usize(to.saturating_sub(from))?;
            let Some(part) = buffer.get_mut(at..at.saturating_add(length)) else {
                continue;
            };
            match sector {
                None => part.fill(0),
                Some(sector) => {
                    let skip = to_usize(from.saturating_sub(range.start))?;
                    let content = self.content(&sector)?;
                    for (to, from) in part.iter_mut().zip(content.iter().skip(skip)) {
                        *to = *from;
                    }
                }
            }
        }
        Ok(())
    }

    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let range = clip(range, self.size);
        let mut found = self.image.data_extents(self.of_file(range.clone()))?;
        for (patched, sector) in self.touched(&range) {
            if sector.is_some() {
                found.push(patched.start.max(range.start)..patched.end.min(range.end));
            }
        }
        Ok(joined(found))
    }

    fn will_need(&self, range: Range<u64>) {
        self.image.will_need(self.of_file(range));
    }
}

impl Replayed {
    /// The 4096 bytes of a sector.
    fn content(&self, sector: &Sector) -> Result<[u8; 4096]> {
        let mut content = [0; 4096];
        self.image.read_exact_at(sector.from, &mut content)?;
        if let Some(first) = content.first_chunk_mut() {
            *first = sector.leading;
        }
        if let Some(last) = content.last_chunk_mut() {
            *last = sector.trailing;
        }
        Ok(content)
    }
}

#[cfg(test)]
mod tests;
