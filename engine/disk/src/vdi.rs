//! VDI, fixed, dynamic and differencing: VirtualBox's `VDICore.h`, version 1 of the format.
//!
//! All numbers are little-endian. The [`header`] says where the block table lies, and where the blocks begin; the table has a number for each block
//! of the disk: its place among those of the file. A differencing disk has a parent, known by its id, which also says whether the parent was
//! changed since. Undo disks are differencing ones by another name.

pub mod header;

mod check;
mod disk;

pub(crate) use disk::{known_as, open};

/// What stands at byte 64 of every VDI (`VDI_IMAGE_SIGNATURE`).
pub const SIGNATURE: &[u8; 4] = &[0x7f, 0x10, 0xda, 0xbe];
/// Where that is.
pub const SIGNATURE_AT: usize = 64;
