//! Which files of the guests are hit by damage of the store.
//!
//! A verification names the bytes of disks that are lost. Whoever has to decide what that means wants the names of files: so the volumes of the points
//! concerned are walked, and what lies where is laid over what is lost.

mod names;
mod ranges;
mod search;

use crate::point::PointView;
use crate::store::Store;
use crate::view::{DiskView, VolumeView};
use cairn_base::{Error, Kind, Monitor, PointId, Result};
use cairn_store::{Point, VerifyReport};
use names::{Hit, MAX_NAMES, Names};
use ranges::{Covered, Lost, bytes, shared, touched, without};
use search::{Chunks, Hits, search};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Points of a machine that are looked into, the newest ones: each costs a walk through the volumes that are hit.
const MAX_POINTS: usize = 64;

/// What is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AffectedKind {
    /// Content of a file.
    File,
    /// A folder, or a file's record: what is below or in it is not known.
    Unreadable,
    /// A volume that cannot be opened.
    Volume,
    /// What a file system keeps for itself, or old content of its journal.
    Structure,
    /// Blocks that hold nothing.
    Free,
    /// Bytes of a disk that belong to no volume that is known.
    Outside,
}

/// Something that is hit in one or more points of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Affected {
    /// The machine.
    pub machine: String,
    /// As `cairn cat` takes it: `/disk0/p1/etc/passwd`. Names that are no UTF-8 are shown as well as they can be.
    pub path: String,
    /// What it is.
    pub kind: AffectedKind,
    /// The points in which it is hit, newest first.
    pub points: Vec<PointId>,
    /// Bytes of it that are lost, in the point where most are; 0 if that is not known.
    pub lost: u64,
    /// Why it cannot be read, if it is not merely that content is lost.
    pub why: Option<String>,
    /// Numbers of the report's damages that hit it, ascending. Of very many not all.
    pub damages: Vec<usize>,
}

/// Everything that is hit.
#[derive(Debug, Default)]
pub struct AffectedReport {
    /// By machine and path; of more than 100,000 files not all.
    pub all: Vec<Affected>,
    /// How many more files and folders are hit, at least; a problem says so.
    pub unnamed: u64,
    /// What could not be looked into.
    pub problems: Vec<String>,
}

impl Store {
    /// The files, folders and volumes that are hit by what `report` found, in every point (of each machine the newest 64).
    ///
    /// # Errors
    /// [`Kind::Interrupted`](crate::Kind::Interrupted) on request; as the operating system reports.
    pub fn affected(&self, report: &VerifyReport, monitor: &dyn Monitor) -> Result<AffectedReport> {
        let mut found = AffectedReport::default();
        let damaged = report.damaged.iter();
        let hit: HashSet<PointId> = damaged.flat_map(|d| d.points.iter().copied()).collect();
        if hit.is_empty() {
            return Ok(found);
        }
        let mut points = self.points(None)?.points;
        points.retain(|point| hit.contains(&point.id));
        drop(hit);
        // Of each machine the newest.
        let mut looked: BTreeMap<String, usize> = BTreeMap::new();
        points.reverse();
        points.retain(|point| {
            let machine = point.record.machine.to_lowercase();
            let count = looked.entry(machine).or_default();
            *count = count.saturating_add(1);
            *count <= MAX_POINTS
        });
        let mut numbers: HashMap<PointId, Vec<usize>> =
            points.iter().map(|point| (point.id, Vec::new())).collect();
        for (number, damage) in report.damaged.iter().enumerate() {
            for point in &damage.points {
                if let Some(numbers) = numbers.get_mut(point) {
                    numbers.push(number);
                }
            }
        }
        let mut names = Names::new(MAX_NAMES);
        for point in &points {
            let numbers = numbers.remove(&point.id).unwrap_or_default();
            let looked = self.hits(point, report, &numbers, monitor, &mut |hit| {
                names.add(point, hit);
            });
            names.end_point(point);
            match looked {
                Ok(()) => {}
                Err(error) if error.kind() == Kind::Interrupted => return Err(error),
                Err(error) => found.problems.push(format!(
                    "which files of {} are hit is not known: {error}",
                    point.id
                )),
            }
        }
        for (machine, count) in looked {
            if let Some(more @ 1..) = count.checked_sub(MAX_POINTS) {
                found.problems.push(format!(
                    "{more} older points of {machine} with damage were not searched for files that are hit"
                ));
            }
        }
        (found.all, found.unnamed) = names.into_parts();
        if found.unnamed > 0 {
            found.problems.push(format!(
                "at least {} more files and folders are hit than can be named",
                found.unnamed
            ));
        }
        Ok(found)
    }

