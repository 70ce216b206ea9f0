//! A file that gives its place back when the disk is full, so that there is room for the records without which nothing can be deleted.

use crate::layout::{LOCKS, RESERVE};
use cairn_base::folder::optional;
use cairn_base::{Folder, Result};

/// Bytes that are held ready: room for a state with tens of thousands of packs, and what goes with it.
const LENGTH: u64 = 1 << 20;
/// It is made only where so much more is free, in bytes.
const FREE: u64 = 64 << 20;
/// It is made again where so much more is free, in bytes: the disk is small, or full of other things.
const FREE_AGAIN: u64 = 4 << 20;

/// Makes the file if it is not there and there is room for it.
///
/// # Errors
/// As the folder reports; nothing depends on it.
pub fn provide(folder: &dyn Folder) -> Result<()> {
    provide_where(folder, FREE)
}

/// As [`provide`], after it was of use: where there is less room.
///
/// # Errors
/// As [`provide`].
pub fn provide_again(folder: &dyn Folder) -> Result<()> {
    provide_where(folder, FREE_AGAIN)
}

fn provide_where(folder: &dyn Folder, free: u64) -> Result<()> {
    let roomy = folder.space()?.is_some_and(|space| space.free >= free);
    if !roomy || optional(folder.size(RESERVE))?.is_some() {
        return Ok(());
    }
    let scratch = format!("{LOCKS}/{RESERVE}.new");
    folder.remove(&scratch)?;
    let mut file = folder.create(&scratch)?;
    // Not zeros: a file system that compresses would reserve nothing.
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut bytes = Vec::new();
    for _ in 0..LENGTH / 8 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        bytes.extend_from_slice(&seed.to_le_bytes());
    }
    file.append(&bytes)?;
    file.sync()?;
    folder.replace(&scratch, RESERVE)
}

/// Gives the place back; whether there was any.
///
/// # Errors
/// As the folder reports.
pub fn release(folder: &dyn Folder) -> Result<bool> {
    if optional(folder.size(RESERVE))?.is_none() {
        return Ok(false);
    }
    folder.remove(RESERVE)?;
    folder.sync_folder("")?;
    Ok(true)
}
