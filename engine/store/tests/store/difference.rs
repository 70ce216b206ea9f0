//! Differences of points against a comparison of all bytes.

use super::kit::{Kit, R, TestDisk, input, noise, open_disk};
use cairn_base::{Kind, ReadAt, Result, Silent};
use cairn_store::difference::each_pair;
use cairn_store::{
    BackupOptions, Change, CutParameters, Detail, DiskInput, Point, StoredDisk, backup, difference,
};
use proptest::prelude::*;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

const BLOCK: usize = 4096;

fn told(old: &StoredDisk, new: &StoredDisk, detail: Detail) -> Vec<Change> {
    let mut all = Vec::new();
    difference(old, new, detail, &Silent, &mut |change| {
        all.push(change);
        ControlFlow::Continue(())
    })
    .unwrap();
    all
}

/// The blocks that differ, joined; what the old disk does not have is zeros.
fn truth(old: &[u8], new: &[u8]) -> Vec<Change> {
    let mut all: Vec<Change> = Vec::new();
    for (number, after) in new.chunks(BLOCK).enumerate() {
        let start = number * BLOCK;
        let before: Vec<u8> = (start..start + after.len())
            .map(|at| old.get(at).copied().unwrap_or(0))
            .collect();
        if before == after {
            continue;
        }
        let zero = after.iter().all(|byte| *byte == 0);
        let range = start as u64..(start + after.len()) as u64;
        match all.last_mut() {
            Some(last) if last.range.end == range.start && last.zero == zero => {
                last.range.end = range.end
            }
            _ => all.push(Change { range, zero }),
        }
    }
    all
}

fn within(range: &Range<u64>) -> Range<usize> {
    range.start as usize..range.end as usize
}

/// Both ways of comparing say what is so.
fn check(kit: &Kit, [a, b]: [&Point; 2], old: &[u8], new: &[u8]) {
    let store = kit.reopen();
    let disks = [a, b].map(|point| open_disk(&store, point, "disk0"));
    assert_eq!(told(&disks[0], &disks[1], Detail::Blocks), truth(old, new));
    let coarse = told(&disks[0], &disks[1], Detail::Chunks);
    let mut patched = old.to_vec();
    patched.resize(new.len(), 0);
    let mut end = None;
    for Change { range, zero } in &coarse {
        let part = within(range);
        assert!(!part.is_empty() && end <= Some(range.start));
        // Nothing is called zeros that is none, or that was zeros before.
        assert!(!zero || patched[part.clone()] != new[part.clone()]);
        assert!(!zero || new[part.clone()].iter().all(|byte| *byte == 0));
        patched[part.clone()].copy_from_slice(&new[part]);
        end = Some(range.end);
    }
    assert!(patched == new, "something that changed was not told");
}

#[derive(Debug, Clone)]
enum Edit {
    Write(usize, usize, u64),
    Zero(usize, usize),
    Move(usize, usize, usize),
    Resize(usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let (at, length) = (0usize..3 * R, 1usize..300_000);
    prop_oneof![
        4 => (at.clone(), length.clone(), any::<u64>()).prop_map(|(at, n, seed)| Edit::Write(at, n, seed)),
        2 => (at.clone(), length.clone()).prop_map(|(at, n)| Edit::Zero(at, n)),
        2 => (at.clone(), at.clone(), length).prop_map(|(from, to, n)| Edit::Move(from, to, n)),
        1 => (1usize..3 * R).prop_map(Edit::Resize),
    ]
}

fn apply(bytes: &mut Vec<u8>, edit: &Edit) {
    let clip = |at: usize, length: usize, size: usize| at.min(size)..(at + length).min(size);
    let size = bytes.len();
    match *edit {
        Edit::Write(at, length, seed) => {
            let part = clip(at, length, size);
            let noise = noise(part.len(), seed);
            bytes[part].copy_from_slice(&noise);
        }
        Edit::Zero(at, length) => bytes[clip(at, length, size)].fill(0),
        Edit::Move(from, to, length) => {
            let part = bytes[clip(from, length, size)].to_vec();
            let target = clip(to, part.len(), size);
            let length = target.len();
            bytes[target].copy_from_slice(&part[..length]);
        }
        Edit::Resize(size) => bytes.resize(size, 0),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 12 } else { 60 }))]

    #[test]
    fn differences_of_random_disks_are_those_of_their_bytes(
        first in proptest::collection::vec(edit(), 1..6),
        then in proptest::collection::vec(edit(), 0..6),
        fixed: bool,
    ) {
        let kit = if fixed {
            Kit::with(CutParameters::Fixed { size: 64 << 10 })
        } else {
            Kit::new()
        };
        let mut old = noise(2 * R + 70_000, 1);
        first.iter().for_each(|edit| apply(&mut old, edit));
        let mut new = old.clone();
        then.iter().for_each(|edit| apply(&mut new, edit));
        let a = kit.backup("m", TestDisk::new(old.clone()));
        let b = kit.backup("other", TestDisk::new(new.clone()));
        check(&kit, [&a, &b], &old, &new);
        check(&kit, [&b, &a], &new, &old);
        check(&kit, [&a, &a], &old, &old);
        // A backup that is told the difference comes to the same map.
        if old.len() == new.len() {
            let store = kit.reopen();
            let disks = [&a, &b].map(|point| open_disk(&store, point, "disk0"));
            let changed: Vec<_> = told(&disks[0], &disks[1], Detail::Chunks)
                .into_iter()
                .map(|change| (change.range, change.zero))
                .collect();
            let c = kit.changed("m", &a, Arc::new(new), &changed).unwrap();
            prop_assert_eq!(c.record.disks[0].root, b.record.disks[0].root);
            prop_assert!(c.record.warnings.is_empty(), "{:?}", c.record.warnings);
        }
    }
}

