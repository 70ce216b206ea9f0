//! The bytes of a volume, put together from those of its disks.

use super::keep;
use cairn_base::read_at::{check_range, clip, joined};
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result, Section};
use std::ops::Range;
use std::sync::Arc;

/// Parts one behind the other.
pub(super) struct Concatenated {
    /// Where each begins, ascending, the first at 0.
    parts: Vec<(u64, Section)>,
    size: u64,
}

impl Concatenated {
    pub fn new(sections: Vec<Section>) -> Concatenated {
        let mut size = 0u64;
        let mut parts = Vec::with_capacity(sections.len());
        for section in sections {
            let start = size;
            size = size.saturating_add(section.size());
            parts.push((start, section));
        }
        Concatenated { parts, size }
    }

    /// The parts of `range`: a part, where in it, and where in the whole.
    fn within(&self, range: Range<u64>) -> impl Iterator<Item = (&Section, Range<u64>, u64)> {
        let range = clip(range, self.size);
        let first = self
            .parts
            .partition_point(|(start, _)| *start <= range.start)
            .saturating_sub(1);
        let rest = self.parts.get(first..).unwrap_or_default().iter();
        rest.take_while(move |(start, _)| *start < range.end)
            .filter_map(move |(start, part)| {
                let end = start.saturating_add(part.size());
                let (from, to) = (range.start.max(*start), range.end.min(end));
                let inside = from.saturating_sub(*start)..to.saturating_sub(*start);
                (from < to).then_some((part, inside, *start))
            })
    }
}

impl ReadAt for Concatenated {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size, offset, buffer.len())?;
        let end = offset.saturating_add(to_u64(buffer.len()));
        let mut rest = buffer;
        for (part, inside, _) in self.within(offset..end) {
            let length = inside.end.saturating_sub(inside.start);
            let (here, behind) = split(rest, length)?;
            part.read_exact_at(inside.start, here)?;
            rest = behind;
        }
        Ok(())
    }

    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let mut found = Vec::new();
        for (part, inside, start) in self.within(range) {
            let extents = part.data_extents(inside)?;
            found.extend(extents.into_iter().map(|extent| {
                start.saturating_add(extent.start)..start.saturating_add(extent.end)
            }));
        }
        Ok(joined(found))
    }

    fn will_need(&self, range: Range<u64>) {
        for (part, inside, _) in self.within(range) {
            part.will_need(inside);
        }
    }
}

/// The first `length` bytes of a buffer that has so many, and the others.
fn split(buffer: &mut [u8], length: u64) -> Result<(&mut [u8], &mut [u8])> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let split = buffer.split_at_mut_checked(length);
    split.ok_or_else(|| Error::invalid("a volume gives more bytes than were asked for"))
}

/// How chunks go round: rows of one chunk of each column.
#[derive(Clone, Copy)]
struct Rows {
    /// Bytes.
    chunk: u64,
    /// Chunks of a row that hold data: all columns, or all but one.
    data: u64,
}

/// A chunk, or a part of it.
struct Spot {
    row: u64,
    /// Which of the row's chunks of data.
    index: u64,
    /// Where in the column.
    at: u64,
    /// Bytes from there to the chunk's end.
    left: u64,
}

impl Rows {
    fn spot(self, offset: u64) -> Spot {
        let number = offset.checked_div(self.chunk).unwrap_or(0);
        let inside = offset.checked_rem(self.chunk).unwrap_or(0);
        let row = number.checked_div(self.data).unwrap_or(0);
        Spot {
            row,
            index: number.checked_rem(self.data).unwrap_or(0),
            at: row.saturating_mul(self.chunk).saturating_add(inside),
            left: self.chunk.saturating_sub(inside),
        }
    }

    /// Bytes of data in columns of `length` bytes: whole rows.
    fn capacity(self, length: u64) -> u64 {
        let rows = length.checked_div(self.chunk).unwrap_or(0);
        rows.saturating_mul(self.chunk).saturating_mul(self.data)
    }

    /// Where in the columns the rows lie that hold `range`.
    fn columns(self, range: &Range<u64>) -> Range<u64> {
        let width = self.chunk.saturating_mul(self.data);
        let row = |offset: u64| offset.checked_div(width).unwrap_or(0);
        let end = range.end.saturating_sub(1);
        let first = row(range.start).saturating_mul(self.chunk);
        let last = row(end).saturating_add(1).saturating_mul(self.chunk);
        first..last
    }

    /// The data of whole rows in which a column has `extent`, as far as it lies in `range`.
    fn data_of(self, extent: &Range<u64>, range: &Range<u64>) -> Range<u64> {
        let width = self.chunk.saturating_mul(self.data);
        let row = |offset: u64| offset.checked_div(self.chunk).unwrap_or(0);
        let first = row(extent.start).saturating_mul(width);
        let last = row(extent.end.saturating_sub(1)).saturating_add(1);
        let end = last.saturating_mul(width).min(range.end);
        first.max(range.start).min(end)..end
    }

    /// What of `range` may hold data: the rows in which any of the columns has some.
    fn extents(
        self,
        columns: &mut dyn Iterator<Item = &Concatenated>,
        range: Range<u64>,
    ) -> Result<Vec<Range<u64>>> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let inside = self.columns(&range);
        let mut found = Vec::new();
        for column in columns {
            let extents = column.data_extents(inside.clone())?;
            found.extend(extents.iter().map(|extent| self.data_of(extent, &range)));
            found = joined(found);
        }
        Ok(found)
    }
}

/// Chunks of several columns in turns.
pub(super) struct Striped {
    columns: Vec<Concatenated>,
    rows: Rows,
    size: u64,
}

