//! What holds for all points of a store, whoever asks: for how long none can be forgotten.
//!
//! The file is made with the store, so that one that is gone is noticed: nothing is forgotten until somebody has said anew what holds.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use crate::codec::{self, Record};
use crate::layout::{POLICY, POLICY_SCRATCH};
use bincode::{Decode, Encode};
use cairn_base::folder::{read_small, replace_bytes};
use cairn_base::{Error, Folder, Kind, Result};

/// Largest file read.
const MAX_BYTES: u64 = 4 << 10;

/// Longest immutability that can be asked for, in seconds: ten years. It cannot be taken back, so a slip of the pen must not last for ever.
pub const MAX_IMMUTABLE: u64 = 3660 * 86_400;

/// What the file holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Policy {
    /// Points that were made less than so many seconds ago cannot be forgotten; 0: any can.
    pub immutable: u64,
}

impl Record for Policy {
    const MAGIC: [u8; 8] = *b"CAIRNPOL";
    const VERSION: u32 = 1;
    const NAME: &'static str = "store's policy";
}

impl Policy {
    /// What holds for the store.
    ///
    /// # Errors
    /// [`Kind::Damaged`] if it is gone or damaged, [`Kind::Unsupported`] if it is of a newer version; as the folder reports.
    pub fn read(folder: &dyn Folder) -> Result<Policy> {
        let read = read_small(folder, POLICY, MAX_BYTES);
        read.and_then(|bytes| codec::open(&bytes)).map_err(|error| {
            let error = match error.kind() {
                Kind::NotFound => Error::damaged("the file is gone"),
                _ => error,
            };
            let damaged = error.kind() == Kind::Damaged;
            let error = error
                .context("for how long points cannot be forgotten is not known")
                .at_path(folder.describe(POLICY));
            if damaged {
                error.advise("say it anew with `cairn protect STORE PERIOD --damaged`; until then nothing is forgotten")
            } else {
                error
            }
        })
    }

    /// Puts it into the file's place, durably; the caller holds the publish lock.
    ///
    /// # Errors
    /// As the folder reports.
    pub fn write(&self, folder: &dyn Folder) -> Result<()> {
        replace_bytes(folder, POLICY_SCRATCH, "", POLICY, &codec::seal(self)?)
    }

    /// Whether this is a length that can be asked for.
    ///
    /// # Errors
    /// [`Kind::Invalid`] if it is above [`MAX_IMMUTABLE`].
    pub fn check(&self) -> Result<()> {
        if self.immutable > MAX_IMMUTABLE {
            return Err(Error::invalid(
                "points cannot be made immutable for more than ten years, because that cannot be taken back",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::LocalFolder;

    #[test]
    fn golden_bytes_and_every_loss_is_noticed() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("locks")).unwrap();
        let folder = LocalFolder::new(temp.path());
        assert_eq!(Policy::read(&folder).unwrap_err().kind(), Kind::Damaged);
        let policy = Policy { immutable: 0x0102 };
        policy.write(&folder).unwrap();
        assert_eq!(Policy::read(&folder).unwrap(), policy);
        let path = temp.path().join(POLICY);
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(whole[..16], *b"CAIRNPOL\x01\0\0\0\0\0\0\0");
        assert_eq!(
            whole[16..32],
            [8, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]
        );
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            let kind = Policy::read(&folder).unwrap_err().kind();
            assert_eq!(kind, Kind::Damaged, "{at}");
        }
        std::fs::write(&path, vec![0; 5000]).unwrap();
        assert_eq!(Policy::read(&folder).unwrap_err().kind(), Kind::Damaged);
    }

    #[test]
    fn no_slip_of_the_pen_lasts_for_ever() {
        let of = |immutable| Policy { immutable }.check();
        assert!(of(0).is_ok() && of(MAX_IMMUTABLE).is_ok());
        assert_eq!(of(MAX_IMMUTABLE + 1).unwrap_err().kind(), Kind::Invalid);
    }
}
