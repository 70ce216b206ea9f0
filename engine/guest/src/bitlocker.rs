//! BitLocker: volumes that Windows encrypts as a whole, read with a recovery password, a password, a startup key, or without any while their protection is
//! suspended.
//!
//! Layouts are those that Joachim Metz describes in "BitLocker Drive Encryption (BDE) format"; what is newer follows what `dislocker`, `cryptsetup` (bitlk) and
//! `dissect.fve` know of it. From the ground up:
//!
//! - [`id`]: the ids of volumes and keys
//! - [`header`]: the volume header, which says where the metadata lie
//! - [`entry`]: entries of metadata and of startup keys; [`sealed`]: keys that are encrypted with other keys
//! - [`protector`]: what the volume master key is protected with
//! - [`metadata`]: one copy of the metadata; [`copies`]: the best of the three
//! - [`conversion`]: which chunks are encrypted while Windows encrypts only used space (encrypt on write)
//! - [`startup`]: startup key files (.BEK)
//! - [`keys`]: what a user knows, and what was computed from it; [`stretch`]: how that is done slowly
//! - [`cipher`], [`diffuser`]: how sectors are encrypted
//! - [`regions`]: what lies where; [`reader`]: the decrypted volume as bytes
//! - [`refusal`]: why a volume stays locked
//! - [`locked`]: a volume, its description, and how it is unlocked
//! - [`unlocked`]: the file system of an unlocked volume, which tells places of the encrypted one

mod cipher;
mod conversion;
mod copies;
mod diffuser;
mod entry;
mod header;
mod id;
mod keys;
mod locked;
mod metadata;
mod protector;
mod reader;
mod refusal;
mod regions;
mod sealed;
mod startup;
mod stretch;
mod unlocked;

#[cfg(test)]
mod tests;

pub use cipher::Method;
pub use header::{Layout, is_bitlocker};
pub use id::KeyId;
pub use keys::Keys;
pub use locked::{BitLocker, BitLockerInfo, ProtectorInfo, Unlocked};
pub use metadata::State;
pub use protector::Protection;
