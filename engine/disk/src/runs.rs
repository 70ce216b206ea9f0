//! Where the bytes of a range of a virtual disk lie in its image: few, large, contiguous runs.

use crate::align::to_usize;
use cairn_base::{Kind, ReadAt, Result};
use std::ops::Range;

/// A piece of a virtual disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// Bytes.
    pub(crate) length: u64,
    /// Offset of the first byte in the image; `None` for zeros that lie nowhere.
    pub(crate) place: Option<u64>,
}

/// The pieces of one range in order, neighbours joined.
#[derive(Debug, Default)]
pub(crate) struct Runs(Vec<Run>);

impl Runs {
    /// Appends a piece; joins it with the last where both are zeros or it goes on where that ends.
    pub(crate) fn push(&mut self, run: Run) {
        if run.length == 0 {
            return;
        }
        if let Some(last) = self.0.last_mut() {
            let goes_on = match (last.place, run.place) {
                (None, None) => true,
                (Some(before), Some(after)) => before.checked_add(last.length) == Some(after),
                _ => false,
            };
            if goes_on {
                last.length = last.length.saturating_add(run.length);
                return;
            }
        }
        self.0.push(run);
    }

    /// Fills `buffer`, whose length is that of all pieces, with one read for each piece that lies in `image`.
    pub(crate) fn read(&self, image: &dyn ReadAt, buffer: &mut [u8]) -> Result<()> {
        let mut rest = buffer;
        for run in &self.0 {
            let length = to_usize(run.length)?.min(rest.len());
            let (part, behind) = rest.split_at_mut(length);
            rest = behind;
            match run.place {
                Some(place) => image.read_exact_at(place, part)?,
                None => part.fill(0),
            }
        }
        // Nothing is left when the pieces cover the range; should they not, stale bytes must not pass for data.
        rest.fill(0);
        Ok(())
    }

    /// The parts of the virtual disk that may hold data, if the pieces start at `start`: pieces that lie in `image`,
    /// less the holes of the image file itself.
    fn data_extents(&self, image: &dyn ReadAt, start: u64) -> Result<Vec<Range<u64>>> {
        let mut extents: Vec<Range<u64>> = Vec::new();
        let mut at = start;
        for run in &self.0 {
            if let Some(place) = run.place {
                let end = place.saturating_add(run.length);
                for data in image.data_extents(place..end)? {
                    let from = at.saturating_add(data.start.saturating_sub(place));
                    let to = at.saturating_add(data.end.saturating_sub(place));
                    match extents.last_mut() {
                        Some(last) if last.end == from => last.end = to,
                        _ => extents.push(from..to),
                    }
                }
            }
            at = at.saturating_add(run.length);
        }
        Ok(extents)
    }

    /// Hints to `image` that all pieces are read soon.
    pub(crate) fn will_need(&self, image: &dyn ReadAt) {
        for run in &self.0 {
            if let Some(place) = run.place {
                image.will_need(place..place.saturating_add(run.length));
            }
        }
    }
}

/// The parts of `range` that may hold data, if it lies as `runs` say. Where a damaged table leaves that open, all of it
/// may: then the read names the block, and all others are still read.
pub(crate) fn extents_or_all(
    range: Range<u64>,
    runs: Result<Runs>,
    image: &dyn ReadAt,
) -> Result<Vec<Range<u64>>> {
    match runs {
        Ok(runs) => runs.data_extents(image, range.start),
        Err(error) if error.kind() == Kind::Damaged => Ok(vec![range]),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(length: u64, place: Option<u64>) -> Run {
        Run { length, place }
    }

    #[test]
    fn neighbours_become_one_read() {
        let mut runs = Runs::default();
        for piece in [
            run(2, None),
            run(3, None),
            run(0, Some(1)),
            run(2, Some(1)),
            run(2, Some(3)),
            run(1, Some(0)),
        ] {
            runs.push(piece);
        }
        assert_eq!(runs.0, [run(5, None), run(4, Some(1)), run(1, Some(0))]);
        let image = vec![10u8, 11, 12, 13, 14];
        let mut buffer = [9u8; 12];
        runs.read(&image, &mut buffer).unwrap();
        assert_eq!(buffer, [0, 0, 0, 0, 0, 11, 12, 13, 14, 10, 0, 0]);
        assert_eq!(
            extents_or_all(100..112, Ok(runs), &image).unwrap(),
            [105..110]
        );
        let damaged = Err(cairn_base::Error::damaged("x"));
        assert_eq!(
            extents_or_all(100..112, damaged, &image).unwrap(),
            [100..112]
        );
    }
}
