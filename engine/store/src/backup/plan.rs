//! The plan: which regions are read, in disk order. Found as it is used, so that a sparse disk of any size needs no list.

use crate::backup::changed::{Known, Part, Step, parts};
use crate::map::{REGION, Shape};
use cairn_base::units::to_u64;
use cairn_base::{ChunkId, Error, Kind, ReadAt, Result};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// Extents are asked for in steps of this many bytes.
const STEP: u64 = 256 * REGION;

/// Something to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Read a region; only these ranges (bytes within the region) may hold something other than zeros.
    Region {
        /// Which disk.
        disk: usize,
        /// Which region of it.
        region: u64,
        /// Ascending.
        data: Vec<Range<usize>>,
    },
    /// A region of which only parts changed since the base.
    Changed {
        /// Which disk.
        disk: usize,
        /// Which region of it.
        region: u64,
        /// Ascending, not overlapping.
        parts: Vec<Part>,
    },
    /// Parts of the base's map that are taken as they are.
    Kept {
        /// Which disk.
        disk: usize,
        /// Level (0: a leaf) and id of each, in disk order.
        nodes: Vec<(u8, ChunkId)>,
    },
    /// So many regions that are not allocated at all.
    Holes {
        /// Which disk.
        disk: usize,
        /// How many.
        count: u64,
    },
}

/// Walks the disks.
pub struct Plan {
    disks: Vec<(Arc<dyn ReadAt>, Shape)>,
    known: Vec<Option<Known>>,
    /// What is left of each disk, in the order in which it is read.
    legs: VecDeque<(usize, Range<u64>)>,
    ready: VecDeque<Task>,
    tasks: u64,
}

impl Plan {
    /// The plan for these disks; where it is known what changed since the base, only that is read. The stretches of each disk are read in the order given;
    /// from start to end where it is known what changed.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) for a disk that is too large.
    pub fn new(
        disks: Vec<Arc<dyn ReadAt>>,
        known: Vec<Option<Known>>,
        orders: &[Vec<Range<u64>>],
    ) -> Result<Plan> {
        let disks = disks
            .into_iter()
            .map(|disk| Ok((Shape::of(disk.size())?, disk)))
            .map(|pair: Result<_>| pair.map(|(shape, disk)| (disk, shape)))
            .collect::<Result<Vec<_>>>()?;
        let legs = (0usize..)
            .zip(orders)
            .flat_map(|(disk, order)| order.iter().map(move |stretch| (disk, stretch.clone())))
            .collect();
        Ok(Plan {
            disks,
            known,
            legs,
            ready: VecDeque::new(),
            tasks: 0,
        })
    }

    /// The next task and its number; `None` after the last.
    ///
    /// # Errors
    /// What the image reports when it is asked for its extents.
    pub fn next_task(&mut self) -> Result<Option<(u64, Task)>> {
        while self.ready.is_empty() {
            let Some((disk, leg)) = self.legs.front_mut() else {
                return Ok(None);
            };
            let Some((source, _)) = self.disks.get(*disk).filter(|_| !leg.is_empty()) else {
                self.legs.pop_front();
                continue;
            };
            leg.start = match self.known.get(*disk) {
                Some(Some(known)) => step(*disk, &**source, known, leg.start, &mut self.ready)?,
                _ => {
                    let end = (leg.start + STEP / REGION).min(leg.end);
                    read_all(*disk, &**source, leg.start..end, &mut self.ready)?;
                    end
                }
            };
        }
        let task = self.ready.pop_front();
        let number = self.tasks;
        self.tasks += 1;
        Ok(task.map(|task| (number, task)))
    }
}

/// Bytes of regions.
fn bytes_of(source: &dyn ReadAt, regions: &Range<u64>) -> Range<u64> {
    let end = regions.end.saturating_mul(REGION);
    regions.start.saturating_mul(REGION)..end.min(source.size())
}

/// The tasks of regions that are read, as far as they are allocated.
fn read_all(
    disk: usize,
    source: &dyn ReadAt,
    regions: Range<u64>,
    tasks: &mut VecDeque<Task>,
) -> Result<()> {
    let range = bytes_of(source, &regions);
    let extents = source.data_extents(range.clone()).map_err(of_source)?;
    split(disk, range, &extents, tasks);
    Ok(())
}

/// The next tasks of a disk of which it is known what changed; answers the region behind them.
fn step(
    disk: usize,
    source: &dyn ReadAt,
    known: &Known,
    region: u64,
    tasks: &mut VecDeque<Task>,
) -> Result<u64> {
    Ok(match known.step(region)? {
        Step::Kept(nodes, until) => {
            tasks.push_back(Task::Kept { disk, nodes });
            until
        }
        Step::Lost(until) => {
            read_all(disk, source, region..until, tasks)?;
            until
        }
        Step::Touched(until) => {
            let range = bytes_of(source, &(region..until));
            let extents = source.data_extents(range).map_err(of_source)?;
            for region in region..until {
                let range = bytes_of(source, &(region..region + 1));
                let parts = parts(known, range, &extents);
                tasks.push_back(Task::Changed {
                    disk,
                    region,
                    parts,
                });
            }
            until
        }
    })
}

