//! Repair: what can be had from somewhere is written anew, and the store is clean again; what cannot is named, and stays.

use crate::kit::{Kit, R, TestDisk, files_in, mixed, noise};
use crate::parity::{Random, damage, footer, packs, seed};
use cairn_base::{Clock, Folder, LocalFolder, Silent, Time};
use cairn_store::pack::head::PackKind;
use cairn_store::{Point, RepairReport, rebuild_state, repair, verify};
use std::path::{Path, PathBuf};

/// Repairs the store as a process of its own does.
fn mend(kit: &Kit) -> RepairReport {
    repair(&kit.reopen(), &Silent).unwrap()
}

fn assert_clean(kit: &Kit) {
    let report = verify(&kit.reopen(), false, &Silent).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert!(kit.reopen().warnings().is_empty());
}

fn assert_equal(kit: &Kit, points: &[(Point, Vec<u8>)]) {
    for (point, bytes) in points {
        assert!(kit.read(point).unwrap() == *bytes);
    }
}

/// Some machines over some days.
fn history(kit: &Kit) -> Vec<(Point, Vec<u8>)> {
    let mut points = Vec::new();
    for machine in 0..2u64 {
        let mut bytes = [mixed(2 * R, machine), noise(R, 50 + machine)].concat();
        for day in 0..2u64 {
            let at = (day as usize + 1) * 1_000_000;
            bytes[at..at + 200_000].copy_from_slice(&noise(200_000, 10 * machine + day));
            let point = kit.backup(&format!("m{machine}"), TestDisk::new(bytes.clone()));
            points.push((point, bytes.clone()));
        }
    }
    points
}

fn data_pack(kit: &Kit) -> PathBuf {
    let mut all = packs(kit);
    all.retain(|path| footer(path).kind == PackKind::Data);
    let length = |path: &PathBuf| std::fs::metadata(path).unwrap().len();
    all.into_iter().max_by_key(length).unwrap()
}

fn overwrite(path: &Path, range: std::ops::Range<usize>, with: u8) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[range].fill(with);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn random_damage_within_the_parity_is_repaired() {
    for (number, parity) in [3, 10].into_iter().enumerate() {
        let mut random = Random::new(seed(300) + number as u64);
        let kit = Kit::with_parity(parity);
        let points = history(&kit);
        let before = packs(&kit);
        for pack in &before {
            damage(pack, 1.0, &mut random);
        }
        let found = verify(&kit.reopen(), false, &Silent).unwrap();
        assert!(found.damaged.is_empty() && !found.is_clean(), "{found:?}");
        assert_equal(&kit, &points);
        let report = mend(&kit);
        assert_eq!(report.left, [""; 0]);
        assert_eq!(report.repaired.len(), before.len(), "{report:?}");
        for pack in &before {
            assert!(!pack.exists());
        }
        assert_eq!(packs(&kit).len(), before.len());
        assert_clean(&kit);
        assert_equal(&kit, &points);
        // Nothing is left to do, and backups go on as if nothing had been.
        assert!(mend(&kit).repaired.is_empty());
        let again = kit.backup("m0", TestDisk::new(points[1].1.clone()));
        assert_eq!(
            (again.record.stats.new, again.record.warnings.len()),
            (0, 0)
        );
        assert!(kit.reopen().healed().is_empty());
    }
}

#[test]
fn damage_beyond_the_parity_is_named_and_nothing_is_deleted() {
    let mut random = Random::new(seed(400));
    let kit = Kit::with_parity(1);
    let points = history(&kit);
    let pack = data_pack(&kit);
    damage(&pack, 3.0, &mut random);
    let before = packs(&kit);
    for _ in 0..2 {
        let report = mend(&kit);
        assert!(report.repaired.is_empty(), "{report:?}");
        assert_eq!(report.left.len(), 1);
        assert!(report.left[0].contains(pack.file_name().unwrap().to_str().unwrap()));
        assert_eq!(packs(&kit), before);
    }
    let found = verify(&kit.reopen(), false, &Silent).unwrap();
    assert!(!found.damaged.is_empty());
    // Who sees the bytes stores them anew; then nothing of the old pack is needed.
    for number in [1, 3] {
        let machine = &points[number].0.record.machine;
        kit.backup(machine, TestDisk::new(points[number].1.clone()));
    }
    let found = verify(&kit.reopen(), false, &Silent).unwrap();
    if found.damaged.is_empty() {
        let report = mend(&kit);
        assert!(report.left.is_empty() && !pack.exists(), "{report:?}");
        assert_clean(&kit);
        assert_equal(&kit, &points);
    }
}

