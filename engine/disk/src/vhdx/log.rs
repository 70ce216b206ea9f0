//! The log, \[MS-VHDX\] 2.3: changes of headers and tables that may not have reached their places when the file was last
//! written. Entries form sequences; the valid sequence with the highest number is the one to be replayed (2.3.3).

use super::checksum;
use super::header::Header;
use crate::align::{is_multiple, to_usize};
use crate::guid::Guid;
use cairn_base::read_at::read_vec;
use cairn_base::units::to_u64;
use cairn_base::{Error, Kind, ReadAt, Result, View};
use std::ops::Range;

/// Bytes of a log sector; entries and what they change are whole sectors.
pub const SECTOR: u64 = 4096;

const ENTRY_SIGNATURE: &[u8; 4] = b"loge";
const DATA_SIGNATURE: &[u8; 4] = b"data";
const HEADER_SIZE: usize = 64;
const DESCRIPTOR_SIZE: usize = 32;
/// Windows and QEMU make logs of 1 MiB. A larger one than this is not looked at.
const MAX_LENGTH: u64 = 16 << 20;
/// Changes that are replayed; a log of 1 MiB has room for 32,766. 8 MiB of memory.
pub(super) const MAX_CHANGES: u64 = 1 << 16;

/// One change of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The range of the file becomes zeros (2.3.1.2).
    Zero(Range<u64>),
    /// A sector of the file is replaced (2.3.1.3).
    Data(Sector),
}

/// New content of a sector of the file. It stays where it is, in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sector {
    /// Where the 4096 bytes belong.
    pub offset: u64,
    /// Where they lie; its own first 8 and last 4 bytes are not theirs.
    pub from: u64,
    /// The first 8 bytes.
    pub leading: [u8; 8],
    /// The last 4 bytes.
    pub trailing: [u8; 4],
}

/// A valid entry (2.3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// One more than the sequence's entry before it.
    pub sequence: u64,
    /// Where the sequence's first entry was when this one was written, in bytes of the log.
    pub tail: u64,
    /// Bytes of the log it takes.
    pub length: u64,
    /// The file was at least this long, and on stable storage, when the entry was written.
    pub flushed_size: u64,
    /// The file must be at least this long when the entry is replayed.
    pub last_size: u64,
    /// In the order in which they are made.
    pub changes: Vec<Change>,
}

impl Entry {
    /// Parses an entry, whose bytes (all of its length) lay at `base` of the log's file; `None` if it is not a valid
    /// entry of the log `log_id`: then it is left over from earlier, or its writing was cut short. Where its sectors lie is
    /// told from the beginning of the entry.
    pub fn parse(bytes: &[u8], base: u64, log_id: Guid) -> Option<Entry> {
        let view = View::new(bytes, "VHDX log entry", base);
        Entry::decode(&view, log_id, MAX_CHANGES).ok().flatten()
    }

