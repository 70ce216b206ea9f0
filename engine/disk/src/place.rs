//! Where blocks of an image may lie: within the file, and not over its headers and tables.

use cairn_base::{Error, Result};
use std::fmt::Arguments;
use std::ops::Range;

/// Size of an image file and the parts of it that no block may touch.
pub(crate) struct Places {
    /// `VHD`, `QCOW2` or the like, for messages.
    pub(crate) format: &'static str,
    /// Bytes of the file.
    pub(crate) size: u64,
    /// Headers, tables, log.
    pub(crate) reserved: Vec<Range<u64>>,
}

impl Places {
    /// Refuses a block whose `length` bytes are said to lie at `place`, if they cannot.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged), naming block and place.
    pub(crate) fn check(&self, block: u64, place: u64, length: u64) -> Result<()> {
        self.check_part(format_args!("block {block}"), place, length)
    }

    /// The same for the sector bitmap of a chunk of blocks.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged), naming chunk and place.
    pub(crate) fn check_bitmap(&self, chunk: u64, place: u64, length: u64) -> Result<()> {
        self.check_part(format_args!("sector bitmap {chunk}"), place, length)
    }

    /// Refuses a cluster of the guest that is said to begin at `place`, if none can. It need not end within the file: what is cut off behind the
    /// last byte written is zeros.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged), naming cluster and place.
    pub(crate) fn check_cluster(&self, cluster: u64, place: u64) -> Result<()> {
        self.check_part(format_args!("cluster {cluster}"), place, 1)
    }

    /// The same for what is called `what`.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged), naming it and its place.
    pub(crate) fn check_part(&self, what: Arguments<'_>, place: u64, length: u64) -> Result<()> {
        let format = self.format;
        let end = place.saturating_add(length);
        if end > self.size {
            return Err(Error::damaged(format!(
                "{what} of the {format} is said to lie beyond the end of the file ({} bytes)",
                self.size
            ))
            .at_offset(place)
            .advise("the file may have been cut off while it was copied"));
        }
        if !self.is_free(place, length) {
            return Err(Error::damaged(format!(
                "{what} of the {format} is said to lie over the file's own headers"
            ))
            .at_offset(place));
        }
        Ok(())
    }

    /// Whether `length` bytes can lie at `place`.
    pub(crate) fn is_free(&self, place: u64, length: u64) -> bool {
        let end = place.saturating_add(length);
        let touches = |part: &Range<u64>| place < part.end && part.start < end;
        end <= self.size && !self.reserved.iter().any(touches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inside_and_beside_the_headers() {
        let places = Places {
            format: "VHD",
            size: 100,
            reserved: vec![0..10, 50..60],
        };
        for (place, length, fine) in [
            (10, 40, true),
            (60, 40, true),
            (9, 1, false),
            (10, 41, false),
            (59, 1, false),
            (61, 40, false),
            (u64::MAX, 40, false),
        ] {
            assert_eq!(
                places.check(3, place, length).is_ok(),
                fine,
                "{place} {length}"
            );
        }
    }
}
