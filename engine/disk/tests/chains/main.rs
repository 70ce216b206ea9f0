//! Differencing disks and their parents: made here block by block, because no tool makes all that there may be, and
//! compared with a model and with libvhdi.
//!
//! - `made`: writes VHD and VHDX images of any block size, with what their sectors should read as
//! - `model`: random chains against that
//! - `search`: where parents are found, and which ones are refused
//! - `reach`: files that are not opened because an image names them
//! - `refused`: what is refused, and is no damage
//! - `hostile`: chains made to cost much
//! - `logs`: VHDX with changes in their logs
//! - `check`: everything that is wrong with an image is named, with its offset
//! - `held`: what the youngest images of a chain hold themselves
//! - `journal`: writes logs of VHDX
//! - `libvhdi`: the same chains through another reader

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod check;
mod held;
mod hostile;
mod journal;
mod libvhdi;
mod logs;
mod made;
mod model;
mod reach;
mod refused;
mod search;
#[path = "../shared/vhdi.rs"]
mod vhdi;