    /// As [`parse`](Entry::parse); a valid entry of more than `most` changes is an error, so that they are not listed.
    fn decode(view: &View<'_>, log_id: Guid, most: u64) -> Result<Option<Entry>> {
        let Some(length) = plausible_length(view, log_id)? else {
            return Ok(None);
        };
        let bytes = view.slice(0, to_usize(length)?)?;
        if view.u32_le(4)? != checksum(bytes) {
            return Ok(None);
        }
        let sequence = view.u64_le(16)?;
        let count = usize::try_from(view.u32_le(24)?).unwrap_or(usize::MAX);
        // Descriptors fill whole sectors together with the header; each data descriptor has a sector behind them.
        let described = count
            .saturating_mul(DESCRIPTOR_SIZE)
            .saturating_add(HEADER_SIZE);
        let mut data_at = described.div_ceil(4096).saturating_mul(4096);
        if data_at > bytes.len() {
            return Ok(None);
        }
        if to_u64(count) > most {
            return Err(too_many(most).at_offset(view.base()));
        }
        let mut changes = Vec::new();
        for index in 0..count {
            let at = index
                .saturating_mul(DESCRIPTOR_SIZE)
                .saturating_add(HEADER_SIZE);
            let descriptor = view.part(at, DESCRIPTOR_SIZE, "VHDX log descriptor")?;
            let offset = descriptor.u64_le(16)?;
            if descriptor.u64_le(24)? != sequence || !is_multiple(offset, SECTOR) {
                return Ok(None);
            }
            match descriptor.slice(0, 4)? {
                b"zero" => {
                    let length = descriptor.u64_le(8)?;
                    match offset.checked_add(length) {
                        Some(end) if is_multiple(length, SECTOR) => {
                            changes.push(Change::Zero(offset..end))
                        }
                        _ => return Ok(None),
                    }
                }
                b"desc" => {
                    let sector = view.part(data_at, 4096, "VHDX log data sector")?;
                    let number =
                        u64::from(sector.u32_le(4)?) << 32 | u64::from(sector.u32_le(4092)?);
                    if sector.slice(0, 4)? != DATA_SIGNATURE || number != sequence {
                        return Ok(None);
                    }
                    changes.push(Change::Data(Sector {
                        offset,
                        from: to_u64(data_at),
                        leading: descriptor.array(8)?,
                        trailing: descriptor.array(4)?,
                    }));
                    data_at = data_at.saturating_add(4096);
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(Entry {
            sequence,
            tail: u64::from(view.u32_le(12)?),
            length,
            flushed_size: view.u64_le(48)?,
            last_size: view.u64_le(56)?,
            changes,
        }))
    }
}

fn too_many(most: u64) -> Error {
    Error::unsupported(format!(
        "the VHDX's log holds more than {most} changes, which is the most that is replayed here"
    ))
}

/// The length of the entry that begins here, if its first 64 bytes may be those of one.
fn plausible_length(view: &View<'_>, log_id: Guid) -> Result<Option<u64>> {
    let length = u64::from(view.u32_le(8)?);
    let fine = view.slice(0, 4)? == ENTRY_SIGNATURE
        && Guid::from_windows(view.array(32)?) == log_id
        && view.u64_le(16)? > 0
        && length > 0
        && is_multiple(length, SECTOR);
    Ok(fine.then_some(length))
}

/// The log of an image: a ring.
struct Ring<'a> {
    image: &'a dyn ReadAt,
    range: Range<u64>,
    log_id: Guid,
    /// Bytes that may still be read, so that entries made to overlap cannot keep us here.
    budget: u64,
    /// Changes that a sequence may have.
    most: u64,
    /// Whether a sector begins an entry of this log, whole or not.
    is_written: bool,
}

impl Ring<'_> {
    fn length(&self) -> u64 {
        self.range.end.saturating_sub(self.range.start)
    }

    /// `at` plus `step`, round the ring.
    fn advance(&self, at: u64, step: u64) -> u64 {
        at.saturating_add(step)
            .checked_rem(self.length())
            .unwrap_or(0)
    }

    fn read(&mut self, at: u64, length: u64) -> Result<Vec<u8>> {
        self.budget = self.budget.checked_sub(length).ok_or_else(|| {
            Error::damaged("the entries of the VHDX's log overlap").at_offset(self.range.start)
        })?;
        let first = length.min(self.length().saturating_sub(at));
        let start = self.range.start.saturating_add(at);
        let mut bytes = read_vec(self.image, start, to_usize(first)?)?;
        let rest = to_usize(length.saturating_sub(first))?;
        bytes.extend(read_vec(self.image, self.range.start, rest)?);
        Ok(bytes)
    }

    /// The valid entry at `at`, if there is one.
    fn entry(&mut self, at: u64) -> Result<Option<Entry>> {
        let base = self.range.start.saturating_add(at);
        // A sector never wraps: the ring's length is a multiple of it.
        let head = self.read(at, SECTOR)?;
        let view = View::new(&head, "VHDX log entry", base);
        self.is_written |= view.slice(0, 4)? == ENTRY_SIGNATURE
            && Guid::from_windows(view.array(32)?) == self.log_id;
        match plausible_length(&view, self.log_id)? {
            Some(length) if length <= self.length() => {
                let bytes = self.read(at, length)?;
                let view = View::new(&bytes, "VHDX log entry", base);
                let mut entry = match Entry::decode(&view, self.log_id, self.most) {
                    Err(error) if error.kind() == Kind::Unsupported => return Err(error),
                    entry => entry.ok().flatten(),
                };
                for change in entry.iter_mut().flat_map(|entry| &mut entry.changes) {
                    if let Change::Data(sector) = change {
                        let in_ring = self.advance(at, sector.from);
                        sector.from = self.range.start.saturating_add(in_ring);
                    }
                }
                Ok(entry)
            }
            _ => Ok(None),
        }
    }

