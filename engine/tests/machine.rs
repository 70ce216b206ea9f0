//! Which letter is which volume: disks of Windows machines, made here.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests are here"
)]

#[path = "../guest/tests/windows/disks.rs"]
mod disks;
#[path = "../guest/tests/windows/made.rs"]
mod made;
#[path = "../guest/tests/ldm/maker.rs"]
mod maker;
#[path = "../guest/tests/ldm/records.rs"]
mod records;

use cairn::{BackupOptions, Criteria, DiskExamination, DiskImage, DiskView, FindEvent, Lettered};
use cairn::{MachineLayout, MachineView, Monitor, OpenOptions, ReadOptions, Silent, Stage};
use cairn::{Store, Time, find_files};
use disks::{C_GUID, D_NAME, D_SIGNATURE, D_START, Windows, windows};
use made::{TICKS, by_guid, by_place, sum, system};
use maker::{Group, SECTOR, Scheme};
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

fn layout(images: &[&Path]) -> Arc<MachineLayout> {
    let disks = images
        .iter()
        .map(|path| Arc::new(DiskView::open_image(path).unwrap()));
    MachineView::new(disks.collect()).layout()
}

/// The letters, and where their volumes are; all images are called `disk0`, so by position.
fn letters(layout: &MachineLayout) -> Vec<(char, usize, u32)> {
    let letters = layout.letters();
    letters
        .map(|(letter, at)| (letter, at.disk(), at.view().number()))
        .collect()
}

/// A hive that was written `days` later than others.
fn written(mut hive: Vec<u8>, days: i64) -> Vec<u8> {
    let ticks = TICKS.wrapping_add_signed(days * 86_400 * 10_000_000);
    hive[12..20].copy_from_slice(&ticks.to_le_bytes());
    sum(&mut hive);
    hive
}

fn install(root: &Path, folder: &str, hive: &[u8]) {
    let config = root.join(folder).join("System32/config");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("SYSTEM"), hive).unwrap();
}

#[test]
fn letters_are_those_of_the_registry_on_the_disks() {
    let folder = tempfile::tempdir().unwrap();
    let Some(Windows { system, data }) = windows(folder.path(), &|_, _| {}) else {
        return;
    };
    let both = layout(&[&system, &data]);
    assert_eq!(letters(&both), [('C', 0, 2), ('D', 1, 1)]);
    assert_eq!(both.letters_of(1, 1), ['D']);
    assert!(both.letters_of(1, 2).is_empty());
    assert_eq!(both.letter(b'd').unwrap().path(), "disk0/p1");
    assert_eq!(both.named(D_NAME).unwrap().disk(), 1);
    // A partition of a GPT has a name of its own, which the registry did not write down.
    let own = both.named("11223344-5566-7788-99aa-bbccddeeff00").unwrap();
    assert_eq!((own.disk(), own.view().number()), (0, 2));
    assert!(both.notes().is_empty() && both.is_final());
    // Without its disk a letter is not there; without Windows there is none.
    assert_eq!(letters(&layout(&[&system])), [('C', 0, 2)]);
    assert_eq!(letters(&layout(&[&data])), []);
    // The order of the disks is nothing.
    assert_eq!(
        letters(&layout(&[&data, &system])),
        [('C', 1, 2), ('D', 0, 1)]
    );
    // A copy of a disk has all its ids.
    let twice = layout(&[&system, &data, &data]);
    assert_eq!(letters(&twice), [('C', 0, 2)]);
    let [note] = twice.notes() else {
        panic!("{:?}", twice.notes());
    };
    assert!(
        note.is_defect && note.text.contains("D: fits two volumes"),
        "{note}"
    );
    // `cairn disk` knows what the disk says of itself.
    let examination = DiskExamination::open(&system, &OpenOptions::default()).unwrap();
    let report = examination
        .report(&ReadOptions::default(), &Silent)
        .unwrap();
    let parts = report.division.unwrap().unwrap().parts;
    let told: Vec<_> = parts
        .iter()
        .map(|part| (part.number, part.letters.clone()))
        .collect();
    assert_eq!(told, [(1, vec![]), (2, vec!['C'])]);
}

