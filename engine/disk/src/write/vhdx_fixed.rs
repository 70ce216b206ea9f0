//! Fixed VHDXs.

use super::target::Target;
use super::vhdx::{new_ids, write_table};
use super::whole::Whole;
use super::{DiskWriter, VhdxOptions, Written};
use crate::layout::Fixed;
use crate::vhdx::made::{Ids, Made};
use cairn_base::Result;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

/// Writes a fixed VHDX: every block is there, one behind the other in disk order, and says so. What is zeros is a hole of the file.
///
/// Entries of sector bitmaps, which are never there, stand in the block table as in that of any VHDX (\[MS-VHDX\] 2.5: "the same for all
/// types"). libvhdi takes it that a fixed one has none (20210425, and since), and reads wrong bytes behind the first chunk of one, whoever made
/// it: 4 GiB, 32 GiB with sectors of 4096 bytes.
pub struct FixedVhdxWriter {
    whole: Whole,
    made: Made,
    blocks: Fixed,
    ids: Ids,
}

impl FixedVhdxWriter {
    /// Makes a new file for a disk of `size` bytes, rounded up to whole sectors. The file is as long as all blocks are.
    ///
    /// # Errors
    /// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) above 64 TiB; [`Kind::Invalid`](cairn_base::Kind::Invalid)
    /// for options that no VHDX has; [`Kind::Exists`](cairn_base::Kind::Exists) if there is something of that name; what
    /// the operating system says, for a file longer than its file system takes too.
    pub fn create(path: &Path, size: u64, options: VhdxOptions) -> Result<FixedVhdxWriter> {
        FixedVhdxWriter::over(|| Target::create(path), size, options, false)
    }

    /// As [`create`](FixedVhdxWriter::create), to a file that is open for reading and writing. If it may hold data, what is neither
    /// written nor kept becomes zeros.
    ///
    /// # Errors
    /// As [`create`](FixedVhdxWriter::create), but for what is there already.
    pub fn onto(
        file: File,
        path: &Path,
        size: u64,
        options: VhdxOptions,
        may_hold_data: bool,
    ) -> Result<FixedVhdxWriter> {
        FixedVhdxWriter::over(|| Target::of(file, path), size, options, may_hold_data)
    }

    fn over(
        target: impl FnOnce() -> Result<Target>,
        size: u64,
        options: VhdxOptions,
        may_hold_data: bool,
    ) -> Result<FixedVhdxWriter> {
        let made = Made::new(size, options.sector_size, options.block_size)?.fixed();
        let ids = new_ids(options.disk_id)?;
        let blocks = made.layout().fixed()?;
        let target = target()?;
        // Headers and tables come last: until then nobody takes the file for an image, neither what it was nor what it becomes.
        target.zero(0..blocks.start.min(target.length()?))?;
        // Cut where the disk ends, so that the rest of the last block is zeros.
        target.set_size(blocks.start.saturating_add(made.disk_size()))?;
        target.set_size(blocks.end)?;
        Ok(FixedVhdxWriter {
            whole: Whole::new(target, blocks.start, made.disk_size(), may_hold_data),
            made,
            blocks,
            ids,
        })
    }
}

impl DiskWriter for FixedVhdxWriter {
    fn size(&self) -> u64 {
        self.whole.size()
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.whole.write(offset, data)
    }

    fn write_zeros(&self, range: Range<u64>) -> Result<()> {
        self.whole.zero(range)
    }

    fn read_back(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.whole.read(offset, buffer)
    }

    fn keep(&self, range: Range<u64>) {
        self.whole.keep(range);
    }

    fn finish(self: Box<Self>) -> Result<Written> {
        let (target, data_bytes) = self.whole.finish()?;
        let places = (0..self.blocks.count).map(|block| (block, self.blocks.place(block)));
        write_table(&target, &self.made, places)?;
        for (offset, bytes) in self.made.rest(&self.ids) {
            target.write(offset, &bytes)?;
        }
        Ok(Written {
            disk_size: self.made.disk_size(),
            file_size: self.blocks.end,
            data_bytes,
            sync: target.sync()?,
        })
    }
}
