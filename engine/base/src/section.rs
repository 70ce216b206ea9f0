//! A range of something readable, as something readable: a partition of a disk, a disk inside a file.

use crate::error::{Error, Result};
use crate::read_at::{ReadAt, check_range, clip};
use std::ops::Range;
use std::sync::Arc;

/// The bytes `start..start + size` of `inner`.
#[derive(Clone)]
pub struct Section {
    inner: Arc<dyn ReadAt>,
    start: u64,
    size: u64,
}

impl Section {
    /// # Errors
    /// [`Kind::Invalid`](crate::Kind::Invalid) if the range does not lie within `inner`.
    pub fn new(inner: Arc<dyn ReadAt>, start: u64, size: u64) -> Result<Section> {
        match start.checked_add(size) {
            Some(end) if end <= inner.size() => Ok(Section { inner, start, size }),
            _ => Err(Error::invalid(format!(
                "a section of {size} bytes ends beyond the {} bytes it lies in",
                inner.size()
            ))
            .at_offset(start)),
        }
    }

    /// Offset of the first byte in what it lies in.
    pub fn start(&self) -> u64 {
        self.start
    }
}

impl ReadAt for Section {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size, offset, buffer.len())?;
        // Cannot wrap: start + size was checked when the section was made.
        self.inner
            .read_exact_at(self.start.saturating_add(offset), buffer)
    }

    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let range = clip(range, self.size);
        let outer = self.start.saturating_add(range.start)..self.start.saturating_add(range.end);
        let mut extents = self.inner.data_extents(outer)?;
        for extent in &mut extents {
            *extent =
                extent.start.saturating_sub(self.start)..extent.end.saturating_sub(self.start);
        }
        Ok(extents)
    }

    fn will_need(&self, range: Range<u64>) {
        let range = clip(range, self.size);
        self.inner.will_need(
            self.start.saturating_add(range.start)..self.start.saturating_add(range.end),
        );
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)]
mod tests {
    use super::*;
    use crate::Kind;
    use crate::read_at::read_vec;

    #[test]
    fn a_section_stays_inside() {
        let whole: Arc<dyn ReadAt> = Arc::new((0u8..100).collect::<Vec<_>>());
        let part = Section::new(whole.clone(), 10, 20).unwrap();
        assert_eq!(read_vec(&part, 0, 2).unwrap(), [10, 11]);
        assert_eq!(read_vec(&part, 19, 2).unwrap_err().kind(), Kind::Invalid);
        assert_eq!(part.data_extents(5..90).unwrap(), [5..20]);
        assert!(Section::new(whole.clone(), 90, 11).is_err());
        assert!(Section::new(whole, u64::MAX, 2).is_err());
    }
}
