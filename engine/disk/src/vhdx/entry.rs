//! Entries of the block table, \[MS-VHDX\] 2.5.1: states, and where they lead.

use super::ALIGNMENT;
use std::ops::Range;

/// "Payload BAT Entry States" (2.5.1.1).
pub(super) mod state {
    pub(in crate::vhdx) const NOT_PRESENT: u64 = 0;
    pub(in crate::vhdx) const UNDEFINED: u64 = 1;
    pub(in crate::vhdx) const ZERO: u64 = 2;
    pub(in crate::vhdx) const UNMAPPED: u64 = 3;
    pub(in crate::vhdx) const FULLY_PRESENT: u64 = 6;
    pub(in crate::vhdx) const PARTIALLY_PRESENT: u64 = 7;
}

/// Bytes of a sector bitmap block (2.4).
pub(super) const BITMAP: u64 = 1 << 20;

/// What no block may touch besides regions and log: the first MiB.
pub(super) const HEADERS: Range<u64> = 0..ALIGNMENT;

/// Where an entry leads: bits 20 to 63 are MiB, which is the place in bytes with the low bits clear.
pub(super) fn place(entry: u64) -> u64 {
    (entry >> 20) << 20
}
