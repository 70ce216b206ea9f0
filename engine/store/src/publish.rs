//! Making packs and their segment public, in the write order: packs, segment, state. And merging segments afterwards.

use crate::index::merge::merge;
use crate::index::policy::{MAX_SEGMENTS, merge_count};
use crate::index::write::WrittenSegment;
use crate::index::{Entry, PackRow, Segment, write_segment};
use crate::layout::{self, INDEX, LOCKS, PACKS};
use crate::mistake::{self, Mistake};
use crate::pack::SealedPack;
use crate::session::{Session, publish_lock};
use crate::state::{SegmentRow, State};
use crate::store::Store;
use cairn_base::folder::{Lock, optional};
use cairn_base::{Folder, LockMode, PackId, Result, SegmentId};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// Makes sealed packs public under one new segment of `entries`, which refer to them by position.
///
/// # Errors
/// As the folder reports; nothing refers to what was renamed already, and the next writer sweeps it.
pub fn publish(
    store: &Store,
    session: &Session,
    packs: &[SealedPack],
    entries: Vec<Entry>,
) -> Result<()> {
    publish_replacing(store, session, packs, entries, &[])
}

/// As [`publish`]. The same state lists `replaced`, packs of whose chunks each has a copy in `packs` that was authenticated: from
/// then on look-ups do not answer places in them. The caller holds the merge lock if there are any.
///
/// # Errors
/// As [`publish`].
pub fn publish_replacing(
    store: &Store,
    session: &Session,
    packs: &[SealedPack],
    entries: Vec<Entry>,
    replaced: &[PackId],
) -> Result<()> {
    if packs.is_empty() {
        return Ok(());
    }
    let folder = &**store.folder();
    let rows: Vec<PackRow> = packs
        .iter()
        .map(|pack| PackRow {
            id: pack.id,
            length: pack.length,
            kind: pack.kind,
        })
        .collect();
    let scratch = session.scratch();
    let entries = match mistake::is_made(Mistake::StaleEntries) && !replaced.is_empty() {
        true => Vec::new(),
        false => entries,
    };
    let segment = write_segment(folder, &scratch, store.header().store, &rows, entries)?;
    // The files are durable; their names in the session's folder need to be as well before they are announced.
    folder.sync_folder(&session.scratch())?;

    let lock = publish_lock(folder)?;
    // A slot that was lost since: what it listed must not be forgotten.
    store.heal_state()?;
    let ids: Vec<_> = packs.iter().map(|pack| pack.id).collect();
    session.announce(&ids, segment.id)?;
    if mistake::is_made(Mistake::OldPacksGone) {
        replaced
            .iter()
            .try_for_each(|id| folder.remove(&layout::pack(*id)))?;
    }
    let index_first = mistake::is_made(Mistake::IndexFirst);
    if !index_first {
        place(folder, packs)?;
    }
    folder.publish(&segment.path, &layout::segment(segment.id))?;
    folder.sync_folder(INDEX)?;
    session.published(&ids)?;
    let (mut state, _) = State::read(folder)?;
    state.advance(1)?;
    state.segments.push(row(&segment));
    state.replace(replaced);
    state.publish(folder)?;
    if index_first {
        place(folder, packs)?;
    }
    session.fulfilled()?;
    // What cannot be deleted now is tried again with the next publication.
    let _later = sweep_segments(folder);
    drop(lock);
    store.refresh()?;
    Ok(())
}

/// Brings sealed packs into their place, durably.
fn place(folder: &dyn Folder, packs: &[SealedPack]) -> Result<()> {
    let mut folders = BTreeSet::new();
    for pack in packs {
        let home = layout::pack_folder(pack.id);
        if folders.insert(home.clone()) {
            folder.create_folder(&home)?;
        }
        folder.publish(&pack.path, &layout::pack(pack.id))?;
    }
    if mistake::is_made(Mistake::FoldersUnsynced) {
        return Ok(());
    }
    for home in &folders {
        folder.sync_folder(home)?;
    }
    folder.sync_folder(PACKS)
}

