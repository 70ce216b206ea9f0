//! Dynamic disks: what is read of their databases against libldm's `ldmtool`, and the bytes of their volumes against what was put there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod damage;
mod ldmtool;
mod lost;
mod maker;
mod records;
mod support;
mod volumes;
