//! Which packs something is wrong with: all are read, by all processors.

use crate::contents::unindexed;
use crate::index::PackRow;
use crate::layout;
use crate::pack::{FrameChecker, PackReader};
use crate::store::Store;
use cairn_base::{Error, Kind, Monitor, Result, Stage};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is wrong with a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Its file is gone.
    Gone,
    /// It is not as long as it was when it was sealed.
    Cut,
    /// Something in it is not what was written.
    Damaged,
    /// It is whole, but the index does not know all of it.
    Unindexed,
    /// Another program's version, or it cannot be looked at now: it is left alone.
    Unknown,
}

/// Reads every live pack. Answers those that something is wrong with, by id.
///
/// # Errors
/// [`Kind::Interrupted`] on request.
pub fn find(store: &Store, monitor: &dyn Monitor) -> Result<Vec<(PackRow, Fault)>> {
    let rows = store.live_packs();
    let found = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    monitor.begin(Stage::VerifyPacks, rows.iter().map(|row| row.length).sum());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(16).min(rows.len()) {
            scope.spawn(|| {
                let mut checker = FrameChecker::default();
                while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if monitor.stop_requested() {
                        return;
                    }
                    if let Some(fault) = fault(store, row, &mut checker, monitor) {
                        found.lock().push((*row, fault));
                    }
                }
            });
        }
    });
    monitor.finish(Stage::VerifyPacks);
    if monitor.stop_requested() {
        return Err(Error::interrupted());
    }
    let mut found = found.into_inner();
    found.sort_by_key(|(row, _)| row.id);
    Ok(found)
}

fn fault(
    store: &Store,
    row: &PackRow,
    checker: &mut FrameChecker,
    monitor: &dyn Monitor,
) -> Option<Fault> {
    let folder = &**store.folder();
    match folder.size(&layout::pack(row.id)) {
        Ok(length) if length == row.length => {}
        Ok(_) => return Some(Fault::Cut),
        Err(error) if error.kind() == Kind::NotFound => return Some(Fault::Gone),
        Err(error) if error.is_momentary() => return Some(Fault::Unknown),
        Err(_) => return Some(Fault::Damaged),
    }
    let pack = match PackReader::open(folder, store.header().store, row.id) {
        Ok(pack) => pack,
        Err(error) => {
            return Some(if error.is_momentary() {
                Fault::Unknown
            } else {
                Fault::Damaged
            });
        }
    };
    let index = store.index();
    let mut unknown = 0;
    for (frame, chunks) in pack.frames() {
        if monitor.stop_requested() {
            return None;
        }
        match checker.check(store.keys(), &pack, frame, chunks) {
            Ok(found) if found.is_clean() => {}
            Ok(_) => return Some(Fault::Damaged),
            Err(_) => return Some(Fault::Unknown),
        }
        match unindexed(&index, row.id, frame, chunks) {
            Ok(more) => unknown += more,
            Err(_) => return Some(Fault::Unknown),
        }
        monitor.advance(Stage::VerifyPacks, u64::from(frame.stored));
    }
    match pack.damaged_parity() {
        Ok(0) => (unknown > 0).then_some(Fault::Unindexed),
        Err(error) if error.is_momentary() => Some(Fault::Unknown),
        _ => Some(Fault::Damaged),
    }
}