/// Makes a segment public whose packs are in their place already. Answers which of them are not, or not any more: they may be what a
/// publication left that was never completed, and swept meanwhile. Then nothing was published.
///
/// # Errors
/// As [`publish`].
pub fn publish_segment(
    store: &Store,
    session: &Session,
    packs: &[PackRow],
    entries: Vec<Entry>,
) -> Result<HashSet<PackId>> {
    let folder = &**store.folder();
    let scratch = session.scratch();
    let segment = write_segment(folder, &scratch, store.header().store, packs, entries)?;
    folder.sync_folder(&scratch)?;
    let lock = publish_lock(folder)?;
    store.heal_state()?;
    let (mut state, _) = State::read(folder)?;
    // Whoever sweeps packs that nothing names does it under this lock, and from here on the segment names them.
    let gone = packs_not_there(folder, &state, packs)?;
    if !gone.is_empty() {
        folder.remove(&segment.path)?;
        return Ok(gone);
    }
    // Whoever renamed them into place may have been killed before that was durable.
    let homes: BTreeSet<String> = packs.iter().map(|p| layout::pack_folder(p.id)).collect();
    for home in &homes {
        folder.sync_folder(home)?;
    }
    folder.sync_folder(PACKS)?;
    session.announce(&[], segment.id)?;
    folder.publish(&segment.path, &layout::segment(segment.id))?;
    folder.sync_folder(INDEX)?;
    state.advance(1)?;
    state.segments.push(row(&segment));
    state.publish(folder)?;
    session.fulfilled()?;
    let _later = sweep_segments(folder);
    drop(lock);
    store.refresh()?;
    Ok(HashSet::new())
}

/// Those of the packs whose files are not there as they were read, or that the state says are on their way out.
fn packs_not_there(
    folder: &dyn Folder,
    state: &State,
    packs: &[PackRow],
) -> Result<HashSet<PackId>> {
    let unanswered = state.unanswered_packs();
    let mut gone = HashSet::new();
    for row in packs {
        let length = optional(folder.size(&layout::pack(row.id)))?;
        if length != Some(row.length) || unanswered.contains(&row.id) {
            gone.insert(row.id);
        }
    }
    Ok(gone)
}

/// Takes segments off the list of which every pack stands in others, and adds packs to those that are replaced: of their chunks each lies
/// elsewhere too, authenticated. The caller holds the merge lock.
///
/// # Errors
/// As the folder reports.
pub fn publish_lists(
    store: &Store,
    segments: &HashSet<SegmentId>,
    replaced: &[PackId],
) -> Result<()> {
    publish_lists_and(store, &mut |state| {
        state
            .segments
            .retain(|row| !segments.contains(&row.segment()));
        state.replace(replaced);
    })
}

/// Publishes a state that `edit` makes of the newest one, its generation being the new one already. The caller holds the merge lock.
///
/// # Errors
/// As the folder reports.
pub fn publish_lists_and(store: &Store, edit: &mut dyn FnMut(&mut State)) -> Result<()> {
    let folder = &**store.folder();
    let lock = publish_lock(folder)?;
    store.heal_state()?;
    let (mut state, _) = State::read(folder)?;
    state.advance(1)?;
    edit(&mut state);
    state.publish(folder)?;
    let _later = sweep_segments(folder);
    drop(lock);
    store.refresh()?;
    Ok(())
}

/// Deletes segments that neither slot of the state lists: those that were merged two publications ago, and those that a crash
/// kept from being listed. As long as one slot lists a segment it stays, so that the loss of the other slot loses nothing.
/// The caller holds the publish lock. Whoever has a segment open keeps what is mapped.
///
/// # Errors
/// As the folder reports.
pub fn sweep_segments(folder: &dyn Folder) -> Result<()> {
    let Some(listed) = State::listed(folder)? else {
        return Ok(());
    };
    for id in folder
        .list(INDEX)?
        .iter()
        .filter_map(|name| SegmentId::parse(name).ok())
    {
        if !listed.contains(&id) {
            folder.remove(&layout::segment(id))?;
        }
    }
    Ok(())
}

fn row(segment: &WrittenSegment) -> SegmentRow {
    SegmentRow {
        id: segment.id.0,
        entries: segment.entries,
        length: segment.length,
    }
}

