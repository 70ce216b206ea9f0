//! QCOW2 and VDI: against QEMU's own tools, and images made by hand to do harm.
//!
//! - `kit`: runs QEMU's tools, and makes small images
//! - `qemu`: what QEMU writes, with every option that changes where bytes lie
//! - `random`: random writes into disks of all cluster sizes, compared with a model
//! - `chains`: backing files of all formats and sizes, external data files
//! - `reach`: files that are not opened because an image names them
//! - `hostile`: headers, tables and clusters that cannot be
//! - `vdi`: the same for VDI
//! - `check`, `counts`, `vdi_check`: what a check finds, and what `qemu-img check` does

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    clippy::single_range_in_vec_init,
    reason = "extents are lists of ranges, some of one"
)]

mod chains;
mod check;
mod counts;
mod hostile;
mod kit;
mod qemu;
mod random;
mod reach;
mod vdi;
mod vdi_check;

#[path = "../shared/mod.rs"]
mod shared;
