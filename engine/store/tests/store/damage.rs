//! Damage is found, named, and never served; what is whole stays readable.

use crate::kit::{Kit, R, TestDisk, files, files_in, mixed, noise, open_disk};
use cairn_base::read_at::read_vec;
use cairn_base::{Folder, Kind, LocalFolder, Monitor, Silent, Stage};
use cairn_store::{Store, catalog, verify};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

pub fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

/// The pack with the most bytes: the one with data.
pub fn data_pack(kit: &Kit) -> std::path::PathBuf {
    let packs = files_in(kit.path(), "packs");
    let largest = packs
        .iter()
        .max_by_key(|p| std::fs::metadata(kit.path().join(p)).unwrap().len());
    kit.path().join(largest.unwrap())
}

#[test]
fn a_flipped_bit_is_named_and_never_served() {
    let kit = Kit::new();
    let bytes = noise(2 * R, 1);
    let point = kit.backup("m", TestDisk::new(bytes.clone()));
    flip(&data_pack(&kit), 1_000_000);
    let error = kit.read(&point).unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged);
    assert!(error.id().is_some() && error.path().is_some(), "{error}");
    let report = verify(&kit.reopen(), false, &Silent).unwrap();
    assert_eq!(report.damaged.len(), 1, "{report:?}");
    let lost = &report.damaged[0];
    assert_eq!(lost.points, [point.id]);
    // Everything around the loss is still there.
    let disk = open_disk(&kit.store, &point, "disk0");
    let (start, end) = (lost.offset as usize, (lost.offset + lost.length) as usize);
    assert_eq!(read_vec(&disk, 0, start).unwrap(), bytes[..start]);
    assert_eq!(
        read_vec(&disk, end as u64, bytes.len() - end).unwrap(),
        bytes[end..]
    );
    assert!(read_vec(&disk, lost.offset, 1).is_err());
}

#[test]
fn every_kind_of_file_may_be_damaged_without_a_wrong_byte() {
    let kit = Kit::new();
    let bytes = mixed(3 * R, 2);
    kit.backup("m", TestDisk::new(bytes.clone()));
    let originals: Vec<(String, Vec<u8>)> = files(kit.path())
        .into_iter()
        .filter(|f| !f.starts_with("locks/") && !f.ends_with("/lock"))
        .map(|f| (f.clone(), std::fs::read(kit.path().join(&f)).unwrap()))
        .collect();
    assert!(originals.len() >= 9, "{originals:?}");
    for (file, content) in &originals {
        let path = kit.path().join(file);
        let mut step = 0u64;
        for damage in 0..24u64 {
            match damage {
                0 => std::fs::remove_file(&path).unwrap(),
                1 => std::fs::write(&path, &content[..content.len() / 2]).unwrap(),
                2 => std::fs::write(&path, b"").unwrap(),
                3 => std::fs::write(&path, vec![0; content.len()]).unwrap(),
                _ => {
                    step = (step * 7919 + damage * 104_729) % 1_000_003;
                    flip(&path, step % content.len() as u64);
                }
            }
            check_nothing_wrong_is_served(kit.path(), &bytes, file);
            std::fs::write(&path, content).unwrap();
        }
    }
    assert!(verify(&kit.reopen(), false, &Silent).unwrap().is_clean());
}

fn check_nothing_wrong_is_served(path: &Path, bytes: &[u8], what: &str) {
    let folder: Arc<dyn Folder> = Arc::new(LocalFolder::new(path).without_maps());
    let Ok(store) = Store::open(folder) else {
        return;
    };
    let store = Arc::new(store);
    let mut whole = true;
    match catalog::latest(&store, "m") {
        Ok(point) => match read_vec(&open_disk(&store, &point, "disk0"), 0, bytes.len()) {
            Ok(read) => assert!(read == bytes, "{what}: wrong bytes were served"),
            Err(_) => whole = false,
        },
        Err(_) => whole = false,
    }
    let report = verify(&store, false, &Silent).unwrap();
    if !whole && report.points == 1 {
        assert!(
            !report.is_clean(),
            "{what}: verify does not see what reading sees"
        );
    }
}

#[test]
fn what_a_lost_pack_held_is_stored_anew() {
    let kit = Kit::new();
    let bytes = mixed(6 * R, 3);
    kit.backup("m", TestDisk::new(bytes.clone()));
    // Each pack in turn: that of data, that of the map.
    for pack in files_in(kit.path(), "packs") {
        std::fs::remove_file(kit.path().join(pack)).unwrap();
        let again = kit.backup("m", TestDisk::new(bytes.clone()));
        assert!(
            again.record.warnings.iter().any(|w| w.contains("missing")),
            "{:?}",
            again.record
        );
        assert!(again.record.stats.stored > 0);
        assert_eq!(kit.read(&again).unwrap(), bytes);
    }
}

