//! The one narrow door to bytes: positional, exact or failing, shared by threads without a lock.

use crate::error::{Error, Result};
use crate::units::to_u64;
use std::ops::Range;
use std::sync::Arc;

/// Something of a fixed size that can be read at any offset by many threads at once.
///
/// Disk images, virtual disks, partitions, files of a guest and disks of a recovery point all are.
pub trait ReadAt: Send + Sync {
    /// Size in bytes. Does not change while the object lives.
    fn size(&self) -> u64;

    /// Fills `buffer` from `offset`, completely or not at all.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::Kind::Invalid) if the range ends beyond [`size`](ReadAt::size); whatever the layers
    /// below report otherwise. After an error the content of `buffer` is unspecified.
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()>;

    /// The parts of `range` that may hold something other than zeros: ascending, not overlapping, not empty,
    /// clipped to `range` and to the size. Whatever lies between them is known to read as zeros.
    ///
    /// The default knows nothing and answers the whole range.
    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let end = range.end.min(self.size());
        Ok(std::iter::once(range.start..end)
            .filter(|all| !all.is_empty())
            .collect())
    }

    /// Hints that `range` is read soon. Never fails, may do nothing.
    fn will_need(&self, _range: Range<u64>) {}
}

/// Refuses a read that ends beyond `size`.
pub fn check_range(size: u64, offset: u64, length: usize) -> Result<()> {
    match offset.checked_add(to_u64(length)) {
        Some(end) if end <= size => Ok(()),
        _ => Err(Error::invalid(format!(
            "{length} bytes asked for beyond the end of {size} bytes"
        ))
        .at_offset(offset)),
    }
}

/// Clips `range` to `0..size`.
pub fn clip(range: Range<u64>, size: u64) -> Range<u64> {
    let end = range.end.min(size);
    range.start.min(end)..end
}

/// The same bytes as `ranges` in as few ranges as can be: ascending, not overlapping, not touching.
pub fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, last| {
        let joins = next.start <= last.end;
        if joins {
            last.end = last.end.max(next.end);
        }
        joins
    });
    ranges
}

/// Reads `length` bytes into a new buffer. The caller bounds `length`.
pub fn read_vec<R: ReadAt + ?Sized>(source: &R, offset: u64, length: usize) -> Result<Vec<u8>> {
    check_range(source.size(), offset, length)?;
    let mut buffer = vec![0; length];
    source.read_exact_at(offset, &mut buffer)?;
    Ok(buffer)
}

impl<R: ReadAt + ?Sized> ReadAt for Arc<R> {
    fn size(&self) -> u64 {
        (**self).size()
    }
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        (**self).read_exact_at(offset, buffer)
    }
    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        (**self).data_extents(range)
    }
    fn will_need(&self, range: Range<u64>) {
        (**self).will_need(range);
    }
}

impl ReadAt for Vec<u8> {
    fn size(&self) -> u64 {
        to_u64(self.len())
    }
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size(), offset, buffer.len())?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        match self.get(start..).and_then(|rest| rest.get(..buffer.len())) {
            Some(bytes) => {
                buffer.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(Error::invalid("read beyond the end").at_offset(offset)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn ranges_are_joined_whatever_their_order() {
        assert_eq!(
            joined(vec![8..9, 3..5, 5..6, 0..1, 4..4, 3..4, 20..30, 22..23]),
            [0..1, 3..6, 8..9, 20..30]
        );
        assert!(joined(vec![7..7]).is_empty());
    }

    #[test]
    fn a_vector_reads_exactly_or_fails() {
        let bytes = vec![1u8, 2, 3, 4];
        assert_eq!(read_vec(&bytes, 1, 3).unwrap(), [2, 3, 4]);
        assert_eq!(read_vec(&bytes, 4, 0).unwrap(), [] as [u8; 0]);
        assert_eq!(read_vec(&bytes, 2, 3).unwrap_err().kind(), Kind::Invalid);
        assert_eq!(
            read_vec(&bytes, u64::MAX, 1).unwrap_err().kind(),
            Kind::Invalid
        );
        assert_eq!(bytes.data_extents(2..9).unwrap(), [2..4]);
        assert!(bytes.data_extents(4..9).unwrap().is_empty());
    }
}
