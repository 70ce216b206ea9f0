//! Which disks a machine had in which points.

use crate::catalog::Catalog;
use crate::failure::Failure;
use crate::past::cell::Whole;
use cairn::{Error, Kind, PointFile, Time};
use std::sync::Arc;

/// Points in a row in which a disk is the same to the last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Era {
    /// The first of them.
    pub point: PointFile,
    /// Position of the disk in it.
    pub position: u16,
}

/// A disk over the points of its machine.
#[derive(Debug, PartialEq, Eq)]
pub struct DiskLine {
    /// Its name, as the newest point spells it.
    pub name: String,
    /// By time.
    pub eras: Vec<Era>,
    /// The same for volumes that may lie on other disks too: points in a row in which all disks of the machine are the same.
    spread: Vec<Era>,
    /// Root and size in the last point that was looked at.
    last: ([u8; 32], u64),
    /// Roots and sizes of all disks in that point.
    last_of_all: Vec<([u8; 32], u64)>,
}

impl DiskLine {
    /// The points in which a volume of this disk may be another one than in the point before.
    pub fn eras_of(&self, partition: u32) -> &[Era] {
        if partition >= cairn::DYNAMIC_NUMBERS {
            &self.spread
        } else {
            &self.eras
        }
    }
}

/// Something that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Time of the point, seconds since 1970.
    pub seconds: i64,
    /// Why, without a full stop.
    pub text: String,
    /// Whether there may be names that are not told for it. What is not a file system that is read has none.
    pub may_hide: bool,
}

impl Problem {
    /// Something of a point failed.
    pub fn of(point: &PointFile, failure: &Failure) -> Problem {
        let is_unread =
            matches!(failure, Failure::Engine(error) if error.kind() == Kind::Unsupported);
        Problem {
            seconds: point.seconds,
            text: failure.to_string(),
            may_hide: !is_unread,
        }
    }

    /// The failure of somebody who asks for what it may hide.
    pub fn failure(&self) -> Failure {
        let time = Time::from_seconds(self.seconds).folder_name();
        let text = format!(
            "whether it was there in {time} cannot be said: {}",
            self.text
        );
        Error::new(Kind::Io, text).into()
    }
}

/// The disks of a machine over its points.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    points: Vec<PointFile>,
    disks: Vec<DiskLine>,
    problems: Vec<Problem>,
}

impl Whole for Timeline {
    fn is_whole(&self) -> bool {
        self.problems.is_empty()
    }
}

impl Timeline {
    /// Reads the records of `points`, and nothing else of them.
    pub fn read(catalog: &Catalog, machine: &Arc<str>, points: &[PointFile]) -> Timeline {
        let mut timeline = Timeline {
            points: points.to_vec(),
            ..Timeline::default()
        };
        let mut by_time = points.to_vec();
        by_time.sort_unstable_by_key(|point| (point.seconds, point.sequence));
        for point in by_time {
            match catalog.read_point(machine, &point) {
                Ok(read) => timeline.add(point, &read.record.disks),
                // Forgotten a moment ago.
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => timeline.problems.push(Problem::of(&point, &error.into())),
            }
        }
        timeline
            .disks
            .sort_by(|one, other| one.name.cmp(&other.name));
        timeline
    }

    fn add(&mut self, point: PointFile, disks: &[cairn::DiskRecord]) {
        let all: Vec<_> = disks.iter().map(|disk| (disk.root, disk.size)).collect();
        for (position, disk) in disks.iter().enumerate() {
            // More disks than the mount shows.
            let Ok(position) = crate::node::disk_position(position) else {
                return;
            };
            let (era, last) = (Era { point, position }, (disk.root, disk.size));
            let mut lines = self.disks.iter_mut();
            match lines.find(|line| line.name.eq_ignore_ascii_case(&disk.name)) {
                Some(line) => {
                    if line.last != last {
                        line.eras.push(era);
                        line.last = last;
                    }
                    if line.last_of_all != all {
                        line.spread.push(era);
                        line.last_of_all.clone_from(&all);
                    }
                    line.name.clone_from(&disk.name);
                }
                None => self.disks.push(DiskLine {
                    name: disk.name.clone(),
                    eras: vec![era],
                    spread: vec![era],
                    last,
                    last_of_all: all.clone(),
                }),
            }
        }
    }

    /// The points it was made from, in the order of the catalog.
    pub fn points(&self) -> &[PointFile] {
        &self.points
    }

    /// The disks, by name.
    pub fn disks(&self) -> &[DiskLine] {
        &self.disks
    }

    /// The disk of exactly this name.
    pub fn disk(&self, name: &[u8]) -> Option<&DiskLine> {
        self.disks.iter().find(|line| line.name.as_bytes() == name)
    }

    /// Points whose records cannot be read, by time.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}
