//! Volumes that the guest did not close: they are read, and say so; what does not fit together names its record.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests may panic"
)]

mod ntfs_support;

use cairn_base::{Kind, ReadAt};
use cairn_guest::ntfs::NtfsVolume;
use cairn_guest::{EntryId, EntryKind, Volume};
use ntfs_support::made::*;
use ntfs_support::*;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Record of `$LogFile`.
const LOG_FILE: u64 = 2;

/// The log's first page as Windows leaves it while the volume is in use; `flags` 2 where it was closed.
fn restart_page(flags: u16, client: u16) -> Vec<u8> {
    let mut page = vec![0u8; 4096];
    page[..4].copy_from_slice(b"RSTR");
    // The update sequence: one number and the ends of eight sectors.
    page[4..8].copy_from_slice(&[30, 0, 9, 0]);
    page[16..20].copy_from_slice(&4096u32.to_le_bytes());
    page[20..24].copy_from_slice(&4096u32.to_le_bytes());
    // The restart area, 16 bytes aligned behind it.
    page[24..26].copy_from_slice(&48u16.to_le_bytes());
    let area = 48;
    page[area..area + 8].copy_from_slice(&77u64.to_le_bytes());
    page[area + 12..area + 14].copy_from_slice(&client.to_le_bytes());
    page[area + 14..area + 16].copy_from_slice(&flags.to_le_bytes());
    page
}

/// Where the content of record `number` begins.
fn place(bytes: &[u8], number: u64) -> usize {
    let mut place = None;
    open_bytes(bytes)
        .extents(EntryId::new(number), &mut |extent| {
            place = Some(extent.place.start as usize);
            ControlFlow::Break(())
        })
        .unwrap();
    place.unwrap()
}

fn notes(volume: &NtfsVolume) -> Vec<String> {
    let defects = volume.info().defects();
    defects.map(str::to_string).collect()
}

#[test]
fn a_log_that_was_not_closed_is_told_and_all_files_are_read() {
    if !have(&TOOLS) {
        return;
    }
    let Some((bytes, _)) = patchable(|root| {
        fs::write(root.join("file"), noise(1, 100_000)).unwrap();
    }) else {
        return;
    };
    let log = place(&bytes, LOG_FILE);
    for (flags, client, is_clean) in [(0, 0, false), (2, 0, true), (0, 0xFFFF, true)] {
        let mut bytes = bytes.clone();
        for at in [0, 4096] {
            let page = restart_page(flags, client);
            bytes[log + at..log + at + 4096].copy_from_slice(&page);
        }
        let volume = open_bytes(&bytes);
        assert_eq!(volume.info().clean, is_clean, "{flags} {client}");
        let told = notes(&volume);
        assert_eq!(told.is_empty(), is_clean, "{told:?}");
        assert!(told.iter().all(|note| note.contains("log is not replayed")));
        let items = walk(&volume, &mut |what, error| panic!("{what}: {error}"));
        let file = content(&volume, &items[&b"/file"[..]]).unwrap();
        assert!(file == noise(1, 100_000));
    }
    // Neither page makes sense: nothing says that it was closed.
    let mut spoiled = bytes.clone();
    spoiled[log..log + 8192].fill(0x5A);
    assert_eq!(notes(&open_bytes(&spoiled)).len(), 1);
}

/// Writes, renames and removes until it is told to end.
fn keep_busy(root: &Path, ended: &AtomicBool) {
    for number in 0u64.. {
        if ended.load(Ordering::Relaxed) {
            return;
        }
        let at = |number: u64| root.join(format!("busy/file {:03}", number % 400));
        fs::write(at(number), noise(number, (number * 977 % 30_000) as usize)).unwrap();
        if number % 3 == 0 {
            fs::rename(at(number), root.join(format!("busy/moved {}", number % 50))).unwrap();
        }
        if number % 5 == 0 {
            let _ = fs::remove_file(at(number / 2));
        }
    }
}

/// Everything that can be asked of a volume that fits together or not. What fails names the record; answers how many did.
fn check_consistent(volume: &NtfsVolume) -> usize {
    let mut failed = Vec::new();
    let items = walk(volume, &mut |what, error| {
        failed.push(format!("{what}: {error}"));
    });
    for (path, item) in &items {
        if item.kind != EntryKind::File || item.attributes.is_none() {
            continue;
        }
        if let Err(error) = volume.open(item.id) {
            failed.push(format!("open: {error}"));
        }
        let last = path.iter().rposition(|byte| *byte == b'/').unwrap();
        let folder = items.get(&path[..last]);
        let folder = folder.map_or(volume.root(), |folder| folder.id);
        match volume.lookup(folder, &path[last + 1..]) {
            // Of an index that was being split some names cannot be found, and some are older ones, though all are listed.
            Ok(_) if path.starts_with(b"/busy/") => {}
            Ok(found) => assert_eq!(found.map(|found| found.id), Some(item.id)),
            Err(error) => failed.push(format!("lookup: {error}")),
        }
    }
    // Of a folder whose index was being split some names lie in both halves.
    failed.retain(|error| !error.contains("a name twice"));
    for error in &failed {
        let names = error.contains("file record ") || error.contains("folder ");
        assert!(names, "{error}");
    }
    failed.len()
}

