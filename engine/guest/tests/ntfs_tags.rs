//! Files whose content may be somewhere else, or is encrypted: listed as what they are, and never read as something they are not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests may panic"
)]

mod ntfs_support;

use cairn_base::Kind;
use cairn_base::read_at::read_vec;
use cairn_guest::{EntryKind, Volume};
use ntfs_support::made::*;
use ntfs_support::patched::{add_flags, attribute};
use ntfs_support::wim::{reparse, set_reparse};
use ntfs_support::*;
use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;

const OFFLINE: u32 = 0x1000;
const RECALL: u32 = 0x40_0000;

/// Name of the test's files, tag, whether the content is read if all of it is there, and what the error says.
const TAGS: [(&str, u32, bool, &str); 12] = [
    ("dedup", 0x8000_0013, false, "DEDUP"),
    ("cloud", 0x9000_001A, true, "CLOUD"),
    ("cloud 6", 0x9000_601A, true, "CLOUD"),
    ("cloud f", 0x9000_F01A, true, "CLOUD"),
    ("onedrive", 0x8000_0021, true, "ONEDRIVE"),
    ("azure", 0x8000_001E, true, "STORAGE_SYNC"),
    ("hsm", 0xC000_0004, true, "HSM"),
    ("projected", 0x9000_001C, true, "PROJFS"),
    ("app", 0x8000_001B, false, "APPEXECLINK"),
    ("layer", 0x8000_0018, false, "WCI"),
    ("wim", 0x8000_0008, false, "WIM"),
    ("another's", 0x0000_5A5A, false, "0x00005A5A"),
];
const FORMS: [&str; 7] = [
    "whole", "offline", "recall", "small", "empty", "hole", "part",
];

/// Makes a file of each tag in each form.
fn tagged(root: &Path, content: &[u8]) {
    for (name, tag, ..) in TAGS {
        for form in FORMS {
            let path = root.join(format!("{name}.{form}"));
            match form {
                "small" => fs::write(&path, &content[..100]).unwrap(),
                "empty" => fs::write(&path, b"").unwrap(),
                // Nothing was fetched, and all but a part in the middle.
                "hole" => File::create(&path).unwrap().set_len(50_000).unwrap(),
                "part" => {
                    let part = File::create(&path).unwrap();
                    part.write_all_at(&content[..30_000], 0).unwrap();
                    part.write_all_at(&content[..30_000], 300_000).unwrap();
                }
                _ => fs::write(&path, content).unwrap(),
            }
            set_reparse(&path, &reparse(tag, b"what its software knows"));
        }
    }
}

#[test]
fn tags_are_named_and_only_what_is_all_there_is_read() {
    if !have(&TOOLS) || !have(&["setfattr"]) {
        return;
    }
    let content = noise(4, 100_000);
    let Some((mut bytes, mft)) = patchable(|root| tagged(root, &content)) else {
        return;
    };
    for (name, ..) in TAGS {
        let offline = record_of(&bytes, mft, &format!("{name}.offline"));
        add_flags(&mut bytes, offline, OFFLINE);
        let recall = record_of(&bytes, mft, &format!("{name}.recall"));
        add_flags(&mut bytes, recall, RECALL);
    }
    let volume = open_bytes(&bytes);
    let items = walk(&volume, &mut |what, error| panic!("{what}: {error}"));
    assert_eq!(items.len(), TAGS.len() * FORMS.len());
    for (name, tag, may_be_read, shown) in TAGS {
        for form in FORMS {
            let item = &items[format!("/{name}.{form}").as_bytes()];
            assert_eq!(item.kind, EntryKind::File, "{name} {form}");
            let expected = match form {
                "whole" if may_be_read => Some(&content[..]),
                "small" if may_be_read => Some(&content[..100]),
                "empty" if may_be_read => Some(&[][..]),
                _ => None,
            };
            let read = volume
                .open(item.id)
                .and_then(|file| read_vec(&file, 0, file.size() as usize));
            match (read, expected) {
                (Ok(read), Some(expected)) => assert!(read == expected, "{name} {form}"),
                (Err(error), None) => {
                    assert_eq!(error.kind(), Kind::Unsupported, "{name} {form}");
                    let message = error.to_string();
                    let number = format!("0x{tag:08X}");
                    assert!(
                        message.contains(&number) && message.contains(shown),
                        "{message}"
                    );
                }
                (read, expected) => panic!("{name} {form}: {read:?}, expected {expected:?}"),
            }
        }
    }
}

