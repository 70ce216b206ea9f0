//! VMDK: VMware's "Virtual Disk Format 5.0", as far as it describes what lies in files.
//!
//! A disk is a [`descriptor`], a text, and extents that follow one another. An extent is flat (its bytes), sparse (a [`header`], a grain
//! directory, grain tables, grains), or zeros. The descriptor lies in a file of its own, or, if there is one sparse extent, inside of that. All numbers
//! are little-endian, sectors have 512 bytes.
//!
//! | create type | extents | |
//! |---|---|---|
//! | `monolithicSparse` | one `SPARSE` | descriptor inside |
//! | `monolithicFlat` | one `FLAT` | |
//! | `vmfs`, `vmfsPreallocated`, `vmfsEagerZeroedThick`, `vmfsThin` | `VMFS` or `FLAT`, one as a rule | |
//! | `twoGbMaxExtentSparse`, `twoGbMaxExtentFlat` | many `SPARSE` or `FLAT` | |
//! | `streamOptimized` | one `SPARSE` whose grains are compressed, with a marker before each; the grain directory may stand behind them | descriptor inside |
//! | `vmfsSparse` | `VMFSSPARSE`: a header of another form, `COWD` | ESX, snapshots |
//! | `custom`, `fullDevice`, `partitionedDevice` | any of these | |
//!
//! What the technical note leaves open is done as QEMU does it (`block/vmdk.c`), or refused. `seSparse` is refused: VMware has not
//! published what it is. So is what ESXi has encrypted.
//!
//! # Parents
//! A delta names its parent's file (`parentFileNameHint`) and the CID that the parent had. The CID is 32 bits of chance and the same in a parent and in
//! the child that was just made of it, so a parent is looked for by its name only.

pub mod descriptor;
pub mod header;

mod check;
mod disk;
mod extents;
mod grains;
mod marker;
mod named;
mod space;
mod stream;
mod text;

pub(crate) use disk::{check_is_told, content_id, open};
pub(crate) use named::{begins, check_raw};

/// Bytes in a sector, everywhere in VMDK.
pub const SECTOR: u64 = 512;
/// The largest disk that is read: far more than VMware's 62 TiB, and little enough that no sum of offsets can overflow.
pub const MAX_SIZE: u64 = 1 << 60;