#[test]
fn header_table_and_footer_come_from_each_other_and_from_the_index() {
    for part in 0..4 {
        let kit = Kit::new();
        let points = history(&kit);
        let before = packs(&kit);
        for pack in &before {
            let (of, end) = (
                footer(pack),
                std::fs::metadata(pack).unwrap().len() as usize,
            );
            let toc = of.toc_offset as usize;
            let range = [0..64, toc..toc + 40, end - 128..end, toc..end][part].clone();
            overwrite(pack, range, 0xcc);
        }
        let report = mend(&kit);
        assert!(report.left.is_empty(), "{report:?}");
        assert_eq!(report.repaired.len(), before.len());
        assert_clean(&kit);
        assert_equal(&kit, &points);
        assert!(before.iter().all(|pack| !pack.exists()));
    }
}

#[test]
fn damaged_parity_is_written_anew() {
    let kit = Kit::with_parity(3);
    let points = history(&kit);
    let pack = data_pack(&kit);
    let of = footer(&pack);
    let shape = of.shape().unwrap().unwrap();
    let [first, second] = shape.tables().map(|at| at as usize);
    for at in [
        of.parity_offset as usize,
        first,
        second,
        shape.parity_at() as usize,
    ] {
        let whole = data_pack(&kit);
        overwrite(&whole, at..at + 1, 0x77);
        let found = verify(&kit.reopen(), false, &Silent).unwrap();
        assert!(
            !found.is_clean() && found.damaged.is_empty(),
            "{at} {found:?}"
        );
        assert_eq!(mend(&kit).repaired.len(), 1);
        assert_clean(&kit);
        assert!(!whole.exists());
    }
    assert_equal(&kit, &points);
}

#[test]
fn a_pack_cut_short_is_salvaged_up_to_the_cut() {
    for parity in [0, 3] {
        let kit = Kit::with_parity(parity);
        let bytes = noise(2 * R, 7);
        let point = kit.backup("m", TestDisk::new(bytes.clone()));
        let pack = data_pack(&kit);
        let cut = 5_000_000;
        let whole = std::fs::read(&pack).unwrap();
        std::fs::write(&pack, &whole[..cut]).unwrap();
        let report = mend(&kit);
        assert_eq!(
            (report.repaired.len(), report.left.len()),
            (1, 1),
            "{report:?}"
        );
        assert!(pack.exists());
        // What is lost is what lies behind the cut, and the chunk that it goes through.
        std::fs::remove_file(&pack).unwrap();
        let found = verify(&kit.reopen(), false, &Silent).unwrap();
        let lost: u64 = found.damaged.iter().map(|damage| damage.length).sum();
        let behind = (bytes.len() - cut) as u64;
        assert!((behind..behind + 200_000).contains(&lost), "{lost}");
        let disk = crate::kit::open_disk(&kit.reopen(), &point, "disk0");
        let read = cairn_base::read_at::read_vec(&disk, 0, cut - 200_000).unwrap();
        assert!(read == bytes[..cut - 200_000]);
        // Again: nothing more is written.
        std::fs::write(&pack, &whole[..cut]).unwrap();
        let count = packs_count(&kit);
        assert!(mend(&kit).repaired.is_empty());
        assert_eq!(packs_count(&kit), count);
        // The end is back: all is well.
        std::fs::write(&pack, &whole).unwrap();
        assert!(kit.read(&point).unwrap() == bytes);
    }
}

fn packs_count(kit: &Kit) -> usize {
    files_in(kit.path(), "packs").len()
}

#[test]
fn only_the_end_of_a_pack_is_cut_and_parity_gives_it() {
    let kit = Kit::with_parity(25);
    let points = history(&kit);
    let pack = data_pack(&kit);
    let whole = std::fs::read(&pack).unwrap();
    // The footer and the second table are gone.
    let shape = footer(&pack).shape().unwrap().unwrap();
    std::fs::write(&pack, &whole[..shape.tables()[1] as usize]).unwrap();
    let report = mend(&kit);
    assert_eq!(
        (report.repaired.len(), report.left.len()),
        (1, 0),
        "{report:?}"
    );
    assert_clean(&kit);
    assert_equal(&kit, &points);
}

#[test]
fn a_pack_that_is_gone_and_not_needed_is_forgotten() {
    let kit = Kit::new();
    let bytes = noise(R, 9);
    let first = kit.backup("m", TestDisk::new(bytes.clone()));
    let pack = data_pack(&kit);
    std::fs::remove_file(&pack).unwrap();
    let report = mend(&kit);
    assert!(
        report.repaired.is_empty() && report.left.len() == 1,
        "{report:?}"
    );
    let kit = Kit {
        store: kit.reopen(),
        ..kit
    };
    kit.backup("m", TestDisk::new(bytes.clone()));
    assert!(!verify(&kit.reopen(), false, &Silent).unwrap().is_clean());
    let report = mend(&kit);
    assert!(report.left.is_empty(), "{report:?}");
    assert_clean(&kit);
    assert!(kit.read(&first).unwrap() == bytes);
}

