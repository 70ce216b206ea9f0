//! Dynamic VHDXs.

use super::blocks::Blocks;
use super::target::Target;
use super::{DiskWriter, Written, id_or_random};
use crate::align::to_usize;
use crate::guid::Guid;
use crate::vhdx::made::{Ids, Made};
use cairn_base::Result;
use cairn_base::units::to_u64;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

/// Bytes of the block table that are written at once.
const PIECE: usize = 1 << 20;
/// Entries that are not there are written as zeros between others, up to so many bytes of them.
const MAX_GAP: u64 = 4096;

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
        let ids = new_ids(options.disk_id)?;
        Ok(VhdxWriter {
            blocks: Blocks::new(target()?, made.layout(), may_hold_data)?,
            made,
            ids,
        })
    }
}

/// Ids of an image that nobody has seen yet.
pub(super) fn new_ids(disk: Option<Guid>) -> Result<Ids> {
    Ok(Ids {
        disk: id_or_random(disk)?,
        file_write: id_or_random(None)?,
        data_write: id_or_random(None)?,
    })
}

/// Writes the table's entries of blocks that are there: `places` says which, ascending, and where each one's data lie. The table is zeros
/// so far, and stays a hole of the file where there are no blocks.
pub(super) fn write_table(
    target: &Target,
    made: &Made,
    places: impl Iterator<Item = (u64, u64)>,
) -> Result<()> {
    let mut piece: Vec<u8> = Vec::new();
    let mut start = made.table().0;
    for (block, place) in places {
        let at = made.entry_at(block);
        let gap = at.saturating_sub(start.saturating_add(to_u64(piece.len())));
        if gap > MAX_GAP || piece.len() >= PIECE {
            target.write(start, &piece)?;
            piece.clear();
        }
        if piece.is_empty() {
            start = at;
        }
        piece.resize(to_usize(at.saturating_sub(start))?, 0);
        piece.extend_from_slice(&Made::entry(Some(place)));
    }
    target.write(start, &piece)
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
        let places = (0..).zip(done.places).filter(|(_, place)| *place != 0);
        write_table(&target, &self.made, places)?;
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
