//! Writing to disks, where the mount allows it; nothing else is ever written.

use crate::failure::{Failure, Result};
use crate::node::Node;
use crate::stat::Stat;
use crate::tree::{Content, Tree};
use crate::writable::Overlays;
use cairn::Error;
use std::ops::Range;
use std::sync::Arc;

/// `fallocate`'s modes that make zeros of a range, see fallocate(2).
const KEEP_SIZE: i32 = 1;
const PUNCH_HOLE: i32 = 2;
const ZERO_RANGE: i32 = 16;

impl Tree {
    /// The same, with raw disks that can be written to.
    pub fn with_overlays(mut self, overlays: Arc<Overlays>) -> Tree {
        self.overlays = Some(overlays);
        self
    }

    /// Whether a node can be written to: a raw disk, if the mount allows it.
    pub(super) fn is_writable(&self, node: &Node) -> bool {
        self.overlays.is_some() && matches!(node, Node::Raw(..))
    }

    /// Opens a file, to write to it as well if so wanted.
    ///
    /// # Errors
    /// [`Failure::ReadOnly`] for what cannot be written to; as [`open`](Tree::open).
    pub fn open_for(&self, inode: u64, to_write: bool) -> Result<Content> {
        if to_write && !self.is_writable(&self.node(inode)?) {
            return Err(Failure::ReadOnly);
        }
        self.open(inode)
    }

    /// Answers the wish for another size, or for other attributes: only the size that a disk has is taken for one.
    ///
    /// # Errors
    /// [`Failure::FixedSize`] for another size, [`Failure::ReadOnly`] for anything else.
    pub fn set_size(&self, inode: u64, size: Option<u64>) -> Result<Stat> {
        let node = self.node(inode)?;
        let (Some(size), true) = (size, self.is_writable(&node)) else {
            return Err(Failure::ReadOnly);
        };
        let stat = self.stat(&node)?;
        if stat.attributes.size != size {
            return Err(Failure::FixedSize);
        }
        Ok(stat)
    }
}

impl Content {
    /// Writes `bytes` at `offset`: all of them, or an error.
    ///
    /// # Errors
    /// [`Failure::ReadOnly`], [`Failure::BeyondDisk`]; what the overlay reports.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let writer = self.writer.as_ref().ok_or(Failure::ReadOnly)?;
        writer.write(offset, bytes)
    }

    /// Makes zeros of a range as `fallocate` wishes in this mode: a hole, or zeros. Room is not reserved.
    ///
    /// # Errors
    /// [`Failure::ReadOnly`]; [`Kind::Unsupported`](cairn::Kind::Unsupported) for any other mode; what the overlay reports.
    pub fn zero(&self, range: Range<u64>, mode: i32) -> Result<()> {
        let writer = self.writer.as_ref().ok_or(Failure::ReadOnly)?;
        if mode & !KEEP_SIZE != PUNCH_HOLE && mode & !KEEP_SIZE != ZERO_RANGE {
            let why = "of a disk, holes and zeros can be made, and no room reserved";
            return Err(Error::unsupported(why).into());
        }
        if mode & KEEP_SIZE == 0 && range.end > self.size() {
            return Err(Failure::BeyondDisk);
        }
        writer.zero(range)
    }

    /// Makes durable what was written, if it is kept.
    ///
    /// # Errors
    /// What the overlay reports.
    pub fn flush(&self) -> Result<()> {
        self.writer.as_ref().map_or(Ok(()), |writer| writer.flush())
    }
}
