//! What the records of points alone say of each machine.

use crate::point::Point;
use cairn_base::Time;
use std::collections::VecDeque;

/// Growth is told from points that are not older than this, in seconds, before a machine's newest one.
const WINDOW: i64 = 30 * 86_400;
const DAY: i64 = 86_400;

/// A machine in numbers, from the records of its points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineStats {
    /// Its name.
    pub machine: String,
    /// Recovery points.
    pub points: u64,
    /// The times of its oldest and of its newest point.
    pub times: [Time; 2],
    /// Sizes of the disks of its latest point, in bytes.
    pub disk_bytes: u64,
    /// Sizes of the disks of all its points together, in bytes.
    pub logical_bytes: u64,
    /// What its backups added to the store when they were made, in bytes.
    pub added_bytes: u64,
    /// Bytes that its backups add in a day: those of the last 30 days before its newest point, the oldest of these not counted, because what it added belongs to the
    /// time before. None while less than a day lies between them.
    pub growth_per_day: Option<u64>,
}

/// Gathers the numbers of one machine, whose points come in the order of their sequence numbers.
#[derive(Debug)]
pub struct MachineCount {
    stats: MachineStats,
    /// Times and bytes of points within the window, and the one before it. Imports are not among them.
    recent: VecDeque<(i64, u64)>,
}

impl MachineCount {
    /// Begins with a machine's first point.
    pub fn new(point: &Point) -> MachineCount {
        let mut count = MachineCount {
            stats: MachineStats {
                machine: point.record.machine.clone(),
                points: 0,
                times: [point.time(); 2],
                disk_bytes: 0,
                logical_bytes: 0,
                added_bytes: 0,
                growth_per_day: None,
            },
            recent: VecDeque::new(),
        };
        count.add(point);
        count
    }

    /// The machine's name.
    pub fn machine(&self) -> &str {
        &self.stats.machine
    }

    /// The next point.
    pub fn add(&mut self, point: &Point) {
        let record = &point.record;
        let stats = &mut self.stats;
        let sizes = record.disks.iter().map(|disk| disk.size);
        let size = sizes.fold(0, u64::saturating_add);
        stats.points = stats.points.saturating_add(1);
        stats.logical_bytes = stats.logical_bytes.saturating_add(size);
        stats.added_bytes = stats.added_bytes.saturating_add(record.stats.stored);
        let [first, last] = &mut stats.times;
        *first = (*first).min(point.time());
        *last = (*last).max(point.time());
        if record.import {
            return;
        }
        stats.disk_bytes = size;
        self.recent.push_back((record.seconds, record.stats.stored));
        let begin = record.seconds.saturating_sub(WINDOW);
        while self.recent.get(1).is_some_and(|(time, _)| *time <= begin) {
            self.recent.pop_front();
        }
    }

    /// All of it.
    pub fn finish(mut self) -> MachineStats {
        let first = self.recent.front().map(|(time, _)| *time);
        let last = self.recent.back().map(|(time, _)| *time);
        let seconds = last.unwrap_or(0).saturating_sub(first.unwrap_or(0));
        let added = self.recent.iter().skip(1).map(|(_, bytes)| *bytes);
        let added = i128::from(added.fold(0, u64::saturating_add));
        if seconds >= DAY {
            let daily = added * i128::from(DAY) / i128::from(seconds);
            self.stats.growth_per_day = u64::try_from(daily).ok();
        }
        self.stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::point::{BackupStats, Consistency, DiskRecord, PointRecord};
    use cairn_base::PointId;

    fn point(seconds: i64, stored: u64, import: bool) -> Point {
        let disk = |name: &str, size| DiskRecord {
            name: name.to_string(),
            size,
            root: [0; 32],
            image: Default::default(),
            excluded: Vec::new(),
            mixed: false,
        };
        let record = PointRecord {
            machine: "m".to_string(),
            sequence: 1,
            previous: 0,
            seconds,
            made: 0,
            import,
            base: None,
            consistency: Consistency::Crash,
            disks: vec![disk("a", 1000), disk("b", 10)],
            stats: BackupStats {
                stored,
                ..BackupStats::default()
            },
            warnings: Vec::new(),
            host: String::new(),
            program: String::new(),
            origins: Vec::new(),
        };
        Point {
            id: PointId([0; 32]),
            record,
        }
    }

    fn growth(points: &[Point]) -> Option<u64> {
        let mut count = MachineCount::new(&points[0]);
        points[1..].iter().for_each(|point| count.add(point));
        let stats = count.finish();
        assert_eq!(stats.points, points.len() as u64);
        assert_eq!(stats.logical_bytes, 1010 * stats.points);
        assert_eq!(stats.disk_bytes, 1010);
        stats.growth_per_day
    }

    #[test]
    fn growth_is_that_of_the_last_thirty_days() {
        let day = |day: i64, stored| point(day * DAY, stored, false);
        assert_eq!(growth(&[day(0, 500)]), None);
        assert_eq!(growth(&[day(0, 500), day(0, 500)]), None);
        assert_eq!(growth(&[day(0, 500), point(DAY - 1, 500, false)]), None);
        // The first one is no growth.
        assert_eq!(growth(&[day(0, 500), day(2, 30)]), Some(15));
        assert_eq!(growth(&[day(5, 500), day(6, 10), day(7, 30)]), Some(20));
        // What was long ago does not count, but the time since then does.
        assert_eq!(
            growth(&[day(0, 500), day(1, 900), day(90, 60), day(100, 39)]),
            Some(1)
        );
        let daily: Vec<_> = (0..200)
            .map(|n| day(n, if n < 150 { 900 } else { 7 }))
            .collect();
        assert_eq!(growth(&daily), Some(7));
        // An import is no growth, and not the newest point.
        assert_eq!(
            growth(&[day(5, 500), day(6, 10), point(1, 900, true)]),
            Some(10)
        );
    }
}
