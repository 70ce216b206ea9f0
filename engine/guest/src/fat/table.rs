//! The file allocation table: of each cluster, which one follows it (Microsoft FAT specification, section 4; exFAT
//! specification, section 4.1).

use super::heap::{FIRST, Heap};
use crate::ntfs::cache::Cache;
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

/// Bytes of the table kept as one piece. The whole table of FAT12, whose entries cross bytes, is smaller.
const PAGE: usize = 16 << 10;
/// Pieces kept: 8 MiB.
const PAGES: usize = 512;
/// Bytes read at once where all of the table is read; a multiple of every entry's size but FAT12's.
const STEP: u64 = 256 << 10;

/// How wide the entries of a table are, and which values mean something else than a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// FAT12.
    Twelve,
    /// FAT16.
    Sixteen,
    /// FAT32: 28 bits, the upper four are nobody's.
    ThirtyTwo,
    /// exFAT: all 32 bits.
    ExFat,
}

/// What an entry says of its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// This one follows.
    Next(u32),
    /// It is the last one.
    End,
    /// It is not in use.
    Free,
    /// It cannot be used.
    Bad,
    /// A number that no cluster has.
    Outside(u32),
}

impl Width {
    /// Bytes that a table of `entries` takes.
    pub fn bytes(self, entries: u64) -> u64 {
        match self {
            Width::Twelve => entries.saturating_mul(3).div_ceil(2),
            Width::Sixteen => entries.saturating_mul(2),
            Width::ThirtyTwo | Width::ExFat => entries.saturating_mul(4),
        }
    }

    /// Entries that are whole in a table of `bytes`.
    pub fn entries(self, bytes: u64) -> u64 {
        match self {
            Width::Twelve => bytes.saturating_mul(2) / 3,
            Width::Sixteen => bytes / 2,
            Width::ThirtyTwo | Width::ExFat => bytes / 4,
        }
    }

    /// The value of a bad cluster; those above it end a chain.
    fn bad(self) -> u32 {
        match self {
            Width::Twelve => 0xFF7,
            Width::Sixteen => 0xFFF7,
            Width::ThirtyTwo => 0x0FFF_FFF7,
            Width::ExFat => 0xFFFF_FFF7,
        }
    }
}

/// A table and its copies.
pub struct Table {
    device: Arc<dyn ReadAt>,
    width: Width,
    /// Where the copies begin in bytes, the one that counts first.
    copies: Vec<u64>,
    /// Bytes of a copy that hold entries.
    length: u64,
    heap: Heap,
    pages: Cache<u64, Arc<Vec<u8>>>,
}

impl Table {
    /// The table whose copies begin at `copies`, the one that counts first: others are read where that one cannot be.
    pub fn new(device: Arc<dyn ReadAt>, width: Width, copies: Vec<u64>, heap: Heap) -> Table {
        let entries = u64::from(heap.count()).saturating_add(u64::from(FIRST));
        Table {
            device,
            width,
            copies,
            length: width.bytes(entries),
            heap,
            pages: Cache::of_count(PAGES),
        }
    }

    /// The volume's clusters.
    pub fn heap(&self) -> &Heap {
        &self.heap
    }

    /// Reads from the first copy that can be read. An error that may be gone the next time says nothing of a copy.
    fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut first = None;
        let mut bytes = vec![0; length];
        for copy in &self.copies {
            let at = copy.saturating_add(offset);
            let inside = at
                .checked_add(to_u64(length))
                .is_some_and(|end| end <= self.device.size());
            let read = if inside {
                self.device.read_exact_at(at, &mut bytes)
            } else {
                Err(
                    Error::damaged("the file allocation table lies beyond the volume's end")
                        .at_offset(at),
                )
            };
            match read {
                Ok(()) => return Ok(bytes),
                Err(error) if error.is_momentary() => return Err(error),
                Err(error) => {
                    first.get_or_insert(error);
                }
            }
        }
        Err(first.unwrap_or_else(|| Error::damaged("there is no file allocation table")))
    }

    fn page(&self, number: u64) -> Result<Arc<Vec<u8>>> {
        if let Some(page) = self.pages.get(&number) {
            return Ok(page);
        }
        let offset = number.saturating_mul(to_u64(PAGE));
        let left = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let page = Arc::new(self.read(offset, left.min(PAGE))?);
        self.pages.insert(number, page.clone(), 0);
        Ok(page)
    }

    /// Something that looks entries up and keeps at hand the piece it read last.
    pub fn cursor(&self) -> Cursor<'_> {
        Cursor {
            table: self,
            page: None,
        }
    }

    /// What entry `number` holds, without the bits that are nobody's.
    ///
    /// # Errors
    /// Damaged if the table has no such entry.
    pub fn value(&self, number: u32) -> Result<u32> {
        self.cursor().value(number)
    }

    fn link(&self, value: u32) -> Link {
        match value {
            0 => Link::Free,
            cluster if self.heap.holds(cluster) => Link::Next(cluster),
            bad if bad == self.width.bad() => Link::Bad,
            end if end > self.width.bad() => Link::End,
            other => Link::Outside(other),
        }
    }

    /// Tells `sink` the clusters that are not in use, in ranges of numbers. Reads all of the table, in pieces.
    ///
    /// # Errors
    /// Whatever reading the table reports.
    pub fn free(&self, sink: &mut dyn FnMut(Range<u32>) -> ControlFlow<()>) -> Result<()> {
        let mut open: Option<u32> = None;
        let mut number = 0u32;
        let mut offset = 0u64;
        while offset < self.length {
            let step = self.length.saturating_sub(offset).min(STEP);
            let bytes = self.read(offset, usize::try_from(step).unwrap_or(0))?;
            offset = offset.saturating_add(step);
            for index in 0..self.width.entries(step) {
                let is_free = number >= FIRST && self.width.value(&bytes, index) == Some(0);
                if let Some(from) = open.filter(|_| !is_free) {
                    open = None;
                    if sink(from..number).is_break() {
                        return Ok(());
                    }
                } else if is_free && open.is_none() {
                    open = Some(number);
                }
                number = number.saturating_add(1);
            }
        }
        let end = self.heap.count().saturating_add(FIRST);
        if let Some(from) = open.filter(|&from| from < end) {
            let _ = sink(from..end);
        }
        Ok(())
    }
}

