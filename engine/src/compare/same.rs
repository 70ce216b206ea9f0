//! Whether a part of a disk, or a file on it, is the same in two points: by the maps where they tell, by reading where they do not.

use crate::compare::content::{Place, Places};
use crate::point::PointView;
use crate::view::VolumeView;
use cairn_base::{Error, Monitor, Result};
use cairn_guest::{EntryId, EntryKind, Volume};
use cairn_store::difference::{changed_parts, each_pair};
use cairn_store::map::REGION;
use cairn_store::{Change, ChangeList, Changes, StoredDisk};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

/// Ranges of a file that are kept apart; of one with more, what lies between them counts as its own.
const RANGES: usize = 1 << 16;

/// A volume on a disk of an open point.
#[derive(Clone, Copy)]
pub struct VolumeOf<'a> {
    /// The point.
    pub point: &'a PointView,
    /// Position of the disk in the point.
    pub disk: usize,
    /// One of the disk's volumes.
    pub volume: &'a VolumeView,
}

impl VolumeOf<'_> {
    fn stored(&self) -> Result<&Arc<StoredDisk>> {
        self.stored_at(self.disk)
    }

    fn stored_at(&self, disk: usize) -> Result<&Arc<StoredDisk>> {
        let stored = self.point.stored().get(disk);
        stored.ok_or_else(|| Error::not_found("the point has no such disk"))
    }
}

/// Whether two volumes lie at the same places of their disks, and no byte of them changed as far as the maps tell: nothing of the volumes is read. `false` may also
/// mean that equal bytes were cut otherwise.
///
/// # Errors
/// [`Kind::Damaged`](crate::Kind::Damaged) if a part of a map is lost.
pub fn same_volume(old: VolumeOf<'_>, new: VolumeOf<'_>) -> Result<bool> {
    let (before, after) = (old.volume.pieces(), new.volume.pieces());
    if before.len() != after.len() || old.volume.place().is_some() != new.volume.place().is_some() {
        return Ok(false);
    }
    for ((disk, was), (to, is)) in before.iter().zip(after) {
        if was != is {
            return Ok(false);
        }
        let mut same = true;
        let (disk, to) = (old.stored_at(*disk)?, new.stored_at(*to)?);
        each_change(disk, to, std::slice::from_ref(is), &mut |_| {
            same = false;
            Ok(ControlFlow::Break(()))
        })?;
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the entry `ids[0]` of one volume and `ids[1]` of another are of one kind and have the same content: files with their named streams, targets of links,
/// numbers of devices. Folders are never the same. What lies at the same place of both disks, unchanged by their maps, is not read.
///
/// # Errors
/// As reading does; [`Kind::Interrupted`](crate::Kind::Interrupted) on request.
pub fn same_content(
    old: VolumeOf<'_>,
    new: VolumeOf<'_>,
    ids: [EntryId; 2],
    monitor: &dyn Monitor,
) -> Result<bool> {
    let (before, after) = (old.volume.open()?, new.volume.open()?);
    let [was, is] = [before.attributes(ids[0])?, after.attributes(ids[1])?];
    if was.kind != is.kind {
        return Ok(false);
    }
    match is.kind {
        EntryKind::File => {}
        EntryKind::Folder => return Ok(false),
        EntryKind::Symlink => return Ok(before.read_link(ids[0])? == after.read_link(ids[1])?),
        _ => return Ok(was.device == is.device),
    }
    if was.size != is.size {
        return Ok(false);
    }
    let changes = match (old.volume.place(), new.volume.place()) {
        (Some(here), Some(there)) if here.start == there.start => {
            Some(changes_of(old, new, &*before, ids[0])?)
        }
        _ => None,
    };
    let (old_disk, new_disk) = (old.stored()?, new.stored()?);
    let places = Places {
        old: Place {
            volume: &*before,
            disk: &**old_disk,
            start: old.volume.start(),
        },
        new: Place {
            volume: &*after,
            disk: &**new_disk,
            start: new.volume.start(),
        },
        changes: changes.as_ref(),
        monitor,
    };
    places.same_content(ids, is.size)
}

/// What changed on the disk where a file lies in the older point.
fn changes_of(
    old: VolumeOf<'_>,
    new: VolumeOf<'_>,
    volume: &dyn Volume,
    id: EntryId,
) -> Result<Changes> {
    let start = old.volume.start();
    let mut ranges: Vec<Range<u64>> = Vec::new();
    volume.extents(id, &mut |extent| {
        let place = extent.place;
        let range = start.saturating_add(place.start)..start.saturating_add(place.end);
        let full = ranges.len() >= RANGES;
        match ranges.last_mut() {
            Some(last) if full || ranges_meet(last, &range) => *last = around(last, &range),
            _ => ranges.push(range),
        }
        ControlFlow::Continue(())
    })?;
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, last| {
        let meet = ranges_meet(last, next);
        if meet {
            *last = around(last, next);
        }
        meet
    });
    let mut changes = ChangeList::new(new.stored()?.tree().shape().size());
    each_change(old.stored()?, new.stored()?, &ranges, &mut |change| {
        let length = change.range.end.saturating_sub(change.range.start);
        changes.add(change.range.start, length, change.zero)?;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(changes.finish())
}

fn ranges_meet(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start <= other.end && other.start <= one.end
}

/// The least range that holds both.
fn around(one: &Range<u64>, other: &Range<u64>) -> Range<u64> {
    one.start.min(other.start)..one.end.max(other.end)
}

/// Tells the changes by maps that touch one of `ranges`, which are ascending and apart. Leaves beside them are not read.
fn each_change(
    old: &StoredDisk,
    new: &StoredDisk,
    ranges: &[Range<u64>],
    sink: &mut dyn FnMut(Change) -> Result<ControlFlow<()>>,
) -> Result<()> {
    // The first of the ranges that ends behind an offset.
    let behind =
        |offset: u64| ranges.get(ranges.partition_point(|range: &Range<u64>| range.end <= offset));
    each_pair(Some(old.tree()), Some(new.tree()), &mut |pair| {
        if pair.level > 0 {
            return Ok(ControlFlow::Continue(()));
        }
        let start = pair.region.saturating_mul(REGION);
        match behind(start) {
            None => return Ok(ControlFlow::Break(())),
            Some(range) if range.start >= start.saturating_add(REGION) => {
                return Ok(ControlFlow::Continue(()));
            }
            Some(_) => {}
        }
        let before = old.tree().leaf(pair.region, pair.old)?;
        let after = new.tree().leaf(pair.region, pair.new)?;
        for change in changed_parts(&before, &after) {
            let range =
                start.saturating_add(change.range.start)..start.saturating_add(change.range.end);
            let touches = behind(range.start).is_some_and(|wanted| wanted.start < range.end);
            let zero = change.zero;
            if touches && sink(Change { range, zero })?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    })
}