impl Striped {
    /// `chunk` is not 0.
    pub fn new(columns: Vec<Concatenated>, chunk: u64) -> Striped {
        let data = to_u64(columns.len());
        let rows = Rows { chunk, data };
        let length = columns.iter().map(|column| column.size).min().unwrap_or(0);
        Striped {
            size: rows.capacity(length),
            columns,
            rows,
        }
    }
}

fn column<T>(columns: &[T], index: u64) -> Result<&T> {
    let found = usize::try_from(index).ok().and_then(|at| columns.get(at));
    found.ok_or_else(|| Error::invalid(format!("a striped volume has no column {index}")))
}

impl ReadAt for Striped {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size, offset, buffer.len())?;
        let (mut at, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let spot = self.rows.spot(at);
            let length = spot.left.min(to_u64(rest.len()));
            let (here, behind) = split(rest, length)?;
            column(&self.columns, spot.index)?.read_exact_at(spot.at, here)?;
            (at, rest) = (at.saturating_add(length), behind);
        }
        Ok(())
    }

    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let range = clip(range, self.size);
        self.rows.extents(&mut self.columns.iter(), range)
    }

    fn will_need(&self, range: Range<u64>) {
        let inside = self.rows.columns(&clip(range, self.size));
        for column in &self.columns {
            column.will_need(inside.clone());
        }
    }
}

/// Copies of the same bytes: the first that can be read counts.
pub(super) struct Mirrored {
    /// At least one.
    copies: Vec<Arc<dyn ReadAt>>,
    size: u64,
}

impl Mirrored {
    pub fn new(copies: Vec<Arc<dyn ReadAt>>) -> Mirrored {
        let size = copies.iter().map(|copy| copy.size()).min().unwrap_or(0);
        Mirrored { copies, size }
    }
}

impl ReadAt for Mirrored {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size, offset, buffer.len())?;
        let mut failure = None;
        for copy in &self.copies {
            match copy.read_exact_at(offset, buffer) {
                Ok(()) => return Ok(()),
                Err(error) => keep(&mut failure, error),
            }
        }
        Err(failure.unwrap_or_else(|| Error::not_found("a mirrored volume has no copy")))
    }

    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let range = clip(range, self.size);
        let mut found = Vec::new();
        // Any of them may be read.
        for copy in &self.copies {
            found.extend(copy.data_extents(range.clone())?);
        }
        Ok(joined(found))
    }

    fn will_need(&self, range: Range<u64>) {
        if let Some(copy) = self.copies.first() {
            copy.will_need(clip(range, self.size));
        }
    }
}

/// Chunks of several columns in turns, one of each row for parity: in the last column first, then in the one before it, and so on; the row's
/// data begin behind it and go round (left-symmetric).
pub(super) struct Raid5 {
    /// One of them may be missing.
    columns: Vec<Option<Concatenated>>,
    rows: Rows,
    size: u64,
}

impl Raid5 {
    /// `chunk` is not 0; there are three columns at least, and no more than one is missing.
    pub fn new(columns: Vec<Option<Concatenated>>, chunk: u64) -> Raid5 {
        let data = to_u64(columns.len()).saturating_sub(1);
        let rows = Rows { chunk, data };
        let there = columns.iter().flatten();
        let length = there.map(|column| column.size).min().unwrap_or(0);
        Raid5 {
            size: rows.capacity(length),
            columns,
            rows,
        }
    }

    /// The column that holds a chunk of data.
    fn column_of(&self, spot: &Spot) -> u64 {
        let count = to_u64(self.columns.len());
        let turn = spot.row.checked_rem(count).unwrap_or(0);
        let parity = count.saturating_sub(1).saturating_sub(turn);
        let place = parity.saturating_add(1).saturating_add(spot.index);
        place.checked_rem(count).unwrap_or(0)
    }

    /// What `missing` has at `at`, computed from all others.
    fn compute(&self, missing: u64, at: u64, buffer: &mut [u8]) -> Result<()> {
        buffer.fill(0);
        let mut other = vec![0; buffer.len()];
        for (index, column) in (0u64..).zip(&self.columns) {
            if index == missing {
                continue;
            }
            let Some(column) = column else {
                return Err(Error::not_found(format!(
                    "columns {missing} and {index} of a RAID-5 volume are both needed, and neither can be read"
                )));
            };
            column.read_exact_at(at, &mut other)?;
            for (byte, more) in buffer.iter_mut().zip(&other) {
                *byte ^= more;
            }
        }
        Ok(())
    }
}

impl ReadAt for Raid5 {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size, offset, buffer.len())?;
        let (mut at, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let spot = self.rows.spot(at);
            let length = spot.left.min(to_u64(rest.len()));
            let (here, behind) = split(rest, length)?;
            let index = self.column_of(&spot);
            let read = match column(&self.columns, index)? {
                Some(column) => column.read_exact_at(spot.at, here).map_err(Some),
                None => Err(None),
            };
            if let Err(mut failure) = read
                && let Err(error) = self.compute(index, spot.at, here)
            {
                // That the data cannot be read says more than that nothing helps.
                keep(&mut failure, error);
                return failure.map_or(Ok(()), Err);
            }
            (at, rest) = (at.saturating_add(length), behind);
        }
        Ok(())
    }

    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let range = clip(range, self.size);
        // Where all that are there are zeros, so is what is computed from them.
        self.rows.extents(&mut self.columns.iter().flatten(), range)
    }

    fn will_need(&self, range: Range<u64>) {
        let inside = self.rows.columns(&clip(range, self.size));
        for column in self.columns.iter().flatten() {
            column.will_need(inside.clone());
        }
    }
}
