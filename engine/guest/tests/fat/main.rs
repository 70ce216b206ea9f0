//! FAT12, FAT16, FAT32 and exFAT against independent tools: mtools, exfat-fuse, The Sleuth Kit, and images that others made.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod chance;
mod damage;
mod exfat;
mod features;
mod images;
mod lasting;
mod made;
mod malformed;
mod passing;
#[path = "../linux/support.rs"]
mod support;
mod trees;
