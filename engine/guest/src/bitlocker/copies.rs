//! The three copies of the metadata: one that is whole will do, and the newest of those is taken.

use super::header::Header;
use super::metadata::{Metadata, readable};
use crate::volume::Note;
use cairn_base::read_at::read_vec;
use cairn_base::{Error, ReadAt, Result};

/// The copy that is taken, and what is to be said of the others.
pub(super) struct Copies {
    pub best: Metadata,
    /// Facts: nothing that is shown is wrong because of them.
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
        let copy = one(device, offset);
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

fn one(device: &dyn ReadAt, offset: u64) -> Result<Metadata> {
    let length = readable(device.size(), offset);
    if offset == 0 || length == 0 {
        return Err(Error::damaged(
            "a copy of the BitLocker metadata lies beyond the end of the volume",
        )
        .at_offset(offset));
    }
    Metadata::parse(&read_vec(device, offset, length)?, offset)
}

fn choose(found: Vec<(u64, Result<Metadata>)>) -> Result<Copies> {
    let whole = || found.iter().filter_map(|(_, copy)| copy.as_ref().ok());
    let Some(first) = whole().next() else {
        let first = found.into_iter().find_map(|(_, copy)| copy.err());
        let error = first.unwrap_or_else(|| Error::damaged("there are no BitLocker metadata"));
        return Err(error.context("no copy of the BitLocker metadata is whole"));
    };
    // All that is written counts the nonce up. Copies of another volume than the first one's were left over.
    let same = |copy: &&Metadata| copy.volume == first.volume;
    let best = whole().filter(same).fold(
        first,
        |best, copy| {
            if copy.nonce > best.nonce { copy } else { best }
        },
    );
    let mut notes = Vec::new();
    for (number, (offset, copy)) in (1u32..).zip(&found) {
        match copy {
            Err(error) => notes.push(Note::fact(format!(
                "copy {number} of the BitLocker metadata, at byte {offset}, is not whole and was not used: {error}"
            ))),
            Ok(copy) if copy.hash != best.hash => notes.push(Note::fact(format!(
                "copy {number} of the BitLocker metadata, at byte {offset}, is another one than that which is used"
            ))),
            Ok(_) => {}
        }
    }
    Ok(Copies {
        best: best.clone(),
        notes,
    })
}
