//! All that uses clusters of the file ("Host cluster management"), in one walk: header, L1 and L2 tables of the disk and of its snapshots and what these
//! lead to, the snapshot table, the refcount table and blocks, bitmaps. Each entry is judged by itself.
//!
//! How much is read is bounded by the file, whatever it claims: tables that are holes of it are passed over, an L2 table is looked at once for each L1 table
//! that leads there, and of the tables of all bitmaps, and of the L1 tables of all snapshots, no more bytes than the file is long. Of the L2 tables of
//! all snapshots, which may share them, it is as much or 1 GiB, whichever is more.

use super::bounds::{Again, Budget, Budgets, Quiet};
use super::extensions::Bitmaps;
use super::header::{Header, MAX_L1};
use super::l2::{self, Places};
use super::roots::{self, Roots};
use super::snapshots;
use super::user::{Of, Owner, Use, Visitor};
use crate::align::to_usize;
use crate::check::Topic;
use crate::table::Width;
use cairn_base::read_at::read_vec;
use cairn_base::{ReadAt, Result, View};

/// Bits of an L1 entry that have no meaning ("L1 table entry"). The offset stands in bits 9 to 55.
const L1_RESERVED: u64 = 0x7f00_0000_0000_01ff;
/// Bits of a refcount table entry that have no meaning ("Refcount table entry").
pub(super) const REFCOUNT_RESERVED: u64 = 0x1ff;
/// Bits of a bitmap table entry that have no meaning ("Bitmap table").
const BITMAP_RESERVED: u64 = 0xff00_0000_0000_01fe;
const OFFSET: u64 = super::entry::OFFSET;
const COPIED: u64 = super::entry::COPIED;

/// Bytes of a table that are read at once.
const STEP: u64 = 64 << 10;
/// So much of a table is passed over at once if it is a hole of the file.
const LEAP: u64 = 64 << 20;
/// From so many bytes on a table is looked for holes: a smaller one is read as fast.
const LARGE: u64 = 4096;
/// Bytes of the fixed part of a bitmap's directory entry ("Bitmap directory").
const BITMAP_ENTRY: u64 = 24;
/// Bitmaps of an image, at most: QEMU opens no more.
const MAX_BITMAPS: u64 = 65_535;

/// The walk.
pub(super) struct Users<'a> {
    pub(super) image: &'a dyn ReadAt,
    pub(super) header: &'a Header,
    pub(super) roots: &'a Roots,
    /// Bytes of the external data file, if there is one.
    pub(super) data_file: Option<u64>,
}

/// An entry of such a table.
struct Entry {
    index: u64,
    value: u64,
    /// Where it is written.
    written_at: u64,
}

/// Takes entries; answers whether there shall be more.
type Each<'a> = &'a mut dyn FnMut(Entry, &mut dyn Visitor) -> Result<bool>;

/// A table of entries of 8 bytes.
struct Entries {
    owner: Owner,
    offset: u64,
    count: u64,
    /// Where its place is written.
    written_at: u64,
}

