//! Encrypt on write: which chunks of a volume are encrypted while Windows encrypts only what is used and what is written.
//!
//! A table, of which there are two copies, names a bitmap for each region; of each bitmap there are two records, of which the one with the higher number counts. As
//! `dissect.fve` and libbde know it. What they would not agree on, or what nothing tells of, is not guessed.

use super::metadata::MAX_BLOCK;
use crate::volume::Note;
use cairn_base::read_at::read_vec;
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result, View};
use std::ops::Range;

/// Bytes of all bitmaps together, with both records of each: enough for 16 TiB in chunks of 64 KiB.
const MAX_BITMAPS: u64 = 64 << 20;
/// Bytes of the head of the table, of a bitmap, and of a bitmap's record.
const TABLE: usize = 56;
const BITMAP: usize = 60;
const RECORD: usize = 36;
/// Bytes of a bitmap with its records.
const MAX_BITMAP: u64 = 16 << 20;

/// A part of the volume, and which of its chunks are encrypted.
struct Region {
    range: Range<u64>,
    bits: Vec<u8>,
    /// So many of the bits mean something.
    chunks: u64,
}

/// What is encrypted so far.
pub(super) struct Conversion {
    chunk: u64,
    /// Ascending, not overlapping.
    regions: Vec<Region>,
    /// Where all this lies, in bytes of the volume.
    pub places: Vec<Range<u64>>,
    /// Why it may be wrong, and what of it is not needed.
    pub notes: Vec<Note>,
}

/// The table. Its copies are equal.
#[derive(PartialEq, Eq)]
struct Table {
    chunk: u64,
    log: u64,
    length: u64,
    bitmaps: Vec<u64>,
}

/// A record: its number, how many chunks it tells of, and their bits.
type Record = (u64, u64, Vec<u8>);

impl Conversion {
    /// Reads the table and the bitmaps it names.
    ///
    /// # Errors
    /// As reading does; damaged if no copy of the table is whole, or both are and say other things, or a bitmap has no record that can be believed.
    pub fn read(device: &dyn ReadAt, offsets: [u64; 2]) -> Result<Conversion> {
        let mut notes = Vec::new();
        let table = best_table(device, offsets, &mut notes)?;
        let mut conversion = Conversion {
            chunk: table.chunk,
            regions: Vec::new(),
            places: Vec::new(),
            notes,
        };
        for offset in offsets {
            let end = offset.saturating_add(table.length);
            conversion.places.push(offset..end);
        }
        let mut room = MAX_BITMAPS;
        for offset in &table.bitmaps {
            let region = conversion.bitmap(device, *offset, table.log, &mut room)?;
            conversion.regions.push(region);
        }
        let regions = &mut conversion.regions;
        regions.sort_by_key(|region| region.range.start);
        let apart = regions
            .windows(2)
            .all(|pair| matches!(pair, [low, high] if low.range.end <= high.range.start));
        if !apart {
            let what = "BitLocker's bitmaps of what is encrypted overlap";
            let [first, _] = offsets;
            return Err(Error::damaged(what).at_offset(first));
        }
        Ok(conversion)
    }