#[test]
fn the_index_is_made_anew_from_the_packs() {
    let damages: [fn(&Path); 3] = [
        |segment| std::fs::remove_file(segment).unwrap(),
        |segment| {
            let length = std::fs::metadata(segment).unwrap().len() as usize;
            overwrite(segment, length - 200..length, 0);
        },
        |segment| overwrite(segment, 100..140, 0x11),
    ];
    for (number, hurt) in damages.into_iter().enumerate() {
        let kit = Kit::with_parity(3);
        let points = history(&kit);
        for name in files_in(kit.path(), "index") {
            hurt(&kit.path().join(name));
        }
        let report = mend(&kit);
        assert!(
            report.left.is_empty() && !report.repaired.is_empty(),
            "{report:?}"
        );
        assert_clean(&kit);
        assert_equal(&kit, &points);
        let kit = Kit {
            store: kit.reopen(),
            ..kit
        };
        let again = kit.backup("m1", TestDisk::new(points[3].1.clone()));
        assert_eq!(again.record.warnings, [""; 0], "{number}");
        assert_eq!(again.record.stats.new, 0);
    }
}

struct Now;

impl Clock for Now {
    fn now(&self) -> Time {
        Time::from_seconds(1_800_000_000)
    }
}

#[test]
fn a_lost_state_is_made_anew() {
    for index_too in [false, true] {
        let kit = Kit::new();
        let points = history(&kit);
        let folder = LocalFolder::new(kit.path());
        assert!(!rebuild_state(&folder, &Now).unwrap());
        for slot in ["state.0", "state.1"] {
            std::fs::write(kit.path().join(slot), b"gone").unwrap();
        }
        for name in files_in(kit.path(), "index") {
            if index_too {
                std::fs::remove_file(kit.path().join(name)).unwrap();
            }
        }
        let folder: &dyn Folder = &folder;
        assert!(rebuild_state(folder, &Now).unwrap());
        let report = mend(&kit);
        assert!(report.left.is_empty(), "{report:?}");
        assert_clean(&kit);
        assert_equal(&kit, &points);
        let kit = Kit {
            store: kit.reopen(),
            ..kit
        };
        let again = kit.backup("m1", TestDisk::new(points[3].1.clone()));
        assert_eq!(
            (again.record.stats.new, again.record.warnings.len()),
            (0, 0)
        );
    }
}

#[test]
fn a_sound_store_is_left_as_it_is() {
    let kit = Kit::with_parity(3);
    history(&kit);
    let before = crate::kit::files(kit.path());
    let report = mend(&kit);
    assert!(report.repaired.is_empty() && report.left.is_empty());
    assert_eq!(crate::kit::files(kit.path()), before);
}

#[test]
fn a_sector_counts_once_however_often_it_is_restored() {
    let kit = Kit::with_parity(3);
    let bytes = noise(5 * R, 77);
    let point = kit.backup("m", TestDisk::new(bytes.clone()));
    let pack = data_pack(&kit);
    // One in each stripe, of more stripes than are kept.
    for stripe in 0..5 {
        let at = stripe * (4 << 20) + 300_000;
        overwrite(&pack, at..at + 10, 0x5a);
    }
    assert!(kit.read(&point).unwrap() == bytes);
    let report = mend(&kit);
    let [done] = &report.repaired[..] else {
        panic!("{report:?}");
    };
    assert!(done.what.contains(", 5 sectors restored"), "{}", done.what);
    assert_clean(&kit);
}

#[test]
fn a_file_that_holds_the_only_copy_of_another_pack_is_not_deleted() {
    for parity in [0, 10] {
        let kit = Kit::with_parity(parity);
        let disks = [noise(R, 31), noise(R, 32)];
        let point = kit.backup("a", TestDisk::new(disks[0].clone()));
        let mut points = vec![(point, disks[0].clone())];
        let first = data_pack(&kit);
        let point = kit.backup("b", TestDisk::new(disks[1].clone()));
        points.push((point, disks[1].clone()));
        let mut data = packs(&kit);
        data.retain(|path| footer(path).kind == PackKind::Data && *path != first);
        let second = data.pop().unwrap();
        let aside = kit.path().join("aside");
        let swap = || {
            std::fs::rename(&first, &aside).unwrap();
            std::fs::rename(&second, &first).unwrap();
            std::fs::rename(&aside, &second).unwrap();
        };
        swap();
        assert!(!verify(&kit.reopen(), false, &Silent).unwrap().is_clean());
        // The bytes of one of them are seen again: nothing of that pack is needed any more.
        let kit = Kit {
            store: kit.reopen(),
            ..kit
        };
        kit.backup("a", TestDisk::new(disks[0].clone()));
        assert!(kit.read(&points[0].0).unwrap() == disks[0]);
        let report = mend(&kit);
        assert_eq!(
            (report.repaired.len(), report.left.len()),
            (0, 2),
            "{report:?}"
        );
        swap();
        assert_equal(&kit, &points);
        assert!(mend(&kit).left.is_empty());
        assert_clean(&kit);
        // One that is a copy of a pack which is whole is not the only one.
        std::fs::copy(&second, &first).unwrap();
        assert_eq!(mend(&kit).left, [""; 0]);
        assert!(!first.exists());
        assert_clean(&kit);
        assert_equal(&kit, &points);
    }
}
