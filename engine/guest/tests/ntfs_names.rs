//! Names that damage could hide: they are found, or it is said that names are missing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests may panic"
)]

mod ntfs_support;

use cairn_base::read_at::read_vec;
use cairn_base::{Kind, Result, View};
use cairn_guest::ntfs::NtfsVolume;
use cairn_guest::ntfs::decoders::{RunList, Vcn};
use cairn_guest::{EntryId, Extent, Volume};
use ntfs_support::failing::{BAD_SECTOR, Failing, TIMED_OUT};
use ntfs_support::made::*;
use ntfs_support::patched::{attribute, places, value};
use ntfs_support::scripted::filled;
use ntfs_support::*;
use std::fs;
use std::ops::ControlFlow;

/// All names in a folder, and how the walk ended.
fn listed(volume: &NtfsVolume, folder: EntryId) -> (Vec<String>, Result<()>) {
    let mut names = Vec::new();
    let ended = volume.read_dir(folder, 0, &mut |entry| {
        names.push(String::from_utf8(entry.name).unwrap());
        ControlFlow::Continue(())
    });
    (names, ended)
}

fn find(volume: &NtfsVolume, name: &str) -> EntryId {
    let found = volume.lookup(volume.root(), name.as_bytes());
    found.unwrap().unwrap().id
}

/// Where the entries begin in the index root of the folder whose record is at `record`.
fn entries(bytes: &[u8], record: usize) -> usize {
    let root = value(bytes, attribute(bytes, record, 0x90));
    root + 16 + usize::from(bytes[root + 16])
}

#[test]
fn names_out_of_order_are_found() {
    if !have(&TOOLS) {
        return;
    }
    let Some((mut bytes, mft)) = patchable(|root| {
        fs::create_dir(root.join("folder")).unwrap();
        for name in ["aa", "mm", "zz"] {
            fs::write(root.join("folder").join(name), name).unwrap();
        }
    }) else {
        return;
    };
    let first = entries(&bytes, record_of(&bytes, mft, "folder"));
    let length = usize::from(bytes[first + 8]);
    let last = first + 2 * length;
    assert_eq!(bytes[last + 8] as usize, length);
    for at in 0..length {
        bytes.swap(first + at, last + at);
    }
    let volume = open_bytes(&bytes);
    let folder = find(&volume, "folder");
    assert_eq!(listed(&volume, folder).0, ["zz", "mm", "aa"]);
    for name in ["aa", "mm", "zz", "MM"] {
        let found = volume.lookup(folder, name.as_bytes()).unwrap().unwrap();
        assert_eq!(found.name, name.to_lowercase().as_bytes());
    }
    // All names were seen: that there is no such one is known.
    assert!(volume.lookup(folder, b"bb").unwrap().is_none());
}

/// Without the volume's own table nobody knows in what order its names are.
#[test]
fn names_are_found_without_the_table_of_capital_letters() {
    if !have(&TOOLS) {
        return;
    }
    // A Georgian letter, whose capitals are younger than NTFS and stand behind the other one, an Ethiopian.
    let (georgian, ethiopian) = ("\u{10D0}", "\u{1200}");
    let Some((mut bytes, mft)) = patchable(|root| {
        fs::create_dir(root.join("folder")).unwrap();
        for name in [georgian, ethiopian] {
            fs::write(root.join("folder").join(name), name).unwrap();
        }
    }) else {
        return;
    };
    let data = attribute(&bytes, mft + 10 * 1024, 0x80);
    let runs = data + usize::from(bytes[data + 32]);
    bytes[runs] = 0x10;
    let volume = open_bytes(&bytes);
    let told: Vec<&str> = volume.info().defects().collect();
    assert!(
        told.iter().any(|note| note.contains("capital letters")),
        "{told:?}"
    );
    let folder = find(&volume, "folder");
    for name in [georgian, ethiopian] {
        let found = volume.lookup(folder, name.as_bytes()).unwrap().unwrap();
        assert_eq!(found.name, name.as_bytes());
    }
    assert!(volume.lookup(folder, b"x").unwrap().is_none());
}

