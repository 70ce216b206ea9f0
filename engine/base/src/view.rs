//! Bounded decoding of hostile bytes: every field is asked for by offset and either there or an error that says
//! which structure, which field offset and where in the file.

use crate::error::{Error, Result};
use crate::units::to_u64;

/// A structure read from disk: its bytes, its name for messages, and where it lay.
#[derive(Clone, Copy)]
pub struct View<'a> {
    bytes: &'a [u8],
    what: &'static str,
    base: u64,
}

macro_rules! integers {
    ($($little:ident $big:ident $type:ty),*) => {$(
        #[doc = concat!("The little-endian `", stringify!($type), "` at `offset` of the structure.")]
        pub fn $little(&self, offset: usize) -> Result<$type> {
            Ok(<$type>::from_le_bytes(self.array(offset)?))
        }
        #[doc = concat!("The big-endian `", stringify!($type), "` at `offset` of the structure.")]
        pub fn $big(&self, offset: usize) -> Result<$type> {
            Ok(<$type>::from_be_bytes(self.array(offset)?))
        }
    )*};
}

impl<'a> View<'a> {
    /// `what` names the structure in errors; `base` is the offset of its first byte in the file or disk.
    pub fn new(bytes: &'a [u8], what: &'static str, base: u64) -> View<'a> {
        View { bytes, what, base }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Where the structure lay, in bytes.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// `length` bytes at `offset`.
    pub fn slice(&self, offset: usize, length: usize) -> Result<&'a [u8]> {
        offset
            .checked_add(length)
            .and_then(|end| self.bytes.get(offset..end))
            .ok_or_else(|| {
                self.damaged(
                    offset,
                    &format!(
                        "needs {length} bytes where only {} are left",
                        self.bytes.len().saturating_sub(offset)
                    ),
                )
            })
    }

    /// Everything from `offset` on.
    pub fn tail(&self, offset: usize) -> Result<View<'a>> {
        match self.bytes.get(offset..) {
            Some(bytes) => Ok(View {
                bytes,
                what: self.what,
                base: self.base.saturating_add(to_u64(offset)),
            }),
            None => Err(self.damaged(offset, "starts beyond the end")),
        }
    }

    /// A part of this structure under its own name.
    pub fn part(&self, offset: usize, length: usize, what: &'static str) -> Result<View<'a>> {
        Ok(View {
            bytes: self.slice(offset, length)?,
            what,
            base: self.base.saturating_add(to_u64(offset)),
        })
    }

    /// `N` bytes at `offset`.
    pub fn array<const N: usize>(&self, offset: usize) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.slice(offset, N)?);
        Ok(array)
    }

    /// The byte at `offset`.
    pub fn u8(&self, offset: usize) -> Result<u8> {
        let [byte] = self.array(offset)?;
        Ok(byte)
    }

    integers!(u16_le u16_be u16, u32_le u32_be u32, u64_le u64_be u64, i16_le i16_be i16, i32_le i32_be i32, i64_le i64_be i64);

    /// The error for a field at `offset` that contradicts the format.
    pub fn damaged(&self, offset: usize, why: &str) -> Error {
        Error::damaged(format!("{}: {why}", self.what))
            .at_offset(self.base.saturating_add(to_u64(offset)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_are_there_or_named() {
        let view = View::new(&[1, 2, 3, 4], "test header", 100);
        assert_eq!(view.u16_le(0).unwrap(), 0x0201);
        assert_eq!(view.u32_be(0).unwrap(), 0x0102_0304);
        let error = view.u32_le(1).unwrap_err();
        assert_eq!(error.offset(), Some(101));
        assert!(error.to_string().contains("test header"));
        assert_eq!(view.tail(3).unwrap().u8(0).unwrap(), 4);
        assert_eq!(view.tail(3).unwrap().base(), 103);
        assert!(view.tail(5).is_err());
    }

    proptest! {
        #[test]
        fn no_offset_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40), offset: usize, length: usize) {
            let view = View::new(&bytes, "x", u64::MAX);
            let inside = offset.checked_add(length).is_some_and(|end| end <= bytes.len());
            prop_assert_eq!(view.slice(offset, length).is_ok(), inside);
            prop_assert_eq!(view.u64_le(offset).is_ok(), offset.checked_add(8).is_some_and(|end| end <= bytes.len()));
        }
    }
}
