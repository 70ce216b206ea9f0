//! The clusters of a file or folder, one after the other, as runs of neighbours.
//!
//! A chain is walked once, as far as it is needed, and remembered in bounded memory: all runs as long as they are few,
//! and only marks on the way where they are many. From a mark to the cluster that is looked for it is a bounded number of steps.

use super::heap::Heap;
use super::table::{Cursor, Link, Table};
use cairn_base::{Error, Result};
use parking_lot::RwLock;

/// Runs or marks remembered of a chain: 96 KiB.
const MAX_MARKS: usize = 8192;
/// Clusters that are looked up at once beyond those asked for: as many as are known, but no fewer and no more than these. Of a chain
/// that nobody goes along no more than its beginning is looked up.
const AHEAD: (u32, u32) = (64, 4096);
/// Neighbours that are looked for from a cluster that was found by steps.
const LOOK: u32 = 256;

/// Clusters that are neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first.
    pub cluster: u32,
    /// How many; at least 1.
    pub count: u32,
}

/// A run and where it stands in its chain.
#[derive(Debug, Clone, Copy)]
struct Mark {
    index: u32,
    cluster: u32,
    count: u32,
}

impl Mark {
    fn end(&self) -> u32 {
        self.index.saturating_add(self.count)
    }

    fn last(&self) -> u32 {
        self.cluster.saturating_add(self.count).saturating_sub(1)
    }

    fn from(&self, index: u32) -> Run {
        let skipped = index.saturating_sub(self.index);
        Run {
            cluster: self.cluster.saturating_add(skipped),
            count: self.count.saturating_sub(skipped),
        }
    }
}

/// The clusters of a file or folder.
pub enum Chain {
    /// Neighbours all of them: exFAT does not need the table for these.
    Contiguous(Run),
    /// As the table links them.
    Linked(Linked),
}

/// A chain in the table.
pub struct Linked {
    /// Clusters that are of interest at most.
    limit: u32,
    known: RwLock<Known>,
}

/// How a chain ends behind what is known of it.
enum End {
    Properly,
    Broken(Error),
}

struct Known {
    marks: Vec<Mark>,
    /// A run is a mark if it is as long as this, or as far behind the last mark.
    stride: u32,
    /// The last run that is known.
    tail: Mark,
    /// Clusters that are known.
    length: u32,
    end: Option<End>,
    /// Brent's algorithm: the cluster that is waited for to come again, the steps since it was passed, and after how many another one is taken.
    passed: u32,
    steps: u32,
    power: u32,
}

/// Where a cluster of a chain is.
enum Found {
    Run(Run),
    /// Somewhere behind this mark.
    Behind(Mark),
    Unknown,
    End,
}

impl Chain {
    /// The chain that begins with cluster `first`, of which at most `limit` clusters are of interest.
    ///
    /// # Errors
    /// Damaged if there is no cluster `first`.
    pub fn linked(heap: &Heap, first: u32, limit: u32) -> Result<Chain> {
        if !heap.holds(first) {
            return Err(outside(first));
        }
        let tail = Mark {
            index: 0,
            cluster: first,
            count: 1,
        };
        Ok(Chain::Linked(Linked {
            limit: limit.min(heap.count()),
            known: RwLock::new(Known {
                marks: Vec::new(),
                stride: 1,
                tail,
                length: 1,
                end: None,
                passed: first,
                steps: 0,
                power: 1,
            }),
        }))
    }

    /// `count` clusters from `first` on.
    ///
    /// # Errors
    /// Damaged if not all of them are there.
    pub fn contiguous(heap: &Heap, first: u32, count: u32) -> Result<Chain> {
        let last = first.checked_add(count.saturating_sub(1));
        match last {
            Some(last) if heap.holds(first) && heap.holds(last) => Ok(Chain::Contiguous(Run {
                cluster: first,
                count,
            })),
            _ => Err(outside(last.unwrap_or(first))),
        }
    }