#[test]
fn of_several_the_windows_that_ran_last_counts() {
    // On D: lies another one, by which its own volume is C: and the first one's is K:.
    let other = || {
        system(&[
            (r"\DosDevices\C:", by_place(D_SIGNATURE, D_START)),
            (r"\DosDevices\K:", by_guid(C_GUID)),
        ])
    };
    for (days, wanted) in [
        (-400, [('C', 0, 2), ('D', 1, 1)]),
        (1, [('C', 1, 1), ('K', 0, 2)]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let more = |_: &Path, d: &Path| install(d, "WINNT", &written(other(), days));
        let Some(made) = windows(folder.path(), &more) else {
            return;
        };
        let layout = layout(&[&made.system, &made.data]);
        assert_eq!(letters(&layout), wanted, "{days}");
        let [note] = layout.notes() else {
            panic!("{:?}", layout.notes());
        };
        assert!(
            !note.is_defect && note.text.contains("another Windows"),
            "{note}"
        );
    }
}

#[test]
fn one_that_does_not_know_its_own_volume_gives_way() {
    // Written last, but it was copied here from another machine.
    let stray = system(&[
        (r"\DosDevices\C:", by_place(1, 2)),
        (r"\DosDevices\Z:", by_guid(C_GUID)),
    ]);
    let folder = tempfile::tempdir().unwrap();
    let more = |_: &Path, d: &Path| install(d, "Old Windows", &written(stray.clone(), 9));
    let Some(made) = windows(folder.path(), &more) else {
        return;
    };
    let both = layout(&[&made.system, &made.data]);
    assert_eq!(letters(&both), [('C', 0, 2), ('D', 1, 1)]);
    // Alone it counts for what it knows.
    assert_eq!(letters(&layout(&[&made.data])), []);
}

#[test]
fn a_registry_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let more = |c: &Path, d: &Path| {
        fs::write(
            c.join("Windows/System32/config/SYSTEM"),
            b"regf and no more",
        )
        .unwrap();
        fs::create_dir_all(d.join("Windows/System32/config")).unwrap();
    };
    let Some(made) = windows(folder.path(), &more) else {
        return;
    };
    let layout = layout(&[&made.system, &made.data]);
    assert_eq!(letters(&layout), []);
    let [note] = layout.notes() else {
        panic!("{:?}", layout.notes());
    };
    assert!(
        note.is_defect && note.text.contains("disk0/p2/Windows"),
        "{note}"
    );
    assert!(layout.is_final());
}

/// A hostile volume cannot have registries read without an end; that a bound was met is told.
#[test]
fn bounds_of_what_is_looked_at_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let more = |c: &Path, d: &Path| {
        for number in 0..300 {
            fs::create_dir(c.join(format!("Folder {number:03}"))).unwrap();
        }
        for number in 0..9 {
            install(d, &format!("System {number}"), &system(&[]));
        }
    };
    let Some(made) = windows(folder.path(), &more) else {
        return;
    };
    let layout = layout(&[&made.system, &made.data]);
    // The usual folder is looked at first.
    assert_eq!(letters(&layout), [('C', 0, 2), ('D', 1, 1)]);
    let notes = layout.notes();
    let told = |is_defect, text: &str| {
        let all = notes.iter();
        let alike = all.filter(|note| note.is_defect == is_defect && note.text.contains(text));
        alike.count()
    };
    assert_eq!(
        told(false, "disk0/p2 has more than 256 folders"),
        1,
        "{notes:?}"
    );
    assert_eq!(
        told(true, "disk0/p1 has more than 8 installations"),
        1,
        "{notes:?}"
    );
    assert_eq!(told(false, "another Windows in disk0/p1"), 8, "{notes:?}");
}

/// A GUID whose first three groups lie the other way round.
fn turned(guid: [u8; 16]) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = guid;
    let mut turned = [d, c, b, a, f, e, h, g, 0, 0, 0, 0, 0, 0, 0, 0];
    turned[8..].copy_from_slice(&rest);
    turned
}

