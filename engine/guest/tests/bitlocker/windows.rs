//! Volumes that Windows made.

use crate::support::*;
use cairn_base::Kind;
use cairn_guest::bitlocker::{BitLocker, Layout, Method, Protection, State};
use cairn_guest::probe::{detect, volumes};
use cairn_guest::{Detected, open_volume_with};

const ENDS: [&str; 2] = ["\n", " "];

/// A value of a section of the list of cryptsetup's images.
fn listed(folder: &std::path::Path, section: &str, name: &str) -> Option<String> {
    let path = image("mbroz__cryptsetup__images.conf", folder)?;
    let text = std::fs::read_to_string(path).unwrap();
    let (_, rest) = text.split_once(&format!("[{section}]\n")).unwrap();
    let (_, rest) = rest.split_once(&format!("{name}=")).unwrap();
    let end = rest.find(ENDS[0]).unwrap_or(rest.len());
    Some(rest[..end].trim_end_matches(ENDS[1]).to_string())
}

/// Images of cryptsetup's tests: what is decrypted has the hash that they expect.
#[test]
fn cryptsetups_images_have_the_hashes_that_it_expects() {
    let folder = tempfile::tempdir().unwrap();
    for (name, layout, method) in [
        ("bitlk-aes-xts-128", Layout::Windows7, Method::Xts(128)),
        ("bitlk-togo-aes-cbc-128", Layout::ToGo, Method::Cbc(128)),
    ] {
        let file = format!("mbroz__cryptsetup__{name}.img");
        let Some(path) = image(&file, folder.path()) else {
            return;
        };
        let device = FileDisk::open(&path);
        assert_eq!(detect(&*device).unwrap(), Detected::BitLocker);
        let value = |key: &str| listed(folder.path(), name, key).unwrap();
        let info = BitLocker::open(device.clone()).unwrap().info();
        assert_eq!((info.layout, info.method), (layout, method));
        assert_eq!((info.state, info.sector_size), (State::Encrypted, 512));
        assert_eq!(info.id.to_string(), value("GUID").to_uppercase());
        assert!(
            info.description.starts_with("DESKTOP-NPM7RCA"),
            "{}",
            info.description
        );
        assert_eq!(info.created.rfc3339().get(..8), Some("2019-07-"));
        assert!(info.notes.is_empty(), "{:?}", info.notes);
        let protectors: Vec<(Protection, String)> = info
            .protectors
            .iter()
            .map(|one| (one.protection, one.id.to_string()))
            .collect();
        let expected = [
            (Protection::Password, value("PW_VMK_GUID").to_uppercase()),
            (
                Protection::RecoveryPassword,
                value("RP_VMK_GUID").to_uppercase(),
            ),
        ];
        assert_eq!(protectors, expected);
        let (password, recovery) = (value("PW"), value("RP"));
        for given in [Given::Password(&password), Given::Recovery(&recovery)] {
            let unlocked = unlock(device.clone(), &given).unwrap();
            assert_eq!(hash(&*unlocked.device()), value("SHA256SUM"), "{name}");
        }
        let wrong = refused(device, &Given::Password("anacondA"));
        assert_eq!(wrong.kind(), Kind::Denied);
        assert!(wrong.to_string().contains(&expected[1].1), "{wrong}");
    }
}

/// Volumes of NTFS: every byte as dislocker and libbde decrypt it. Those who keep these images have zeroed most of them, so that
/// there are hardly any files to be compared.
#[test]
fn volumes_are_as_others_read_them() {
    let folder = tempfile::tempdir().unwrap();
    for (name, given, uuid) in [
        (
            "fox-it__dissect.fve__aes-xts_128.bin",
            Given::Password("password12!@"),
            "CC249D70249D5DF0",
        ),
        (
            "fox-it__dissect.fve__suspended.bin",
            Given::Nothing,
            "12909AE8909AD219",
        ),
        (
            "mbroz__cryptsetup__bitlk-aes-xts-128.img",
            Given::Password("anaconda"),
            "68844E71844E41B4",
        ),
    ] {
        let Some(path) = image(name, folder.path()) else {
            return;
        };
        let device = FileDisk::open(&path);
        assert_eq!(detect(&*device).unwrap(), Detected::BitLocker);
        let ours = unlock(device.clone(), &given).unwrap().device();
        // Versions of libbde up to 2019 do not know the entries of volumes whose protection is suspended.
        let libbde = match given {
            Given::Nothing => None,
            _ => by_libbde(&path, &given, folder.path()),
        };
        let dislocker = by_dislocker(&path, &given, folder.path());
        for (who, theirs) in [("dislocker", &dislocker), ("libbde", &libbde)] {
            let Some(theirs) = theirs else { continue };
            // What is beyond the end of these images, which were cut, is the others' to make up.
            let length = theirs.len().min(ours.size() as usize);
            assert!(
                length as u64 >= ours.size(),
                "{who} shows {length} bytes of {name}"
            );
            let first = theirs.iter().zip(all(&*ours)).position(|(a, b)| *a != b);
            assert_eq!(first, None, "{who}: {name}");
        }
        let volume = open_volume_with(device, &given.keys().into()).unwrap();
        assert_eq!(
            (volume.info().file_system, &*volume.info().uuid),
            ("ntfs", uuid)
        );
        let notes = &volume.info().notes;
        let is_suspended = notes.iter().any(|note| note.text.contains("suspended"));
        assert_eq!(is_suspended, matches!(given, Given::Nothing), "{notes:?}");
    }
}

/// This one ends within its first metadata.
#[test]
fn a_volume_without_metadata_is_named_and_refused() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = image("util-linux__util-linux__bitlocker-win7.img", folder.path()) else {
        return;
    };
    let device = FileDisk::open(&path);
    let layout = volumes(&device, None).unwrap();
    let found = &layout.volumes[0];
    assert_eq!(found.detected.as_ref().unwrap().name(), "BitLocker");
    let error = found.bitlocker().unwrap().unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged);
    assert_eq!(error.offset(), Some(0x210_0000 + 928 + 4), "{error}");
    assert_eq!(found.open().err().unwrap().kind(), Kind::Damaged);
}
