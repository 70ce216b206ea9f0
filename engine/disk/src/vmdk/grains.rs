//! Where the grains of a sparse extent lie: grain directory and grain tables, and their copies where the first are damaged.

use super::header::{Directory, Header, sectors};
use crate::align::{is_multiple, to_usize};
use crate::place::Places;
use crate::recent::Recent;
use crate::runs::Detail;
use crate::table::{Share, Table, Width};
use crate::twice::Twice;
use cairn_base::read_at::read_vec;
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// Entries of a grain directory that are looked at in one step.
const STEP: u64 = 8192;
/// The entry of a grain of zeros.
const ZEROED: u32 = 1;
/// The least that a compressed grain takes: its marker, and one byte.
const LEAST_COMPRESSED: u64 = 13;

/// Grain tables that were read last, by [`key`]; shared by all extents of a disk.
pub(super) type Tables = Recent<Vec<u32>>;

/// By what a table of an extent is known among those of all extents.
fn key(extent: usize, number: u64) -> u64 {
    // There are at most 4096 extents, and 2^21 tables of each.
    to_u64(extent) << 48 | number
}

/// A file of the disk.
#[derive(Clone)]
pub(super) struct File {
    pub(super) bytes: Arc<dyn ReadAt>,
    /// For messages; none for an image that is no file.
    pub(super) path: Option<PathBuf>,
}

impl File {
    /// Names the file.
    pub(super) fn name(&self, error: Error) -> Error {
        match &self.path {
            Some(path) => error.at_path(path),
            None => error,
        }
    }
}

/// What an entry of a grain table says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grain {
    /// It was never written: zeros, or the parent's.
    Absent,
    /// Zeros, whatever the parent has.
    Zeros,
    /// It lies from this byte of the file on.
    At(u64),
}

/// What a walk finds where an entry of the grain directory leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leads {
    /// To no grain: there is no table, or it is a hole of the file.
    Nowhere,
    /// To what can be no table.
    Astray,
    /// To a table.
    Table,
}

/// The grains of an extent.
pub(super) struct Grains {
    file: File,
    header: Header,
    /// The grain directory, if it lies in the file.
    pub(super) directory: Option<Table>,
    pub(super) redundant: Option<Table>,
    places: Places,
    /// Grain tables to which several entries of the directory lead.
    pub(super) twice: Twice,
    tables: Arc<Tables>,
    /// The extent's number.
    extent: usize,
}

impl Grains {
    /// The grains of the extent with the number `extent`, whose header, or footer, is `header`, and what is to be said of it.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if neither the grain directory nor a copy of it lies in the file, or if more than 4096 grain tables
    /// belong to several of its entries.
    pub(super) fn open(
        file: File,
        header: Header,
        extent: usize,
        tables: Arc<Tables>,
        share: Share,
    ) -> Result<(Grains, Option<String>)> {
        let table = |at: Option<u64>| {
            let at = at.filter(|at| *at != 0).ok_or_else(|| {
                Error::damaged(format!("the {} has no grain directory", header.format))
            })?;
            let count = header.tables();
            Table::open(file.bytes.clone(), at, count, Width::Le32, share)
        };
        let first = match header.directory {
            Directory::At(at) => table(Some(at)),
            Directory::InFooter => table(None),
        };
        let copy = header.redundant.map(|at| table(Some(at)));
        let (directory, redundant) = match (first, copy) {
            (Ok(directory), copy) => (Some(directory), copy.and_then(Result::ok)),
            (Err(_), Some(Ok(copy))) => (None, Some(copy)),
            (Err(error), _) => return Err(file.name(error)),
        };
        let length = header.tables().saturating_mul(4);
        let head = std::iter::once(0..header.length());
        let mut reserved: Vec<Range<u64>> = head.chain(header.descriptor.clone()).collect();
        let at = match header.directory {
            Directory::At(at) if directory.is_some() => Some(at),
            _ => None,
        };
        let at = at
            .into_iter()
            .chain(header.redundant.filter(|_| redundant.is_some()));
        reserved.extend(at.map(|at| at..at.saturating_add(length)));
        let mut grains = Grains {
            twice: Twice::of(Vec::new(), header.format)?,
            places: Places {
                format: header.format,
                size: file.bytes.size(),
                reserved,
            },
            directory,
            redundant,
            file,
            header,
            tables,
            extent,
        };
        let (tables, warning) = grains.survey();
        let twice = Twice::of(tables, grains.header.format);
        grains.twice = twice.map_err(|error| grains.file.name(error))?;
        Ok((grains, warning))
    }

