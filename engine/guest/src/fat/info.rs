//! What is said of a volume as a whole, and of its root: what FAT and exFAT have in common.

use super::entry::FOLDER;
use crate::ntfs::passing::is_passing;
use crate::volume::{Attributes, EntryKind, Note, Volume, VolumeInfo};
use cairn_base::{Result, Time};
use parking_lot::Mutex;
use std::ops::ControlFlow;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Free space that could not be counted for a reason that may pass is counted again after this time.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is known of a volume as a whole, found out when it is first asked for.
pub struct Info {
    known: OnceLock<VolumeInfo>,
    /// The same where free space could not be counted for a reason that may pass.
    uncounted: OnceLock<VolumeInfo>,
    /// When that was tried last; held while free space is counted.
    failed: Mutex<Option<Instant>>,
    patience: Duration,
}

impl Info {
    /// Nothing is known yet.
    pub fn new() -> Info {
        Info {
            known: OnceLock::new(),
            uncounted: OnceLock::new(),
            failed: Mutex::new(None),
            patience: PATIENCE,
        }
    }

    /// What is known of a volume: as `make` says, which is given the bytes that are free, or why `count` could not count them. That is remembered; where it may pass
    /// they are counted again, some seconds later.
    pub fn get(
        &self,
        count: &dyn Fn() -> Result<u64>,
        make: &dyn Fn(&Result<u64>) -> VolumeInfo,
    ) -> &VolumeInfo {
        if let Some(known) = self.known.get() {
            return known;
        }
        let mut failed = self.failed.lock();
        // Another thread may have counted meanwhile.
        if let Some(known) = self.known.get() {
            return known;
        }
        if let (Some(uncounted), Some(when)) = (self.uncounted.get(), *failed)
            && when.elapsed() < self.patience
        {
            return uncounted;
        }
        let free = count();
        if !free.as_ref().is_err_and(is_passing) {
            return self.known.get_or_init(|| make(&free));
        }
        *failed = Some(Instant::now());
        self.uncounted.get_or_init(|| make(&free))
    }
}

/// How many bytes of `volume` are free.
///
/// # Errors
/// As [`Volume::free_space`].
pub fn count_free(volume: &dyn Volume) -> Result<u64> {
    let mut free = 0u64;
    volume.free_space(&mut |range| {
        free = free.saturating_add(range.end.saturating_sub(range.start));
        ControlFlow::Continue(())
    })?;
    Ok(free)
}

/// What is to be said if free space could not be counted: a fact if the reason may pass, or that `map`, in which it stands, is defective.
pub fn uncounted(free: &Result<u64>, map: &str) -> Option<Note> {
    let error = free.as_ref().err()?;
    Some(match is_passing(error) {
        true => Note::fact(format!("Free space could not be counted: {error}.")),
        false => Note::defect(format!("{map} cannot be read: {error}.")),
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::{Error, Kind};
    use std::cell::Cell;

    /// Asks three times while counting fails with `failure`, and once when it does not any more: what was told of free space, and how often it was counted.
    fn asked(patience: Duration, failure: Kind) -> (Vec<u64>, usize) {
        let info = Info {
            patience,
            ..Info::new()
        };
        let (counted, fails) = (Cell::new(0), Cell::new(true));
        let count = || {
            counted.set(counted.get() + 1);
            match fails.get() {
                true => Err(Error::new(failure, "test")),
                false => Ok(7),
            }
        };
        let make = |free: &Result<u64>| VolumeInfo {
            file_system: "none",
            label: String::new(),
            uuid: String::new(),
            block_size: 512,
            size: 0,
            free: *free.as_ref().unwrap_or(&0),
            files: 0,
            clean: true,
            notes: Vec::from_iter(uncounted(free, "The map")),
            ignores_case: true,
        };
        let mut told = Vec::new();
        for time in 0..4 {
            fails.set(time < 3);
            told.push(info.get(&count, &make).free);
        }
        (told, counted.get())
    }

    #[test]
    fn what_may_pass_is_counted_again_but_not_each_time() {
        let long = Duration::from_secs(3600);
        assert_eq!(asked(Duration::ZERO, Kind::Busy), (vec![0, 0, 0, 7], 4));
        assert_eq!(asked(long, Kind::Busy), (vec![0; 4], 1));
        // A sector that the disk cannot read stays so.
        assert_eq!(asked(Duration::ZERO, Kind::Io), (vec![0; 4], 1));
        assert_eq!(asked(Duration::ZERO, Kind::Damaged), (vec![0; 4], 1));
    }

    #[test]
    fn only_what_stays_is_a_defect() {
        let note = |kind| uncounted(&Err(Error::new(kind, "test")), "The map");
        let is_defect = |kind| note(kind).unwrap().is_defect;
        assert!(is_defect(Kind::Io) && is_defect(Kind::Damaged) && !is_defect(Kind::Busy));
        assert_eq!(
            note(Kind::Io).unwrap().text,
            "The map cannot be read: test."
        );
        assert_eq!(uncounted(&Ok(7), "The map"), None);
    }
}