    /// Tells what is hit in a point by the damages with these numbers.
    fn hits(
        &self,
        point: &Point,
        report: &VerifyReport,
        numbers: &[usize],
        monitor: &dyn Monitor,
        hits: Hits<'_>,
    ) -> Result<()> {
        let view = self.open_point(point)?;
        for (position, disk) in view.disks().iter().enumerate() {
            let damages = numbers.iter().filter_map(|number| {
                let damage = report.damaged.get(*number)?;
                Some((*number, damage))
            });
            let here = damages.filter(|(_, damage)| damage.disk == disk.name());
            let mut lost: Vec<Lost> = here
                .map(|(number, d)| (d.offset..d.offset.saturating_add(d.length), number))
                .collect();
            lost.sort_by_key(|(range, _)| range.start);
            apart(&mut lost);
            if !lost.is_empty() {
                let chunks = Chunks::of(report, &lost);
                let mut places = Covered::default();
                of_spread(&view, position, &lost, &mut places, hits);
                of_disk(disk, &lost, &chunks, places, monitor, hits)?;
            }
        }
        Ok(())
    }
}

/// Makes sorted ranges lie apart: what two damages name counts for the first.
fn apart(lost: &mut Vec<Lost>) {
    let mut end = 0;
    for (range, _) in lost.iter_mut() {
        range.start = range.start.max(end);
        end = end.max(range.end);
    }
    lost.retain(|(range, _)| !range.is_empty());
}

fn numbers(lost: &[Lost]) -> Vec<usize> {
    let mut numbers: Vec<usize> = lost.iter().map(|(_, number)| *number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// Volumes that are more than one piece of one disk, and of which a part lies on the disk at `position`: what of their files is hit is not looked for.
fn of_spread(
    point: &PointView,
    position: usize,
    lost: &[Lost],
    places: &mut Covered,
    hits: Hits<'_>,
) {
    for disk in point.disks() {
        let volumes = disk.volumes().unwrap_or_default().iter();
        for volume in volumes.filter(|volume| volume.place().is_none()) {
            let pieces = volume.pieces().iter();
            let mut hit: Vec<Lost> = Vec::new();
            for (_, place) in pieces.filter(|(on, _)| *on == position) {
                let inside = touched(lost, place).iter();
                hit.extend(inside.map(|(range, number)| (shared(range, place), *number)));
                places.add(place.clone());
            }
            if !hit.is_empty() {
                hits(Hit {
                    path: format!("/{}/{}", disk.name(), volume.folder_name()),
                    kind: AffectedKind::Volume,
                    lost: bytes(&hit),
                    why: Some("it lies on several disks or places: which of its files are hit is not looked for".into()),
                    damages: numbers(&hit),
                });
            }
        }
    }
}

fn of_disk(
    disk: &DiskView,
    lost: &[Lost],
    chunks: &Chunks,
    mut places: Covered,
    monitor: &dyn Monitor,
    hits: Hits<'_>,
) -> Result<()> {
    let whole = |kind, why: Option<&Error>, lost: &[Lost]| Hit {
        path: format!("/{}", disk.name()),
        kind,
        lost: bytes(lost),
        why: why.map(ToString::to_string),
        damages: numbers(lost),
    };
    let volumes = match disk.volumes() {
        Ok(volumes) => volumes,
        Err(error) => {
            hits(whole(AffectedKind::Volume, Some(&error), lost));
            return Ok(());
        }
    };
    for volume in volumes {
        let Some(place) = volume.place() else {
            continue;
        };
        let inside: Vec<Lost> = touched(lost, &place)
            .iter()
            .map(|(range, number)| (shared(range, &place), *number))
            .map(|(range, number)| (range.start - place.start..range.end - place.start, number))
            .collect();
        places.add(place);
        if !inside.is_empty() {
            of_volume(disk, volume, (&inside, chunks), monitor, hits)?;
        }
    }
    let rest = without(lost, places.ranges());
    if !rest.is_empty() {
        hits(whole(AffectedKind::Outside, None, &rest));
    }
    Ok(())
}

fn of_volume(
    disk: &DiskView,
    view: &VolumeView,
    (lost, chunks): (&[Lost], &Chunks),
    monitor: &dyn Monitor,
    hits: Hits<'_>,
) -> Result<()> {
    let root = format!("/{}/{}", disk.name(), view.folder_name());
    match view.open() {
        Ok(volume) => search(&*volume, &root, lost, chunks, monitor, hits),
        Err(error) => {
            hits(Hit {
                path: root,
                kind: AffectedKind::Volume,
                lost: bytes(lost),
                why: Some(error.to_string()),
                damages: numbers(lost),
            });
            Ok(())
        }
    }
}
