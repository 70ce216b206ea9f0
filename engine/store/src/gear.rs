//! Where content-defined chunks end: the scan of FastCDC (Xia et al., "The Design of Fast Content-Defined Chunking for Data
//! Deduplication Based Storage Systems", TPDS 2020), several stretches at a time.
//!
//! The gear hash takes in a byte by a shift and an addition, so a byte has to wait for the one before: a plain scan is bound by
//! that chain, not by the processor's width. But the shift drops a byte after 64 more: the hash anywhere follows from the last 64
//! bytes. So a block is scanned as several stretches at once, each of which first takes in the 64 bytes before it. The ends
//! found are the same to the byte; the crate `fastcdc`, whose tables these are, is what tests compare with. Measured at 1.7 times its speed.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use fastcdc::v2020::{Normalization, get_gear_with_seed, select_masks};
use std::sync::LazyLock;

/// The gear table: a random number for each byte.
type Table = [u64; 256];

/// Bytes of a stretch.
const STRETCH: usize = 256;
/// Bytes of a block: four stretches.
const BLOCK: usize = 4 * STRETCH;
/// Bytes after which the hash has forgotten what came before.
const MEMORY: usize = 64;

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let (table, _) = get_gear_with_seed(0);
    let mut own = [0; 256];
    for (to, from) in own.iter_mut().zip(table.iter()) {
        *to = *from;
    }
    own
});

/// Sizes of chunks in bytes, and the masks that follow from the average.
#[derive(Debug, Clone, Copy)]
pub struct Gear {
    min: usize,
    average: usize,
    max: usize,
    /// Up to the average size, and beyond it.
    masks: (u64, u64),
}

impl Gear {
    /// For chunks of these sizes, all even.
    pub fn new(min: usize, average: usize, max: usize) -> Gear {
        Gear {
            min,
            average,
            max,
            masks: select_masks(average, Normalization::Level1),
        }
    }

    /// Length of the first chunk of `run`.
    pub fn cut(&self, run: &[u8]) -> usize {
        let longest = run.len().min(self.max);
        if longest <= self.min {
            return longest;
        }
        let table = &*TABLE;
        // Two bytes belong together in the paper: an odd last one is never looked at.
        let middle = self.average.min(longest) & !1;
        let end = longest & !1;
        let part = |from: usize, to: usize| run.get(from..to).unwrap_or_default();
        match scan(part(self.min, middle), 0, self.masks.0, table) {
            Found::At(index) => self.min + index,
            Found::Nothing(hash) => match scan(part(middle, end), hash, self.masks.1, table) {
                Found::At(index) => middle + index,
                Found::Nothing(_) => longest,
            },
        }
    }
}

/// What a scan came to.
enum Found {
    /// The first byte at which the masked hash is zero.
    At(usize),
    /// The hash behind the last byte.
    Nothing(u64),
}

fn step(hash: u64, byte: u8, table: &Table) -> u64 {
    let gear = table.get(usize::from(byte)).copied().unwrap_or(0);
    (hash << 1).wrapping_add(gear)
}

fn scan(bytes: &[u8], hash: u64, mask: u64, table: &Table) -> Found {
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    let mut hash = hash;
    let mut at = 0;
    for block in blocks {
        match scan_block(block, hash, mask, table) {
            Some(behind) => hash = behind,
            // Which of the stretches was first does not matter: the block has an end in it.
            None => return scan_plainly(block, hash, mask, table).behind(at),
        }
        at += BLOCK;
    }
    scan_plainly(rest, hash, mask, table).behind(at)
}

impl Found {
    fn behind(self, at: usize) -> Found {
        match self {
            Found::At(index) => Found::At(at + index),
            nothing @ Found::Nothing(_) => nothing,
        }
    }
}

fn scan_plainly(bytes: &[u8], hash: u64, mask: u64, table: &Table) -> Found {
    let mut hash = hash;
    for (index, byte) in bytes.iter().enumerate() {
        hash = step(hash, *byte, table);
        if hash & mask == 0 {
            return Found::At(index);
        }
    }
    Found::Nothing(hash)
}

/// The hash behind a block; `None` if a chunk ends somewhere in it.
fn scan_block(block: &[u8; BLOCK], hash: u64, mask: u64, table: &Table) -> Option<u64> {
    let (stretches, _) = block.as_chunks::<STRETCH>();
    let [a, b, c, d] = stretches else { return None };
    let mut hashes = [hash, 0, 0, 0];
    let before = |stretch: &[u8; STRETCH]| *stretch.last_chunk::<MEMORY>().unwrap_or(&[0; MEMORY]);
    let (end_a, end_b, end_c) = (before(a), before(b), before(c));
    let [h0, h1, h2, h3] = &mut hashes;
    for ((x, y), z) in end_a.iter().zip(&end_b).zip(&end_c) {
        *h1 = step(*h1, *x, table);
        *h2 = step(*h2, *y, table);
        *h3 = step(*h3, *z, table);
    }
    for (((w, x), y), z) in a.iter().zip(b).zip(c).zip(d) {
        *h0 = step(*h0, *w, table);
        *h1 = step(*h1, *x, table);
        *h2 = step(*h2, *y, table);
        *h3 = step(*h3, *z, table);
        if *h0 & mask == 0 || *h1 & mask == 0 || *h2 & mask == 0 || *h3 & mask == 0 {
            return None;
        }
    }
    Some(*h3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastcdc::v2020::FastCDC;
    use proptest::prelude::*;

    fn same(run: &[u8], sizes: (usize, usize, usize)) {
        let (min, average, max) = sizes;
        let gear = Gear::new(min, average, max);
        let mut at = 0;
        while at < run.len() {
            let ours = gear.cut(&run[at..]);
            let (_, end) = FastCDC::new(&run[at..], min, average, max).cut(0, run.len() - at);
            assert_eq!(ours, end, "at {at} of {}", run.len());
            at += ours;
        }
    }

    #[test]
    fn an_empty_run_and_zeros() {
        let gear = Gear::new(8 << 10, 32 << 10, 128 << 10);
        assert_eq!(gear.cut(&[]), 0);
        assert_eq!(gear.cut(&[0; 100]), 100);
        same(&vec![0; 1 << 20], (8 << 10, 32 << 10, 128 << 10));
        same(&vec![0xff; 300_001], (8 << 10, 32 << 10, 128 << 10));
    }

    proptest! {
        #[test]
        fn ends_are_those_of_the_paper(
            seed: u64,
            length in 0usize..700_000,
            few_values in 1u8..=255,
            sizes in prop_oneof![Just((8 << 10, 32 << 10, 128 << 10)), Just((2 << 10, 8 << 10, 64 << 10)), Just((4 << 10, 16 << 10, 100_000))],
        ) {
            let mut bytes = vec![0; length];
            blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
            if few_values < 128 {
                bytes.iter_mut().for_each(|byte| *byte %= few_values);
            }
            same(&bytes, sizes);
        }
    }
}
