//! VHD, VHDX, QCOW2, VDI, VMDK and raw disk images as one kind of virtual disk, and the way back: writing a disk as an image.
//!
//! - [`open`], [`open_as`], [`open_with`], [`open_bytes`], [`open_chain`]: find out what an image is, by its content, and
//!   read it, together with the parents of a differencing disk
//! - [`VirtualDisk`]: what every image is once it is open
//! - [`examine()`], [`Check`], [`Property`]: what an image says of itself and what is wrong with it, also of one that cannot be opened
//! - [`FileSource`]: an image file or block device, read by position, without a shared cursor
//! - [`vhd`]: Microsoft's "Virtual Hard Disk Image Format Specification" 1.0
//! - [`vhdx`]: Microsoft's \[MS-VHDX\]
//! - [`qcow2`]: QEMU's `docs/interop/qcow2.txt`, versions 2 and 3
//! - [`vdi`]: VirtualBox's `VDICore.h`
//! - [`vmdk`]: the "Virtual Disk Format 5.0" of VMware
//! - [`write`]: raw, VHD and VHDX images from the content of a disk
//! - [`view`]: a disk as a VHD or VHDX that is made as it is read
//!
//! Everything read is taken as hostile: lengths are bounded before anything is allocated, walks are bounded, and a
//! block that lies where it cannot lie is refused when it is read, so that the rest of the disk stays readable.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]
#![cfg_attr(
    test,
    expect(
        clippy::single_range_in_vec_init,
        reason = "extents are lists of ranges, some of one"
    )
)]

mod align;
mod beside;
mod bits;
mod chain;
pub mod check;
mod claims;
mod content;
pub mod detect;
pub mod disk;
pub mod examine;
mod foreign;
pub mod guid;
mod known;
mod layer;
mod layout;
mod named;
mod parent;
mod place;
pub mod property;
pub mod qcow2;
pub mod raw;
mod reach;
mod recent;
mod runs;
mod settled;
pub mod source;
mod stack;
mod table;
mod twice;
pub mod vdi;
pub mod vhd;
pub mod vhdx;
pub mod view;
pub mod vmdk;
pub mod write;

pub use check::{Check, Count, Finding, Severity, Topic};
pub use detect::{OpenOptions, detect, open, open_as, open_bytes, open_chain, open_with};
pub use disk::{
    FileStamp, Format, FormatHint, FoundBy, Identity, ImageFile, ImageInfo, VirtualDisk,
};
pub use examine::{Examined, check_structures, examine};
pub use guid::Guid;
pub use property::{Property, Value};
pub use source::FileSource;
pub use view::{ViewFormat, ViewOptions, view};
pub use write::{DiskWriter, Written};
