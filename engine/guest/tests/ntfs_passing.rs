//! What cannot be read for a moment: such a failure is told, never answered for, and forgotten once it has passed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests may panic"
)]

mod ntfs_support;

use cairn_base::read_at::read_vec;
use cairn_base::{Kind, ReadAt, Result};
use cairn_guest::ntfs::NtfsVolume;
use cairn_guest::{DirEntry, EntryId, EntryKind, Extent, Volume};
use ntfs_support::failing::{BAD_SECTOR, Failing, TIMED_OUT};
use ntfs_support::made::*;
use ntfs_support::scripted::filled;
use ntfs_support::*;
use std::fmt::Write;
use std::fs;
use std::ops::ControlFlow;
use std::sync::Arc;

/// A little of everything that is read from another place than the file's record.
const SOME: &str = r#"
write('plain', 'x' * 10)
write('large', 'abc' * 30000)
for name in ('one', 'two'):
    write(name, 'x')
    put(name, 'acl', descriptor(ANN, USERS, acl(ace(0, 0, 0x1f01ff, ANN), ace(0, 0, 0x120089, USERS))))
write('linux', 'x')
put('linux', 'ea', ea((b'$LXUID', struct.pack('<I', 1000)), (b'$LXMOD', struct.pack('<I', 0o100751)), (b'LONG', b'v' * 5000)))
write('moved', 'x')
put('moved', 'object_id', bytes(range(64)))
os.mkfifo('fifo')
os.symlink('plain', 'link')
write('plain:stream', 'y' * 9000)
os.mkdir('folder')
for n in range(60):
    write('folder/a rather long name %d' % n, str(n))
write('folder/many', 'x')
for n in range(20):
    os.link('folder/many', 'folder/another of the long names of one file %d' % n)
write('hiberfil.sys', 'z' * 9000)
write('long name', 'x')
put('long name', 'dos_name', b'LONGNA~1')
"#;

fn names(volume: &NtfsVolume, folder: EntryId) -> Result<Vec<DirEntry>> {
    let mut entries = Vec::new();
    volume.read_dir(folder, 0, &mut |entry| {
        entries.push(entry);
        ControlFlow::Continue(())
    })?;
    Ok(entries)
}

/// Everything that a volume tells, as text.
fn everything(volume: &NtfsVolume) -> Result<String> {
    let mut text = String::new();
    let mut todo = vec![volume.root()];
    while let Some(folder) = todo.pop() {
        for entry in names(volume, folder)? {
            let id = entry.id;
            if entry.kind == EntryKind::Folder {
                todo.push(id);
            }
            let found = volume.lookup(folder, &entry.name)?.map(|found| found.id);
            let mut extents = Vec::new();
            volume.extents(id, &mut |extent| {
                extents.push(extent);
                ControlFlow::Continue(())
            })?;
            let mut streams = Vec::new();
            for stream in volume.streams(id)? {
                let content = volume.open_stream(id, &stream.name)?;
                streams.push(read_vec(&content, 0, content.size() as usize)?);
            }
            let content = match entry.kind {
                EntryKind::File => {
                    let content = volume.open(id)?;
                    read_vec(&content, 0, content.size() as usize)?
                }
                EntryKind::Symlink => volume.read_link(id)?,
                _ => Vec::new(),
            };
            let target = (entry.kind == EntryKind::Symlink).then(|| volume.link_target(id));
            let told = (
                volume.attributes(id)?,
                volume.xattrs(id)?,
                volume.parent(id)?,
                target.transpose()?,
            );
            let size = content.len();
            let content = (content, streams, extents);
            writeln!(text, "{entry:?} {found:?} {size} {told:?} {content:?}").unwrap();
        }
    }
    Ok(text)
}

