//! What a verification says of damage, and what a restore gives.

use crate::kit::{Kit, R, TestDisk, files_in, noise, open_disk};
use crate::verifying::{at_depth, flip, largest_pack, run};
use cairn_base::read_at::read_vec;
use cairn_base::{Kind, LocalFolder};
use cairn_store::PointName;
use cairn_store::catalog::{self, all_points};
use cairn_store::damage::DamageList;
use cairn_store::hash::checksum;
use cairn_store::verify::{Depth, Pick};
use cairn_store::{VerifyOptions, VerifyReport, stats};
use std::num::NonZeroU32;
use std::path::PathBuf;

fn list(kit: &Kit) -> DamageList {
    DamageList::read(&LocalFolder::new(kit.path())).unwrap()
}

/// Every way that does not read all packs.
fn parts() -> Vec<VerifyOptions> {
    let pick = |pick| VerifyOptions {
        pick,
        ..VerifyOptions::default()
    };
    let sample = |seed| Pick::Sample {
        share: 1,
        seed: Some(seed),
    };
    let mut all: Vec<_> = (0..4).map(|seed| pick(sample(seed))).collect();
    all.push(pick(Pick::Slice(NonZeroU32::new(50).unwrap())));
    all.push(VerifyOptions::at_depth(Depth::Quick));
    all
}

fn said(report: &VerifyReport) -> String {
    report.problems.join("\n")
}

#[test]
fn what_parity_restores_is_not_lost_however_little_is_read() {
    let kit = Kit::with_parity(10);
    let bytes = noise(2 * R, 1);
    let point = kit.backup("m", TestDisk::new(bytes.clone()));
    let pack = kit.path().join(largest_pack(kit.path()));
    flip(&pack, std::fs::metadata(&pack).unwrap().len() / 3);
    // The damage is met, and noted.
    assert_eq!(kit.read(&point).unwrap(), bytes);
    assert!(!list(&kit).is_empty());
    for options in parts() {
        let report = run(kit.path(), &options);
        assert!(report.damaged.is_empty(), "{options:?}: {report:?}");
        let name = pack.file_name().unwrap().to_str().unwrap();
        assert!(said(&report).contains(name), "{options:?}: {report:?}");
        assert!(said(&report).contains("--repair"), "{report:?}");
        let bad: Vec<String> = report.bad_packs.iter().map(ToString::to_string).collect();
        assert_eq!(bad, [name], "{options:?}");
    }
}

#[test]
fn damage_that_came_and_went_is_not_lost() {
    let kit = Kit::new();
    let point = kit.backup("m", TestDisk::new(noise(R, 2)));
    let pack = kit.path().join(largest_pack(kit.path()));
    flip(&pack, 200_000);
    assert_eq!(kit.read(&point).unwrap_err().kind(), Kind::Damaged);
    for options in parts() {
        assert_eq!(run(kit.path(), &options).damaged.len(), 1, "{options:?}");
    }
    flip(&pack, 200_000);
    assert!(!list(&kit).is_empty());
    assert!(at_depth(kit.path(), Depth::Quick).is_clean());
    assert!(at_depth(kit.path(), Depth::Tags).is_clean());
    assert!(list(&kit).is_empty());
}

#[test]
fn of_a_pack_that_was_cut_short_only_what_cannot_be_read_is_lost() {
    let kit = Kit::new();
    let point = kit.backup("m", TestDisk::new(noise(R, 3)));
    let pack = kit.path().join(largest_pack(kit.path()));
    let half = std::fs::metadata(&pack).unwrap().len() / 2;
    let file = std::fs::File::options().write(true).open(&pack).unwrap();
    file.set_len(half).unwrap();
    for depth in [Depth::Quick, Depth::Tags, Depth::Deep] {
        let report = at_depth(kit.path(), depth);
        let mut lost = 0;
        for damage in &report.damaged {
            let disk = open_disk(&kit.reopen(), &point, "disk0");
            assert!(read_vec(&disk, damage.offset, damage.length as usize).is_err());
            lost += damage.length;
        }
        let (least, most) = (R as u64 * 45 / 100, R as u64 * 55 / 100);
        assert!((least..most).contains(&lost), "{depth:?}: {lost}");
        assert!(said(&report).contains("--repair"), "{report:?}");
    }
}