    /// Reads a bitmap, whose bytes are taken from `room`.
    fn bitmap(
        &mut self,
        device: &dyn ReadAt,
        offset: u64,
        log: u64,
        room: &mut u64,
    ) -> Result<Region> {
        let head = read_vec(device, offset, BITMAP)?;
        let view = View::new(&head, "BitLocker bitmap", offset);
        if view.slice(0, 10)? != b"FVE-EOWBM\0" {
            return Err(view.damaged(0, "no bitmap lies where the table says"));
        }
        let length = u64::from(view.u32_le(12)?);
        if length > MAX_BITMAP || length < to_u64(head.len()) {
            return Err(view.damaged(12, "the length is impossible"));
        }
        *room = room.checked_sub(length).ok_or_else(|| {
            let what = "what BitLocker encrypts is told in bitmaps of too many bytes";
            Error::unsupported(what).at_offset(offset)
        })?;
        let length = usize::try_from(length).unwrap_or(0);
        let bytes = read_vec(device, offset, length)?;
        let view = View::new(&bytes, "BitLocker bitmap", offset);
        let records = [view.u32_le(44)?, view.u32_le(48)?];
        let at = |record: u32| usize::try_from(record).unwrap_or(usize::MAX);
        let [first, second] = records.map(at);
        check(view.part(0, first, "BitLocker bitmap")?, 56)?;
        let (start, size) = (view.u64_le(20)?, view.u64_le(28)?);
        let end = start.checked_add(size);
        let end = end.ok_or_else(|| view.damaged(28, "the region ends beyond any volume"))?;
        let (_, chunks, bits) = self.newer(view, first, second)?;
        let logged = view.u64_le(36)?;
        self.places
            .push(offset..offset.saturating_add(to_u64(length)));
        self.places.push(logged..logged.saturating_add(log));
        Ok(Region {
            range: start..end,
            bits,
            chunks,
        })
    }

    /// The newer of the records of a bitmap.
    fn newer(&mut self, bitmap: View<'_>, first: usize, second: usize) -> Result<Record> {
        match (record(bitmap, first), record(bitmap, second)) {
            (Ok(first), Ok(second)) if first.0 == second.0 && first != second => Err(bitmap
                .damaged(
                    44,
                    "its records contradict each other, and which is newer cannot be told",
                )),
            (Ok(first), Ok(second)) if second.0 > first.0 => Ok(second),
            (Ok(first), Ok(_)) => Ok(first),
            (Ok(whole), Err(error)) | (Err(error), Ok(whole)) => {
                self.notes.push(Note::defect(format!(
                    "one of two records of what BitLocker has encrypted is not whole ({error}), and the other one may be older: what was encrypted since reads wrong"
                )));
                Ok(whole)
            }
            (Err(error), Err(_)) => Err(error),
        }
    }

    /// Whether the byte at `offset` is encrypted, and where that may change, at `limit` at most. None if nothing tells of it.
    pub fn at(&self, offset: u64, limit: u64) -> (Option<bool>, u64) {
        let after = self
            .regions
            .partition_point(|region| region.range.end <= offset);
        let Some(region) = self.regions.get(after) else {
            return (None, limit);
        };
        let start = region.range.start;
        if offset < start {
            return (None, start.min(limit));
        }
        let limit = limit.min(region.range.end);
        // A power of two.
        let number = |place: u64| place.saturating_sub(start).checked_div(self.chunk);
        let first = number(offset).unwrap_or(0);
        let last = number(limit.saturating_sub(1)).unwrap_or(0);
        let (is, after) = region.run(first, last.saturating_add(1));
        let end = start.saturating_add(after.saturating_mul(self.chunk));
        (is, end.min(limit))
    }
}

impl Region {
    /// Whether the chunk with this number is encrypted.
    fn bit(&self, number: u64) -> Option<bool> {
        let byte = self.byte(number).filter(|_| number < self.chunks)?;
        Some(byte >> (number % 8) & 1 == 1)
    }

    fn byte(&self, number: u64) -> Option<u8> {
        let at = usize::try_from(number / 8).ok()?;
        self.bits.get(at).copied()
    }

    /// What is so of chunk `first`, and the next one, before `limit`, of which it is not.
    fn run(&self, first: u64, limit: u64) -> (Option<bool>, u64) {
        let is = self.bit(first);
        let alike = match is {
            Some(true) => 0xff,
            Some(false) => 0,
            // Those that nothing tells of are the last.
            None => return (is, limit),
        };
        let mut next = first.saturating_add(1);
        while next < limit && self.bit(next) == is {
            let eight = next.saturating_add(8);
            let all =
                next.is_multiple_of(8) && eight <= self.chunks && self.byte(next) == Some(alike);
            next = if all { eight } else { next.saturating_add(1) };
        }
        (is, next.min(limit))
    }
}

