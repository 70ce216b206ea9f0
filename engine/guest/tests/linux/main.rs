//! Partition tables and ext file systems against independent tools: the kernel, `mke2fs`, and images that others made.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod compare;
mod crash;
mod images;
mod journal;
mod kernel;
mod layouts;
mod malformed;
mod own;
mod support;