/// Each read in turn fails once: the answer is a failure that passes, or the one that is right; and what is asked
/// afterwards is answered as if nothing had been.
#[test]
fn a_failure_that_passes_is_neither_an_answer_nor_remembered() {
    let Some((folder, ..)) = filled(SOME) else {
        return;
    };
    let disk = Failing::new(fs::read(folder.path().join("volume.ntfs")).unwrap());
    let sound = NtfsVolume::open(disk.clone()).unwrap();
    let (text, info) = (everything(&sound).unwrap(), sound.info().clone());
    assert!(info.notes.is_empty(), "{info:?}");
    let mut failures = 0;
    for number in 0u64.. {
        disk.fail_after(number);
        let volume = match NtfsVolume::open(disk.clone()) {
            Ok(volume) => volume,
            Err(error) => {
                assert_eq!(error.kind(), Kind::Io, "read {number}: {error}");
                failures += 1;
                continue;
            }
        };
        match everything(&volume) {
            Ok(told) => assert!(told == text, "read {number}"),
            Err(error) => {
                assert_eq!(error.kind(), Kind::Io, "read {number}: {error}");
                failures += 1;
            }
        }
        // What was not counted for a moment is told with the first answer, and counted for the next one.
        let _ = volume.info();
        let is_last = !disk.has_failed();
        disk.heal();
        assert!(everything(&volume).unwrap() == text, "read {number}");
        assert_eq!(*volume.info(), info, "read {number}");
        if is_last {
            assert!(number > 50 && failures > 30, "{number} {failures}");
            return;
        }
    }
}

/// What a disk that does not answer hides is not answered for; what lies on a bad sector is told as what is lost, and as it is once it can be read.
#[test]
fn a_bad_sector_is_told_from_a_disk_that_does_not_answer() {
    let Some((folder, ..)) = filled(SOME) else {
        return;
    };
    let disk = Failing::new(fs::read(folder.path().join("volume.ntfs")).unwrap());
    for code in [BAD_SECTOR, TIMED_OUT] {
        let open = || NtfsVolume::open(disk.clone()).unwrap();
        let volume = open();
        let find = |name: &[u8]| volume.lookup(volume.root(), name).unwrap().unwrap().id;
        let [one, linux, moved] = [&b"one"[..], b"linux", b"moved"].map(find);
        // The records are known; what they lead to is not.
        let fail = || disk.fail(0..disk.size(), code);
        fail();
        let told = volume.attributes(one);
        disk.heal();
        if code == TIMED_OUT {
            assert_eq!(told.unwrap_err().kind(), Kind::Io);
        } else {
            assert_eq!(told.unwrap().mode, 0o500);
        }
        assert_eq!(volume.attributes(one).unwrap().mode, 0o740);
        // The descriptor that all others share.
        assert!(volume.attributes(moved).is_ok());
        fail();
        let (told, listed) = (volume.attributes(linux), volume.xattrs(linux));
        disk.heal();
        if code == TIMED_OUT {
            assert_eq!(told.unwrap_err().kind(), Kind::Io);
        } else {
            assert_eq!(told.unwrap().uid, 0);
        }
        assert_eq!(listed.unwrap_err().kind(), Kind::Io);
        let known = volume.attributes(linux).unwrap();
        assert_eq!((known.uid, known.mode), (1000, 0o751));

        // The file that knows with which ids others were born.
        let extend = find(b"$Extend");
        let index = volume.lookup(extend, b"$ObjId").unwrap().unwrap().id;
        let table = find(b"$MFT");
        let mut place = 0;
        let sink = &mut |extent: Extent| {
            place = extent.place.start + index.number * 1024;
            ControlFlow::Break(())
        };
        volume.extents(table, sink).unwrap();
        disk.fail(place..place + 1024, code);
        let volume = open();
        let told = volume.xattr(moved, b"system.ntfs_object_id");
        disk.heal();
        if code == TIMED_OUT {
            assert_eq!(told.unwrap_err().kind(), Kind::Io);
        } else {
            let alone = told.unwrap().unwrap();
            assert_eq!(alone, (0..16).collect::<Vec<u8>>());
        }
        let id = volume.xattr(moved, b"system.ntfs_object_id").unwrap();
        assert_eq!(id.unwrap(), (0..64).collect::<Vec<u8>>());
    }
}

