//! What anybody knows of the store from outside: the points that were reported and the bytes of their disks.

use crate::disk::Dice;
use crate::world::noise;
use cairn_base::PointId;
use cairn_store::Point;
use std::ops::Range;
use std::sync::Arc;

pub const MACHINES: [&str; 4] = ["a", "b", "c", "large"];

/// A point, and what was done to it.
pub struct Known {
    pub point: Point,
    pub bytes: Arc<Vec<u8>>,
    /// Whether it is pinned; nobody knows while somebody pins it, or died of it.
    pub pin: Option<bool>,
    /// Who pins it now, or lets go of it; how often that was begun.
    pins: (u32, u32),
    /// How many forgets were begun that never said whether they forgot it.
    pub wanted: u32,
    /// A forget said that it did.
    pub forgotten: bool,
}

impl Known {
    pub fn new(point: Point, bytes: Arc<Vec<u8>>) -> Known {
        Known {
            point,
            bytes,
            pin: Some(false),
            pins: (0, 0),
            wanted: 0,
            forgotten: false,
        }
    }

    pub fn id(&self) -> PointId {
        self.point.id
    }

    /// Whether it must be there, as long as nobody begins to forget it.
    pub fn is_sure(&self) -> bool {
        !self.forgotten && self.wanted == 0
    }

    /// Somebody begins to pin it or to let go of it. Answers what to tell when that is done.
    pub fn begin_pin(&mut self) -> (u32, u32) {
        self.pin = None;
        self.pins.0 += 1;
        self.pins.1 += 1;
        self.pins
    }

    pub fn end_pin(&mut self, begun: (u32, u32), pinned: bool) {
        self.pins.0 -= 1;
        // Who was alone all the time knows how it ended.
        if begun == (1, self.pins.1) {
            self.pin = Some(pinned);
        }
    }

    /// Whether it is pinned for sure, and how often that changed.
    pub fn surely_pinned(&self) -> Option<u32> {
        (self.pin == Some(true)).then_some(self.pins.1)
    }

    /// Nobody does anything to it any more.
    pub fn settle(&mut self, pinned: bool) {
        self.pin = Some(pinned);
        self.pins.0 = 0;
        self.wanted = 0;
    }
}

#[derive(Default)]
pub struct Model {
    pub points: Vec<Known>,
    /// What was backed up by somebody who has not said how it ended, by machine.
    pub unsaid: Vec<(String, Arc<Vec<u8>>)>,
    seeds: u64,
    /// The machine that somebody backed up, or opened a point of, last.
    latest: Option<&'static str>,
}

/// A disk to back up: what of it differs from the point that it is a later state of, if anybody knows.
pub struct Next {
    pub machine: &'static str,
    pub bytes: Arc<Vec<u8>>,
    pub base: Option<(Point, Vec<Range<u64>>)>,
}

impl Model {
    pub fn find(&mut self, id: PointId) -> Option<&mut Known> {
        self.points.iter_mut().find(|known| known.id() == id)
    }

    /// A point that is there, or may be.
    pub fn any(&mut self, dice: &mut Dice) -> Option<&mut Known> {
        let there = self.points.iter_mut().filter(|known| !known.forgotten);
        let mut there: Vec<_> = there.collect();
        let number = dice.below(there.len());
        let known = (number < there.len()).then(|| there.swap_remove(number))?;
        let machine = &known.point.record.machine;
        self.latest = MACHINES.into_iter().find(|name| name == machine);
        Some(known)
    }

    /// A machine; often the one that somebody is busy with.
    pub fn machine(&self, dice: &mut Dice) -> &'static str {
        let any = MACHINES[dice.below(MACHINES.len())];
        self.latest.filter(|_| dice.toss()).unwrap_or(any)
    }

    /// A disk of a machine: a new one, one that the machine had before, forgotten or not, or one of that with changes.
    pub fn next(&mut self, dice: &mut Dice) -> Next {
        let machine = MACHINES[dice.below(MACHINES.len() * 3).min(MACHINES.len() * 3 - 3) / 3];
        self.latest = Some(machine);
        let before = self
            .points
            .iter()
            .filter(|known| known.point.record.machine == machine);
        let before: Vec<_> = before
            .map(|known| (known.point.clone(), known.bytes.clone(), known.is_sure()))
            .collect();
        let Some((point, bytes, sure)) = before.get(dice.below(before.len())) else {
            let bytes = Arc::new(self.disk(machine, dice));
            return Next {
                machine,
                bytes,
                base: None,
            };
        };
        let mut bytes = bytes.to_vec();
        let mut changed = Vec::new();
        for _ in 0..dice.below(4) {
            let start = dice.below(bytes.len());
            let end = (start + 1 + dice.below(30_000)).min(bytes.len());
            let part = self.part(end - start, dice);
            bytes[start..end].copy_from_slice(&part);
            changed.push(start as u64..end as u64);
        }
        if dice.below(6) == 0 {
            // Another size: nobody knows what changed.
            let length = 40_000 + dice.below(100_000);
            bytes.resize(length, 0);
            return Next {
                machine,
                bytes: Arc::new(bytes),
                base: None,
            };
        }
        let base = (*sure && dice.toss()).then(|| (point.clone(), changed));
        Next {
            machine,
            bytes: Arc::new(bytes),
            base,
        }
    }

    /// A disk of parts; of one machine with several regions, mostly zeros.
    fn disk(&mut self, machine: &str, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..2 + dice.below(5) {
            let length = 10_000 + dice.below(25_000);
            bytes.extend(self.part(length, dice));
        }
        if machine == "large" {
            let at = (4 << 20) - 20_000;
            bytes.resize(at, 0);
            bytes.extend(self.part(60_000, dice));
            bytes.resize((4 << 20) + 100_000, 0);
        }
        bytes
    }

    /// Zeros, bytes that others have too, or bytes of its own.
    fn part(&mut self, length: usize, dice: &mut Dice) -> Vec<u8> {
        match dice.below(8) {
            0 => vec![0; length],
            1..5 => noise(length, 1 + dice.below(8) as u64),
            _ => {
                self.seeds += 1;
                noise(length, 1000 + self.seeds)
            }
        }
    }

    /// What somebody who lives says of a backup: it made a point, or none.
    pub fn said(&mut self, machine: &str, bytes: &Arc<Vec<u8>>) {
        let is =
            |(of, unsaid): &(String, Arc<Vec<u8>>)| of == machine && Arc::ptr_eq(unsaid, bytes);
        if let Some(at) = self.unsaid.iter().position(is) {
            self.unsaid.swap_remove(at);
        }
    }
}
