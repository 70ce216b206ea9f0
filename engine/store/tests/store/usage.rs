//! What points need, against sets of all chunks of all points.

use super::kit::{Kit, R, TestDisk, files_in, input, noise};
use cairn_base::{ChunkId, Kind, Silent};
use cairn_store::layout;
use cairn_store::map::Shape;
use cairn_store::pack::PackReader;
use cairn_store::tree::Spot;
use cairn_store::{
    BackupOptions, ChunkReader, Point, Store, Totals, Tree, Usage, UsageOptions, backup, catalog,
    usage,
};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Every chunk of a point with its plain length (0: a part of a map), and the bytes of its disks that are not holes. Region by region.
fn reached(store: &Arc<Store>, point: &Point) -> (HashMap<ChunkId, u64>, u64) {
    let reader = Arc::new(ChunkReader::new(store.clone(), 0));
    let (mut all, mut used) = (HashMap::new(), 0);
    for disk in &point.record.disks {
        let tree = Tree::new(reader.clone(), disk).unwrap();
        let shape = Shape::of(disk.size).unwrap();
        for region in 0..shape.regions() {
            let Spot::Leaf(id) = tree.locate(region).unwrap() else {
                continue;
            };
            let (mut at, mut level) = (tree.root(), shape.height());
            while level > 0 {
                all.insert(at, 0);
                let node = tree.node(at, level).unwrap();
                at = node.child(Shape::child_index(region, level));
                level -= 1;
            }
            assert_eq!(at, id);
            all.insert(id, 0);
            for extent in &tree.leaf(region, id).unwrap().extents {
                if let Some(chunk) = extent.chunk {
                    all.insert(chunk, u64::from(extent.length));
                    used += u64::from(extent.length);
                }
            }
        }
    }
    (all, used)
}

/// What each chunk takes, and what lies in two packs.
fn costs(store: &Store) -> (HashMap<ChunkId, u64>, u64) {
    let (mut costs, mut twice) = (HashMap::new(), 0);
    for row in store.live_packs() {
        let pack = PackReader::open(&**store.folder(), store.header().store, row.id).unwrap();
        for (frame, chunks) in pack.frames() {
            let (mut plain, mut told) = (0u64, 0u64);
            for chunk in chunks {
                plain += u64::from(chunk.length);
                let until = plain * u64::from(frame.stored) / u64::from(frame.raw);
                match costs.entry(chunk.id) {
                    Entry::Occupied(_) => twice += until - told,
                    Entry::Vacant(vacant) => drop(vacant.insert(until - told)),
                }
                told = until;
            }
            assert_eq!(told, u64::from(frame.stored));
        }
    }
    (costs, twice)
}

/// What machines need.
fn check_machines(
    found: &Usage,
    users: &HashMap<ChunkId, BTreeSet<usize>>,
    costs: &HashMap<ChunkId, u64>,
) {
    let cost = |ids: &mut dyn Iterator<Item = &ChunkId>| ids.map(|id| costs[id]).sum::<u64>();
    let mut machines: BTreeMap<usize, HashSet<usize>> = BTreeMap::new();
    for (number, told) in found.points.iter().enumerate() {
        machines.entry(told.machine).or_default().insert(number);
    }
    assert_eq!(machines.len(), found.machines.len());
    for (machine, theirs) in machines {
        let told = &found.machines[machine];
        assert_eq!(told.points, theirs.len() as u64);
        let is_theirs = |number: &usize| theirs.contains(number);
        let mut stored = users.keys().filter(|id| users[*id].iter().any(is_theirs));
        assert_eq!(told.stored_bytes, cost(&mut stored));
        let mut unique = users.keys().filter(|id| users[*id].iter().all(is_theirs));
        assert_eq!(told.unique_bytes, cost(&mut unique));
    }
}

/// Everything once more, with sets.
fn check(store: &Arc<Store>, forget: &[&Point], found: &Usage) {
    let points = catalog::all_points(store).unwrap().points;
    let (costs, twice) = costs(store);
    let all: Vec<_> = points.iter().map(|point| reached(store, point)).collect();
    let mut users: HashMap<ChunkId, BTreeSet<usize>> = HashMap::new();
    let mut lengths = HashMap::new();
    for (number, (chunks, _)) in all.iter().enumerate() {
        for (id, length) in chunks {
            users.entry(*id).or_default().insert(number);
            lengths.insert(*id, *length);
        }
    }
    assert_eq!(found.points.len(), points.len());
    let cost = |ids: &mut dyn Iterator<Item = &ChunkId>| ids.map(|id| costs[id]).sum::<u64>();
    for (number, (point, (chunks, used))) in points.iter().zip(&all).enumerate() {
        let told = &found.points[number];
        assert_eq!(told.point, point.id);
        let machine = &found.machines[told.machine];
        assert_eq!(machine.machine, point.record.machine);
        assert_eq!(told.used_bytes, *used, "{number}");
        assert_eq!(told.stored_bytes, cost(&mut chunks.keys()), "{number}");
        let alone = BTreeSet::from([number]);
        let mut unique = chunks.keys().filter(|id| users[*id] == alone);
        assert_eq!(told.unique_bytes, cost(&mut unique), "{number}");
    }
    check_machines(found, &users, &costs);
    let gone = |number: &usize| forget.iter().any(|point| point.id == points[*number].id);
    let mut freed = users.keys().filter(|id| users[*id].iter().all(gone));
    assert_eq!(found.frees, cost(&mut freed));
    let is_data = |id: &&ChunkId| lengths[*id] > 0;
    let totals = Totals {
        logical_bytes: points
            .iter()
            .flat_map(|p| &p.record.disks)
            .map(|d| d.size)
            .sum(),
        used_bytes: all.iter().map(|(_, used)| used).sum(),
        distinct_bytes: lengths.values().sum(),
        data_bytes: cost(&mut users.keys().filter(is_data)),
        map_bytes: cost(&mut users.keys().filter(|id| !is_data(id))),
        unneeded_bytes: cost(&mut costs.keys().filter(|id| !users.contains_key(*id))),
        duplicate_bytes: twice,
        overhead_bytes: found.totals.overhead_bytes,
        unread_bytes: 0,
        pack_bytes: store.live_packs().iter().map(|row| row.length).sum(),
        lost_places: 0,
    };
    assert_eq!(found.totals, totals);
    let parts = [
        totals.data_bytes,
        totals.map_bytes,
        totals.unneeded_bytes,
        totals.duplicate_bytes,
        totals.overhead_bytes,
    ];
    assert_eq!(parts.iter().sum::<u64>(), totals.pack_bytes);
    assert!(found.damaged.is_empty());
}

