//! Dynamic VHDs.

use super::blocks::{Blocks, Layout};
use super::target::Target;
use super::{DiskWriter, Written};
use crate::align::{round_up, to_usize};
use crate::guid::Guid;
use crate::vhd::dynamic::{self, DynamicHeader, UNUSED};
use crate::vhd::footer::{self, DiskType, Footer, Geometry};
use crate::vhd::{MAX_SIZE, SECTOR, bitmap};
use cairn_base::units::to_u64;
use cairn_base::{Error, Result};
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// What the specification takes by default, and all that some programs read.
const BLOCK_SIZE: u32 = 2 << 20;
/// 2000-01-01T00:00:00Z, from which a VHD counts seconds.
const EPOCH: Duration = Duration::from_secs(946_684_800);

/// Writes a dynamic VHD with blocks of 2 MiB.
pub struct VhdWriter {
    blocks: Blocks,
    table_offset: u64,
    id: Guid,
}

impl VhdWriter {
    /// Makes a new file for a disk of `size` bytes, rounded up to whole sectors of 512 bytes; `id` becomes the disk's
    /// unique id, a random one without it.
    ///
    /// The size is exact, and not rounded to what cylinders, heads and sectors can say: the creator is written as
    /// `win `, so that `qemu-img` too takes the size for the size. Azure wants whole MiB, which is the caller's to add.
    ///
    /// # Errors
    /// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) above 2040 GiB; [`Kind::Exists`](cairn_base::Kind::Exists)
    /// if there is something of that name; what the operating system says.
    pub fn create(path: &Path, size: u64, id: Option<Guid>) -> Result<VhdWriter> {
        VhdWriter::over(|| Target::create(path), size, id, false)
    }

    /// As [`create`](VhdWriter::create), to a file that is open for reading and writing. If it may hold data, best the beginning
    /// of the same image, blocks that are given places in the same order lie where they lay, and what is neither
    /// written nor kept becomes zeros.
    ///
    /// # Errors
    /// As [`create`](VhdWriter::create), but for what is there already.
    pub fn onto(
        file: File,
        path: &Path,
        size: u64,
        id: Option<Guid>,
        may_hold_data: bool,
    ) -> Result<VhdWriter> {
        VhdWriter::over(|| Target::of(file, path), size, id, may_hold_data)
    }

    fn over(
        target: impl FnOnce() -> Result<Target>,
        size: u64,
        id: Option<Guid>,
        may_hold_data: bool,
    ) -> Result<VhdWriter> {
        let disk_size = match round_up(size, SECTOR) {
            Some(size) if size <= MAX_SIZE => size,
            _ => {
                return Err(Error::unsupported(format!(
                    "a VHD has at most 2040 GiB, and the disk has {size} bytes"
                ))
                .advise("write it as VHDX or raw"));
            }
        };
        let id = match id {
            Some(id) => id,
            None => Guid(cairn_base::ids::random()?),
        };
        let table_offset = SECTOR.saturating_add(to_u64(dynamic::SIZE));
        let table = disk_size.div_ceil(u64::from(BLOCK_SIZE)).saturating_mul(4);
        let layout = Layout {
            disk_size,
            block_size: u64::from(BLOCK_SIZE),
            // All sectors count as written: what was not is a hole of the file and reads as zeros.
            prefix: vec![0xff; to_usize(bitmap::size(BLOCK_SIZE))?],
            // Whole pages, for disks with physical sectors of 4 KiB; the table's end is a sector's in any case.
            alignment: 4096,
            start: table_offset.saturating_add(table).next_multiple_of(SECTOR),
        };
        Ok(VhdWriter {
            blocks: Blocks::new(target()?, layout, may_hold_data)?,
            table_offset,
            id,
        })
    }
}

impl DiskWriter for VhdWriter {
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
        let size = self.size();
        let age = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or(EPOCH)
            .saturating_sub(EPOCH);
        let footer = Footer {
            data_offset: SECTOR,
            timestamp: u32::try_from(age.as_secs()).unwrap_or(0),
            creator: *b"win ",
            current_size: size,
            geometry: Geometry::of(size),
            disk_type: DiskType::Dynamic,
            unique_id: self.id,
            checksum_holds: true,
        }
        .encode();
        let done = self.blocks.finish()?;
        let header = DynamicHeader {
            table_offset: self.table_offset,
            entries: u32::try_from(done.places.len()).unwrap_or(UNUSED),
            block_size: BLOCK_SIZE,
        };
        let prefix = bitmap::size(BLOCK_SIZE);
        let mut table = Vec::new();
        for &place in &done.places {
            // The entry names the bitmap in front of the data, in sectors.
            let sector = place.saturating_sub(prefix) >> 9;
            let entry = match place {
                0 => UNUSED,
                _ => u32::try_from(sector)
                    .map_err(|_| Error::unsupported("the VHD became too large"))?,
            };
            table.extend_from_slice(&entry.to_be_bytes());
        }
        table.resize(table.len().next_multiple_of(512), 0xff);
        let target = done.target;
        let file_size = done.end.saturating_add(to_u64(footer::SIZE));
        target.set_size(file_size)?;
        target.write(self.table_offset, &table)?;
        target.write(SECTOR, &header.encode())?;
        target.write(done.end, &footer)?;
        target.write(0, &footer)?;
        Ok(Written {
            disk_size: size,
            file_size,
            data_bytes: done.data_bytes,
            sync: target.sync()?,
        })
    }
}
