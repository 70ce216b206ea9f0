//! Going over a folder: the sets of entries that are files and folders, and those of the root that tell of the volume.

use super::entry_set::{self, EntrySet, FILE};
use crate::fat::slots::{Slot, Slots};
use cairn_base::{Error, Kind, Result, View};
use std::ops::ControlFlow;

/// Pieces that cannot be read, of one folder, that are passed over.
const MAX_BAD: usize = 16;
/// In use; entries without it were deleted.
const IN_USE: u8 = 0x80;

/// A file or folder as it stands in a folder.
pub struct Found {
    /// What its entries say.
    pub set: EntrySet,
    /// The number of its first entry in the folder.
    pub start: u64,
    /// The number behind its last.
    pub next: u64,
    /// Where its first entry lies on the volume, in bytes.
    pub position: u64,
}

/// What a walk comes to.
pub enum Met<'a> {
    /// A cluster of the folder.
    Cluster(u32),
    /// A file or folder.
    Found(Found),
    /// An entry that begins with something else.
    Other(&'a Slot),
}

/// Entries of a file that are not all there yet.
struct Begun {
    bytes: Vec<u8>,
    missing: u8,
    start: u64,
    position: u64,
}

/// Tells `sink` what `slots` hold. Answers the first damage, after all that can be read was told.
///
/// # Errors
/// What is no damage: whatever the disk reports.
pub fn walk(
    mut slots: Slots<'_>,
    sink: &mut dyn FnMut(Met<'_>) -> ControlFlow<()>,
) -> Result<Option<Error>> {
    let mut damage: Option<Error> = None;
    let mut bad = 0usize;
    let mut begun: Option<Begun> = None;
    loop {
        let slot = match slots.advance() {
            Ok(Some(slot)) => slot,
            Ok(None) => break,
            Err(error) if error.kind() == Kind::Damaged => {
                damage.get_or_insert(error);
                bad = bad.saturating_add(1);
                if bad >= MAX_BAD {
                    break;
                }
                begun = None;
                slots.skip();
                continue;
            }
            Err(error) => return Err(error),
        };
        if let Some(cluster) = slot.entered
            && sink(Met::Cluster(cluster)).is_break()
        {
            return Ok(damage);
        }
        let met = match add(&slot, &mut begun) {
            Ok(Some(met)) => met,
            Ok(None) if slot.bytes.first() == Some(&0) => break,
            Ok(None) => continue,
            Err(error) => {
                damage.get_or_insert(error);
                if slot.bytes.first() == Some(&0) {
                    break;
                }
                continue;
            }
        };
        if sink(met).is_break() {
            return Ok(damage);
        }
    }
    if let Some(begun) = begun {
        damage.get_or_insert(torn(begun.position));
    }
    Ok(damage)
}

fn torn(position: u64) -> Error {
    Error::damaged("a file's entries are not all there").at_offset(position)
}

/// Takes one entry; answers what it makes whole, or is.
fn add<'a>(slot: &'a Slot, begun: &mut Option<Begun>) -> Result<Option<Met<'a>>> {
    let [kind, count, ..] = slot.bytes;
    if let Some(mut set) = begun.take() {
        if entry_set::is_secondary(kind) {
            set.bytes.extend_from_slice(&slot.bytes);
            set.missing = set.missing.saturating_sub(1);
            if set.missing > 0 {
                *begun = Some(set);
                return Ok(None);
            }
            let view = View::new(&set.bytes, "exFAT file entry", set.position);
            return Ok(Some(Met::Found(Found {
                set: EntrySet::parse(view)?,
                start: set.start,
                next: slot.index.saturating_add(1),
                position: set.position,
            })));
        }
        // What interrupts it is looked at on its own; the damage is told.
        begin(slot, kind, count, begun);
        return Err(torn(set.position));
    }
    if begin(slot, kind, count, begun) || kind & IN_USE == 0 {
        return Ok(None);
    }
    Ok(Some(Met::Other(slot)))
}

/// Whether the entry is the first of a file's.
fn begin(slot: &Slot, kind: u8, count: u8, begun: &mut Option<Begun>) -> bool {
    if kind != FILE {
        return false;
    }
    *begun = Some(Begun {
        bytes: slot.bytes.to_vec(),
        // Fewer than two cannot be: then the next one ends it, and it is found to lack its stream or name.
        missing: count.max(1),
        start: slot.index,
        position: slot.position,
    });
    true
}
