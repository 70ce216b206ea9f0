//! The L1 table and the L2 tables ("Cluster mapping"): read where they are needed, what was read last kept.

use super::entry::{Cluster, OFFSET};
use super::header::{Header, incompatible};
use crate::align::to_usize;
use crate::recent::Recent;
use crate::table::{Share, Table, Width};
use crate::twice::Twice;
use cairn_base::read_at::read_vec;
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result};
use std::ops::Range;
use std::sync::Arc;

/// Bytes of L2 tables that are read at once, and kept together: in clusters of 64 KiB they tell of 128 MiB of the disk.
const SLICE: u64 = 16 << 10;
/// Bytes of L2 tables that one disk keeps.
const KEPT: u64 = 4 << 20;
/// Entries of the L1 table that are looked at at once.
pub(super) const STEP: u64 = 8192;
/// Of an L2 table of at least so many bytes the file is asked in a walk whether it is a hole.
const LARGE: u64 = 4096;

/// The tables of an image.
pub(super) struct Tables {
    image: Arc<dyn ReadAt>,
    header: Header,
    l1: Table,
    /// L2 tables to which several entries lead.
    twice: Twice,
    slices: Recent<Vec<u8>>,
}

/// What a walk finds where an entry of the L1 table leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leads {
    /// To no cluster: there is no L2 table, or it is a hole of the file.
    Nowhere,
    /// To what can be no L2 table.
    Astray,
    /// To an L2 table.
    Table,
}

/// Entries of an L2 table that stand beside each other.
pub(super) struct Slice {
    bytes: Arc<Vec<u8>>,
    /// The cluster of the guest that the first is about.
    first: u64,
    header: Header,
}

impl Tables {
    /// Those that `header` tells of.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if the L1 table does not lie in the file, or if more than 4096 L2 tables belong to several of its
    /// entries.
    pub(super) fn open(image: Arc<dyn ReadAt>, header: &Header, share: Share) -> Result<Tables> {
        let l1 = Table::open(
            image.clone(),
            header.l1_offset,
            header.l1_entries,
            Width::Be64,
            share,
        )?;
        let twice = Twice::of(all_tables(&l1)?, "QCOW2")?;
        let slice = SLICE.min(header.cluster_size());
        let slices = share.of(KEPT).checked_div(slice).unwrap_or(0).clamp(4, 256);
        Ok(Tables {
            image,
            header: *header,
            l1,
            twice,
            slices: Recent::new(to_usize(slices)?),
        })
    }

    /// The file of the tables.
    pub(super) fn image(&self) -> &Arc<dyn ReadAt> {
        &self.image
    }

    /// What the image says of itself.
    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    /// Where the L2 tables of a range of the L1 table (a few thousand entries) lie; 0 if there is none.
    ///
    /// # Errors
    /// What the image says when it is read.
    pub(super) fn l2_tables(&self, range: Range<u64>) -> Result<Vec<u64>> {
        let entries = self.l1.entries(range)?;
        Ok(entries.into_iter().map(|entry| entry & OFFSET).collect())
    }

    /// What a walk finds at `table`, where an entry of the L1 table leads; 0 if nowhere.
    ///
    /// # Errors
    /// What the image says when it is asked.
    pub(super) fn lead(&self, table: u64) -> Result<Leads> {
        if table == 0 {
            return Ok(Leads::Nowhere);
        }
        let size = self.header.cluster_size();
        let end = table.saturating_add(size);
        let is_astray = end > self.image.size() || !table.is_multiple_of(size);
        if is_astray || self.twice.holds(table) {
            return Ok(Leads::Astray);
        }
        // A table of zeros has nothing that is there.
        let is_hole = size >= LARGE && self.image.data_extents(table..end)?.is_empty();
        Ok(match is_hole {
            true => Leads::Nowhere,
            false => Leads::Table,
        })
    }

    /// The entries around that of cluster `number` of the guest, whose L2 table lies at `table`.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if no L2 table can lie there, or if it belongs to other clusters too.
    pub(super) fn slice(&self, table: u64, number: u64) -> Result<Slice> {
        let cluster_size = self.header.cluster_size();
        let l1_index = number >> self.header.l2_bits();
        let end = table.checked_add(cluster_size);
        let is_inside = end.is_some_and(|end| end <= self.image.size());
        if !is_inside || !table.is_multiple_of(cluster_size) {
            let why = match is_inside {
                true => "at no multiple of the cluster size".to_string(),
                false => format!("beyond the end of the file ({} bytes)", self.image.size()),
            };
            return Err(Error::damaged(format!(
                "L2 table {l1_index} of the QCOW2 is said to lie {why}"
            ))
            .at_offset(table));
        }
        let what = format_args!("L2 table {l1_index} of the QCOW2");
        self.twice.check(what, table)?;
        let entry = cluster_size >> self.header.l2_bits();
        let in_table = number & (1u64 << self.header.l2_bits()).saturating_sub(1);
        let length = SLICE.min(cluster_size);
        let entries = length.checked_div(entry).unwrap_or(1).max(1);
        // Both are powers of two: slices divide the table.
        let skipped = in_table.checked_rem(entries).unwrap_or(0);
        let inside = in_table.saturating_sub(skipped).saturating_mul(entry);
        let at = table.saturating_add(inside);
        let bytes = self
            .slices
            .get(at, || read_vec(&*self.image, at, to_usize(length)?))?;
        Ok(Slice {
            bytes,
            first: number.saturating_sub(skipped),
            header: self.header,
        })
    }

    /// What the tables say of cluster `number` of the guest.
    ///
    /// # Errors
    /// As [`slice`](Tables::slice).
    pub(super) fn cluster(&self, number: u64) -> Result<Cluster> {
        let index = number >> self.header.l2_bits();
        let table = self.l2_tables(index..index.saturating_add(1))?;
        match table.first() {
            None | Some(0) => Ok(Cluster::Absent),
            Some(table) => Ok(self.slice(*table, number)?.cluster(number)),
        }
    }
}

/// Where all L2 tables are said to lie: of 4 Mi entries at most.
fn all_tables(l1: &Table) -> Result<Vec<u64>> {
    let count = l1.entries_count();
    let mut all = Vec::new();
    let mut at = 0;
    while at < count {
        let range = at..count.min(at.saturating_add(STEP));
        at = range.end;
        // Of a hole nothing is read.
        if !l1.is_hole(&range)? {
            let found = l1.entries(range)?.into_iter().map(|entry| entry & OFFSET);
            all.extend(found.filter(|table| *table != 0));
        }
    }
    Ok(all)
}

impl Slice {
    /// The clusters of the guest that it is about.
    pub(super) fn clusters(&self) -> Range<u64> {
        let entry = match self.header.has(incompatible::EXTENDED_L2) {
            true => self.bytes.len() >> 4,
            false => self.bytes.len() >> 3,
        };
        self.first..self.first.saturating_add(to_u64(entry))
    }

    /// What it says of one of them.
    pub(super) fn cluster(&self, number: u64) -> Cluster {
        let index = usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let words = self.bytes.as_chunks::<8>().0;
        let word = |at: usize| words.get(at).map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let (entry, bitmap) = match self.header.has(incompatible::EXTENDED_L2) {
            true => {
                let at = index.saturating_mul(2);
                (word(at), word(at.saturating_add(1)))
            }
            false => (word(index), 0),
        };
        Cluster::parse(entry, bitmap, &self.header)
    }
}