#[test]
fn a_lost_segment_is_survived_by_the_next_backup() {
    let kit = Kit::new();
    let bytes = mixed(4 * R, 4);
    let first = kit.backup("m", TestDisk::new(bytes.clone()));
    std::fs::remove_file(kit.path().join(&files_in(kit.path(), "index")[0])).unwrap();
    let kit = Kit {
        store: kit.reopen(),
        ..kit
    };
    assert!(!kit.store.warnings().is_empty());
    assert_eq!(kit.read(&first).unwrap_err().kind(), Kind::Damaged);
    let again = kit.backup("m", TestDisk::new(bytes.clone()));
    assert!(!again.record.warnings.is_empty());
    assert_eq!(kit.read(&again).unwrap(), bytes);
    assert_eq!(kit.read(&first).unwrap(), bytes);
}

#[test]
fn a_lost_segment_does_not_keep_the_others_from_being_merged() {
    let kit = Kit::new();
    // Two that stay apart, because the older one is much larger; the newer one is lost.
    kit.backup("large", TestDisk::new(noise(R, 1)));
    let before = files_in(kit.path(), "index");
    kit.backup("small", TestDisk::new(noise(100_000, 2)));
    let after = files_in(kit.path(), "index");
    let lost: Vec<_> = after.iter().filter(|f| !before.contains(f)).collect();
    assert_eq!((before.len(), lost.len()), (1, 1));
    std::fs::remove_file(kit.path().join(lost[0])).unwrap();
    let kit = Kit {
        store: kit.reopen(),
        ..kit
    };
    for number in 0..20 {
        let bytes = noise(R, 10 + number);
        let point = kit.backup(&format!("m{number}"), TestDisk::new(bytes.clone()));
        assert!(kit.read(&point).unwrap() == bytes);
    }
    let left = files_in(kit.path(), "index").len();
    assert!(left <= 8, "{left} segments");
}

#[test]
fn a_chunk_that_could_not_be_read_is_stored_anew() {
    let kit = Kit::new();
    let bytes = noise(2 * R, 5);
    let base = kit.backup("m", TestDisk::new(bytes.clone()));
    flip(&data_pack(&kit), 1_000_000);
    // This process has met the damage: whether all is read or only what changed, the base is no proof that it is stored.
    let disk = open_disk(&kit.store, &base, "disk0");
    assert!(read_vec(&disk, 0, bytes.len()).is_err());
    let again = kit.backup("m", TestDisk::new(bytes.clone()));
    assert!(again.record.stats.new > 0, "{:?}", again.record.stats);
    assert!(kit.read(&again).unwrap() == bytes);
}

#[test]
fn a_damaged_pack_table_is_survived_by_the_next_backup() {
    let kit = Kit::new();
    let bytes = mixed(4 * R, 60);
    let first = kit.backup("m", TestDisk::new(bytes.clone()));
    let packs = files_in(kit.path(), "packs");
    let (store, id) = (kit.reopen(), kit.store.state().segments[0].id);
    let table_at = store.index().segments()[0].footer().table_at;
    drop(store);
    let segment = cairn_store::layout::segment(cairn_base::SegmentId(id));
    flip(&kit.path().join(segment), table_at + 40);
    let kit = Kit {
        store: kit.reopen(),
        ..kit
    };
    assert_eq!(kit.read(&first).unwrap_err().kind(), Kind::Damaged);
    let report = verify(&kit.store, true, &Silent).unwrap();
    assert!(
        report.problems.iter().any(|p| p.contains("pack table")),
        "{report:?}"
    );
    let again = kit.backup("m", TestDisk::new(bytes.clone()));
    assert!(
        again
            .record
            .warnings
            .iter()
            .any(|w| w.contains("part of the index is lost")),
        "{:?}",
        again.record.warnings
    );
    assert!(again.record.stats.stored > 0);
    assert_eq!(kit.read(&again).unwrap(), bytes);
    assert_eq!(kit.read(&first).unwrap(), bytes);
    // What nobody could look up was not deleted.
    let now = files_in(kit.path(), "packs");
    assert!(packs.iter().all(|pack| now.contains(pack)));
}

