//! A store with a past, and what was stored in it.

use cairn_base::read_at::read_vec;
use cairn_base::{Clock, Folder, LocalFolder, ReadAt, Result, Silent, Time};
use cairn_store::catalog::{Pin, all_points, set_pin};
use cairn_store::{
    BackupOptions, ChunkReader, CutParameters, DiskInput, ImageFacts, Point, Store, StoredDisk,
    Tree, backup, layout, verify,
};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

static NOW: AtomicI64 = AtomicI64::new(1_800_000_000);
static SEED: AtomicU64 = AtomicU64::new(1);

/// A clock that goes on by a minute whenever it is asked.
pub struct Ticking;

impl Clock for Ticking {
    fn now(&self) -> Time {
        Time::from_seconds(NOW.fetch_add(60, Ordering::Relaxed))
    }
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; length];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut out);
    out
}

/// A disk that no other is equal to: what all have, zeros, and bytes of its own.
pub fn disk() -> Arc<Vec<u8>> {
    let own = SEED.fetch_add(1, Ordering::Relaxed) + 1000;
    Arc::new([noise(60_000, 1), vec![0; 40_000], noise(60_000, own)].concat())
}

/// A point that was reported, and its disk.
pub type Known = (Point, Arc<Vec<u8>>);

pub fn open(path: &Path) -> Result<Arc<Store>> {
    let folder: Arc<dyn Folder> = Arc::new(LocalFolder::new(path));
    Ok(Arc::new(Store::open(folder)?))
}

/// Makes a store in a folder that is there.
pub fn create(path: &Path) -> Result<Store> {
    create_with(path, 0)
}

/// The same with so much parity, in percent.
fn create_with(path: &Path, parity: u32) -> Result<Store> {
    let cut = CutParameters::FastCdc {
        min: 2048,
        average: 8192,
        max: 32768,
    };
    let folder = Arc::new(LocalFolder::new(path));
    Store::create_with(folder, cut, parity, &Ticking)
}

/// Backs up a new disk of a machine, with publications in the middle; as one of the past if it is an import.
pub fn back_up(store: &Arc<Store>, machine: &str, import: bool) -> Result<Known> {
    let bytes = disk();
    let source: Arc<dyn ReadAt> = bytes.clone();
    let input = DiskInput {
        name: "disk0".to_string(),
        source,
        facts: ImageFacts::default(),
        changed: None,
        changes: None,
    };
    let mut options = BackupOptions::new(machine);
    options.checkpoint = 6;
    if import {
        options.time = Some(Time::from_seconds(Ticking.now().seconds - 400_000_000));
    }
    let made = backup(store, &[input], &options, &Silent, &Ticking)?;
    Ok((made.point, bytes))
}

/// Whether the point reads as its disk.
pub fn read(store: &Arc<Store>, (point, bytes): &Known) -> Result<()> {
    let reader = Arc::new(ChunkReader::new(store.clone(), 1 << 20));
    let disk = StoredDisk::new(Tree::new(reader, &point.record.disks[0])?);
    let read = read_vec(&disk, 0, bytes.len())?;
    assert!(read == **bytes, "wrong bytes");
    Ok(())
}

/// The machine whose points are forgotten.
pub const DOOMED: &str = "doomed";

/// A store with points of two machines, and so many small packs that the next backup merges them; and `doomed` points of another
/// machine, of which the last is pinned.
pub fn past(path: &Path, parity: u32, doomed: usize) -> (Vec<Known>, Vec<Known>) {
    fs::create_dir_all(path).unwrap();
    create_with(path, parity).unwrap();
    let store = open(path).unwrap();
    let merging = cairn_store::publish::merge_lock(&**store.folder()).unwrap();
    let mut known = Vec::new();
    for number in 0..12 {
        let machine = if number % 2 == 0 { "m" } else { "n" };
        known.push(back_up(&store, machine, false).unwrap());
    }
    let doomed: Vec<_> = (0..doomed)
        .map(|_| back_up(&store, DOOMED, false).unwrap())
        .collect();
    drop(merging);
    if let Some((last, _)) = doomed.last() {
        let permit = store.writer().unwrap();
        let home = layout::machine_folder(DOOMED);
        assert!(set_pin(&store, &permit, &home, last.id, Some(Pin::default())).unwrap());
    }
    (known, doomed)
}

/// Copies a store as it is.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Damages a sector of every third pack.
pub fn hurt(path: &Path) {
    let packs = fs::read_dir(path.join("packs")).unwrap();
    let mut files: Vec<_> = packs
        .flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    for file in files.iter().step_by(3) {
        let mut bytes = fs::read(file).unwrap();
        bytes[100..600].fill(0xee);
        fs::write(file, bytes).unwrap();
    }
}

/// Nothing that was reported is lost but what was `doomed`, everything checks, and when the next writer has been there nothing lies about.
/// Answers which of the doomed points are there.
pub fn check(path: &Path, known: &[Known], doomed: &[Known]) -> Vec<bool> {
    let store = open(path).unwrap();
    let listing = all_points(&store).unwrap();
    assert!(listing.damaged.is_empty(), "{:?}", listing.damaged);
    let mut listed: BTreeSet<_> = listing.points.iter().map(|point| point.id.0).collect();
    let spared: Vec<bool> = doomed
        .iter()
        .map(|(point, _)| listed.remove(&point.id.0))
        .collect();
    let there = doomed.iter().zip(&spared).filter(|(_, spared)| **spared);
    there.for_each(|(point, _)| read(&store, point).unwrap());
    let expected: BTreeSet<_> = known.iter().map(|(point, _)| point.id.0).collect();
    assert_eq!(listed, expected, "the points listed are those reported");
    known.iter().for_each(|point| read(&store, point).unwrap());
    let report = verify(&store, false, &Silent).unwrap();
    assert!(report.is_clean(), "{report:?}");

    let (after, _) = back_up(&store, "after", false).unwrap();
    assert_eq!(after.record.warnings, [] as [String; 0]);
    let store = open(path).unwrap();
    let left: Vec<_> = fs::read_dir(path.join("sessions")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    let state = store.state();
    let replaced: BTreeSet<_> = state.replaced_packs().map(layout::pack).collect();
    let live: BTreeSet<_> = store
        .live_packs()
        .iter()
        .map(|row| layout::pack(row.id))
        .collect();
    let mut there = BTreeSet::new();
    for folder in fs::read_dir(path.join("packs")).unwrap() {
        let folder = folder.unwrap();
        for pack in fs::read_dir(folder.path()).unwrap() {
            let (folder, pack) = (folder.file_name(), pack.unwrap().file_name());
            there.insert(format!("packs/{}/{}", folder.display(), pack.display()));
        }
    }
    assert!(live.is_subset(&there), "a live pack is gone");
    let orphans: Vec<_> = there
        .difference(&live)
        .filter(|pack| !replaced.contains(*pack))
        .collect();
    assert!(orphans.is_empty(), "packs that nobody knows: {orphans:?}");
    spared
}
