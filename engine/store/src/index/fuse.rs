//! Building binary fuse filters with three hashes (Graf and Lemire, "Binary Fuse Filters: Fast and Smaller Than Xor Filters",
//! 2022), in memory that is used again: a segment has one for each 64,000 entries.
//!
//! Each key has three places in an array of fingerprints; the xor of the three shall be the key's own fingerprint. A place that
//! only one key has is set last, so that key can be set aside; that makes other places lonely, and in the end, with luck, no key is
//! left. Then the keys are taken in the reverse order, and each sets the place that was its own. Without luck another seed is tried.

use cairn_base::{Error, Result};

/// Seeds that are tried. One of two or three does.
const SEEDS: u64 = 1000;

/// For at least so many keys: parts of 2^n places, and places for each thousand keys. From the formulas of the paper; a little
/// later than these say, because parts that are just too large take many seeds.
const SIZES: [(usize, u32, usize); 11] = [
    (130_000, 12, 1170),
    (45_000, 11, 1204),
    (14_000, 10, 1246),
    (4_200, 9, 1301),
    (1_250, 8, 1375),
    (380, 7, 1480),
    (115, 6, 1640),
    (35, 5, 1912),
    (10, 4, 2450),
    (3, 3, 4100),
    (0, 2, 6000),
];

/// Where the places of keys lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Mixed into each key.
    pub seed: u64,
    /// Places in a part: a power of two.
    pub part: u32,
    /// Where first places end: a multiple of `part`. Two more parts follow.
    pub firsts: u32,
}

/// The hash of a key.
pub fn hash(key: u64, seed: u64) -> u64 {
    let mut h = key.wrapping_add(seed);
    h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}

/// The fingerprint of a hash.
pub fn fingerprint(hash: u64) -> u8 {
    let [low, ..] = (hash ^ (hash >> 32)).to_le_bytes();
    low
}

impl Shape {
    /// The three places of a hash.
    pub fn places(&self, hash: u64) -> [usize; 3] {
        let high = (u128::from(hash) * u128::from(self.firsts)) >> 64;
        let first = u64::try_from(high).unwrap_or(0);
        let part = u64::from(self.part);
        let mask = part.wrapping_sub(1);
        let second = first.wrapping_add(part) ^ ((hash >> 18) & mask);
        let third = first.wrapping_add(part.wrapping_mul(2)) ^ (hash & mask);
        [first, second, third].map(|place| usize::try_from(place).unwrap_or(usize::MAX))
    }

    /// Number of places.
    pub fn length(&self) -> usize {
        let length = u64::from(self.firsts) + 2 * u64::from(self.part);
        usize::try_from(length).unwrap_or(usize::MAX)
    }

    /// For so many keys, in parts that are 2^`smaller` times smaller than they should be.
    fn for_keys(count: usize, seed: u64, smaller: u32) -> Shape {
        let fits = |(least, _, _): &&(usize, u32, usize)| count >= *least;
        let (_, log, permille) = SIZES.iter().find(fits).copied().unwrap_or((0, 2, 6000));
        let part = 1u32 << log.saturating_sub(smaller).max(2);
        let places = u32::try_from(count * permille / 1000).unwrap_or(u32::MAX / 2);
        let parts = places.div_ceil(part).saturating_sub(2).max(1);
        Shape {
            seed,
            part,
            firsts: parts.saturating_mul(part),
        }
    }
}

/// What is known of a place while keys are set aside.
#[derive(Clone, Copy, Default)]
struct Place {
    /// The xor of the hashes that have it.
    hashes: u64,
    /// How many have it, and the xor of which of their places it is.
    count: u32,
    which: u32,
}

/// Builds filters, one after the other.
#[derive(Default)]
pub struct FuseBuilder {
    places: Vec<Place>,
    lonely: Vec<u32>,
    /// Hashes in the order they were set aside, and the place that was theirs alone.
    aside: Vec<(u64, u32)>,
    prints: Vec<u8>,
}

impl FuseBuilder {
    /// The filter of distinct keys: its shape and its fingerprints.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) if no seed does, which distinct keys do not make happen.
    pub fn build(&mut self, keys: &[u64]) -> Result<(Shape, &[u8])> {
        for attempt in 0..SEEDS {
            let seed = hash(attempt, 0x9e37_79b9_7f4a_7c15);
            let smaller = u32::from(attempt % 4 == 3);
            let shape = Shape::for_keys(keys.len(), seed, smaller);
            if self.set_aside(keys, shape) {
                self.assign(shape);
                return Ok((shape, &self.prints));
            }
        }
        Err(Error::invalid("no index filter can be built of these keys"))
    }

    /// Sets the keys aside one by one; `false` if some are left.
    #[expect(
        clippy::indexing_slicing,
        reason = "all places of a shape lie below its length, and nothing here comes from a disk"
    )]
    fn set_aside(&mut self, keys: &[u64], shape: Shape) -> bool {
        self.places.clear();
        self.places.resize(shape.length(), Place::default());
        self.lonely.clear();
        self.aside.clear();
        for key in keys {
            let hash = hash(*key, shape.seed);
            for (which, at) in (0..).zip(shape.places(hash)) {
                let place = &mut self.places[at];
                place.hashes ^= hash;
                place.count += 1;
                place.which ^= which;
            }
        }
        let alone = (0..)
            .zip(&self.places)
            .filter(|(_, place)| place.count == 1);
        self.lonely.extend(alone.map(|(at, _): (u32, _)| at));
        while let Some(at) = self.lonely.pop() {
            let place = self.places[usize::try_from(at).unwrap_or(0)];
            // Its only key may have been set aside at another place meanwhile.
            if place.count != 1 {
                continue;
            }
            self.aside.push((place.hashes, place.which));
            for (which, at) in (0..).zip(shape.places(place.hashes)) {
                let other = &mut self.places[at];
                other.hashes ^= place.hashes;
                other.count -= 1;
                other.which ^= which;
                if other.count == 1 {
                    self.lonely.push(u32::try_from(at).unwrap_or(0));
                }
            }
        }
        self.aside.len() == keys.len()
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "all places of a shape lie below its length, and nothing here comes from a disk"
    )]
    fn assign(&mut self, shape: Shape) {
        self.prints.clear();
        self.prints.resize(shape.length(), 0);
        for (hash, which) in self.aside.iter().rev() {
            let places = shape.places(*hash);
            // The place itself is still 0.
            let print = places
                .iter()
                .fold(fingerprint(*hash), |print, at| print ^ self.prints[*at]);
            self.prints[places[usize::try_from(*which).unwrap_or(0)]] = print;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_of_a_block_finds_a_seed_soon() {
        let keys: Vec<u64> = (0..70_000u64).map(|i| hash(i, 77)).collect();
        let mut builder = FuseBuilder::default();
        let edges = SIZES
            .iter()
            .flat_map(|(least, ..)| [*least, least + 1, least + least / 20]);
        let sizes = edges
            .chain((0..200).map(|n| n * n + n))
            .filter(|n| *n < 64_000);
        for count in sizes.chain([63_880, 63_881]) {
            let (shape, prints) = builder.build(&keys[..count]).unwrap();
            assert_eq!(prints.len(), shape.length());
            let tried = (0..).position(|n| hash(n, 0x9e37_79b9_7f4a_7c15) == shape.seed);
            assert!(tried.unwrap() < 30, "{count} keys: {tried:?}");
        }
    }

    #[test]
    fn keys_that_are_not_distinct_are_refused() {
        assert!(FuseBuilder::default().build(&[7, 7]).is_err());
    }
}
