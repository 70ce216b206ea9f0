//! VHD, fixed, dynamic and differencing: Microsoft's "Virtual Hard Disk Image Format Specification", version 1.0.
//!
//! All numbers are big-endian, sectors have 512 bytes. A fixed disk is its bytes and a [`footer`]. A dynamic disk is a
//! copy of the footer, the [`dynamic`] header, a table of blocks, blocks with a [`bitmap`] each, and the footer. A
//! differencing disk is a dynamic one that says where its parent is.
//!
//! # Size
//! The size is the footer's current size, always: what Hyper-V, Azure, XenServer, libvhdi and `qemu-img` with
//! `force_size_calc=current_size` take. `qemu-img` on its own takes cylinders × heads × sectors for a few creators
//! (Virtual PC, QEMU before 2.0), which is the smaller number: it would leave bytes out. Where the two differ,
//! [`warnings`](crate::VirtualDisk::warnings) says so.

pub mod bitmap;
pub mod dynamic;
pub mod footer;

mod blocks;
mod check;
mod disk;
mod locator;
pub(crate) mod made;

pub(crate) use check::{check_footers, has_footer};
pub use disk::find_footer;
pub(crate) use disk::{is_by_copy, open};

/// Bytes in a sector, everywhere in VHD.
pub const SECTOR: u64 = 512;
/// What ends a file that nobody can have made larger: Hyper-V's limit for VHD.
pub const MAX_SIZE: u64 = 2040 << 30;

/// The checksum of a footer or dynamic header: the one's complement of the sum of all bytes but the 4 at `field`.
pub(crate) fn checksum(bytes: &[u8], field: usize) -> u32 {
    let skipped = field..field.saturating_add(4);
    let sum = bytes
        .iter()
        .enumerate()
        .filter(|(at, _)| !skipped.contains(at))
        .fold(0u32, |sum, (_, byte)| sum.wrapping_add(u32::from(*byte)));
    !sum
}
