//! Tidying up after a backup: small packs become large ones, small segments likewise.
//!
//! Chunks are copied as they lie in their frames, packs are never changed. Points and maps name chunks, not packs, so nothing
//! else has to know. The order is: copies durable -> segment -> one state that lists the copies and says that the old packs are
//! replaced -> a second state that says so too -> the old files are deleted. At every moment each slot of the state leads to every
//! chunk, by itself or with what lies in the index folder.

mod choose;
mod copy;
pub mod litter;
pub mod sweep;

use crate::pack::FrameChecker;
use crate::publish::{merge_lock, merge_segments, publish_replacing};
use crate::session::Session;
use crate::store::Store;
use cairn_base::{Error, Kind, Monitor, Result};
use choose::choose;
use copy::Copies;

/// Bytes of packs that are read in one call, about: a backup is not held up for long.
const WORK: u64 = 256 << 20;
/// Packs that may wait to be forgotten; each takes 16 bytes of every state.
const MAX_REPLACED: usize = 1 << 16;

/// Merges small packs and small segments, as far as there are many and nobody else merges. To be called when everything is
/// published; other backups, readers and verifications go on meanwhile. Whatever goes wrong does no harm: it is answered as a
/// warning, and nothing of the call is left behind when the session has ended. Ends early if the user asks to stop.
pub fn tidy_up(store: &Store, session: &Session, monitor: &dyn Monitor) -> Vec<String> {
    let mut warnings = Vec::new();
    let merged = compact(store, session, monitor, &mut warnings).and_then(|()| {
        if monitor.stop_requested() {
            return Err(Error::interrupted());
        }
        // Not after a failure: a second publication would take the place of the manifest that says what the first one left.
        merge_segments(store, session, u64::MAX)
    });
    match merged {
        Err(error) if error.kind() != Kind::Interrupted => {
            warnings.push(format!(
                "small files of the store could not be merged: {error}"
            ));
        }
        _ => {}
    }
    warnings
}

/// Merges small packs. Why packs were left as they are is told in `left`.
fn compact(
    store: &Store,
    session: &Session,
    monitor: &dyn Monitor,
    left: &mut Vec<String>,
) -> Result<()> {
    let Some(_merging) = merge_lock(&**store.folder())? else {
        return Ok(());
    };
    store.refresh()?;
    // What the index does not know all of is left alone.
    if !store.has_all_segments() {
        return Ok(());
    }
    sweep::sweep_replaced(store)?;
    if store.state().replaced.len() >= MAX_REPLACED {
        return Ok(());
    }
    let mut copies = Copies::new(store, session, monitor);
    let mut checker = FrameChecker::default();
    let mut work = WORK;
    for mut group in choose(store) {
        while let Some(batch) = group.next_batch(store, &mut checker, monitor, &mut work, left)? {
            copies.copy(&batch, &mut checker)?;
        }
    }
    let (packs, entries, replaced) = copies.finish();
    if packs.is_empty() {
        return Ok(());
    }
    publish_replacing(store, session, &packs, entries, &replaced)?;
    sweep::sweep_replaced(store)
}
