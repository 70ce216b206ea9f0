//! ext2, ext3 and ext4, as the kernel's document `Documentation/filesystems/ext4/` describes them.
//!
//! Lowest first:
//! - [`number`], [`checksum`]: conversions and the checksums of the format
//! - [`superblock`]: geometry and features
//! - [`blocks`]: blocks of the device through a bounded cache
//! - [`group`]: block group descriptors
//! - [`inode`], [`mapping`] ([`extent`], [`indirect`]): an entry and where its blocks lie
//! - [`content`]: the bytes of a file
//! - [`xattr`], [`acl`]: extended attributes
//! - [`dirent`], [`folder`], [`hash`], [`htree`], [`nokey`]: names
//! - [`log`], [`journal`], [`overlay`]: what a crash left in the journal, laid over the device
//! - [`free`]: what the bitmaps say is free
//! - [`volume`]: all of it as a [`Volume`](crate::volume::Volume)

mod acl;
mod blocks;
mod checksum;
mod content;
mod dirent;
mod extent;
mod folder;
mod free;
mod group;
mod hash;
mod htree;
mod indirect;
mod inode;
mod journal;
mod log;
mod mapping;
mod nokey;
mod number;
mod overlay;
mod superblock;
mod volume;
mod xattr;

#[cfg(test)]
mod tests;

pub use volume::ExtVolume;

use cairn_base::{ReadAt, Result};

/// Whether `device` starts with an ext superblock: the magic number, and fields that can be true.
///
/// # Errors
/// Whatever the device reports.
pub fn is_ext(device: &dyn ReadAt) -> Result<bool> {
    superblock::has_primary(device)
}

/// Whether what [`is_ext`] tells by two bytes is so by the sizes beside them too: where something else is there as well.
///
/// # Errors
/// As [`is_ext`].
pub fn is_likely(device: &dyn ReadAt) -> Result<bool> {
    superblock::is_likely(device)
}

/// Whether `device` has lost its superblock and a valid copy of it is left in one of the usual places.
///
/// # Errors
/// Whatever the device reports.
pub fn has_backup(device: &dyn ReadAt) -> Result<bool> {
    Ok(superblock::find_backup(device)?.is_some())
}
