//! Security descriptors and extended attributes that are damaged in part: what is whole is told, and what is not is named.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests may panic"
)]

mod ntfs_support;

use cairn_base::Kind;
use cairn_base::read_at::read_vec;
use cairn_guest::ntfs::NtfsVolume;
use cairn_guest::{EntryId, Volume};
use ntfs_support::made::*;
use ntfs_support::patched::places;
use ntfs_support::scripted::filled;
use std::fs;

const LISTED: &str = r#"
write('f', 'content')
put('f', 'acl', descriptor(ANN, USERS, acl(ace(0, 0, 0x1f01ff, ANN), ace(0, 0, 0x120089, USERS)), acl(ace(2, 0xc0, 0x10000, sid(5, 77, 777777)))))
"#;

fn find(volume: &NtfsVolume) -> EntryId {
    volume.lookup(volume.root(), b"f").unwrap().unwrap().id
}

fn left_out(volume: &NtfsVolume) -> String {
    let told = volume.xattr(find(volume), b"user.cairn.left_out").unwrap();
    String::from_utf8(told.unwrap_or_default()).unwrap()
}

/// Both copies of the descriptor in `$SDS`: where the number in its SACL stands.
fn marks(bytes: &[u8]) -> Vec<usize> {
    let mark = [77u32, 777_777].map(u32::to_le_bytes).concat();
    let found = places(bytes, &mark);
    assert_eq!(found.len(), 2, "a descriptor and its copy");
    found
}

/// The SACL's only entry: header, mask, and the SID up to its numbers.
const TO_ENTRY: usize = 16;

fn hash(descriptor: &[u8]) -> u32 {
    descriptor.chunks_exact(4).fold(0u32, |sum, word| {
        let word = u32::from_le_bytes(word.try_into().unwrap());
        sum.rotate_left(3).wrapping_add(word)
    })
}

#[test]
fn a_descriptor_whose_hash_is_wrong_in_both_copies_is_refused() {
    let Some((folder, ..)) = filled(LISTED) else {
        return;
    };
    let mut bytes = fs::read(folder.path().join("volume.ntfs")).unwrap();
    let sound = open_bytes(&bytes);
    let sddl = sound.xattr(find(&sound), b"user.cairn.sddl").unwrap();
    assert_eq!(sound.attributes(find(&sound)).unwrap().mode, 0o740);
    for (number, mark) in marks(&bytes).into_iter().enumerate() {
        // Another entry for another account: as good a descriptor as the one that was stored.
        bytes[mark] = 78;
        let volume = open_bytes(&bytes);
        let id = find(&volume);
        let told = volume.xattr(id, b"user.cairn.sddl");
        if number == 0 {
            assert_eq!(told.unwrap(), sddl);
            assert_eq!(left_out(&volume), "");
            continue;
        }
        let error = told.unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged);
        assert!(error.to_string().contains("hash"), "{error}");
        assert_eq!(volume.attributes(id).unwrap().mode, 0o500);
        let named = left_out(&volume);
        assert!(
            named.contains("system.ntfs_acl: ") && named.lines().count() == 2,
            "{named}"
        );
        let file = volume.open(id).unwrap();
        assert_eq!(read_vec(&file, 0, 7).unwrap(), b"content");
    }
}

/// A SACL says what is recorded, and nothing of who may do what.
#[test]
fn a_damaged_list_of_what_is_recorded_leaves_the_rights_as_they_are() {
    let Some((folder, ..)) = filled(LISTED) else {
        return;
    };
    let bytes = fs::read(folder.path().join("volume.ntfs")).unwrap();
    let sound = open_bytes(&bytes);
    let sddl = sound
        .xattr(find(&sound), b"user.cairn.sddl")
        .unwrap()
        .unwrap();
    let sddl = String::from_utf8(sddl).unwrap();
    let (rights, _) = sddl.split_once("S:").unwrap();
    let whole = sound
        .xattr(find(&sound), b"system.ntfs_acl")
        .unwrap()
        .unwrap();
    // The entry is longer than the list; the list is longer than the descriptor.
    for (back, length) in [(TO_ENTRY - 2, 0x40), (TO_ENTRY + 8 - 2, 0xFF)] {
        let mut spoiled = bytes.clone();
        for mark in marks(&bytes) {
            spoiled[mark - back] = length;
        }
        let offset = u32::from_le_bytes(whole[12..16].try_into().unwrap()) as usize;
        let start = marks(&bytes)[0] - TO_ENTRY - 8 - offset;
        assert_eq!(bytes[start..start + 8], whole[..8]);
        // The hashes, which stand before the id wherever it is named, are made right.
        let before = bytes[start - 20..start - 12].to_vec();
        let after = hash(&spoiled[start..start + whole.len()]).to_le_bytes();
        for at in places(&bytes, &before) {
            spoiled[at..at + 4].copy_from_slice(&after);
        }
        let volume = open_bytes(&spoiled);
        let id = find(&volume);
        assert_eq!(volume.attributes(id).unwrap().mode, 0o740);
        let told = volume.xattr(id, b"user.cairn.sddl").unwrap().unwrap();
        assert_eq!(String::from_utf8(told).unwrap(), rights);
        let raw = volume.xattr(id, b"system.ntfs_acl").unwrap().unwrap();
        assert_eq!(raw, spoiled[start..start + whole.len()]);
        let named = left_out(&volume);
        assert!(
            named.starts_with("user.cairn.sddl: the SACL is not in it: ")
                && named.lines().count() == 1,
            "{named}"
        );
    }
}

#[test]
fn one_damaged_extended_attribute_takes_no_other_with_it() {
    let Some((folder, ..)) = filled(
        "write('f', 'x'); put('f', 'ea', ea((b'$LXUID', struct.pack('<I', 1000)), (b'FIRST', b'one'), (b'DAMAGED', b'two'), (b'LAST', b'three'), (b'$LXMOD', struct.pack('<I', 0o100751))))",
    ) else {
        return;
    };
    let mut bytes = fs::read(folder.path().join("volume.ntfs")).unwrap();
    let names = places(&bytes, b"DAMAGED\0two");
    assert_eq!(names.len(), 1);
    // The length of its value: more than there is, and up to where the next one is.
    for length in [0x7FFFu16, 12] {
        bytes[names[0] - 2..names[0]].copy_from_slice(&length.to_le_bytes());
        let volume = open_bytes(&bytes);
        let id = find(&volume);
        let value = |name: &str| volume.xattr(id, format!("user.cairn.ea.{name}").as_bytes());
        assert_eq!(value("FIRST").unwrap().unwrap(), b"one");
        assert_eq!(value("LAST").unwrap().unwrap(), b"three");
        assert_eq!(value("DAMAGED").unwrap_err().kind(), Kind::Damaged);
        let attributes = volume.attributes(id).unwrap();
        assert_eq!((attributes.uid, attributes.mode), (1000, 0o751));
        let all = volume.xattrs(id).unwrap();
        let good = all
            .iter()
            .filter(|(name, _)| name.starts_with(b"user.cairn.ea."));
        assert_eq!(good.count(), 4);
        let named = left_out(&volume);
        assert!(
            named.starts_with("user.cairn.ea: ") && named.lines().count() == 1,
            "{named}"
        );
    }
}
