//! Dynamic VHDXs.

use super::blocks::{Blocks, Layout};
use super::target::Target;
use super::{DiskWriter, Written};
use crate::align::{div_up, round_up, to_usize};
use crate::guid::Guid;
use crate::vhdx::header::{self, Header};
use crate::vhdx::metadata::Metadata;
use crate::vhdx::region::{self, Regions};
use crate::vhdx::{ALIGNMENT, MAX_SIZE, SIGNATURE, bat};
use cairn_base::ids::random;
use cairn_base::units::{GIB, TIB};
use cairn_base::{Error, Result};
use std::fs::File;
use std::ops::Range;
use std::path::Path;

/// The log, the metadata, then the block table, each behind the other from 1 MiB on.
const LOG: u64 = ALIGNMENT;
const METADATA: u64 = 2 * ALIGNMENT;
const BAT: u64 = 3 * ALIGNMENT;

/// How a VHDX is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VhdxOptions {
    /// Bytes of a logical sector, 512 or 4096: that of the disk that was backed up.
    pub sector_size: u32,
    /// Bytes of a block, a power of two from 1 to 256 MiB; by the disk's size without it. Unwritten parts of a block are
    /// holes of the file, so that small blocks save little.
    pub block_size: Option<u32>,
    /// The disk's id; a random one without it.
    pub disk_id: Option<Guid>,
}

impl Default for VhdxOptions {
    fn default() -> VhdxOptions {
        VhdxOptions {
            sector_size: 512,
            block_size: None,
            disk_id: None,
        }
    }
}

/// Writes a dynamic VHDX.
pub struct VhdxWriter {
    blocks: Blocks,
    metadata: Metadata,
    regions: Regions,
    /// File write id and data write id.
    ids: [Guid; 2],
}

impl VhdxWriter {
    /// Makes a new file for a disk of `size` bytes, rounded up to whole sectors.
    ///
    /// # Errors
    /// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) above 64 TiB; [`Kind::Invalid`](cairn_base::Kind::Invalid)
    /// for options that no VHDX has; [`Kind::Exists`](cairn_base::Kind::Exists) if there is something of that name; what
    /// the operating system says.
    pub fn create(path: &Path, size: u64, options: VhdxOptions) -> Result<VhdxWriter> {
        VhdxWriter::over(|| Target::create(path), size, options, false)
    }

    /// As [`create`](VhdxWriter::create), to a file that is open for reading and writing. If it may hold data, best the
    /// beginning of the same image, blocks that are given places in the same order lie where they lay, and what is neither
    /// written nor kept becomes zeros.
    ///
    /// # Errors
    /// As [`create`](VhdxWriter::create), but for what is there already.
    pub fn onto(
        file: File,
        path: &Path,
        size: u64,
        options: VhdxOptions,
        may_hold_data: bool,
    ) -> Result<VhdxWriter> {
        VhdxWriter::over(|| Target::of(file, path), size, options, may_hold_data)
    }

    fn over(
        target: impl FnOnce() -> Result<Target>,
        size: u64,
        options: VhdxOptions,
        may_hold_data: bool,
    ) -> Result<VhdxWriter> {
        let sector_size = options.sector_size;
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
        let block_size = options.block_size.unwrap_or(default_block_size(disk_size));
        if !block_size.is_power_of_two() || !(1 << 20..=256 << 20).contains(&block_size) {
            return Err(Error::invalid(format!(
                "a VHDX has no blocks of {block_size} bytes"
            )));
        }
        let count = div_up(disk_size, u64::from(block_size)).unwrap_or(0);
        let entries = bat::entries(count, bat::chunk_ratio(block_size, sector_size));
        let table = round_up(entries.saturating_mul(8).max(1), ALIGNMENT).unwrap_or(ALIGNMENT);
        let regions = Regions {
            bat: BAT..BAT.saturating_add(table),
            metadata: METADATA..BAT,
        };
        let layout = Layout {
            disk_size,
            block_size: u64::from(block_size),
            prefix: Vec::new(),
            alignment: ALIGNMENT,
            start: regions.bat.end,
        };
        let metadata = Metadata {
            block_size,
            leave_allocated: false,
            disk_size,
            disk_id: match options.disk_id {
                Some(id) => id,
                None => Guid(random()?),
            },
            logical_sector: sector_size,
            physical_sector: 4096,
            parent: None,
        };
        Ok(VhdxWriter {
            blocks: Blocks::new(target()?, layout, may_hold_data)?,
            metadata,
            regions,
            ids: [Guid(random()?), Guid(random()?)],
        })
    }
}

/// The block table, in which `places` says where each block's data lie.
fn block_table(metadata: &Metadata, regions: &Regions, places: &[u64]) -> Result<Vec<u8>> {
    let ratio = bat::chunk_ratio(metadata.block_size, metadata.logical_sector);
    let length = regions.bat.end.saturating_sub(regions.bat.start);
    let mut table = vec![0; to_usize(length)?];
    let (entries, _) = table.as_chunks_mut::<8>();
    for (block, &place) in (0u64..).zip(places) {
        // A block that is not there has the entry 0, as have the sector bitmaps of a disk without a parent.
        if place != 0
            && let Some(entry) = entries.get_mut(to_usize(bat::index(block, ratio))?)
        {
            *entry = bat::present(place).to_le_bytes();
        }
    }
    Ok(table)
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

impl DiskWriter for VhdxWriter {
    fn size(&self) -> u64 {
        self.blocks.disk_size()
    }

    fn reserve(&self, range: Range<u64>) -> Result<()> {
        self.blocks.reserve(range)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.blocks.write(offset, data)
    }

    fn write_zeros(&self, range: Range<u64>) -> Result<()> {
        self.blocks.zero(range)
    }

    fn read_back(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.blocks.read(offset, buffer)
    }

    fn keep(&self, range: Range<u64>) {
        self.blocks.keep(range);
    }

    fn finish(self: Box<Self>) -> Result<Written> {
        let [file_write_id, data_write_id] = self.ids;
        let done = self.blocks.finish()?;
        let target = done.target;
        let table = block_table(&self.metadata, &self.regions, &done.places)?;
        target.write(self.regions.bat.start, &table)?;
        target.write(self.regions.metadata.start, &self.metadata.encode())?;
        let table = self.regions.encode();
        for offset in region::OFFSETS {
            target.write(offset, &table)?;
        }
        for (sequence, offset) in (1..).zip(header::OFFSETS) {
            let header = Header {
                sequence,
                file_write_id,
                data_write_id,
                log_id: Guid::NIL,
                log_version: 0,
                log_length: u32::try_from(METADATA.saturating_sub(LOG)).unwrap_or(0),
                log_offset: LOG,
            };
            target.write(offset, &header.encode())?;
        }
        let creator: Vec<u8> = concat!("Cairn ", env!("CARGO_PKG_VERSION"))
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        target.write(0, &[SIGNATURE, &creator[..]].concat())?;
        Ok(Written {
            disk_size: self.metadata.disk_size,
            file_size: done.end,
            data_bytes: done.data_bytes,
            sync: target.sync()?,
        })
    }
}