/// A disk of 3 GiB, nearly all of it one pattern; backed up twice with a change at its start in between, so that the upper nodes and
/// the first of the lower ones lie in another pack than the rest of the map.
#[test]
fn a_lost_part_of_a_map_is_one_damage() {
    let kit = Kit::new();
    let size = (3u64 << 30) + 5000;
    let mut bytes = vec![0; size as usize];
    for gib in 0..3 {
        bytes[gib << 30..(gib << 30) + 20 * R].copy_from_slice(&noise(R, 4).repeat(20));
    }
    let end = bytes.len() - 5000;
    bytes[end..].copy_from_slice(&noise(5000, 5));
    let mut disk = TestDisk::new(bytes.clone());
    let used = (0..3u64).map(|gib| gib << 30..(gib << 30) + 20 * R as u64);
    let used: Vec<_> = used.chain(std::iter::once(end as u64..size)).collect();
    disk.extents = Some(used.clone());
    let first = kit.backup("m", disk);
    let maps = map_packs(&kit);
    bytes[0] ^= 1;
    let mut disk = TestDisk::new(bytes);
    disk.extents = Some(used);
    let second = kit.backup("m", disk);
    assert_eq!(maps.len(), 1);
    std::fs::remove_file(&maps[0]).unwrap();
    for depth in [Depth::Quick, Depth::Tags] {
        let report = at_depth(kit.path(), depth);
        let of = |point: &cairn_store::Point| {
            let all = report.damaged.iter();
            let all = all.filter(|damage| damage.points.contains(&point.id));
            let mut places: Vec<_> = all.map(|d| (d.offset, d.length)).collect();
            places.sort_unstable();
            places
        };
        assert_eq!(of(&first), [(0, size)], "{depth:?}");
        let gib = 1 << 30;
        // What is left of the first GiB: its leaves, all the same one.
        let mut wanted: Vec<_> = (1..20).map(|n| (n * R as u64, R as u64)).collect();
        wanted.extend([(gib, gib), (2 * gib, gib), (3 * gib, 5000)]);
        assert_eq!(of(&second), wanted, "{depth:?}");
    }
}

fn map_packs(kit: &Kit) -> Vec<PathBuf> {
    let packs = kit.store.live_packs().into_iter();
    packs
        .filter(|row| row.kind == cairn_store::pack::PackKind::Map)
        .map(|row| kit.path().join(cairn_store::layout::pack(row.id)))
        .collect()
}

#[test]
fn the_end_of_a_disk_that_grew_is_compared_right() {
    let kit = Kit::new();
    let mut points = Vec::new();
    // Higher, lower, longer and shorter in turn, with the same data.
    for regions in [1, 3, 300, 2, 257, 1] {
        let mut bytes = vec![0; regions * R];
        let used = R.min(bytes.len());
        bytes[..used].copy_from_slice(&noise(used, 6));
        let mut disk = TestDisk::new(bytes);
        disk.extents = Some(std::iter::once(0..used as u64).collect());
        points.push(kit.backup("m", disk));
    }
    let pack = kit.path().join(largest_pack(kit.path()));
    flip(&pack, 100_000);
    let report = at_depth(kit.path(), Depth::Tags);
    assert_eq!(report.damaged.len(), 1, "{report:?}");
    assert_eq!(report.damaged[0].points.len(), points.len());
}

#[test]
fn a_pack_whose_structures_and_sectors_are_damaged_has_its_places_listed() {
    let kit = Kit::with_parity(10);
    let bytes = noise(2 * R, 7);
    let point = kit.backup("m", TestDisk::new(bytes.clone()));
    let pack = kit.path().join(largest_pack(kit.path()));
    let length = std::fs::metadata(&pack).unwrap().len();
    flip(&pack, 3);
    flip(&pack, length / 3);
    let report = at_depth(kit.path(), Depth::Tags);
    assert!(
        report.damaged.is_empty() && !report.is_clean(),
        "{report:?}"
    );
    assert!(said(&report).contains("restores all"), "{report:?}");
    let known = list(&kit).len();
    assert!((1..20).contains(&known), "{known}");
    assert_eq!(kit.read(&point).unwrap(), bytes);
}

#[test]
fn damage_of_the_parity_is_told_beside_damage_that_it_restores() {
    let kit = Kit::with_parity(10);
    kit.backup("m", TestDisk::new(noise(2 * R, 8)));
    let pack = kit.path().join(largest_pack(kit.path()));
    let length = std::fs::metadata(&pack).unwrap().len();
    flip(&pack, length / 3);
    flip(&pack, length - 40_000);
    let report = at_depth(kit.path(), Depth::Tags);
    assert!(report.damaged.is_empty(), "{report:?}");
    assert!(said(&report).contains("restores all"), "{report:?}");
    assert!(
        said(&report).contains("sectors of the parity"),
        "{report:?}"
    );
}

