//! Writes seeds of every target, made by our own encoders and, where they are installed, by the tools that make disks:
//! `cargo run -p cairn-fuzz --example seeds [FOLDER]`. Seeds that a fuzzer found lie beside them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "run by hand: what fails is seen"
)]

#[path = "seeds/bitlocker.rs"]
mod bitlocker;
#[path = "seeds/disks.rs"]
mod disks;
#[path = "seeds/dynamic.rs"]
mod dynamic;
#[allow(dead_code, reason = "the tests of the reader use all of it")]
#[path = "../../engine/guest/tests/bitlocker/maker.rs"]
mod encrypted;
#[path = "seeds/hives.rs"]
mod hives;
#[path = "../../engine/guest/tests/windows/made.rs"]
mod made;
#[path = "../../engine/guest/tests/ldm/maker.rs"]
mod maker;
#[path = "../../engine/guest/tests/ldm/records.rs"]
mod records;
#[path = "seeds/store.rs"]
mod store;
#[path = "seeds/vmdk.rs"]
mod vmdk;
#[path = "seeds/writable.rs"]
mod writable;

use std::fs;
use std::path::{Path, PathBuf};

/// Where seeds go.
pub struct Seeds(PathBuf);

impl Seeds {
    /// Writes a seed of a target.
    pub fn put(&self, target: &str, name: &str, bytes: &[u8]) {
        let folder = self.0.join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    }
}

fn main() {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let seeds = Seeds(std::env::args_os().nth(1).map_or(beside, PathBuf::from));
    store::write(&seeds);
    disks::write(&seeds);
    bitlocker::write(&seeds);
    hives::write(&seeds);
    dynamic::write(&seeds);
    vmdk::write(&seeds);
    writable::write(&seeds);
}
