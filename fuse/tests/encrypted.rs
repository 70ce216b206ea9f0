//! What the tree shows of encrypted volumes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests are here"
)]

#[allow(dead_code, reason = "the tests of the reader use all of it")]
#[path = "../../engine/guest/tests/bitlocker/maker.rs"]
mod maker;
mod shared;

use cairn::{DiskView, Keys, MachineLayout, MachineView, ReadOptions};
use cairn_fuse::Tree;
use maker::{KEPT, Looks, Protect, RECOVERY, Recipe, is_free, make};
use shared::asked::{content, names};
use shared::disks::{C_GUID, C_START, D_SIGNATURE, D_START, windows};
use shared::made::{by_guid, by_place, system};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use tempfile::tempdir;

/// The id of the recovery key. The first groups of an id are little-endian on the disk.
const RECOVERY_ID: &str = "34241404-5444-7464-8494-A4B4C4D4E4F4";

/// A volume of ext4 with one file, beside BitLocker's own areas, encrypted.
fn encrypted(folder: &Path, protectors: &[Protect]) -> DiskView {
    let (files, image) = (folder.join("files"), folder.join("image"));
    fs::create_dir_all(&files).unwrap();
    fs::write(files.join("name"), "web01\n").unwrap();
    let mut command = Command::new("mke2fs");
    // Its structures lie before the areas or behind them.
    command.args([
        "-q",
        "-F",
        "-t",
        "ext4",
        "-O",
        "^has_journal,^resize_inode",
        "-b",
        "4096",
        "-N",
        "16",
        "-d",
    ]);
    command.arg(&files).arg(&image).arg("16M");
    assert!(command.status().unwrap().success());
    let mut plain = fs::read(&image).unwrap();
    plain[KEPT.start as usize..KEPT.end as usize].fill(0);
    let recipe = Recipe::new(Looks::Windows7, 0x8003).protect(protectors);
    fs::write(&image, make(&recipe, &plain)).unwrap();
    DiskView::open_image(&image).unwrap()
}

/// **[encrypted]** A volume that BitLocker encrypts is a folder like any other if a key that opens it was given to the mount, or if its protection is suspended, which `p<N>.notes` says then.
/// Otherwise it is one that cannot be read, and `p<N>.error` names the ids of the keys that would open it.
#[test]
fn encrypted_volumes_are_shown_if_a_key_opens_them() {
    let temp = tempdir().unwrap();
    let view = || encrypted(temp.path(), &[Protect::Tpm, Protect::Recovery]);
    let mut keys = Keys::new();
    keys.add_recovery_password(RECOVERY).unwrap();
    let open = Tree::of_image(view().with_read_options(keys.into()));
    assert_eq!(content(&open, "files/disk0/p0/name"), b"web01\n");
    assert_eq!(names(&open, "files/disk0"), ["p0"]);

    let locked = Tree::of_image(view());
    assert_eq!(names(&locked, "files/disk0"), ["p0", "p0.error"]);
    assert!(names(&locked, "files/disk0/p0").is_empty());
    let error = String::from_utf8(content(&locked, "files/disk0/p0.error")).unwrap();
    assert!(error.contains(RECOVERY_ID), "{error}");
    assert!(error.contains("no key was given"), "{error}");
    let mut wrong = Keys::new();
    wrong.add_password("wrong-password");
    let other = "235818-357951-253979-013365-241120-245575-342914-591910";
    wrong.add_recovery_password(other).unwrap();
    let wrong = Tree::of_image(view().with_read_options(wrong.into()));
    let refused = String::from_utf8(content(&wrong, "files/disk0/p0.error")).unwrap();
    for said in [
        RECOVERY_ID,
        "the recovery key that was given does not fit",
        "the volume has no password",
    ] {
        assert!(refused.contains(said), "{refused}");
    }
    // What is to be done is another key, and nothing else.
    for text in [&error, &refused] {
        assert!(text.contains("mount again with what is wanted"), "{text}");
        assert!(!text.contains("system's log"), "{text}");
        assert!(
            !text.contains("235818") && !text.contains("wrong-password"),
            "{text}"
        );
    }

    // Where no key would do, none is asked for.
    let machine = Tree::of_image(encrypted(temp.path(), &[Protect::Tpm]));
    let only = String::from_utf8(content(&machine, "files/disk0/p0.error")).unwrap();
    let end = only.split_once("only by what cannot be used here: TPM ");
    let (_, end) = end.unwrap_or_else(|| panic!("{only}"));
    assert_eq!(end.lines().count(), 1, "{only}");

    let suspended = Tree::of_image(encrypted(temp.path(), &[Protect::Tpm, Protect::Clear]));
    assert_eq!(content(&suspended, "files/disk0/p0/name"), b"web01\n");
    let notes = String::from_utf8(content(&suspended, "files/disk0/p0.notes")).unwrap();
    assert!(notes.contains("suspended"), "{notes}");
}

