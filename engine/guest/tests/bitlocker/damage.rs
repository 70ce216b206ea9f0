//! Wrong keys, damaged metadata, volumes that are cut short: errors that say what is wrong, and never a panic.

use crate::maker::*;
use crate::support::*;
use cairn_base::Kind;
use cairn_guest::bitlocker::{BitLocker, KeyId};
use cairn_guest::{Keys, open_volume, open_volume_with};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn without_the_right_key_it_is_said_which_is_wanted() {
    let all = [
        Protect::Tpm,
        Protect::Startup,
        Protect::Recovery,
        Protect::Password("right"),
    ];
    let image = Arc::new(make(
        &Recipe::new(Looks::Windows7, 0x8004).protect(&all),
        &plain(),
    ));
    let ids = [Protect::Startup, Protect::Recovery, Protect::Password("")];
    let ids = ids.map(|protect| KeyId(id_of(protect)).to_string());
    let wrong_digits = "235818-357951-253979-013365-241120-245575-342914-591910";
    let no_key = refused(image.clone(), &Given::Nothing);
    assert!(no_key.to_string().contains("no key was given"), "{no_key}");
    let others = [
        Given::Password("wrong secret"),
        Given::Recovery(wrong_digits),
    ];
    let others = others.iter().map(|given| refused(image.clone(), given));
    for error in others.chain([no_key]) {
        assert_eq!(error.kind(), Kind::Denied);
        let said = format!("{error} {error:?}");
        assert!(ids.iter().all(|id| said.contains(id)), "{said}");
        assert!(
            !said.contains("secret") && !said.contains("253979"),
            "{said}"
        );
    }
    // As a volume it says the same.
    let locked = open_volume(image.clone()).err().unwrap();
    assert_eq!(locked.kind(), Kind::Denied);
    assert!(locked.to_string().contains(&ids[1]), "{locked}");
    // Unlocked, the noise on it is no file system.
    let keys = Given::Password("right").keys();
    let unlocked = open_volume_with(image, &keys.into()).err().unwrap();
    assert_eq!(unlocked.kind(), Kind::Unsupported);
    assert!(unlocked.to_string().contains("unlocked"), "{unlocked}");
}

/// Whoever reads it knows what was tried, that it does not fit, and which key to look for.
#[test]
fn which_keys_were_tried_is_said() {
    let wrong_digits = "235818-357951-253979-013365-241120-245575-342914-591910";
    let id = |protect| KeyId(id_of(protect)).to_string();
    let image = |protectors: &[Protect]| {
        let recipe = Recipe::new(Looks::Windows7, 0x8004).protect(protectors);
        Arc::new(make(&recipe, &plain()))
    };
    let all = image(&[Protect::Tpm, Protect::Recovery, Protect::Password("right")]);
    let recovery = refused(all.clone(), &Given::Recovery(wrong_digits)).to_string();
    let tried = format!(
        "the recovery key that was given does not fit (tried on the protector with the ID {})",
        id(Protect::Recovery)
    );
    assert!(recovery.contains(&tried), "{recovery}");
    assert!(!recovery.contains("password that was given"), "{recovery}");
    // What opens it, and what cannot be used.
    for said in [
        format!(
            "give the recovery key with the ID {}",
            id(Protect::Recovery)
        ),
        format!("protector {} (--password)", id(Protect::Password(""))),
        format!("cannot be used here: TPM {}", id(Protect::Tpm)),
        "Active Directory".to_string(),
    ] {
        assert!(recovery.contains(&said), "{said}: {recovery}");
    }
    let mut keys = Given::Password("wrong secret").keys();
    keys.add_password("another one");
    keys.add_startup_key(&startup_key()).unwrap();
    let locked = BitLocker::open(all).unwrap();
    let several = locked.unlock(&keys).err().unwrap().to_string();
    for said in [
        format!(
            "none of the 2 passwords that were given fits (tried on the protector with the ID {})",
            id(Protect::Password(""))
        ),
        format!(
            "the startup key with the id {} is of another volume",
            id(Protect::Startup)
        ),
    ] {
        assert!(several.contains(&said), "{said}: {several}");
    }
    let without = refused(image(&[Protect::Startup]), &Given::Password("wrong secret"));
    let said = "the password that was given was not tried, because the volume has no password";
    assert!(without.to_string().contains(said), "{without}");
    assert!(
        without.advice().unwrap().contains(&id(Protect::Startup)),
        "{without}"
    );
}

