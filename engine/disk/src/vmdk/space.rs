//! The files of a disk, and what its compressed grains hold, as one space of addresses: one part behind the other, none touching the next.

use super::grains::File;
use super::stream::Stream;
use cairn_base::read_at::{check_range, clip};
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result};
use std::ops::Range;

/// Between two parts, so that a run never goes from one into the next.
const GAP: u64 = 512;

/// The space.
#[derive(Default)]
pub(super) struct Space {
    parts: Vec<Part>,
    size: u64,
}

struct Part {
    /// Its first address.
    start: u64,
    content: Content,
}

enum Content {
    File(File),
    Stream(Stream),
}

impl Content {
    fn bytes(&self) -> &dyn ReadAt {
        match self {
            Content::File(file) => &*file.bytes,
            Content::Stream(stream) => stream,
        }
    }

    fn name(&self, error: Error) -> Error {
        match self {
            Content::File(file) => file.name(error),
            Content::Stream(_) => error,
        }
    }
}

impl Space {
    /// Appends a file: its first address.
    ///
    /// # Errors
    /// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) if there are no more addresses.
    pub(super) fn add_file(&mut self, file: File) -> Result<u64> {
        self.add(Content::File(file))
    }

    /// Appends what a stream holds: its first address.
    ///
    /// # Errors
    /// As [`add_file`](Space::add_file).
    pub(super) fn add_stream(&mut self, stream: Stream) -> Result<u64> {
        self.add(Content::Stream(stream))
    }

    fn add(&mut self, content: Content) -> Result<u64> {
        let start = self.size;
        let end = start
            .checked_add(content.bytes().size())
            .and_then(|end| end.checked_add(GAP));
        self.size = end.ok_or_else(|| {
            Error::unsupported("the files of the VMDK are longer than can be addressed")
        })?;
        self.parts.push(Part { start, content });
        Ok(start)
    }

    /// The parts that `range` touches: each with what of it that is, from its own beginning on, and where that begins here.
    fn touched(&self, range: Range<u64>) -> impl Iterator<Item = (&Part, Range<u64>)> {
        let first = self.parts.partition_point(|part| part.start <= range.start);
        let parts = self
            .parts
            .get(first.saturating_sub(1)..)
            .unwrap_or_default();
        parts
            .iter()
            .take_while({
                let end = range.end;
                move |part| part.start < end
            })
            .map(move |part| {
                let of_part = |at: u64| at.saturating_sub(part.start);
                let inside = of_part(range.start)..of_part(range.end);
                (part, clip(inside, part.content.bytes().size()))
            })
            .filter(|(_, inside)| !inside.is_empty())
    }
}

impl ReadAt for Space {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size, offset, buffer.len())?;
        let length = to_u64(buffer.len());
        let end = offset.saturating_add(length);
        let mut touched = self.touched(offset..end);
        match touched.next() {
            None if buffer.is_empty() => Ok(()),
            Some((part, inside)) if inside.end.saturating_sub(inside.start) == length => {
                let bytes = part.content.bytes();
                let read = bytes.read_exact_at(inside.start, buffer);
                read.map_err(|error| part.content.name(error))
            }
            _ => Err(Error::invalid(
                "bytes of more than one file of the disk were asked for at once",
            )
            .at_offset(offset)),
        }
    }

    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let mut extents = Vec::new();
        for (part, inside) in self.touched(range) {
            let found = part.content.bytes().data_extents(inside);
            let found = found.map_err(|error| part.content.name(error))?;
            let shifted = |at: u64| part.start.saturating_add(at);
            extents.extend(
                found
                    .into_iter()
                    .map(|data| shifted(data.start)..shifted(data.end)),
            );
        }
        Ok(extents)
    }

    fn will_need(&self, range: Range<u64>) {
        for (part, inside) in self.touched(range) {
            part.content.bytes().will_need(inside);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::read_at::read_vec;
    use std::sync::Arc;

    fn file(bytes: Vec<u8>) -> File {
        File {
            bytes: Arc::new(bytes),
            path: None,
        }
    }

    #[test]
    fn parts_do_not_touch() {
        let mut space = Space::default();
        let first = space.add_file(file(vec![1; 1000])).unwrap();
        let none = space.add_file(file(Vec::new())).unwrap();
        let last = space.add_file(file(vec![2; 10])).unwrap();
        assert_eq!((first, none, last), (0, 1512, 2024));
        assert_eq!(read_vec(&space, 990, 10).unwrap(), [1; 10]);
        assert_eq!(read_vec(&space, last, 10).unwrap(), [2; 10]);
        for (at, length) in [
            (990, 11),
            (1000, 1),
            (1512, 1),
            (0, 2030),
            (2030, 5),
            (2534, 13),
        ] {
            assert!(read_vec(&space, at, length).is_err(), "{at} {length}");
        }
        let all = space.data_extents(5..u64::MAX).unwrap();
        assert_eq!(all, [5..1000, 2024..2034]);
        assert!(space.data_extents(1100..1600).unwrap().is_empty());
        space.will_need(0..u64::MAX);
    }
}