/// Bad sectors under all descriptors, or under the record of the file that has them, cost nothing but the modes.
#[test]
fn bad_sectors_in_secure_cost_only_the_modes() {
    let Some((folder, sound, _mount)) = filled(SOME) else {
        return;
    };
    let find = |volume: &NtfsVolume, name: &[u8]| {
        let found = volume.lookup(volume.root(), name);
        found.unwrap().unwrap().id
    };
    let places = |id: EntryId| {
        let mut places = Vec::new();
        let sink = &mut |extent: Extent| {
            places.push(extent.place);
            ControlFlow::Continue(())
        };
        sound.extents(id, sink).unwrap();
        places
    };
    let secure = find(&sound, b"$Secure");
    let table = places(find(&sound, b"$MFT"))[0].start;
    let record = table + secure.number * 1024;
    let mut bad = places(secure);
    assert!(!bad.is_empty(), "no descriptors: the test is void");
    bad.push(record..record + 1024);
    let disk = Failing::new(fs::read(folder.path().join("volume.ntfs")).unwrap());
    let mut are_lost = 0;
    for place in bad {
        disk.fail(place.clone(), BAD_SECTOR);
        let volume = NtfsVolume::open(disk.clone()).unwrap();
        let root = volume.attributes(volume.root()).unwrap();
        assert_eq!(root.kind, EntryKind::Folder);
        let entries = names(&volume, volume.root()).unwrap();
        for entry in &entries {
            let told = volume.attributes(entry.id).unwrap();
            assert_eq!(told.size, sound.attributes(entry.id).unwrap().size);
        }
        let one = find(&volume, b"one");
        let mode = volume.attributes(one).unwrap().mode;
        assert!([0o500, 0o740].contains(&mode), "{place:?}: {mode:o}");
        are_lost += u32::from(mode == 0o500);
        disk.heal();
        assert_eq!(volume.attributes(one).unwrap().mode, 0o740, "{place:?}");
    }
    assert!(are_lost >= 2, "{are_lost}");
}

/// A name whose record cannot be read is listed, and its id leads to the reason, also once that has changed; for as
/// long as the failure may pass there is no list.
#[test]
fn names_whose_records_cannot_be_read_are_listed_with_the_reason() {
    if !have(&TOOLS) {
        return;
    }
    let Some((mut bytes, mft)) = patchable(|root| {
        for name in ["torn", "stale", "good"] {
            fs::write(root.join(name), name).unwrap();
        }
    }) else {
        return;
    };
    let torn = record_of(&bytes, mft, "torn");
    let stale = record_of(&bytes, mft, "stale");
    bytes[torn + 511] ^= 1;
    bytes[stale + 16] = bytes[stale + 16].wrapping_add(1);
    let disk = Failing::new(bytes);
    let open = || NtfsVolume::open(disk.clone() as Arc<dyn ReadAt>).unwrap();
    let id = |volume: &NtfsVolume, wanted: &str| {
        let entries = names(volume, volume.root()).unwrap();
        assert_eq!(entries.len(), 3);
        let found = entries.iter().find(|entry| entry.name == wanted.as_bytes());
        found.unwrap().id
    };
    let why = |volume: &NtfsVolume, id| {
        let error = volume.attributes(id).unwrap_err();
        assert_eq!(volume.open(id).err().unwrap().kind(), error.kind());
        (error.kind(), error.to_string())
    };
    let (other, damaged) = ("not its file's any more", Kind::Damaged);
    let volume = open();
    let (kind, text) = why(&volume, id(&volume, "torn"));
    assert!(
        kind == damaged && text.contains("torn") && !text.contains(other),
        "{text}"
    );
    let (kind, text) = why(&volume, id(&volume, "stale"));
    assert!(kind == damaged && text.contains(other), "{text}");
    // The record of a name that is not its file's any more lies on a bad sector, and is then read after all.
    let place = stale as u64..stale as u64 + 1024;
    disk.fail(place.clone(), BAD_SECTOR);
    let volume = open();
    let unread = id(&volume, "stale");
    let (kind, text) = why(&volume, unread);
    assert!(kind == Kind::Io && !text.contains(other), "{text}");
    disk.heal();
    let (kind, text) = why(&volume, unread);
    assert!(kind == damaged && text.contains(other), "{text}");
    assert_eq!(volume.open(id(&volume, "good")).unwrap().size(), 4);

    disk.fail(place, TIMED_OUT);
    let volume = open();
    let error = names(&volume, volume.root()).unwrap_err();
    assert_eq!(error.kind(), Kind::Io, "{error}");
    disk.heal();
    assert_eq!(names(&volume, volume.root()).unwrap().len(), 3);
}