/// What a program reserved and did not write is zeros, in a file that is also in the cloud as in any other.
#[test]
fn a_cloud_file_whose_valid_data_end_early_is_read() {
    if !have(&TOOLS) || !have(&["setfattr"]) {
        return;
    }
    let names = ["cloud", "plain", "offline", "hole"];
    let Some((mut bytes, mft)) = patchable(|root| {
        for name in names {
            let path = root.join(name);
            let file = File::create(&path).unwrap();
            file.write_all_at(&noise(5, 40_000), 0).unwrap();
            if name == "hole" {
                file.set_len(80_000).unwrap();
            }
            if name != "plain" {
                set_reparse(&path, &reparse(0x9000_001A, b"1234"));
            }
        }
    }) else {
        return;
    };
    for name in names {
        let record = record_of(&bytes, mft, name);
        let data = attribute(&bytes, record, 0x80);
        bytes[data + 56..data + 64].copy_from_slice(&30_000u64.to_le_bytes());
    }
    let offline = record_of(&bytes, mft, "offline");
    add_flags(&mut bytes, offline, OFFLINE);
    let volume = open_bytes(&bytes);
    let find = |name: &[u8]| volume.lookup(volume.root(), name).unwrap().unwrap().id;
    let mut expected = noise(5, 40_000);
    expected[30_000..].fill(0);
    for name in [&b"cloud"[..], b"plain"] {
        let file = volume.open(find(name)).unwrap();
        assert!(read_vec(&file, 0, 40_000).unwrap() == expected);
    }
    // Windows says that it is not all there; and what has no clusters was not fetched.
    for name in [&b"offline"[..], b"hole"] {
        let error = volume.open(find(name)).err().unwrap();
        assert_eq!(error.kind(), Kind::Unsupported, "{error}");
    }
}

/// A stream that is marked as compressed and has no units is stored plain: its holes are what was not fetched.
#[test]
fn holes_of_a_cloud_file_without_compression_units_are_no_zeros() {
    if !have(&TOOLS) || !have(&["setfattr"]) {
        return;
    }
    let Some((mut bytes, mft)) = patchable(|root| {
        for name in ["part", "whole"] {
            let path = root.join(name);
            let file = File::create(&path).unwrap();
            file.write_all_at(&noise(6, 30_000), 0).unwrap();
            if name == "part" {
                file.write_all_at(&noise(7, 30_000), 300_000).unwrap();
            }
            set_reparse(&path, &reparse(0x9000_001A, b"1234"));
        }
    }) else {
        return;
    };
    for name in ["part", "whole"] {
        let record = record_of(&bytes, mft, name);
        let data = attribute(&bytes, record, 0x80);
        assert_eq!(bytes[data + 8], 1, "in its record: the test is void");
        bytes[data + 12..data + 14].copy_from_slice(&1u16.to_le_bytes());
        bytes[data + 34] = 0;
    }
    let volume = open_bytes(&bytes);
    let find = |name: &[u8]| volume.lookup(volume.root(), name).unwrap().unwrap().id;
    let error = volume.open(find(b"part")).err().unwrap();
    assert_eq!(error.kind(), Kind::Unsupported, "{error}");
    let whole = volume.open(find(b"whole")).unwrap();
    assert!(read_vec(&whole, 0, 30_000).unwrap() == noise(6, 30_000));
}

