//! BitLocker: volumes that Windows made, and volumes made here, against libbde and dislocker.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod contradict;
mod damage;
mod files;
mod made;
mod maker;
mod maps;
mod support;
mod windows;
