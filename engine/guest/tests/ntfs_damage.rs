//! Volumes with known damage: what is whole must be read, what is not must be named.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests may panic"
)]

mod ntfs_support;

use cairn_base::ReadAt;
use cairn_guest::Volume;
use cairn_guest::ntfs::NtfsVolume;
use ntfs_support::made::*;
use ntfs_support::patched::attribute;
use ntfs_support::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::sync::Arc;

#[test]
fn a_bad_boot_sector_and_bad_first_records_have_substitutes() {
    if !have(&TOOLS) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = make(folder.path(), 8 << 20, &["-L", "my label"]);
    let original = fs::read(&image).unwrap();
    let open = |bytes: Vec<u8>| NtfsVolume::open(Arc::new(bytes) as Arc<dyn ReadAt>);
    let volume = open(original.clone()).unwrap();
    assert!(
        volume.info().clean && volume.info().notes.is_empty(),
        "{:?}",
        volume.info()
    );
    assert_eq!(volume.info().label, "my label");

    let mut bytes = original.clone();
    bytes[..512].fill(0);
    let volume = open(bytes).unwrap();
    assert!(
        !volume.info().clean && volume.info().notes[0].text.contains("backup"),
        "{:?}",
        volume.info()
    );

    let mft = u64::from_le_bytes(original[0x30..0x38].try_into().unwrap()) as usize * 4096;
    for record in 0..4 {
        let mut bytes = original.clone();
        bytes[mft + record * 1024 + 510] ^= 0xFF;
        let volume = open(bytes).unwrap();
        assert_eq!(volume.info().label, "my label");
        if record != 1 {
            assert!(
                volume
                    .info()
                    .notes
                    .iter()
                    .any(|note| note.text.contains("mirror")),
                "{record}: {:?}",
                volume.info()
            );
        }
    }
    // Neither the first record nor its mirror.
    let mirror = u64::from_le_bytes(original[0x38..0x40].try_into().unwrap()) as usize * 4096;
    let mut bytes = original;
    bytes[mft] = 0;
    bytes[mirror] = 0;
    assert_eq!(open(bytes).err().unwrap().kind(), cairn_base::Kind::Damaged);
}

/// A first record that is whole in itself, and leads to nothing, or to a part of the table.
#[test]
fn a_first_record_that_does_not_lead_to_the_table_has_a_substitute() {
    if !have(&TOOLS) {
        return;
    }
    let Some((bytes, mft)) = patchable(|root| {
        for number in 0..50u64 {
            fs::write(root.join(format!("{number}")), noise(number, 300)).unwrap();
        }
    }) else {
        return;
    };
    let sound = walk(&open_bytes(&bytes), &mut |_, error| panic!("{error}"));
    let mirror = u64::from_le_bytes(bytes[0x38..0x40].try_into().unwrap()) as usize * 4096;
    // No possible run; a run of three quarters of its clusters, where the last cluster is not said.
    let ways: [fn(&mut [u8], usize); 2] = [
        |bytes, record| {
            let data = attribute(bytes, record, 0x80);
            let run = data + usize::from(bytes[data + 32]);
            bytes[run] = 0x10;
        },
        |bytes, record| {
            let data = attribute(bytes, record, 0x80);
            let run = data + usize::from(bytes[data + 32]);
            assert_eq!(bytes[run] & 15, 1, "a run of less than 128 clusters");
            bytes[run + 1] -= bytes[run + 1] / 4;
            let behind = run + 2 + usize::from(bytes[run] >> 4);
            bytes[behind] = 0;
            bytes[data + 24..data + 32].fill(0);
        },
    ];
    for (number, way) in ways.into_iter().enumerate() {
        let mut spoiled = bytes.clone();
        way(&mut spoiled, mft);
        let volume = open_bytes(&spoiled);
        let items = walk(&volume, &mut |what, error| panic!("{what}: {error}"));
        assert!(items.keys().eq(sound.keys()), "{number}");
        let notes: Vec<&str> = volume.info().defects().collect();
        assert!(
            notes.len() == 1 && notes[0].contains("mirror"),
            "{number}: {notes:?}"
        );
        // Both: nothing, or what is left.
        way(&mut spoiled, mirror);
        let disk = Arc::new(spoiled) as Arc<dyn ReadAt>;
        let volume = match (NtfsVolume::open(disk), number) {
            (Err(error), 0) => {
                assert_eq!(error.kind(), cairn_base::Kind::Damaged);
                continue;
            }
            (volume, _) => volume.unwrap(),
        };
        assert!(
            volume
                .info()
                .defects()
                .any(|note| note.contains("ends too early"))
        );
        let mut lost = 0;
        let items = walk(&volume, &mut |what, error| {
            let told = error.to_string();
            assert!(
                what == "attributes" && told.contains("no clusters are allocated"),
                "{told}"
            );
            lost += 1;
        });
        assert!(items.keys().eq(sound.keys()));
        assert!(lost > 0 && lost < 50, "{lost}");
    }
}