/// Turns the extents of `range` (which begins at a region) into tasks.
fn split(disk: usize, range: Range<u64>, extents: &[Range<u64>], tasks: &mut VecDeque<Task>) {
    let mut holes = 0u64;
    let mut extents = extents.iter().peekable();
    let mut start = range.start;
    while start < range.end {
        let end = (start + REGION).min(range.end);
        let mut data: Vec<Range<usize>> = Vec::new();
        while let Some(extent) = extents.peek() {
            if extent.start >= end {
                break;
            }
            let within =
                |offset: u64| usize::try_from(offset.clamp(start, end) - start).unwrap_or(0);
            let part = within(extent.start)..within(extent.end);
            if !part.is_empty() {
                data.push(part);
            }
            if extent.end > end {
                break;
            }
            extents.next();
        }
        if data.is_empty() {
            holes += 1;
        } else {
            if holes > 0 {
                tasks.push_back(Task::Holes { disk, count: holes });
                holes = 0;
            }
            tasks.push_back(Task::Region {
                disk,
                region: start / REGION,
                data,
            });
        }
        start = end;
    }
    if holes > 0 {
        tasks.push_back(Task::Holes { disk, count: holes });
    }
}

/// The bytes that the plan will read at most.
///
/// # Errors
/// What the image reports when it is asked for its extents.
pub fn allocated_bytes(source: &dyn ReadAt) -> Result<u64> {
    let mut total = 0u64;
    let mut start = 0;
    while start < source.size() {
        let end = (start + STEP).min(source.size());
        let extents = source.data_extents(start..end).map_err(of_source)?;
        total += extents.iter().map(|e| e.end - e.start).sum::<u64>();
        start = end;
    }
    Ok(total)
}

/// A failure of a source: damage in it is not damage of the store, so it must not pass for that.
pub fn of_source(error: Error) -> Error {
    if error.kind() == Kind::Damaged {
        Error::new(Kind::Io, "the image is damaged").caused_by(error)
    } else {
        error
    }
}

/// Total length of ranges.
pub fn covered(ranges: &[Range<usize>]) -> u64 {
    ranges.iter().map(|range| to_u64(range.len())).sum()
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)]
mod tests {
    use super::*;

    struct Fake(u64, Vec<Range<u64>>);
    impl ReadAt for Fake {
        fn size(&self) -> u64 {
            self.0
        }
        fn read_exact_at(&self, _: u64, _: &mut [u8]) -> Result<()> {
            Ok(())
        }
        fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
            let clip = |e: &Range<u64>| e.start.max(range.start)..e.end.min(range.end);
            Ok(self.1.iter().map(clip).filter(|e| !e.is_empty()).collect())
        }
    }

    #[test]
    fn stretches_come_in_the_order_given() {
        let disk = || -> Arc<dyn ReadAt> { Arc::new(Fake(600 * REGION, vec![0..600 * REGION])) };
        let orders = [vec![450..600, 0..10, 10..450], vec![0..600]];
        let mut plan = Plan::new(vec![disk(), disk()], vec![], &orders).unwrap();
        let mut seen = vec![];
        while let Some((_, task)) = plan.next_task().unwrap() {
            let Task::Region { disk, region, .. } = task else {
                panic!("{task:?}");
            };
            seen.push((disk, region));
        }
        let first = (450..600).chain(0..450).map(|region| (0, region));
        let all: Vec<_> = first.chain((0..600).map(|region| (1, region))).collect();
        assert_eq!(seen, all);
    }

    #[test]
    fn tasks_cover_everything_once_in_order() {
        let sizes = [600 * REGION + 5, 0, 3];
        let extents = vec![
            10..20,
            REGION - 1..2 * REGION + 1,
            300 * REGION..300 * REGION + 9,
            600 * REGION..600 * REGION + 5,
        ];
        let disks: Vec<Arc<dyn ReadAt>> = vec![
            Arc::new(Fake(sizes[0], extents)),
            Arc::new(Fake(sizes[1], vec![])),
            Arc::new(Fake(sizes[2], vec![0..3])),
        ];
        let orders = [vec![0..601], vec![], vec![0..1]];
        let mut plan = Plan::new(disks, vec![], &orders).unwrap();
        let mut seen = vec![];
        let mut covered = [0u64; 3];
        let mut number = 0;
        while let Some((n, task)) = plan.next_task().unwrap() {
            assert_eq!(n, number);
            number += 1;
            match &task {
                Task::Region { disk, region, data } => {
                    assert_eq!(covered[*disk], *region);
                    covered[*disk] += 1;
                    seen.push((*disk, *region, data.clone()));
                }
                Task::Holes { disk, count } => covered[*disk] += count,
                other => panic!("nothing is known of these disks: {other:?}"),
            }
        }
        assert_eq!(covered, [601, 0, 1]);
        let end = usize::try_from(REGION).unwrap();
        assert_eq!(
            seen,
            [
                (0, 0, vec![10..20, end - 1..end]),
                (0, 1, vec![0..end]),
                (0, 2, vec![0..1]),
                (0, 300, vec![0..9]),
                (0, 600, vec![0..5]),
                (2, 0, vec![0..3]),
            ]
        );
    }
}
