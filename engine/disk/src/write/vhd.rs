//! Dynamic VHDs.

use super::blocks::Blocks;
use super::target::Target;
use super::{DiskWriter, Written, id_or_random, now};
use crate::guid::Guid;
use crate::vhd::made::Made;
use cairn_base::Result;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

/// Writes a dynamic VHD with blocks of 2 MiB.
pub struct VhdWriter {
    blocks: Blocks,
    made: Made,
    id: Guid,
}

impl VhdWriter {
    /// Makes a new file for a disk of `size` bytes, rounded up to whole sectors of 512 bytes; `id` becomes the disk's
    /// unique id, a random one without it.
    ///
    /// The size is exact, and not rounded to what cylinders, heads and sectors can say: the creator is written as
    /// `win `, so that `qemu-img` too takes the size for the size.
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
        let made = Made::new(size)?;
        let id = id_or_random(id)?;
        Ok(VhdWriter {
            blocks: Blocks::new(target()?, made.layout()?, may_hold_data)?,
            made,
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
        let done = self.blocks.finish()?;
        let mut table = Vec::new();
        for &place in &done.places {
            table.extend_from_slice(&Made::entry((place != 0).then_some(place))?);
        }
        table.resize(table.len().next_multiple_of(512), 0xff);
        let target = done.target;
        let file_size = self.made.file_size(done.end);
        target.set_size(file_size)?;
        let (table_offset, _) = self.made.table();
        target.write(table_offset, &table)?;
        for (offset, bytes) in self.made.rest(self.id, now(), done.end) {
            target.write(offset, &bytes)?;
        }
        Ok(Written {
            disk_size: self.made.disk_size(),
            file_size,
            data_bytes: done.data_bytes,
            sync: target.sync()?,
        })
    }
}