/// Records have their number since version 3.1: one that was written to another's place is not taken for that one's.
#[test]
fn a_record_in_the_place_of_another_is_refused() {
    if !have(&TOOLS) {
        return;
    }
    let Some((mut bytes, mft)) = patchable(|root| {
        for name in ["one", "two", "three"] {
            fs::write(root.join(name), name).unwrap();
        }
    }) else {
        return;
    };
    let [one, two] = ["one", "two"].map(|name| record_of(&bytes, mft, name));
    let record = bytes[one..one + 1024].to_vec();
    bytes.copy_within(two..two + 1024, one);
    bytes[two..two + 1024].copy_from_slice(&record);
    let volume = open_bytes(&bytes);
    let items = walk(&volume, &mut |what, error| {
        assert_eq!(what, "attributes");
        assert!(error.to_string().contains("in its place"), "{error}");
    });
    assert_eq!(items.len(), 3);
    assert!(items[&b"/one"[..]].attributes.is_none());
    let three = content(&volume, &items[&b"/three"[..]]).unwrap();
    assert_eq!(three, b"three");
    assert!(volume.lookup(volume.root(), b"two").is_err());
}

#[test]
fn a_torn_record_spoils_its_own_file_only() {
    if !have(&TOOLS) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = make(folder.path(), 8 << 20, &[]);
    {
        let Some(mount) = Mount::new(&image, folder.path(), "streams_interface=none") else {
            return;
        };
        for name in ["one", "two", "three"] {
            fs::write(mount.0.join(name), name).unwrap();
        }
    }
    let mut bytes = fs::read(&image).unwrap();
    let volume = NtfsVolume::open(Arc::new(bytes.clone()) as Arc<dyn ReadAt>).unwrap();
    let two = volume.lookup(volume.root(), b"two").unwrap().unwrap().id;
    let mft = u64::from_le_bytes(bytes[0x30..0x38].try_into().unwrap()) as usize * 4096;
    bytes[mft + two.number as usize * 1024 + 511] ^= 1;
    let volume = NtfsVolume::open(Arc::new(bytes) as Arc<dyn ReadAt>).unwrap();
    let mut errors = Vec::new();
    let items = walk(&volume, &mut |_, error| errors.push(error));
    assert_eq!(items.len(), 3);
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].kind(), cairn_base::Kind::Damaged);
    assert_eq!(
        volume.open(two).err().unwrap().kind(),
        cairn_base::Kind::Damaged
    );
    assert_eq!(content(&volume, &items[&b"/three"[..]]).unwrap(), b"three");
}

#[test]
fn a_torn_index_block_hides_its_own_names_only() {
    if !have(&TOOLS) {
        return;
    }
    let Some((mut bytes, _)) = patchable(|root| {
        fs::create_dir(root.join("folder")).unwrap();
        for number in 0..300 {
            fs::write(root.join(format!("folder/name {number}")), b"x").unwrap();
        }
    }) else {
        return;
    };
    let blocks: Vec<usize> = (0..bytes.len())
        .step_by(4096)
        .filter(|&at| {
            let names: Vec<u8> = "name ".encode_utf16().flat_map(u16::to_le_bytes).collect();
            &bytes[at..at + 4] == b"INDX"
                && bytes[at..at + 4096]
                    .windows(10)
                    .any(|window| window == names)
        })
        .collect();
    assert!(blocks.len() > 3);
    bytes[blocks[1] + 1023] ^= 1;
    let volume = open_bytes(&bytes);
    let folder = volume.lookup(volume.root(), b"folder").unwrap().unwrap().id;
    let mut names = BTreeSet::new();
    for _ in 0..2 {
        // Told at the end, each time.
        let error = volume
            .read_dir(folder, 0, &mut |entry| {
                names.insert(entry.name);
                ControlFlow::Continue(())
            })
            .unwrap_err();
        assert_eq!(error.kind(), cairn_base::Kind::Damaged);
    }
    assert!(names.len() > 200 && names.len() < 300, "{}", names.len());
    for number in 0..300 {
        let name = format!("name {number}").into_bytes();
        let found = volume.lookup(folder, &name);
        assert_eq!(
            found.is_ok_and(|found| found.is_some()),
            names.contains(&name),
            "{number}"
        );
    }
}

