//! A table of block places in an image (BAT): nothing of it is read before it is needed, and what was read is kept while there is room.

use crate::align::to_usize;
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result};
use parking_lot::RwLock;
use std::ops::Range;
use std::sync::Arc;

/// So much of a table is kept: all of the largest VHD with blocks of 2 MiB, 16 TiB of VHDX with blocks of 32 MiB. Of a larger one
/// pages take each other's places.
const KEPT: u64 = 4 << 20;
/// What is read of a table at once, and kept.
const PAGE: u64 = 4096;

/// How much memory an image of a chain may take beside the others: the first all that a disk may, the second half of
/// that, the third a third. Together the largest chain takes eight times as much as one disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share(u64);

impl Share {
    /// Of a disk that is opened by itself.
    pub(crate) const ALL: Share = Share(1);

    /// Of the image that has so many children above it.
    pub(crate) fn of_level(level: usize) -> Share {
        Share(cairn_base::units::to_u64(level).saturating_add(1))
    }

    /// What it gives of a `limit` for one disk.
    pub(crate) fn of(self, limit: u64) -> u64 {
        limit.checked_div(self.0).unwrap_or(limit)
    }
}

/// How an entry is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    /// Big-endian, 4 bytes (VHD).
    Be32,
    /// Little-endian, 8 bytes (VHDX).
    Le64,
}

impl Width {
    fn bytes(self) -> u64 {
        match self {
            Width::Be32 => 4,
            Width::Le64 => 8,
        }
    }
}

/// The table.
pub(crate) struct Table {
    image: Arc<dyn ReadAt>,
    offset: u64,
    entries: u64,
    width: Width,
    /// What was read last. A page has one slot; pages share it if there are more of them than slots.
    slots: Vec<RwLock<Option<Page>>>,
}

/// A part of the table.
struct Page {
    number: u64,
    bytes: Vec<u8>,
}

impl Table {
    /// `entries` entries from `offset` of `image` on. Nothing is read.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if they do not lie within the image.
    pub(crate) fn open(
        image: Arc<dyn ReadAt>,
        offset: u64,
        entries: u64,
        width: Width,
        share: Share,
    ) -> Result<Table> {
        let length = entries.checked_mul(width.bytes());
        let length = match length.and_then(|l| offset.checked_add(l).map(|end| (l, end))) {
            Some((length, end)) if end <= image.size() => length,
            _ => {
                return Err(Error::damaged(format!(
                    "the block table of {entries} entries ends beyond the end of the image file"
                ))
                .at_offset(offset));
            }
        };
        let kept = length.min(share.of(KEPT)).div_ceil(PAGE).max(1);
        Ok(Table {
            image,
            offset,
            entries,
            width,
            slots: std::iter::repeat_with(|| RwLock::new(None))
                .take(to_usize(kept)?)
                .collect(),
        })
    }

    /// How many entries there are.
    pub(crate) fn entries_count(&self) -> u64 {
        self.entries
    }

    /// The bytes of the table in which the entries of `range` lie.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if the table is shorter.
    fn bytes_of(&self, range: &Range<u64>) -> Result<Range<u64>> {
        if range.end > self.entries {
            return Err(Error::damaged(format!(
                "block table entry {} was asked for, and there are {}",
                range.end.saturating_sub(1),
                self.entries
            ))
            .at_offset(self.offset));
        }
        let width = self.width.bytes();
        // Both products were checked for the whole table.
        Ok(range.start.saturating_mul(width)..range.end.saturating_mul(width))
    }