    /// The neighbours from the cluster on that stands at `index` in the chain; nothing behind its end, or behind the clusters that are of interest.
    ///
    /// # Errors
    /// Damaged where the chain is broken before: the cluster is named.
    pub fn run(&self, table: &Table, index: u32) -> Result<Option<Run>> {
        match self {
            Chain::Contiguous(all) => Ok((index < all.count).then(|| Run {
                cluster: all.cluster.saturating_add(index),
                count: all.count.saturating_sub(index),
            })),
            Chain::Linked(linked) => linked.run(table, index),
        }
    }
}

fn outside(cluster: u32) -> Error {
    Error::damaged(format!("cluster {cluster} does not exist"))
}

impl Linked {
    fn run(&self, table: &Table, index: u32) -> Result<Option<Run>> {
        if index >= self.limit {
            return Ok(None);
        }
        let mut found = self.known.read().find(index)?;
        if matches!(found, Found::Unknown) {
            let mut known = self.known.write();
            let ahead = known.length.clamp(AHEAD.0, AHEAD.1);
            let until = index.saturating_add(ahead).min(self.limit);
            let mut extended = known.extend(table, until);
            if extended.is_ok() && until == self.limit {
                extended = known.look_behind(table);
            }
            found = known.find(index)?;
            // What is behind cannot be read: that matters to whoever asks for it.
            if matches!(found, Found::Unknown) {
                extended?;
            }
        }
        match found {
            Found::Run(run) => Ok(Some(run)),
            Found::Behind(mark) => walk(&mut table.cursor(), mark, index).map(Some),
            Found::Unknown | Found::End => Ok(None),
        }
    }
}

/// Goes from `mark` to the cluster at `index`, a way that was gone before.
fn walk(cursor: &mut Cursor<'_>, mark: Mark, index: u32) -> Result<Run> {
    let mut cluster = mark.last();
    for _ in mark.end()..=index {
        cluster = next(cursor, cluster)?;
    }
    let mut count = 1u32;
    while count < LOOK {
        let last = cluster.saturating_add(count).saturating_sub(1);
        match cursor.link(last)? {
            Link::Next(next) if next == last.saturating_add(1) => count = count.saturating_add(1),
            _ => break,
        }
    }
    Ok(Run { cluster, count })
}

fn next(cursor: &mut Cursor<'_>, cluster: u32) -> Result<u32> {
    match cursor.link(cluster)? {
        Link::Next(next) => Ok(next),
        _ => Err(Error::damaged(format!(
            "the table changed while it was read: cluster {cluster} had a successor"
        ))),
    }
}

impl Known {
    fn find(&self, index: u32) -> Result<Found> {
        if index >= self.length {
            return match &self.end {
                None => Ok(Found::Unknown),
                Some(End::Properly) => Ok(Found::End),
                Some(End::Broken(error)) => Err(error.clone()),
            };
        }
        if index >= self.tail.index {
            return Ok(Found::Run(self.tail.from(index)));
        }
        let behind = self.marks.partition_point(|mark| mark.index <= index);
        let mark = behind.checked_sub(1).and_then(|at| self.marks.get(at));
        let Some(mark) = mark else {
            return Err(Error::damaged("a chain of clusters has no beginning"));
        };
        Ok(if index < mark.end() {
            let mut run = mark.from(index);
            run.count = run.count.min(self.length.saturating_sub(index));
            Found::Run(run)
        } else {
            Found::Behind(*mark)
        })
    }

    /// Walks on until `length` clusters are known, or the chain ends.
    fn extend(&mut self, table: &Table, length: u32) -> Result<()> {
        let mut cursor = table.cursor();
        while self.length < length && self.end.is_none() {
            let last = self.tail.last();
            match cursor.link(last)? {
                Link::Next(next) if next == self.passed => self.loops(table, last)?,
                Link::Next(next) => self.push(next),
                Link::End => self.end = Some(End::Properly),
                Link::Free => self.breaks(format!(
                    "the chain of clusters is broken: cluster {last}, which is in it, is marked as free"
                )),
                Link::Bad => self.breaks(format!(
                    "the chain of clusters is broken: cluster {last}, which is in it, is marked as bad"
                )),
                Link::Outside(next) => self.breaks(format!(
                    "the chain of clusters is broken: cluster {last} leads to cluster {next}, which does not exist"
                )),
            }
        }
        Ok(())
    }