#[test]
fn a_lost_slot_of_the_state_loses_nothing() {
    for slot in ["state.0", "state.1"] {
        for gone in [true, false] {
            let kit = Kit::new();
            let first = kit.backup("m", TestDisk::new(noise(R, 5)));
            let second = kit.backup("m", TestDisk::new(noise(R, 6)));
            if gone {
                std::fs::remove_file(kit.path().join(slot)).unwrap();
            } else {
                flip(&kit.path().join(slot), 30);
            }
            // Readers find everything, warned; so do writers, who mend it.
            assert!(!kit.reopen().warnings().is_empty());
            assert_eq!(kit.read(&first).unwrap(), noise(R, 5));
            assert_eq!(kit.read(&second).unwrap(), noise(R, 6));
            let kit = Kit {
                store: kit.reopen(),
                ..kit
            };
            let third = kit.backup("m", TestDisk::new(noise(R, 7)));
            assert!(
                kit.reopen().warnings().is_empty(),
                "{:?}",
                kit.reopen().warnings()
            );
            for (point, seed) in [(&first, 5), (&second, 6), (&third, 7)] {
                assert_eq!(kit.read(point).unwrap(), noise(R, seed));
            }
            assert!(verify(&kit.reopen(), false, &Silent).unwrap().is_clean());
        }
    }
}

#[test]
fn a_backup_over_a_damaged_map_stores_the_map_anew() {
    let kit = Kit::new();
    let bytes = mixed(4 * R, 40);
    kit.backup("m", TestDisk::new(bytes.clone()));
    // The smallest pack is that of the map; its frames begin behind 64 bytes.
    let packs = files_in(kit.path(), "packs");
    let map = packs
        .iter()
        .min_by_key(|p| std::fs::metadata(kit.path().join(p)).unwrap().len());
    flip(&kit.path().join(map.unwrap()), 100);
    let again = kit.backup("m", TestDisk::new(bytes.clone()));
    assert!(
        again
            .record
            .warnings
            .iter()
            .any(|w| w.contains("map is damaged")),
        "{:?}",
        again.record.warnings
    );
    assert_eq!(kit.read(&again).unwrap(), bytes);
}

#[test]
fn a_record_with_names_that_lead_elsewhere_is_refused() {
    let kit = Kit::new();
    let point = kit.backup("m", TestDisk::new(noise(R, 41)));
    for (machine, disk) in [("m", "../x"), ("m", "/etc/x"), ("../m", "disk0")] {
        let mut record = point.record.clone();
        record.sequence = 7;
        record.machine = machine.to_string();
        record.disks[0].name = disk.to_string();
        std::fs::create_dir_all(
            kit.path()
                .join(cairn_store::layout::machine_folder(machine)),
        )
        .unwrap();
        let made = catalog::publish_point(&kit.store, record).unwrap();
        let listing = catalog::all_points(&kit.store).unwrap();
        assert_eq!(
            (listing.points.len(), listing.damaged.len()),
            (1, 1),
            "{machine} {disk}"
        );
        let folder = kit
            .path()
            .join(cairn_store::layout::machine_folder(machine));
        std::fs::remove_file(folder.join(made.file().name())).unwrap();
    }
}

