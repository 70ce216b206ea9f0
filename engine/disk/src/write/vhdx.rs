//! Dynamic VHDXs.

use super::blocks::Blocks;
use super::target::Target;
use super::{DiskWriter, Written};
use crate::align::to_usize;
use crate::guid::Guid;
use crate::vhdx::bat;
use crate::vhdx::made::{Ids, Made};
use cairn_base::Result;
use cairn_base::ids::random;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

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
    made: Made,
    ids: Ids,
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
        let made = Made::new(size, options.sector_size, options.block_size)?;
        let ids = Ids {
            disk: match options.disk_id {
                Some(id) => id,
                None => Guid(random()?),
            },
            file_write: Guid(random()?),
            data_write: Guid(random()?),
        };
        Ok(VhdxWriter {
            blocks: Blocks::new(target()?, made.layout(), may_hold_data)?,
            made,
            ids,
        })
    }
}

/// The block table, in which `places` says where each block's data lie.
fn block_table(made: &Made, places: &[u64]) -> Result<Vec<u8>> {
    let (_, length) = made.table();
    let mut table = vec![0; to_usize(length)?];
    let (entries, _) = table.as_chunks_mut::<8>();
    for (block, &place) in (0u64..).zip(places) {
        if let Some(entry) = entries.get_mut(to_usize(bat::index(block, made.ratio()))?) {
            *entry = Made::entry((place != 0).then_some(place));
        }
    }
    Ok(table)
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
        let done = self.blocks.finish()?;
        let target = done.target;
        let (table_offset, _) = self.made.table();
        target.write(table_offset, &block_table(&self.made, &done.places)?)?;
        for (offset, bytes) in self.made.rest(&self.ids) {
            target.write(offset, &bytes)?;
        }
        Ok(Written {
            disk_size: self.made.disk_size(),
            file_size: done.end,
            data_bytes: done.data_bytes,
            sync: target.sync()?,
        })
    }
}