    /// The entries of `range`, which the caller keeps short (a few thousand).
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if the table is shorter; what the image says otherwise.
    pub(crate) fn entries(&self, range: Range<u64>) -> Result<Vec<u64>> {
        let wanted = self.bytes_of(&range)?;
        let length = wanted.end.saturating_sub(wanted.start);
        let bytes = if length > PAGE {
            let at = self.offset.saturating_add(wanted.start);
            cairn_base::read_at::read_vec(&*self.image, at, to_usize(length)?)?
        } else {
            self.kept(wanted)?
        };
        Ok(match self.width {
            Width::Be32 => bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|b| u64::from(u32::from_be_bytes(*b)))
                .collect(),
            Width::Le64 => bytes
                .as_chunks::<8>()
                .0
                .iter()
                .map(|b| u64::from_le_bytes(*b))
                .collect(),
        })
    }

    /// Whether the file has nothing but a hole where the entries of `range` lie: then they are 0.
    ///
    /// # Errors
    /// As [`entries`](Table::entries).
    pub(crate) fn is_hole(&self, range: &Range<u64>) -> Result<bool> {
        let bytes = self.bytes_of(range)?;
        let at = |byte: u64| self.offset.saturating_add(byte);
        let data = self.image.data_extents(at(bytes.start)..at(bytes.end))?;
        Ok(data.is_empty())
    }

    /// Bytes of the table, from the pages that are kept.
    fn kept(&self, wanted: Range<u64>) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(to_usize(wanted.end.saturating_sub(wanted.start))?);
        let mut at = wanted.start;
        while at < wanted.end {
            let number = at.checked_div(PAGE).unwrap_or(0);
            let start = number.saturating_mul(PAGE);
            let end = start.saturating_add(PAGE).min(wanted.end);
            let part = to_usize(at.saturating_sub(start))?..to_usize(end.saturating_sub(start))?;
            self.append_page(number, part, &mut bytes)?;
            at = end;
        }
        Ok(bytes)
    }

    /// Appends `part` of a page to `bytes`.
    fn append_page(&self, number: u64, part: Range<usize>, bytes: &mut Vec<u8>) -> Result<()> {
        let index = number.checked_rem(to_u64(self.slots.len())).unwrap_or(0);
        let slot = self.slots.get(to_usize(index)?);
        if let Some(slot) = slot
            && let Some(page) = &*slot.read()
            && page.number == number
        {
            bytes.extend_from_slice(page.bytes.get(part).unwrap_or_default());
            return Ok(());
        }
        let all = self.bytes_of(&(0..self.entries))?;
        let start = number.saturating_mul(PAGE);
        let length = all.end.saturating_sub(start).min(PAGE);
        let at = self.offset.saturating_add(start);
        let read = cairn_base::read_at::read_vec(&*self.image, at, to_usize(length)?)?;
        bytes.extend_from_slice(read.get(part).unwrap_or_default());
        if let Some(slot) = slot {
            *slot.write() = Some(Page {
                number,
                bytes: read,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Counts reads.
    struct Counted(Vec<u8>, AtomicUsize);

    impl ReadAt for Counted {
        fn size(&self) -> u64 {
            self.0.size()
        }
        fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.read_exact_at(offset, buffer)
        }
    }

    /// `count` entries behind 16 other bytes.
    fn image(count: u64) -> Arc<Counted> {
        let mut bytes = vec![0xEE; 16];
        for entry in 0..count {
            bytes.extend_from_slice(&(entry << 20).to_le_bytes());
        }
        Arc::new(Counted(bytes, AtomicUsize::new(0)))
    }

    #[test]
    fn kept_or_read_it_says_the_same() {
        let count = KEPT / 8 + 5;
        let image = image(count);
        let large = Table::open(image.clone(), 16, count, Width::Le64, Share::ALL).unwrap();
        let small = Table::open(image.clone(), 16, 10, Width::Le64, Share::ALL).unwrap();
        assert_eq!((large.slots.len(), small.slots.len()), (1024, 1));
        assert_eq!(large.entries(3..6).unwrap(), small.entries(3..6).unwrap());
        // Within a page, over the end of one, several at once, and those of a page that shares its slot with the first.
        for range in [0..1, 511..513, 510..1500, 7..520, count - 1..count, 0..3] {
            let expected: Vec<u64> = range.clone().map(|entry| entry << 20).collect();
            assert_eq!(large.entries(range).unwrap(), expected);
        }
        assert!(large.entries(5..5).unwrap().is_empty());
        assert!(large.entries(count - 1..count + 1).is_err());
        assert!(small.entries(10..11).is_err());
        assert!(Table::open(image.clone(), 16, count + 1, Width::Le64, Share::ALL).is_err());
        assert!(Table::open(image, u64::MAX, u64::MAX, Width::Be32, Share::ALL).is_err());
    }

    #[test]
    fn a_page_is_read_when_it_is_needed_and_once() {
        let count = KEPT / 8 + 512;
        let image = image(count);
        let table = Table::open(image.clone(), 16, count, Width::Le64, Share::ALL).unwrap();
        let reads = |range| {
            let before = image.1.load(Ordering::Relaxed);
            table.entries(range).unwrap();
            image.1.load(Ordering::Relaxed) - before
        };
        assert_eq!(image.1.load(Ordering::Relaxed), 0);
        assert_eq!([reads(5..6), reads(6..500), reads(500..520)], [1, 0, 1]);
        // A long stretch is one read, however much of it is kept.
        assert_eq!([reads(0..8192), reads(0..8192)], [1, 1]);
        // The page behind the last slot takes the place of the first one.
        let last = count - 1..count;
        assert_eq!([reads(last.clone()), reads(last), reads(5..6)], [1, 0, 1]);
        // A share of it is enough for one page at least.
        let deep = Share::of_level(100_000);
        let table = Table::open(image.clone(), 16, count, Width::Le64, deep).unwrap();
        assert_eq!(table.slots.len(), 1);
        assert_eq!(table.entries(1023..1025).unwrap(), [1023 << 20, 1024 << 20]);
    }
}
