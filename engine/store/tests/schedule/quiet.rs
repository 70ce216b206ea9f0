//! What must be so when nobody does anything: all points are there, and nothing else.

use crate::acts::{check_clean, read};
use crate::machine::Machine;
use crate::model::{Known, Model};
use cairn_base::{ChunkId, Folder, Silent};
use cairn_store::catalog::{self, all_points};
use cairn_store::layout::{self, HEADERS, STATES};
use cairn_store::map::Shape;
use cairn_store::map::shape::{FANOUT, regions_below};
use cairn_store::pack::PackReader;
use cairn_store::state::State;
use cairn_store::{ChunkReader, Point, PruneOptions, Store, prune};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

type Checked = Result<(), String>;

fn open(machine: &Machine) -> Result<Arc<Store>, String> {
    let folder: Arc<dyn Folder> = Arc::new(machine.clone());
    let store = Store::open(folder).map_err(|e| format!("opening: {e}"))?;
    Ok(Arc::new(store))
}

/// Checks everything, and the model learns how what was open ended.
///
/// # Errors
/// What is not as it must be.
pub fn check(machine: &Machine, model: &mut Model) -> Checked {
    let store = open(machine)?;
    settle(&store, model)?;
    read_all(&store, model)?;
    check_clean(&store)?;
    drop(store);
    give_back(machine)?;
    let store = open(machine)?;
    pins(&store, model)?;
    read_all(&store, model)?;
    check_clean(&store)?;
    nothing_leaks(&store, machine)
}

/// Compares the list of points with what is known.
fn settle(store: &Arc<Store>, model: &mut Model) -> Checked {
    let listing = all_points(store).map_err(|e| format!("listing points: {e}"))?;
    if !listing.damaged.is_empty() {
        return Err(format!("no points: {:?}", listing.damaged));
    }
    let listed: HashMap<_, _> = listing.points.iter().map(|p| (p.id, p)).collect();
    for known in &mut model.points {
        let what = format!(
            "point {} of {}",
            known.point.record.sequence, known.point.record.machine
        );
        match listed.get(&known.id()) {
            Some(_) if known.forgotten => return Err(format!("{what} was forgotten and is there")),
            Some(point) if **point != known.point => return Err(format!("{what} has changed")),
            Some(_) => known.wanted = 0,
            None if known.is_sure() => return Err(format!("{what} was reported and is gone")),
            // Whoever wanted to forget it died, and did.
            None => known.forgotten = true,
        }
    }
    let unsaid = std::mem::take(&mut model.unsaid);
    for point in listing.points {
        if model.find(point.id).is_some() {
            continue;
        }
        let what = format!(
            "point {} of {}",
            point.record.sequence, point.record.machine
        );
        let found = read(store, &point).map_err(|e| format!("{what}, never reported: {e}"))?;
        let mut unsaid = unsaid.iter();
        let bytes = unsaid.find(|(of, bytes)| *of == point.record.machine && **bytes == found);
        let (_, bytes) = bytes.ok_or(format!("{what} is nobody's"))?;
        model.points.push(Known::new(point, bytes.clone()));
    }
    Ok(())
}

fn read_all(store: &Arc<Store>, model: &Model) -> Checked {
    for known in model.points.iter().filter(|known| !known.forgotten) {
        let record = &known.point.record;
        let what = format!("point {} of {}", record.sequence, record.machine);
        let found = read(store, &known.point).map_err(|e| format!("{what}: {e}"))?;
        if found != **known.bytes {
            return Err(format!("{what} has wrong bytes"));
        }
    }
    Ok(())
}

/// Pins are as they were reported.
fn pins(store: &Arc<Store>, model: &mut Model) -> Checked {
    for known in model.points.iter_mut().filter(|known| !known.forgotten) {
        let path = layout::machine_folder(&known.point.record.machine);
        let retention = catalog::retention_of(store, &path).map_err(|e| e.to_string())?;
        let pinned = retention.pin(known.id()).is_some();
        if known.pin.is_some_and(|pin| pin != pinned) {
            return Err(format!("{} pinned: {pinned}", known.id()));
        }
        known.settle(pinned);
    }
    Ok(())
}