/// Its file has the id of a protector of the volume, and is of no use without the machine.
#[test]
fn a_startup_key_that_needs_the_tpm_too_is_not_of_another_volume() {
    let id = KeyId(id_of(Protect::TpmStartup)).to_string();
    let mut keys = Keys::new();
    let file = startup_key_of(Protect::TpmStartup);
    keys.add_startup_key(&file).unwrap();
    keys.add_startup_key(&startup_key()).unwrap();
    for protectors in [
        &[Protect::TpmStartup][..],
        &[Protect::TpmStartup, Protect::Recovery],
    ] {
        let recipe = Recipe::new(Looks::Windows7, 0x8004).protect(protectors);
        let locked = BitLocker::open(Arc::new(make(&recipe, &plain()))).unwrap();
        let error = locked.unlock(&keys).err().unwrap();
        for said in [
            format!("{id} belongs to a protector of the volume that also needs the TPM"),
            format!("{} is of another volume", KeyId(id_of(Protect::Startup))),
            format!("cannot be used here: TPM and startup key {id}"),
        ] {
            assert!(error.to_string().contains(&said), "{said}: {error}");
        }
        // There is advice where something can be done.
        assert_eq!(error.advice().is_some(), protectors.len() > 1, "{error}");
    }
}

#[test]
fn what_only_the_machine_can_open_is_named() {
    let recipe = Recipe::new(Looks::Windows7, 0x8004).protect(&[Protect::Tpm]);
    let error = refused(Arc::new(make(&recipe, &plain())), &Given::Password("any"));
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.to_string().contains("TPM"), "{error}");
}

#[test]
fn keys_show_nothing_of_themselves() {
    let mut keys = Keys::new();
    keys.add_password("secret");
    keys.add_recovery_password(RECOVERY).unwrap();
    assert_eq!(format!("{keys:?}"), "Keys(2)");
    for (typed, named) in [
        (
            "471207-278498-422125-177177-561902-537405-468006",
            "42 digits",
        ),
        (
            "471207-278498-422126-177177-561902-537405-468006-693451",
            "group 3",
        ),
        (
            "999999-278498-422125-177177-561902-537405-468006-693451",
            "group 1",
        ),
        (
            "471207-278498-422125-177177-561902-537405-468006-6934511",
            "more digits",
        ),
        (
            "471207-278498-42212x-177177-561902-537405-468006-693451",
            "no digit",
        ),
    ] {
        let error = keys.add_recovery_password(typed).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        let said = format!("{error} {error:?}");
        assert!(said.contains(named), "{said}");
        assert!(
            !said.contains("177177") && !said.contains("561902"),
            "{said}"
        );
    }
    let file = startup_key();
    for cut in [0, 4, 40, 60, 90, file.len() - 1] {
        let error = keys.add_startup_key(&file[..cut]).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{cut}");
    }
    keys.add_startup_key(&file).unwrap();
}

#[test]
fn one_whole_copy_of_the_metadata_is_enough() {
    for looks in [Looks::Windows7, Looks::Vista] {
        let recipe = Recipe::new(looks, 0x8002).protect(&[Protect::Clear]);
        let mut expected = plain();
        if looks == Looks::Vista {
            expected[3..11].copy_from_slice(b"NTFS    ");
            expected[56..64].copy_from_slice(&MIRROR.to_le_bytes());
        }
        let image = make(&recipe, &expected);
        for damaged in 0..8usize {
            let hit: Vec<usize> = (0..3).filter(|copy| damaged >> copy & 1 == 1).collect();
            for spot in [0, 9, 70, 130, 300] {
                let mut image = image.clone();
                for copy in &hit {
                    image[METADATA[*copy] as usize + spot] ^= 0x21;
                }
                let opened = BitLocker::open(Arc::new(image));
                // Vista's header knows the first copy only.
                if hit.len() == 3 || (looks == Looks::Vista && hit.contains(&0)) {
                    let error = opened.err().unwrap();
                    assert!(
                        matches!(error.kind(), Kind::Damaged | Kind::Unsupported),
                        "{error}"
                    );
                    assert!(error.to_string().contains("no copy"), "{error}");
                    continue;
                }
                let opened = opened.unwrap();
                let notes = opened.info().notes;
                assert_eq!(notes.len(), hit.len(), "{notes:?}");
                assert!(notes.iter().all(|note| !note.is_defect));
                for copy in &hit {
                    let named = format!("copy {}", copy + 1);
                    assert!(
                        notes.iter().any(|note| note.text.contains(&named)),
                        "{notes:?}"
                    );
                }
                let device = opened.unlock(&Keys::new()).unwrap().device();
                assert!(all(&*device) == expected);
            }
        }
    }
}

#[test]
fn the_newest_copy_counts() {
    let mut recipe = clear();
    recipe.nonces = [0, 3, 1];
    let opened = BitLocker::open(Arc::new(make(&recipe, &plain()))).unwrap();
    let notes = opened.info().notes;
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].text.contains("copy 1") && notes[1].text.contains("copy 3"));
    assert!(all(&*opened.unlock(&Keys::new()).unwrap().device()) == plain());
}

/// The checksum can be made right by anybody, the hash that is encrypted cannot.
#[test]
fn metadata_that_were_changed_are_a_defect() {
    let mut image = make(&clear(), &plain());
    for offset in METADATA {
        let at = offset as usize;
        // A letter of the description.
        image[at + 64 + 48 + 8] ^= 1;
        let length = usize::from(u16::from_le_bytes([image[at + 8], image[at + 9]])) * 16;
        let sum = crc32fast::hash(&image[at..at + length]).to_le_bytes();
        image[at + length + 4..at + length + 8].copy_from_slice(&sum);
    }
    let device = Arc::new(image);
    let unlocked = BitLocker::open(device)
        .unwrap()
        .unlock(&Keys::new())
        .unwrap();
    let volume = unlocked.volume(Arc::new(crate::files::Nothing::default()));
    let defects: Vec<&str> = volume.info().defects().collect();
    assert!(
        matches!(defects[..], [one] if one.contains("hashed")),
        "{defects:?}"
    );
}