/// Where the state lists these segments one behind the other.
fn position_of(state: &State, sources: &[Arc<Segment>]) -> Option<usize> {
    state
        .segments
        .windows(sources.len().max(1))
        .position(|rows| {
            let mut pairs = rows.iter().zip(sources);
            pairs.all(|(row, source)| row.segment() == source.id())
        })
}

/// The lock under which segments and packs are merged; `None` if somebody else merges.
///
/// # Errors
/// As the folder reports.
pub fn merge_lock(folder: &dyn Folder) -> Result<Option<Box<dyn Lock>>> {
    folder.lock(&format!("{LOCKS}/merge"), LockMode::Exclusive, false)
}

/// Merges the newest segments if there are many small ones: at most `limit` entries, as long as there are few segments. `u64::MAX`
/// may take minutes in a large store. The work is done without the publish lock; if another process merges, or the
/// segments changed meanwhile, nothing happens.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if a segment cannot be read: all stay as they are.
pub fn merge_segments(store: &Store, session: &Session, limit: u64) -> Result<()> {
    let Some(_merging) = merge_lock(&**store.folder())? else {
        return Ok(());
    };
    merge_newest(store, session, &|sizes| merge_count(sizes, limit))
}

/// As [`merge_segments`], where there are more than [`MAX_SEGMENTS`]. The caller holds the merge lock.
///
/// # Errors
/// As [`merge_segments`].
pub fn merge_many(store: &Store, session: &Session) -> Result<()> {
    if store.index().segments().len() <= MAX_SEGMENTS {
        return Ok(());
    }
    merge_newest(store, session, &|sizes| merge_count(sizes, u64::MAX))
}

/// Merges all segments, also if there is only one, so that what they say of replaced packs is left out. The caller holds the merge lock.
///
/// # Errors
/// As [`merge_segments`].
pub fn merge_everything(store: &Store, session: &Session) -> Result<()> {
    merge_newest(store, session, &<[u64]>::len)
}

/// Merges as many of the newest segments as `choose` says of their sizes, oldest first. The caller holds the merge lock.
fn merge_newest(store: &Store, session: &Session, choose: &dyn Fn(&[u64]) -> usize) -> Result<()> {
    let folder = &**store.folder();
    store.refresh()?;
    let index = store.index();
    // What lies before a segment that is lost stays apart: only neighbours in the list become one.
    let before = store.state();
    let pairs = before
        .segments
        .iter()
        .rev()
        .zip(index.segments().iter().rev());
    let behind = pairs
        .take_while(|(row, open)| row.segment() == open.id())
        .count();
    let newest = || {
        index
            .segments()
            .iter()
            .skip(index.segments().len() - behind)
    };
    let sizes: Vec<u64> = newest().map(|segment| segment.entries()).collect();
    let count = choose(&sizes);
    if count == 0 {
        return Ok(());
    }
    let sources: Vec<Arc<Segment>> = newest().skip(behind - count).cloned().collect();
    // Only who holds the merge lock lists more of them, or takes one off the list.
    let replaced: HashSet<PackId> = before.replaced_packs().collect();
    let scratch = session.scratch();
    let merged = merge(folder, &scratch, store.header().store, &sources, &replaced)?;
    folder.sync_folder(&session.scratch())?;

    let lock = publish_lock(folder)?;
    store.heal_state()?;
    let (mut state, _) = State::read(folder)?;
    // A slot that was lost meanwhile may have taken the list of replaced packs with it: then their entries are needed.
    let known: HashSet<PackId> = state.replaced_packs().collect();
    let position = position_of(&state, &sources).filter(|_| replaced.is_subset(&known));
    let Some(position) = position else {
        folder.remove(&merged.path)?;
        return Ok(());
    };
    session.announce(&[], merged.id)?;
    folder.publish(&merged.path, &layout::segment(merged.id))?;
    folder.sync_folder(INDEX)?;
    state.advance(1)?;
    state
        .segments
        .splice(position..position + count, [row(&merged)]);
    state.publish(folder)?;
    session.fulfilled()?;
    sweep_segments(folder)?;
    drop(lock);
    store.refresh()?;
    Ok(())
}
