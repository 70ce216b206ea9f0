//! Every kind of damage to every kind of file, and then every kind of work.

use crate::damage::{data_pack, flip};
use crate::kit::{Kit, R, TestClock, TestDisk, files, noise, open_disk};
use cairn_base::read_at::read_vec;
use cairn_base::{Folder, Kind, LocalFolder, Silent, SystemClock};
use cairn_store::catalog::all_points;
use cairn_store::hash::ChunkKind;
use cairn_store::read::Wanted;
use cairn_store::tree::Spot;
use cairn_store::verify::{Pick, VerifyReport};
use cairn_store::{ChunkReader, Depth, Point, Store, Tree, VerifyOptions, repair, verify_with};
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

/// What is done to a file.
const DAMAGES: [&str; 9] = [
    "flip",
    "flip more",
    "zero a sector",
    "cut",
    "empty",
    "delete",
    "copy",
    "swap",
    "older",
];
/// What is done then.
const WORK: [&str; 9] = [
    "read",
    "quick",
    "sample",
    "slice",
    "full",
    "deep",
    "backup",
    "changed backup",
    "repair",
];

/// A store of several points, what they hold, and files as they were earlier.
struct Made {
    kit: Kit,
    points: Vec<(Point, Vec<u8>)>,
    older: BTreeMap<String, Vec<u8>>,
}

fn made(parity: u32) -> Made {
    let kit = Kit::with_parity(parity);
    let mut bytes = noise(R + 90_000, 1);
    bytes[120_000..R].fill(0);
    let mut points = vec![(kit.backup("m", TestDisk::new(bytes.clone())), bytes.clone())];
    // A list of damage and a record of proofs, so that they are there to be damaged.
    full(&kit.reopen(), Depth::Tags);
    let older = files(kit.path());
    let older = older.into_iter().map(|file| {
        let content = std::fs::read(kit.path().join(&file)).unwrap();
        (file, content)
    });
    let older: BTreeMap<_, _> = older.collect();
    bytes[50_000..70_000].copy_from_slice(&noise(20_000, 2));
    points.push((kit.backup("m", TestDisk::new(bytes.clone())), bytes.clone()));
    let other = noise(60_000, 3);
    points.push((kit.backup("other", TestDisk::new(other.clone())), other));
    full(&kit.reopen(), Depth::Tags);
    // Damage that came and went, so that there is a list of it.
    let pack = data_pack(&kit);
    let middle = std::fs::metadata(&pack).unwrap().len() / 2;
    flip(&pack, middle);
    let _maybe_healed = kit.read(&points[1].0);
    flip(&pack, middle);
    assert!(kit.path().join("damage").exists() && kit.path().join("proofs").exists());
    Made { kit, points, older }
}

fn full(store: &Arc<Store>, depth: Depth) -> VerifyReport {
    verify_with(
        store,
        &VerifyOptions::at_depth(depth),
        &Silent,
        &SystemClock,
    )
    .unwrap()
}

/// The kind of a file.
fn kind(file: &str) -> &str {
    let end = file.find(['/', '.']).unwrap_or(file.len());
    &file[..end]
}

/// A copy of the store, damaged; `None` if this damage makes no sense here.
fn damaged(made: &Made, file: &str, damage: &str) -> Option<tempfile::TempDir> {
    let temp = tempfile::tempdir().unwrap();
    let all = files(made.kit.path());
    for name in &all {
        let to = temp.path().join(name);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(made.kit.path().join(name), to).unwrap();
    }
    std::fs::create_dir_all(temp.path().join("sessions")).unwrap();
    let path = temp.path().join(file);
    let mut content = std::fs::read(&path).unwrap();
    let length = content.len();
    let write = |content: &[u8]| std::fs::write(&path, content).unwrap();
    match damage {
        "flip" => content[length / 2] ^= 4,
        "flip more" => (0..7).for_each(|part| content[length * part / 7] ^= 0x80),
        "zero a sector" => {
            let start = length / 2 / 512 * 512;
            content[start..length.min(start + 512)].fill(0);
        }
        "cut" => content.truncate(length * 2 / 3),
        "empty" => content.clear(),
        "delete" => std::fs::remove_file(&path).unwrap(),
        "copy" => {
            // Under a name that could be one of ours.
            let name = path.file_name().unwrap().to_str().unwrap();
            let other = name.replace(|c: char| c.is_ascii_digit(), "7");
            let to = path.with_file_name(&other);
            if other == name || to.exists() {
                return None;
            }
            std::fs::copy(&path, to).unwrap();
        }
        "swap" => {
            let like = |name: &&String| kind(name) == kind(file) && *name != file;
            let other = temp.path().join(all.iter().find(like)?);
            write(&std::fs::read(&other).unwrap());
            std::fs::write(other, &content).unwrap();
        }
        _ => content = made.older.get(file).filter(|old| **old != content)?.clone(),
    }
    if !["delete", "copy", "swap"].contains(&damage) {
        write(&content);
    }
    Some(temp)
}

