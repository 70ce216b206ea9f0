//! The journal (jbd2): what it holds after a crash is found and checked, and laid over the device by [`Overlay`]. Nothing is written.
//!
//! The log is a ring of transactions: descriptors, each with the blocks it names behind it, revocations, and a commit. A
//! transaction counts once its commit is there; the first one without ends the log. What is damaged in one that was committed is told:
//! a copy whose checksum is wrong costs its block, a descriptor, a revocation or a commit all that follows.

use super::group::Core;
use super::log::{COMMIT, DESCRIPTOR, Log, REVOKE, Tag, flag};
use super::overlay::{Change, MAGIC, Overlay};
use crate::volume::Note;
use cairn_base::{Error, ReadAt, Result, View};
use std::sync::Arc;

/// A fast commit begins with this tag; behind its length stand features and sequence number.
const FAST_HEAD: u16 = 9;
/// Blocks that are kept: changed ones of all transactions, and those of one.
const MAX_CHANGES: usize = 1 << 20;
/// Damaged copies that are kept.
const MAX_DAMAGED: usize = 1 << 16;
/// Blocks of revocations that are looked at, and revocations.
const MAX_REVOCATIONS: usize = 1 << 18;
const MAX_REVOKED: usize = 8 << 20;
/// Where a commit says when it was written, in seconds since 1970.
const COMMIT_TIME: usize = 48;

/// What replaying gave.
pub(super) struct Replayed {
    /// The device as it is once the journal is replayed.
    pub device: Arc<dyn ReadAt>,
    /// What a user should know.
    pub notes: Vec<Note>,
}

/// Replays the journal of `core`, which lies in `inode`. `announced`: the superblock says that there is something to be replayed; else
/// the journal is asked, and there may be nothing.
///
/// # Errors
/// Damaged if the journal cannot be found or contradicts its format; unsupported for features that are not known.
pub(super) fn replay(core: &Core, inode: u32, announced: bool) -> Result<Option<Replayed>> {
    let log = Log::open(core, inode)?;
    let mut notes = Vec::new();
    let found = match log.start {
        0 if !announced => return Ok(None),
        0 => Found::default(),
        _ => scan(&log)?,
    };
    let next = log.sequence.wrapping_add(found.transactions);
    let (transactions, broken, beyond) = (found.transactions, found.broken, found.beyond);
    let (changes, lost) = without_revoked(&log, found)?;
    notes.push(Note::fact(format!(
        "The journal was replayed in memory: {} blocks of {transactions} transactions.",
        changes.len()
    )));
    if lost > 0 {
        notes.push(Note::defect(format!(
            "{lost} copies of blocks in the journal are damaged: these blocks are shown as they were before."
        )));
    }
    if beyond > 0 {
        notes.push(Note::defect(format!(
            "The journal has {beyond} copies of blocks that lie beyond the device."
        )));
    }
    if broken {
        notes.push(Note::defect(format!(
            "Transaction {next} of the journal is damaged: what the guest changed from then on is missing."
        )));
    } else if has_fast_commits(&log, next)? {
        notes.push(Note::defect("Fast commits behind the last transaction are not replayed: the newest changes of the guest are missing."));
    }
    let device = core.blocks.device().clone();
    let device: Arc<dyn ReadAt> = if changes.is_empty() {
        device
    } else {
        Arc::new(Overlay::new(device, core.blocks.shift(), changes))
    };
    Ok(Some(Replayed { device, notes }))
}

/// A block that a transaction changes.
#[derive(Clone, Copy)]
struct Entry {
    change: Change,
    sequence: u32,
}

/// What whole transactions hold.
#[derive(Default)]
struct Found {
    transactions: u32,
    entries: Vec<Entry>,
    /// Those whose copies are damaged.
    damaged: Vec<Entry>,
    /// Blocks of the log with revocations, and their transactions.
    revocations: Vec<(u64, u32)>,
    /// Copies of blocks that the device does not have.
    beyond: u64,
    /// The next transaction was committed and is damaged.
    broken: bool,
}

/// A transaction that is read.
struct Open {
    found: Found,
    /// The CRC-32 of its blocks.
    sum: u32,
    /// A descriptor or a revocation is not right: it is damaged, or from an older life of the log.
    is_doubtful: bool,
}

