//! Filters: for each block of pages a binary fuse filter (Graf and Lemire, 2022) of the first eight bytes of the
//! prefixes in it. Nine bits an entry; one look-up in 250 of an absent id passes.
//!
//! Directory record of a filter, 56 bytes: offset of the fingerprints in the segment (u64), their length (u64),
//! descriptor (20: seed u64, segment length u32, mask u32, segment count length u32), zero (4), checksum of the
//! fingerprints (16).
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use crate::hash::checksum;
use cairn_base::units::to_u64;
use cairn_base::{Error, Kind, Result, View};
use xorf::{BinaryFuse8, BinaryFuse8Ref, DmaSerializable, Filter, FilterRef};

/// Pages one filter stands for: about a million entries.
pub const FILTER_PAGES: u64 = 8192;
/// Bytes of a directory record.
pub const RECORD_LEN: usize = 56;
const DESCRIPTOR_LEN: usize = 20;

/// The part of an id that filters look at.
pub fn filter_key(prefix: &[u8; 16]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *prefix;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Where a filter lies and how it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterRecord {
    /// In the segment, in bytes.
    pub offset: u64,
    /// In bytes.
    pub length: u64,
    descriptor: [u8; DESCRIPTOR_LEN],
    sum: [u8; 16],
}

/// Builds the filter of sorted, distinct keys: its record at `offset`, and its fingerprints.
///
/// # Errors
/// [`Kind::Invalid`] if no filter is found in a thousand seeds, which no set of distinct keys makes happen.
pub fn build(keys: &[u64], offset: u64) -> Result<(FilterRecord, Box<[u8]>)> {
    let filter = BinaryFuse8::try_from(keys).map_err(|why| {
        Error::new(
            Kind::Invalid,
            format!("cannot build an index filter: {why}"),
        )
    })?;
    let mut descriptor = [0; DESCRIPTOR_LEN];
    filter.dma_copy_descriptor_to(&mut descriptor);
    let record = FilterRecord {
        offset,
        length: to_u64(filter.fingerprints.len()),
        descriptor,
        sum: checksum(&filter.fingerprints),
    };
    Ok((record, filter.fingerprints))
}

impl FilterRecord {
    /// The bytes of the directory record.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(RECORD_LEN);
        bytes.extend_from_slice(&self.offset.to_le_bytes());
        bytes.extend_from_slice(&self.length.to_le_bytes());
        bytes.extend_from_slice(&self.descriptor);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.sum);
        bytes
    }

    /// Decodes a directory record. What it says of the fingerprints is made safe to follow here, so that
    /// no descriptor can lead beyond them.
    ///
    /// # Errors
    /// [`Kind::Damaged`] if the geometry is impossible.
    pub fn decode(bytes: &[u8]) -> Result<FilterRecord> {
        let view = View::new(bytes, "index filter record", 0);
        let record = FilterRecord {
            offset: view.u64_le(0)?,
            length: view.u64_le(8)?,
            descriptor: view.array(16)?,
            sum: view.array(40)?,
        };
        let (segment, mask, count) = (view.u32_le(24)?, view.u32_le(28)?, view.u32_le(32)?);
        // h0 < count, h1 and h2 lie within the two segments behind it: the fingerprints must reach that far.
        let needed = u64::from(count).saturating_add(u64::from(segment).saturating_mul(2));
        let sane = segment.is_power_of_two()
            && mask == segment.wrapping_sub(1)
            && count > 0
            && count.checked_rem(segment) == Some(0)
            && needed <= record.length;
        if sane {
            Ok(record)
        } else {
            Err(view.damaged(24, "describes an impossible filter"))
        }
    }

    /// Whether these are the fingerprints that were written.
    pub fn check(&self, fingerprints: &[u8]) -> bool {
        checksum(fingerprints) == self.sum
    }

    /// Whether `key` may be in the set. `fingerprints` are those of this record.
    pub fn may_hold(&self, fingerprints: &[u8], key: u64) -> bool {
        to_u64(fingerprints.len()) < self.length
            || BinaryFuse8Ref::from_dma(&self.descriptor, fingerprints).contains(&key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn finds_all_and_little_else() {
        for count in [1u64, 2, 3, 10, 1000, 100_000] {
            let keys: Vec<u64> = (0..count)
                .map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15))
                .collect();
            let (record, prints) = build(&keys, 4096).unwrap();
            let record = FilterRecord::decode(&record.encode()).unwrap();
            assert!(record.check(&prints));
            assert!(keys.iter().all(|key| record.may_hold(&prints, *key)));
            let wrong = (0..100_000u64)
                .filter(|i| record.may_hold(&prints, i.wrapping_mul(0x1234_5678_9abc_def1) ^ 1))
                .count();
            assert!(wrong < 1000, "{wrong} false positives of {count} keys");
        }
    }

    proptest! {
        #[test]
        fn hostile_records_never_lead_out_of_bounds(bytes in proptest::collection::vec(any::<u8>(), RECORD_LEN), shift in 0u32..12, segments in 1u32..5, key: u64) {
            let mut bytes = bytes;
            let segment = 1u32 << shift;
            bytes[24..28].copy_from_slice(&segment.to_le_bytes());
            bytes[28..32].copy_from_slice(&(segment - 1).to_le_bytes());
            bytes[32..36].copy_from_slice(&(segment * segments).to_le_bytes());
            let length = u64::from(segment * (segments + 2));
            bytes[8..16].copy_from_slice(&length.to_le_bytes());
            let record = FilterRecord::decode(&bytes).unwrap();
            let prints = vec![0; usize::try_from(length).unwrap()];
            let _ = record.may_hold(&prints, key);
            bytes[8..16].copy_from_slice(&(length - 1).to_le_bytes());
            prop_assert!(FilterRecord::decode(&bytes).is_err());
        }
    }
}
