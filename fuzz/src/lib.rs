//! Hostile bytes for everything that decodes bytes of disks, and random work for the store: one function for each target, which
//! panics when something is not as it must be, and otherwise says whether the bytes were taken for what they pretend to be.
//!
//! Which decoder is reached by which target stands in `README.md`.
//!
//! The same functions are run by libFuzzer (`fuzz_targets/`, `long.sh`) and, with the committed seeds and changed copies of
//! them, by an ordinary test (`tests/replay.rs`).
//!
//! - [`records`]: header, state, points, sessions, manifests, damage, proofs; names
//! - [`retention`]: what is forgotten, pinned and immutable
//! - [`catalog`]: names of machines and disks, to files and back
//! - [`packs`], [`parity`], [`maps`], [`segments`]: what lies in the store's other files
//! - [`changes`]: change information in JSON
//! - [`ntfs`]: single structures of NTFS, and what it and Windows compress with
//! - [`security`]: who may do what on NTFS, and extended attributes
//! - [`disks`], [`vmdk`], [`dynamic`], [`guests`], [`encrypted`]: images, partition tables, dynamic disks, file systems, encrypted volumes; [`pieces`] is how a fuzzer writes a disk
//! - [`overlays`]: what was written over a disk; [`servers`]: what clients of a server of disks send
//! - [`operations`]: backups, restores, verifications and damage in any order, against a plain model; [`memory`] is where the store lies
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a proof panics: that is how it fails"
)]

pub mod catalog;
pub mod changes;
pub mod disks;
pub mod dynamic;
pub mod encrypted;
pub mod guests;
pub mod maps;
pub mod memory;
pub mod ntfs;
pub mod operations;
pub mod overlays;
pub mod packs;
pub mod parity;
pub mod pieces;
pub mod records;
pub mod retention;
pub mod security;
pub mod segments;
pub mod servers;
pub mod vmdk;

/// A target: its name, which is also that of its folder of seeds, and what it does.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// All targets.
pub const TARGETS: &[Target] = &[
    ("header", records::header),
    ("state", records::state),
    ("point", records::point),
    ("session", records::session),
    ("manifest", records::manifest),
    ("damage", records::damage),
    ("proofs", records::proofs),
    ("machine_name", records::machine_name),
    ("retention", retention::retention),
    ("policy", retention::policy),
    ("names", records::names),
    ("catalog", catalog::points),
    ("pack_ends", packs::ends),
    ("pack_toc", packs::toc),
    ("pack", packs::whole),
    ("parity", parity::restore),
    ("frame", packs::frame),
    ("leaf", maps::leaf),
    ("node", maps::node),
    ("segment", segments::segment),
    ("segment_made", segments::made),
    ("changes", changes::changes),
    ("vhd", disks::vhd),
    ("vhdx", disks::vhdx),
    ("qcow2", disks::qcow2),
    ("vdi", disks::vdi),
    ("vmdk", disks::vmdk),
    ("vmdk_descriptor", disks::vmdk_descriptor),
    ("image", disks::any),
    ("partitions", guests::partitions),
    ("ldm", dynamic::group),
    ("ntfs", guests::ntfs),
    ("fat", guests::fat),
    ("exfat", guests::exfat),
    ("ext", guests::ext),
    ("ntfs_record", ntfs::record),
    ("ntfs_runs", ntfs::runs),
    ("ntfs_index", ntfs::index),
    ("ntfs_reparse", ntfs::reparse),
    ("lznt1", ntfs::lznt1),
    ("xpress", ntfs::xpress),
    ("lzx", ntfs::lzx),
    ("wof", ntfs::wof),
    ("bitlocker", encrypted::bitlocker),
    ("hive", guests::hive),
    ("reparse", guests::reparse),
    ("security", security::security),
    ("overlay", overlays::map),
    ("nbd", servers::nbd),
    ("operations", operations::operations),
];
