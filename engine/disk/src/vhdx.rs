//! VHDX, fixed, dynamic and differencing: \[MS-VHDX\], "Virtual Hard Disk v2 (VHDX) File Format".
//!
//! All numbers are little-endian. The first MiB holds the file's identifier, two [`header`]s and two [`region`] tables;
//! the regions are the [`metadata`] and the block table ([`bat`]). Between sessions the [`log`] is empty; what it holds
//! after a crash is laid over the file in memory, and the file stays as it is.
//!
//! A fixed disk is a dynamic one all of whose blocks are allocated: both are read in the same way. A differencing disk
//! has a parent in which blocks and sectors lie that it does not have itself.

pub mod bat;
mod check;
mod entry;
pub mod header;
mod locator;
pub mod log;
pub mod metadata;
pub mod region;

mod disk;
pub(crate) mod made;
mod replay;

pub(crate) use check::check_structures;
pub(crate) use disk::{known_as, open};

/// How a VHDX begins (2.2.1).
pub const SIGNATURE: &[u8; 8] = b"vhdxfile";
/// The largest virtual disk (2.6.2.2).
pub const MAX_SIZE: u64 = 64 << 40;
/// Regions, the log and blocks begin at multiples of this and not before it.
pub const ALIGNMENT: u64 = 1 << 20;

/// The CRC-32C of a structure whose checksum stands at byte 4 and counts as zeros (2.2.2, 2.2.3, 2.3.1.1).
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    let start = crc32c::crc32c(bytes.get(..4).unwrap_or_default());
    let start = crc32c::crc32c_append(start, &[0; 4]);
    crc32c::crc32c_append(start, bytes.get(8..).unwrap_or_default())
}
