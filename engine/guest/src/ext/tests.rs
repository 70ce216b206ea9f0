//! Decoders on bytes that nobody wrote, and checksums and hashes against known values.

use super::blocks::Blocks;
use super::checksum::{crc16, crc32c};
use super::dirent::{self, Layout};
use super::hash::NameHash;
use super::inode::AREA;
use super::{ExtVolume, acl, extent, indirect, nokey, superblock};
use crate::volume::{EntryId, Volume};
use cairn_base::{ReadAt, View};
use proptest::prelude::*;
use std::ops::ControlFlow;
use std::sync::Arc;

#[test]
fn checksums_have_their_known_values() {
    // The check values of the catalogues, without the final inversion of CRC-32C.
    assert_eq!(crc32c(!0, b"123456789"), !0xe306_9283);
    assert_eq!(crc32c(crc32c(!0, b"1234"), b"56789"), !0xe306_9283);
    assert_eq!(crc16(!0, b"123456789"), 0x4b37);
}

#[test]
fn names_hash_as_debugfs_says() {
    // From `debugfs dx_hash -h <method> [-s seed] <name>`.
    let hash = |version: u8, name: &[u8]| NameHash::new(version, 1, [0; 4]).unwrap().of(name);
    HASHES.iter().for_each(|(version, name, major, minor)| {
        assert_eq!(hash(*version, name), (*major, *minor), "{version} {name:?}");
    });
}

const HASHES: &[(u8, &[u8], u32, u32)] = &[
    (0, b"hello", 0x32252546, 0x00000000),
    (0, b"caf\xc3\xa9", 0x96ca5a2c, 0x00000000),
    (
        0,
        b"a-rather-long-name-that-fills-more-than-one-round-of-every-hash",
        0x5c31ee44,
        0x00000000,
    ),
    (1, b"hello", 0x1746da32, 0x420013b5),
    (1, b"caf\xc3\xa9", 0xfb9c5e5c, 0x0573e8b8),
    (
        1,
        b"a-rather-long-name-that-fills-more-than-one-round-of-every-hash",
        0xb44bed42,
        0xc7447e11,
    ),
    (2, b"hello", 0x6f5bb1a8, 0x231917c2),
    (2, b"caf\xc3\xa9", 0x105842ea, 0xfb9165ca),
    (
        2,
        b"a-rather-long-name-that-fills-more-than-one-round-of-every-hash",
        0xea23379c,
        0x75b05908,
    ),
];

#[test]
fn encrypted_names_have_no_slash_and_fit() {
    for length in [16, 149, 150, 255] {
        let shown = nokey::show(&vec![0xff; length], (1, 2));
        assert!(shown.len() <= 252 && !shown.contains(&b'/'), "{length}");
    }
    assert_eq!(nokey::show(b"", (0, 0)), b"AAAAAAAAAAA");
}

fn blocks_of(bytes: Vec<u8>) -> Blocks {
    let count = (bytes.len() / 1024) as u64;
    Blocks::new(Arc::new(bytes), 1024, 10, count)
}

/// Bytes of which some places hold what a decoder looks for.
fn spiced(length: usize, spice: Vec<(usize, Vec<u8>)>) -> impl Strategy<Value = Vec<u8>> {
    let changes = proptest::collection::vec((0..length, prop_oneof![0u8..20, any::<u8>()]), 0..300);
    changes.prop_map(move |changes| {
        let mut bytes = vec![0; length];
        for (at, value) in changes {
            bytes[at] = value;
        }
        for (at, mark) in &spice {
            bytes[*at..at + mark.len()].copy_from_slice(mark);
        }
        bytes
    })
}

/// A small file system as `mke2fs` would make it: what the properties change bytes of.
fn small_volume() -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    std::fs::create_dir_all(source.join("folder/below")).unwrap();
    std::fs::write(source.join("file"), vec![7; 30_000]).unwrap();
    std::fs::write(source.join("folder/short"), "short").unwrap();
    std::os::unix::fs::symlink("file", source.join("link")).unwrap();
    let image = folder.path().join("image");
    let made = std::process::Command::new("mke2fs")
        .args([
            "-q",
            "-t",
            "ext4",
            "-b",
            "1024",
            "-O",
            "inline_data,^metadata_csum,^has_journal",
            "-d",
        ])
        .args([&source, &image])
        .arg("256k")
        .status();
    if !made.is_ok_and(|status| status.success()) {
        println!("SKIPPED: mke2fs is not installed");
        return None;
    }
    Some(std::fs::read(image).unwrap())
}