fn open(path: &Path) -> cairn_base::Result<Arc<Store>> {
    let folder: Arc<dyn Folder> = Arc::new(LocalFolder::new(path).without_maps());
    Store::open(folder).map(Arc::new)
}

/// Reads every point that is listed; answers those that cannot be read.
fn lost(path: &Path, known: &[(Point, Vec<u8>)], wrong: &mut Vec<String>) -> BTreeSet<String> {
    let all = known
        .iter()
        .map(|(point, _)| point.id.to_string())
        .collect();
    let Ok(store) = open(path) else { return all };
    let Ok(listing) = all_points(&store) else {
        return all;
    };
    let mut lost = all;
    for point in &listing.points {
        let Some((_, right)) = known.iter().find(|(other, _)| other == point) else {
            wrong.push(format!("a point that nobody made: {}", point.id));
            continue;
        };
        let disk = open_disk(&store, point, "disk0");
        match read_vec(&disk, 0, right.len()) {
            Ok(bytes) if bytes == *right => {
                lost.remove(&point.id.to_string());
            }
            Ok(_) => wrong.push(format!("wrong bytes of {}", point.id)),
            Err(_) => {}
        }
    }
    lost
}

/// Does the work on the damaged store; answers what is not as it must be.
fn check(path: &Path, known: &[(Point, Vec<u8>)], work: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let before = lost(path, known, &mut wrong);
    let mut known = known.to_vec();
    if let Ok(store) = open(path) {
        match work {
            "quick" | "sample" | "slice" => {
                let visible = lost_in_sight(path, &known);
                let report = part(&store, work);
                honest(path, &report, &known, &mut wrong);
                let points = report.damaged.iter().flat_map(|damage| &damage.points);
                let named: BTreeSet<String> = points.map(ToString::to_string).collect();
                if !visible.is_subset(&named) {
                    wrong.push(format!("not named: {:?}", visible.difference(&named)));
                }
            }
            "full" | "deep" => {
                let depth = match work {
                    "full" => Depth::Tags,
                    _ => Depth::Deep,
                };
                let report = full(&store, depth);
                honest(path, &report, &known, &mut wrong);
                verified(&report, &store, &before, &mut wrong);
            }
            "backup" => backed_up(path, store, false, &mut known, &mut wrong),
            "changed backup" => backed_up(path, store, true, &mut known, &mut wrong),
            "repair" => {
                if let Ok(report) = repair(&store, &Silent) {
                    let clean = open(path).map(|store| full(&store, Depth::Deep).is_clean());
                    if report.left.is_empty() && !clean.is_ok_and(|clean| clean) {
                        wrong.push("a repair that left nothing leaves something".to_string());
                    }
                }
            }
            _ => {}
        }
    }
    let after = lost(path, &known, &mut wrong);
    if !after.is_subset(&before) {
        wrong.push(format!("lost by the work: {:?}", after.difference(&before)));
    }
    wrong
}

/// Verifies a part.
fn part(store: &Arc<Store>, work: &str) -> VerifyReport {
    let options = match work {
        "quick" => VerifyOptions::at_depth(Depth::Quick),
        "sample" => VerifyOptions {
            pick: Pick::Sample {
                share: 300_000,
                seed: Some(7),
            },
            ..VerifyOptions::default()
        },
        _ => VerifyOptions {
            pick: Pick::Slice(NonZeroU32::new(3).unwrap()),
            ..VerifyOptions::default()
        },
    };
    verify_with(store, &options, &Silent, &SystemClock).unwrap()
}

/// What is said to be lost of points that somebody made is not to be had.
fn honest(path: &Path, report: &VerifyReport, known: &[(Point, Vec<u8>)], wrong: &mut Vec<String>) {
    let store = open(path).unwrap();
    for damage in &report.damaged {
        let concerned = known.iter().filter(|(p, _)| damage.points.contains(&p.id));
        for (point, _) in concerned {
            let disk = open_disk(&store, point, &damage.disk);
            if read_vec(&disk, damage.offset, damage.length as usize).is_ok() {
                wrong.push(format!("said to be lost, and is not: {damage:?}"));
            }
        }
    }
}

