//! The points of a machine one after the other. What did not change from one to the next is not looked at again.

use crate::compare::changed_list;
use crate::compare::content::{Place, Places};
use crate::find::criteria::Criteria;
use crate::find::doubts::Doubts;
use crate::find::found::{FileVersion, FindEvent, FindSink};
use crate::find::letters::Letters;
use crate::find::merge::Merge;
use crate::find::versions::{Versions, Writer};
use crate::point::PointView;
use crate::store::Store;
use crate::view::{DiskView, VolumeView};
use cairn_base::{Error, Kind, Monitor, PointId, Result, Stage, Time};
use cairn_store::layout::PointFile;
use cairn_store::{Changes, DiskRecord, Point};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Looks for files in all points of a machine, or in those of `only`. A version goes on from one point to the next while path, kind, size and time of change
/// are the same, and the content too: it is compared without being read where it lies at the same place and nothing of that place changed on the disk. Of a
/// folder times do not count; its latest is told. A disk with the same map, and a volume in which no byte changed, are not looked at again.
/// Memory does not depend on the number of files or of what is found.
///
/// # Errors
/// [`Kind::NotFound`] if there is no such machine, or a point of `only` is not there; [`Kind::Interrupted`] on request; as the operating system reports.
/// What cannot be read below that is told to the sink; why what was found may be old, missing or wrong, to the monitor.
pub fn find_files(
    store: &Store,
    machine: &str,
    only: Option<&[PointId]>,
    criteria: &Criteria,
    monitor: &dyn Monitor,
    sink: FindSink<'_>,
) -> Result<()> {
    let mut stands = Vec::new();
    let mut ended = false;
    store.each_point(Some(machine), &mut |found| {
        let flow = match found {
            Ok(point) if only.is_none_or(|ids| ids.contains(&point.id)) => {
                stands.push(Stand::of(point));
                ControlFlow::Continue(())
            }
            Ok(_) => ControlFlow::Continue(()),
            Err(error) => sink(FindEvent::Problem(None, Vec::new(), error)),
        };
        ended = flow.is_break();
        flow
    })?;
    if ended {
        return Ok(());
    }
    let missing = |id: &&PointId| !stands.iter().any(|stand| stand.file.id == **id);
    if let Some(id) = only.and_then(|ids| ids.iter().find(missing)) {
        let what = format!("the machine `{machine}` has no point {id}");
        return Err(Error::not_found(what).advise("see `cairn points`"));
    }
    // The order of sequence numbers is not that of times where there are imports; people think in times.
    stands.sort_by_key(|stand| stand.file.seconds);
    let mut search = Search {
        store,
        machine,
        criteria,
        monitor,
        sink,
        disks: BTreeMap::new(),
        doubts: Doubts::default(),
        letters: (Vec::new(), Letters::default()),
    };
    let bytes = |stand: &Stand| stand.disks.iter().map(|disk| disk.size).sum::<u64>();
    monitor.begin(Stage::Find, stands.iter().map(bytes).sum());
    for (number, stand) in (0..).zip(&stands) {
        if search.point(number, stand)?.is_break() {
            return Ok(());
        }
        monitor.advance(Stage::Find, bytes(stand));
    }
    monitor.finish(Stage::Find);
    search.doubts.tell(machine, monitor);
    search.tell(&stands)
}

/// What has to be known of a point before it is opened.
struct Stand {
    file: PointFile,
    disks: Vec<DiskFacts>,
}

/// Disks with the same facts show the same files.
#[derive(Clone, PartialEq, Eq)]
struct DiskFacts {
    name: String,
    size: u64,
    root: [u8; 32],
    format: String,
    sector_size: u32,
}

impl Stand {
    fn of(point: Point) -> Stand {
        let facts = |disk: &DiskRecord| DiskFacts {
            name: disk.name.to_lowercase(),
            size: disk.size,
            root: disk.root,
            format: disk.image.format.clone(),
            sector_size: disk.image.sector_size,
        };
        Stand {
            file: point.file(),
            disks: point.record.disks.iter().map(facts).collect(),
        }
    }
}

