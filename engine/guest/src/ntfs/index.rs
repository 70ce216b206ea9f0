//! Nodes of a folder's index: `$INDEX_ROOT` and the `INDX` blocks of `$INDEX_ALLOCATION`.

use super::cluster::Vcn;
use super::fixup;
use super::record::Reference;
use cairn_base::{Result, View};

const WHAT: &str = "index block";
/// Offset of the node header in the value of `$INDEX_ROOT`.
const ROOT_HEADER: usize = 16;
/// Offset of the node header in an `INDX` block.
const BLOCK_HEADER: usize = 24;
const HAS_CHILD: u16 = 1;
const IS_END: u16 = 2;

/// One entry of a node.
#[derive(Clone, Copy)]
pub struct IndexEntry<'a> {
    /// Offset in the node's bytes of the entry behind this one.
    pub next: usize,
    /// The file named; meaningless in the end entry.
    pub file: Reference,
    /// A `$FILE_NAME`, or what else is the key; empty in the end entry.
    pub key: View<'a>,
    /// All its bytes.
    pub whole: View<'a>,
    /// The block with the names before this one.
    pub child: Option<Vcn>,
    /// It only ends the node.
    pub is_end: bool,
}

/// The entries of a node, in order.
pub struct Entries<'a> {
    view: View<'a>,
    at: usize,
    done: bool,
}

/// What the value of `$INDEX_ROOT` says of the whole index.
#[derive(Debug, Clone, Copy)]
pub struct RootHeader {
    /// Bytes of an `INDX` block, 512 to 64 KiB, a power of two.
    pub block_size: u32,
}

/// Decodes the header of `$INDEX_ROOT`.
pub fn root_header(view: View<'_>) -> Result<RootHeader> {
    if view.u32_le(0)? != super::attribute::kind::FILE_NAME {
        return Err(view.damaged(0, "not an index of names"));
    }
    view_header(view)
}

/// Decodes the header of the `$INDEX_ROOT` of an index of other things than names.
pub fn view_header(view: View<'_>) -> Result<RootHeader> {
    let block_size = view.u32_le(8)?;
    if !block_size.is_power_of_two() || !(512..=64 << 10).contains(&block_size) {
        return Err(view.damaged(8, "impossible size of index blocks"));
    }
    Ok(RootHeader { block_size })
}

/// The entries in the value of `$INDEX_ROOT`.
pub fn root_entries(view: View<'_>) -> Result<Entries<'_>> {
    entries(view, ROOT_HEADER)
}

/// The entries of a block that [`mend_block`] accepted.
pub fn block_entries(bytes: &[u8]) -> Result<Entries<'_>> {
    entries(View::new(bytes, WHAT, 0), BLOCK_HEADER)
}

/// Checks a block as read from disk and undoes its update sequence. `vcn` is the number it must bear; `offset` is
/// for messages.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it is torn or another block.
pub fn mend_block(bytes: &mut [u8], vcn: u64, offset: u64) -> Result<()> {
    let view = View::new(bytes, WHAT, offset);
    if view.slice(0, 4)? != b"INDX" {
        return Err(view.damaged(0, "the name `INDX` is missing"));
    }
    fixup::apply(bytes, WHAT, offset)?;
    let view = View::new(bytes, WHAT, offset);
    if view.u64_le(16)? != vcn {
        return Err(view.damaged(16, "another block of the index stands here"));
    }
    Ok(())
}

fn entries(view: View<'_>, header: usize) -> Result<Entries<'_>> {
    let size = |at: usize| -> Result<usize> {
        Ok(usize::try_from(view.u32_le(header.saturating_add(at))?).unwrap_or(usize::MAX))
    };
    let first = header.saturating_add(size(0)?);
    let end = header.saturating_add(size(4)?);
    if end > view.len() || first > end || size(0)? < 16 {
        return Err(view.damaged(header, "the entries lie outside the node"));
    }
    Ok(Entries {
        view: view.part(0, end, WHAT)?,
        at: first,
        done: false,
    })
}

impl<'a> Entries<'a> {
    fn read(&self) -> Result<IndexEntry<'a>> {
        let at = self.at;
        let length = usize::from(self.view.u16_le(at.saturating_add(8))?);
        let flags = self.view.u16_le(at.saturating_add(12))?;
        if length < 16 || length % 8 != 0 {
            return Err(self.view.damaged(at, "impossible entry length"));
        }
        let entry = self.view.part(at, length, "index entry")?;
        let is_end = flags & IS_END != 0;
        let child = if flags & HAS_CHILD != 0 {
            Some(Vcn(entry.u64_le(length.saturating_sub(8).max(16))?))
        } else {
            None
        };
        let key_length = if is_end {
            0
        } else {
            usize::from(entry.u16_le(10)?)
        };
        Ok(IndexEntry {
            next: at.saturating_add(length),
            file: Reference::new(entry.u64_le(0)?),
            key: entry.part(16, key_length, "name in an index")?,
            whole: entry,
            child,
            is_end,
        })
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<IndexEntry<'a>>;

    /// Ends behind the end entry and behind the first error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let entry = self.read();
        match &entry {
            Ok(entry) => {
                self.at = entry.next;
                self.done = entry.is_end;
            }
            Err(_) => self.done = true,
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests;
