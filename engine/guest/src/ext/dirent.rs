//! Directory entries: a chain of records of variable length that fills a block or a part of an inode.

use super::checksum::crc32c;
use cairn_base::{Result, View};
use std::ops::ControlFlow;

/// A record without its name.
const HEADER: usize = 8;
/// The record at the end of a block that holds its checksum.
const TAIL: usize = 12;
const TAIL_TYPE: u8 = 0xde;

/// How a folder's records are laid out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// Whether records say what their entry is.
    pub file_type: bool,
    /// Whether names are followed by their hash (encrypted folders that ignore case).
    pub hashed: bool,
}

/// One record in use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    /// Offset in the bytes that were scanned.
    pub offset: usize,
    pub inode: u32,
    /// 0 if it does not say.
    pub file_type: u8,
    pub name: &'a [u8],
    /// Major and minor hash, where records have one.
    pub hash: Option<(u32, u32)>,
}

/// Tells `each` the records in use, in the order they lie in.
///
/// # Errors
/// Damaged where the chain breaks; the records before it were told.
pub(super) fn scan<'a>(
    view: &View<'a>,
    layout: Layout,
    each: &mut dyn FnMut(Record<'a>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>> {
    let mut at = 0usize;
    while at < view.len() {
        let length = record_length(view.u16_le(at.saturating_add(4))?, view.len());
        let record = view.part(at, length.max(HEADER), "directory entry")?;
        let name_length = usize::from(record.u8(6)?);
        if length < TAIL || length & 3 != 0 || name_length.saturating_add(HEADER) > length {
            return Err(record.damaged(4, "its length is impossible"));
        }
        let inode = record.u32_le(0)?;
        if inode != 0 {
            let name = record.slice(HEADER, name_length)?;
            let hash_at = HEADER.saturating_add(name_length).saturating_add(3) & !3;
            let dots = matches!(name, b"." | b"..");
            let hash = if layout.hashed && !dots && hash_at.saturating_add(8) <= length {
                Some((
                    record.u32_le(hash_at)?,
                    record.u32_le(hash_at.saturating_add(4))?,
                ))
            } else {
                None
            };
            let found = each(Record {
                offset: at,
                inode,
                file_type: if layout.file_type { record.u8(7)? } else { 0 },
                name,
                hash,
            });
            if found.is_break() {
                return Ok(found);
            }
        }
        at = at.saturating_add(length);
    }
    Ok(ControlFlow::Continue(()))
}

/// Blocks of 64 KiB do not fit into 16 bits: the two low bits, always zero, take the high ones.
fn record_length(raw: u16, available: usize) -> usize {
    let raw = usize::from(raw);
    if available < 1 << 16 {
        return raw;
    }
    match raw {
        0 | 0xffff => 1 << 16,
        _ => (raw & 0xfffc) | ((raw & 3) << 16),
    }
}

/// What a block of a folder is, by its shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Names.
    Leaf,
    /// An index: a limit, a count and pairs of hash and block from this offset.
    Index(usize),
}

/// Tells a block of names from a block of an index: index blocks hide in one record without a name.
pub(super) fn shape(view: &View<'_>) -> Result<Shape> {
    let first = record_length(view.u16_le(4)?, view.len());
    if view.u32_le(0)? == 0 && first == view.len() {
        return Ok(Shape::Index(8));
    }
    if first == 12
        && record_length(view.u16_le(16)?, view.len()) == view.len().saturating_sub(12)
        && view.u8(18)? == 2
        && view.u32_le(24)? == 0
        && view.u8(29)? == 8
    {
        return Ok(Shape::Index(32));
    }
    Ok(Shape::Leaf)
}

/// Checks the checksum of a block of a folder; `seed` is the inode's.
///
/// # Errors
/// Damaged if it is wrong or has no place.
pub(super) fn verify(view: &View<'_>, shape: Shape, seed: u32) -> Result<()> {
    match shape {
        Shape::Leaf => {
            let at = view.len().saturating_sub(TAIL);
            let tail = view.part(at, TAIL, "checksum of a folder's block")?;
            let is_tail = tail.u32_le(0)? == 0
                && tail.u16_le(4)? == 12
                && tail.u8(6)? == 0
                && tail.u8(7)? == TAIL_TYPE;
            if !is_tail || crc32c(seed, view.slice(0, at)?) != tail.u32_le(8)? {
                return Err(tail.damaged(8, "the checksum is wrong"));
            }
        }
        Shape::Index(at) => {
            let (limit, count) = index_counts(view, at)?;
            let used = at.saturating_add(count.saturating_mul(8));
            let tail_at = at.saturating_add(limit.saturating_mul(8));
            let tail = view.part(tail_at, 8, "checksum of a folder's index")?;
            let mut sum = crc32c(seed, view.slice(0, used)?);
            sum = crc32c(crc32c(sum, tail.slice(0, 4)?), &[0; 4]);
            if sum != tail.u32_le(4)? {
                return Err(tail.damaged(4, "the checksum is wrong"));
            }
        }
    }
    Ok(())
}

/// Limit and count of the index entries at `at`; the first of them is these two numbers.
pub(super) fn index_counts(view: &View<'_>, at: usize) -> Result<(usize, usize)> {
    let limit = usize::from(view.u16_le(at)?);
    let count = usize::from(view.u16_le(at.saturating_add(2))?);
    let end = at.saturating_add(limit.saturating_mul(8));
    if count == 0 || count > limit || end > view.len() {
        return Err(view.damaged(at, "the number of index entries is impossible"));
    }
    Ok((limit, count))
}
