//! Copies of tables that stand in for damaged ones, grains that lie nowhere, streams that were cut off: what is lost is an error, never zeros.

use super::made::{GRAIN, all, in_full, ours, put_u32, sample, stream, stream_of, write};
use super::shared::run;
use cairn_base::Kind;
use cairn_base::read_at::read_vec;
use cairn_disk::open;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A sparse image with its content, and where its directory and the copy of it lie.
fn hosted(folder: &Path) -> (PathBuf, Vec<u8>, usize, usize) {
    let content = sample(70 << 20, 11);
    let raw = write(folder, "raw", &content);
    let image = folder.join("a.vmdk");
    run(Command::new("qemu-img")
        .args(["convert", "-f", "raw", "-O", "vmdk"])
        .args([&raw, &image]));
    let bytes = fs::read(&image).unwrap();
    let sector = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    (image, content, sector(56) * 512, sector(48) * 512)
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

type Change<'a> = &'a dyn Fn(&mut Vec<u8>);

#[test]
fn the_copy_of_the_directory_stands_in() {
    let work = tempfile::tempdir().unwrap();
    let (image, content, directory, copy) = hosted(work.path());
    let good = fs::read(&image).unwrap();
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        write(work.path(), "b.vmdk", &bytes)
    };
    let cases: [(&str, Change); 6] = [
        ("zeros", &|bytes| bytes[directory..directory + 12].fill(0)),
        ("garbage", &|bytes| {
            bytes[directory..directory + 512].fill(0xee)
        }),
        ("one entry", &|bytes| put_u32(bytes, directory + 4, 0)),
        ("over the header", &|bytes| put_u32(bytes, directory, 0)),
        ("nowhere", &|bytes| bytes[56..64].fill(0x7f)),
        ("none", &|bytes| bytes[56..64].fill(0)),
    ];
    for (what, change) in cases {
        let disk = open(&changed(change)).unwrap();
        assert!(all(&*disk).unwrap() == content, "{what}");
        assert!(
            disk.warnings()[0].contains("its copy"),
            "{what}: {:?}",
            disk.warnings()
        );
    }
    // A damaged copy is of no account as long as the directory is good.
    let disk = open(&changed(&|bytes| bytes[copy..copy + 12].fill(0xee))).unwrap();
    assert!(all(&*disk).unwrap() == content);
    // Both lost: what they were about is an error.
    let path = changed(&|bytes| {
        put_u32(bytes, directory + 4, 0x7fff_ffff);
        put_u32(bytes, copy + 4, 0x7fff_ffff);
    });
    let disk = open(&path).unwrap();
    let span = 32usize << 20;
    assert!(read_vec(&*disk, 0, span).unwrap() == content[..span]);
    let error = read_vec(&*disk, span as u64, 512).unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged);
    assert_eq!(error.path(), Some(path.as_path()));
    assert_eq!(error.offset(), Some(0x7fff_ffff * 512));
    let extents = disk.data_extents(0..u64::MAX).unwrap();
    assert!(
        extents
            .iter()
            .any(|extent| extent.start <= span as u64 && 2 * span as u64 <= extent.end)
    );
    // Or neither is in the file.
    let path = changed(&|bytes| bytes[48..64].fill(0x7f));
    assert_eq!(open(&path).err().unwrap().kind(), Kind::Damaged);
}

#[test]
fn the_copy_of_a_table_stands_in() {
    let work = tempfile::tempdir().unwrap();
    let (image, content, directory, copy) = hosted(work.path());
    let good = fs::read(&image).unwrap();
    let table = |at: usize| u32_at(&good, at) * 512;
    let (first, second) = (table(directory), table(copy));
    assert_ne!(first, second);
    let index = (0..512)
        .find(|index| u32_at(&good, first + index * 4) != 0)
        .unwrap();
    for wild in [1, 0xffff_fff0, (good.len() / 512) as u32] {
        let mut bytes = good.clone();
        put_u32(&mut bytes, first + index * 4, wild);
        let path = write(work.path(), "b.vmdk", &bytes);
        assert!(ours(&path).unwrap() == content, "{wild}");
        // In both: the grain is lost, and no other.
        put_u32(&mut bytes, second + index * 4, wild);
        let path = write(work.path(), "b.vmdk", &bytes);
        let disk = open(&path).unwrap();
        let at = index * GRAIN;
        let error = read_vec(&*disk, at as u64 + 5, 1).unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged, "{wild}: {error}");
        assert_eq!(error.path(), Some(path.as_path()));
        assert_eq!(error.offset(), Some(u64::from(wild) * 512));
        let behind = at + GRAIN;
        let rest = read_vec(&*disk, behind as u64, content.len() - behind).unwrap();
        assert!(rest == content[behind..]);
        let extents = disk.data_extents(0..u64::MAX).unwrap();
        let holds = |at: u64| extents.iter().any(|extent| extent.contains(&at));
        assert!(holds(at as u64), "what is lost is no hole");
    }
}

#[test]
fn zeros_over_a_table_are_not_zeros_of_the_disk() {
    let work = tempfile::tempdir().unwrap();
    let (image, content, directory, copy) = hosted(work.path());
    let good = fs::read(&image).unwrap();
    let table = |at: usize| u32_at(&good, at) * 512;
    for (what, lost) in [
        ("a sector", table(directory)..table(directory) + 512),
        ("all of it", table(directory)..table(directory) + 2048),
        ("of the copy", table(copy)..table(copy) + 2048),
    ] {
        let mut bytes = good.clone();
        assert!(bytes[lost.clone()].iter().any(|byte| *byte != 0), "{what}");
        bytes[lost].fill(0);
        let path = write(work.path(), "b.vmdk", &bytes);
        assert!(ours(&path).unwrap() == content, "{what}");
    }
}

