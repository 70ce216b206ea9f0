//! Trees of checkpoints at random: they are written to, made, given up, merged, changed behind everybody's back, backed up and forgotten.

use crate::made::{Image, Kind, Op, Parent};
use crate::{Bench, is_partial};
use cairn::{ForgetOptions, Point};
use proptest::prelude::*;

/// What happens; places and images are taken modulo what there is.
#[derive(Debug, Clone)]
enum Step {
    /// The machine runs: its youngest image is written to.
    Write(u64, u64, u8),
    /// A checkpoint is made.
    Checkpoint,
    /// The machine goes back to a checkpoint.
    Switch(usize),
    /// The youngest checkpoint is merged into the one below.
    Merge,
    /// Something writes to an image of the chain and leaves its ids as they are.
    Tamper(usize, u64),
    Backup,
    /// A backup that reads everything.
    Full,
    /// The latest point is forgotten.
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<u64>(), 1u64..3000, 0u8..4).prop_map(|(at, n, what)| Step::Write(at, n, what)),
        4 => Just(Step::Checkpoint),
        2 => any::<usize>().prop_map(Step::Switch),
        1 => Just(Step::Merge),
        1 => (any::<usize>(), any::<u64>()).prop_map(|(at, place)| Step::Tamper(at, place)),
        7 => Just(Step::Backup),
        1 => Just(Step::Full),
        1 => Just(Step::Forget),
    ]
}

const BLOCK: u64 = 1 << 20;

struct Machine {
    bench: Bench,
    /// With the index of each one's parent.
    images: Vec<(Image, Option<usize>)>,
    youngest: usize,
    numbers: u16,
    points: Vec<Point>,
    partial: usize,
}

impl Machine {
    fn new(size: u64, sector: u64) -> Machine {
        let bench = Bench::new();
        let base = Image {
            kind: Kind::Vhdx,
            path: bench.path("base.vhdx"),
            size,
            block_size: BLOCK as u32,
            sector,
            number: 1,
            parent: None,
            ops: vec![Op::Data(0..size / sector / 2)],
        };
        base.write();
        Machine {
            bench,
            images: vec![(base, None)],
            youngest: 0,
            numbers: 1,
            points: Vec::new(),
            partial: 0,
        }
    }

    fn next_number(&mut self) -> u16 {
        self.numbers += 1;
        self.numbers
    }

    fn chain(&self) -> Vec<usize> {
        let mut chain = vec![self.youngest];
        while let Some(parent) = self.images[chain[chain.len() - 1]].1 {
            chain.push(parent);
        }
        chain
    }

    fn has_children(&self, image: usize) -> bool {
        self.images.iter().any(|(_, parent)| *parent == Some(image))
    }

    /// A new youngest image over this one.
    fn checkpoint(&mut self, over: usize) {
        let number = self.next_number();
        let parent = &self.images[over].0;
        let image = Image {
            path: self.bench.path(&format!("{number}.avhdx")),
            number,
            parent: Some(Parent::beside(Kind::Vhdx, parent.number, &parent.path)),
            ops: Vec::new(),
            ..parent.clone()
        };
        image.write();
        self.images.push((image, Some(over)));
        self.youngest = self.images.len() - 1;
    }

    fn write(&mut self, at: u64, sectors: u64, what: u8) {
        if self.has_children(self.youngest) {
            return;
        }
        let number = self.next_number();
        let image = &mut self.images[self.youngest].0;
        let all = image.size / image.sector;
        let start = at % all;
        let range = start..(start + sectors).min(all);
        image.ops.push(match what {
            0 => Op::Zeros(range),
            1 => Op::State(range.start / (BLOCK / image.sector), 2),
            _ => Op::Data(range),
        });
        // Another DataWriteGuid, as whoever opens it for writing gives it.
        image.number = number;
        image.write();
    }

    fn merge(&mut self) {
        let youngest = self.youngest;
        let Some(parent) = self.images[youngest].1 else {
            return;
        };
        let children = |of| self.images.iter().filter(|(_, p)| *p == Some(of)).count();
        if self.has_children(youngest) || children(parent) != 1 {
            return;
        }
        let number = self.next_number();
        let ops = std::mem::take(&mut self.images[youngest].0.ops);
        let into = &mut self.images[parent].0;
        into.ops.extend(ops);
        into.number = number;
        into.write();
        std::fs::remove_file(&self.images[youngest].0.path).unwrap();
        self.images.remove(youngest);
        for (_, above) in &mut self.images {
            *above = above.map(|at| if at > youngest { at - 1 } else { at });
        }
        self.youngest = if parent > youngest {
            parent - 1
        } else {
            parent
        };
    }

    fn backup(&mut self, read_all: bool) {
        self.bench.options.read_all = read_all;
        let chain: Vec<&Image> = self.chain().iter().map(|at| &self.images[*at].0).collect();
        let point = self.bench.backup(&chain);
        self.partial += usize::from(is_partial(&point));
        assert!(!read_all || !is_partial(&point));
        self.points.push(point);
    }

    fn forget(&mut self) {
        // The last one stays.
        if self.points.len() < 2 {
            return;
        }
        let latest = self.points.pop().unwrap();
        let options = ForgetOptions::default();
        let names = [latest.id.to_string()];
        for plan in self
            .bench
            .store
            .plan_forget_points(&names, &options)
            .unwrap()
        {
            self.bench.store.forget(&[plan], &options).unwrap();
        }
    }

    fn go(&mut self, step: &Step) {
        match step {
            Step::Write(at, sectors, what) => self.write(*at, *sectors, *what),
            Step::Checkpoint => self.checkpoint(self.youngest),
            Step::Switch(to) => self.checkpoint(to % self.images.len()),
            Step::Merge => self.merge(),
            Step::Tamper(which, place) => {
                let chain = self.chain();
                let image = &mut self.images[chain[which % chain.len()]].0;
                let sector = place % (image.size / image.sector);
                image.ops.push(Op::Zeros(sector..sector + 1));
                image.write();
            }
            Step::Backup => self.backup(false),
            Step::Full => self.backup(true),
            Step::Forget => self.forget(),
        }
    }
}

/// How many backups read less than everything.
fn play(size: u64, sector: u64, steps: &[Step]) -> usize {
    let mut machine = Machine::new(size, sector);
    steps.iter().for_each(|step| machine.go(step));
    machine.backup(false);
    machine.partial
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn every_point_reads_as_its_model(
        blocks in 1u64..14,
        rest in 0u64..200,
        large_sectors in any::<bool>(),
        steps in proptest::collection::vec(step(), 4..24),
    ) {
        let sector = if large_sectors { 4096 } else { 512 };
        play(blocks * BLOCK + rest * sector, sector, &steps);
    }
}

#[test]
fn such_a_tree_is_mostly_read_in_part() {
    use Step::{Backup, Checkpoint, Merge, Switch, Write};
    let steps = [
        Backup,
        Checkpoint,
        Write(3, 5, 3),
        Backup,
        Checkpoint,
        Checkpoint,
        Write(9000, 70, 0),
        Backup,
        // Another branch; then on there.
        Switch(1),
        Write(1, 9, 1),
        Backup,
        Checkpoint,
        Backup,
        Merge,
        Backup,
        Checkpoint,
    ];
    // All but the first one, the one that came to another branch, and the one of the merged checkpoint.
    assert_eq!(play(9 * BLOCK + 1536, 512, &steps), 4);
}