/// Prunes of which the last has nothing to do: the second, or the third if the first found that a condemned pack is needed again.
fn give_back(machine: &Machine) -> Checked {
    let options = PruneOptions {
        max_unused: 0,
        ..PruneOptions::default()
    };
    let mut more = true;
    loop {
        let report = prune(&open(machine)?, &options, &Silent);
        let report = report.map_err(|e| format!("pruning: {e}"))?;
        let work = report.dead_packs + report.rewritten_packs + report.deleted_packs;
        let left = report.waiting_packs + report.left.len();
        let revived = report.revived_packs > 0;
        if left > 0
            || report.unused_bytes > 0
            || report.lost > 0
            || !more && work + report.revived_packs > 0
        {
            return Err(format!("a prune leaves something: {report:?}"));
        }
        if work == 0 && !revived {
            return Ok(());
        }
        more = revived;
    }
}

/// Every chunk that a map reaches, found by reading maps as a reader does.
fn needed(store: &Arc<Store>, points: &[Point]) -> Result<HashSet<ChunkId>, String> {
    let reader = ChunkReader::new(store.clone(), 1 << 20);
    let mut needed = HashSet::new();
    for disk in points.iter().flat_map(|point| &point.record.disks) {
        let shape = Shape::of(disk.size).map_err(|e| e.to_string())?;
        let mut open = vec![(ChunkId(disk.root), shape.height(), 0u64)];
        while let Some((id, level, region)) = open.pop() {
            if id.is_null() || !needed.insert(id) {
                continue;
            }
            if level == 0 {
                let leaf = reader.leaf(id, shape.region_length(region));
                let leaf = leaf.map_err(|e| format!("a leaf: {e}"))?;
                needed.extend(leaf.extents.iter().filter_map(|extent| extent.chunk));
                continue;
            }
            let node = reader.node(id, level).map_err(|e| format!("a node: {e}"))?;
            let covers = regions_below(level - 1);
            let regions = (0..FANOUT as u64).map(|child| region + child * covers);
            let children = (0..FANOUT).zip(regions);
            open.extend(children.map(|(child, region)| (node.child(child), level - 1, region)));
        }
    }
    Ok(needed)
}

/// What lies in the folder is what the points need, once.
fn nothing_leaks(store: &Arc<Store>, machine: &Machine) -> Checked {
    let points = all_points(store).map_err(|e| e.to_string())?.points;
    let needed = needed(store, &points)?;
    let mut found = HashSet::new();
    let mut packs = BTreeSet::new();
    for row in store.live_packs() {
        packs.insert(layout::pack(row.id));
        let pack = PackReader::open(machine, store.header().store, row.id);
        let pack = pack.map_err(|e| format!("a live pack: {e}"))?;
        for (_, chunks) in pack.frames() {
            for chunk in chunks {
                if !needed.contains(&chunk.id) {
                    return Err(format!("nothing needs {} in {}", chunk.id, row.id));
                }
                if !found.insert(chunk.id) {
                    return Err(format!("{} is stored twice", chunk.id));
                }
            }
        }
    }
    if found.len() != needed.len() {
        return Err(format!("{} of {} chunks", found.len(), needed.len()));
    }
    files(machine, &points, packs)
}

/// Every file is one that belongs there.
fn files(machine: &Machine, points: &[Point], mut expected: BTreeSet<String>) -> Checked {
    let listed = State::listed(machine).map_err(|e| e.to_string())?;
    let listed = listed.ok_or("a slot of the state is lost")?;
    expected.extend(listed.into_iter().map(layout::segment));
    expected.extend(points.iter().map(|point| {
        let home = layout::machine_folder(&point.record.machine);
        format!("{home}/{}", point.file().name())
    }));
    let (must, all) = (expected.clone(), machine.paths());
    for path in &all {
        let (home, name) = path.rsplit_once('/').unwrap_or(("", path));
        let belongs = match home.split('/').next().unwrap_or_default() {
            "" => is_top(name),
            "locks" => !name.ends_with(".new"),
            "points" => ["name", "lock", "retention"].contains(&name),
            _ => false,
        };
        if !belongs && !expected.remove(path) {
            return Err(format!("nobody needs {path}"));
        }
    }
    let all: BTreeSet<String> = all.into_iter().collect();
    match must.difference(&all).next() {
        Some(path) => Err(format!("{path} is missing")),
        None => Ok(()),
    }
}

fn is_top(name: &str) -> bool {
    let more = [
        layout::POLICY,
        layout::PROOFS,
        layout::RESERVE,
        layout::DAMAGE,
    ];
    HEADERS.contains(&name) || STATES.contains(&name) || more.contains(&name)
}