#[test]
fn encrypted_and_stale_files_are_listed_and_refused() {
    if !have(&TOOLS) {
        return;
    }
    let Some((mut bytes, mft)) = patchable(|root| {
        for name in ["secret", "stale", "good"] {
            fs::write(root.join(name), name).unwrap();
        }
    }) else {
        return;
    };
    let secret = record_of(&bytes, mft, "secret");
    let stale = record_of(&bytes, mft, "stale");
    let mut at = usize::from(bytes[secret + 20]);
    while bytes[secret + at] != 0x80 {
        at += usize::from(bytes[secret + at + 4]);
    }
    bytes[secret + at + 13] |= 0x40;
    bytes[stale + 16] = bytes[stale + 16].wrapping_add(1);
    let volume = open_bytes(&bytes);
    let mut ids = BTreeMap::new();
    volume
        .read_dir(volume.root(), 0, &mut |entry| {
            ids.insert(entry.name, entry.id);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(ids.len(), 3);
    let secret = ids[&b"secret"[..]];
    assert_eq!(volume.attributes(secret).unwrap().size, 6);
    assert_eq!(
        volume.open(secret).err().unwrap().kind(),
        cairn_base::Kind::Unsupported
    );
    let error = volume.lookup(volume.root(), b"stale").unwrap_err();
    assert_eq!(error.kind(), cairn_base::Kind::Damaged);
    // Nor does the id in the listing lead to whatever lies in the record now.
    let error = volume.attributes(ids[&b"stale"[..]]).unwrap_err();
    assert_eq!(error.kind(), cairn_base::Kind::Damaged);
    assert!(volume.open(ids[&b"good"[..]]).is_ok());
}

#[test]
fn a_hibernated_or_dirty_volume_is_not_clean() {
    if !have(&TOOLS) {
        return;
    }
    let Some((mut bytes, mft)) = patchable(|root| {
        let mut image = vec![0u8; 8192];
        image[..4].copy_from_slice(b"hibr");
        fs::write(root.join("hiberfil.sys"), image).unwrap();
    }) else {
        return;
    };
    let info = open_bytes(&bytes).info().clone();
    assert!(
        !info.clean
            && info
                .notes
                .iter()
                .any(|note| note.text.contains("hibernated")),
        "{info:?}"
    );
    let volume_record = mft + 3 * 1024;
    let mut at = usize::from(bytes[volume_record + 20]);
    while bytes[volume_record + at] != 0x70 {
        at += usize::from(bytes[volume_record + at + 4]);
    }
    let value = usize::from(bytes[volume_record + at + 20]);
    bytes[volume_record + at + value + 10] |= 1;
    let info = open_bytes(&bytes).info().clone();
    assert!(
        info.notes.iter().any(|note| note.text.contains("dirty")),
        "{info:?}"
    );
}

#[test]
fn the_file_systems_own_files_are_found_but_not_listed() {
    if !have(&TOOLS) {
        return;
    }
    let Some((bytes, _)) = patchable(|_| ()) else {
        return;
    };
    let volume = open_bytes(&bytes);
    assert!(walk(&volume, &mut |_, error| panic!("{error}")).is_empty());
    for name in ["$MFT", "$bitmap", "$Extend", "$UpCase"] {
        let found = volume
            .lookup(volume.root(), name.as_bytes())
            .unwrap()
            .unwrap();
        assert!(found.id.number < 16, "{name}");
    }
    let mft = volume.lookup(volume.root(), b"$MFT").unwrap().unwrap().id;
    assert!(volume.open(mft).unwrap().size() >= 16 << 10);
    assert_eq!(
        volume.open(volume.root()).err().unwrap().kind(),
        cairn_base::Kind::Invalid
    );
    let missing = cairn_guest::EntryId::new(1 << 40);
    assert_eq!(
        volume.attributes(missing).unwrap_err().kind(),
        cairn_base::Kind::NotFound
    );
}
