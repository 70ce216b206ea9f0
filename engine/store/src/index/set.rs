//! All live segments together, as one generation of `state` lists them.

use crate::index::packs::AllPacks;
use crate::index::place::Place;
use crate::index::segment::Segment;
use cairn_base::{ChunkId, Error, PackId, Result};
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

/// The segments of one generation. Cheap to clone.
#[derive(Clone, Default)]
pub struct IndexSet {
    segments: Arc<Vec<Arc<Segment>>>,
    /// Places in these packs are not answered: condemned, gone, or not as long as when they were sealed.
    hidden: Arc<HashSet<PackId>>,
}

impl IndexSet {
    /// These segments; places in `hidden` packs are not answered.
    pub fn new(segments: Vec<Arc<Segment>>, hidden: HashSet<PackId>) -> IndexSet {
        IndexSet {
            segments: Arc::new(segments),
            hidden: Arc::new(hidden),
        }
    }

    /// The segments.
    pub fn segments(&self) -> &[Arc<Segment>] {
        &self.segments
    }

    /// The packs whose places are not answered.
    pub fn hidden(&self) -> &HashSet<PackId> {
        &self.hidden
    }

    /// Tells `found` the places of a chunk, those of the newest segments first, until it breaks off. An error if it did not, and
    /// a page that may hold one does not check.
    fn look_up(&self, id: &ChunkId, found: &mut dyn FnMut(Place) -> ControlFlow<()>) -> Result<()> {
        let prefix = id.prefix();
        let mut failed: Result<()> = Ok(());
        for segment in self.segments.iter().rev() {
            let mut enough = ControlFlow::Continue(());
            let result = segment.look_up(&prefix, &mut |place| {
                if !self.hidden.contains(&place.pack) {
                    enough = found(place);
                }
                enough
            });
            if enough.is_break() {
                return Ok(());
            }
            // One that says nothing of the bytes tells most: there may be another place.
            if !matches!(&failed, Err(error) if error.is_momentary()) && result.is_err() {
                failed = result;
            }
        }
        failed
    }

    /// Every place of a chunk, in the newest segments first. Empty if it is not stored.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it was not found and a page that may hold it does not check.
    pub fn places(&self, id: &ChunkId) -> Result<Vec<Place>> {
        match self.known_places(id) {
            (places, Some(error)) if places.is_empty() => Err(error),
            (places, _) => Ok(places),
        }
    }

    /// As [`places`](IndexSet::places), and why there may be more of them.
    pub fn known_places(&self, id: &ChunkId) -> (Vec<Place>, Option<Error>) {
        let mut places = Vec::new();
        let result = self.look_up(id, &mut |place| {
            places.push(place);
            ControlFlow::Continue(())
        });
        (places, result.err())
    }

    /// Whether a chunk of this length is stored.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it was not found and a page that may hold it does not check.
    pub fn holds(&self, id: &ChunkId, length: u32) -> Result<bool> {
        let mut holds = false;
        let result = self.look_up(id, &mut |place| {
            holds = place.length == length;
            if holds {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        if holds {
            Ok(true)
        } else {
            result.map(|()| false)
        }
    }

    /// Every pack that a segment names, once, ascending. An error for each page of a pack table that does not check.
    pub fn packs(&self) -> AllPacks<'_> {
        AllPacks::of(&self.segments)
    }

    /// Number of entries in all segments.
    pub fn entries(&self) -> u64 {
        self.segments.iter().map(|segment| segment.entries()).sum()
    }
}
