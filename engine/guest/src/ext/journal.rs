//! The journal (jbd2), as `Documentation/filesystems/ext4/journal.rst` describes it: what it holds after a crash is
//! found and checked, and laid over the device by [`Overlay`]. Nothing is written.
//!
//! The log is a ring of transactions: descriptors, each with the blocks it names behind it, revocations, and a commit. A
//! transaction counts if all of it is there and all checksums hold; the first one that does not ends the log.

use super::blocks::Blocks;
use super::checksum::{crc32_be, crc32c};
use super::group::Core;
use super::inode;
use super::mapping::{Mapping, Segment};
use super::number::{clamp, join};
use super::overlay::{Change, MAGIC, Overlay};
use super::superblock::Superblock;
use cairn_base::read_at::read_vec;
use cairn_base::{Error, ReadAt, Result, View};
use std::sync::Arc;

const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const REVOKE: u32 = 5;
/// Bytes of a block's header: magic, type, sequence number.
const HEADER: usize = 12;

/// `s_feature_compat`: commits have a CRC-32 of their transaction.
const COMPAT_CHECKSUM: u32 = 1;
/// `s_feature_incompat`.
mod incompat {
    pub const SIXTY_FOUR_BIT: u32 = 2;
    pub const CSUM_V2: u32 = 8;
    pub const CSUM_V3: u32 = 0x10;
    pub const FAST_COMMIT: u32 = 0x20;
    /// Revocations, 64 bits, asynchronous commits, checksums, fast commits.
    pub const KNOWN: u32 = 0x3f;
}
/// Tag flags.
mod flag {
    pub const ESCAPED: u32 = 1;
    pub const SAME_UUID: u32 = 2;
    pub const LAST: u32 = 8;
}
/// `s_checksum_type`: CRC-32C; the type in a commit: CRC-32.
const CRC32C: u8 = 4;
const CRC32: u8 = 1;
/// Blocks at the journal's end that are kept for fast commits where it does not say how many.
const FAST_BLOCKS: u32 = 256;
/// A fast commit begins with this tag; behind its length stand features and sequence number.
const FAST_HEAD: u16 = 9;
/// Blocks of a journal that is looked at: 4 GiB with blocks of 4 KiB. `mke2fs` makes at most 1 GiB.
const MAX_BLOCKS: u64 = 1 << 20;
/// Revocations that are looked at.
const MAX_REVOKED: usize = 8 << 20;

/// What replaying gave.
pub(super) struct Replayed {
    /// The device as it is once the journal is replayed.
    pub device: Arc<dyn ReadAt>,
    /// What a user should know. Sentences.
    pub notes: Vec<String>,
}

/// Replays the journal of `core`, which lies in `inode`, and whose superblock says that there is something to be replayed.
///
/// # Errors
/// Damaged if the journal cannot be found or contradicts its format; unsupported for features that are not known.
pub(super) fn replay(core: &Core, inode: u32) -> Result<Replayed> {
    let log = Log::open(core, inode)?;
    let mut notes = Vec::new();
    let found = if log.start == 0 {
        Found::default()
    } else {
        log.scan(&core.sb)?
    };
    let next = log.sequence.wrapping_add(found.transactions);
    let transactions = found.transactions;
    let changes = log.without_revoked(found)?;
    notes.push(format!(
        "The journal was replayed in memory: {} blocks of {transactions} transactions.",
        changes.len()
    ));
    if log.has_fast_commits(next)? {
        notes.push("Fast commits behind the last transaction are not replayed: the newest changes of the guest are missing.".to_string());
    }
    let device = core.blocks.device().clone();
    let device: Arc<dyn ReadAt> = if changes.is_empty() {
        device
    } else {
        Arc::new(Overlay::new(device, core.blocks.shift(), changes))
    };
    Ok(Replayed { device, notes })
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
    /// Blocks of the log with revocations, and their transactions.
    revocations: Vec<(u64, u32)>,
}

/// A tag of a descriptor.
struct Tag {
    block: u64,
    flags: u32,
    checksum: u32,
}

struct Log<'a> {
    blocks: &'a Blocks,
    /// Where the journal lies, in order.
    map: Vec<Segment>,
    compat: u32,
    incompat: u32,
    /// Register that checksums start from.
    seed: u32,
    /// The first block of the ring and the one behind its last; then those for fast commits.
    first: u64,
    end: u64,
    /// Where the first transaction is (0: nowhere) and its number.
    start: u64,
    sequence: u32,
}

