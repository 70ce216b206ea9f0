//! What is damaged within the parity comes back equal; beyond it there is an error, never other bytes.

use super::*;
use crate::parity::Encoder;

/// Numbers that follow from a seed.
pub struct Random(blake3::OutputReader);

impl Random {
    fn new(seed: u64) -> Random {
        println!("seed {seed}");
        Random(
            blake3::Hasher::new()
                .update(&seed.to_le_bytes())
                .finalize_xof(),
        )
    }

    fn below(&mut self, end: usize) -> usize {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        (u64::from_le_bytes(bytes) % end as u64) as usize
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.fill(&mut bytes);
        bytes
    }
}

const PACK: PackId = PackId([9; 16]);

fn protect(plain: &[u8], percent: u32, random: &mut Random) -> Vec<u8> {
    let mut encoder = Encoder::new(percent);
    let mut rest = plain;
    while !rest.is_empty() {
        let (now, later) = rest.split_at((1 + random.below(300_000)).min(rest.len()));
        encoder.push(now).unwrap();
        rest = later;
    }
    let area = encoder.finish(PACK).unwrap();
    let mut file = plain.to_vec();
    file.extend_from_slice(&[0; 128]);
    file.extend_from_slice(&area.table);
    file.resize(file.len() + area.padding, 0);
    file.extend_from_slice(&area.parity);
    file.extend_from_slice(&area.table);
    assert_eq!(file.len() as u64, plain.len() as u64 + area.length);
    file
}

/// Different numbers below `end`.
fn choose(count: usize, end: usize, random: &mut Random) -> Vec<usize> {
    let mut chosen = Vec::new();
    while chosen.len() < count {
        let number = random.below(end);
        if !chosen.contains(&number) {
            chosen.push(number);
        }
    }
    chosen
}

/// Does something to the bytes of a range.
fn hurt(file: &mut [u8], range: Range<u64>, random: &mut Random) {
    let bytes = &mut file[range.start as usize..range.end as usize];
    match random.below(3) {
        0 => bytes.fill(0xff),
        1 => {
            let noise = random.bytes(bytes.len());
            bytes.copy_from_slice(&noise);
        }
        _ => {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
        }
    }
}

fn damage(file: &mut [u8], shape: &Shape, stripe: usize, count: usize, random: &mut Random) {
    let (data, parity) = (shape.data_of(stripe), shape.parity_of(stripe));
    for number in choose(count, data + parity, random) {
        let range = match number.checked_sub(data) {
            None => shape.data_range(stripe, number),
            Some(number) => shape.parity_range(stripe, number),
        };
        hurt(file, range, random);
    }
}

fn restored(file: Vec<u8>, shape: Shape) -> Vec<Result<Vec<u8>>> {
    let restorer = Restorer::new(Arc::new(file), PACK, shape).unwrap();
    (0..shape.stripes())
        .map(|stripe| restorer.stripe(stripe).map(|found| found.bytes))
        .collect()
}

#[test]
fn damage_within_the_parity_is_restored_wherever_it_is() {
    for (seed, (length, percent)) in [
        (100, 3),
        (5000, 3),
        (100_000, 25),
        (3_000_000, 1),
        (4 << 20, 3),
        ((9 << 20) + 77, 3),
        (5 << 20, 10),
    ]
    .into_iter()
    .enumerate()
    {
        let mut random = Random::new(seed as u64);
        let plain = random.bytes(length);
        let file = protect(&plain, percent, &mut random);
        let shape = Shape::new(length as u64, percent).unwrap();
        for _ in 0..3 {
            let mut hurt = file.clone();
            for stripe in 0..shape.stripes() {
                let most = shape.parity_of(stripe);
                let count = [most, 1 + random.below(most)][random.below(2)];
                damage(&mut hurt, &shape, stripe, count, &mut random);
            }
            let stripes = restored(hurt, shape);
            let mut all: Vec<u8> = stripes.into_iter().flat_map(|s| s.unwrap()).collect();
            assert!(all.split_off(length).iter().all(|byte| *byte == 0));
            assert!(all == plain);
        }
    }
}

#[test]
fn damage_beyond_the_parity_is_an_error_and_nothing_else() {
    let mut random = Random::new(77);
    let plain = random.bytes((4 << 20) + 100_000);
    let file = protect(&plain, 3, &mut random);
    let shape = Shape::new(plain.len() as u64, 3).unwrap();
    for more in 1..4 {
        let mut hurt = file.clone();
        // Of the first stripe so many that even lost parity shards alone do not explain it.
        let count = shape.parity_of(0) + more;
        for number in choose(count, shape.data_of(0), &mut random) {
            let range = shape.data_range(0, number);
            super::tests::hurt(&mut hurt, range, &mut random);
        }
        let stripes = restored(hurt, shape);
        assert_eq!(
            stripes[0].as_ref().unwrap_err().kind(),
            cairn_base::Kind::Damaged
        );
        assert!(plain[4 << 20..] == stripes[1].as_ref().unwrap()[..100_000]);
    }
}

