//! Encrypt on write: which chunks of a volume are encrypted while Windows encrypts only what is used and what is written.
//!
//! A table, of which there are two copies, names a bitmap for each region; of each bitmap there are two records, of which the one with the higher number counts. As
//! `dissect.fve` knows it.

use super::metadata::MAX_BLOCK;
use cairn_base::read_at::read_vec;
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result, View};
use std::ops::Range;

/// Bytes of all bitmaps together, with both records of each: enough for 16 TiB in chunks of 64 KiB.
const MAX_BITMAPS: u64 = 64 << 20;
/// Bytes of the head of a bitmap's record.
const RECORD: usize = 36;
/// Bytes of a bitmap with its records.
const MAX_BITMAP: u64 = 16 << 20;

/// A part of the volume, and which of its chunks are encrypted.
struct Region {
    range: Range<u64>,
    bits: Vec<u8>,
}

/// What is encrypted so far.
pub(super) struct Conversion {
    chunk: u64,
    /// Ascending, not overlapping.
    regions: Vec<Region>,
    /// Where all this lies, in bytes of the volume.
    pub places: Vec<Range<u64>>,
}

struct Table {
    chunk: u64,
    log: u64,
    length: u64,
    offset: u64,
    bitmaps: Vec<u64>,
}

impl Conversion {
    /// Reads the better of two copies, and the bitmaps it names.
    ///
    /// # Errors
    /// As reading does; damaged if no copy is whole, or a bitmap is not.
    pub fn read(device: &dyn ReadAt, offsets: [u64; 2]) -> Result<Conversion> {
        let [first, second] = offsets;
        let table = match table(device, first) {
            Err(error) if !error.is_momentary() => table(device, second).map_err(|_| error)?,
            read => read?,
        };
        let mut conversion = Conversion {
            chunk: table.chunk,
            regions: Vec::new(),
            places: Vec::new(),
        };
        for offset in [first, second] {
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
            return Err(Error::damaged(what).at_offset(table.offset));
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
        let head = read_vec(device, offset, 60)?;
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
        let newer = match (record(view, first), record(view, second)) {
            (Ok(first), Ok(second)) if second.0 > first.0 => second,
            (Ok(first), _) => first,
            (Err(_), Ok(second)) => second,
            (Err(error), Err(_)) => return Err(error),
        };
        let logged = view.u64_le(36)?;
        self.places
            .push(offset..offset.saturating_add(to_u64(length)));
        self.places.push(logged..logged.saturating_add(log));
        Ok(Region {
            range: start..end,
            bits: newer.1,
        })
    }

    /// Whether the byte at `offset` is encrypted, and where that may change, at `limit` at most. What no bitmap tells of is not encrypted.
    pub fn at(&self, offset: u64, limit: u64) -> (bool, u64) {
        let after = self
            .regions
            .partition_point(|region| region.range.end <= offset);
        let Some(region) = self.regions.get(after) else {
            return (false, limit);
        };
        if offset < region.range.start {
            return (false, region.range.start.min(limit));
        }
        let limit = limit.min(region.range.end);
        let is = self.bit(region, offset);
        let mut end = offset;
        while end < limit && self.bit(region, end) == is {
            let inside = end.saturating_sub(region.range.start);
            let rest = self
                .chunk
                .saturating_sub(inside.checked_rem(self.chunk).unwrap_or(0));
            end = end.saturating_add(rest);
        }
        (is, end.min(limit))
    }

    fn bit(&self, region: &Region, offset: u64) -> bool {
        let inside = offset.saturating_sub(region.range.start);
        let number = inside.checked_div(self.chunk).unwrap_or(0);
        let byte = usize::try_from(number / 8)
            .ok()
            .and_then(|at| region.bits.get(at));
        byte.is_some_and(|byte| byte >> (number % 8) & 1 == 1)
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
    let chunk = u64::from(whole.u32_le(20)?);
    if !chunk.is_power_of_two() || chunk < 4096 {
        return Err(whole.damaged(20, "the chunk size is impossible"));
    }
    let (bitmaps, _) = whole.tail(head)?.bytes().as_chunks::<8>();
    Ok(Table {
        chunk,
        log: u64::from(whole.u32_le(24)?),
        length: to_u64(length),
        offset,
        bitmaps: bitmaps
            .iter()
            .map(|offset| u64::from_le_bytes(*offset))
            .collect(),
    })
}

/// A record of a bitmap: its number and its bits.
fn record(bitmap: View<'_>, at: usize) -> Result<(u64, Vec<u8>)> {
    let head = bitmap.part(at, RECORD, "BitLocker bitmap record")?;
    if head.slice(0, 10)? != b"FVE-EOWBR\0" {
        return Err(head.damaged(0, "no record lies where the bitmap says"));
    }
    let length = usize::try_from(head.u32_le(12)?).unwrap_or(usize::MAX);
    let whole = bitmap.part(at, length, "BitLocker bitmap record")?;
    check(whole, 32)?;
    let bits = whole.tail(RECORD)?.bytes();
    let told = usize::try_from(head.u32_le(16)?).unwrap_or(usize::MAX);
    let bits = bits.get(..told.div_ceil(8)).unwrap_or(bits);
    Ok((head.u64_le(20)?, bits.to_vec()))
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
