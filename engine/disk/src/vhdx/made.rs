//! What a VHDX made here consists of, wherever its blocks lie.

use super::header::{self, Header};
use super::metadata::Metadata;
use super::region::{self, Regions};
use super::{ALIGNMENT, MAX_SIZE, SIGNATURE, bat};
use crate::align::{div_up, round_up};
use crate::guid::Guid;
use crate::layout::Layout;
use cairn_base::units::{GIB, TIB};
use cairn_base::{Error, Result};

/// The log, the metadata, then the block table, each behind the other from 1 MiB on.
const LOG: u64 = ALIGNMENT;
const METADATA: u64 = 2 * ALIGNMENT;
const BAT: u64 = 3 * ALIGNMENT;
/// What it says it was made by. No version: views of a disk are the same file whichever program shows them.
const CREATOR: &str = "Cairn";

/// The ids a VHDX has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ids {
    /// The disk's own.
    pub(crate) disk: Guid,
    /// Another one whenever the file is opened for writing.
    pub(crate) file_write: Guid,
    /// Another one whenever the disk's content may have changed.
    pub(crate) data_write: Guid,
}

/// A VHDX with an empty log: dynamic, unless it is said to be [`fixed`](Made::fixed).
#[derive(Debug, Clone)]
pub(crate) struct Made {
    is_fixed: bool,
    disk_size: u64,
    block_size: u32,
    sector_size: u32,
    regions: Regions,
}

impl Made {
    /// For a disk of `size` bytes, rounded up to whole sectors of 512 or 4096 bytes. Blocks have a power of two from 1 to 256 MiB;
    /// by the disk's size, without one.
    ///
    /// # Errors
    /// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) above 64 TiB; [`Kind::Invalid`](cairn_base::Kind::Invalid) for sectors
    /// and blocks that no VHDX has.
    pub(crate) fn new(size: u64, sector_size: u32, block_size: Option<u32>) -> Result<Made> {
        if sector_size != 512 && sector_size != 4096 {
            return Err(Error::invalid(format!(
                "a VHDX has no sectors of {sector_size} bytes"
            )));
        }
        let disk_size = match round_up(size, u64::from(sector_size)) {
            Some(size) if size <= MAX_SIZE => size,
            _ => {
                return Err(Error::unsupported(format!(
                    "a VHDX has at most 64 TiB, and the disk has {size} bytes"
                ))
                .advise("write it as raw"));
            }
        };
        let block_size = block_size.unwrap_or(default_block_size(disk_size));
        if !block_size.is_power_of_two() || !(1 << 20..=256 << 20).contains(&block_size) {
            return Err(Error::invalid(format!(
                "a VHDX has no blocks of {block_size} bytes"
            )));
        }
        let count = div_up(disk_size, u64::from(block_size)).unwrap_or(0);
        let entries = bat::entries(count, bat::chunk_ratio(block_size, sector_size));
        let table = round_up(entries.saturating_mul(8).max(1), ALIGNMENT).unwrap_or(ALIGNMENT);
        Ok(Made {
            is_fixed: false,
            disk_size,
            block_size,
            sector_size,
            regions: Regions {
                bat: BAT..BAT.saturating_add(table),
                metadata: METADATA..BAT,
            },
        })
    }

    /// The same as a fixed VHDX: it says that its blocks stay allocated (2.6.2.1, LeaveBlockAllocated). That all of them are is the caller's
    /// business.
    pub(crate) fn fixed(self) -> Made {
        Made {
            is_fixed: true,
            ..self
        }
    }

    /// Bytes of the virtual disk.
    pub(crate) fn disk_size(&self) -> u64 {
        self.disk_size
    }

    /// Where the block table lies, and how many bytes it has: whole MiB. What is no entry is 0.
    pub(crate) fn table(&self) -> (u64, u64) {
        let bat = &self.regions.bat;
        (bat.start, bat.end.saturating_sub(bat.start))
    }

    /// Blocks between two sector bitmap entries of the table, see [`bat::chunk_ratio`].
    pub(crate) fn ratio(&self) -> u64 {
        bat::chunk_ratio(self.block_size, self.sector_size)
    }

    /// How its blocks are to lie.
    pub(crate) fn layout(&self) -> Layout {
        Layout {
            disk_size: self.disk_size,
            block_size: u64::from(self.block_size),
            prefix: Vec::new(),
            alignment: ALIGNMENT,
            start: self.regions.bat.end,
        }
    }

    /// Where in the file a block's entry of the table lies.
    pub(crate) fn entry_at(&self, block: u64) -> u64 {
        let index = bat::index(block, self.ratio());
        self.regions
            .bat
            .start
            .saturating_add(index.saturating_mul(8))
    }

    /// The table's entry of a block whose data lie at `place`, a multiple of 1 MiB; none for a block that is not there.
    pub(crate) fn entry(place: Option<u64>) -> [u8; 8] {
        // A block that is not there has the entry 0, as have the sector bitmaps of a disk without a parent.
        place.map_or(0, bat::present).to_le_bytes()
    }

    /// Everything but blocks and table, and where it belongs. The identifier, which makes a VHDX of it, comes last.
    pub(crate) fn rest(&self, ids: &Ids) -> Vec<(u64, Vec<u8>)> {
        let metadata = Metadata {
            block_size: self.block_size,
            leave_allocated: self.is_fixed,
            disk_size: self.disk_size,
            disk_id: ids.disk,
            logical_sector: self.sector_size,
            physical_sector: 4096,
            parent: None,
        };
        let mut parts = vec![(self.regions.metadata.start, metadata.encode())];
        let table = self.regions.encode();
        parts.extend(region::OFFSETS.map(|offset| (offset, table.clone())));
        for (sequence, offset) in (1..).zip(header::OFFSETS) {
            let header = Header {
                sequence,
                file_write_id: ids.file_write,
                data_write_id: ids.data_write,
                log_id: Guid::NIL,
                log_version: 0,
                log_length: u32::try_from(METADATA.saturating_sub(LOG)).unwrap_or(0),
                log_offset: LOG,
            };
            parts.push((offset, header.encode()));
        }
        let creator: Vec<u8> = CREATOR.encode_utf16().flat_map(u16::to_le_bytes).collect();
        parts.push((0, [SIGNATURE, &creator[..]].concat()));
        parts
    }
}

/// Larger blocks for larger disks, as other programs choose them: the block table stays below 16 MiB.
fn default_block_size(disk_size: u64) -> u32 {
    if disk_size > 32 * TIB {
        64 << 20
    } else if disk_size > 100 * GIB {
        32 << 20
    } else if disk_size > GIB {
        16 << 20
    } else {
        8 << 20
    }
}
