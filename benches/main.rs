//! The speed of the parts. Ratios to a floor are measured in the same run, turn by turn, and printed beside criterion's figures.
//!
//! Files are made in the folder for temporary files (`TMPDIR`): what is synced to its disk counts.
#![allow(
    clippy::unwrap_used,
    reason = "a bench that cannot do its work has nothing to report"
)]

mod bytes;
mod catalog;
mod disk;
mod formats;
mod guest;
mod image;
mod index;
#[path = "../engine/disk/tests/chains/made.rs"]
#[allow(
    dead_code,
    reason = "made for tests of chains; two images are enough here"
)]
mod made;
mod put;
mod read;
mod restore;
mod unsynced;
mod verify;

use criterion::{Criterion, criterion_group, criterion_main};
use std::time::Duration;

fn quick() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .without_plots()
}

criterion_group! {
    name = all;
    config = quick();
    targets = bytes::cut, bytes::hash, bytes::frame, put::put, read::get, restore::bring_back, verify::verify, index::index_lookup, guest::guest_walk, guest::guest_read, image::image, catalog::catalog, formats::formats
}
criterion_main!(all);
