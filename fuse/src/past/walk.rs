//! One volume, point by point.

use crate::catalog::{Catalog, OpenPoint};
use crate::failure::{Failure, Result};
use crate::past::timeline::{Era, Problem};
use cairn::{Attributes, EntryId, EntryKind, Volume, VolumeOf, VolumeView, same_volume};
use std::ops::ControlFlow;
use std::sync::Arc;

/// A volume of a machine's disk over the points.
pub struct Walk<'a> {
    pub catalog: &'a Catalog,
    pub machine: &'a Arc<str>,
    pub partition: u32,
}

/// The volume in a point.
pub struct Seen {
    open: Arc<OpenPoint>,
    position: u16,
    pub volume: Arc<VolumeView>,
}

impl Seen {
    /// As the engine compares it.
    pub fn place(&self) -> Option<VolumeOf<'_>> {
        Some(VolumeOf {
            point: self.open.view()?,
            disk: usize::from(self.position),
            volume: &self.volume,
        })
    }
}

/// Receives the volume in the points in which it is not the same as in the one before, until it breaks.
pub type Visit<'v> = &'v mut dyn FnMut(&Era, &Arc<Seen>) -> Result<ControlFlow<()>>;

impl Walk<'_> {
    /// Shows `visit` the volume in one point after the other; at most three points are open at a time. Answers what could not be read: it never ends the walk.
    /// Where it cannot be told whether a volume is the same as in the point before, it is shown.
    pub fn each<'e>(&self, eras: impl Iterator<Item = &'e Era>, visit: Visit<'_>) -> Vec<Problem> {
        let (mut before, mut problems) = (None, Vec::new());
        for era in eras {
            match self.step(era, &mut before, visit) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => break,
                // Forgotten a moment ago.
                Err(Failure::Gone(_)) => {}
                Err(failure) => problems.push(Problem::of(&era.point, &failure)),
            }
        }
        problems
    }

    fn step(
        &self,
        era: &Era,
        before: &mut Option<Arc<Seen>>,
        visit: Visit<'_>,
    ) -> Result<ControlFlow<()>> {
        let open = self.catalog.open_apart(self.machine, &era.point)?;
        let Some(volume) = open.disk(era.position)?.volume(self.partition)?.cloned() else {
            *before = None;
            return Ok(ControlFlow::Continue(()));
        };
        let seen = Arc::new(Seen {
            open,
            position: era.position,
            volume,
        });
        let places = before
            .as_ref()
            .and_then(|before| before.place())
            .zip(seen.place());
        // What is lost may be of the other point only, or of a part of the volume that nobody asks for.
        if let Some((old, new)) = places
            && same_volume(old, new).unwrap_or(false)
        {
            return Ok(ControlFlow::Continue(()));
        }
        let flow = visit(era, &seen)?;
        *before = Some(seen);
        Ok(flow)
    }
}

/// The number of the partition that is called so.
pub fn partition(name: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(name).ok()?;
    let number = text.strip_prefix('p')?.parse().ok()?;
    (format!("p{number}") == text).then_some(number)
}

/// What lies at a path of a volume.
pub fn resolve(volume: &dyn Volume, names: &[&[u8]]) -> Result<Option<(EntryId, Attributes)>> {
    let mut id = volume.root();
    let mut attributes = volume.attributes(id)?;
    for name in names {
        if attributes.kind != EntryKind::Folder {
            return Ok(None);
        }
        match volume.lookup(id, name)? {
            Some(found) => id = found.id,
            None => return Ok(None),
        }
        attributes = volume.attributes(id)?;
    }
    Ok(Some((id, attributes)))
}
