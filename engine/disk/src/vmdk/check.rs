//! What is wrong with a sparse extent: grain directory and grain tables, their copies, where grains and compressed grains lie, and the markers of a
//! stream. Other extents are bytes of files, whose lengths were looked at when they were opened.
//!
//! How long it takes depends on what the file holds, and not on what it claims: of a table to which several entries of the directory lead, or which
//! lies over headers or directories, only that overlap is told, and not what its entries say; and a table is passed over where it and its copy are
//! holes of the file.

use super::SECTOR;
use super::extents::read_header;
use super::grains::{Grain, Grains, place};
use super::header::{Directory, sectors};
use super::marker::{self, Marker};
use crate::align::to_usize;
use crate::check::{Check, Topic};
use crate::claims::{Claims, Owner, Territory, find_overlaps};
use crate::twice::Twice;
use cairn_base::units::to_u64;
use cairn_base::{ReadAt, Result};
use std::ops::Range;

/// Entries of the grain directory that are looked at in one step of a walk.
const STEP: u64 = 512;
/// Where a header says where the grain directory and its copy are.
const DIRECTORY: u64 = 56;
const REDUNDANT: u64 = 48;
const UNCLEAN: u64 = 72;
/// Bytes from the footer of a stream to the end of the file: itself, and the last marker.
const FOOTER: u64 = 2 * SECTOR;
/// Types of the markers in front of grain tables, the directory, and the footer.
const TABLE_MARKER: u32 = 1;
const DIRECTORY_MARKER: u32 = 2;

/// Tells `check` what is wrong with the extent of `grains`.
///
/// # Errors
/// As [`Layer::check`](crate::layer::Layer::check).
pub(super) fn check(grains: &Grains, check: &mut Check<'_>) -> Result<()> {
    let walk = Walk::new(grains)?;
    walk.check_places(check)?;
    walk.check_copies(check);
    let tables = grains.header().tables();
    let each = if walk.copy.is_some() { 8 } else { 4 };
    let length = tables.saturating_mul(each);
    check.begin(length);
    // Of each table whether its entries are to be looked at. There are 2 Mi tables at most.
    let mut has_grains = Vec::with_capacity(to_usize(tables)?);
    walk.each(&mut |index, said, step| {
        if let Some(bytes) = step {
            check.advance(bytes)?;
        }
        has_grains.push(walk.check_table(index, said, check)?);
        Ok(())
    })?;
    check.finish();
    check.begin(length);
    let parts = walk.parts();
    let territory = Territory {
        size: walk.size,
        unit: SECTOR,
        parts: &parts,
    };
    let free = find_overlaps(check, &territory, |claims, check| {
        walk.each(&mut |index, said, step| {
            if let Some(bytes) = step {
                check.advance(bytes)?;
            }
            let has_grains = has_grains.get(to_usize(index)?).copied();
            walk.claim(index, said, has_grains.unwrap_or(false), claims)
        })
    })?;
    check.finish();
    if free >= grains.header().grain {
        check.remark(Topic::Unreferenced, None, || {
            format!("{free} bytes of the file belong to no grain, no table and no header")
        });
    }
    Ok(())
}

/// What the grain directory and its copy say of a table, in sectors; 0 of a directory that is not there.
#[derive(Clone, Copy)]
struct Said {
    first: u64,
    copy: u64,
}

struct Walk<'a> {
    grains: &'a Grains,
    file: &'a dyn ReadAt,
    /// Bytes of the file.
    size: u64,
    /// Where the directory lies, and its copy, if they do.
    first: Option<u64>,
    copy: Option<u64>,
    /// Copies of tables to which several entries of the copy of the directory lead; none if these are too many to be told apart.
    twice: Option<Twice>,
    /// Of a stream whose footer counts: where that is.
    footer: Option<u64>,
}

