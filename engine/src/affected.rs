//! Which files of the guests are hit by damage of the store.
//!
//! A verification names the bytes of disks that are lost. Whoever has to decide what that means wants the names of files: so the volumes of the points
//! concerned are walked, and what lies where is laid over what is lost.

use crate::store::Store;
use crate::view::{DiskView, VolumeView};
use crate::walk::list;
use cairn_base::{Error, Kind, Monitor, PointId, Result};
use cairn_guest::{EntryId, EntryKind, Volume};
use cairn_store::{Point, VerifyReport};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::{ControlFlow, Range};

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
    /// Numbers of the report's damages that hit it, ascending.
    pub damages: Vec<usize>,
}

/// Everything that is hit.
#[derive(Debug, Default)]
pub struct AffectedReport {
    /// By machine and path.
    pub all: Vec<Affected>,
    /// What could not be looked into.
    pub problems: Vec<String>,
}

/// A lost range and the number of the damage that names it.
type Lost = (Range<u64>, usize);

/// What was found in one disk of one point.
struct Hit {
    path: String,
    kind: AffectedKind,
    lost: u64,
    why: Option<String>,
    damages: BTreeSet<usize>,
}

impl Store {
    /// The files, folders and volumes that are hit by what `report` found, in every point (of each machine the newest 64).
    ///
    /// # Errors
    /// [`Kind::Interrupted`](crate::Kind::Interrupted) on request; as the operating system reports.
    pub fn affected(&self, report: &VerifyReport, monitor: &dyn Monitor) -> Result<AffectedReport> {
        let mut found = AffectedReport::default();
        let hit: HashSet<PointId> = report
            .damaged
            .iter()
            .flat_map(|d| d.points.clone())
            .collect();
        if hit.is_empty() {
            return Ok(found);
        }
        let mut points = self.points(None)?.points;
        points.retain(|point| hit.contains(&point.id));
        let mut all: BTreeMap<(String, String, AffectedKind), Affected> = BTreeMap::new();
        let mut looked: BTreeMap<String, usize> = BTreeMap::new();
        for point in points.iter().rev() {
            let count = looked
                .entry(point.record.machine.to_lowercase())
                .or_default();
            *count += 1;
            if *count > MAX_POINTS {
                continue;
            }
            match self.hits(point, report, monitor) {
                Ok(hits) => hits.into_iter().for_each(|hit| add(&mut all, point, hit)),
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
        found.all = all.into_values().collect();
        Ok(found)
    }

    fn hits(
        &self,
        point: &Point,
        report: &VerifyReport,
        monitor: &dyn Monitor,
    ) -> Result<Vec<Hit>> {
        let view = self.open_point(point)?;
        let mut hits = Vec::new();
        for disk in view.disks() {
            let numbered = report.damaged.iter().enumerate();
            let here =
                numbered.filter(|(_, d)| d.disk == disk.name() && d.points.contains(&point.id));
            let mut lost: Vec<Lost> = here
                .map(|(number, d)| (d.offset..d.offset.saturating_add(d.length), number))
                .collect();
            lost.sort_by_key(|(range, _)| range.start);
            if !lost.is_empty() {
                let chunks = Chunks::of(report, &lost);
                of_disk(disk, &lost, &chunks, monitor, &mut hits)?;
            }
        }
        Ok(hits)
    }
}

fn add(all: &mut BTreeMap<(String, String, AffectedKind), Affected>, point: &Point, hit: Hit) {
    let machine = &point.record.machine;
    let key = (machine.to_lowercase(), hit.path.clone(), hit.kind);
    let affected = all.entry(key).or_insert_with(|| Affected {
        machine: machine.clone(),
        path: hit.path,
        kind: hit.kind,
        points: Vec::new(),
        lost: 0,
        why: hit.why,
        damages: Vec::new(),
    });
    affected.points.push(point.id);
    affected.lost = affected.lost.max(hit.lost);
    affected.damages.extend(hit.damages);
    affected.damages.sort_unstable();
    affected.damages.dedup();
}

/// The damages by their chunks.
struct Chunks(HashMap<String, Vec<usize>>);

impl Chunks {
    fn of(report: &VerifyReport, lost: &[Lost]) -> Chunks {
        let mut chunks: HashMap<String, Vec<usize>> = HashMap::new();
        for (_, number) in lost {
            let chunk = report.damaged.get(*number).and_then(|damage| damage.chunk);
            if let Some(chunk) = chunk {
                chunks.entry(chunk.to_string()).or_default().push(*number);
            }
        }
        Chunks(chunks)
    }

    /// Those that an error is about.
    fn numbers(&self, error: &Error) -> BTreeSet<usize> {
        let numbers = error.id().and_then(|id| self.0.get(id));
        numbers.into_iter().flatten().copied().collect()
    }
}

fn of_disk(
    disk: &DiskView,
    lost: &[Lost],
    chunks: &Chunks,
    monitor: &dyn Monitor,
    hits: &mut Vec<Hit>,
) -> Result<()> {
    let whole = |kind, why: Option<&Error>, lost: &[Lost]| Hit {
        path: format!("/{}", disk.name()),
        kind,
        lost: bytes(lost),
        why: why.map(ToString::to_string),
        damages: lost.iter().map(|(_, number)| *number).collect(),
    };
    let volumes = match disk.volumes() {
        Ok(volumes) => volumes,
        Err(error) => {
            hits.push(whole(AffectedKind::Volume, Some(&error), lost));
            return Ok(());
        }
    };
    let mut rest = lost.to_vec();
    for volume in volumes {
        let place = volume.start()..volume.start().saturating_add(volume.size());
        let inside: Vec<Lost> = lost
            .iter()
            .map(|(range, number)| (shared(range, &place), *number))
            .filter(|(range, _)| !range.is_empty())
            .map(|(range, number)| (range.start - place.start..range.end - place.start, number))
            .collect();
        rest = rest
            .iter()
            .flat_map(|lost| without(lost, std::slice::from_ref(&place)))
            .collect();
        if !inside.is_empty() {
            of_volume(disk, volume, (&inside, chunks), monitor, hits)?;
        }
    }
    if !rest.is_empty() {
        hits.push(whole(AffectedKind::Outside, None, &rest));
    }
    Ok(())
}

fn of_volume(
    disk: &DiskView,
    view: &VolumeView,
    (lost, chunks): (&[Lost], &Chunks),
    monitor: &dyn Monitor,
    hits: &mut Vec<Hit>,
) -> Result<()> {
    let root = format!("/{}/{}", disk.name(), view.folder_name());
    let whole = |kind, why: Option<String>, lost: &[Lost]| Hit {
        path: root.clone(),
        kind,
        lost: bytes(lost),
        why,
        damages: lost.iter().map(|(_, number)| *number).collect(),
    };
    let volume = match view.open() {
        Ok(volume) => volume,
        Err(error) => {
            hits.push(whole(AffectedKind::Volume, Some(error.to_string()), lost));
            return Ok(());
        }
    };
    let mut search = Search {
        volume: &*volume,
        lost,
        chunks,
        covered: Vec::new(),
        hits,
    };
    search.walk(&root, monitor)?;
    let mut covered = std::mem::take(&mut search.covered);
    covered.sort_by_key(|range| range.start);
    let rest: Vec<Lost> = lost
        .iter()
        .flat_map(|lost| without(lost, &covered))
        .collect();
    let mut free = Vec::new();
    let known = volume.free_space(&mut |range| {
        free.push(range);
        ControlFlow::Continue(())
    });
    let known = if known.is_ok() { free } else { Vec::new() };
    let used: Vec<Lost> = rest.iter().flat_map(|lost| without(lost, &known)).collect();
    let taken: Vec<Range<u64>> = used.iter().map(|(range, _)| range.clone()).collect();
    let unused: Vec<Lost> = rest.iter().flat_map(|lost| without(lost, &taken)).collect();
    if !used.is_empty() {
        hits.push(whole(AffectedKind::Structure, None, &used));
    }
    if !unused.is_empty() {
        hits.push(whole(AffectedKind::Free, None, &unused));
    }
    Ok(())
}

/// A walk through a volume.
struct Search<'a> {
    volume: &'a dyn Volume,
    lost: &'a [Lost],
    chunks: &'a Chunks,
    /// What of the lost ranges belongs to entries.
    covered: Vec<Range<u64>>,
    hits: &'a mut Vec<Hit>,
}

impl Search<'_> {
    fn walk(&mut self, root: &str, monitor: &dyn Monitor) -> Result<()> {
        let mut seen = HashSet::from([self.volume.root()]);
        let mut folders = vec![(self.volume.root(), root.to_string())];
        self.entry(self.volume.root(), root);
        while let Some((folder, path)) = folders.pop() {
            if monitor.stop_requested() {
                return Err(Error::interrupted());
            }
            let entries = match list(self.volume, folder) {
                Ok(entries) => entries,
                Err(error) => {
                    self.unreadable(&path, &error);
                    continue;
                }
            };
            for entry in entries {
                let path = format!("{path}/{}", String::from_utf8_lossy(&entry.name));
                self.entry(entry.id, &path);
                // A damaged folder may lie in itself.
                if entry.kind == EntryKind::Folder && seen.insert(entry.id) {
                    folders.push((entry.id, path));
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, id: EntryId, path: &str) {
        let (lost, covered) = (self.lost, &mut self.covered);
        let mut hit: Vec<Lost> = Vec::new();
        let known = self.volume.extents(id, &mut |extent| {
            let first = lost.partition_point(|(range, _)| range.end <= extent.start);
            let all = lost.iter().skip(first);
            for (range, number) in all.take_while(|(range, _)| range.start < extent.end) {
                let both = shared(range, &extent);
                covered.push(both.clone());
                hit.push((both, *number));
            }
            ControlFlow::Continue(())
        });
        if !hit.is_empty() {
            self.hits.push(Hit {
                path: path.to_string(),
                kind: AffectedKind::File,
                lost: bytes(&hit),
                why: None,
                damages: hit.iter().map(|(_, number)| *number).collect(),
            });
        }
        if let Err(error) = known {
            self.unreadable(path, &error);
        }
    }

    /// Something cannot be read. Only what the store has lost is told, not what the guest had damaged itself.
    fn unreadable(&mut self, path: &str, error: &Error) {
        let damages = self.chunks.numbers(error);
        if damages.is_empty() {
            return;
        }
        self.hits.push(Hit {
            path: path.to_string(),
            kind: AffectedKind::Unreadable,
            lost: 0,
            why: Some(error.to_string()),
            damages,
        });
    }
}

fn shared(a: &Range<u64>, b: &Range<u64>) -> Range<u64> {
    let start = a.start.max(b.start);
    start..a.end.min(b.end).max(start)
}

fn bytes(lost: &[Lost]) -> u64 {
    let lengths = lost
        .iter()
        .map(|(range, _)| range.end.saturating_sub(range.start));
    lengths.fold(0, u64::saturating_add)
}

/// What of a lost range lies in none of `others`, which are sorted by their starts.
fn without((range, number): &Lost, others: &[Range<u64>]) -> Vec<Lost> {
    let mut rest = Vec::new();
    let mut at = range.start;
    for other in others {
        if other.start >= range.end {
            break;
        }
        if other.end <= at {
            continue;
        }
        if other.start > at {
            rest.push((at..other.start, *number));
        }
        at = at.max(other.end);
    }
    if at < range.end {
        rest.push((at..range.end, *number));
    }
    rest
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_taken_out_of_a_range() {
        let rest = |others: &[Range<u64>]| {
            let lost = without(&(10..20, 7), others);
            assert!(lost.iter().all(|(_, number)| *number == 7));
            lost.into_iter().map(|(range, _)| range).collect::<Vec<_>>()
        };
        assert_eq!(rest(&[]), [10..20]);
        assert_eq!(rest(&[0..10, 20..30]), [10..20]);
        assert_eq!(rest(&[0..12, 11..13, 15..16, 19..40]), [13..15, 16..19]);
        assert!(rest(&[5..25]).is_empty());
        assert_eq!(rest(&[12..18, 13..14]), [10..12, 18..20]);
    }
}