/// Everything a volume can be asked; answers do not matter.
fn ask_everything(bytes: Vec<u8>) {
    let Ok(volume) = ExtVolume::open(Arc::new(bytes)) else {
        return;
    };
    for number in 0..24 {
        let id = EntryId::new(number);
        let _ = volume.attributes(id);
        let _ = volume.xattrs(id);
        let _ = volume.read_link(id);
        let _ = volume.parent(id);
        let _ = volume.lookup(id, b"file");
        let mut left = 1000;
        let _ = volume.read_dir(id, 0, &mut |entry| {
            assert!(entry.cookie != 0 && !entry.name.is_empty());
            left -= 1;
            if left == 0 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        if let Ok(file) = volume.open(id) {
            let _ = file.data_extents(0..u64::MAX);
            let mut buffer = vec![0; file.size().min(1 << 16) as usize];
            let _ = file.read_exact_at(0, &mut buffer);
        }
    }
    let mut last = 0;
    let _ = volume.free_space(&mut |range| {
        assert!(range.start >= last && range.end > range.start);
        last = range.end;
        ControlFlow::Continue(())
    });
}

#[test]
fn changed_bytes_never_panic() {
    let Some(image) = small_volume() else { return };
    // The tables lie at the beginning: every other change hits one.
    let changes = proptest::collection::vec(
        (
            prop_oneof![1024usize..2048, 2048usize..40_000, 0usize..262_144],
            any::<u8>(),
        ),
        1..40,
    );
    proptest!(ProptestConfig::with_cases(400), |(changes in changes)| {
        let mut bytes = image.clone();
        for (at, value) in changes {
            bytes[at] = value;
        }
        ask_everything(bytes);
    });
}

proptest! {
    #[test]
    fn superblocks_never_panic(bytes in spiced(4096, vec![(1024 + 0x38, vec![0x53, 0xef])])) {
        let _ = superblock::find(&bytes);
        ask_everything(bytes);
    }

    #[test]
    fn extents_answer_what_was_asked(
        area in spiced(AREA, vec![(0, vec![0x0a, 0xf3]), (4, vec![4, 0])]),
        rest in spiced(16 * 1024, vec![(1024, vec![0x0a, 0xf3]), (4096, vec![0x0a, 0xf3])]),
        logical in prop_oneof![0u64..64, any::<u64>()],
    ) {
        let blocks = blocks_of(rest);
        let area: [u8; AREA] = area.try_into().unwrap();
        for segment in [extent::find(&blocks, &area, None, logical), indirect::find(&blocks, &area, logical)]
            .into_iter()
            .flatten()
        {
            prop_assert_eq!(segment.logical, logical);
            prop_assert!(segment.blocks > 0);
            if let Some(first) = segment.physical {
                prop_assert!(first > 0 && first + segment.blocks <= 16);
            }
        }
    }

    #[test]
    fn records_lie_in_their_block(bytes in spiced(1024, vec![(4, vec![12, 0])]), hashed: bool) {
        let view = View::new(&bytes, "test", 0);
        let layout = Layout { file_type: true, hashed };
        let _ = dirent::scan(&view, layout, &mut |record| {
            assert!(record.offset + 8 + record.name.len() <= 1024);
            ControlFlow::Continue(())
        });
        if let Ok(shape) = dirent::shape(&view) {
            let _ = dirent::verify(&view, shape, 0);
        }
    }

    #[test]
    fn access_lists_grow_by_what_they_leave_out(bytes in spiced(40, vec![(0, vec![1, 0, 0, 0])])) {
        if let Ok(value) = acl::to_attribute(&bytes, 0) {
            prop_assert_eq!((value.len() - 4) % 8, 0);
        }
    }

    #[test]
    fn hashes_are_even(name in proptest::collection::vec(any::<u8>(), 0..256), version in 0u8..6, seed: [u32; 4]) {
        let hash = NameHash::new(version, 1, seed).unwrap();
        prop_assert_eq!(hash.of(&name).0 & 1, 0);
    }
}
