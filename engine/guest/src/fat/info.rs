//! What is said of a volume as a whole, and of its root: what FAT and exFAT have in common.

use super::entry::FOLDER;
use crate::volume::{Attributes, EntryKind, Note, Volume, VolumeInfo};
use cairn_base::{Error, Result, Time};
use std::ops::ControlFlow;
use std::sync::OnceLock;

/// What is known of a volume as a whole, found out when it is first asked for.
#[derive(Default)]
pub struct Info {
    known: OnceLock<VolumeInfo>,
    /// The same where free space could not be counted for a reason that may pass.
    uncounted: OnceLock<VolumeInfo>,
}

impl Info {
    /// What is known of `volume`: as `make` says, which is given the bytes that are free. Where these could not be counted for a reason that may
    /// pass, they are counted again the next time.
    pub fn get(
        &self,
        volume: &dyn Volume,
        make: &dyn Fn(&Result<u64>) -> VolumeInfo,
    ) -> &VolumeInfo {
        if let Some(known) = self.known.get() {
            return known;
        }
        let free = count_free(volume);
        let may_pass = free.as_ref().is_err_and(|error| error.kind().may_pass());
        let place = if may_pass {
            &self.uncounted
        } else {
            &self.known
        };
        place.get_or_init(|| make(&free))
    }
}

fn count_free(volume: &dyn Volume) -> Result<u64> {
    let mut free = 0u64;
    volume.free_space(&mut |range| {
        free = free.saturating_add(range.end.saturating_sub(range.start));
        ControlFlow::Continue(())
    })?;
    Ok(free)
}

/// That free space could not be counted, for a reason that may pass.
pub fn uncounted(error: &Error) -> Note {
    Note::fact(format!("Free space could not be counted: {error}."))
}

/// A serial number as Windows and `blkid` show it.
pub fn serial_text(serial: u32) -> String {
    format!("{:04X}-{:04X}", serial >> 16, serial & 0xFFFF)
}

/// What is known of a root that no entry names.
pub fn root_attributes() -> Attributes {
    Attributes {
        kind: EntryKind::Folder,
        size: 0,
        allocated: 0,
        mode: 0o555,
        uid: 0,
        gid: 0,
        links: 1,
        device: None,
        modified: Time::default(),
        changed: Time::default(),
        accessed: Time::default(),
        created: None,
        dos_flags: u32::from(FOLDER),
    }
}