    /// What the header says.
    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    /// The extent's file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Tells `each` every grain that `range` touches, which lies within the extent: its number, what its entry says, and what of the extent
    /// is touched. What a table that is not there is about is told as one; so is, where no more is wanted than what may hold data, what one is about
    /// that is a hole of the file.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) for tables that lie where none can lie; what `each` says.
    pub(super) fn walk(
        &self,
        range: Range<u64>,
        detail: Detail,
        mut each: impl FnMut(u64, Grain, Range<u64>) -> Result<()>,
    ) -> Result<()> {
        let span = self.header.table_span();
        let tables = range.start.checked_div(span).unwrap_or(0)..range.end.div_ceil(span.max(1));
        let mut first = tables.start;
        while first < tables.end {
            let end = tables.end.min(first.saturating_add(STEP));
            for (index, entry) in (first..end).zip(self.directory(first..end)?) {
                let start = index.saturating_mul(span);
                let part = range.start.max(start)..range.end.min(start.saturating_add(span));
                let grain = part.start.checked_div(self.header.grain).unwrap_or(0);
                let is_nothing = match detail {
                    Detail::Rough => self.lead(index, entry) == Leads::Nowhere,
                    Detail::Exact => entry == 0,
                };
                match is_nothing {
                    true => each(grain, Grain::Absent, part)?,
                    false => self.walk_table(index, entry, part, &mut each)?,
                }
            }
            first = end;
        }
        Ok(())
    }

    /// The grains of `part`, which a single table is about.
    fn walk_table(
        &self,
        index: u64,
        entry: u64,
        part: Range<u64>,
        each: &mut impl FnMut(u64, Grain, Range<u64>) -> Result<()>,
    ) -> Result<()> {
        let table = self.table(index, entry)?;
        let size = self.header.grain;
        let grains = part.start.checked_div(size).unwrap_or(0)..part.end.div_ceil(size.max(1));
        let first = index.saturating_mul(self.header.table_entries);
        let skipped = to_usize(grains.start.saturating_sub(first))?;
        // The table has an entry for each grain of the extent.
        for (grain, entry) in grains.zip(table.iter().skip(skipped)) {
            let start = grain.saturating_mul(size);
            let touched = part.start.max(start)..part.end.min(start.saturating_add(size));
            each(grain, self.grain_of(*entry), touched)?;
        }
        Ok(())
    }

    /// What an entry of a table says.
    pub(super) fn grain_of(&self, entry: u32) -> Grain {
        match entry {
            0 => Grain::Absent,
            ZEROED if self.header.has_zeroed_grains => Grain::Zeros,
            sector => Grain::At(place(sector)),
        }
    }

    /// What the entry of a single grain says.
    ///
    /// # Errors
    /// As [`walk`](Grains::walk).
    pub(super) fn find(&self, grain: u64) -> Result<Grain> {
        let start = grain.saturating_mul(self.header.grain);
        let mut found = Grain::Absent;
        let one = start..start.saturating_add(1);
        self.walk(one, Detail::Exact, |_, grain, _| {
            found = grain;
            Ok(())
        })?;
        Ok(found)
    }

    /// Refuses a grain that is not compressed and lies where it cannot lie.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged), naming grain and place.
    pub(super) fn check(&self, grain: u64, at: u64) -> Result<()> {
        let length = self.grain_length(grain);
        let checked = self
            .places
            .check_part(format_args!("grain {grain}"), at, length);
        checked.map_err(|error| self.file.name(error))
    }

    /// Bytes of a grain that belong to the extent: the last one may be cut off.
    pub(super) fn grain_length(&self, grain: u64) -> u64 {
        let start = grain.saturating_mul(self.header.grain);
        self.header
            .grain
            .min(self.header.size.saturating_sub(start))
    }