impl Users<'_> {
    /// Tells `visitor` everything, always in the same order.
    ///
    /// # Errors
    /// What the image says when it is read, and what `visitor` says.
    pub(super) fn walk(&self, visitor: &mut dyn Visitor) -> Result<()> {
        visitor.uses(&Use {
            owner: Owner::Header,
            bytes: 0..self.header.cluster_size(),
            written_at: 0,
            is_copied: None,
        })?;
        self.refcounts(visitor)?;
        self.l1(
            Of(0),
            (self.header.l1_offset, self.roots.l1_entries),
            roots::L1_OFFSET,
            None,
            visitor,
        )?;
        let found = snapshots::read(self.image, self.header, self.roots.snapshots, visitor)?;
        if let Some(bytes) = found.table {
            self.place(Owner::Snapshots, bytes, roots::SNAPSHOTS, visitor)?;
        }
        let budgets = Budgets::of(self.image.size());
        for (number, snapshot) in (1..).zip(found.list) {
            let table = (snapshot.l1_offset, snapshot.l1_entries);
            self.l1(
                Of(number),
                table,
                snapshot.written_at,
                Some(&budgets),
                visitor,
            )?;
            if budgets.is_spent() {
                break;
            }
        }
        match &self.roots.bitmaps {
            Some(bitmaps) => self.bitmaps(bitmaps, visitor),
            None => Ok(()),
        }
    }

    fn places(&self) -> Places<'_> {
        Places {
            header: self.header,
            size: self.image.size(),
            data_file: self.data_file,
        }
    }

    /// What lies in `bytes`: whether it can, with all of it in the file.
    fn place(
        &self,
        owner: Owner,
        (offset, length): (u64, u64),
        written_at: u64,
        visitor: &mut dyn Visitor,
    ) -> Result<bool> {
        let found = Use {
            owner,
            bytes: offset..offset.saturating_add(length),
            written_at,
            is_copied: None,
        };
        let is_there = found.bytes.end <= self.image.size();
        if !is_there && offset.is_multiple_of(self.header.cluster_size()) {
            let size = self.image.size();
            visitor.wrong(Topic::Outside, written_at, &|| {
                format!(
                    "{owner} is said to lie at byte {offset}, and ends beyond the end of the file ({size} bytes)"
                )
            });
            return Ok(false);
        }
        Ok(self.places().judge(&found, visitor)? && is_there)
    }

    /// Tells `each` the entries of a table that are not 0: number, entry, where it is written. Nothing, if the table is not in the file.
    fn entries(&self, table: &Entries, visitor: &mut dyn Visitor, each: Each<'_>) -> Result<()> {
        let length = table.count.saturating_mul(8);
        let place = (table.offset, length);
        if length == 0 || !self.place(table.owner, place, table.written_at, visitor)? {
            return Ok(());
        }
        self.scan(table, visitor, each)
    }

    /// As [`entries`](Users::entries), of a table that lies in the file.
    fn scan(&self, table: &Entries, visitor: &mut dyn Visitor, each: Each<'_>) -> Result<()> {
        let length = table.count.saturating_mul(8);
        let (mut done, mut looked) = (0u64, 0u64);
        while done < length {
            let start = table.offset.saturating_add(done);
            let leap = LEAP.min(length.saturating_sub(done));
            if done >= looked {
                looked = done.saturating_add(leap);
                if self.is_hole(start, leap)? {
                    visitor.advance(leap)?;
                    done = looked;
                    continue;
                }
            }
            let part = STEP.min(leap);
            if self.is_hole(start, part)? {
                visitor.advance(part)?;
                done = done.saturating_add(part);
                continue;
            }
            let bytes = read_vec(self.image, start, to_usize(part)?)?;
            visitor.advance(part)?;
            let found = (0u64..).zip(Width::Be64.decode(&bytes));
            for (index, entry) in found.filter(|(_, entry)| *entry != 0) {
                let at = index.saturating_mul(8);
                let number = done.saturating_add(at) >> 3;
                let entry = Entry {
                    index: number,
                    value: entry,
                    written_at: start.saturating_add(at),
                };
                if !each(entry, visitor)? {
                    return Ok(());
                }
            }
            done = done.saturating_add(part);
        }
        Ok(())
    }

    /// Whether so many bytes of the file are nothing but a hole.
    fn is_hole(&self, offset: u64, length: u64) -> Result<bool> {
        let end = offset.saturating_add(length);
        Ok(length >= LARGE && self.image.data_extents(offset..end)?.is_empty())
    }

    /// How much a table takes of a budget: what does not lie in the file is not read.
    fn cost(&self, table: &Entries) -> u64 {
        let length = table.count.saturating_mul(8);
        let end = table.offset.saturating_add(length);
        if end <= self.image.size() { length } else { 0 }
    }

    /// The clusters to which more than one entry of an L1 table leads, among the first 2^32 of the file.
    fn again(&self, table: &Entries, visitor: &mut dyn Visitor) -> Result<Again> {
        let (size, bits) = (self.image.size(), self.header.cluster_bits);
        let mut clusters = Vec::new();
        if self.cost(table) > 0 {
            self.scan(table, &mut Quiet(visitor), &mut |entry, _| {
                let offset = entry.value & OFFSET;
                if offset != 0 && offset < size {
                    clusters.extend(u32::try_from(offset >> bits).ok());
                }
                Ok(true)
            })?;
        }
        Ok(Again::among(clusters))
    }

    /// An L1 table and what it leads to.
    fn l1(
        &self,
        of: Of,
        (offset, count): (u64, u64),
        written_at: u64,
        budgets: Option<&Budgets>,
        visitor: &mut dyn Visitor,
    ) -> Result<()> {
        let table = Entries {
            owner: Owner::L1(of),
            offset,
            count,
            written_at,
        };
        if count.saturating_mul(8) > MAX_L1 {
            visitor.wrong(Topic::Structure, written_at, &|| {
                format!(
                    "{} is said to have {count} entries, more than 32 MiB",
                    table.owner
                )
            });
            return Ok(());
        }
        let cost = self.cost(&table);
        if !budgets.is_none_or(|budgets| budgets.take_l1(table.owner, cost, written_at, visitor)) {
            return Ok(());
        }
        let mut again = self.again(&table, visitor)?;
        // So many tables have room beside each other.
        let mut room = self.image.size() >> self.header.cluster_bits;
        self.entries(&table, visitor, &mut |Entry { index, value, written_at }, visitor| {
            let owner = Owner::L2(of, index);
            if value & L1_RESERVED != 0 {
                visitor.wrong(Topic::Reserved, written_at, &|| {
                    format!("reserved bits of the entry of {owner} are set: {value:#018x}")
                });
            }
            let offset = value & OFFSET;
            if offset == 0 {
                return Ok(true);
            }
            let Some(left) = room.checked_sub(1) else {
                visitor.wrong(Topic::Overlap, written_at, &|| {
                    format!("{} leads to more L2 tables than the file has clusters: the rest of it is not looked at", table.owner)
                });
                return Ok(false);
            };
            room = left;
            let size = self.header.cluster_size();
            if !budgets.is_none_or(|budgets| budgets.take_l2(owner, size, written_at, visitor)) {
                return Ok(false);
            }
            let is_again = again.meets(offset >> self.header.cluster_bits)?;
            self.l2(of, index, (value, written_at), is_again, visitor)?;
            Ok(true)
        })
    }

    fn l2(
        &self,
        of: Of,
        index: u64,
        (entry, written_at): (u64, u64),
        is_again: bool,
        visitor: &mut dyn Visitor,
    ) -> Result<()> {
        let size = self.header.cluster_size();
        let offset = entry & OFFSET;
        let found = Use {
            owner: Owner::L2(of, index),
            bytes: offset..offset.saturating_add(size),
            written_at,
            is_copied: (of == Of(0)).then_some(entry & COPIED != 0),
        };
        if !self.places().judge(&found, visitor)? {
            return Ok(());
        }
        if found.bytes.end > self.image.size() {
            visitor.wrong(Topic::Outside, written_at, &|| {
                format!(
                    "{} at byte {offset} is cut off by the end of the file",
                    found.owner
                )
            });
            return Ok(());
        }
        if is_again {
            visitor.wrong(Topic::Overlap, written_at, &|| {
                format!(
                    "{} is said to lie at byte {offset}, where one of the same L1 table lies already: its entries are not looked at again",
                    found.owner
                )
            });
            return Ok(());
        }
        if !visitor.wants_clusters() || self.is_hole(offset, size)? {
            return visitor.advance(size);
        }
        let bytes = read_vec(self.image, offset, to_usize(size)?)?;
        visitor.advance(size)?;
        let first = index << self.header.l2_bits();
        l2::walk(&self.places(), of, first, (&bytes, offset), visitor)
    }

    /// The refcount table and its blocks.
    fn refcounts(&self, visitor: &mut dyn Visitor) -> Result<()> {
        let size = self.header.cluster_size();
        let table = Entries {
            owner: Owner::RefcountTable,
            offset: self.roots.refcount_table,
            count: self.roots.refcount_entries(self.header),
            written_at: roots::REFCOUNT_TABLE,
        };
        self.entries(
            &table,
            visitor,
            &mut |Entry {
                      index,
                      value,
                      written_at,
                  },
                  visitor| {
                let owner = Owner::RefcountBlock(index);
                if value & REFCOUNT_RESERVED != 0 {
                    visitor.wrong(Topic::Reserved, written_at, &|| {
                        format!("reserved bits of the entry of {owner} are set: {value:#018x}")
                    });
                    return Ok(true);
                }
                self.place(owner, (value, size), written_at, visitor)?;
                Ok(true)
            },
        )
    }

    /// The bitmaps ("Bitmaps extension").
    fn bitmaps(&self, bitmaps: &Bitmaps, visitor: &mut dyn Visitor) -> Result<()> {
        let place = (bitmaps.offset, bitmaps.length);
        let written_at = bitmaps.written_at;
        if bitmaps.count > MAX_BITMAPS {
            visitor.wrong(Topic::Structure, written_at, &|| {
                format!(
                    "{} bitmaps are said, of at most {MAX_BITMAPS}: they are not looked at",
                    bitmaps.count
                )
            });
            return Ok(());
        }
        if !self.place(Owner::BitmapDirectory, place, written_at, visitor)? {
            return Ok(());
        }
        let end = bitmaps.offset.saturating_add(bitmaps.length);
        let budget = Budget::of(self.image.size());
        let mut at = bitmaps.offset;
        for number in 1..=bitmaps.count {
            let inside = at.saturating_add(BITMAP_ENTRY) <= end;
            let next = match inside {
                true => self.bitmap(number, at, &budget, visitor)?,
                false => u64::MAX,
            };
            if budget.is_spent() {
                return Ok(());
            }
            if next > end {
                visitor.wrong(Topic::Structure, at, &|| {
                    format!("the entry of bitmap {number} ends behind the bitmap directory")
                });
                return Ok(());
            }
            at = next;
        }
        Ok(())
    }

    /// The bitmap whose directory entry is written at `at`; where that ends.
    fn bitmap(
        &self,
        number: u64,
        at: u64,
        budget: &Budget,
        visitor: &mut dyn Visitor,
    ) -> Result<u64> {
        let bytes = read_vec(self.image, at, to_usize(BITMAP_ENTRY)?)?;
        let view = View::new(&bytes, "QCOW2 bitmap", at);
        let table = Entries {
            owner: Owner::BitmapTable(number),
            offset: view.u64_be(0)?,
            count: view.u32_be(8)?.into(),
            written_at: at,
        };
        let more = u64::from(view.u16_be(18)?).saturating_add(view.u32_be(20)?.into());
        let size = self.header.cluster_size();
        let is_paid = budget.takes(self.cost(&table), || {
            visitor.wrong(Topic::Overlap, at, &|| {
                format!("{} and those before it are larger together than the file: it and what follows is not looked at", table.owner)
            });
        });
        if !is_paid {
            return Ok(at);
        }
        self.entries(
            &table,
            visitor,
            &mut |Entry {
                      index,
                      value,
                      written_at,
                  },
                  visitor| {
                let owner = Owner::BitmapPart(number, index);
                if value & BITMAP_RESERVED != 0 {
                    visitor.wrong(Topic::Reserved, written_at, &|| {
                        format!("reserved bits of the entry of {owner} are set: {value:#018x}")
                    });
                }
                let offset = value & OFFSET;
                if offset != 0 {
                    let found = Use {
                        owner,
                        bytes: offset..offset.saturating_add(size),
                        written_at,
                        is_copied: None,
                    };
                    self.places().judge(&found, visitor)?;
                }
                Ok(true)
            },
        )?;
        let length = BITMAP_ENTRY.saturating_add(more).next_multiple_of(8);
        Ok(at.saturating_add(length))
    }
}