/// Encrypts a volume where it lies on its disk, with BitLocker's own areas where the volume has nothing but zeros.
fn encrypt(disk: &Path, start: u64, length: u64) {
    let mut bytes = fs::read(disk).unwrap();
    let volume = &mut bytes[start as usize..(start + length) as usize];
    let mut recipe =
        Recipe::new(Looks::Windows7, 0x8004).protect(&[Protect::Tpm, Protect::Recovery]);
    let mut places = (0..length).step_by(0x1_0000);
    recipe.at = places.find(|at| is_free(volume, *at)).unwrap();
    let encrypted = make(&recipe, volume);
    volume.copy_from_slice(&encrypted);
    fs::write(disk, bytes).unwrap();
}

fn layout(disks: &[&Path], reading: &ReadOptions) -> Arc<MachineLayout> {
    let view = |path: &&Path| DiskView::open_image(path).unwrap();
    let views = disks
        .iter()
        .map(|path| Arc::new(view(path).with_read_options(reading.clone())));
    MachineView::new(views.collect()).layout()
}

fn letters(layout: &MachineLayout) -> Vec<(char, usize)> {
    let letters = layout.letters();
    letters
        .map(|(letter, volume)| (letter, volume.disk()))
        .collect()
}

/// The registry of a Windows on a volume that is encrypted as a whole, as on every notebook.
#[test]
fn letters_of_an_encrypted_windows_need_its_key() {
    let temp = tempdir().unwrap();
    let Some(made) = windows(temp.path(), &|_, _| {}) else {
        return;
    };
    let (mut keys, mut wrong) = (Keys::new(), Keys::new());
    keys.add_recovery_password(RECOVERY).unwrap();
    wrong.add_password("wrong-password");
    let (keys, wrong): (ReadOptions, ReadOptions) = (keys.into(), wrong.into());
    let both = [made.system.as_path(), made.data.as_path()];
    // A data volume needs no key for its letter: that is told by the partition.
    encrypt(&made.data, D_START, 16 << 20);
    let plain = layout(&both, &ReadOptions::default());
    assert_eq!(letters(&plain), [('C', 0), ('D', 1)]);
    assert!(plain.notes().is_empty(), "{:?}", plain.notes());

    encrypt(&made.system, C_START, 24 << 20);
    let open = layout(&both, &keys);
    assert_eq!(letters(&open), [('C', 0), ('D', 1)]);
    assert!(
        open.notes().is_empty() && open.is_final(),
        "{:?}",
        open.notes()
    );
    for (reading, said) in [
        (ReadOptions::default(), "no key was given"),
        (wrong, "the password that was given was not tried"),
    ] {
        let locked = layout(&both, &reading);
        assert_eq!(letters(&locked), []);
        // Each volume on which a Windows may lie is named, with what opens it. Nothing will come of asking again.
        let notes: Vec<String> = locked
            .notes()
            .iter()
            .map(|note| note.text.clone())
            .collect();
        assert_eq!(notes.len(), 2, "{notes:?}");
        for (note, place) in notes.iter().zip(["disk0/p2", "disk0/p1"]) {
            let all = [place, said, RECOVERY_ID];
            assert!(all.iter().all(|said| note.contains(said)), "{note}");
        }
        assert!(locked.is_final());
    }

    let view = || DiskView::open_image(&made.system).unwrap();
    let shown = Tree::of_image(view().with_read_options(keys));
    assert_eq!(names(&shown, "files"), ["C:", "disk0"]);
    let locked = Tree::of_image(view());
    assert_eq!(names(&locked, "files"), ["disk0", "letters.notes"]);
    let listed = names(&locked, "files/disk0");
    assert!(listed.contains(&"p2.error".to_string()), "{listed:?}");
    let notes = String::from_utf8(content(&locked, "files/letters.notes")).unwrap();
    assert!(
        notes.contains("disk0/p2") && notes.contains(RECOVERY_ID),
        "{notes}"
    );
}

/// An old disk with a Windows of its own, beside the machine's that is locked.
#[test]
fn letters_of_an_old_windows_are_not_those_of_a_locked_one_without_a_word() {
    let temp = tempdir().unwrap();
    let own = (r"\DosDevices\C:", by_place(D_SIGNATURE, D_START));
    let known = (r"\DosDevices\K:", by_guid(C_GUID));
    for (devices, wanted) in [
        (vec![own.clone()], vec![('C', 1)]),
        // One that knows the locked volume as its own data is believed.
        (vec![own, known], vec![('C', 1), ('K', 0)]),
    ] {
        let more = |_: &Path, d: &Path| {
            let config = d.join("Windows/System32/config");
            fs::create_dir_all(&config).unwrap();
            fs::write(config.join("SYSTEM"), system(&devices)).unwrap();
        };
        let Some(made) = windows(temp.path(), &more) else {
            return;
        };
        encrypt(&made.system, C_START, 24 << 20);
        let both = [made.system.as_path(), made.data.as_path()];
        let locked = layout(&both, &ReadOptions::default());
        assert_eq!(letters(&locked), wanted);
        assert!(locked.is_final());
        let notes = locked.notes();
        if wanted.len() > 1 {
            assert!(notes.is_empty(), "{notes:?}");
            continue;
        }
        assert_eq!(notes.len(), 1, "{notes:?}");
        for said in ["disk0/p1/Windows", "another one on disk0/p2", RECOVERY_ID] {
            assert!(notes[0].text.contains(said), "{notes:?}");
        }
    }
}