    /// Entries of the grain directory, in sectors; those that cannot be right, from its copy.
    fn directory(&self, range: Range<u64>) -> Result<Vec<u64>> {
        let read = |table: &Option<Table>| Some(table.as_ref()?.entries(range.clone()));
        let (mut entries, error) = match read(&self.directory) {
            Some(Ok(entries)) => (entries, None),
            other => {
                let count = to_usize(range.end.saturating_sub(range.start))?;
                (vec![0; count], other.and_then(Result::err))
            }
        };
        // Both are always written together: what stands in one alone was lost in the other.
        let is_doubtful = |(index, entry): (u64, &u64)| *entry == 0 || !self.holds(index, *entry);
        if error.is_none() && !range.clone().zip(&entries).any(is_doubtful) {
            return Ok(entries);
        }
        match (read(&self.redundant), error) {
            (Some(Ok(copies)), _) => {
                for (index, (entry, copy)) in range.clone().zip(entries.iter_mut().zip(copies)) {
                    if is_doubtful((index, &*entry)) && copy != 0 && self.holds(index, copy) {
                        *entry = copy;
                    }
                }
                Ok(entries)
            }
            (_, Some(error)) | (Some(Err(error)), None) => Err(self.file.name(error)),
            (None, None) => Ok(entries),
        }
    }

    /// Looks at all of the grain directory once: where all tables lie, and what is to be said of it.
    fn survey(&self) -> (Vec<u64>, Option<String>) {
        let mut tables = Vec::new();
        let mut lost: u64 = 0;
        let mut first = 0;
        while first < self.header.tables() {
            let range = first..self.header.tables().min(first.saturating_add(STEP));
            first = range.end;
            let numbers = range.clone();
            let all = [&self.directory, &self.redundant];
            let mut tables_there = all.into_iter().flatten();
            // Of holes nothing is read.
            if tables_there.all(|table| table.is_hole(&range).unwrap_or(false)) {
                continue;
            }
            // What cannot be read now is told when it is read.
            let Ok(used) = self.directory(range.clone()) else {
                continue;
            };
            if let (Some(directory), Some(_)) = (&self.directory, &self.redundant) {
                let length = range.end.saturating_sub(range.start);
                lost = lost.saturating_add(match directory.entries(range) {
                    Ok(found) => {
                        let pairs = found.iter().zip(&used);
                        to_u64(pairs.filter(|(found, used)| found != used).count())
                    }
                    Err(_) => length,
                });
            }
            let there = numbers.zip(used).filter(|(_, sector)| *sector != 0);
            let there = there.filter(|(index, sector)| self.holds(*index, *sector));
            tables.extend(there.filter_map(|(_, sector)| sectors(sector)));
        }
        let warning = match (&self.directory, lost) {
            (None, _) => {
                Some("the grain directory does not lie in the file; its copy is used".to_string())
            }
            (_, 0) => None,
            _ => Some(format!(
                "the grain directory is damaged in {lost} entries; those of its copy are used"
            )),
        };
        (tables, warning)
    }

    /// Bytes of the table with the number `index`: of the last one, those that are used.
    pub(super) fn table_length(&self, index: u64) -> u64 {
        let start = index.saturating_mul(self.header.table_span());
        let rest = self.header.size.saturating_sub(start);
        let grains = rest.div_ceil(self.header.grain.max(1));
        grains.min(self.header.table_entries).saturating_mul(4)
    }

    /// Whether a grain table can lie at this sector.
    pub(super) fn holds(&self, index: u64, sector: u64) -> bool {
        let at = sectors(sector);
        at.is_some_and(|at| self.places.is_free(at, self.table_length(index)))
    }

    /// What a walk finds at this sector, where the directory's entry `index` leads; 0 if nowhere.
    fn lead(&self, index: u64, sector: u64) -> Leads {
        let at = sectors(sector).unwrap_or(u64::MAX);
        if sector == 0 {
            return Leads::Nowhere;
        }
        if self.twice.holds(at) || !self.holds(index, sector) {
            return Leads::Astray;
        }
        // A table of zeros has nothing that is there, unless its copy has.
        let length = self.table_length(index);
        let is_hole = |at: u64| {
            let data = self.file.bytes.data_extents(at..at.saturating_add(length));
            data.is_ok_and(|data| data.is_empty())
        };
        match is_hole(at) && self.copy_at(index, at).is_none_or(is_hole) {
            true => Leads::Nowhere,
            false => Leads::Table,
        }
    }

