//! QCOW2, versions 2 and 3: QEMU's `docs/interop/qcow2.txt`.
//!
//! All numbers are big-endian. The file consists of clusters of one size. The first holds the [`header`] and its [`extensions`]; the active L1 table
//! leads to L2 tables, each a cluster, and these to clusters ([`entry`]): somewhere in the file, zeros, compressed, or not there, which means in
//! the backing file if there is one. With an external data file the guest's clusters lie in that, each where the guest has it.
//!
//! What tells only who else uses a cluster is looked at by a check alone: reference counts, internal snapshots, bitmaps. Encrypted images are not read.

pub mod entry;
pub mod extensions;
pub mod header;

mod bounds;
mod check;
mod clusters;
mod compressed;
mod disk;
mod l2;
mod names;
mod refcounts;
mod roots;
mod snapshots;
mod space;
mod tables;
mod user;
mod users;

pub(crate) use disk::{check_is_told, open};

/// How a QCOW2 begins, and also what came before it (version 1).
pub const MAGIC: &[u8; 4] = b"QFI\xfb";
