//! Damaged NTFS: no panic, no hang, memory within bounds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests may panic"
)]

mod ntfs_support;

use cairn_base::ReadAt;
use ntfs_support::made::*;
use ntfs_support::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

#[test]
fn malformed_images_give_errors_or_what_can_be_read() {
    let Some(folder) = images() else { return };
    if !have(&["zstd"]) {
        return;
    }
    let index = std::fs::read(folder.join("malformed/INDEX.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    let mut tried = 0;
    for entry in index.as_array().unwrap() {
        if entry["fs"] != "ntfs" {
            continue;
        }
        let temporary = tempfile::tempdir().unwrap();
        let name = entry["file"].as_str().unwrap();
        let image = unpack(&folder.join("malformed").join(name), temporary.path());
        let start = Instant::now();
        let read = exhaust(FileDisk::open(&image));
        println!("{name}: {read} bytes in {:?}", start.elapsed());
        tried += 1;
    }
    assert!(tried >= 20);
}

/// A small generator of numbers: xorshift.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below.max(1)
    }
}

#[test]
fn flipped_bytes_never_panic_or_hang() {
    if !have(&["mkntfs"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = small(folder.path());
    let original = std::fs::read(&image).unwrap();
    // Records and index blocks are where damage matters: know where they are.
    let places: Vec<usize> = (0..original.len())
        .step_by(512)
        .filter(|&at| matches!(&original[at..at + 4], b"FILE" | b"INDX") || at == 0)
        .collect();
    assert!(places.len() > 30);
    assert!(exhaust(Arc::new(original.clone()) as Arc<dyn ReadAt>) > 0);
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for _ in 0..400 {
        let mut bytes = original.clone();
        for _ in 0..=random.next(6) {
            let place = places[random.next(places.len() as u64) as usize];
            let at = place + random.next(1024) as usize;
            // Bytes under the update sequence would only tear the record.
            if at % 512 < 510 && at < bytes.len() {
                bytes[at] = match random.next(4) {
                    0 => 0xFF,
                    1 => 0,
                    2 => bytes[at] ^ (1 << random.next(8)),
                    _ => random.next(256) as u8,
                };
            }
        }
        exhaust(Arc::new(bytes) as Arc<dyn ReadAt>);
    }
}

/// A volume of 3 MiB with a little of everything.
fn small(folder: &Path) -> PathBuf {
    let image = make(folder, 3 << 20, &["-s", "512"]);
    // Without FUSE the volume stays empty; its own files are damaged all the same.
    let Some(mount) = Mount::new(&image, folder, "streams_interface=windows") else {
        return image;
    };
    let root = &mount.0;
    for number in 0..120 {
        let name = format!("a file with a rather long name {number}");
        fs::write(root.join(name), format!("{number}")).unwrap();
    }
    fs::create_dir(root.join("folder")).unwrap();
    fs::write(root.join("folder/large"), vec![7u8; 50_000]).unwrap();
    fs::write(root.join("folder/large:stream"), b"named").unwrap();
    for number in 0..30 {
        fs::hard_link(
            root.join("folder/large"),
            root.join(format!("second name {number}")),
        )
        .unwrap();
    }
    std::os::unix::fs::symlink("folder/large", root.join("link")).unwrap();
    drop(mount);
    image
}
