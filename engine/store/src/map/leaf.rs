//! A leaf: what one region is made of.
//!
//! Bytes: for each extent in order a little-endian u32 (bit 31: hole; bits 0-30: length in bytes), followed, if it is
//! not a hole, by the 32 bytes of the chunk's id.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use crate::cut::MAX_CHUNK;
use cairn_base::{ChunkId, Error, Result, View};
use std::ops::Range;

const HOLE: u32 = 1 << 31;
/// More extents than any region of 4 MiB has with the smallest chunks and holes.
const MAX_EXTENTS: usize = 8192;

/// A part of a region: a chunk, or zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// In bytes; never 0.
    pub length: u32,
    /// `None` is a hole.
    pub chunk: Option<ChunkId>,
}

/// An extent and where it lies in its region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The extent.
    pub extent: Extent,
    /// Bytes of the region before it.
    pub start: usize,
}

impl Part {
    /// Its length in bytes.
    pub fn length(&self) -> usize {
        usize::try_from(self.extent.length).unwrap_or(usize::MAX)
    }

    /// Where it ends in the region.
    pub fn end(&self) -> usize {
        self.start.saturating_add(self.length())
    }

    /// Which bytes of the region it is.
    pub fn range(&self) -> Range<usize> {
        self.start..self.end()
    }
}

/// What one region is made of, in disk order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Leaf {
    /// Chunks and holes; two holes never touch.
    pub extents: Vec<Extent>,
}

impl Leaf {
    /// The leaf of a region that is all hole.
    pub fn hole(length: u64) -> Leaf {
        let length = u32::try_from(length).unwrap_or(0);
        let mut leaf = Leaf::default();
        if length > 0 {
            leaf.extents.push(Extent {
                length,
                chunk: None,
            });
        }
        leaf
    }

    /// Its extents with where they lie.
    pub fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        let mut start = 0usize;
        self.extents.iter().map(move |extent| {
            let part = Part {
                extent: *extent,
                start,
            };
            start = part.end();
            part
        })
    }

    /// The maximal ranges of the region that are not holes.
    pub fn data(&self) -> Vec<Range<usize>> {
        let mut data: Vec<Range<usize>> = Vec::new();
        for part in self.parts().filter(|part| part.extent.chunk.is_some()) {
            match data.last_mut() {
                Some(last) if last.end == part.start => last.end = part.end(),
                _ => data.push(part.range()),
            }
        }
        data
    }

    /// Whether the region is nothing but zeros.
    pub fn is_hole(&self) -> bool {
        self.extents.iter().all(|extent| extent.chunk.is_none())
    }

    /// Bytes of disk it covers.
    pub fn length(&self) -> u64 {
        self.extents.iter().fold(0, |sum, extent| {
            sum.saturating_add(u64::from(extent.length))
        })
    }

    /// Bytes of memory it takes, about.
    pub fn weight(&self) -> usize {
        self.extents.len().saturating_mul(size_of::<Extent>())
    }

    /// The bytes that are hashed and stored.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.extents.len().saturating_mul(36));
        for extent in &self.extents {
            match extent.chunk {
                None => bytes.extend_from_slice(&(extent.length | HOLE).to_le_bytes()),
                Some(id) => {
                    bytes.extend_from_slice(&extent.length.to_le_bytes());
                    bytes.extend_from_slice(&id.0);
                }
            }
        }
        bytes
    }

    /// Decodes the leaf of a region of `length` bytes.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if the extents do not make up the region.
    pub fn decode(bytes: &[u8], length: u64) -> Result<Leaf> {
        let view = View::new(bytes, "map leaf", 0);
        let mut leaf = Leaf::default();
        let (mut at, mut covered) = (0usize, 0u64);
        let mut after_hole = false;
        while at < bytes.len() {
            let word = view.u32_le(at)?;
            at = at.saturating_add(4);
            let extent_length = word & !HOLE;
            let hole = word & HOLE != 0;
            let chunk = if hole {
                None
            } else {
                let id = ChunkId(view.array(at)?);
                at = at.saturating_add(ChunkId::LEN);
                Some(id)
            };
            let too_long = !hole && u64::from(extent_length) > cairn_base::units::to_u64(MAX_CHUNK);
            if extent_length == 0 || too_long || (hole && after_hole) {
                return Err(view.damaged(at, "holds an extent that cannot be"));
            }
            if leaf.extents.len() >= MAX_EXTENTS {
                return Err(view.damaged(at, "holds too many extents"));
            }
            after_hole = hole;
            covered = covered.saturating_add(u64::from(extent_length));
            leaf.extents.push(Extent {
                length: extent_length,
                chunk,
            });
        }
        if covered != length {
            return Err(Error::damaged(format!(
                "map leaf: covers {covered} bytes of a region of {length}"
            )));
        }
        Ok(leaf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_bytes() {
        let leaf = Leaf {
            extents: vec![
                Extent {
                    length: 5,
                    chunk: Some(ChunkId([9; 32])),
                },
                Extent {
                    length: 0x10000,
                    chunk: None,
                },
            ],
        };
        let mut expected = vec![5, 0, 0, 0];
        expected.extend_from_slice(&[9; 32]);
        expected.extend_from_slice(&[0, 0, 1, 0x80]);
        assert_eq!(leaf.encode(), expected);
        assert_eq!(Leaf::decode(&expected, 0x10005).unwrap(), leaf);
        assert!(Leaf::decode(&expected, 0x10006).is_err());
        assert!(Leaf::decode(&expected[..38], 5).is_err());
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), length: u64) {
            let _ = Leaf::decode(&bytes, length);
        }
    }
}