    /// The entries that follow each other from `tail` on, and where the next one would be.
    fn sequence(&mut self, tail: u64) -> Result<(Vec<(u64, Entry)>, u64)> {
        let mut entries: Vec<(u64, Entry)> = Vec::new();
        let (mut at, mut used, mut changes) = (tail, 0u64, 0u64);
        while let Some(entry) = self.entry(at)? {
            used = used.saturating_add(entry.length);
            changes = changes.saturating_add(to_u64(entry.changes.len()));
            if changes > self.most {
                return Err(too_many(self.most).at_offset(self.range.start.saturating_add(tail)));
            }
            let follows = entries
                .last()
                .is_none_or(|(_, last)| last.sequence.checked_add(1) == Some(entry.sequence));
            if !follows || used > self.length() {
                break;
            }
            let next = self.advance(at, entry.length);
            entries.push((at, entry));
            at = next;
        }
        Ok((entries, at))
    }
}

/// The entries to be replayed, in order: none if the header says that the log is empty, or if it says that it is in use and not one
/// sector of it begins an entry. Then there is nothing to be lost, and QEMU takes it for empty too.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if the log has entries and no valid sequence, or says that the file was cut
/// off; [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for a log of another version, of more than 16 MiB or of more than
/// 65,536 changes.
pub fn active_sequence(image: &dyn ReadAt, header: &Header) -> Result<Vec<Entry>> {
    sequence_of(image, header, MAX_CHANGES)
}

/// As [`active_sequence`], for at most so many changes.
pub(super) fn sequence_of(image: &dyn ReadAt, header: &Header, most: u64) -> Result<Vec<Entry>> {
    if header.log_id.is_nil() {
        return Ok(Vec::new());
    }
    let range = header.log_range(image.size())?;
    let length = range.end.saturating_sub(range.start);
    if header.log_version != 0 || length > MAX_LENGTH {
        return Err(Error::unsupported(format!(
            "the VHDX's log is in use, and of version {} with {length} bytes it is not read",
            header.log_version
        )));
    }
    let mut ring = Ring {
        image,
        range,
        log_id: header.log_id,
        // Each sector is looked at once as a start and read once as part of an entry, or twice where a sequence ends.
        budget: length.saturating_mul(8),
        most,
        is_written: false,
    };
    let mut active: Vec<Entry> = Vec::new();
    let mut tail = 0;
    while tail < length {
        let (mut entries, next) = ring.sequence(tail)?;
        let number = |entries: &[Entry]| entries.last().map_or(0, |entry| entry.sequence);
        // The sequence is valid if its last entry names an entry of it as the first one.
        let first = entries
            .last()
            .and_then(|(_, head)| entries.iter().position(|(at, _)| *at == head.tail));
        // Behind a sequence the search goes on; where none begins, at the next sector. It ends where it wraps.
        let step = match entries.first() {
            Some(_) if next > tail => next,
            Some(_) => length,
            None => tail.saturating_add(SECTOR),
        };
        if let Some(first) = first {
            let found: Vec<Entry> = entries.drain(first..).map(|(_, entry)| entry).collect();
            if number(&found) > number(&active) {
                active = found;
            }
        }
        tail = step;
    }
    let Some(newest) = active.last() else {
        if !ring.is_written {
            return Ok(active);
        }
        return Err(Error::damaged(
            "the VHDX says its log is in use, and the log holds no valid entries",
        )
        .at_offset(header.log_offset));
    };
    if newest.flushed_size > image.size() {
        return Err(Error::damaged(format!(
            "the VHDX's log says that the file had {} bytes, and it has {}",
            newest.flushed_size,
            image.size()
        ))
        .advise("the file may have been cut off while it was copied"));
    }
    Ok(active)
}

#[cfg(test)]
mod tests;