fn ask(store: &Arc<Store>, forget: &[&Point], memory: u64) -> Usage {
    let options = UsageOptions {
        forget: forget.iter().map(|point| point.id).collect(),
        memory,
    };
    usage(store, &options, &Silent).unwrap()
}

/// Points of three machines: parts come, go and come back, move, are shared between machines and disks, disks come and go.
fn history(kit: &Kit) -> Vec<Point> {
    let mut points = Vec::new();
    let mut random = 7u64;
    let mut next = |below: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for round in 0..6u64 {
        for machine in ["a", "b", "c"] {
            let mut disk = |seed: u64| {
                // Pieces out of a small stock, so that they meet again.
                let mut bytes = Vec::new();
                for _ in 0..5 {
                    let piece = 1 + next(6);
                    bytes.extend(noise(350_000, piece * (1 + next(2) * (seed + 10 * round))));
                    bytes.resize(bytes.len() + next(3) as usize * 100_000, 0);
                }
                bytes.resize(R + 300_000 * next(4) as usize, 0);
                TestDisk::new(bytes)
            };
            let mut disks = vec![input("disk0", disk(1))];
            if round % 2 == 0 || machine == "b" {
                disks.push(input("Data", disk(2)));
            }
            let options = BackupOptions::new(machine);
            let made = backup(&kit.store, &disks, &options, &Silent, &kit.clock);
            points.push(made.unwrap().point);
        }
    }
    points
}

#[test]
fn every_number_is_that_of_sets_of_all_chunks() {
    let kit = Kit::new();
    let points = history(&kit);
    let store = kit.reopen();
    let forget = [
        &points[0],
        &points[3],
        &points[4],
        &points[6],
        &points[9],
        &points[17],
    ];
    let once = ask(&store, &forget, 192 << 20);
    assert_eq!(once.passes, 1);
    check(&store, &forget, &once);
    assert!(once.frees > 0 && once.points.iter().any(|point| point.unique_bytes > 0));
    assert_eq!(once.totals.unneeded_bytes, 0);
    // With little memory it is the same, in several passes.
    let often = ask(&store, &forget, 0);
    assert!(often.passes > 1);
    check(&store, &forget, &often);
    // The order of the points does not matter, nor that all are to go.
    let every: Vec<&Point> = points.iter().collect();
    let all = ask(&store, &every, 192 << 20);
    assert_eq!(all.frees, all.totals.data_bytes + all.totals.map_bytes);
    assert_eq!(ask(&store, &[], 192 << 20).frees, 0);
}

#[test]
fn what_no_point_needs_is_told_and_what_is_freed_comes_true() {
    let kit = Kit::new();
    let points = history(&kit);
    let gone: Vec<&Point> = points.iter().step_by(4).collect();
    let before = ask(&kit.reopen(), &gone, 192 << 20);
    for point in &gone {
        let folder = layout::machine_folder(&point.record.machine);
        let path = kit.path().join(folder).join(point.file().name());
        std::fs::remove_file(path).unwrap();
    }
    let store = kit.reopen();
    let after = ask(&store, &[], 192 << 20);
    check(&store, &[], &after);
    assert_eq!(after.totals.unneeded_bytes, before.frees);
    assert!(before.frees > 0);
}

#[test]
fn what_is_lost_is_named() {
    let kit = Kit::new();
    let points = history(&kit);
    let missing = UsageOptions {
        forget: vec![points[0].id],
        ..UsageOptions::default()
    };
    let folder = layout::machine_folder("a");
    let path = kit.path().join(folder).join(points[0].file().name());
    std::fs::remove_file(path).unwrap();
    let failed = usage(&kit.reopen(), &missing, &Silent).unwrap_err();
    assert_eq!(failed.kind(), Kind::NotFound);
    // A pack of data that is gone: the numbers are told without it.
    let store = kit.reopen();
    let largest = store.live_packs().into_iter().max_by_key(|row| row.length);
    let largest = largest.unwrap();
    std::fs::remove_file(kit.path().join(layout::pack(largest.id))).unwrap();
    let found = ask(&kit.reopen(), &[], 192 << 20);
    assert_eq!(found.damaged.len(), 1);
    assert_eq!(found.totals.unread_bytes, largest.length);
    assert!(found.totals.lost_places > 0);
    // Without maps nothing can be said.
    for pack in files_in(kit.path(), "packs") {
        std::fs::remove_file(kit.path().join(pack)).unwrap();
    }
    let failed = usage(&kit.reopen(), &UsageOptions::default(), &Silent).unwrap_err();
    assert_eq!(failed.kind(), Kind::Damaged);
    assert!(failed.to_string().contains("recovery point"), "{failed}");
}
