//! Cutting: where one chunk ends and the next begins, decided by the content of a run of data alone.

use crate::gear::Gear;
use bincode::{Decode, Encode};
use cairn_base::{Error, Result};

/// Largest chunk of any store, in bytes; also the most a frame holds.
pub const MAX_CHUNK: usize = 128 << 10;

/// How regions are cut; fixed when a store is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum CutParameters {
    /// Content-defined (FastCDC, Xia et al., ATC 2016; the 2020 variant, normalisation level 1). Sizes in bytes.
    FastCdc {
        /// No chunk is smaller, but the last of a run.
        min: u32,
        /// Aimed at.
        average: u32,
        /// No chunk is larger.
        max: u32,
    },
    /// Every so many bytes from the start of the region.
    Fixed {
        /// Chunk size in bytes.
        size: u32,
    },
}

impl Default for CutParameters {
    fn default() -> CutParameters {
        CutParameters::FastCdc {
            min: 8 << 10,
            average: 32 << 10,
            max: 128 << 10,
        }
    }
}

impl CutParameters {
    /// Whether this program can cut so.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) for sizes out of range.
    pub fn check(&self) -> Result<()> {
        let ok = match *self {
            CutParameters::FastCdc { min, average, max } => {
                (2 << 10..=64 << 10).contains(&min)
                    && (8 << 10..=64 << 10).contains(&average)
                    && min < average
                    && average < max
                    && max <= 128 << 10
                    && [min, average, max].iter().all(|size| size % 2 == 0)
            }
            CutParameters::Fixed { size } => {
                (4 << 10..=128 << 10).contains(&size) && size % 4096 == 0
            }
        };
        if ok {
            Ok(())
        } else {
            Err(
                Error::invalid(format!("chunk sizes out of range: {self:?}")).advise(
                    "FastCDC: min 2-64 KiB, average 8-64 KiB, max up to 128 KiB; fixed: 4-128 KiB",
                ),
            )
        }
    }

    /// Length of the first chunk of `run`, which begins `offset` bytes into its region. Never 0 unless `run` is empty.
    pub fn first_cut(&self, run: &[u8], offset: usize) -> usize {
        match *self {
            CutParameters::FastCdc { min, average, max } => {
                let size = |bytes: u32| usize::try_from(bytes).unwrap_or(MAX_CHUNK);
                Gear::new(size(min), size(average), size(max)).cut(run)
            }
            CutParameters::Fixed { size } => {
                let size = usize::try_from(size).unwrap_or(MAX_CHUNK).max(1);
                (size - offset % size).min(run.len())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cuts(parameters: CutParameters, data: &[u8]) -> Vec<usize> {
        let mut at = 0;
        let mut lengths = Vec::new();
        while at < data.len() {
            let length = parameters.first_cut(&data[at..], at);
            assert!(length > 0);
            lengths.push(length);
            at += length;
        }
        lengths
    }

    fn noise(length: usize, seed: u64) -> Vec<u8> {
        let mut out = vec![0; length];
        blake3::Hasher::new()
            .update(&seed.to_le_bytes())
            .finalize_xof()
            .fill(&mut out);
        out
    }

    #[test]
    fn golden_cut_points() {
        // Changing these numbers means old and new backups no longer share chunks.
        let lengths = cuts(CutParameters::default(), &noise(300_000, 1));
        assert_eq!(lengths.iter().sum::<usize>(), 300_000);
        assert_eq!(lengths, GOLDEN);
    }

    const GOLDEN: [usize; 8] = [34830, 48574, 68346, 39685, 42356, 40534, 25542, 133];

    #[test]
    fn fixed_cuts_follow_the_region() {
        let fixed = CutParameters::Fixed { size: 65536 };
        assert_eq!(fixed.first_cut(&[0; 100_000], 4096), 61440);
        assert_eq!(fixed.first_cut(&[0; 100], 0), 100);
    }

    #[test]
    fn an_insertion_changes_few_chunks() {
        let old = noise(1 << 20, 2);
        let mut new = old.clone();
        new.splice(500_000..500_000, [1, 2, 3]);
        let ends = |data: &[u8]| {
            let mut at = 0;
            cuts(CutParameters::default(), data)
                .into_iter()
                .map(|length| {
                    at += length;
                    blake3::hash(&data[at - length..at])
                })
                .collect::<std::collections::HashSet<_>>()
        };
        let (old, new) = (ends(&old), ends(&new));
        assert!(new.difference(&old).count() <= 3);
    }

    proptest! {
        #[test]
        fn sizes_stay_in_range(seed: u64, length in 1usize..600_000) {
            let lengths = cuts(CutParameters::default(), &noise(length, seed));
            let (last, others) = lengths.split_last().unwrap();
            prop_assert!(*last <= MAX_CHUNK);
            prop_assert!(others.iter().all(|l| (8192..=MAX_CHUNK).contains(l)));
        }
    }

    #[test]
    fn odd_parameters_are_refused() {
        assert!(CutParameters::default().check().is_ok());
        assert!(CutParameters::Fixed { size: 65536 }.check().is_ok());
        for bad in [
            CutParameters::Fixed { size: 0 },
            CutParameters::Fixed { size: 256 << 10 },
            CutParameters::FastCdc {
                min: 0,
                average: 32 << 10,
                max: 64 << 10,
            },
            CutParameters::FastCdc {
                min: 8 << 10,
                average: 32 << 10,
                max: 1 << 20,
            },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
