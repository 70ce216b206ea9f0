//! The content of a stream compressed with LZNT1.
//!
//! A stream is cut into units of 2^n clusters (64 KiB as a rule). A unit with all its clusters is stored plain, one
//! with none is zeros, and one with some begins with clusters of compressed data and ends with a hole.

use super::cluster::{Clusters, Vcn};
use super::lznt1;
use super::run_list::RunList;
use super::stream::{data_extents, split_at_byte};
use cairn_base::read_at::{check_range, clip};
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// The largest unit that is read; Windows makes 64 KiB.
const MAX_UNIT: u64 = 1 << 20;
/// Decompressed units kept for each open stream, so that small reads do not decompress again and again.
const KEPT: usize = 4;

/// Compressed content in clusters.
pub struct CompressedStream {
    clusters: Clusters,
    runs: Arc<RunList>,
    size: u64,
    initialized: u64,
    /// Clusters of a unit.
    unit: u64,
    /// Bytes of a unit.
    unit_bytes: usize,
    /// Decompressed units by their first cluster, the latest last.
    recent: Mutex<VecDeque<(u64, Arc<Vec<u8>>)>>,
}

enum Form {
    Zeros,
    Plain,
    /// So many clusters of compressed data.
    Packed(u64),
}

impl CompressedStream {
    /// `unit` is the binary logarithm of the clusters of a unit.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) for units that are impossible.
    pub fn new(
        clusters: Clusters,
        runs: Arc<RunList>,
        size: u64,
        initialized: u64,
        unit: u8,
    ) -> Result<CompressedStream> {
        let count = 1u64.checked_shl(u32::from(unit)).unwrap_or(0);
        let unit_bytes = count.saturating_mul(clusters.size());
        if unit == 0 || count == 0 || unit_bytes > MAX_UNIT {
            return Err(Error::damaged(format!(
                "compression units of 2^{unit} clusters are impossible"
            )));
        }
        Ok(CompressedStream {
            clusters,
            runs,
            size,
            initialized: initialized.min(size),
            unit: count,
            unit_bytes: usize::try_from(unit_bytes).unwrap_or(0),
            recent: Mutex::new(VecDeque::with_capacity(KEPT)),
        })
    }

    /// How the unit that begins at `vcn` is stored.
    fn form(&self, vcn: u64) -> Result<Form> {
        let mut at = vcn;
        let end = vcn.saturating_add(self.unit);
        while at < end {
            match self.runs.at(Vcn(at)) {
                Some(run) if run.lcn.is_some() => at = at.saturating_add(run.clusters),
                _ => break,
            }
        }
        if at >= end {
            return Ok(Form::Plain);
        }
        let stored = at.saturating_sub(vcn);
        // Clusters behind the hole have no meaning: do not guess.
        while at < end {
            match self.runs.at(Vcn(at)) {
                Some(run) if run.lcn.is_some() => {
                    return Err(Error::damaged(format!(
                        "the compression unit at cluster {vcn} has data behind its hole"
                    )));
                }
                Some(run) => at = at.saturating_add(run.clusters),
                None if stored == 0 => {
                    return Err(Error::damaged(format!(
                        "no clusters are allocated for the compression unit at cluster {vcn}"
                    )));
                }
                None => break,
            }
        }
        Ok(if stored == 0 {
            Form::Zeros
        } else {
            Form::Packed(stored)
        })
    }

    fn unpacked(&self, vcn: u64, stored: u64) -> Result<Arc<Vec<u8>>> {
        let kept = |recent: &VecDeque<(u64, Arc<Vec<u8>>)>| {
            let found = recent.iter().find(|(first, _)| *first == vcn);
            found.map(|(_, unit)| unit.clone())
        };
        if let Some(unit) = kept(&self.recent.lock()) {
            return Ok(unit);
        }
        let offset = self.clusters.bytes(vcn)?;
        let length = usize::try_from(self.clusters.bytes(stored)?).unwrap_or(usize::MAX);
        let mut packed = vec![0; length.min(self.unit_bytes)];
        self.clusters.read_runs(&self.runs, offset, &mut packed)?;
        let mut unit = vec![0; self.unit_bytes];
        lznt1::decompress(&packed, &mut unit)?;
        let unit = Arc::new(unit);
        let mut recent = self.recent.lock();
        if kept(&recent).is_none() {
            if recent.len() >= KEPT {
                recent.pop_front();
            }
            recent.push_back((vcn, unit.clone()));
        }
        Ok(unit)
    }

    /// Fills `buffer` from `offset`; it lies within one unit.
    fn read_in_unit(&self, unit: u64, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let vcn = unit.saturating_mul(self.unit);
        match self.form(vcn)? {
            Form::Zeros => buffer.fill(0),
            Form::Plain => self.clusters.read_runs(&self.runs, offset, buffer)?,
            Form::Packed(stored) => {
                let unpacked = self.unpacked(vcn, stored)?;
                let within = usize::try_from(offset.saturating_sub(self.clusters.bytes(vcn)?));
                let within = within.unwrap_or(usize::MAX);
                let bytes = unpacked
                    .get(within..within.saturating_add(buffer.len()))
                    .ok_or_else(|| Error::damaged("a compression unit is too short"))?;
                buffer.copy_from_slice(bytes);
            }
        }
        Ok(())
    }
}

impl ReadAt for CompressedStream {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size, offset, buffer.len())?;
        let (mut rest, zeros) = split_at_byte(buffer, offset, self.initialized);
        zeros.fill(0);
        let mut at = offset;
        let unit_bytes = to_u64(self.unit_bytes).max(1);
        while !rest.is_empty() {
            let unit = at.checked_div(unit_bytes).unwrap_or(0);
            let border = unit.saturating_add(1).saturating_mul(unit_bytes);
            let (now, later) = split_at_byte(rest, at, border);
            if now.is_empty() {
                break;
            }
            self.read_in_unit(unit, at, now)?;
            at = at.saturating_add(to_u64(now.len()));
            rest = later;
        }
        Ok(())
    }

    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        // A hole at the end of a unit is no hole of the content: answer in whole units.
        let range = clip(range, self.initialized);
        let unit = to_u64(self.unit_bytes).max(1);
        let first = range
            .start
            .checked_div(unit)
            .unwrap_or(0)
            .saturating_mul(unit);
        let last = range.end.div_ceil(unit).saturating_mul(unit);
        let covered = self.clusters.bytes(self.runs.end().0)?;
        let mut extents: Vec<Range<u64>> = Vec::new();
        for stored in data_extents(
            &self.clusters,
            &self.runs,
            first..last.min(covered.max(first)),
        )? {
            let start = stored
                .start
                .checked_div(unit)
                .unwrap_or(0)
                .saturating_mul(unit);
            let end = stored.end.div_ceil(unit).saturating_mul(unit);
            let (start, end) = (start.max(range.start), end.min(range.end));
            match extents.last_mut() {
                Some(last) if last.end >= start => last.end = last.end.max(end),
                _ if start < end => extents.push(start..end),
                _ => {}
            }
        }
        Ok(extents)
    }
}