impl Log<'_> {
    fn open(core: &Core, inode: u32) -> Result<Log<'_>> {
        let blocks = &core.blocks;
        let inode = inode::load(core, inode)?;
        let in_device = blocks.device().size() >> blocks.shift();
        let most = (inode.size >> blocks.shift())
            .min(in_device)
            .min(MAX_BLOCKS);
        let mapping = Mapping::of(&inode, core.sb.metadata_csum());
        let mut map = Vec::new();
        let mut at = 0;
        while at < most {
            let segment = mapping.find(blocks, at)?;
            let Some(physical) = segment.physical else {
                return Err(Error::damaged("the journal has a hole"));
            };
            blocks.check(physical, segment.blocks, "journal")?;
            at = segment.end();
            map.push(segment);
        }
        let mut log = Log {
            blocks,
            map,
            compat: 0,
            incompat: 0,
            seed: 0,
            first: 0,
            end: most,
            start: 0,
            sequence: 0,
        };
        log.read_superblock()?;
        Ok(log)
    }

    fn read_superblock(&mut self) -> Result<()> {
        let bytes = self.block(0)?;
        let view = View::new(
            &bytes,
            "journal superblock",
            self.blocks.offset(self.physical(0)?),
        );
        if view.u32_be(0)? != MAGIC || !matches!(view.u32_be(4)?, 3 | 4) {
            return Err(view.damaged(0, "is none"));
        }
        if clamp(u64::from(view.u32_be(12)?)) != self.blocks.len() {
            return Err(view.damaged(12, "its blocks are not those of the file system"));
        }
        // The first version has no features.
        if view.u32_be(4)? == 4 {
            (self.compat, self.incompat) = (view.u32_be(0x24)?, view.u32_be(0x28)?);
        }
        let unknown = self.incompat & !incompat::KNOWN;
        if unknown != 0 {
            return Err(Error::unsupported(format!(
                "feature {unknown:#x} of the journal is not known"
            )));
        }
        if self.has_checksums() {
            let mut sum = crc32c(!0, view.slice(0, 0xfc)?);
            sum = crc32c(sum, &[0; 4]);
            sum = crc32c(sum, view.slice(0x100, 0x300)?);
            if view.u8(0x50)? != CRC32C || sum != view.u32_be(0xfc)? {
                return Err(view.damaged(0xfc, "its checksum does not hold"));
            }
        }
        self.seed = crc32c(!0, view.slice(0x30, 16)?);
        let length = u64::from(view.u32_be(16)?);
        let fast = match (self.incompat & incompat::FAST_COMMIT, view.u32_be(0x54)?) {
            (0, _) => 0,
            (_, 0) => FAST_BLOCKS,
            (_, blocks) => blocks,
        };
        let ring_end = length.saturating_sub(u64::from(fast));
        self.first = u64::from(view.u32_be(20)?);
        self.sequence = view.u32_be(24)?;
        self.start = u64::from(view.u32_be(28)?);
        let sound = length <= self.end && self.first > 0 && self.first < ring_end;
        let starts = self.start == 0 || (self.first..ring_end).contains(&self.start);
        if !sound || !starts {
            return Err(view.damaged(16, "its length or its beginning is impossible"));
        }
        self.end = ring_end;
        Ok(())
    }

    fn has_checksums(&self) -> bool {
        self.incompat & (incompat::CSUM_V2 | incompat::CSUM_V3) != 0
    }

    /// The block of the device in which a block of the journal lies.
    fn physical(&self, logical: u64) -> Result<u64> {
        let index = self.map.partition_point(|segment| segment.end() <= logical);
        let segment = self.map.get(index);
        segment
            .and_then(|s| Some(s.physical?.saturating_add(logical.checked_sub(s.logical)?)))
            .ok_or_else(|| Error::damaged(format!("the journal has no block {logical}")))
    }

    fn block(&self, logical: u64) -> Result<Vec<u8>> {
        let at = self.blocks.offset(self.physical(logical)?);
        read_vec(&**self.blocks.device(), at, self.blocks.len())
    }

    /// The block behind `at` in the ring.
    fn next(&self, at: u64) -> u64 {
        match at.saturating_add(1) {
            next if next >= self.end => self.first,
            next => next,
        }
    }

    /// Whether the checksum in the last 4 bytes of a descriptor or revocation holds, or it has none.
    fn is_tail_right(&self, block: &[u8]) -> bool {
        if !self.has_checksums() {
            return true;
        }
        let Some((body, tail)) = block.split_last_chunk::<4>() else {
            return false;
        };
        crc32c(crc32c(self.seed, body), &[0; 4]) == u32::from_be_bytes(*tail)
    }

    /// Whether the checksum of a commit holds, or it has none. `sum` is that of its transaction.
    fn is_commit_right(&self, block: &[u8], sum: u32) -> Result<bool> {
        let view = View::new(block, "journal commit", 0);
        let stored = view.u32_be(16)?;
        if self.has_checksums() {
            let own = crc32c(self.seed, view.slice(0, 16)?);
            let own = crc32c(own, &[0; 4]);
            let rest = block.get(20..).unwrap_or_default();
            return Ok(crc32c(own, rest) == stored);
        }
        if self.compat & COMPAT_CHECKSUM == 0 {
            return Ok(true);
        }
        Ok(match (view.u8(12)?, view.u8(13)?) {
            (CRC32, 4) => sum == stored,
            // Written before the feature was turned on.
            (0, 0) => stored == 0,
            _ => false,
        })
    }

    /// All transactions that are whole, from the first one on.
    fn scan(&self, sb: &Superblock) -> Result<Found> {
        let mut found = Found::default();
        let (mut entries, mut revocations) = (Vec::new(), Vec::new());
        let (mut at, mut sequence, mut sum) = (self.start, self.sequence, !0);
        let mut left = self.end.saturating_sub(self.first);
        while left > 0 {
            let block = self.block(at)?;
            let view = View::new(&block, "journal block", 0);
            if view.u32_be(0)? != MAGIC || view.u32_be(8)? != sequence {
                break;
            }
            let here = at;
            at = self.next(at);
            left = left.saturating_sub(1);
            match view.u32_be(4)? {
                DESCRIPTOR if self.is_tail_right(&block) => {
                    sum = self.sum(sum, &block);
                    let tags = self.tags(&view)?;
                    let Some(rest) = left.checked_sub(cairn_base::units::to_u64(tags.len())) else {
                        break;
                    };
                    left = rest;
                    let mut whole = true;
                    for tag in tags {
                        whole &= self.is_copy_right(at, &tag, sequence, &mut sum)?;
                        if tag.block >= sb.blocks {
                            return Err(Error::damaged(format!(
                                "the journal has a copy of block {}, which the file system does not have",
                                tag.block
                            )));
                        }
                        let change = Change {
                            block: tag.block,
                            copy: self.physical(at)?,
                            escaped: tag.flags & flag::ESCAPED != 0,
                        };
                        entries.push(Entry { change, sequence });
                        at = self.next(at);
                    }
                    if !whole {
                        break;
                    }
                }
                REVOKE if self.is_tail_right(&block) => revocations.push((here, sequence)),
                COMMIT if self.is_commit_right(&block, sum)? => {
                    found.entries.append(&mut entries);
                    found.revocations.append(&mut revocations);
                    found.transactions = found.transactions.saturating_add(1);
                    sequence = sequence.wrapping_add(1);
                    sum = !0;
                }
                _ => break,
            }
        }
        Ok(found)
    }

    /// Continues the CRC-32 of a transaction, where one is kept.
    fn sum(&self, sum: u32, block: &[u8]) -> u32 {
        if self.compat & COMPAT_CHECKSUM != 0 && !self.has_checksums() {
            crc32_be(sum, block)
        } else {
            sum
        }
    }

    /// Whether the copy of a block at `at` of the journal is what its tag says.
    fn is_copy_right(&self, at: u64, tag: &Tag, sequence: u32, sum: &mut u32) -> Result<bool> {
        let has_sum = self.compat & COMPAT_CHECKSUM != 0;
        if !self.has_checksums() && !has_sum {
            return Ok(true);
        }
        let block = self.block(at)?;
        if !self.has_checksums() {
            *sum = self.sum(*sum, &block);
            return Ok(true);
        }
        let own = crc32c(crc32c(self.seed, &sequence.to_be_bytes()), &block);
        Ok(if self.incompat & incompat::CSUM_V3 != 0 {
            own == tag.checksum
        } else {
            own & 0xffff == tag.checksum
        })
    }

    /// The tags of a descriptor.
    fn tags(&self, view: &View<'_>) -> Result<Vec<Tag>> {
        let wide = self.incompat & incompat::SIXTY_FOUR_BIT != 0;
        let third = self.incompat & incompat::CSUM_V3 != 0;
        let second = self.incompat & incompat::CSUM_V2 != 0;
        let length = match (third, second, wide) {
            (true, ..) => 16,
            (_, true, true) => 14,
            (_, true, false) => 10,
            (_, _, true) => 12,
            _ => 8usize,
        };
        let tail = if self.has_checksums() { 4 } else { 0 };
        let end = self.blocks.len().saturating_sub(tail);
        let mut tags = Vec::new();
        let mut at = HEADER;
        while at.saturating_add(length) <= end {
            let tag = view.part(at, length, "journal tag")?;
            let (flags, checksum) = if third {
                (tag.u32_be(4)?, tag.u32_be(12)?)
            } else {
                (u32::from(tag.u16_be(6)?), u32::from(tag.u16_be(4)?))
            };
            let high = if wide { tag.u32_be(8)? } else { 0 };
            tags.push(Tag {
                block: join(tag.u32_be(0)?, high),
                flags,
                checksum,
            });
            if flags & flag::LAST != 0 {
                break;
            }
            let uuid = if flags & flag::SAME_UUID == 0 { 16 } else { 0 };
            at = at.saturating_add(length).saturating_add(uuid);
        }
        Ok(tags)
    }

    /// The newest copy of each block, without those that the same or a later transaction revokes.
    fn without_revoked(&self, found: Found) -> Result<Vec<Change>> {
        let mut newest = found.entries;
        // Stable: of one block the last one stays last.
        newest.sort_by_key(|entry| entry.change.block);
        newest.reverse();
        newest.dedup_by_key(|entry| entry.change.block);
        newest.reverse();
        let mut revoked = vec![false; newest.len()];
        let mut looked_at = 0usize;
        for (at, sequence) in found.revocations {
            let bytes = self.block(at)?;
            let view = View::new(&bytes, "journal revocation", 0);
            let wide = self.incompat & incompat::SIXTY_FOUR_BIT != 0;
            let length = if wide { 8 } else { 4usize };
            let end = clamp(u64::from(view.u32_be(12)?)).min(self.blocks.len());
            let mut place = HEADER.saturating_add(4);
            while place.saturating_add(length) <= end {
                let block = if wide {
                    view.u64_be(place)?
                } else {
                    u64::from(view.u32_be(place)?)
                };
                if let Ok(index) = newest.binary_search_by_key(&block, |entry| entry.change.block)
                    && let (Some(entry), Some(slot)) = (newest.get(index), revoked.get_mut(index))
                {
                    *slot |= !is_later(entry.sequence, sequence);
                }
                place = place.saturating_add(length);
                looked_at = looked_at.saturating_add(1);
            }
            if looked_at > MAX_REVOKED {
                return Err(Error::unsupported(format!(
                    "the journal revokes more than {MAX_REVOKED} blocks"
                )));
            }
        }
        let kept = newest.iter().zip(revoked).filter(|(_, revoked)| !revoked);
        Ok(kept.map(|(entry, _)| entry.change).collect())
    }

    /// Whether there are fast commits on top of the transaction before `sequence`.
    fn has_fast_commits(&self, sequence: u32) -> Result<bool> {
        if self.incompat & incompat::FAST_COMMIT == 0 {
            return Ok(false);
        }
        // Fast commits begin one block behind the ring's last one.
        let block = self.block(self.end.saturating_add(1))?;
        let view = View::new(&block, "fast commit", 0);
        Ok(view.u16_le(0)? == FAST_HEAD && view.u32_le(8)? == sequence)
    }
}

/// Whether transaction `one` came after `other`; numbers go round.
fn is_later(one: u32, other: u32) -> bool {
    one != other && one.wrapping_sub(other) < 1 << 31
}
