//! What the logs of a hive hold that the hive has not yet: entries with pages (Windows 8.1 and later), or a map of dirty sectors with their content (before).

use super::base_block::{self, BaseBlock, LOG_OF_ENTRIES};
use super::marvin::marvin32;
use cairn_base::read_at::read_vec;
use cairn_base::units::to_u64;
use cairn_base::{Error, Kind, ReadAt, Result, View};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of what a log holds at a time; entries and pages are whole sectors.
pub const SECTOR: usize = 512;
/// Types of logs with a map of dirty sectors.
const LOGS_OF_SECTORS: [u32; 2] = [1, 2];
/// A log that is longer is not read; Windows' own have some MiB.
const MAX_LOG: u64 = 64 << 20;
/// Sectors that are kept in memory at most: 64 MiB.
const MAX_SECTORS: usize = (64 << 20) / SECTOR;
/// The largest hive: 2 GiB.
const MAX_HIVE: u32 = 0x8000_0000;
/// The bits of a byte, in the order of the sectors they stand for.
const BITS: [u8; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
/// Bytes of an entry before its references.
const ENTRY_HEAD: usize = 40;

/// What the logs hold.
#[derive(Debug, Default)]
pub struct Replay {
    /// Sectors of the bins, by their number.
    pub sectors: BTreeMap<u64, [u8; SECTOR]>,
    /// Bytes of all bins then.
    pub size: u32,
}

/// What the logs of a hive hold for it.
///
/// # Errors
/// [`Kind::Damaged`] or [`Kind::NotFound`] if there is nothing that can be applied as a whole; what reading reports.
pub fn replay(base: &BaseBlock, logs: &[Arc<dyn ReadAt>]) -> Result<Replay> {
    let mut entries = Vec::new();
    let mut older: Option<(BaseBlock, &Arc<dyn ReadAt>)> = None;
    let mut failed = None;
    for log in logs {
        match head(&**log) {
            Ok(head) if head.file_type == LOG_OF_ENTRIES => walk(log, &mut entries)?,
            Ok(head) if LOGS_OF_SECTORS.contains(&head.file_type) && is_of(base, &head) => {
                let newest = older.as_ref().map_or(0, |(known, _)| known.primary);
                if older.is_none() || head.primary > newest {
                    older = Some((head, log));
                }
            }
            Ok(_) => {}
            Err(error) if error.kind().may_pass() => return Err(error),
            Err(error) => failed = Some(error),
        }
    }
    entries.retain(|entry| entry.sequence >= base.secondary);
    entries.sort_by_key(|entry| entry.sequence);
    entries.dedup_by_key(|entry| entry.sequence);
    let begins = entries.first().map(|entry| entry.sequence);
    // Otherwise something is missing in between.
    if begins.is_some_and(|first| first <= base.primary) {
        return apply(&entries);
    }
    match (older, failed) {
        (Some((head, log)), _) => dirty_sectors(&head, &**log),
        (None, Some(error)) => Err(error),
        (None, None) => Err(Error::not_found("no log of it has what was written")),
    }
}

fn head(log: &dyn ReadAt) -> Result<BaseBlock> {
    if log.size() < to_u64(base_block::LENGTH) {
        return Err(Error::damaged("the log is empty"));
    }
    if log.size() > MAX_LOG {
        return Err(Error::unsupported("the log is longer than 64 MiB"));
    }
    let bytes = read_vec(log, 0, base_block::LENGTH)?;
    BaseBlock::parse(View::new(&bytes, "base block of the log", 0))
}

/// Whether a log of dirty sectors was written whole, and last for this hive.
fn is_of(base: &BaseBlock, log: &BaseBlock) -> bool {
    !log.is_dirty() && log.ticks == base.ticks
}

/// An entry that is whole.
struct LogEntry {
    log: Arc<dyn ReadAt>,
    at: u64,
    length: usize,
    sequence: u32,
}

/// Adds the entries of a log, up to the first that is not whole, or older than the one before.
fn walk(log: &Arc<dyn ReadAt>, entries: &mut Vec<LogEntry>) -> Result<()> {
    let mut at = to_u64(base_block::LENGTH);
    let mut before: Option<u32> = None;
    // Each entry has a sector at least, and the log no more than its bound.
    while let Some((length, sequence)) = whole_entry(&**log, at)? {
        if before.is_some_and(|before| before.checked_add(1) != Some(sequence)) {
            break;
        }
        before = Some(sequence);
        entries.push(LogEntry {
            log: log.clone(),
            at,
            length,
            sequence,
        });
        at = at.saturating_add(to_u64(length));
    }
    Ok(())
}

/// Length and sequence number of the entry at `at`, if both its hashes are right.
fn whole_entry(log: &dyn ReadAt, at: u64) -> Result<Option<(usize, u32)>> {
    let left = log.size().saturating_sub(at);
    if left < to_u64(SECTOR) {
        return Ok(None);
    }
    let bytes = read_vec(log, at, ENTRY_HEAD)?;
    let view = View::new(&bytes, "log entry", at);
    let length = view.u32_le(4)?;
    let fits = u64::from(length) <= left && usize::try_from(length).is_ok_and(|n| n >= SECTOR);
    if view.slice(0, 4)? != b"HvLE" || !fits || length % 512 != 0 {
        return Ok(None);
    }
    let length = usize::try_from(length).unwrap_or(SECTOR);
    let bytes = read_vec(log, at, length)?;
    let view = View::new(&bytes, "log entry", at);
    let (of_pages, of_head) = (view.u64_le(24)?, view.u64_le(32)?);
    let is_whole = marvin32(view.slice(0, 32)?) == of_head
        && marvin32(view.tail(ENTRY_HEAD)?.bytes()) == of_pages;
    Ok(is_whole.then_some((length, view.u32_le(12)?)))
}

/// Applies entries in their order, up to the first gap.
fn apply(entries: &[LogEntry]) -> Result<Replay> {
    let mut replay = Replay::default();
    let mut next: Option<u32> = None;
    for entry in entries {
        if next.is_some_and(|next| next != entry.sequence) {
            break;
        }
        next = entry.sequence.checked_add(1);
        let bytes = read_vec(&*entry.log, entry.at, entry.length)?;
        apply_entry(View::new(&bytes, "log entry", entry.at), &mut replay)?;
    }
    Ok(replay)
}

fn apply_entry(view: View<'_>, replay: &mut Replay) -> Result<()> {
    replay.size = size_of_hive(view, 16)?;
    let count = usize::try_from(view.u32_le(20)?).unwrap_or(usize::MAX);
    let references = view.slice(ENTRY_HEAD, count.saturating_mul(8))?;
    let mut data = ENTRY_HEAD.saturating_add(references.len());
    let references = View::new(references, "dirty page", view.base());
    for number in 0..count {
        let at = references.u32_le(number.saturating_mul(8))?;
        let length = references.u32_le(number.saturating_mul(8).saturating_add(4))?;
        let end = at.checked_add(length);
        if at % 512 != 0 || length % 512 != 0 || end.is_none_or(|end| end > replay.size) {
            return Err(view.damaged(ENTRY_HEAD, "a page does not lie in the hive"));
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let page = view.slice(data, length)?;
        data = data.saturating_add(length);
        let first = u64::from(at) / 512;
        for (number, sector) in (first..).zip(page.chunks_exact(SECTOR)) {
            keep(replay, number, sector)?;
        }
    }
    Ok(())
}

fn keep(replay: &mut Replay, number: u64, sector: &[u8]) -> Result<()> {
    if replay.sectors.len() >= MAX_SECTORS {
        let what = "the log holds more than 64 MiB of the hive";
        return Err(Error::unsupported(what));
    }
    let sector = sector.try_into();
    let sector = sector.map_err(|_| Error::new(Kind::Damaged, "a sector of the log is cut off"))?;
    replay.sectors.insert(number, sector);
    Ok(())
}

fn size_of_hive(view: View<'_>, offset: usize) -> Result<u32> {
    let size = view.u32_le(offset)?;
    if size % 4096 != 0 || size > MAX_HIVE {
        return Err(view.damaged(offset, "no hive has this size"));
    }
    Ok(size)
}

/// A log of before: a bit for each sector of the hive, and those whose bit is set, one behind the other.
fn dirty_sectors(head: &BaseBlock, log: &dyn ReadAt) -> Result<Replay> {
    let start = to_u64(base_block::LENGTH);
    let size = head.size;
    if !size.is_multiple_of(4096) || size > MAX_HIVE {
        return Err(Error::damaged("no hive has the size that its log says"));
    }
    // One bit for 512 bytes: a byte for 4096.
    let map = usize::try_from(size / 4096).unwrap_or(usize::MAX);
    let bytes = read_vec(log, start, map.saturating_add(4))?;
    let view = View::new(&bytes, "map of dirty sectors", start);
    if view.slice(0, 4)? != b"DIRT" {
        return Err(view.damaged(0, "it has no signature"));
    }
    let mut replay = Replay {
        size,
        ..Replay::default()
    };
    let step = to_u64(SECTOR);
    let behind = start.saturating_add(to_u64(bytes.len()));
    let mut at = behind.next_multiple_of(step);
    for (number, byte) in (0u64..).zip(view.tail(4)?.bytes()) {
        for (bit, mask) in (0u64..).zip(BITS) {
            if byte & mask == 0 {
                continue;
            }
            let sector = read_vec(log, at, SECTOR).map_err(|error| match error.kind() {
                Kind::Invalid => Error::damaged("the log ends before its last sector"),
                _ => error,
            })?;
            keep(
                &mut replay,
                number.saturating_mul(8).saturating_add(bit),
                &sector,
            )?;
            at = at.saturating_add(step);
        }
    }
    Ok(replay)
}
