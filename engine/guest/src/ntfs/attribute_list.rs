//! `$ATTRIBUTE_LIST`: where the attributes of a file are that needs more than one record.

use super::attribute::units;
use super::cluster::Vcn;
use super::record::Reference;
use cairn_base::{Result, View};

/// The longest list Windows writes.
pub const MAX_BYTES: u64 = 256 << 10;

/// One attribute, or one part of one, and the record that holds it.
#[derive(Debug, Clone)]
pub struct ListEntry {
    /// Attribute type.
    pub kind: u32,
    /// Attribute name.
    pub name: Vec<u16>,
    /// First cluster that the part maps.
    pub first: Vcn,
    /// The record that holds it.
    pub record: Reference,
    /// The attribute's number in that record.
    pub id: u16,
}

/// Decodes a list.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) for an entry that does not fit.
pub fn parse(view: View<'_>) -> Result<Vec<ListEntry>> {
    let mut entries = Vec::new();
    let mut at = 0usize;
    while at < view.len() {
        let kind = view.u32_le(at)?;
        let length = usize::from(view.u16_le(at.saturating_add(4))?);
        // Some lists are padded at their end.
        if kind == 0 && length == 0 {
            break;
        }
        if length < 26 {
            return Err(view.damaged(at, "impossible entry length"));
        }
        // The last entry may be cut right behind its name.
        let length = length.min(view.len().saturating_sub(at));
        let entry = view.part(at, length, "attribute list")?;
        let name_length = usize::from(entry.u8(6)?).saturating_mul(2);
        entries.push(ListEntry {
            kind,
            name: units(entry.slice(usize::from(entry.u8(7)?), name_length)?),
            first: Vcn(entry.u64_le(8)?),
            record: Reference::new(entry.u64_le(16)?),
            id: entry.u16_le(24)?,
        });
        at = at.saturating_add(length);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests;