#[test]
fn a_slot_of_a_newer_version_is_refused_and_never_written_over() {
    for slot in ["state.0", "state.1"] {
        let kit = Kit::new();
        kit.backup("m", TestDisk::new(noise(R, 50)));
        let path = kit.path().join(slot);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[8] = 99;
        let end = bytes.len() - 16;
        let sum = cairn_store::hash::checksum(&bytes[..end]);
        bytes[end..].copy_from_slice(&sum);
        std::fs::write(&path, &bytes).unwrap();
        let folder: Arc<dyn Folder> = Arc::new(LocalFolder::new(kit.path()));
        assert_eq!(Store::open(folder).err().unwrap().kind(), Kind::Unsupported);
        let error = kit
            .try_backup("m", TestDisk::new(noise(R, 51)), &Silent)
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}

/// Removes a file when the backup has begun to read.
struct RemoveOnce(Mutex<Option<std::path::PathBuf>>);

impl Monitor for RemoveOnce {
    fn advance(&self, _stage: Stage, _amount: u64) {
        if let Some(path) = self.0.lock().unwrap().take() {
            std::fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn a_slot_that_is_lost_during_a_backup_loses_nothing() {
    for slot in ["state.0", "state.1"] {
        let kit = Kit::new();
        let first = kit.backup("a", TestDisk::new(noise(R, 20)));
        let second = kit.backup("b", TestDisk::new(noise(8 * R, 21)));
        let remove = RemoveOnce(Mutex::new(Some(kit.path().join(slot))));
        let third = kit
            .try_backup("c", TestDisk::new(noise(2 * R, 22)), &remove)
            .unwrap();
        // Twice more, so that whatever was left unlisted would have been swept.
        kit.backup("c", TestDisk::new(noise(R, 23)));
        kit.backup("c", TestDisk::new(noise(R, 24)));
        assert_eq!(kit.read(&first).unwrap(), noise(R, 20));
        assert_eq!(kit.read(&second).unwrap(), noise(8 * R, 21));
        assert_eq!(kit.read(&third).unwrap(), noise(2 * R, 22));
        assert!(verify(&kit.reopen(), false, &Silent).unwrap().is_clean());
    }
}

#[test]
fn a_segment_that_cannot_be_read_is_never_deleted() {
    for slot in ["state.0", "state.1"] {
        let kit = Kit::new();
        let bytes = noise(8 * R, 25);
        let first = kit.backup("a", TestDisk::new(bytes.clone()));
        let segment = kit.path().join(&files_in(kit.path(), "index")[0]);
        let whole = std::fs::read(&segment).unwrap();
        flip(&segment, whole.len() as u64 - 100);
        std::fs::remove_file(kit.path().join(slot)).unwrap();
        let kit = Kit {
            store: kit.reopen(),
            ..kit
        };
        for seed in 0..4 {
            let point = kit.backup("b", TestDisk::new(noise(R, 30 + seed)));
            assert!(!point.record.warnings.is_empty());
        }
        // What comes back is all there again.
        std::fs::write(&segment, whole).unwrap();
        assert_eq!(kit.read(&first).unwrap(), bytes);
        assert!(verify(&kit.reopen(), false, &Silent).unwrap().is_clean());
    }
}

#[test]
fn lost_copies_of_the_header_are_mended_by_the_next_writer() {
    let kit = Kit::new();
    let point = kit.backup("m", TestDisk::new(noise(R, 8)));
    flip(&kit.path().join("header.0"), 50);
    std::fs::remove_file(kit.path().join("header.2")).unwrap();
    assert_eq!(kit.reopen().warnings().len(), 2);
    let kit = Kit {
        store: kit.reopen(),
        ..kit
    };
    kit.backup("m", TestDisk::new(noise(R, 9)));
    assert!(kit.reopen().warnings().is_empty());
    assert_eq!(kit.read(&point).unwrap(), noise(R, 8));
}

#[test]
fn a_damaged_point_does_not_hide_the_others() {
    let kit = Kit::new();
    kit.backup("m", TestDisk::new(noise(R, 10)));
    kit.backup("m", TestDisk::new(noise(R, 11)));
    let newest = files_in(kit.path(), "points")
        .into_iter()
        .rfind(|f| {
            !["/lock", "/name", "/retention"]
                .iter()
                .any(|end| f.ends_with(end))
        })
        .unwrap();
    flip(&kit.path().join(&newest), 60);
    let listing = catalog::machine_points(&kit.store, "m").unwrap();
    assert_eq!((listing.points.len(), listing.damaged.len()), (1, 1));
    // The one before is not what `latest` asks for.
    assert_eq!(
        catalog::latest(&kit.store, "m").unwrap_err().kind(),
        Kind::Damaged
    );
    let third = kit.backup("m", TestDisk::new(noise(R, 12)));
    assert_eq!(third.record.sequence, 3);
    assert!(!third.record.warnings.is_empty());
}

#[test]
fn a_point_that_is_gone_is_missed() {
    let kit = Kit::new();
    let points: Vec<_> = (0..4)
        .map(|seed| kit.backup("m", TestDisk::new(noise(50_000, seed))))
        .collect();
    let folder = kit.path().join(cairn_store::layout::machine_folder("m"));
    let file = |number: usize| folder.join(points[number].file().name());
    for gone in [0, 1, 2] {
        let bytes = std::fs::read(file(gone)).unwrap();
        std::fs::remove_file(file(gone)).unwrap();
        let report = verify(&kit.reopen(), true, &Silent).unwrap();
        let said = format!("point number {} in", gone + 1);
        assert!(
            report.problems.iter().any(|p| p.contains(&said)),
            "{report:?}"
        );
        std::fs::write(file(gone), bytes).unwrap();
        assert!(verify(&kit.reopen(), true, &Silent).unwrap().is_clean());
    }
    (0..4).for_each(|number| std::fs::remove_file(file(number)).unwrap());
    let report = verify(&kit.reopen(), true, &Silent).unwrap();
    assert!(
        report
            .problems
            .iter()
            .any(|p| p.contains("all recovery points")),
        "{report:?}"
    );
}