impl Width {
    /// Entry `index` of the part of a table in `bytes`.
    fn value(self, bytes: &[u8], index: u64) -> Option<u32> {
        let at = usize::try_from(self.bytes(index.saturating_add(1)))
            .ok()?
            .checked_sub(if self == Width::Twelve { 2 } else { 0 });
        match self {
            Width::Twelve => {
                // Two entries share three bytes.
                let pair = u16::from_le_bytes(*bytes.get(at?..)?.first_chunk()?);
                let value = if index.is_multiple_of(2) {
                    pair & 0xFFF
                } else {
                    pair >> 4
                };
                Some(u32::from(value))
            }
            Width::Sixteen => {
                let entry = bytes.get(at?.checked_sub(2)?..)?.first_chunk()?;
                Some(u32::from(u16::from_le_bytes(*entry)))
            }
            Width::ThirtyTwo | Width::ExFat => {
                let entry = bytes.get(at?.checked_sub(4)?..)?.first_chunk()?;
                let value = u32::from_le_bytes(*entry);
                Some(if self == Width::ExFat {
                    value
                } else {
                    value & 0x0FFF_FFFF
                })
            }
        }
    }
}

/// Looks entries of a table up; neighbours cost next to nothing.
pub struct Cursor<'a> {
    table: &'a Table,
    page: Option<(u64, Arc<Vec<u8>>)>,
}

impl Cursor<'_> {
    /// What entry `number` holds, as [`Table::value`].
    pub fn value(&mut self, number: u32) -> Result<u32> {
        let width = self.table.width;
        let per_page = match width {
            // All of it is in the first.
            Width::Twelve => u64::MAX,
            _ => width.entries(to_u64(PAGE)),
        };
        let number = u64::from(number);
        let wanted = number.checked_div(per_page).unwrap_or(0);
        let page = match &self.page {
            Some((held, page)) if *held == wanted => page,
            _ => {
                let page = self.table.page(wanted)?;
                &self.page.insert((wanted, page)).1
            }
        };
        width
            .value(page, number.checked_rem(per_page).unwrap_or(0))
            .ok_or_else(|| {
                Error::damaged(format!("the file allocation table has no entry {number}"))
            })
    }

    /// What the table says of `cluster`.
    ///
    /// # Errors
    /// Whatever reading the table reports.
    pub fn link(&mut self, cluster: u32) -> Result<Link> {
        Ok(self.table.link(self.value(cluster)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::Kind;

    fn table(width: Width, values: &[u32]) -> Table {
        let mut bytes = vec![0u8; 16];
        let mut packed = vec![0u8; width.bytes(values.len() as u64) as usize + 1];
        for (index, value) in values.iter().enumerate() {
            match width {
                Width::Twelve => {
                    let at = index * 3 / 2;
                    let shifted = if index % 2 == 0 { *value } else { value << 4 };
                    packed[at] |= shifted as u8;
                    packed[at + 1] |= (shifted >> 8) as u8;
                }
                Width::Sixteen => {
                    packed[index * 2..index * 2 + 2].copy_from_slice(&(*value as u16).to_le_bytes())
                }
                _ => packed[index * 4..index * 4 + 4].copy_from_slice(&value.to_le_bytes()),
            }
        }
        bytes.extend(&packed);
        let device: Arc<dyn ReadAt> = Arc::new(bytes);
        let heap = Heap::new(device.clone(), 1 << 20, 512, values.len() as u32 - 2);
        Table::new(device, width, vec![u64::MAX - 9, 16], heap)
    }

    #[test]
    fn entries_of_every_width_are_told() {
        for (width, bad) in [
            (Width::Twelve, 0xFF7),
            (Width::Sixteen, 0xFFF7),
            (Width::ThirtyTwo, 0x0FFF_FFF7),
            (Width::ExFat, 0xFFFF_FFF7),
        ] {
            let table = table(width, &[0xFF8, 0xFFF, 3, 7, 0, bad, bad + 8, 9, 0, 0, 1]);
            let mut cursor = table.cursor();
            let told: Vec<Link> = (2..11)
                .map(|cluster| cursor.link(cluster).unwrap())
                .collect();
            let expected = [
                Link::Next(3),
                Link::Next(7),
                Link::Free,
                Link::Bad,
                Link::End,
                Link::Next(9),
                Link::Free,
                Link::Free,
                Link::Outside(1),
            ];
            assert_eq!(told, expected, "{width:?}");
            assert_eq!(table.value(2_000_000).unwrap_err().kind(), Kind::Damaged);
            let mut free = Vec::new();
            table
                .free(&mut |range| {
                    free.push(range);
                    ControlFlow::Continue(())
                })
                .unwrap();
            assert_eq!(free, [4..5, 8..10], "{width:?}");
        }
    }

    #[test]
    fn all_of_a_table_that_is_free_is_one_range() {
        let table = table(Width::Sixteen, &vec![0; 40_000]);
        let mut free = Vec::new();
        table
            .free(&mut |range| {
                free.push(range);
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(free, std::iter::once(2..40_000).collect::<Vec<_>>());
        assert_eq!(table.cursor().link(39_999).unwrap(), Link::Free);
    }
}
