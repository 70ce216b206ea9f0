//! All live segments together, as one generation of `state` lists them.

use crate::index::place::Place;
use crate::index::segment::{PackRow, Segment};
use cairn_base::{ChunkId, PackId, Result};
use std::collections::HashSet;
use std::sync::Arc;

/// The segments of one generation. Cheap to clone.
#[derive(Clone, Default)]
pub struct IndexSet {
    segments: Vec<Arc<Segment>>,
    /// Places in these packs are not answered: condemned, gone, or not as long as when they were sealed.
    hidden: Arc<HashSet<PackId>>,
}

impl IndexSet {
    /// These segments; places in `hidden` packs are not answered.
    pub fn new(segments: Vec<Arc<Segment>>, hidden: HashSet<PackId>) -> IndexSet {
        IndexSet {
            segments,
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

    /// Every place of a chunk, in the newest segments first. Empty if it is not stored.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it was not found and a page that may hold it does not check.
    pub fn places(&self, id: &ChunkId) -> Result<Vec<Place>> {
        let prefix = id.prefix();
        let mut places = Vec::new();
        let mut failed = None;
        for segment in self.segments.iter().rev() {
            let result = segment.look_up(&prefix, &mut |place| {
                if !self.hidden.contains(&place.pack) {
                    places.push(place);
                }
            });
            if let Err(error) = result {
                failed = Some(error);
            }
        }
        match failed {
            Some(error) if places.is_empty() => Err(error),
            _ => Ok(places),
        }
    }

    /// Whether a chunk of this length is stored.
    ///
    /// # Errors
    /// As [`places`](IndexSet::places).
    pub fn holds(&self, id: &ChunkId, length: u32) -> Result<bool> {
        Ok(self.places(id)?.iter().any(|place| place.length == length))
    }

    /// Every pack that a segment names, once.
    pub fn packs(&self) -> Vec<PackRow> {
        let mut seen = HashSet::new();
        self.segments
            .iter()
            .flat_map(|segment| segment.packs())
            .filter(|row| seen.insert(row.id))
            .copied()
            .collect()
    }

    /// Number of entries in all segments.
    pub fn entries(&self) -> u64 {
        self.segments.iter().map(|segment| segment.entries()).sum()
    }
}