/// What a commit makes of its transaction.
enum Verdict {
    Whole,
    Damaged,
    /// It was not committed: the log ends before it.
    Never,
}

impl Open {
    fn new() -> Open {
        Open {
            found: Found::default(),
            sum: !0,
            is_doubtful: false,
        }
    }

    /// Takes the copy of a block at `at`.
    fn take(&mut self, log: &Log<'_>, at: u64, tag: &Tag, sequence: u32) -> Result<()> {
        if self.is_doubtful {
            return Ok(());
        }
        let is_right = log.is_copy_right(at, tag, sequence, &mut self.sum)?;
        if tag.block >= log.device_blocks() {
            self.found.beyond = self.found.beyond.saturating_add(1);
            return Ok(());
        }
        let change = Change {
            block: tag.block,
            copy: log.physical(at)?,
            escaped: tag.flags & flag::ESCAPED != 0,
        };
        let (list, most) = match is_right {
            true => (&mut self.found.entries, MAX_CHANGES),
            false => (&mut self.found.damaged, MAX_DAMAGED),
        };
        list.push(Entry { change, sequence });
        too_many(list.len(), most)
    }

    /// What the commit says that was read before block `at`; the one before it was written at `time`, in seconds.
    fn verdict(&self, log: &Log<'_>, commit: &[u8], at: u64, time: u64) -> Result<Verdict> {
        let is_right = log.is_commit_right(commit, self.sum)?;
        if is_right && !self.is_doubtful && self.found.damaged.is_empty() {
            return Ok(Verdict::Whole);
        }
        if is_right && !self.is_doubtful && !log.is_asynchronous() {
            return Ok(Verdict::Whole);
        }
        if seconds(commit)? < time {
            return Ok(Verdict::Never);
        }
        // What is written before its commit is confirmed is whole once another transaction follows.
        if log.is_asynchronous() {
            let sequence = View::new(commit, "journal commit", 0).u32_be(8)?;
            let next = log.block(at)?;
            let is_followed = kind(&next, sequence.wrapping_add(1))?.is_some();
            return Ok(match (is_followed, is_right && !self.is_doubtful) {
                (false, _) => Verdict::Never,
                (true, true) => Verdict::Whole,
                (true, false) => Verdict::Damaged,
            });
        }
        Ok(Verdict::Damaged)
    }
}

/// All transactions that are whole, from the first one on.
fn scan(log: &Log<'_>) -> Result<Found> {
    let mut found = Found::default();
    let mut open = Open::new();
    let (mut at, mut sequence, mut time) = (log.start, log.sequence, 0);
    let mut left = log.ring();
    while left > 0 {
        let block = log.block(at)?;
        let Some(kind) = kind(&block, sequence)? else {
            break;
        };
        let here = at;
        at = log.next(at);
        left = left.saturating_sub(1);
        match kind {
            DESCRIPTOR => {
                open.is_doubtful |= !log.is_tail_right(&block);
                open.sum = log.sum(open.sum, &block);
                let tags = log.tags(&View::new(&block, "journal descriptor", 0))?;
                let Some(rest) = left.checked_sub(cairn_base::units::to_u64(tags.len())) else {
                    break;
                };
                left = rest;
                for tag in tags {
                    open.take(log, at, &tag, sequence)?;
                    at = log.next(at);
                }
            }
            REVOKE => {
                open.is_doubtful |= !log.is_tail_right(&block);
                open.found.revocations.push((here, sequence));
                too_many(open.found.revocations.len(), MAX_REVOCATIONS)?;
            }
            COMMIT => {
                match open.verdict(log, &block, at, time)? {
                    Verdict::Whole => found.add(&mut open)?,
                    Verdict::Damaged => {
                        found.broken = true;
                        break;
                    }
                    Verdict::Never => break,
                }
                time = seconds(&block)?;
                sequence = sequence.wrapping_add(1);
            }
            _ => break,
        }
    }
    Ok(found)
}

/// What a block of this transaction is; none if it is no such block.
fn kind(block: &[u8], sequence: u32) -> Result<Option<u32>> {
    let view = View::new(block, "journal block", 0);
    let is_one = view.u32_be(0)? == MAGIC && view.u32_be(8)? == sequence;
    Ok(if is_one { Some(view.u32_be(4)?) } else { None })
}