#[test]
fn a_block_of_the_tree_that_is_marked_as_unused_is_told() {
    if !have(&TOOLS) {
        return;
    }
    let Some((mut bytes, mft)) = patchable(|root| {
        fs::create_dir(root.join("folder")).unwrap();
        for number in 0..300 {
            fs::write(root.join(format!("folder/name {number}")), b"x").unwrap();
        }
    }) else {
        return;
    };
    let record = record_of(&bytes, mft, "folder");
    let map = value(&bytes, attribute(&bytes, record, 0xB0));
    assert_eq!(bytes[map] & 7, 7, "three blocks in use");
    bytes[map] &= !2;
    let volume = open_bytes(&bytes);
    let folder = find(&volume, "folder");
    let (names, ended) = listed(&volume, folder);
    assert!(names.len() > 200 && names.len() < 300, "{}", names.len());
    let error = ended.unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged);
    assert!(error.to_string().contains("not marked as used"), "{error}");
    for number in 0..300 {
        let name = format!("name {number}");
        assert!(volume.lookup(folder, name.as_bytes()).unwrap().is_some());
    }
}

/// A bad sector in a folder's index hides the names in its block, and no others.
#[test]
fn names_behind_a_bad_sector_of_a_folder_are_told() {
    if !have(&TOOLS) {
        return;
    }
    let Some((bytes, _)) = patchable(|root| {
        fs::create_dir(root.join("folder")).unwrap();
        for number in 0..300 {
            fs::write(root.join(format!("folder/name {number}")), b"x").unwrap();
        }
    }) else {
        return;
    };
    let sound = open_bytes(&bytes);
    let folder = find(&sound, "folder");
    let mut start = 0;
    let sink = &mut |extent: Extent| {
        start = extent.place.start;
        ControlFlow::Break(())
    };
    sound.extents(folder, sink).unwrap();
    let disk = Failing::new(bytes);
    disk.fail(start + 4096..start + 4608, BAD_SECTOR);
    let volume = NtfsVolume::open(disk.clone()).unwrap();
    for _ in 0..2 {
        let (names, ended) = listed(&volume, folder);
        assert!(names.len() > 200 && names.len() < 300, "{}", names.len());
        assert_eq!(ended.unwrap_err().kind(), Kind::Io);
        for number in 0..300 {
            let name = format!("name {number}");
            match volume.lookup(folder, name.as_bytes()) {
                Ok(found) => assert!(found.is_some() && names.contains(&name)),
                Err(error) => assert!(error.kind() == Kind::Io && !names.contains(&name)),
            }
        }
    }
    // What may go well another time ends the list, and is forgotten.
    disk.fail(start + 4096..start + 4608, TIMED_OUT);
    let volume = NtfsVolume::open(disk.clone()).unwrap();
    assert_eq!(listed(&volume, folder).1.unwrap_err().kind(), Kind::Io);
    disk.heal();
    let (names, ended) = listed(&volume, folder);
    assert!(names.len() == 300 && ended.is_ok());
}

/// A file whose long name lies in another folder is not hidden with its 8.3 name.
#[test]
fn a_file_that_has_only_a_short_name_in_its_folder_is_listed() {
    if !have(&TOOLS) || !have(&["setfattr"]) {
        return;
    }
    let Some((mut bytes, mft)) = patchable(|root| {
        for (long, short) in [
            ("a rather long name", "ARATHE~1"),
            ("another long name", "ANOTHE~1"),
        ] {
            let path = root.join(long);
            fs::write(&path, b"short").unwrap();
            let path = path.to_str().unwrap();
            run(
                "setfattr",
                &["-n", "system.ntfs_dos_name", "-v", short, path],
            );
        }
    }) else {
        return;
    };
    let sound = open_bytes(&bytes);
    let both = ["a rather long name", "another long name"];
    assert_eq!(listed(&sound, sound.root()).0, both);
    // In the record the long name says that it stands in folder 11.
    let record = record_of(&bytes, mft, both[0]);
    let long: Vec<u8> = both[0].encode_utf16().flat_map(u16::to_le_bytes).collect();
    let name = places(&bytes[record..record + 1024], &long);
    assert_eq!(name.len(), 1);
    bytes[record + name[0] - 66] = 11;
    let volume = open_bytes(&bytes);
    let names = listed(&volume, volume.root()).0;
    assert_eq!(
        names,
        ["a rather long name", "another long name", "ARATHE~1"]
    );
    assert_eq!(find(&volume, "ARATHE~1"), find(&volume, both[0]));
}

