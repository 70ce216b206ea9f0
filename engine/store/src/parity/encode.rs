//! Computing parity while the bytes pass.

use crate::parity::shape::{COPY_LEN, MAX_PERCENT, SHARD, STRIPE, Shape};
use crate::parity::table::{self, Sum, sum_of};
use cairn_base::units::to_u64;
use cairn_base::{Error, PackId, Result};
use parking_lot::Mutex;
use reed_solomon_simd::ReedSolomonEncoder;

const STRIPE_LEN: usize = STRIPE * SHARD;
/// Encoders kept for the next stripe of any pack, 4 MiB each: fresh memory would cost as much as the work.
const KEPT: usize = 2;

static IDLE: Mutex<Vec<ReedSolomonEncoder>> = Mutex::new(Vec::new());

/// Takes the protected bytes in order. Holds a stripe of them, and the parity so far.
pub struct Encoder {
    percent: u32,
    length: u64,
    stripe: Vec<u8>,
    sums: Vec<Sum>,
    parity: Vec<u8>,
}

/// What is written behind the protected bytes: room for a copy of the footer, the table, the padding, the parity, and the table
/// again.
pub struct Area {
    /// Checksums of all shards.
    pub table: Vec<u8>,
    /// Zeros between the table and the parity.
    pub padding: usize,
    /// The parity shards.
    pub parity: Vec<u8>,
    /// Bytes of all this.
    pub length: u64,
}

impl Encoder {
    /// Nothing yet. `percent`: 1 to [`MAX_PERCENT`].
    pub fn new(percent: u32) -> Encoder {
        Encoder {
            percent: percent.clamp(1, MAX_PERCENT),
            length: 0,
            stripe: Vec::new(),
            sums: Vec::new(),
            parity: Vec::new(),
        }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// What the code reports; it never does for shards of one size.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = STRIPE_LEN.saturating_sub(self.stripe.len());
            let (now, later) = rest.split_at(rest.len().min(room));
            self.stripe.extend_from_slice(now);
            self.length = self.length.saturating_add(to_u64(now.len()));
            if self.stripe.len() == STRIPE_LEN {
                self.encode_stripe()?;
            }
            rest = later;
        }
        Ok(())
    }

    fn encode_stripe(&mut self) -> Result<()> {
        let length = self.stripe.len().next_multiple_of(SHARD);
        self.stripe.resize(length, 0);
        let shape = Shape::new(self.length, self.percent)?;
        let last = shape.stripes().saturating_sub(1);
        let (data, parity) = (length / SHARD, shape.parity_of(last));
        let mut encoder = match IDLE.lock().pop() {
            Some(mut encoder) => {
                encoder.reset(data, parity, SHARD).map_err(failed)?;
                encoder
            }
            None => ReedSolomonEncoder::new(data, parity, SHARD).map_err(failed)?,
        };
        for shard in self.stripe.chunks_exact(SHARD) {
            self.sums.push(sum_of(shard));
            encoder.add_original_shard(shard).map_err(failed)?;
        }
        {
            let made = encoder.encode().map_err(failed)?;
            for shard in made.recovery_iter() {
                self.sums.push(sum_of(shard));
                self.parity.extend_from_slice(shard);
            }
        }
        self.stripe.clear();
        let mut idle = IDLE.lock();
        if idle.len() < KEPT {
            idle.push(encoder);
        }
        Ok(())
    }

    /// What is written behind the bytes of the pack `pack`.
    ///
    /// # Errors
    /// As [`push`](Encoder::push).
    pub fn finish(mut self, pack: PackId) -> Result<Area> {
        if !self.stripe.is_empty() {
            self.encode_stripe()?;
        }
        let shape = Shape::new(self.length, self.percent)?;
        let table = table::encode(pack, &self.sums);
        let before = self.length + COPY_LEN + to_u64(table.len());
        let padding = shape.parity_at().saturating_sub(before);
        Ok(Area {
            table,
            padding: usize::try_from(padding).unwrap_or(0),
            parity: self.parity,
            length: shape.end() - self.length,
        })
    }
}

fn failed(error: reed_solomon_simd::Error) -> Error {
    Error::invalid("parity cannot be computed").caused_by(error)
}