#[test]
fn a_sparse_extent_that_was_cut_off() {
    let work = tempfile::tempdir().unwrap();
    let (image, content, ..) = hosted(work.path());
    let good = fs::read(&image).unwrap();
    let mut lost = 0;
    for part in 0..20 {
        let bytes = &good[..good.len() * part / 20];
        let path = write(work.path(), "b.vmdk", bytes);
        let Ok(disk) = open(&path) else { continue };
        for (at, expected) in (0u64..).step_by(GRAIN).zip(content.chunks(GRAIN)) {
            match read_vec(&*disk, at, expected.len()) {
                Ok(found) => assert!(found == expected, "{part}: other bytes at {at}"),
                Err(error) => {
                    assert_eq!(error.kind(), Kind::Damaged);
                    assert!(in_full(&error).contains("cut off"), "{error}");
                    lost += 1;
                }
            }
        }
    }
    assert!(lost > 0);
}

#[test]
fn a_stream_that_was_cut_off() {
    let content = sample(7 * GRAIN, 2);
    let (good, _) = stream(&content);
    let work = tempfile::tempdir().unwrap();
    for back in 1..good.len() / 512 {
        let path = write(work.path(), "b.vmdk", &good[..good.len() - back * 512]);
        let error = open(&path).err().unwrap();
        assert_eq!(error.kind(), Kind::Damaged, "{back}: {error}");
        if back * 512 < good.len() - 21 * 512 {
            let text = in_full(&error);
            assert!(
                text.contains("no footer") && text.contains("cut off"),
                "{text}"
            );
        }
    }
    // Or bytes in the middle of it are gone.
    for at in (21 * 512..good.len() - 3 * 512).step_by(512 * 7) {
        let bytes = [&good[..at], &good[at + 512..]].concat();
        let path = write(work.path(), "b.vmdk", &bytes);
        let Ok(disk) = open(&path) else { continue };
        for (at, expected) in (0u64..).step_by(GRAIN).zip(content.chunks(GRAIN)) {
            if let Ok(found) = read_vec(&*disk, at, expected.len()) {
                assert!(found == expected, "other bytes at {at}");
            }
        }
    }
}

#[test]
fn a_footer_that_contradicts_the_header() {
    let content = sample(7 * GRAIN, 2);
    let (good, parts) = stream(&content);
    let work = tempfile::tempdir().unwrap();
    for (at, field) in [(12, 1u8), (20, 1), (44, 1), (56, 0xff), (10, 0), (0, 0)] {
        let mut bytes = good.clone();
        let length = if field == 0xff { 8 } else { 1 };
        bytes[parts.footer + at..][..length].fill(field);
        let path = write(work.path(), "b.vmdk", &bytes);
        assert_eq!(open(&path).err().unwrap().kind(), Kind::Damaged, "{at}");
    }
}

#[test]
fn compressed_grains_that_are_not_what_they_say() {
    let content = sample(7 * GRAIN, 2);
    let (good, parts) = stream(&content);
    let work = tempfile::tempdir().unwrap();
    let marker = parts.grains[0];
    let sector = u64::from_le_bytes(good[marker..marker + 8].try_into().unwrap());
    let at = sector * 512;
    let check = |bytes: &[u8], said: &str| {
        let path = write(work.path(), "b.vmdk", bytes);
        let disk = open(&path).unwrap();
        let error = read_vec(&*disk, at, 1).unwrap_err();
        let text = in_full(&error);
        assert_eq!(error.kind(), Kind::Damaged, "{text}");
        assert!(text.contains(said), "no {said}: {text}");
        assert_eq!(error.path(), Some(path.as_path()));
        assert_eq!(error.offset(), Some(marker as u64));
        let next = parts.grains[1];
        let next = u64::from_le_bytes(good[next..next + 8].try_into().unwrap()) * 512;
        let found = read_vec(&*disk, next, 4096).unwrap();
        assert!(found == content[next as usize..][..4096]);
    };
    let with = |at: usize, field: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + field.len()].copy_from_slice(field);
        bytes
    };
    check(&with(marker, &[0x80]), "is marked as that of sector");
    check(
        &with(marker + 8, &[0; 4]),
        "takes 0 bytes".replace("takes", "said to take").as_str(),
    );
    check(&with(marker + 8, &[0xff; 4]), "said to take");
    check(&with(marker + 12, &[0xff; 8]), "cannot be decoded");
    let length = u32_at(&good, marker + 8);
    let last = marker + 12 + length - 1;
    check(&with(last, &[good[last] ^ 1]), "checksum");
    check(
        &with(marker + 8, &(length as u32 - 8).to_le_bytes()),
        "ends too early",
    );
    // Bombs, and grains that hold too little.
    let bomb = stream_of(&content, |_| (super::made::deflate(&vec![7; 64 << 20]), 0)).0;
    check_all(&bomb, &work, "holds more than a grain");
    let small = stream_of(&content, |_| (super::made::deflate(&[7; 100]), 0)).0;
    check_all(&small, &work, "holds 100 bytes");
}

fn check_all(bytes: &[u8], work: &tempfile::TempDir, said: &str) {
    let path = write(work.path(), "c.vmdk", bytes);
    let disk = open(&path).unwrap();
    let error = all(&*disk).unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged);
    assert!(in_full(&error).contains(said), "{error}");
}
