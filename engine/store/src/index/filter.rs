//! The filter of a block: a binary fuse filter (Graf and Lemire, 2022) of the first eight bytes of the prefixes in it. Ten
//! bits an entry; one look-up in 256 of an absent id passes.
//!
//! How to read it, 40 bytes in the block's page of fences: seed (u64), places in a part (u32), that less one (u32), places of first
//! hashes (u32), number of fingerprints (u32), checksum of the fingerprints (16).
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use crate::hash::checksum;
use crate::index::fuse::{Shape, fingerprint, hash};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a record.
pub const RECORD_LEN: usize = 40;

/// The part of an id that filters look at.
pub fn filter_key(prefix: &[u8; 16]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *prefix;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// How a filter is read.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct FilterRecord {
    seed: U64,
    part: U32,
    mask: U32,
    firsts: U32,
    length: U32,
    sum: [u8; 16],
}

const _: () = assert!(size_of::<FilterRecord>() == RECORD_LEN);

impl FilterRecord {
    /// Of a filter that was built.
    pub fn new(shape: Shape, fingerprints: &[u8]) -> FilterRecord {
        let length = u32::try_from(fingerprints.len()).unwrap_or(u32::MAX);
        FilterRecord {
            seed: U64::new(shape.seed),
            part: U32::new(shape.part),
            mask: U32::new(shape.part.wrapping_sub(1)),
            firsts: U32::new(shape.firsts),
            length: U32::new(length),
            sum: checksum(fingerprints),
        }
    }

    /// Number of fingerprints, which is their length in bytes.
    pub fn length(&self) -> usize {
        usize::try_from(self.length.get()).unwrap_or(usize::MAX)
    }

    fn shape(&self) -> Shape {
        Shape {
            seed: self.seed.get(),
            part: self.part.get(),
            firsts: self.firsts.get(),
        }
    }

    /// Whether no key can lead beyond the fingerprints.
    fn is_sound(&self) -> bool {
        let (part, firsts) = (self.part.get(), self.firsts.get());
        // First places lie below `firsts`, the others in the two parts behind: the fingerprints must reach that far.
        let needed = u64::from(firsts).saturating_add(u64::from(part).saturating_mul(2));
        part.is_power_of_two()
            && self.mask.get() == part.wrapping_sub(1)
            && firsts > 0
            && firsts.checked_rem(part) == Some(0)
            && needed <= u64::from(self.length.get())
    }

    /// Whether these are the fingerprints that were written, and can be asked.
    pub fn check(&self, fingerprints: &[u8]) -> bool {
        self.is_sound() && fingerprints.len() == self.length() && checksum(fingerprints) == self.sum
    }

    /// Whether `key` may be in the set. `fingerprints` are those of this record; where they end too soon every key may.
    pub fn may_hold(&self, fingerprints: &[u8], key: u64) -> bool {
        let shape = self.shape();
        let hash = hash(key, shape.seed);
        let mut print = fingerprint(hash);
        for place in shape.places(hash) {
            match fingerprints.get(place) {
                Some(other) => print ^= other,
                None => return true,
            }
        }
        print == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::fuse::FuseBuilder;
    use proptest::prelude::*;
    use xorf::{BinaryFuse8, BinaryFuse8Ref, DmaSerializable, Filter, FilterRef};

    fn keys(count: u64) -> Vec<u64> {
        (0..count)
            .map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .collect()
    }

    impl From<[u8; RECORD_LEN]> for FilterRecord {
        fn from(bytes: [u8; RECORD_LEN]) -> FilterRecord {
            zerocopy::transmute!(bytes)
        }
    }

    #[test]
    fn finds_all_and_little_else() {
        let mut builder = FuseBuilder::default();
        for count in [0u64, 1, 2, 3, 10, 1000, 63_881, 150_000] {
            let keys = keys(count);
            let (shape, prints) = builder.build(&keys).unwrap();
            let record = FilterRecord::new(shape, prints);
            assert!(record.check(prints));
            assert!(keys.iter().all(|key| record.may_hold(prints, *key)));
            let others = (0..100_000u64).map(|i| i.wrapping_mul(0x1234_5678_9abc_def1) ^ 1);
            let wrong = others.filter(|key| record.may_hold(prints, *key)).count();
            assert!(wrong < 1000, "{wrong} false positives of {count} keys");
            assert!(!record.check(&prints[1..]));
            let mut damaged = prints.to_vec();
            damaged[0] ^= 1;
            assert!(!record.check(&damaged));
        }
    }

    #[test]
    fn another_implementation_reads_ours_and_we_read_its() {
        let keys = keys(63_881);
        let mut builder = FuseBuilder::default();
        let (shape, prints) = builder.build(&keys).unwrap();
        let record = FilterRecord::new(shape, prints);
        let theirs = BinaryFuse8Ref::from_dma(&record.as_bytes()[..20], prints);
        let their_own = BinaryFuse8::try_from(&keys).unwrap();
        let mut bytes = [0; RECORD_LEN];
        their_own.dma_copy_descriptor_to(&mut bytes[..20]);
        let length = u32::try_from(their_own.fingerprints.len()).unwrap();
        bytes[20..24].copy_from_slice(&length.to_le_bytes());
        bytes[24..].copy_from_slice(&checksum(&their_own.fingerprints));
        let of_theirs = FilterRecord::from(bytes);
        assert!(of_theirs.check(&their_own.fingerprints));
        for key in keys.iter().copied().chain(0..100_000) {
            assert_eq!(record.may_hold(prints, key), theirs.contains(&key));
            let answer = of_theirs.may_hold(&their_own.fingerprints, key);
            assert_eq!(answer, their_own.contains(&key));
        }
    }

    proptest! {
        #[test]
        fn hostile_records_never_lead_out_of_bounds(bytes: [u8; 20], rest: [u8; 20], shift in 0u32..12, parts in 1u32..5, key: u64) {
            let mut record = [0; RECORD_LEN];
            record[..20].copy_from_slice(&bytes);
            record[20..].copy_from_slice(&rest);
            let any = FilterRecord::from(record);
            prop_assert!(any.may_hold(&[], key));
            let _ = any.may_hold(&[0; 4096], key);
            let part = 1u32 << shift;
            record[8..12].copy_from_slice(&part.to_le_bytes());
            record[12..16].copy_from_slice(&(part - 1).to_le_bytes());
            record[16..20].copy_from_slice(&(part * parts).to_le_bytes());
            let length = part * (parts + 2);
            record[20..24].copy_from_slice(&length.to_le_bytes());
            let sound = FilterRecord::from(record);
            prop_assert!(sound.is_sound());
            let all = vec![0; sound.length()];
            let print = fingerprint(hash(key, sound.shape().seed));
            prop_assert_eq!(sound.may_hold(&all, key), print == 0);
            record[20..24].copy_from_slice(&(length - 1).to_le_bytes());
            prop_assert!(!FilterRecord::from(record).is_sound());
        }
    }
}
