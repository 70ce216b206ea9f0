//! Walking pack tables: that of one segment, and those of several as one. They are sorted, so no set of packs is needed.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use crate::index::page;
use crate::index::segment::Segment;
use crate::index::table::{PackRow, RawRow};
use cairn_base::{Error, PackId, Result};
use std::cmp::Ordering;
use std::collections::HashSet;
use std::iter::Peekable;
use std::sync::Arc;

/// The rows of a segment's pack table, in order, one page in memory. A page that does not check is one error.
pub struct PackRows<'a> {
    segment: &'a Segment,
    page: u64,
    rows: std::vec::IntoIter<RawRow>,
}

impl<'a> PackRows<'a> {
    /// From the first row on.
    pub fn new(segment: &'a Segment) -> PackRows<'a> {
        PackRows {
            segment,
            page: 0,
            rows: Vec::new().into_iter(),
        }
    }
}

impl Iterator for PackRows<'_> {
    type Item = Result<PackRow>;

    fn next(&mut self) -> Option<Result<PackRow>> {
        loop {
            if let Some(row) = self.rows.next() {
                return Some(row.decode().map_err(|e| e.at_path(self.segment.path())));
            }
            if self.page >= self.segment.footer().table_pages() {
                return None;
            }
            let bytes = self.segment.checked_table_page(self.page);
            self.page = self.page.saturating_add(1);
            let rows = bytes.and_then(|bytes| Ok(page::rows::<RawRow>(&bytes)?.to_vec()));
            match rows {
                Ok(rows) => self.rows = rows.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Whether a segment names the pack.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if a page of the table does not check, so that it may or may not.
pub fn names(segment: &Segment, id: PackId) -> Result<bool> {
    let (mut low, mut high) = (0, segment.footer().table_pages());
    while low < high {
        let middle = low.midpoint(high);
        let bytes = segment.checked_table_page(middle)?;
        let rows = page::rows::<RawRow>(&bytes)?;
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            return Err(Error::damaged("a page of a pack table is empty").at_path(segment.path()));
        };
        match (id.cmp(&first.id()), id.cmp(&last.id())) {
            (Ordering::Less, _) => high = middle,
            (_, Ordering::Greater) => low = middle.saturating_add(1),
            _ => return Ok(rows.binary_search_by_key(&id, RawRow::id).is_ok()),
        }
    }
    Ok(false)
}

/// The packs of several segments, ascending, each once, with the segments that name it, by their numbers.
pub struct AllPacks<'a> {
    tables: Vec<Peekable<PackRows<'a>>>,
}

impl<'a> AllPacks<'a> {
    /// Of these segments.
    pub fn of(segments: &'a [Arc<Segment>]) -> AllPacks<'a> {
        AllPacks {
            tables: segments
                .iter()
                .map(|segment| PackRows::new(segment).peekable())
                .collect(),
        }
    }

    /// The next pack, and which segments name it, into `named`.
    fn step(&mut self, named: &mut Vec<usize>) -> Option<Result<PackRow>> {
        let mut least: Option<PackRow> = None;
        for table in &mut self.tables {
            if let Some(Err(_)) = table.peek() {
                return table.next();
            }
            if let Some(Ok(row)) = table.peek()
                && least.is_none_or(|least| row.id < least.id)
            {
                least = Some(*row);
            }
        }
        let least = least?;
        named.clear();
        for (index, table) in self.tables.iter_mut().enumerate() {
            if table
                .next_if(|row| matches!(row, Ok(row) if row.id == least.id))
                .is_some()
            {
                named.push(index);
            }
        }
        Some(Ok(least))
    }
}

impl Iterator for AllPacks<'_> {
    type Item = Result<PackRow>;

    fn next(&mut self) -> Option<Result<PackRow>> {
        self.step(&mut Vec::new())
    }
}

/// The number of a row that is left out.
pub const DROPPED: u32 = u32::MAX;

/// For each segment and each row of its table the row's number in the table of all together, or [`DROPPED`] if its pack is in `drop`. 4 bytes a row.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if a page of a table does not check, [`Kind::Invalid`](cairn_base::Kind::Invalid) if a table is not sorted.
pub fn renumber(segments: &[Arc<Segment>], drop: &HashSet<PackId>) -> Result<Vec<Vec<u32>>> {
    let mut numbers = vec![Vec::new(); segments.len()];
    let mut all = AllPacks::of(segments);
    let mut named = Vec::new();
    let mut count = 0u32;
    let mut last = None;
    while let Some(row) = all.step(&mut named) {
        let row = row?;
        if last >= Some(row.id) {
            return Err(Error::invalid(
                "the pack table of an index segment is not sorted",
            ));
        }
        last = Some(row.id);
        let kept = !drop.contains(&row.id);
        for index in &named {
            if let Some(numbers) = numbers.get_mut(*index) {
                numbers.push(if kept { count } else { DROPPED });
            }
        }
        count = count.saturating_add(u32::from(kept));
    }
    Ok(numbers)
}
