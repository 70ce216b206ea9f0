//! Where the journal lies, what its superblock says, and its blocks: as `Documentation/filesystems/ext4/journal.rst` describes them.

use super::blocks::Blocks;
use super::checksum::{crc32_be, crc32c};
use super::group::Core;
use super::inode;
use super::mapping::{Mapping, Segment};
use super::number::{clamp, join};
use super::overlay::MAGIC;
use cairn_base::read_at::read_vec;
use cairn_base::{Error, Result, View};

/// Types of blocks.
pub(super) const DESCRIPTOR: u32 = 1;
pub(super) const COMMIT: u32 = 2;
pub(super) const REVOKE: u32 = 5;
/// Bytes of a block's header: magic, type, sequence number.
const HEADER: usize = 12;

/// `s_feature_compat`: commits have a CRC-32 of their transaction.
const COMPAT_CHECKSUM: u32 = 1;
/// `s_feature_incompat`.
mod incompat {
    pub const SIXTY_FOUR_BIT: u32 = 2;
    pub const ASYNC_COMMIT: u32 = 4;
    pub const CSUM_V2: u32 = 8;
    pub const CSUM_V3: u32 = 0x10;
    pub const FAST_COMMIT: u32 = 0x20;
    /// Revocations, 64 bits, asynchronous commits, checksums, fast commits.
    pub const KNOWN: u32 = 0x3f;
}
/// Tag flags.
pub(super) mod flag {
    pub const ESCAPED: u32 = 1;
    pub const SAME_UUID: u32 = 2;
    pub const LAST: u32 = 8;
}
/// `s_checksum_type`: CRC-32C; the type in a commit: CRC-32.
const CRC32C: u8 = 4;
const CRC32: u8 = 1;
/// Blocks at the journal's end that are kept for fast commits where it does not say how many.
const FAST_BLOCKS: u32 = 256;
/// Blocks of a journal: `mke2fs` makes no larger one.
const MAX_BLOCKS: u64 = 10_240_000;
/// Pieces in which it lies.
const MAX_PIECES: usize = 1 << 18;

/// A tag of a descriptor.
pub(super) struct Tag {
    /// The block that is changed.
    pub block: u64,
    /// See [`flag`].
    pub flags: u32,
    checksum: u32,
}

/// The journal.
pub(super) struct Log<'a> {
    blocks: &'a Blocks,
    /// Where the journal lies, in order.
    map: Vec<Segment>,
    compat: u32,
    incompat: u32,
    /// Register that checksums start from.
    seed: u32,
    /// The first block of the ring.
    first: u64,
    /// The one behind its last; then come those for fast commits.
    pub end: u64,
    /// Where the first transaction is; 0: nowhere.
    pub start: u64,
    /// Its number.
    pub sequence: u32,
}