fn seconds(commit: &[u8]) -> Result<u64> {
    View::new(commit, "journal commit", 0).u64_be(COMMIT_TIME)
}

fn too_many(count: usize, most: usize) -> Result<()> {
    if count <= most {
        return Ok(());
    }
    Err(Error::unsupported(format!(
        "the journal has more than {most} entries of a kind"
    )))
}

impl Found {
    /// Adds a transaction that is whole.
    fn add(&mut self, open: &mut Open) -> Result<()> {
        let mut more = std::mem::replace(open, Open::new()).found;
        self.transactions = self.transactions.saturating_add(1);
        self.entries.append(&mut more.entries);
        self.damaged.append(&mut more.damaged);
        self.revocations.append(&mut more.revocations);
        self.beyond = self.beyond.saturating_add(more.beyond);
        // Seldom, so that it costs little: it leaves half of them at most, or ends.
        if self.entries.len() > MAX_CHANGES.saturating_mul(2) {
            keep_newest(&mut self.entries);
            too_many(self.entries.len(), MAX_CHANGES)?;
        }
        too_many(self.damaged.len(), MAX_DAMAGED)?;
        too_many(self.revocations.len(), MAX_REVOCATIONS)
    }
}

/// Keeps the last of each block, by block.
fn keep_newest(entries: &mut Vec<Entry>) {
    // Stable: of one block the last one stays last.
    entries.sort_by_key(|entry| entry.change.block);
    entries.reverse();
    entries.dedup_by_key(|entry| entry.change.block);
    entries.reverse();
}

/// The newest copy of each block, without those that the same or a later transaction revokes; and of how many blocks it is damaged.
fn without_revoked(log: &Log<'_>, found: Found) -> Result<(Vec<Change>, usize)> {
    let (mut newest, mut damaged) = (Kept::of(found.entries), Kept::of(found.damaged));
    let mut looked_at = 0usize;
    for (at, sequence) in found.revocations {
        let blocks = log.revoked(at)?;
        looked_at = looked_at.saturating_add(blocks.len());
        too_many(looked_at, MAX_REVOKED)?;
        for block in blocks {
            newest.revoke(block, sequence);
            damaged.revoke(block, sequence);
        }
    }
    let newest: Vec<Entry> = newest.end().collect();
    let is_lost = |lost: &Entry| {
        let same = newest.binary_search_by_key(&lost.change.block, |entry| entry.change.block);
        let newer = same.ok().and_then(|index| newest.get(index));
        newer.is_none_or(|newer| is_later(lost.sequence, newer.sequence))
    };
    let lost = damaged.end().filter(is_lost).count();
    Ok((newest.iter().map(|entry| entry.change).collect(), lost))
}

/// The newest entry of each block, and whether it is revoked.
struct Kept(Vec<(Entry, bool)>);

impl Kept {
    fn of(mut entries: Vec<Entry>) -> Kept {
        keep_newest(&mut entries);
        Kept(entries.into_iter().map(|entry| (entry, false)).collect())
    }

    fn revoke(&mut self, block: u64, sequence: u32) {
        if let Ok(index) = self
            .0
            .binary_search_by_key(&block, |(entry, _)| entry.change.block)
            && let Some((entry, revoked)) = self.0.get_mut(index)
        {
            *revoked |= !is_later(entry.sequence, sequence);
        }
    }

    fn end(self) -> impl Iterator<Item = Entry> {
        let kept = self.0.into_iter().filter(|(_, revoked)| !revoked);
        kept.map(|(entry, _)| entry)
    }
}

/// Whether there are fast commits on top of the transaction before `sequence`.
fn has_fast_commits(log: &Log<'_>, sequence: u32) -> Result<bool> {
    if !log.has_fast_commits() {
        return Ok(false);
    }
    // Fast commits begin one block behind the ring's last one.
    let block = log.block(log.end.saturating_add(1))?;
    let view = View::new(&block, "fast commit", 0);
    Ok(view.u16_le(0)? == FAST_HEAD && view.u32_le(8)? == sequence)
}

/// Whether transaction `one` came after `other`; numbers go round.
fn is_later(one: u32, other: u32) -> bool {
    one != other && one.wrapping_sub(other) < 1 << 31
}
