//! Random chains of every block size read as the model says.

use super::made::{Image, Kind, Op, Parent, expected};
use cairn_base::read_at::read_vec;
use cairn_disk::{VirtualDisk, open};
use std::path::Path;

/// Numbers that are the same in every run.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed ^ 0x9E37_79B9_7F4A_7C15)
    }

    /// Below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 8) % end
    }
}

/// Operations on some blocks of an image: pieces of them, from sector to sector or over their ends, and all of one.
fn ops(random: &mut Random, image: &Image) -> Vec<Op> {
    let per_block = u64::from(image.block_size) / image.sector;
    let sectors = image.size / image.sector;
    let blocks = image.size.div_ceil(u64::from(image.block_size));
    let mut ops = Vec::new();
    for _ in 0..1 + random.below(8) {
        let start = random.below(blocks) * per_block + random.below(per_block);
        let longest = 1 << random.below(9);
        let range = start.min(sectors - 1)..(start + 1 + random.below(longest)).min(sectors);
        ops.push(match random.below(8) {
            0 if image.kind == Kind::Vhdx => Op::State(random.below(blocks), random.below(4)),
            // All of a block, if that is not too much to write.
            1 if per_block <= 4096 => {
                let first = random.below(blocks) * per_block;
                Op::Data(first..(first + per_block).min(sectors))
            }
            2 => Op::Zeros(range),
            // Every other sector of a stretch: more pieces than are told apart where that is not needed.
            3 => {
                ops.extend(
                    (0..80)
                        .map(|n| range.start + 2 * n)
                        .filter(|at| *at < sectors)
                        .map(|at| Op::Data(at..at + 1)),
                );
                continue;
            }
            _ => Op::Data(range),
        });
        if let Some(Op::Data(range) | Op::Zeros(range)) = ops.last()
            && range.is_empty()
        {
            ops.pop();
        }
    }
    ops
}

/// A chain of `depth` images in `folder`, the child first.
pub fn chain(
    folder: &Path,
    random: &mut Random,
    (kind, block_size, sector): (Kind, u32, u64),
    depth: u16,
) -> Vec<Image> {
    let blocks = 1 + random.below(5);
    // The last block is not whole.
    let size =
        blocks * u64::from(block_size) + sector * random.below(u64::from(block_size) / sector);
    let mut chain: Vec<Image> = Vec::new();
    for number in 1..=depth {
        let name = match kind {
            Kind::Vhd => format!("{number}.vhd"),
            Kind::Vhdx => format!("{number}.vhdx"),
        };
        let mut image = Image {
            kind,
            path: folder.join(name),
            size,
            block_size,
            sector,
            number,
            parent: chain
                .first()
                .map(|parent| Parent::beside(kind, parent.number, &parent.path)),
            ops: Vec::new(),
        };
        image.ops = ops(random, &image);
        image.write();
        chain.insert(0, image);
    }
    chain
}

/// Reads near everything that was written, and here and there.
fn check(disk: &dyn VirtualDisk, chain: &[Image], random: &mut Random) {
    let size = chain[0].size;
    assert_eq!(disk.size(), size);
    let mut places = vec![0, size.saturating_sub(5000)];
    for image in chain {
        for op in &image.ops {
            match op {
                Op::Data(range) | Op::Zeros(range) => {
                    places.push((range.start * image.sector).saturating_sub(random.below(3000)));
                }
                Op::State(block, _) => places.push(block * u64::from(image.block_size)),
            }
        }
    }
    places.extend((0..8).map(|_| random.below(size)));
    for at in places {
        let length = (1 + random.below(40_000)).min(size - at) as usize;
        let read = read_vec(disk, at, length).unwrap();
        let wanted = expected(chain, at, length);
        let wrong = (0..length).find(|n| read[*n] != wanted[*n]);
        assert_eq!(wrong, None, "from {at}: {chain:#?}");
        let mut zero_from = at;
        let end = at + length as u64;
        let extents = disk.data_extents(at..end).unwrap();
        for extent in extents.iter().chain([&(end..end)]) {
            assert!(zero_from <= extent.start && extent.end <= end);
            let gap = (zero_from - at) as usize..(extent.start - at) as usize;
            assert!(
                wanted[gap].iter().all(|byte| *byte == 0),
                "data in a gap of {extents:?}"
            );
            zero_from = extent.end;
        }
    }
}

/// `CHAIN_ROUNDS` chains of each block size; 1 unless told otherwise.
fn rounds() -> u64 {
    std::env::var("CHAIN_ROUNDS").map_or(1, |text| text.parse().unwrap())
}

fn check_all(kind: Kind, block_sizes: impl Iterator<Item = u32>, sectors: &[u64]) {
    for block_size in block_sizes {
        for sector in sectors {
            for round in 0..rounds() {
                let folder = tempfile::tempdir().unwrap();
                let mut random = Random::new(round << 40 | u64::from(block_size) << 4 | sector);
                let depth = 1 + random.below(4) as u16;
                let chain = chain(
                    folder.path(),
                    &mut random,
                    (kind, block_size, *sector),
                    depth,
                );
                let disk = open(&chain[0].path).unwrap();
                check(&*disk, &chain, &mut random);
            }
        }
    }
}

#[test]
fn vhd_of_every_block_size() {
    check_all(Kind::Vhd, (9..=28).map(|shift| 1 << shift), &[512]);
}

#[test]
fn vhdx_of_every_block_size() {
    check_all(Kind::Vhdx, (20..=28).map(|shift| 1 << shift), &[512, 4096]);
}

#[test]
fn a_long_chain_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random::new(5);
    let chain = chain(folder.path(), &mut random, (Kind::Vhd, 4096, 512), 64);
    let disk = open(&chain[0].path).unwrap();
    let read = read_vec(&*disk, 0, chain[0].size as usize).unwrap();
    assert!(read == expected(&chain, 0, read.len()));
    assert!(read.iter().any(|byte| *byte != 0));
}

#[test]
fn more_than_one_sector_bitmap() {
    // A chunk is 4 GiB with sectors of 512 bytes: writes before, at and behind its end.
    let folder = tempfile::tempdir().unwrap();
    let mut chain = Vec::new();
    let chunk = (4u64 << 30) / 512;
    for number in 1..3u16 {
        let shift = u64::from(number) * 3;
        let image = Image {
            kind: Kind::Vhdx,
            path: folder.path().join(format!("{number}.vhdx")),
            size: 9 << 30,
            block_size: 32 << 20,
            sector: 512,
            number,
            parent: chain
                .first()
                .map(|parent: &Image| Parent::beside(Kind::Vhdx, parent.number, &parent.path)),
            ops: vec![
                Op::Data(chunk - 10 - shift..chunk + 20 - 2 * shift),
                Op::Data(2 * chunk - shift..2 * chunk + 7),
                Op::Data(5 * shift..6 * shift),
            ],
        };
        image.write();
        chain.insert(0, image);
    }
    let disk = open(&chain[0].path).unwrap();
    check(&*disk, &chain, &mut Random::new(1));
    let all: u64 = disk
        .data_extents(0..u64::MAX)
        .unwrap()
        .iter()
        .map(|extent| extent.end - extent.start)
        .sum();
    assert!(all > 0 && all < 256 << 20, "{all}");
}
