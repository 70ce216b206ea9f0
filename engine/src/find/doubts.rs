//! Why what was found on a volume may be old, missing or wrong: told once for each volume and reason, not for each point.

use crate::view::VolumeView;
use cairn_base::{Monitor, Time};
use std::collections::BTreeMap;

/// Volumes and reasons that are named.
const MAX: usize = 1000;

/// By path of the volume and reason: the times of the first and the last point.
#[derive(Default)]
pub struct Doubts {
    all: BTreeMap<(String, String), (i64, i64)>,
    more: u64,
}

impl Doubts {
    /// Looks at a volume, if it can be opened, of a disk in the point of this time; points come in the order of their times.
    pub fn look(&mut self, disk: &str, view: &VolumeView, seconds: i64) {
        if view.open().is_err() {
            return;
        }
        let path = format!("{disk}/{}", view.folder_name());
        for defect in view.defects() {
            self.add(&path, defect, seconds);
        }
    }

    /// Takes what is told of a path of the point of this time.
    pub fn add(&mut self, path: &str, defect: String, seconds: i64) {
        let key = (path.to_string(), defect);
        if self.all.len() >= MAX && !self.all.contains_key(&key) {
            self.more = self.more.saturating_add(1);
            return;
        }
        self.all.entry(key).or_insert((seconds, seconds)).1 = seconds;
    }

    /// Names all.
    pub fn tell(&self, machine: &str, monitor: &dyn Monitor) {
        let name = |seconds: i64| Time::from_seconds(seconds).folder_name();
        for ((path, defect), (first, last)) in &self.all {
            let points = if first == last {
                name(*first)
            } else {
                format!("{} to {}", name(*first), name(*last))
            };
            monitor.warn(&format!("{machine}@{points}:/{path}: {defect}"));
        }
        if self.more > 0 {
            monitor.warn(&format!("{machine}: and {} more", self.more));
        }
    }
}
