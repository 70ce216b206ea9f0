//! Stores of many small packs, and their merging.

use crate::kit::{Kit, TestDisk, files_in, noise, open_disk};
use cairn_base::read_at::read_vec;
use cairn_base::{Folder, LocalFolder, LockMode, ReadAt, Silent};
use cairn_store::compact::tidy_up;
use cairn_store::{Point, Session, SessionKind, Store, layout};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// What the disk of backup `number` holds.
pub fn content(number: u64) -> Vec<u8> {
    noise(
        20_000 + usize::try_from(number).unwrap() * 100,
        7000 + number,
    )
}

/// Makes backups whose packs and segments nobody merges.
pub fn small_backups(kit: &Kit, count: u64) -> Vec<Point> {
    unmerged_backups(kit, 0..count)
}

pub fn unmerged_backups(kit: &Kit, numbers: std::ops::Range<u64>) -> Vec<Point> {
    let folder = kit.store.folder().clone();
    let _merging = folder
        .lock("locks/merge", LockMode::Exclusive, false)
        .unwrap()
        .unwrap();
    numbers
        .map(|number| kit.backup("m", TestDisk::new(content(number))))
        .collect()
}

pub fn open(path: &Path) -> Arc<Store> {
    Arc::new(Store::open(Arc::new(LocalFolder::new(path))).unwrap())
}

/// What another process does at the end of a backup.
pub fn tidy(folder: Arc<dyn Folder>) -> cairn_base::Result<Vec<String>> {
    let store = Store::open(folder)?;
    let permit = store.writer()?;
    let session = Session::begin(store.folder().clone(), SessionKind::Write, &[])?;
    let mut warnings = tidy_up(&store, &session, &Silent);
    warnings.extend(permit.warnings().iter().cloned());
    Ok(warnings)
}

pub fn tidy_at(path: &Path) -> Vec<String> {
    tidy(Arc::new(LocalFolder::new(path))).unwrap()
}

pub fn copy_store(from: &Path) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                std::fs::create_dir(&to).unwrap();
                copy(&entry.path(), &to);
            } else {
                std::fs::copy(entry.path(), &to).unwrap();
            }
        }
    }
    let to = tempfile::tempdir().unwrap();
    copy(from, to.path());
    to
}

pub fn read(store: &Arc<Store>, point: &Point) -> cairn_base::Result<Vec<u8>> {
    let disk = open_disk(store, point, "disk0");
    read_vec(&disk, 0, usize::try_from(disk.size()).unwrap())
}

pub fn assert_all_read_back(store: &Arc<Store>, points: &[Point], what: &str) {
    for (number, point) in points.iter().enumerate() {
        let bytes = read(store, point);
        let bytes = bytes.unwrap_or_else(|e| panic!("{what}: point {number}: {e}"));
        assert!(bytes == content(number as u64), "{what}: point {number}");
    }
}

/// The files of packs, and the packs that the index names and answers.
pub fn pack_files(path: &Path) -> (BTreeSet<String>, BTreeSet<String>) {
    let files = files_in(path, "packs").into_iter().collect();
    let rows = open(path).live_packs();
    (files, rows.iter().map(|row| layout::pack(row.id)).collect())
}

pub fn assert_no_orphans(path: &Path, what: &str) {
    let (files, live) = pack_files(path);
    assert_eq!(files, live, "{what}");
    let state = open(path).state();
    // What the older slot lists stays for one more publication.
    let listed: BTreeSet<_> = state
        .segments
        .iter()
        .map(|r| r.segment().to_string())
        .collect();
    let segments = files_in(path, "index");
    for segment in &listed {
        assert!(segments.contains(&format!("index/{segment}")), "{what}");
    }
    assert_eq!(files_in(path, "sessions"), [] as [&str; 0], "{what}");
}
