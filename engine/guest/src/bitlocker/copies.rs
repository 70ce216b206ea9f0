//! The three copies of the metadata: one that is whole and contradicts neither itself nor the volume header will do, and the newest of those is taken.

use super::header::Header;
use super::metadata::{Metadata, readable};
use crate::volume::Note;
use cairn_base::read_at::read_vec;
use cairn_base::{Error, ReadAt, Result};

/// The copy that is taken, and what is to be said of the others.
pub(super) struct Copies {
    pub best: Metadata,
    /// Facts of copies that are older or damaged, defects of those that contradict it.
    pub notes: Vec<Note>,
}

/// Reads the copies of the metadata of the volume on `device`.
///
/// # Errors
/// What is wrong with the first one, if none is whole; what reading reports where that may pass.
pub(super) fn read(device: &dyn ReadAt, header: &Header) -> Result<Copies> {
    let mut found: Vec<(u64, Result<Metadata>)> = Vec::new();
    let mut offsets = header.metadata.clone();
    let mut at = 0;
    while let Some(offset) = offsets.get(at).copied() {
        let copy = one(device, header, offset);
        // Vista's header knows one copy, and that knows the others.
        if let (Ok(first), 1) = (&copy, offsets.len()) {
            let others = first.offsets.iter().filter(|other| **other != offset);
            offsets.extend(others.copied().take(2));
        }
        if let Err(error) = &copy
            && error.kind().may_pass()
            && error.is_momentary()
        {
            return Err(error.clone());
        }
        found.push((offset, copy));
        at = at.saturating_add(1);
    }
    choose(found)
}

/// Reads a copy, which must agree with the volume header and with itself.
fn one(device: &dyn ReadAt, header: &Header, offset: u64) -> Result<Metadata> {
    let length = readable(device.size(), offset);
    if offset == 0 || length == 0 {
        return Err(Error::damaged(
            "a copy of the BitLocker metadata lies beyond the end of the volume",
        )
        .at_offset(offset));
    }
    let copy = Metadata::parse(&read_vec(device, offset, length)?, offset)?;
    // What lies there reads as zeros, so that it must be sure.
    let mut places = header.metadata.iter().chain([&offset]);
    if !places.all(|place| copy.offsets.contains(place)) {
        let what =
            "the BitLocker metadata name other places of their copies than the volume header";
        return Err(Error::damaged(what).at_offset(offset));
    }
    copy.beginning(header.sector_size)
        .map_err(|error| error.at_offset(offset))?;
    Ok(copy)
}

fn choose(found: Vec<(u64, Result<Metadata>)>) -> Result<Copies> {
    let whole = || found.iter().filter_map(|(_, copy)| copy.as_ref().ok());
    // Copies of another volume than that of most were left over.
    let of_same = |one: &Metadata| whole().filter(|copy| copy.volume == one.volume).count();
    // Of equal ones the first.
    let Some(most) = whole().rev().max_by_key(|copy| of_same(copy)) else {
        let first = found.into_iter().find_map(|(_, copy)| copy.err());
        let error = first.unwrap_or_else(|| Error::damaged("there are no BitLocker metadata"));
        return Err(error.context("no copy of the BitLocker metadata is whole"));
    };
    // All that is written counts the nonce up.
    let same = |copy: &&Metadata| copy.volume == most.volume;
    let newest = whole().filter(same).rev().max_by_key(|copy| copy.nonce);
    let best = newest.unwrap_or(most);
    let mut notes = Vec::new();
    for (number, (offset, copy)) in (1u32..).zip(&found) {
        let called = format!("copy {number} of the BitLocker metadata, at byte {offset},");
        match copy {
            Err(error) => notes.push(Note::fact(format!(
                "{called} is not whole and was not used: {error}"
            ))),
            Ok(copy) if copy.volume != best.volume => notes.push(Note::defect(format!(
                "{called} is of another volume than that which is used"
            ))),
            Ok(copy) if copy.hash != best.hash && copy.nonce == best.nonce => {
                notes.push(Note::defect(format!(
                    "{called} is another one than that which is used, and which is newer cannot be told"
                )));
            }
            Ok(copy) if copy.hash != best.hash => notes.push(Note::fact(format!(
                "{called} is another one than that which is used"
            ))),
            Ok(_) => {}
        }
    }
    Ok(Copies {
        best: best.clone(),
        notes,
    })
}
