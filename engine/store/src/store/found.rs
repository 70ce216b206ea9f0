//! What state and index on disk say.

use crate::index::{IndexSet, Segment};
use crate::layout::{self, INDEX};
use crate::state::{SegmentRow, State};
use cairn_base::{Error, Folder, Kind, Result, SegmentId};
use std::collections::HashMap;
use std::sync::Arc;

/// How often a reader that finds a segment gone re-reads the state before it reports damage.
pub(super) const ATTEMPTS: usize = 5;

/// What was found on disk.
pub(super) struct Found {
    pub state: State,
    pub segments: Vec<Arc<Segment>>,
    pub lost: Vec<String>,
    pub lost_slot: Option<String>,
    /// A failure that says nothing of the segment itself: no descriptors, a stale handle.
    pub momentary: Option<Error>,
}

/// Reads the state and opens its segments; those of `known` are not opened again. A segment that cannot be opened is left
/// out and named: what only it knew counts as absent, the rest of the store stays usable.
pub(super) fn read_current(
    folder: &dyn Folder,
    store: [u8; 16],
    known: &IndexSet,
) -> Result<Found> {
    let known: HashMap<SegmentId, Arc<Segment>> = known
        .segments()
        .iter()
        .map(|segment| (segment.id(), segment.clone()))
        .collect();
    let mut attempt = 0;
    loop {
        attempt += 1;
        let (mut state, lost_slot) = State::read(folder)?;
        if lost_slot.is_some() {
            complete(folder, store, &mut state)?;
        }
        let mut found = Found {
            segments: Vec::new(),
            lost: Vec::new(),
            lost_slot,
            momentary: None,
            state,
        };
        let mut gone = false;
        for row in &found.state.segments {
            let id = row.segment();
            let opened = match known.get(&id) {
                Some(segment) => Ok(segment.clone()),
                None => Segment::open(folder, store, id).map(Arc::new),
            };
            match opened {
                Ok(segment) => found.segments.push(segment),
                Err(error) => {
                    gone |= error.kind() == Kind::NotFound;
                    found.lost.push(if error.is_momentary() {
                        format!("a segment of the index cannot be opened now: {error}")
                    } else {
                        format!("a segment of the index is lost: {error}")
                    });
                    if error.is_momentary() {
                        found.momentary = Some(error);
                    }
                }
            }
        }
        // A merge may have replaced a segment since the state was read.
        if !gone || attempt >= ATTEMPTS {
            return Ok(found);
        }
    }
}

/// Adds every segment that lies in the index folder to a state that may not be the newest. What is too much there is
/// harmless: every chunk is authenticated when it is read.
pub(crate) fn complete(folder: &dyn Folder, store: [u8; 16], state: &mut State) -> Result<()> {
    let mut names = folder.list(INDEX)?;
    names.sort();
    for id in names.iter().filter_map(|name| SegmentId::parse(name).ok()) {
        if state.segments.iter().any(|row| row.segment() == id) {
            continue;
        }
        // One that cannot be opened now stays listed: it shows as lost, and nobody deletes it.
        let (entries, length) = match Segment::open(folder, store, id) {
            Ok(segment) => (segment.entries(), segment.length()),
            Err(error) if error.kind() == Kind::NotFound => continue,
            Err(_) => (0, folder.size(&layout::segment(id)).unwrap_or(0)),
        };
        state.segments.push(SegmentRow {
            id: id.0,
            entries,
            length,
        });
    }
    Ok(())
}