#[test]
fn a_burst_as_long_as_the_parity_is_restored() {
    let mut random = Random::new(5);
    let plain = random.bytes(8 << 20);
    let file = protect(&plain, 3, &mut random);
    let shape = Shape::new(plain.len() as u64, 3).unwrap();
    for start in [0, 4096 * 500, (4 << 20) - 4096 * 20, (8 << 20) - 31 * 4096] {
        let mut hurt = file.clone();
        hurt[start..start + 31 * 4096].fill(0);
        let stripes = restored(hurt, shape);
        let all: Vec<u8> = stripes.into_iter().flat_map(|s| s.unwrap()).collect();
        assert!(all == plain);
    }
}

#[test]
fn either_table_serves_and_a_page_lost_in_both_is_no_wrong_byte() {
    let mut random = Random::new(6);
    let plain = random.bytes((4 << 20) + 10_000);
    let file = protect(&plain, 3, &mut random);
    let shape = Shape::new(plain.len() as u64, 3).unwrap();
    let [first, second] = shape.tables().map(|at| at as usize);
    let table = (shape.end() as usize) - second;
    for lost in [first..first + table, second..second + table] {
        let mut hurt = file.clone();
        hurt[lost].fill(7);
        hurt[1000] ^= 4;
        let stripes = restored(hurt, shape);
        assert!(stripes[0].as_ref().unwrap()[..] == plain[..4 << 20]);
    }
    // One page of each, not the same: all is there.
    let mut hurt = file.clone();
    hurt[first + 5] ^= 1;
    hurt[second + 4096 + 5] ^= 1;
    hurt[3_000_000] ^= 1;
    assert!(restored(hurt, shape)[0].as_ref().unwrap()[..] == plain[..4 << 20]);
    // The same one of both: 1,020 shards of the first stripe count as damaged.
    let mut hurt = file.clone();
    hurt[first + 5] ^= 1;
    hurt[second + 5] ^= 1;
    let stripes = restored(hurt, shape);
    assert!(stripes[0].is_err() && stripes[1].is_ok());
}

#[test]
fn a_page_of_another_pack_or_place_is_not_taken() {
    let mut random = Random::new(8);
    let plain = random.bytes(5 << 20);
    let file = protect(&plain, 3, &mut random);
    let shape = Shape::new(plain.len() as u64, 3).unwrap();
    let other = table::read(&file, PackId([8; 16]), &shape).unwrap();
    assert!(other.iter().all(Option::is_none) && other.len() == shape.sums());
    let mut swapped = file.clone();
    for at in shape.tables().map(|at| at as usize) {
        let page = swapped[at..at + 1304].to_vec();
        swapped[at + 4096..at + 5400].copy_from_slice(&page);
    }
    let sums = table::read(&swapped, PACK, &shape).unwrap();
    assert!(sums[..1020].iter().all(Option::is_some));
    assert!(sums[1020..].iter().all(Option::is_none));
}

#[test]
fn what_is_not_damaged_is_read_alone() {
    let mut random = Random::new(10);
    let plain = random.bytes(100_000);
    let mut file = protect(&plain, 3, &mut random);
    file[50_000] ^= 1;
    let shape = Shape::new(plain.len() as u64, 3).unwrap();
    let restorer = Restorer::new(Arc::new(file), PACK, shape).unwrap();
    assert_eq!(
        restorer.whole(10..40_000).unwrap().unwrap(),
        plain[10..40_000]
    );
    let end = restorer.whole(98_000..100_000).unwrap();
    assert_eq!(end.unwrap(), plain[98_000..]);
    assert!(restorer.whole(45_000..55_000).unwrap().is_none());
    assert_eq!(restorer.stripe(0).unwrap().shards, 1);
}

/// What FORMAT.md says of the code: another release of the crate must make the same shards.
#[test]
fn golden_parity() {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let plain = |length| {
        let mut bytes = vec![0; length];
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(&1u64.to_le_bytes())
            .finalize_xof()
            .fill(&mut bytes);
        bytes
    };
    let golden = |length, percent| {
        let mut encoder = Encoder::new(percent);
        encoder.push(&plain(length)).unwrap();
        let area = encoder.finish(PACK).unwrap();
        (
            area.parity.len() / 4096,
            hex(&area.parity[..8]),
            hex(&crate::hash::checksum(&area.parity)),
            hex(&area.table[..24]),
        )
    };
    let small = golden(10_000, 25);
    let large = golden((4 << 20) + 5000, 3);
    let expected = |a: usize, b: &str, c: &str, d: &str| (a, b.into(), c.into(), d.into());
    assert_eq!(
        small,
        expected(
            1,
            "3c4916d9a2026868",
            "dba149ec0a445e8eadc74b3fe4a41912",
            "e656cb5d41dfa94ecd93056b8e16831a15c4fd2c9d02e30e"
        )
    );
    assert_eq!(
        large,
        expected(
            33,
            "d57ce7cb78de2d28",
            "ffe3f69d947d524ed45d2ddc3598b22f",
            "d7b6fd6ca878299a237a692a9a90c18215c4fd2c9d02e30e"
        )
    );
}