/// The points of which something is lost that can be seen without reading packs of data: of the map, of the index, or with a pack.
fn lost_in_sight(path: &Path, known: &[(Point, Vec<u8>)]) -> BTreeSet<String> {
    let store = open(path).unwrap();
    let (missing, _) = store.missing_packs().unwrap();
    let reader = Arc::new(ChunkReader::new(store.clone(), 0));
    let seen = |point: &Point| -> cairn_base::Result<bool> {
        let tree = Tree::new(reader.clone(), &point.record.disks[0])?;
        for region in 0..tree.shape().regions() {
            let Spot::Leaf(id) = tree.locate(region)? else {
                continue;
            };
            for extent in &tree.leaf(region, id)?.extents {
                let Some(id) = extent.chunk else { continue };
                let places = store.index().places(&id)?;
                let length = Some(extent.length);
                let wanted = Wanted { id, length };
                if places.iter().all(|place| missing.contains(&place.pack))
                    && reader.chunk_uncached(ChunkKind::Data, wanted).is_err()
                {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    };
    let listed = all_points(&store).unwrap().points;
    let all = known.iter().map(|(point, _)| point);
    all.filter(|point| listed.contains(point) && seen(point).unwrap_or(true))
        .map(|point| point.id.to_string())
        .collect()
}

/// What a verification says is lost is lost, and the other way round, for points that are listed.
fn verified(
    report: &VerifyReport,
    store: &Arc<Store>,
    lost: &BTreeSet<String>,
    wrong: &mut Vec<String>,
) {
    let listed = all_points(store).map(|listing| listing.points);
    let listed: BTreeSet<String> = listed
        .unwrap_or_default()
        .iter()
        .map(|p| p.id.to_string())
        .collect();
    // That the newest point is not there at all cannot be known.
    let unseen = lost.iter().filter(|id| !listed.contains(*id)).count();
    if report.is_clean() && lost.len() > unseen {
        wrong.push("a verification sees nothing".to_string());
    }
    let points = report.damaged.iter().flat_map(|damage| &damage.points);
    let named: BTreeSet<String> = points.map(ToString::to_string).collect();
    for id in &listed {
        if named.contains(id) != lost.contains(id) {
            wrong.push(format!(
                "{id}: named {}, lost {}",
                named.contains(id),
                lost.contains(id)
            ));
        }
    }
}

/// Finds what is damaged, and backs up the machine's newest state again: as it was, or told what changed.
fn backed_up(
    path: &Path,
    store: Arc<Store>,
    told: bool,
    known: &mut Vec<(Point, Vec<u8>)>,
    wrong: &mut Vec<String>,
) {
    let (newest, mut bytes) = known[1].clone();
    let kit = Kit {
        temp: tempfile::tempdir().unwrap(),
        store,
        clock: TestClock::at(1_900_000_000),
    };
    full(&kit.store, Depth::Tags);
    let made = if told {
        bytes[1000] ^= 1;
        let disk = Arc::new(TestDisk::new(bytes.clone()));
        kit.changed("m", &newest, disk, &[(1000..1001, false)])
    } else {
        kit.try_backup("m", TestDisk::new(bytes.clone()), &Silent)
    };
    match made {
        Ok(point) => {
            known.push((point.clone(), bytes));
            let after = lost(path, known, wrong);
            if after.contains(&point.id.to_string()) {
                wrong.push("the new point cannot be read".to_string());
            }
            let listed = all_points(&kit.store).map(|listing| listing.points);
            let is_listed = listed.is_ok_and(|points| points.contains(&newest));
            if !told && is_listed && after.contains(&newest.id.to_string()) {
                wrong.push("what was seen again was not healed".to_string());
            }
        }
        Err(error) if matches!(error.kind(), Kind::Invalid | Kind::Busy) => {
            wrong.push(format!("a backup is refused for a wrong reason: {error}"));
        }
        Err(_) => {}
    }
}

fn matrix(parity: u32, share: usize) {
    let made = made(parity);
    let mut cells = 0;
    let mut lossless = 0;
    let mut all_wrong = Vec::new();
    let mut number = 0;
    for file in files(made.kit.path()) {
        if file.starts_with("locks/") || file.ends_with("/lock") {
            continue;
        }
        for damage in DAMAGES {
            let Some(first) = damaged(&made, &file, damage) else {
                continue;
            };
            let mut wrong = Vec::new();
            let none = lost(first.path(), &made.points, &mut wrong).is_empty();
            lossless += usize::from(none);
            let in_place = ["flip", "zero a sector"].contains(&damage);
            if parity > 0 && file.starts_with("packs/") && in_place && !none {
                wrong.push("parity does not help".to_string());
            }
            for work in WORK {
                number += 1;
                if number % share != 0 {
                    continue;
                }
                cells += 1;
                let temp = damaged(&made, &file, damage).unwrap();
                wrong.extend(check(temp.path(), &made.points, work));
                for what in wrong.drain(..) {
                    all_wrong.push(format!("{file}, {damage}, {work}: {what}"));
                }
            }
        }
    }
    println!(
        "parity {parity}: {cells} cells, {lossless} damages without loss, {} violations",
        all_wrong.len()
    );
    println!("COUNTED: {cells} cells of the matrix of damage");
    assert!(cells > 100, "{cells}");
    assert!(all_wrong.is_empty(), "{:#?}", all_wrong);
}

/// Every cell with `MATRIX_ALL=1`, otherwise a share of them that has every row and column.
fn share() -> usize {
    match std::env::var_os("MATRIX_ALL") {
        Some(_) => 1,
        None => 3,
    }
}

#[test]
fn without_parity() {
    matrix(0, share());
}

#[test]
fn with_parity() {
    matrix(10, share());
}