/// Where the attribute list of the record at `record` has the content called `name`.
fn listed_content(bytes: &[u8], record: usize, name: &str) -> usize {
    let list = attribute(bytes, record, 0x20);
    assert_eq!(bytes[list + 8], 1, "in its record");
    let runs = list + usize::from(bytes[list + 32]);
    let mut decoded = RunList::new();
    let view = View::new(&bytes[runs..runs + 16], "runs", 0);
    decoded.decode(view).unwrap();
    let place = decoded.at(Vcn(0)).unwrap().lcn.unwrap();
    let mut at = place.0 as usize * 4096;
    let end = at + usize::from(bytes[list + 48]) + 256 * usize::from(bytes[list + 49]);
    let wanted: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let is_it = |at: usize| {
        let own = at + usize::from(bytes[at + 7]);
        let own = &bytes[own..own + 2 * usize::from(bytes[at + 6])];
        bytes[at] == 0x80 && own == wanted
    };
    while !is_it(at) {
        at += usize::from(bytes[at + 4]);
        assert!(at < end, "`{name}` is not in the list: the test is void");
    }
    at
}

/// Of a content in several records the first part is lost: it is not an empty file, and no stream is hidden.
#[test]
fn content_without_its_first_part_is_refused() {
    if !have(&TOOLS) {
        return;
    }
    let Some((mut bytes, mft)) = patchable(|root| {
        let file = root.join("file");
        fs::write(&file, noise(1, 9000)).unwrap();
        for number in 0..12 {
            let name = format!("one of the names of this file {number}");
            fs::hard_link(&file, root.join(name)).unwrap();
        }
    }) else {
        return;
    };
    let at = listed_content(&bytes, record_of(&bytes, mft, "file"), "");
    bytes[at + 8] = 2;
    let volume = open_bytes(&bytes);
    let file = find(&volume, "file");
    for error in [
        volume.attributes(file).unwrap_err(),
        volume.streams(file).unwrap_err(),
        volume.open(file).err().unwrap(),
    ] {
        assert_eq!(error.kind(), Kind::Damaged);
        let named = format!("file record {}", file.number);
        assert!(error.to_string().contains(&named), "{error}");
    }
}

/// A stream whose first part is lost costs no other one; that it cannot be listed is told.
#[test]
fn a_stream_without_its_first_part_hides_no_other() {
    let script = r#"
write('file', 'content')
for name in ('bad', 'good', 'Other'):
    write('file:' + name, name * 3000)
for n in range(12):
    os.link('file', 'one of the names of this file %d' % n)
"#;
    let Some((folder, ..)) = filled(script) else {
        return;
    };
    let mut bytes = fs::read(folder.path().join("volume.ntfs")).unwrap();
    let mft = u64::from_le_bytes(bytes[0x30..0x38].try_into().unwrap()) as usize * 4096;
    let at = listed_content(&bytes, record_of(&bytes, mft, "file"), "bad");
    bytes[at + 8] = 2;
    let volume = open_bytes(&bytes);
    let file = find(&volume, "file");
    let read = |name: &[u8]| -> Result<Vec<u8>> {
        let stream = volume.open_stream(file, name)?;
        read_vec(&stream, 0, stream.size() as usize)
    };
    assert_eq!(read(b"good").unwrap(), b"good".repeat(3000));
    assert_eq!(read(b"OTHER").unwrap(), b"Other".repeat(3000));
    assert_eq!(read(b"none").unwrap_err().kind(), Kind::NotFound);
    for error in [read(b"bad").unwrap_err(), volume.streams(file).unwrap_err()] {
        assert_eq!(error.kind(), Kind::Damaged, "{error}");
        let named = format!("file record {}", file.number);
        assert!(error.to_string().contains(&named), "{error}");
    }
}

/// What the reparse point says is asked of the record that is named.
#[test]
fn errors_of_reparse_points_name_their_record() {
    if !have(&TOOLS) || !have(&["setfattr"]) {
        return;
    }
    let Some((mut bytes, mft)) = patchable(|root| {
        fs::write(root.join("file"), noise(1, 9000)).unwrap();
        let point = wim::reparse(0x9000_001A, b"1234");
        wim::set_reparse(&root.join("file"), &point);
    }) else {
        return;
    };
    let record = record_of(&bytes, mft, "file");
    let point = attribute(&bytes, record, 0xC0);
    bytes[point + 16] = 2;
    let volume = open_bytes(&bytes);
    let file = EntryId::new(((record - mft) / 1024) as u64);
    let extents = volume.extents(file, &mut |_| ControlFlow::Continue(()));
    for error in [
        extents.unwrap_err(),
        volume.link_target(file).unwrap_err(),
        volume.xattr(file, b"user.cairn.reparse").unwrap_err(),
        volume.open(file).err().unwrap(),
    ] {
        assert_eq!(error.kind(), Kind::Damaged);
        let named = format!("file record {}", file.number);
        assert_eq!(error.to_string().matches(&named).count(), 1, "{error}");
    }
}
