//! A table of block places in an image (BAT): kept in memory while it is small, read where it is needed otherwise.

use crate::align::to_usize;
use cairn_base::{Error, ReadAt, Result};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// A table up to this size is read once, when the image is opened: all of the largest VHD with blocks of 2 MiB, 16 TiB
/// of VHDX with blocks of 32 MiB. The entries of a larger one are read together with what they point to, a few bytes
/// each time from the page cache.
const KEPT: u64 = 4 << 20;

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

    /// Of one of so many tables of an image.
    pub(crate) fn among(self, count: usize) -> Share {
        let count = cairn_base::units::to_u64(count).max(1);
        Share(self.0.saturating_mul(count))
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
    /// Little-endian, 4 bytes (VDI, VMDK).
    Le32,
    /// Big-endian, 8 bytes (QCOW2).
    Be64,
    /// Little-endian, 8 bytes (VHDX).
    Le64,
}

impl Width {
    fn bytes(self) -> u64 {
        match self {
            Width::Be32 | Width::Le32 => 4,
            Width::Be64 | Width::Le64 => 8,
        }
    }

    /// The entries in `bytes`; what is left at the end is none.
    pub(crate) fn decode(self, bytes: &[u8]) -> Vec<u64> {
        let narrow = bytes.as_chunks::<4>().0.iter();
        let wide = bytes.as_chunks::<8>().0.iter();
        match self {
            Width::Be32 => narrow.map(|b| u32::from_be_bytes(*b).into()).collect(),
            Width::Le32 => narrow.map(|b| u32::from_le_bytes(*b).into()).collect(),
            Width::Be64 => wide.map(|b| u64::from_be_bytes(*b)).collect(),
            Width::Le64 => wide.map(|b| u64::from_le_bytes(*b)).collect(),
        }
    }
}

/// The table.
pub(crate) struct Table {
    image: Arc<dyn ReadAt>,
    offset: u64,
    entries: u64,
    width: Width,
    kept: Option<Vec<u8>>,
}

impl Table {
    /// `entries` entries from `offset` of `image` on.
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
        let kept = if length <= share.of(KEPT) {
            Some(cairn_base::read_at::read_vec(
                &*image,
                offset,
                to_usize(length)?,
            )?)
        } else {
            None
        };
        Ok(Table {
            image,
            offset,
            entries,
            width,
            kept,
        })
    }

    /// The entries of `range`, which the caller keeps short (a few thousand).
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if the table is shorter; what the image says otherwise.
    pub(crate) fn entries(&self, range: Range<u64>) -> Result<Vec<u64>> {
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
        let start = range.start.saturating_mul(width);
        let length = to_usize(range.end.saturating_sub(range.start).saturating_mul(width))?;
        let bytes: Cow<'_, [u8]> = match &self.kept {
            Some(kept) => {
                let from = to_usize(start)?;
                Cow::Borrowed(
                    kept.get(from..from.saturating_add(length))
                        .unwrap_or_default(),
                )
            }
            None => {
                let at = self.offset.saturating_add(start);
                Cow::Owned(cairn_base::read_at::read_vec(&*self.image, at, length)?)
            }
        };
        Ok(self.width.decode(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_in_their_order() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        for (width, entries) in [
            (Width::Be32, vec![0x0102_0304, 0x0506_0708]),
            (Width::Le32, vec![0x0403_0201, 0x0807_0605]),
            (Width::Be64, vec![0x0102_0304_0506_0708]),
            (Width::Le64, vec![0x0807_0605_0403_0201]),
        ] {
            assert_eq!(width.decode(&bytes), entries);
            assert_eq!(width.bytes() * entries.len() as u64, 8);
        }
    }

    #[test]
    fn kept_or_read_it_says_the_same() {
        let count = KEPT / 8 + 5;
        let mut bytes = vec![0xEE; 16];
        for entry in 0..count {
            bytes.extend_from_slice(&(entry << 20).to_le_bytes());
        }
        let image: Arc<dyn ReadAt> = Arc::new(bytes);
        let large = Table::open(image.clone(), 16, count, Width::Le64, Share::ALL).unwrap();
        let small = Table::open(image.clone(), 16, 10, Width::Le64, Share::ALL).unwrap();
        assert!(large.kept.is_none() && small.kept.is_some());
        assert_eq!(large.entries(3..6).unwrap(), small.entries(3..6).unwrap());
        assert_eq!(
            large.entries(count - 1..count).unwrap(),
            [(count - 1) << 20]
        );
        assert!(large.entries(count - 1..count + 1).is_err());
        assert!(small.entries(10..11).is_err());
        assert!(Table::open(image.clone(), 16, count + 1, Width::Le64, Share::ALL).is_err());
        assert!(Table::open(image, u64::MAX, u64::MAX, Width::Be32, Share::ALL).is_err());
    }
}