/// The table, of which one whole copy will do.
fn best_table(device: &dyn ReadAt, offsets: [u64; 2], notes: &mut Vec<Note>) -> Result<Table> {
    match offsets.map(|offset| (offset, table(device, offset))) {
        [(_, Err(error)), _] | [_, (_, Err(error))] if error.is_momentary() => Err(error),
        [(_, Ok(first)), (_, Ok(second))] if first == second => Ok(first),
        [(_, Ok(_)), (offset, Ok(_))] => {
            let what = "the two tables of what BitLocker encrypts on write contradict each other";
            Err(Error::damaged(what).at_offset(offset))
        }
        [(_, Ok(whole)), (_, Err(error))] | [(_, Err(error)), (_, Ok(whole))] => {
            notes.push(Note::fact(format!(
                "one of two tables of what BitLocker encrypts on write is not whole and was not used: {error}"
            )));
            Ok(whole)
        }
        [(_, Err(error)), (_, Err(_))] => Err(error),
    }
}

fn table(device: &dyn ReadAt, offset: u64) -> Result<Table> {
    let length = device.size().saturating_sub(offset).min(MAX_BLOCK);
    let bytes = read_vec(device, offset, usize::try_from(length).unwrap_or(0))?;
    let view = View::new(&bytes, "BitLocker table of what is encrypted", offset);
    if view.slice(0, 8)? != b"FVE-EOW\0" {
        return Err(view.damaged(0, "it is not where the volume header says"));
    }
    let (head, length) = (usize::from(view.u16_le(8)?), usize::from(view.u16_le(10)?));
    let whole = view.part(0, length, "BitLocker table of what is encrypted")?;
    check(whole, 36)?;
    if head < TABLE {
        return Err(whole.damaged(8, "its head is too short"));
    }
    let chunk = u64::from(whole.u32_le(20)?);
    if !chunk.is_power_of_two() || chunk < 4096 {
        return Err(whole.damaged(20, "the chunk size is impossible"));
    }
    let count = usize::try_from(whole.u32_le(32)?).unwrap_or(usize::MAX);
    let (places, _) = whole.tail(head)?.bytes().as_chunks::<8>();
    let Some((bitmaps, rest)) = places.split_at_checked(count) else {
        return Err(whole.damaged(32, "it has more regions than places of bitmaps"));
    };
    if rest.iter().any(|place| *place != [0; 8]) {
        return Err(whole.damaged(32, "it has fewer regions than places of bitmaps"));
    }
    Ok(Table {
        chunk,
        log: u64::from(whole.u32_le(24)?),
        length: to_u64(length),
        bitmaps: bitmaps
            .iter()
            .map(|place| u64::from_le_bytes(*place))
            .collect(),
    })
}

/// A record of a bitmap.
fn record(bitmap: View<'_>, at: usize) -> Result<Record> {
    let head = bitmap.part(at, RECORD, "BitLocker bitmap record")?;
    if head.slice(0, 10)? != b"FVE-EOWBR\0" {
        return Err(head.damaged(0, "no record lies where the bitmap says"));
    }
    let length = usize::try_from(head.u32_le(12)?).unwrap_or(usize::MAX);
    let whole = bitmap.part(at, length, "BitLocker bitmap record")?;
    check(whole, 32)?;
    let bits = whole.tail(RECORD)?.bytes();
    let chunks = u64::from(head.u32_le(16)?);
    let told = usize::try_from(chunks.div_ceil(8)).unwrap_or(usize::MAX);
    let bits = bits.get(..told).unwrap_or(bits);
    Ok((head.u64_le(20)?, chunks, bits.to_vec()))
}

/// Checks the CRC-32 at `place`, which counts as zeros in it.
fn check(view: View<'_>, place: usize) -> Result<()> {
    let mut sum = crc32fast::Hasher::new();
    sum.update(view.slice(0, place)?);
    sum.update(&[0; 4]);
    sum.update(view.tail(place.saturating_add(4))?.bytes());
    if sum.finalize() == view.u32_le(place)? {
        Ok(())
    } else {
        Err(view.damaged(place, "the checksum is wrong"))
    }
}
