//! The end of packs that were replaced.

use crate::index::Segment;
use crate::index::packs::PackRows;
use crate::layout::{self, INDEX};
use crate::publish::sweep_segments;
use crate::session::publish_lock;
use crate::state::State;
use crate::store::Store;
use cairn_base::folder::optional;
use cairn_base::{Folder, Kind, PackId, Result, SegmentId};
use std::collections::{BTreeSet, HashSet};

/// Sees to it that both slots of the state list every replaced pack, so that the loss of either loses nothing, then deletes
/// their files; and takes those off the list that are deleted and that no segment names any more. Nothing is deleted
/// while a slot or a segment is lost. The caller holds the merge lock, and has refreshed the store.
///
/// # Errors
/// As the folder reports; the next call goes on.
pub fn sweep_replaced(store: &Store) -> Result<()> {
    let folder = &**store.folder();
    let state = store.state();
    if state.replaced.is_empty() {
        return Ok(());
    }
    let mut gone = HashSet::new();
    for id in state.replaced_packs() {
        if is_gone(folder, id)? {
            gone.insert(id);
        }
    }
    let unnamed = unnamed(store, gone.clone())?;
    // Nobody looks for those any more: they must not come back. Whoever removed them may have been killed before that was durable.
    let homes: BTreeSet<String> = unnamed
        .packs
        .iter()
        .map(|id| layout::pack_folder(*id))
        .collect();
    for home in &homes {
        optional(folder.sync_folder(home))?;
    }
    let mut settled = settle(store, &unnamed)?;
    settled.retain(|id| !gone.contains(id));
    if !settled.is_empty() {
        // Whoever renamed the newest state into place may have been killed before it was durable.
        folder.sync_folder("")?;
    }
    for id in settled {
        folder.remove(&layout::pack(id))?;
        folder.sync_folder(&layout::pack_folder(id))?;
    }
    Ok(())
}

fn is_gone(folder: &dyn Folder, id: PackId) -> Result<bool> {
    match folder.size(&layout::pack(id)) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == Kind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Packs that no segment names, and the segments that were looked at to know.
struct Unnamed {
    packs: HashSet<PackId>,
    segments: HashSet<SegmentId>,
}

/// Looks at the live segments and at all others in the index folder: any may come to be listed again when a slot is lost.
fn unnamed(store: &Store, mut packs: HashSet<PackId>) -> Result<Unnamed> {
    let folder = &**store.folder();
    let index = store.index();
    let mut segments = HashSet::new();
    let mut look_at = |segment: &Segment| {
        segments.insert(segment.id());
        for row in PackRows::new(segment) {
            match row {
                Ok(row) => drop(packs.remove(&row.id)),
                // It may name any of them.
                Err(_) => packs.clear(),
            }
        }
    };
    for segment in index.segments() {
        look_at(segment);
    }
    let live: HashSet<SegmentId> = index.segments().iter().map(|s| s.id()).collect();
    let files = folder.list(INDEX)?;
    let ids = files.iter().filter_map(|name| SegmentId::parse(name).ok());
    for id in ids.filter(|id| !live.contains(id)) {
        // One that cannot be opened counts as not looked at.
        if let Ok(segment) = Segment::open(folder, store.header().store, id) {
            look_at(&segment);
        }
    }
    Ok(Unnamed { packs, segments })
}

/// Publishes the state anew unless both slots list the same replaced packs and none can be taken off. Answers the packs that
/// both slots list then.
fn settle(store: &Store, unnamed: &Unnamed) -> Result<Vec<PackId>> {
    let folder = &**store.folder();
    let _lock = publish_lock(folder)?;
    store.heal_state()?;
    let Some([older, mut state]) = State::slots(folder)? else {
        return Ok(Vec::new());
    };
    store.refresh()?;
    if !store.has_all_segments() || store.generation() != state.generation {
        return Ok(Vec::new());
    }
    let in_both: HashSet<PackId> = older.replaced_packs().collect();
    let one_sided = state.replaced_packs().any(|id| !in_both.contains(&id));
    // Nothing may have come in between that was not looked at.
    let files = folder.list(INDEX)?;
    let mut ids = files.iter().filter_map(|name| SegmentId::parse(name).ok());
    let mut listed = state.segments.iter().map(|row| row.segment());
    let looked_at = |id: SegmentId| unnamed.segments.contains(&id);
    let count = state.replaced.len();
    if ids.all(looked_at) && listed.all(looked_at) {
        let forgotten = |id: &[u8; 16]| unnamed.packs.contains(&PackId(*id));
        state
            .replaced
            .retain(|id| !(forgotten(id) && in_both.contains(&PackId(*id))));
    }
    if one_sided || state.replaced.len() < count {
        state.advance(1)?;
        state.publish(folder)?;
        // What cannot be deleted now is tried again with the next publication.
        let _later = sweep_segments(folder);
        store.refresh()?;
    }
    Ok(state.replaced_packs().collect())
}