/// A large disk of which little is not zeros.
struct Sparse {
    size: u64,
    pieces: Vec<(u64, Vec<u8>)>,
}

impl ReadAt for Sparse {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        buffer.fill(0);
        for (start, bytes) in &self.pieces {
            for (index, byte) in bytes.iter().enumerate() {
                let at = start + index as u64;
                if let Some(to) = at
                    .checked_sub(offset)
                    .and_then(|at| buffer.get_mut(at as usize))
                {
                    *to = *byte;
                }
            }
        }
        Ok(())
    }

    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let pieces = self.pieces.iter();
        let all = pieces.map(|(start, bytes)| *start..start + bytes.len() as u64);
        Ok(all
            .map(|e| e.start.max(range.start)..e.end.min(range.end))
            .filter(|e| !e.is_empty())
            .collect())
    }
}

fn sparse(kit: &Kit, machine: &str, size: u64, pieces: &[(u64, u64)]) -> Point {
    let pieces = pieces.iter().map(|(at, seed)| (*at, noise(5000, *seed)));
    let source = Sparse {
        size,
        pieces: pieces.collect(),
    };
    let disks = [DiskInput {
        source: Arc::new(source),
        ..input("disk0", TestDisk::new(vec![]))
    }];
    let options = BackupOptions::new(machine);
    let report = backup(&kit.store, &disks, &options, &Silent, &kit.clock);
    report.unwrap().point
}

#[test]
fn maps_of_any_height_are_compared_where_they_differ_only() {
    let kit = Kit::new();
    let (gib, tib) = (1u64 << 30, 1u64 << 40);
    let many: Vec<(u64, u64)> = (0..40).map(|n| (n * 17 * gib, n)).collect();
    let mut other = many.clone();
    other[0].1 = 99;
    other.remove(33);
    let large = sparse(&kit, "a", tib, &many);
    let changed = sparse(&kit, "b", tib, &other);
    let small = sparse(&kit, "c", 3 << 20, &many[..1]);
    let larger = sparse(&kit, "d", 5 * gib + 512, &[(0, 0), (5 * gib, 7)]);
    let store = kit.reopen();
    let open = |point: &Point| open_disk(&store, point, "disk0");
    let starts = |a: &Point, b: &Point| -> Vec<(u64, u64, bool)> {
        let all = told(&open(a), &open(b), Detail::Blocks).into_iter();
        all.map(|c| (c.range.start, c.range.end - c.range.start, c.zero))
            .collect()
    };
    assert_eq!(
        starts(&large, &changed),
        [(0, 8192, false), (33 * 17 * gib, 8192, true)]
    );
    assert_eq!(starts(&small, &large).len(), 39);
    assert_eq!(starts(&large, &small), []);
    assert_eq!(starts(&small, &larger), [(5 * gib, 512, false)]);
    assert_eq!(starts(&larger, &small), []);
    assert_eq!(
        starts(&larger, &large)[..2],
        [(5 * gib, 4096, true), (17 * gib, 8192, false)]
    );
    // Two changes: two leaves, and the nodes above them.
    let (a, b) = (open(&large), open(&changed));
    let mut pairs = Vec::new();
    each_pair(Some(a.tree()), Some(b.tree()), &mut |pair| {
        pairs.push((pair.level, pair.region));
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    let at = |region: u64, level: u32| region >> (8 * level) << (8 * level);
    let second = 33 * 17 * gib / R as u64;
    assert_eq!(
        pairs,
        [
            (3, 0),
            (2, 0),
            (1, 0),
            (0, 0),
            (2, at(second, 2)),
            (1, at(second, 1)),
            (0, second)
        ]
    );
}

#[test]
fn a_sink_that_has_enough_ends_it_and_damage_is_an_error() {
    let kit = Kit::new();
    let old = noise(3 * R, 5);
    let mut new = old.clone();
    for region in 0..3 {
        new[region * R + 100_000] ^= 1;
    }
    let a = kit.backup("m", TestDisk::new(old));
    let b = kit.backup("m", TestDisk::new(new));
    let store = kit.reopen();
    for detail in [Detail::Chunks, Detail::Blocks] {
        let (old, new) = (
            open_disk(&store, &a, "disk0"),
            open_disk(&store, &b, "disk0"),
        );
        let mut count = 0;
        difference(&old, &new, detail, &Silent, &mut |_| {
            count += 1;
            ControlFlow::Break(())
        })
        .unwrap();
        assert_eq!(count, 1, "{detail:?}");
    }
    for pack in super::kit::files_in(kit.path(), "packs") {
        let path = kit.path().join(pack);
        let mut bytes = std::fs::read(&path).unwrap();
        let end = bytes.len() - 200;
        bytes[100..end].iter_mut().for_each(|byte| *byte ^= 0x55);
        std::fs::write(path, bytes).unwrap();
    }
    let store = kit.reopen();
    let (old, new) = (
        open_disk(&store, &a, "disk0"),
        open_disk(&store, &b, "disk0"),
    );
    let failed = difference(&old, &new, Detail::Chunks, &Silent, &mut |_| {
        ControlFlow::Continue(())
    });
    assert_eq!(failed.unwrap_err().kind(), Kind::Damaged);
}