    fn breaks(&mut self, why: String) {
        self.end = Some(End::Broken(Error::damaged(why)));
    }

    /// Takes a step from `cluster` to the next one.
    fn pass(&mut self, cluster: u32) {
        if self.steps >= self.power {
            self.passed = cluster;
            self.power = self.power.saturating_mul(2);
            self.steps = 0;
        }
        self.steps = self.steps.saturating_add(1);
    }

    /// Looks on behind the clusters that are of interest: a circle among them may not have been noticed. As a rule the chain ends there at once.
    fn look_behind(&mut self, table: &Table) -> Result<()> {
        if self.end.is_some() {
            return Ok(());
        }
        let mut cursor = table.cursor();
        let mut cluster = self.tail.last();
        // Whatever circle there is, it is met within three times as many steps as there are clusters.
        for _ in 0..u64::from(table.heap().count()).saturating_mul(3) {
            match cursor.link(cluster)? {
                Link::Next(next) if next == self.passed => return self.loops(table, cluster),
                Link::Next(next) => {
                    self.pass(cluster);
                    cluster = next;
                }
                _ => break,
            }
        }
        self.end = Some(End::Properly);
        Ok(())
    }

    fn push(&mut self, cluster: u32) {
        self.pass(self.tail.last());
        if self.tail.last().checked_add(1) == Some(cluster) {
            self.tail.count = self.tail.count.saturating_add(1);
        } else {
            let tail = self.tail;
            keep(&mut self.marks, tail, self.stride);
            while self.marks.len() >= MAX_MARKS {
                self.stride = self.stride.saturating_mul(2);
                let all = std::mem::take(&mut self.marks);
                for mark in all {
                    keep(&mut self.marks, mark, self.stride);
                }
            }
            self.tail = Mark {
                index: tail.end(),
                cluster,
                count: 1,
            };
        }
        self.length = self.length.saturating_add(1);
    }

    /// The chain runs in a circle: it ends where the first cluster would come a second time.
    fn loops(&mut self, table: &Table, last: u32) -> Result<()> {
        let first = self
            .marks
            .first()
            .map_or(self.tail.cluster, |mark| mark.cluster);
        // Steps around the circle: from the cluster that was passed to the last one, and back to it.
        let mut length = 1u32;
        let (mut cursor, mut behind) = (table.cursor(), table.cursor());
        let mut hare = self.passed;
        while hare != last {
            hare = next(&mut cursor, hare)?;
            length = length.saturating_add(1);
        }
        let (mut hare, mut tortoise, mut before) = (first, first, 0u32);
        for _ in 0..length {
            hare = next(&mut cursor, hare)?;
        }
        while hare != tortoise {
            hare = next(&mut cursor, hare)?;
            tortoise = next(&mut behind, tortoise)?;
            before = before.saturating_add(1);
        }
        self.length = before.saturating_add(length).min(self.length);
        let tail = self.tail;
        keep(&mut self.marks, tail, self.stride);
        self.marks.retain(|mark| mark.index < self.length);
        self.tail = Mark {
            index: self.length,
            cluster: 0,
            count: 0,
        };
        self.breaks(format!(
            "the chain of clusters runs in a circle: it comes to cluster {hare} a second time"
        ));
        Ok(())
    }
}

/// Adds `mark` if it is worth it.
fn keep(marks: &mut Vec<Mark>, mark: Mark, stride: u32) {
    let worth = marks
        .last()
        .is_none_or(|last| mark.count >= stride || mark.index >= last.end().saturating_add(stride));
    if worth {
        marks.push(mark);
    }
}

#[cfg(test)]
mod tests;
