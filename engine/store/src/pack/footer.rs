//! A pack's footer: the last 128 bytes, and where there is parity the first 128 bytes of it too.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | magic `CAIRNEND` |
//! | 8 | 4 | version, 2 |
//! | 12 | 4 | kind, as in the header |
//! | 16 | 16 | pack id |
//! | 32 | 16 | store id |
//! | 48 | 8 | offset of the table of contents |
//! | 56 | 8 | its length |
//! | 64 | 16 | its checksum |
//! | 80 | 8 | offset of the parity |
//! | 88 | 8 | its length; 0 means none |
//! | 96 | 8 | length of the whole pack |
//! | 104 | 4 | parity in percent; 0 means none |
//! | 108 | 4 | zero |
//! | 112 | 16 | checksum of bytes 0-111 |
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use crate::hash::checksum;
use crate::pack::head::{PackKind, VERSION};
use crate::parity::Shape;
use cairn_base::{Error, PackId, Result, View};

/// Bytes of the footer.
pub const FOOTER_LEN: usize = 128;
/// The first eight bytes.
pub const MAGIC: [u8; 8] = *b"CAIRNEND";

/// A pack's footer. Offsets and lengths in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// What the pack holds.
    pub kind: PackKind,
    /// Its id.
    pub pack: PackId,
    /// The store it belongs to.
    pub store: [u8; 16],
    /// Where the table of contents begins.
    pub toc_offset: u64,
    /// Its length.
    pub toc_length: u64,
    /// Its checksum.
    pub toc_checksum: [u8; 16],
    /// Where the parity begins.
    pub parity_offset: u64,
    /// Its length; 0 means none.
    pub parity_length: u64,
    /// Parity in percent; 0 means none.
    pub percent: u32,
    /// Length of the whole pack.
    pub length: u64,
}

impl Footer {
    /// The last bytes of the pack.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FOOTER_LEN);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.kind.code().to_le_bytes());
        bytes.extend_from_slice(&self.pack.0);
        bytes.extend_from_slice(&self.store);
        bytes.extend_from_slice(&self.toc_offset.to_le_bytes());
        bytes.extend_from_slice(&self.toc_length.to_le_bytes());
        bytes.extend_from_slice(&self.toc_checksum);
        bytes.extend_from_slice(&self.parity_offset.to_le_bytes());
        bytes.extend_from_slice(&self.parity_length.to_le_bytes());
        bytes.extend_from_slice(&self.length.to_le_bytes());
        bytes.extend_from_slice(&self.percent.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    /// How the pack is protected by parity; `None` if it is not.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) for numbers that cannot be.
    pub fn shape(&self) -> Result<Option<Shape>> {
        if self.percent == 0 {
            return Ok(None);
        }
        Shape::new(self.parity_offset, self.percent).map(Some)
    }

    /// Decodes the copy of a footer that stands at `at`, in a pack whose length only it tells.
    ///
    /// # Errors
    /// As [`Footer::decode`].
    pub fn decode_copy(bytes: &[u8], at: u64) -> Result<Footer> {
        let view = View::new(bytes, "copy of a pack footer", at);
        let footer = Footer::decode(bytes, view.u64_le(96)?)?;
        if footer.percent > 0 && footer.parity_offset == at {
            Ok(footer)
        } else {
            Err(view.damaged(80, "does not stand where the parity begins"))
        }
    }

    /// Decodes the footer of a pack of `length` bytes.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) or [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for another version.
    pub fn decode(bytes: &[u8], length: u64) -> Result<Footer> {
        let base = length.saturating_sub(cairn_base::units::to_u64(FOOTER_LEN));
        let view = View::new(bytes, "pack footer", base);
        if view.array::<8>(0)? != MAGIC {
            return Err(view.damaged(0, "does not begin with its magic number"));
        }
        if view.array::<16>(112)? != checksum(view.slice(0, 112)?) {
            return Err(view.damaged(112, "the checksum does not match"));
        }
        let version = view.u32_le(8)?;
        if version != VERSION {
            return Err(Error::unsupported(format!("pack version {version}"))
                .advise("use a newer version of cairn"));
        }
        let footer = Footer {
            kind: PackKind::from_code(view.u32_le(12)?)?,
            pack: PackId(view.array(16)?),
            store: view.array(32)?,
            toc_offset: view.u64_le(48)?,
            toc_length: view.u64_le(56)?,
            toc_checksum: view.array(64)?,
            parity_offset: view.u64_le(80)?,
            parity_length: view.u64_le(88)?,
            percent: view.u32_le(104)?,
            length: view.u64_le(96)?,
        };
        let toc_end = footer.toc_offset.checked_add(footer.toc_length);
        let parity_end = footer.parity_offset.checked_add(footer.parity_length);
        let parity_ends = footer.shape()?.map_or(footer.parity_offset, |s| s.end());
        if footer.length != length
            || toc_end != Some(footer.parity_offset)
            || parity_end != Some(base)
            || parity_ends != base
        {
            return Err(view.damaged(48, "its parts do not add up to the file"));
        }
        Ok(footer)
    }
}