/// A row of points in which a volume was the same.
struct Row {
    first: u32,
    last: u32,
    points: u64,
}

#[derive(Default)]
struct VolumeState {
    rows: Vec<Row>,
    /// As it was last seen, and whether it could be read.
    seen: Option<(Arc<VolumeView>, bool)>,
    /// Its drive letters then, if they are wanted.
    letters: Vec<u8>,
    versions: Versions,
}

struct DiskState {
    facts: DiskFacts,
    /// None if it could not be opened, or was not in the point before.
    point: Option<(Arc<PointView>, usize)>,
    volumes: BTreeMap<u32, VolumeState>,
}

struct Search<'a> {
    store: &'a Store,
    machine: &'a str,
    criteria: &'a Criteria,
    monitor: &'a dyn Monitor,
    sink: FindSink<'a>,
    disks: BTreeMap<String, DiskState>,
    doubts: Doubts,
    /// The disks of the point that was looked at last, none if its letters could not all be told; and the drive letters of its volumes, if they are wanted.
    letters: (Vec<DiskFacts>, Letters),
}

impl Search<'_> {
    fn point(&mut self, number: u32, stand: &Stand) -> Result<ControlFlow<()>> {
        let mut opened: Option<Arc<PointView>> = None;
        // Letters follow from all disks.
        if !self.criteria.lettered.is_empty() && self.letters.0 != stand.disks {
            match self.open(stand) {
                Ok(Some(point)) => self.look_for_letters(stand, opened.insert(Arc::new(point))),
                Ok(None) => return Ok(ControlFlow::Continue(())),
                Err(error) => return self.problem(stand, Vec::new(), error),
            }
        }
        for (at, facts) in stand.disks.iter().enumerate() {
            if self.monitor.stop_requested() {
                return Err(Error::interrupted());
            }
            let state = self.disks.get_mut(&facts.name);
            let letters = &self.letters.1;
            let is_same = |state: &&mut DiskState| {
                state.facts == *facts && !state.shows_more() && state.has_letters(at, letters)
            };
            if let Some(state) = state.filter(is_same) {
                state.goes_on(number);
                continue;
            }
            if opened.is_none() {
                match self.open(stand) {
                    Ok(Some(point)) => opened = Some(Arc::new(point)),
                    // Forgotten since the list was read: it is as if it had not been there.
                    Ok(None) => return Ok(ControlFlow::Continue(())),
                    Err(error) => return self.problem(stand, Vec::new(), error),
                }
            }
            let Some(point) = &opened else { continue };
            let mut state = self.disks.remove(&facts.name).unwrap_or(DiskState {
                facts: facts.clone(),
                point: None,
                volumes: BTreeMap::new(),
            });
            let looked = self.disk(number, stand, &mut state, (point.clone(), at));
            state.facts = facts.clone();
            self.disks.insert(facts.name.clone(), state);
            if looked?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        for (name, state) in &mut self.disks {
            if !stand.disks.iter().any(|facts| facts.name == *name) {
                state.is_gone();
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn open(&self, stand: &Stand) -> Result<Option<PointView>> {
        let point = self.store.read_point(self.machine, &stand.file);
        match point.and_then(|point| self.store.open_point(&point)) {
            Ok(point) => Ok(Some(point)),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn look_for_letters(&mut self, stand: &Stand, point: &PointView) {
        let layout = point.machine().layout();
        for note in layout.notes().iter().filter(|note| note.is_defect) {
            self.doubts.add("", note.text.clone(), stand.file.seconds);
        }
        // Letters that were not all told are those of no other point.
        let of = match layout.is_final() {
            true => stand.disks.clone(),
            false => Vec::new(),
        };
        self.letters = (of, Letters::of(&layout));
    }

    /// A disk that is not as it was in the point before.
    fn disk(
        &mut self,
        number: u32,
        stand: &Stand,
        state: &mut DiskState,
        (point, at): (Arc<PointView>, usize),
    ) -> Result<ControlFlow<()>> {
        let Some(disk) = point.disks().get(at).cloned() else {
            return Ok(ControlFlow::Continue(()));
        };
        let path = disk.name().as_bytes();
        let before = state.point.take();
        let changes = self.changes(before.as_ref(), (&point, at))?;
        let volumes = match disk.volumes() {
            Ok(volumes) => volumes,
            Err(error) => {
                state.is_gone();
                return self.problem(stand, path.to_vec(), error);
            }
        };
        for (partition, volume) in &mut state.volumes {
            if !volumes.iter().any(|found| found.number() == *partition) {
                volume.seen = None;
            }
        }
        for volume in volumes {
            if self.monitor.stop_requested() {
                return Err(Error::interrupted());
            }
            let of = state.volumes.entry(volume.number()).or_default();
            let known = of.seen.take();
            let letters = self.letters.1.of_volume(at, volume.number());
            let had = std::mem::replace(&mut of.letters, letters.to_vec());
            let same = |(old, _): &&(Arc<VolumeView>, bool)| {
                had == letters && is_same(old, volume, changes.as_ref())
            };
            if let Some((_, readable)) = known.as_ref().filter(same) {
                of.goes_on(number, *readable);
                of.seen = Some((volume.clone(), *readable));
                continue;
            }
            let old = match (&before, &changes, known) {
                (Some((point, at)), Some(changes), Some((old, true))) => {
                    let disk = point.disks().get(*at);
                    disk.map(|disk| (disk.clone(), old, changes))
                }
                _ => None,
            };
            let looked = self.volume(number, of, (&disk, volume), old);
            of.seen = Some((volume.clone(), looked.is_ok()));
            self.doubts.look(disk.name(), volume, stand.file.seconds);
            let path = [path, b"/", volume.folder_name().as_bytes()].concat();
            let flow = match looked {
                Ok(problems) => self.problems(stand, problems),
                // A swap partition, say: it has no files that could be missed.
                Err(_) if volume.holds_no_files() => ControlFlow::Continue(()),
                Err(error) => self.problem(stand, path, error)?,
            };
            if flow.is_break() {
                return Ok(flow);
            }
        }
        state.point = Some((point, at));
        Ok(ControlFlow::Continue(()))
    }

    /// What changed on a disk since it was looked at; nothing if that cannot be told: then nothing is known to be the same.
    fn changes(
        &self,
        before: Option<&(Arc<PointView>, usize)>,
        now: (&Arc<PointView>, usize),
    ) -> Result<Option<Changes>> {
        match before.map(|old| changes(old, now, self.monitor)) {
            Some(Err(error)) if error.kind() == Kind::Interrupted => Err(error),
            Some(Err(_)) | None => Ok(None),
            Some(Ok(changes)) => Ok(Some(changes)),
        }
    }

    /// Looks through a volume. Answers what in it could not be read.
    fn volume(
        &mut self,
        number: u32,
        state: &mut VolumeState,
        (disk, view): (&Arc<DiskView>, &Arc<VolumeView>),
        old: Option<(Arc<DiskView>, Arc<VolumeView>, &Changes)>,
    ) -> Result<Vec<(Vec<u8>, Error)>> {
        let volume = view.open()?;
        let before = match &old {
            Some((disk, was, changes)) => {
                let is_one_piece = was.place().and(view.place()).is_some();
                Some((disk, was.open()?, was.start(), *changes, is_one_piece))
            }
            None => None,
        };
        let places = before
            .as_ref()
            .map(|(old, files, start, changes, is_one_piece)| Places {
                old: Place {
                    volume: &**files,
                    disk: &**old.disk(),
                    start: *start,
                },
                new: Place {
                    volume: &*volume,
                    disk: &**disk.disk(),
                    start: view.start(),
                },
                // Of a volume on several disks they say nothing.
                changes: Some(*changes).filter(|_| *is_one_piece),
                monitor: self.monitor,
            });
        let path = format!("{}/{}", disk.name(), view.folder_name());
        let row = u32::try_from(state.rows.len()).unwrap_or(u32::MAX);
        let mut merge = Merge {
            criteria: self.criteria,
            monitor: self.monitor,
            volume: &*volume,
            letters: &state.letters,
            places,
            row,
            writer: Writer::default(),
            problems: Vec::new(),
        };
        merge.run(path.into_bytes(), &mut state.versions)?;
        let problems = merge.problems;
        state.versions = merge.writer.finish()?;
        state.rows.push(Row {
            first: number,
            last: number,
            points: 1,
        });
        Ok(problems)
    }

    fn problem(&mut self, stand: &Stand, path: Vec<u8>, error: Error) -> Result<ControlFlow<()>> {
        if error.kind() == Kind::Interrupted {
            return Err(error);
        }
        Ok((self.sink)(FindEvent::Problem(
            Some(stand.file),
            path,
            error,
        )))
    }

    fn problems(&mut self, stand: &Stand, all: Vec<(Vec<u8>, Error)>) -> ControlFlow<()> {
        all.into_iter().try_for_each(|(path, error)| {
            (self.sink)(FindEvent::Problem(Some(stand.file), path, error))
        })
    }

    /// Tells what was found.
    fn tell(&mut self, stands: &[Stand]) -> Result<()> {
        let Search { disks, sink, .. } = self;
        for volume in disks
            .values_mut()
            .flat_map(|disk| disk.volumes.values_mut())
        {
            let mut reader = volume.versions.read()?;
            while let Some(version) = reader.next()? {
                let row = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
                let (from, to) = (row(version.stands.0), row(version.stands.1));
                let rows = volume.rows.get(from..=to).unwrap_or_default();
                let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
                    continue;
                };
                let (Some(first), Some(last)) =
                    (stands.get(row(first.first)), stands.get(row(last.last)))
                else {
                    continue;
                };
                let found = FileVersion {
                    path: version.path,
                    kind: version.kind,
                    size: version.size,
                    modified: Time {
                        seconds: version.modified.0,
                        nanos: version.modified.1,
                    },
                    first: first.file,
                    last: last.file,
                    points: rows.iter().map(|row| row.points).sum(),
                };
                if sink(FindEvent::Found(found)).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

impl DiskState {
    /// Whether it shows volumes that lie on other disks too: that this one is the same says nothing of them.
    fn shows_more(&self) -> bool {
        let mut seen = self
            .volumes
            .values()
            .filter_map(|volume| volume.seen.as_ref());
        seen.any(|(volume, _)| volume.place().is_none())
    }

    /// Whether its volumes have the drive letters that they had, if it lies at this position in the point.
    fn has_letters(&self, position: usize, letters: &Letters) -> bool {
        let mut seen = self.volumes.iter().filter(|(_, of)| of.seen.is_some());
        seen.all(|(number, of)| of.letters == letters.of_volume(position, *number))
    }

    /// It is in one more point as it was.
    fn goes_on(&mut self, number: u32) {
        for volume in self.volumes.values_mut() {
            if let Some((_, readable)) = volume.seen {
                volume.goes_on(number, readable);
            }
        }
    }

    /// What comes later does not go on from here.
    fn is_gone(&mut self) {
        self.point = None;
        // Also a disk with the same map is looked at again.
        self.facts.root = [0; 32];
        self.facts.size = u64::MAX;
        for volume in self.volumes.values_mut() {
            volume.seen = None;
        }
    }
}

impl VolumeState {
    fn goes_on(&mut self, number: u32, readable: bool) {
        if let Some(row) = self.rows.last_mut().filter(|_| readable) {
            row.last = number;
            row.points = row.points.saturating_add(1);
        }
    }
}

fn changes(
    (old, at): &(Arc<PointView>, usize),
    (new, to): (&Arc<PointView>, usize),
    monitor: &dyn Monitor,
) -> Result<Changes> {
    match (old.stored().get(*at), new.stored().get(to)) {
        (Some(old), Some(new)) => changed_list(old, new, monitor),
        _ => Err(Error::not_found("the point has no such disk")),
    }
}

/// Whether no byte of the volume changed, and its disks tell what it is in both points.
fn is_same(old: &VolumeView, new: &VolumeView, changes: Option<&Changes>) -> bool {
    let Some(place) = new.place() else {
        return false;
    };
    old.place().as_ref() == Some(&place)
        && old.layout_damage().is_none()
        && new.layout_damage().is_none()
        && changes.is_some_and(|changes| changes.within(place).next().is_none())
}
