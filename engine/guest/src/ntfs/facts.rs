//! What is known of a volume as a whole: label, version, whether it was closed.

use super::attribute::{kind, units};
use super::boot_sector::BootSector;
use super::entry::Entry;
use super::log_file::{self, LogState};
use super::mft::Mft;
use super::passing::is_passing;
use super::upcase::UpCase;
use crate::volume::Note;
use cairn_base::read_at::read_vec;
use cairn_base::{Error, Kind, ReadAt, Result, View};
use std::sync::Arc;

/// Record of `$LogFile`.
const LOG_FILE: u64 = 2;
/// Record of `$Volume`.
const VOLUME: u64 = 3;
/// Record of `$UpCase`.
const UPCASE: u64 = 10;
/// Bytes of the table in `$UpCase`.
const UPCASE_BYTES: u64 = 128 << 10;
const DIRTY: u16 = 1;

/// What opening a volume found out.
pub struct Facts {
    /// The label, empty if there is none.
    pub label: String,
    /// Whether the guest closed it properly.
    pub clean: bool,
    /// For the user.
    pub notes: Vec<Note>,
}

impl Facts {
    /// Nothing known, nothing wrong.
    pub fn new() -> Facts {
        Facts {
            label: String::new(),
            clean: true,
            notes: Vec::new(),
        }
    }

    /// Something of the volume cannot be read for `error`.
    ///
    /// # Errors
    /// `error`, if it may be gone the next time: a fact is told as long as the volume is open.
    fn miss(&mut self, what: &str, error: Error) -> Result<()> {
        if is_passing(&error) {
            return Err(error);
        }
        self.warn(format!("{what} cannot be read: {error}."));
        Ok(())
    }

    /// Something is wrong with the volume.
    pub fn warn(&mut self, note: impl Into<String>) {
        self.clean = false;
        self.notes.push(Note::defect(note));
    }

    /// Compares the sizes of volume and device.
    pub fn check_size(&mut self, boot: &BootSector, device: &dyn ReadAt) {
        if boot.bytes() > device.size() {
            self.warn(format!(
                "The volume says that it has {} bytes, but only {} are there; files beyond cannot be read.",
                boot.bytes(),
                device.size()
            ));
        }
    }

    /// Reads `$Volume`: label, version, dirty flag.
    ///
    /// # Errors
    /// What may be gone the next time.
    pub fn read_volume(&mut self, mft: &Mft) -> Result<()> {
        let result = Entry::load(mft, VOLUME).and_then(|entry| {
            let name = entry.value(mft, kind::VOLUME_NAME, &[], 1024)?;
            let information = entry.value(mft, kind::VOLUME_INFORMATION, &[], 1024)?;
            Ok((name, information))
        });
        match result {
            Ok((name, information)) => {
                self.label = String::from_utf16_lossy(&units(&name.unwrap_or_default()));
                let information = information.unwrap_or_default();
                match View::new(&information, "volume information", 0).u16_le(10) {
                    Ok(flags) if flags & DIRTY != 0 => self.warn(
                        "The volume is marked dirty: Windows wants to check it before it is used.",
                    ),
                    Ok(_) => {}
                    Err(error) => return self.miss("The volume's state", error),
                }
                Ok(())
            }
            Err(error) => self.miss("The volume's label and state", error),
        }
    }

    /// Looks at `$LogFile`, which is not replayed.
    ///
    /// # Errors
    /// What may be gone the next time.
    pub fn read_log(&mut self, mft: &Mft) -> Result<()> {
        let state = Entry::load(mft, LOG_FILE)
            .and_then(|entry| entry.open(mft, kind::DATA, &[]))
            .and_then(|log| match log {
                Some(log) => log_file::state(&log),
                None => Ok(LogState::Open),
            });
        match state {
            Ok(LogState::Clean) => {}
            Ok(LogState::Open) => self.warn(
                "The volume was in use when it was recorded; its log is not replayed, so what changed last may \
                 be missing or in part.",
            ),
            Err(error) => return self.miss("The volume's log", error),
        }
        Ok(())
    }

    /// Looks at `content`, which is `hiberfil.sys`, if there is one.
    ///
    /// # Errors
    /// What may be gone the next time.
    pub fn read_hibernation(&mut self, content: Result<Option<Arc<dyn ReadAt>>>) -> Result<()> {
        let magic = content.and_then(|content| match content {
            Some(content) if content.size() >= 4096 => read_vec(&content, 0, 4),
            _ => Ok(Vec::new()),
        });
        match magic {
            Ok(magic) if magic.eq_ignore_ascii_case(b"hibr") => self.warn(
                "Windows is hibernated (or was shut down with fast startup): it holds changes of this volume in \
                 memory that are not on the disk.",
            ),
            Ok(_) => {}
            // A folder or a link of that name.
            Err(error) if error.kind() == Kind::Invalid => {}
            Err(error) => return self.miss("Whether Windows is hibernated", error),
        }
        Ok(())
    }

    /// Reads `$UpCase`, or makes do without.
    ///
    /// # Errors
    /// What may be gone the next time.
    pub fn read_upcase(&mut self, mft: &Mft) -> Result<UpCase> {
        match upcase(mft) {
            Ok(table) => Ok(table),
            Err(error) if is_passing(&error) => Err(error),
            Err(error) => {
                self.warn(format!(
                    "The volume's table of capital letters cannot be read ({error}); Unicode's is used."
                ));
                Ok(UpCase::built_in())
            }
        }
    }
}

fn upcase(mft: &Mft) -> Result<UpCase> {
    let entry = Entry::load(mft, UPCASE)?;
    let table = entry
        .value(mft, kind::DATA, &[], UPCASE_BYTES)?
        .filter(|table| !table.is_empty())
        .ok_or_else(|| Error::damaged("it is empty"))?;
    Ok(UpCase::from_table(&table))
}
