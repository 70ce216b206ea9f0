//! What is different between two recovery points: ranges of their disks, and files of their guests.

pub(crate) mod content;
mod files;
pub(crate) mod names;
mod same;
mod walk;

pub(crate) use files::changed_list;
pub use files::{FileChange, FileSink, Found, How, Part, changed_files};
pub use same::{VolumeOf, same_content, same_volume};

use crate::point::PointView;
use cairn_base::{Error, Monitor, Result};
use cairn_store::{ChangeSink, Detail, StoredDisk, difference};
use std::sync::Arc;

/// Tells where the disk of a name differs between two points, within its size in the newer one: in time proportional to the difference. The points may be of
/// different machines. What lies behind the end of the older disk counts as zeros.
///
/// # Errors
/// [`Kind::NotFound`](crate::Kind::NotFound) if one of them has no such disk; [`Kind::Damaged`](crate::Kind::Damaged) if a part of a map, or a chunk
/// that has to be read, is lost; [`Kind::Interrupted`](crate::Kind::Interrupted) on request.
pub fn changed_ranges(
    older: &PointView,
    newer: &PointView,
    disk: &str,
    detail: Detail,
    monitor: &dyn Monitor,
    sink: ChangeSink<'_>,
) -> Result<()> {
    let (old, new) = (stored(older, disk)?, stored(newer, disk)?);
    difference(old, new, detail, monitor, sink)
}

/// The disk of that name, without regard to case.
fn stored<'a>(point: &'a PointView, name: &str) -> Result<&'a Arc<StoredDisk>> {
    let mut disks = point.disks().iter().zip(point.stored());
    let found = disks.find(|(view, _)| view.name().eq_ignore_ascii_case(name));
    found.map(|(_, stored)| stored).ok_or_else(|| {
        let names: Vec<_> = point.disks().iter().map(|disk| disk.name()).collect();
        Error::not_found(format!(
            "the recovery point {} has no disk `{name}`",
            point.point().id
        ))
        .advise(format!("it has {}", names.join(", ")))
    })
}