#[test]
fn a_volume_that_is_cut_short_is_an_error() {
    let image = make(&clear(), &plain());
    for length in [0, 100, 511, 512, 0x4_0000, 0x4_0100, 0x10_0000, 0x10_1000] {
        let result = BitLocker::open(Arc::new(image[..length].to_vec()));
        let error = match result {
            Ok(opened) => opened.unlock(&Keys::new()).err().unwrap(),
            Err(error) => error,
        };
        let kind = error.kind();
        assert!(
            matches!(kind, Kind::Damaged | Kind::Invalid),
            "{length}: {error}"
        );
    }
    // Behind its beginning is only what is missing; a part of a sector cannot be decrypted.
    let cut = image[..image.len() - 100].to_vec();
    let device = unlock(Arc::new(cut), &Given::Nothing).unwrap().device();
    assert_eq!(device.size(), (2 << 20) - 512);
    assert!(all(&*device) == plain()[..(2 << 20) - 512]);
}

/// Any byte of what is decoded, changed in all copies with the checksums made right: an error, or a volume that can be read to its end.
#[test]
fn no_changed_byte_does_harm() {
    let image = make(&clear(), &plain());
    let mut unlocked = 0;
    let at = METADATA[0] as usize;
    let length = usize::from(u16::from_le_bytes([image[at + 8], image[at + 9]])) * 16;
    let places = (8..length).chain((0..512).map(|at| at + 0x1_0000));
    for (number, place) in places.enumerate() {
        let mut image = image.clone();
        let value = [0, 1, 0x7f, 0x80, 0xff][number % 5];
        if place >= 0x1_0000 {
            image[place - 0x1_0000] = value;
        } else {
            for offset in METADATA {
                image[offset as usize + place] = value;
            }
        }
        for offset in METADATA.map(|offset| offset as usize) {
            let stored = usize::from(u16::from_le_bytes([image[offset + 8], image[offset + 9]]));
            if stored * 16 < 0x8000 {
                let end = offset + stored * 16;
                let sum = crc32fast::hash(&image[offset..end]).to_le_bytes();
                image[end + 4..end + 8].copy_from_slice(&sum);
            }
        }
        let Ok(opened) = BitLocker::open(Arc::new(image)) else {
            continue;
        };
        if let Ok(found) = opened.unlock(&Keys::new()) {
            unlocked += 1;
            let device = found.device();
            assert!(device.size() <= 2 << 20);
            let mut buffer = [0; 5000];
            for at in [0, 0x4_0000, 0x10_0000, device.size().saturating_sub(5000)] {
                let _may_fail = device.read_exact_at(at, &mut buffer);
            }
            device.data_extents(0..u64::MAX).unwrap();
        }
    }
    assert!(unlocked > 100, "only {unlocked} were unlocked");
}

/// What takes long is done once for a password and a volume, and ends when it is asked to.
#[test]
fn stretching_is_done_once_and_can_be_stopped() {
    let recipe = Recipe::new(Looks::Windows7, 0x8004).protect(&[Protect::Password("right")]);
    let image = Arc::new(make(&recipe, &plain()));
    let asked = Arc::new(AtomicUsize::new(0));
    for (typed, fits) in [("right", true), ("wrong", false)] {
        let mut keys = Keys::new();
        keys.add_password(typed);
        let counted = asked.clone();
        counted.store(0, Ordering::Relaxed);
        keys.stop_when(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            false
        });
        let opened = || {
            BitLocker::open(image.clone())
                .unwrap()
                .unlock(&keys)
                .is_ok()
        };
        assert_eq!(opened(), fits);
        let first = asked.load(Ordering::Relaxed);
        assert!(first > 50, "{first}");
        assert_eq!([opened(), opened()], [fits; 2]);
        assert_eq!(asked.load(Ordering::Relaxed), first);
    }
    let mut keys = Keys::new();
    keys.add_password("right");
    let calls = AtomicUsize::new(0);
    keys.stop_when(move || calls.fetch_add(1, Ordering::Relaxed) == 3);
    let locked = BitLocker::open(image).unwrap();
    let stopped = locked.unlock(&keys).err().unwrap();
    assert_eq!(stopped.kind(), Kind::Interrupted);
    // Nothing wrong is remembered of it.
    assert!(locked.unlock(&keys).is_ok());
}

#[test]
fn a_volume_within_a_volume_is_not_followed() {
    let mut within = plain();
    within[3..11].copy_from_slice(b"-FVE-FS-");
    let error = open_volume(Arc::new(make(&clear(), &within)))
        .err()
        .unwrap();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.to_string().contains("within"), "{error}");
}
