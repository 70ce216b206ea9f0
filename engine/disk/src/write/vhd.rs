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
            blocks: Blocks::new(Target::create(path)?, layout)?,
            table_offset,
            id,
        })
    }
}

impl DiskWriter for VhdWriter {
    fn size(&self) -> u64 {
        self.blocks.disk_size()
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        self.blocks.write(offset, data)
    }

    fn write_zeros(&mut self, range: Range<u64>) -> Result<()> {
        self.blocks.zero(range)
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
        let header = DynamicHeader {
            table_offset: self.table_offset,
            entries: u32::try_from(self.blocks.places().len()).unwrap_or(UNUSED),
            block_size: BLOCK_SIZE,
        };
        let prefix = bitmap::size(BLOCK_SIZE);
        let mut table = Vec::new();
        for &place in self.blocks.places() {
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
        let target = self.blocks.target();
        let end = self.blocks.end();
        let file_size = end.saturating_add(to_u64(footer::SIZE));
        // The last block is there in full, even if only its beginning was written.
        target.set_size(file_size)?;
        target.write(self.table_offset, &table)?;
        target.write(SECTOR, &header.encode())?;
        target.write(end, &footer)?;
        target.write(0, &footer)?;
        Ok(Written {
            disk_size: size,
            file_size,
            data_bytes: self.blocks.data_bytes(),
            sync: target.sync()?,
        })
    }
}