#[test]
fn a_volume_that_is_copied_while_it_is_written_is_consistent_or_names_the_record() {
    if !have(&TOOLS) {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let image = make(temp.path(), 64 << 20, &[]);
    let Some(mount) = Mount::new(&image, temp.path(), "streams_interface=none") else {
        return;
    };
    for folder in ["still", "busy"] {
        fs::create_dir(mount.0.join(folder)).unwrap();
    }
    for number in 0..200u64 {
        let path = mount.0.join(format!("still/file {number}"));
        fs::write(&path, noise(number, 50 * number as usize)).unwrap();
        fs::File::open(&path).unwrap().sync_all().unwrap();
    }
    let ended = AtomicBool::new(false);
    let copies: Vec<_> = std::thread::scope(|scope| {
        scope.spawn(|| keep_busy(&mount.0, &ended));
        let copies = (0..6).map(|number| {
            std::thread::sleep(std::time::Duration::from_millis(100));
            let copy = temp.path().join(format!("copy {number}"));
            fs::copy(&image, &copy).unwrap();
            copy
        });
        let copies = copies.collect();
        ended.store(true, Ordering::Relaxed);
        copies
    });
    drop(mount);
    let mut failed = 0;
    for copy in copies {
        let volume = NtfsVolume::open(FileDisk::open(&copy)).unwrap();
        failed += check_consistent(&volume);
        // What nobody touched is whole.
        let still = volume.lookup(volume.root(), b"still").unwrap().unwrap().id;
        for number in 0..200u64 {
            let name = format!("file {number}");
            let found = volume.lookup(still, name.as_bytes()).unwrap().unwrap();
            let file = volume.open(found.id).unwrap();
            let length = 50 * number as usize;
            assert_eq!(file.size(), length as u64);
            let read = cairn_base::read_at::read_vec(&file, 0, length).unwrap();
            assert!(read == noise(number, length), "{name}");
        }
    }
    println!("{failed} names of all copies cannot be read");
    let volume = NtfsVolume::open(FileDisk::open(&image)).unwrap();
    assert_eq!(check_consistent(&volume), 0);
}

#[test]
fn each_error_names_the_record_it_is_of() {
    if !have(&TOOLS) {
        return;
    }
    let Some((bytes, mft)) = patchable(|root| {
        for name in ["times", "runs", "torn", "cut"] {
            fs::write(root.join(name), noise(2, 20_000)).unwrap();
        }
        fs::create_dir(root.join("folder")).unwrap();
    }) else {
        return;
    };
    // Where the attribute of this type begins in the record of a file.
    let attribute = |bytes: &[u8], record: usize, kind: u8| {
        let mut at = record + usize::from(bytes[record + 20]);
        while bytes[at] != kind {
            at += usize::from(bytes[at + 4]);
        }
        at
    };
    let mut spoiled = bytes.clone();
    let record = |name: &str| record_of(&bytes, mft, name);
    // The times end before they should; the runs begin with an impossible one; half of a record was written; an attribute is longer than the record; the
    // index is none of names.
    let times = attribute(&bytes, record("times"), 0x10);
    spoiled[times + 16] = 8;
    let runs = attribute(&bytes, record("runs"), 0x80);
    spoiled[runs + usize::from(bytes[runs + 32])] = 0x10;
    spoiled[record("torn") + 511] ^= 1;
    let cut = attribute(&bytes, record("cut"), 0x80);
    spoiled[cut + 4..cut + 8].copy_from_slice(&0x0100_0000u32.to_le_bytes());
    let index = attribute(&bytes, record("folder"), 0x90);
    let value = usize::from(bytes[index + 20]);
    spoiled[index + value] = 0x77;
    let volume = open_bytes(&spoiled);
    for name in ["times", "runs", "torn", "cut", "folder"] {
        let number = ((record(name) - mft) / 1024) as u64;
        let id = EntryId::new(number);
        let failed = match name {
            "times" | "torn" => volume.attributes(id).unwrap_err(),
            "folder" => {
                let sink = &mut |_| ControlFlow::Continue(());
                volume.read_dir(id, 0, sink).unwrap_err()
            }
            _ => volume.open(id).err().unwrap(),
        };
        assert_eq!(failed.kind(), Kind::Damaged, "{name}: {failed}");
        let named = format!("file record {number}");
        assert_eq!(
            failed.to_string().matches(&named).count(),
            1,
            "{name}: {failed}"
        );
    }
    // The others are as they were.
    assert_eq!(walk(&volume, &mut |_, _| ()).len(), 5);
}