impl Log<'_> {
    /// The journal in `inode`.
    ///
    /// # Errors
    /// Damaged if it cannot be found or contradicts its format; unsupported for features that are not known.
    pub fn open(core: &Core, inode: u32) -> Result<Log<'_>> {
        let blocks = &core.blocks;
        let inode = inode::load(core, inode)?;
        let in_device = blocks.device().size() >> blocks.shift();
        let most = inode.size >> blocks.shift();
        if most > MAX_BLOCKS {
            return Err(Error::unsupported(format!(
                "a journal of {most} blocks is not read, only up to {MAX_BLOCKS}"
            )));
        }
        let most = most.min(in_device);
        let mapping = Mapping::of(&inode, core.sb.metadata_csum());
        let mut map: Vec<Segment> = Vec::new();
        let mut at = 0;
        while at < most {
            let segment = mapping.find(blocks, at)?;
            let Some(physical) = segment.physical else {
                return Err(Error::damaged("the journal has a hole"));
            };
            blocks.check(physical, segment.blocks, "journal")?;
            at = segment.end();
            let pieces = map.len();
            match map.last_mut() {
                Some(last) if goes_on(last, physical) => {
                    last.blocks = last.blocks.saturating_add(segment.blocks);
                }
                _ if pieces >= MAX_PIECES => {
                    return Err(Error::unsupported(format!(
                        "the journal lies in more than {MAX_PIECES} pieces"
                    )));
                }
                _ => map.push(segment),
            }
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

    /// Whether every block has a checksum of its own.
    fn has_checksums(&self) -> bool {
        self.incompat & (incompat::CSUM_V2 | incompat::CSUM_V3) != 0
    }

    /// The block of the device in which a block of the journal lies.
    pub fn physical(&self, logical: u64) -> Result<u64> {
        let index = self.map.partition_point(|segment| segment.end() <= logical);
        let segment = self.map.get(index);
        segment
            .and_then(|s| Some(s.physical?.saturating_add(logical.checked_sub(s.logical)?)))
            .ok_or_else(|| Error::damaged(format!("the journal has no block {logical}")))
    }

    /// Its bytes.
    pub fn block(&self, logical: u64) -> Result<Vec<u8>> {
        let at = self.blocks.offset(self.physical(logical)?);
        read_vec(&**self.blocks.device(), at, self.blocks.len())
    }

    /// Blocks of the ring.
    pub fn ring(&self) -> u64 {
        self.end.saturating_sub(self.first)
    }

    /// Blocks of the device. The file system on it may not know yet how large it is.
    pub fn device_blocks(&self) -> u64 {
        self.blocks.device().size() >> self.blocks.shift()
    }

    /// Whether a commit may be written before the blocks of its transaction: then it counts only with all of them.
    pub fn is_asynchronous(&self) -> bool {
        self.incompat & incompat::ASYNC_COMMIT != 0
    }

    /// Whether there may be fast commits.
    pub fn has_fast_commits(&self) -> bool {
        self.incompat & incompat::FAST_COMMIT != 0
    }

    /// The block behind `at` in the ring.
    pub fn next(&self, at: u64) -> u64 {
        match at.saturating_add(1) {
            next if next >= self.end => self.first,
            next => next,
        }
    }

    /// Whether the checksum in the last 4 bytes of a descriptor or revocation holds, or it has none.
    pub fn is_tail_right(&self, block: &[u8]) -> bool {
        if !self.has_checksums() {
            return true;
        }
        let Some((body, tail)) = block.split_last_chunk::<4>() else {
            return false;
        };
        crc32c(crc32c(self.seed, body), &[0; 4]) == u32::from_be_bytes(*tail)
    }

    /// Whether the checksum of a commit holds, or it has none. `sum` is that of its transaction.
    pub fn is_commit_right(&self, block: &[u8], sum: u32) -> Result<bool> {
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

    /// Continues the CRC-32 of a transaction, where one is kept.
    pub fn sum(&self, sum: u32, block: &[u8]) -> u32 {
        if self.compat & COMPAT_CHECKSUM != 0 && !self.has_checksums() {
            crc32_be(sum, block)
        } else {
            sum
        }
    }

    /// Whether the copy of a block at `at` of the journal is what its tag says.
    pub fn is_copy_right(&self, at: u64, tag: &Tag, sequence: u32, sum: &mut u32) -> Result<bool> {
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
    pub fn tags(&self, view: &View<'_>) -> Result<Vec<Tag>> {
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

    /// The blocks that the revocations in block `at` of the journal name.
    ///
    /// # Errors
    /// Whatever the device reports.
    pub fn revoked(&self, at: u64) -> Result<Vec<u64>> {
        let bytes = self.block(at)?;
        let view = View::new(&bytes, "journal revocation", 0);
        let wide = self.incompat & incompat::SIXTY_FOUR_BIT != 0;
        let length = if wide { 8 } else { 4usize };
        let end = clamp(u64::from(view.u32_be(12)?)).min(self.blocks.len());
        let mut place = HEADER.saturating_add(4);
        let mut revoked = Vec::new();
        while place.saturating_add(length) <= end {
            revoked.push(if wide {
                view.u64_be(place)?
            } else {
                u64::from(view.u32_be(place)?)
            });
            place = place.saturating_add(length);
        }
        Ok(revoked)
    }
}

/// Whether what lies at `physical` goes on where `last` ends.
fn goes_on(last: &Segment, physical: u64) -> bool {
    last.physical
        .and_then(|start| start.checked_add(last.blocks))
        == Some(physical)
}
