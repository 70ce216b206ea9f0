//! Going over a folder: entries with the long names before them.

use super::entry::{ATTRIBUTES, Entry, LONG_NAME};
use super::long_name::LongName;
use super::slots::{Slot, Slots};
use cairn_base::{Error, Kind, Result, View};
use std::ops::ControlFlow;

/// Pieces that cannot be read, of one folder, that are passed over.
const MAX_BAD: usize = 16;
/// The first byte of a deleted entry.
const DELETED: u8 = 0xE5;

/// An entry that is in use: a file, a folder, a label, or `.` and `..`.
pub struct Found {
    /// The entry.
    pub entry: Entry,
    /// Its long name, if it has one.
    pub long: Option<Vec<u16>>,
    /// Whether that was written for another entry.
    pub is_stray: bool,
    /// The number in the folder of the first entry that belongs to it.
    pub start: u64,
    /// The number behind it.
    pub next: u64,
    /// Where the entry lies on the volume, in bytes.
    pub position: u64,
}

/// What a walk comes to.
pub enum Met {
    /// A cluster of the folder.
    Cluster(u32),
    /// An entry.
    Found(Found),
}

/// Tells `sink` what `slots` hold. Answers the first damage, after all that can be read was told.
///
/// # Errors
/// What is no damage: whatever the disk reports.
pub fn walk(
    mut slots: Slots<'_>,
    wide: bool,
    sink: &mut dyn FnMut(Met) -> ControlFlow<()>,
) -> Result<Option<Error>> {
    let mut damage: Option<Error> = None;
    let mut bad = 0usize;
    let mut long = LongName::new();
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
                long.clear();
                slots.skip();
                continue;
            }
            Err(error) => return Err(error),
        };
        if let Some(cluster) = slot.entered
            && sink(Met::Cluster(cluster)).is_break()
        {
            break;
        }
        match slot.bytes.first() {
            Some(0) | None => break,
            Some(&DELETED) => long.clear(),
            Some(_) => {
                if let Some(found) = found(&slot, wide, &mut long)?
                    && sink(Met::Found(found)).is_break()
                {
                    break;
                }
            }
        }
    }
    Ok(damage)
}

fn found(slot: &Slot, wide: bool, long: &mut LongName) -> Result<Option<Found>> {
    let view = View::new(&slot.bytes, "folder entry", slot.position);
    if view.u8(11)? & ATTRIBUTES == LONG_NAME {
        long.add(view, slot.index)?;
        return Ok(None);
    }
    let entry = Entry::parse(view, wide)?;
    let is_stray = !long.is_of(view.array(0)?);
    let (long, start) = match long.take() {
        Some((name, start)) => (Some(name), start),
        None => (None, slot.index),
    };
    Ok(Some(Found {
        entry,
        is_stray: long.is_some() && is_stray,
        long,
        start,
        next: slot.index.saturating_add(1),
        position: slot.position,
    }))
}