    /// Where a walk from byte `at` of the extent on ends that looks at no more than `most` grains, and at a few thousand entries of the directory: what no
    /// table tells of is passed over, and where what can be no table should be is a step by itself.
    pub(super) fn step_end(&self, at: u64, most: u64) -> u64 {
        let header = &self.header;
        let first = at.checked_div(header.table_span()).unwrap_or(0);
        let last = header.tables().min(first.saturating_add(STEP));
        let (mut next, mut left, mut is_astray) = (at, most, false);
        // What cannot be read now is told when it is read.
        let entries = self.directory(first..last.max(first)).unwrap_or_default();
        for (index, entry) in (first..).zip(entries) {
            let lead = self.lead(index, entry);
            if next > at && is_astray != (lead == Leads::Astray) {
                break;
            }
            is_astray = lead == Leads::Astray;
            let end = index.saturating_add(1).saturating_mul(header.table_span());
            if lead != Leads::Table {
                next = end;
                continue;
            }
            let grain = next.checked_div(header.grain).unwrap_or(0);
            let looked = grain.saturating_add(left).saturating_mul(header.grain);
            next = looked.min(end);
            let done = next.div_ceil(header.grain.max(1)).saturating_sub(grain);
            left = left.saturating_sub(done);
            if left == 0 {
                break;
            }
        }
        match next > at {
            true => next.min(header.size),
            false => at.saturating_add(header.grain),
        }
    }

    /// A grain table, which the directory says begins at this sector.
    fn table(&self, index: u64, sector: u64) -> Result<Arc<Vec<u32>>> {
        let what = format_args!("grain table {index} of the {}", self.header.format);
        let checked = self.twice.check(what, sectors(sector).unwrap_or(u64::MAX));
        checked.map_err(|error| self.file.name(error))?;
        let key = key(self.extent, index);
        self.tables.get(key, || self.load(index, sector))
    }

    fn load(&self, index: u64, sector: u64) -> Result<Vec<u32>> {
        let name = |error: Error| self.file.name(error);
        let length = self.table_length(index);
        let at = sectors(sector).unwrap_or(u64::MAX);
        let read = self
            .places
            .check_part(format_args!("grain table {index}"), at, length)
            .and_then(|()| self.read_table(at, length));
        let copy = || self.copy_of(index, at);
        let mut table = match read {
            Ok(table) => table,
            Err(error) => copy().ok_or_else(|| name(error))?,
        };
        let first = index.saturating_mul(self.header.table_entries);
        let is_sound = |number: u64, entry: u32| match self.grain_of(entry) {
            Grain::At(at) => self.can_lie(first.saturating_add(number), at),
            _ => true,
        };
        // As in the directory: both are written together, so what is in the copy alone was lost here.
        let is_doubtful = |(number, entry): (u64, u32)| entry == 0 || !is_sound(number, entry);
        if (0..).zip(table.iter().copied()).any(is_doubtful)
            && let Some(copies) = copy()
        {
            for (number, (entry, copy)) in (0..).zip(table.iter_mut().zip(copies)) {
                if is_doubtful((number, *entry)) && copy != 0 && is_sound(number, copy) {
                    *entry = copy;
                }
            }
        }
        Ok(table)
    }

    /// Where the copy of the table with the number `index` lies, if there is another one than that at `at`.
    fn copy_at(&self, index: u64, at: u64) -> Option<u64> {
        let redundant = self.redundant.as_ref()?;
        let entries = redundant.entries(index..index.saturating_add(1)).ok()?;
        let sector = entries.first().filter(|sector| **sector != 0)?;
        let length = self.table_length(index);
        sectors(*sector).filter(|copy| *copy != at && self.places.is_free(*copy, length))
    }

    /// That copy.
    fn copy_of(&self, index: u64, at: u64) -> Option<Vec<u32>> {
        let copy = self.copy_at(index, at)?;
        self.read_table(copy, self.table_length(index)).ok()
    }

    /// So many bytes of entries, wherever they lie.
    ///
    /// # Errors
    /// What the file says when it is read.
    pub(super) fn read_table(&self, at: u64, length: u64) -> Result<Vec<u32>> {
        let bytes = read_vec(&*self.file.bytes, at, to_usize(length)?)?;
        let (entries, _) = bytes.as_chunks::<4>();
        let entries = entries.iter().map(|entry| u32::from_le_bytes(*entry));
        Ok(entries.collect())
    }

    fn can_lie(&self, grain: u64, at: u64) -> bool {
        let length = match self.header.is_compressed {
            true => LEAST_COMPRESSED,
            false => self.grain_length(grain),
        };
        is_multiple(at, super::SECTOR) && self.places.is_free(at, length)
    }
}

/// A sector number of 32 bits in bytes.
pub(super) fn place(sector: u32) -> u64 {
    u64::from(sector).saturating_mul(super::SECTOR)
}

#[cfg(test)]
mod tests;
