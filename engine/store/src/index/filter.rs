//! The filter of a block: a binary fuse filter (Graf and Lemire, 2022) of the first eight bytes of the prefixes in it. Ten
//! bits an entry; one look-up in 256 of an absent id passes.
//!
//! How to read it, 40 bytes in the block's page of fences: descriptor (20: seed u64, segment length u32, mask u32, segment
//! count length u32), number of fingerprints (u32), checksum of the fingerprints (16).
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use crate::hash::checksum;
use cairn_base::{Error, Kind, Result};
use xorf::{BinaryFuse8, BinaryFuse8Ref, DmaSerializable, Filter, FilterRef};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a record.
pub const RECORD_LEN: usize = 40;
const DESCRIPTOR_LEN: usize = 20;

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
    segment: U32,
    mask: U32,
    count: U32,
    length: U32,
    sum: [u8; 16],
}

const _: () = assert!(size_of::<FilterRecord>() == RECORD_LEN);

/// Builds the filter of distinct keys: its record and its fingerprints.
///
/// # Errors
/// [`Kind::Invalid`] if no filter is found in a thousand seeds, which no set of distinct keys makes happen.
pub fn build(keys: &[u64]) -> Result<(FilterRecord, Box<[u8]>)> {
    let failed = |why: &str| {
        Error::new(
            Kind::Invalid,
            format!("cannot build an index filter: {why}"),
        )
    };
    let filter = BinaryFuse8::try_from(keys).map_err(failed)?;
    let mut bytes = [0; RECORD_LEN];
    let (descriptor, rest) = bytes.split_at_mut(DESCRIPTOR_LEN);
    filter.dma_copy_descriptor_to(descriptor);
    let (length, sum) = rest.split_at_mut(4);
    let count = u32::try_from(filter.fingerprints.len()).map_err(|_| failed("too many keys"))?;
    length.copy_from_slice(&count.to_le_bytes());
    sum.copy_from_slice(&checksum(&filter.fingerprints));
    Ok((FilterRecord::from(bytes), filter.fingerprints))
}

impl From<[u8; RECORD_LEN]> for FilterRecord {
    fn from(bytes: [u8; RECORD_LEN]) -> FilterRecord {
        zerocopy::transmute!(bytes)
    }
}

impl FilterRecord {
    /// Number of fingerprints, which is their length in bytes.
    pub fn length(&self) -> usize {
        usize::try_from(self.length.get()).unwrap_or(usize::MAX)
    }

    /// Whether no key can lead beyond the fingerprints.
    fn is_sound(&self) -> bool {
        let (segment, count) = (self.segment.get(), self.count.get());
        // h0 < count, h1 and h2 lie within the two segments behind it: the fingerprints must reach that far.
        let needed = u64::from(count).saturating_add(u64::from(segment).saturating_mul(2));
        segment.is_power_of_two()
            && self.mask.get() == segment.wrapping_sub(1)
            && count > 0
            && count.checked_rem(segment) == Some(0)
            && needed <= u64::from(self.length.get())
    }

    /// Whether these are the fingerprints that were written, and can be asked.
    pub fn check(&self, fingerprints: &[u8]) -> bool {
        self.is_sound() && fingerprints.len() == self.length() && checksum(fingerprints) == self.sum
    }

    /// Whether `key` may be in the set. `fingerprints` are those of this record; if they cannot be, or if the record makes no
    /// sense, every key may.
    pub fn may_hold(&self, fingerprints: &[u8], key: u64) -> bool {
        if fingerprints.len() != self.length() || !self.is_sound() {
            return true;
        }
        let bytes = self.as_bytes();
        let descriptor = bytes.get(..DESCRIPTOR_LEN).unwrap_or_default();
        BinaryFuse8Ref::from_dma(descriptor, fingerprints).contains(&key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn finds_all_and_little_else() {
        for count in [1u64, 2, 3, 10, 1000, 63_881, 100_000] {
            let keys: Vec<u64> = (0..count)
                .map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15))
                .collect();
            let (record, prints) = build(&keys).unwrap();
            assert!(record.check(&prints));
            assert!(keys.iter().all(|key| record.may_hold(&prints, *key)));
            let wrong = (0..100_000u64)
                .filter(|i| record.may_hold(&prints, i.wrapping_mul(0x1234_5678_9abc_def1) ^ 1))
                .count();
            assert!(wrong < 1000, "{wrong} false positives of {count} keys");
            assert!(!record.check(&prints[1..]));
            let mut damaged = prints.clone();
            damaged[0] ^= 1;
            assert!(!record.check(&damaged));
        }
    }

    proptest! {
        #[test]
        fn hostile_records_never_lead_out_of_bounds(bytes: [u8; 20], rest: [u8; 20], shift in 0u32..12, segments in 1u32..5, key: u64) {
            let mut record = [0; RECORD_LEN];
            record[..20].copy_from_slice(&bytes);
            record[20..].copy_from_slice(&rest);
            let any = FilterRecord::from(record);
            let some = vec![0; any.length().min(1 << 16)];
            let _ = any.may_hold(&some, key);
            let segment = 1u32 << shift;
            record[8..12].copy_from_slice(&segment.to_le_bytes());
            record[12..16].copy_from_slice(&(segment - 1).to_le_bytes());
            record[16..20].copy_from_slice(&(segment * segments).to_le_bytes());
            let length = segment * (segments + 2);
            record[20..24].copy_from_slice(&length.to_le_bytes());
            let sound = FilterRecord::from(record);
            prop_assert!(sound.is_sound());
            let _ = sound.may_hold(&vec![0; sound.length()], key);
            record[20..24].copy_from_slice(&(length - 1).to_le_bytes());
            let short = FilterRecord::from(record);
            prop_assert!(!short.is_sound());
            prop_assert!(short.may_hold(&vec![0; short.length()], key));
        }
    }
}
