//! A pack's header: 64 bytes at offset 0.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | magic `CAIRNPCK` |
//! | 8 | 4 | version, 2 |
//! | 12 | 4 | kind: 0 data, 1 map |
//! | 16 | 16 | pack id |
//! | 32 | 16 | store id |
//! | 48 | 16 | checksum of bytes 0-47 |
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use crate::hash::checksum;
use cairn_base::{Error, PackId, Result, View};

/// Bytes of the header.
pub const HEAD_LEN: usize = 64;
const MAGIC: [u8; 8] = *b"CAIRNPCK";
/// Version of the pack format.
pub const VERSION: u32 = 2;

/// What a pack holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PackKind {
    /// Bytes of disks.
    Data,
    /// Leaves and nodes of maps.
    Map,
}

impl PackKind {
    /// As written.
    pub fn code(self) -> u32 {
        match self {
            PackKind::Data => 0,
            PackKind::Map => 1,
        }
    }

    /// As read.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) for any other number.
    pub fn from_code(code: u32) -> Result<PackKind> {
        match code {
            0 => Ok(PackKind::Data),
            1 => Ok(PackKind::Map),
            _ => Err(Error::damaged(format!("there is no pack kind {code}"))),
        }
    }
}

/// A pack's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// What it holds.
    pub kind: PackKind,
    /// Its id.
    pub pack: PackId,
    /// The store it belongs to.
    pub store: [u8; 16],
}

impl Head {
    /// The bytes at offset 0.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_LEN);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.kind.code().to_le_bytes());
        bytes.extend_from_slice(&self.pack.0);
        bytes.extend_from_slice(&self.store);
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    /// Decodes a header.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) or [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for another version.
    pub fn decode(bytes: &[u8]) -> Result<Head> {
        let view = View::new(bytes, "pack header", 0);
        if view.array::<8>(0)? != MAGIC {
            return Err(view.damaged(0, "does not begin with its magic number"));
        }
        if view.array::<16>(48)? != checksum(view.slice(0, 48)?) {
            return Err(view.damaged(48, "the checksum does not match"));
        }
        let version = view.u32_le(8)?;
        if version != VERSION {
            return Err(Error::unsupported(format!("pack version {version}"))
                .advise("use a newer version of cairn"));
        }
        Ok(Head {
            kind: PackKind::from_code(view.u32_le(12)?)?,
            pack: PackId(view.array(16)?),
            store: view.array(32)?,
        })
    }
}