impl<'a> Walk<'a> {
    fn new(grains: &'a Grains) -> Result<Walk<'a>> {
        let file = &*grains.file().bytes;
        let header = grains.header();
        let first = match header.directory {
            Directory::At(at) => Some(at).filter(|_| grains.directory.is_some()),
            Directory::InFooter => None,
        };
        let is_stream = read_header(file)?.directory == Directory::InFooter;
        let footer = file.size().saturating_sub(FOOTER);
        // A copy in the same place is none.
        let copy = header.redundant.filter(|at| Some(*at) != first);
        let mut walk = Walk {
            grains,
            file,
            size: file.size(),
            first,
            copy: copy.filter(|_| grains.redundant.is_some()),
            twice: None,
            footer: is_stream.then_some(footer),
        };
        let mut copies = Vec::new();
        walk.each(&mut |_, said, _| {
            copies.extend(sectors(said.copy).filter(|at| *at != 0));
            Ok(())
        })?;
        walk.twice = Twice::of(copies, header.format).ok();
        Ok(walk)
    }

    /// Whether the copies of tables are looked at.
    fn check_copies(&self, check: &mut Check<'_>) {
        if self.twice.is_none() {
            check.fault(Topic::Overlap, self.copy, || {
                "so many copies of grain tables are each said to be about more than one part of the disk that none is compared with its table".to_string()
            });
        }
    }

    /// Where the directories lie, and how the image was left.
    fn check_places(&self, check: &mut Check<'_>) -> Result<()> {
        let header = self.grains.header();
        let base = self.footer.unwrap_or(0);
        if header.is_unclean {
            check.remark(Topic::State, base.saturating_add(UNCLEAN), || {
                "the extent was not closed properly, or was open when it was copied".to_string()
            });
        }
        if self.first.is_none() {
            check.fault(Topic::Outside, base.saturating_add(DIRECTORY), || {
                "the grain directory does not lie in the file; its copy is used".to_string()
            });
        }
        if header.redundant.is_some() && self.grains.redundant.is_none() {
            check.fault(Topic::Outside, base.saturating_add(REDUNDANT), || {
                "the copy of the grain directory does not lie in the file".to_string()
            });
        }
        if header.redundant.is_some() && header.redundant == self.first {
            check.remark(Topic::Copies, base.saturating_add(REDUNDANT), || {
                "the grain directory is said to be its own copy".to_string()
            });
        }
        if let Some(at) = self.first.filter(|_| self.footer.is_some()) {
            let length = header.tables().saturating_mul(4);
            self.check_marker(
                "the grain directory",
                DIRECTORY_MARKER,
                at..at.saturating_add(length),
                check,
            )?;
        }
        Ok(())
    }

    /// The marker in front of what lies at `place` in a stream.
    fn check_marker(
        &self,
        what: &str,
        kind: u32,
        place: Range<u64>,
        check: &mut Check<'_>,
    ) -> Result<()> {
        let Some(at) = place.start.checked_sub(SECTOR) else {
            return Ok(());
        };
        let marker = Marker::read(self.file, at)?;
        let length = place.end.saturating_sub(place.start);
        let said = sectors(marker.value).unwrap_or(u64::MAX);
        if marker.length != 0 || marker.kind != kind || said < length {
            check.fault(Topic::Structure, at, || {
                format!("there is no marker of {what} of {length} bytes in front of it")
            });
        }
        Ok(())
    }

    /// Looks at a table and its copy, and at the grains; answers whether there may be any that are the table's own.
    fn check_table(&self, index: u64, said: Said, check: &mut Check<'_>) -> Result<bool> {
        if self.first.is_some() && self.copy.is_some() && (said.first == 0) != (said.copy == 0) {
            let is_lost = said.first == 0;
            let at = if is_lost { self.first } else { self.copy };
            let other = said.first.max(said.copy);
            check.fault(Topic::Copies, entry_at(at, index), || {
                format!(
                    "there is no grain table {index} by the {}, and one at sector {other} by the other",
                    if is_lost { "grain directory" } else { "copy of the grain directory" }
                )
            });
        }
        let first = self.judged("grain table", self.first, index, said.first, check)?;
        let copy = match said.copy == said.first {
            true => None,
            false => self.judged("copy of grain table", self.copy, index, said.copy, check)?,
        };
        // What the table itself says is judged; its copy where that is all there is.
        let Some(chosen) = first.or(copy) else {
            return Ok(false);
        };
        let sector = if first.is_some() {
            said.first
        } else {
            said.copy
        };
        let is_shared = |twice: Option<&Twice>, at| twice.is_none_or(|twice| twice.holds(at));
        if !self.grains.holds(index, sector)
            || self.grains.twice.holds(chosen)
            || first.is_none() && is_shared(self.twice.as_ref(), chosen)
        {
            return Ok(false);
        }
        let copy = copy.filter(|at| *at != chosen);
        let copy = copy.filter(|at| {
            self.grains.holds(index, said.copy) && !is_shared(self.twice.as_ref(), *at)
        });
        let length = self.grains.table_length(index);
        let is_hole = self.is_hole(chosen, length)?;
        let is_copy_hole = match copy {
            Some(at) => self.is_hole(at, length)?,
            None => true,
        };
        if is_hole && is_copy_hole {
            return Ok(false);
        }
        let entries = self.grains.read_table(chosen, length)?;
        let first_grain = index.saturating_mul(self.grains.header().table_entries);
        if let Some(place) = copy {
            let copies = self.grains.read_table(place, length)?;
            compare_tables(first_grain, &entries, (place, &copies), check);
        }
        for (number, entry) in (0u64..).zip(entries) {
            if let Grain::At(at) = self.grains.grain_of(entry) {
                let written_at = chosen.saturating_add(number.saturating_mul(4));
                let grain = first_grain.saturating_add(number);
                self.check_grain(grain, at, written_at, check)?;
            }
        }
        Ok(!is_hole)
    }

    fn is_hole(&self, at: u64, length: u64) -> Result<bool> {
        let data = self.file.data_extents(at..at.saturating_add(length))?;
        Ok(data.is_empty())
    }

    /// Where the table at `sector` lies, as an entry of the directory at `directory` says; nothing if there is none.
    fn judged(
        &self,
        what: &'static str,
        directory: Option<u64>,
        index: u64,
        sector: u64,
        check: &mut Check<'_>,
    ) -> Result<Option<u64>> {
        if sector == 0 {
            return Ok(None);
        }
        let Some(at) = self.table(index, sector) else {
            check.fault(Topic::Outside, entry_at(directory, index), || {
                format!(
                    "{what} {index} is said to lie at sector {sector}, and ends beyond the end of the file ({} bytes)",
                    self.size
                )
            });
            return Ok(None);
        };
        if self.footer.is_some() {
            let end = at.saturating_add(self.grains.table_length(index));
            let name = format!("{what} {index}");
            self.check_marker(&name, TABLE_MARKER, at..end, check)?;
        }
        Ok(Some(at))
    }

    /// Where a table lies, if it lies in the file.
    fn table(&self, index: u64, sector: u64) -> Option<u64> {
        let length = self.grains.table_length(index);
        let at = sectors(sector).filter(|at| at.saturating_add(length) <= self.size);
        at.filter(|_| sector != 0)
    }

    fn check_grain(
        &self,
        grain: u64,
        at: u64,
        written_at: u64,
        check: &mut Check<'_>,
    ) -> Result<()> {
        let header = self.grains.header();
        let size = self.size;
        let length = match header.is_compressed {
            true => marker::LENGTH,
            false => self.grains.grain_length(grain),
        };
        if at.saturating_add(length) > size {
            check.fault(Topic::Outside, written_at, || {
                format!("grain {grain} is said to lie at byte {at}, and ends beyond the end of the file ({size} bytes)")
            });
            return Ok(());
        }
        if !header.is_compressed {
            return Ok(());
        }
        let marker = Marker::read(self.file, at)?;
        let expected = grain.saturating_mul(header.grain) / SECTOR;
        if marker.value != expected {
            let found = marker.value;
            check.fault(Topic::Structure, written_at, || {
                format!("grain {grain} is said to lie at byte {at}, where one is marked as that of sector {found} and not {expected}")
            });
        }
        let count = u64::from(marker.length);
        let most = header.grain.saturating_mul(2);
        let field = at.saturating_add(8);
        if !(1..=most).contains(&count) {
            check.fault(Topic::Compressed, field, || {
                format!("compressed grain {grain} is said to take {count} bytes, which is not 1 to {most}")
            });
        } else if marker::end(at, &marker) > size {
            check.fault(Topic::Outside, field, || {
                format!("compressed grain {grain} is said to take {count} bytes, and is cut off by the end of the file ({size} bytes)")
            });
        }
        Ok(())
    }

    /// Headers, descriptor, directories, and the footer.
    fn parts(&self) -> Vec<(Range<u64>, &'static str)> {
        let header = self.grains.header();
        let length = header.tables().saturating_mul(4);
        let table = |at: u64| at..at.saturating_add(length);
        let mut parts = vec![(0..header.length(), "the header")];
        parts.extend(
            header
                .descriptor
                .clone()
                .map(|range| (range, "the descriptor")),
        );
        parts.extend(self.first.map(|at| (table(at), "the grain directory")));
        parts.extend(
            self.copy
                .map(|at| (table(at), "the copy of the grain directory")),
        );
        // With the marker in front of it.
        let footer = self.footer.map(|at| at.saturating_sub(SECTOR)..self.size);
        parts.extend(footer.map(|range| (range, "the footer")));
        if let (Some(_), Some(at)) = (
            self.footer,
            self.first.and_then(|at| at.checked_sub(SECTOR)),
        ) {
            parts.push((
                at..at.saturating_add(SECTOR),
                "the marker of the grain directory",
            ));
        }
        parts
    }

    /// Claims a table, its copy, and, if it `has_grains`, those that lie in the file.
    fn claim(
        &self,
        index: u64,
        said: Said,
        has_grains: bool,
        claims: &mut Claims<'_>,
    ) -> Result<()> {
        let full = self.grains.header().table_entries.saturating_mul(4);
        let mut chosen = None;
        for (what, directory, sector) in [
            ("grain table", self.first, said.first),
            ("copy of grain table", self.copy, said.copy),
        ] {
            let is_same = chosen.is_some() && said.first == said.copy;
            if let Some(at) = self.table(index, sector).filter(|_| !is_same) {
                let start = match self.footer {
                    Some(_) => at.saturating_sub(SECTOR),
                    None => at,
                };
                let end = at.saturating_add(self.grains.table_length(index));
                claims.spare(end..at.saturating_add(full));
                let written_at = entry_at(directory, index);
                claims.add(Owner::Numbered(what, index), start..end, written_at);
                chosen = chosen.or(Some(at));
            }
        }
        let Some(place_of) = chosen.filter(|_| has_grains) else {
            return Ok(());
        };
        let length = self.grains.table_length(index);
        let entries = self.grains.read_table(place_of, length)?;
        let first = index.saturating_mul(self.grains.header().table_entries);
        for (number, entry) in (0u64..).zip(entries) {
            let written_at = place_of.saturating_add(number.saturating_mul(4));
            let grain = first.saturating_add(number);
            if let Some(range) = self.range_of(grain, entry)? {
                if range.end.saturating_sub(range.start) < self.grains.header().grain
                    && !self.grains.header().is_compressed
                {
                    let end = place(entry).saturating_add(self.grains.header().grain);
                    claims.spare(range.end..end);
                }
                claims.add(Owner::Numbered("grain", grain), range, written_at);
            }
        }
        Ok(())
    }

    /// The bytes of the file that a grain takes, if it is there, lies within it, and takes no more than it can.
    fn range_of(&self, grain: u64, entry: u32) -> Result<Option<Range<u64>>> {
        let Grain::At(at) = self.grains.grain_of(entry) else {
            return Ok(None);
        };
        let end = match self.grains.header().is_compressed {
            true if at.saturating_add(marker::LENGTH) > self.size => u64::MAX,
            true => marker::end(at, &Marker::read(self.file, at)?),
            false => at.saturating_add(self.grains.grain_length(grain)),
        };
        // A compressed one of more than twice its bytes was told, and would claim without end.
        let most = self.grains.header().grain.saturating_mul(3);
        let is_possible = end.saturating_sub(at) <= most.saturating_add(SECTOR);
        Ok(Some(at..end).filter(|range| is_possible && range.end <= self.size))
    }

    /// Tells `each` what is said of all tables; the first one of a step with the bytes of the directories that the step reads.
    fn each(&self, each: &mut dyn FnMut(u64, Said, Option<u64>) -> Result<()>) -> Result<()> {
        let count = self.grains.header().tables();
        let mut first = 0u64;
        while first < count {
            let end = count.min(first.saturating_add(STEP));
            let length = end.saturating_sub(first).saturating_mul(4);
            let read = |at: Option<u64>| -> Result<Vec<u32>> {
                let Some(at) = at else {
                    return Ok(vec![0; to_usize(end.saturating_sub(first))?]);
                };
                let at = at.saturating_add(first.saturating_mul(4));
                self.grains.read_table(at, length)
            };
            let directories = [self.first, self.copy];
            let mut step =
                Some(length.saturating_mul(to_u64(directories.iter().flatten().count())));
            let pairs = read(self.first)?.into_iter().zip(read(self.copy)?);
            for (index, (first, copy)) in (first..end).zip(pairs) {
                let said = Said {
                    first: first.into(),
                    copy: copy.into(),
                };
                each(index, said, step.take())?;
            }
            first = end;
        }
        Ok(())
    }
}

/// Tells where the copy of a table, which lies at `copy.0`, says something else than the table, whose first entry is that of grain `first`.
fn compare_tables(first: u64, entries: &[u32], copy: (u64, &[u32]), check: &mut Check<'_>) {
    let (place, copies) = copy;
    for (number, (entry, copy)) in (0u64..).zip(entries.iter().zip(copies)) {
        if entry != copy {
            let at = place.saturating_add(number.saturating_mul(4));
            let grain = first.saturating_add(number);
            check.fault(Topic::Copies, at, || {
                format!("the copy of the grain table says {copy} of grain {grain}, and the table says {entry}")
            });
        }
    }
}

/// Where an entry of a grain directory is written.
fn entry_at(directory: Option<u64>, index: u64) -> u64 {
    let offset = index.saturating_mul(4);
    directory.unwrap_or(0).saturating_add(offset)
}