/// In which of both orders Windows writes the GUIDs of dynamic volumes into its registry is said nowhere.
#[test]
fn volumes_of_dynamic_disks_have_letters_in_either_order_of_their_ids() {
    let mut group = Group::new(Scheme::Gpt, true, 1);
    for name in ["Volume1", "Volume2", "Volume3", "Volume4"] {
        group.add(name, 2, 0, &[(0, 1000)]);
    }
    let guid = |at: usize, high: u128| {
        0x1122_3344_5566_4788_99aa_bbcc_ddee_ff00 + at as u128 + (high << 120)
    };
    for (at, volume) in group.volumes.iter_mut().enumerate() {
        volume.guid = guid(at, 1);
    }
    // What one of them is called in one order, another one is in the other.
    group.volumes[3].guid = u128::from_be_bytes(turned(group.volumes[2].guid.to_be_bytes()));
    let ids: Vec<[u8; 16]> = group
        .volumes
        .iter()
        .map(|volume| volume.guid.to_be_bytes())
        .collect();
    let text = vec![0x5a; 1000 * SECTOR];
    let disk = group.write(&[&text[..]; 4]).remove(0);
    let hive = system(&[
        (r"\DosDevices\C:", by_place(D_SIGNATURE, D_START)),
        (r"\DosDevices\L:", by_guid(ids[0])),
        (r"\DosDevices\M:", by_guid(turned(ids[1]))),
        (r"\DosDevices\N:", by_guid(ids[2])),
    ]);
    let folder = tempfile::tempdir().unwrap();
    let more = |_: &Path, d: &Path| install(d, "WINNT", &written(hive.clone(), 1));
    let Some(made) = windows(folder.path(), &more) else {
        return;
    };
    let image = folder.path().join("dynamic.raw");
    fs::write(&image, disk).unwrap();
    let layout = layout(&[&made.data, &image]);
    let first = group.volumes[0].id as u32 + 1000;
    assert_eq!(
        letters(&layout),
        [('C', 0, 1), ('L', 1, first), ('M', 1, first + 0x20)]
    );
    let doubts: Vec<&str> = layout
        .notes()
        .iter()
        .map(|note| note.text.as_str())
        .collect();
    assert!(
        doubts
            .iter()
            .any(|note| note.contains("N: fits two volumes")),
        "{doubts:?}"
    );
}

/// Packs that cannot be opened from the beginning of a search until it looks at the first disk, which is after it looked for letters.
struct Outage {
    packs: Vec<PathBuf>,
    is_out: AtomicBool,
    warnings: Mutex<Vec<String>>,
}

impl Monitor for Outage {
    fn begin(&self, _: Stage, _: u64) {
        for pack in &self.packs {
            fs::rename(pack, pack.with_extension("away")).unwrap();
            symlink(pack, pack).unwrap();
        }
        self.is_out.store(true, Ordering::Relaxed);
    }

    fn stop_requested(&self) -> bool {
        if self.is_out.swap(false, Ordering::Relaxed) {
            for pack in &self.packs {
                fs::rename(pack.with_extension("away"), pack).unwrap();
            }
        }
        false
    }

    fn warn(&self, warning: &str) {
        self.warnings.lock().unwrap().push(warning.to_string());
    }
}

/// All files below a folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files_below(&path)),
            false => found.push(path),
        }
    }
    found
}

/// Nothing has a letter in the first of two points that are the same, for the moment when that is looked for.
#[test]
fn a_search_says_that_letters_could_not_be_told() {
    let folder = tempfile::tempdir().unwrap();
    let Some(made) = windows(folder.path(), &|_, _| {}) else {
        return;
    };
    let path = folder.path().join("store");
    let store = Store::create(&path).unwrap();
    for time in ["2026-11-20T02:00:00Z", "2026-11-21T02:00:00Z"] {
        let mut options = BackupOptions::new("pc");
        options.time = Some(Time::parse(time).unwrap());
        let disk = |name: &str, path: &Path| DiskImage::open(name, path).unwrap();
        let disks = vec![disk("sys", &made.system), disk("data", &made.data)];
        store.backup(disks, &options, &Silent).unwrap();
    }
    let outage = Outage {
        packs: files_below(&path.join("packs")),
        is_out: AtomicBool::new(false),
        warnings: Mutex::default(),
    };
    let criteria = Criteria {
        lettered: Vec::from_iter(Lettered::of_pattern(b"C:/Users/ann/notes.txt").unwrap()),
        ..Criteria::default()
    };
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    let store = Store::open(&path).unwrap();
    find_files(&store, "pc", None, &criteria, &outage, &mut |event| {
        match event {
            FindEvent::Found(version) => found.push((version.path, version.points)),
            FindEvent::Problem(_, _, error) => problems.push(error.to_string()),
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(problems.is_empty(), "{problems:?}");
    let warnings = outage.warnings.into_inner().unwrap();
    let of = |disk: &str| {
        let said = format!("Which volumes of {disk} have drive letters");
        warnings.iter().any(|warning| warning.contains(&said))
    };
    assert!(of("sys") && of("data"), "{warnings:?}");
    assert_eq!(found, [(b"sys/p2/Users/ann/notes.txt".to_vec(), 1)]);
}