/// Units of zeros take no clusters in a compressed file: they are no holes that something is to be fetched to.
#[test]
fn a_compressed_cloud_file_with_zeros_is_read() {
    if !have(&TOOLS) || !have(&["setfattr"]) {
        return;
    }
    let text = b"a line of it\n".repeat(10_000);
    let content = [&text[..], &[0; 300_000], &text, &[0; 200_000]].concat();
    let folder = tempfile::tempdir().unwrap();
    let image = make(folder.path(), 16 << 20, &[]);
    {
        let options = "streams_interface=none,compression";
        let Some(mount) = Mount::new(&image, folder.path(), options) else {
            return;
        };
        let packed = mount.0.join("packed");
        fs::create_dir(&packed).unwrap();
        let path = packed.to_str().unwrap();
        let compressed = ["-n", "system.ntfs_attrib_be", "-v", "0x00000800", path];
        run("setfattr", &compressed);
        for name in ["cloud", "plain"] {
            fs::write(packed.join(name), &content).unwrap();
        }
        set_reparse(&packed.join("cloud"), &reparse(0x9000_301A, b"1234"));
    }
    let mut bytes = fs::read(&image).unwrap();
    let read = |bytes: &[u8], name: &[u8]| {
        let volume = open_bytes(bytes);
        let packed = volume.lookup(volume.root(), b"packed").unwrap().unwrap().id;
        let found = volume.lookup(packed, name).unwrap().unwrap().id;
        let content = volume
            .open(found)
            .and_then(|file| read_vec(&file, 0, file.size() as usize));
        (found.number as usize, content)
    };
    assert!(read(&bytes, b"plain").1.unwrap() == content);
    let (number, read_whole) = read(&bytes, b"cloud");
    assert!(read_whole.unwrap() == content);
    // Marked as sparse: such a unit may be one that was given back.
    let mft = u64::from_le_bytes(bytes[0x30..0x38].try_into().unwrap()) as usize * 4096;
    let data = attribute(&bytes, mft + number * 1024, 0x80);
    assert_eq!(bytes[data + 12], 1, "not compressed: the test is void");
    bytes[data + 13] |= 0x80;
    let error = read(&bytes, b"cloud").1.unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "{error}");
}

#[test]
fn encrypted_streams_are_refused_and_their_neighbours_read() {
    if !have(&TOOLS) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = make(folder.path(), 8 << 20, &[]);
    {
        let Some(mount) = Mount::new(&image, folder.path(), "streams_interface=windows") else {
            return;
        };
        fs::write(mount.0.join("file"), noise(1, 20_000)).unwrap();
        fs::write(mount.0.join("file:note"), b"not encrypted").unwrap();
        // A folder with blocks of its own, and one whose names fit into its record.
        for (name, count) in [("large", 200), ("small", 2)] {
            fs::create_dir(mount.0.join(name)).unwrap();
            for number in 0..count {
                fs::write(mount.0.join(format!("{name}/{number}")), b"x").unwrap();
            }
        }
    }
    let mut bytes = fs::read(&image).unwrap();
    let mft = u64::from_le_bytes(bytes[0x30..0x38].try_into().unwrap()) as usize * 4096;
    let encrypted = |bytes: &mut [u8], record: usize, kind: u8| {
        let at = attribute(bytes, record, kind);
        bytes[at + 13] |= 0x40;
        add_flags(bytes, record, 0x4000);
    };
    let file = record_of(&bytes, mft, "file");
    encrypted(&mut bytes, file, 0x80);
    for (name, kinds) in [("large", &[0x90u8, 0xA0][..]), ("small", &[0x90])] {
        let record = record_of(&bytes, mft, name);
        for &kind in kinds {
            encrypted(&mut bytes, record, kind);
        }
    }
    let volume = open_bytes(&bytes);
    let find = |name: &[u8]| volume.lookup(volume.root(), name).unwrap().unwrap().id;
    let error = volume.open(find(b"file")).err().unwrap();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.to_string().contains("EFS"), "{error}");
    let note = volume.open_stream(find(b"file"), b"note").unwrap();
    assert_eq!(read_vec(&note, 0, 13).unwrap(), b"not encrypted");
    // What is made in an encrypted folder is encrypted; its names are not.
    for (name, count) in [(&b"large"[..], 200), (b"small", 2)] {
        let mut names = 0;
        volume
            .read_dir(find(name), 0, &mut |_| {
                names += 1;
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(names, count);
    }
}
