//! Restoring damaged shards from the others.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use crate::parity::shape::{SHARD, STRIPE, Shape};
use crate::parity::table::{self, Sum, sum_of};
use cairn_base::error::unless_lost;
use cairn_base::units::to_u64;
use cairn_base::{Error, PackId, ReadAt, Result};
use reed_solomon_simd::ReedSolomonDecoder;
use std::ops::Range;
use std::sync::Arc;

/// Reads protected bytes of a file of which parts are damaged.
pub struct Restorer {
    file: Arc<dyn ReadAt>,
    pack: PackId,
    shape: Shape,
    sums: Vec<Option<Sum>>,
}

/// A stripe, whole again.
pub struct Restored {
    /// Its bytes, up to the end of its last shard.
    pub bytes: Vec<u8>,
    /// How many of its shards were damaged.
    pub shards: usize,
}

impl Restorer {
    /// Of the pack `pack` in `file`. What of the table is lost makes shards that count as damaged.
    ///
    /// # Errors
    /// If the table cannot be read now, which says nothing of its bytes. So it is with all that a restorer reads.
    pub fn new(file: Arc<dyn ReadAt>, pack: PackId, shape: Shape) -> Result<Restorer> {
        let sums = table::read(&*file, pack, &shape)?;
        Ok(Restorer {
            file,
            pack,
            shape,
            sums,
        })
    }

    /// What is protected.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The bytes at `range` of one stripe, if nothing there is damaged. Only the shards concerned are read.
    ///
    /// # Errors
    /// If something cannot be read now.
    pub fn whole(&self, range: Range<u64>) -> Result<Option<Vec<u8>>> {
        let shard = to_u64(SHARD);
        let number = |number: Option<u64>| usize::try_from(number.unwrap_or(0)).unwrap_or(0);
        let first = number(range.start.checked_div(shard));
        let last = number(Some(range.end.div_ceil(shard)));
        let mut bytes = Vec::new();
        for number in first..last {
            let stripe = number.checked_div(STRIPE).unwrap_or(0);
            let within = number.checked_rem(STRIPE).unwrap_or(0);
            match self.data(stripe, within)? {
                Some(data) => bytes.extend_from_slice(&data),
                None => return Ok(None),
            }
        }
        let skip = number(range.start.checked_rem(shard));
        let end = skip.saturating_add(number(range.end.checked_sub(range.start)));
        Ok(bytes.get(skip..end).map(<[u8]>::to_vec))
    }

    /// A stripe, its damaged shards computed from the others.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if more of them are damaged than there is parity for; if something cannot be read now.
    pub fn stripe(&self, stripe: usize) -> Result<Restored> {
        let (data, parity) = (self.shape.data_of(stripe), self.shape.parity_of(stripe));
        let shards: Result<Vec<Option<Vec<u8>>>> =
            (0..data).map(|n| self.data(stripe, n)).collect();
        let shards = shards?;
        let damaged = shards.iter().filter(|shard| shard.is_none()).count();
        let mut bytes = Vec::with_capacity(data.saturating_mul(SHARD));
        if damaged == 0 {
            for shard in shards.into_iter().flatten() {
                bytes.extend_from_slice(&shard);
            }
            return Ok(Restored { bytes, shards: 0 });
        }
        let others = (0..parity).map(|n| self.parity(stripe, n));
        let others: Vec<Option<Vec<u8>>> = others.collect::<Result<_>>()?;
        let whole = others.iter().flatten().count();
        if whole < damaged {
            return Err(too_much(
                damaged,
                whole,
                self.shape.data_range(stripe, 0).start,
            ));
        }
        let mut decoder = ReedSolomonDecoder::new(data, parity, SHARD).map_err(failed)?;
        for (number, shard) in shards.iter().enumerate() {
            if let Some(shard) = shard {
                decoder.add_original_shard(number, shard).map_err(failed)?;
            }
        }
        for (number, shard) in others.iter().enumerate() {
            if let Some(shard) = shard {
                decoder.add_recovery_shard(number, shard).map_err(failed)?;
            }
        }
        let made = decoder.decode().map_err(failed)?;
        for (number, shard) in shards.iter().enumerate() {
            match shard {
                Some(shard) => bytes.extend_from_slice(shard),
                None => {
                    let shard = made.restored_original(number).unwrap_or_default();
                    // Where the checksum itself is lost, tags and ids decide.
                    if !self.may_be(self.first_sum(stripe, number), shard) {
                        return Err(
                            Error::damaged("parity gives something else than was written")
                                .at_offset(self.shape.data_range(stripe, number).start),
                        );
                    }
                    bytes.extend_from_slice(shard);
                }
            }
        }
        Ok(Restored {
            bytes,
            shards: damaged,
        })
    }

    /// How many sectors of the parity itself are damaged: of its shards, and of both tables.
    ///
    /// # Errors
    /// If something cannot be read now.
    pub fn damaged_parity(&self) -> Result<usize> {
        let mut damaged = table::damaged_pages(&*self.file, self.pack, &self.shape)?;
        for stripe in 0..self.shape.stripes() {
            for number in 0..self.shape.parity_of(stripe) {
                let bad = self.parity(stripe, number)?.is_none();
                damaged = damaged.saturating_add(usize::from(bad));
            }
        }
        Ok(damaged)
    }

    fn first_sum(&self, stripe: usize, number: usize) -> usize {
        self.shape.first_sum(stripe).saturating_add(number)
    }

    /// Whether nothing says that these are not the bytes of a shard.
    fn may_be(&self, number: usize, shard: &[u8]) -> bool {
        let sum = self.sums.get(number).copied().flatten();
        shard.len() == SHARD && sum.is_none_or(|sum| sum == sum_of(shard))
    }

    /// A data shard, with zeros up to its full length, if it is what was written.
    fn data(&self, stripe: usize, number: usize) -> Result<Option<Vec<u8>>> {
        let range = self.shape.data_range(stripe, number);
        self.shard(range, self.first_sum(stripe, number))
    }

    fn parity(&self, stripe: usize, number: usize) -> Result<Option<Vec<u8>>> {
        let range = self.shape.parity_range(stripe, number);
        let behind = self.shape.data_of(stripe).saturating_add(number);
        self.shard(range, self.first_sum(stripe, behind))
    }

    fn shard(&self, range: Range<u64>, sum: usize) -> Result<Option<Vec<u8>>> {
        let known = self.sums.get(sum).copied().flatten();
        let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let mut shard = vec![0; SHARD];
        let (Some(known), Some(bytes)) = (known, shard.get_mut(..length)) else {
            return Ok(None);
        };
        if range.end > self.file.size() {
            return Ok(None);
        }
        let read = unless_lost(self.file.read_exact_at(range.start, bytes))?;
        Ok((read.is_some() && sum_of(&shard) == known).then_some(shard))
    }
}

fn too_much(damaged: usize, whole: usize, at: u64) -> Error {
    Error::damaged(format!(
        "{damaged} sectors are damaged where parity can restore {whole}"
    ))
    .at_offset(at)
}

fn failed(error: reed_solomon_simd::Error) -> Error {
    Error::damaged("parity cannot be used").caused_by(error)
}

#[cfg(test)]
mod tests;
