//! VMDK in all their forms: as QEMU makes them, and made here byte by byte where no tool makes what there may be; what QEMU reads of these is what
//! must be read.
//!
//! - `named`: what is called `.vmdk` and begins like none
//! - `qemu`: what `qemu-img` makes
//! - `random`: random writes of `qemu-io` beside a raw disk
//! - `deltas`: parents
//! - `made`: writes descriptors, streams whose grain directory stands at the end, sparse extents of ESX
//! - `forms`: those, and descriptors in all their spellings
//! - `damage`: copies of tables, grains that lie nowhere, streams that were cut off
//! - `check`: what a check finds
//! - `hostile`: what is made to cost much or to contradict itself
//! - `reach`: files that are not opened because an image names them

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    clippy::single_range_in_vec_init,
    reason = "extents are lists of ranges, some of one"
)]

mod check;
mod damage;
mod deltas;
mod forms;
mod hostile;
mod made;
mod named;
mod qemu;
mod random;
mod reach;
#[path = "../shared/mod.rs"]
mod shared;