#[test]
fn a_list_of_damage_of_a_newer_version_is_left_alone() {
    let kit = Kit::new();
    let point = kit.backup("m", TestDisk::new(noise(R, 9)));
    let pack = kit.path().join(largest_pack(kit.path()));
    flip(&pack, 100_000);
    kit.read(&point).unwrap_err();
    let path = kit.path().join("damage");
    let mut newer = std::fs::read(&path).unwrap();
    newer[8] = 99;
    let end = newer.len() - 16;
    let sum = checksum(&newer[..end]);
    newer[end..].copy_from_slice(&sum);
    std::fs::write(&path, &newer).unwrap();
    let read = DamageList::read(&LocalFolder::new(kit.path()));
    assert_eq!(read.unwrap_err().kind(), Kind::Unsupported);
    for depth in [Depth::Quick, Depth::Tags, Depth::Deep] {
        let report = at_depth(kit.path(), depth);
        assert!(said(&report).contains("known to be damaged"), "{report:?}");
        assert_eq!(std::fs::read(&path).unwrap(), newer, "{depth:?}");
    }
    // One that is damaged is written anew by who reads everything.
    newer[30] ^= 1;
    std::fs::write(&path, &newer).unwrap();
    assert_eq!(at_depth(kit.path(), Depth::Tags).damaged.len(), 1);
    assert!(!list(&kit).is_empty());
}

#[test]
fn a_folder_that_cannot_be_listed_hides_no_other() {
    let kit = Kit::new();
    let a = kit.backup("a", TestDisk::new(noise(9000, 10)));
    let b = kit.backup("b", TestDisk::new(noise(9000, 11)));
    let c = kit.backup("c", TestDisk::new(noise(9000, 12)));
    let home = kit.path().join(cairn_store::layout::machine_folder("b"));
    std::fs::rename(&home, kit.path().join("elsewhere")).unwrap();
    std::fs::write(&home, b"no folder").unwrap();
    let store = kit.reopen();
    let listing = all_points(&store).unwrap();
    let ids: Vec<_> = listing.points.iter().map(|point| point.id).collect();
    assert_eq!(ids, [a.id, c.id]);
    assert_eq!(listing.damaged.len(), 1);
    let name = home.file_name().unwrap().to_str().unwrap();
    assert!(listing.damaged[0].to_string().contains(name));
    let report = at_depth(kit.path(), Depth::Tags);
    assert_eq!(report.points, 2);
    assert!(said(&report).contains(name), "{report:?}");
    let counted = stats(&store, &kit.clock).unwrap();
    assert_eq!((counted.points, counted.damaged.len()), (2, 1));
    let find = |id: &str| catalog::find(&store, &PointName::Prefix(id.to_string()));
    assert_eq!(find(&a.id.to_string()).unwrap(), a);
    // Whether it is the only one with these digits cannot be told, nor whether the other one is gone.
    let short = find(&a.id.to_string()[..8]).unwrap_err().to_string();
    assert!(short.contains("all digits"), "{short}");
    find(&b.id.to_string()).unwrap_err();
    assert_eq!(catalog::latest(&store, "c").unwrap(), c);
}

#[test]
fn a_point_that_was_renamed_is_not_gone() {
    let kit = Kit::new();
    let points: Vec<_> = (0..3)
        .map(|seed| kit.backup("m", TestDisk::new(noise(9000, seed))))
        .collect();
    let file = |number: usize| {
        let home = kit.path().join(cairn_store::layout::machine_folder("m"));
        home.join(points[number].file().name())
    };
    for name in ["mine", &"x".repeat(90)] {
        let to = file(0).with_file_name(name);
        std::fs::rename(file(0), &to).unwrap();
        let report = at_depth(kit.path(), Depth::Quick);
        assert_eq!(report.problems.len(), 1, "{report:?}");
        assert!(said(&report).contains("not named like one"), "{report:?}");
        std::fs::rename(&to, file(0)).unwrap();
    }
    // One that cannot be read may be the one; one that is gone is told as that.
    std::fs::write(file(0).with_file_name("mine"), b"what?").unwrap();
    std::fs::remove_file(file(1)).unwrap();
    let report = at_depth(kit.path(), Depth::Quick);
    assert!(said(&report).contains("number 2"), "{report:?}");
    assert!(said(&report).contains("unless it is one of"), "{report:?}");
    assert_eq!(report.problems.len(), 2, "{report:?}");
    assert!(!files_in(kit.path(), "points").is_empty());
}
