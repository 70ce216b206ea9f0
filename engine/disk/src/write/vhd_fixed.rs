//! Fixed VHDs.

use super::target::Target;
use super::whole::Whole;
use super::{DiskWriter, Written, id_or_random, now};
use crate::guid::Guid;
use crate::vhd::footer::COOKIE;
use crate::vhd::{SECTOR, made};
use cairn_base::units::to_u64;
use cairn_base::{Error, Result};
use std::fs::File;
use std::ops::Range;
use std::path::Path;

/// Writes a fixed VHD: the disk's bytes, and a footer behind them. What is zeros is a hole of the file.
///
/// A disk that itself begins with the footer of a VHD (`conectix`) is taken for a dynamic VHD by programs that look there first, as QEMU does.
pub struct FixedVhdWriter {
    whole: Whole,
    id: Guid,
}

impl FixedVhdWriter {
    /// Makes a new file for a disk of `size` bytes, rounded up to whole sectors of 512 bytes; `id` becomes the disk's
    /// unique id, a random one without it.
    ///
    /// The size is exact, and not rounded to what cylinders, heads and sectors can say: the creator is written as
    /// `win `, so that `qemu-img` too takes the size for the size. Azure wants disks of whole MiB, which is the caller's to add.
    ///
    /// # Errors
    /// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) above 2040 GiB, and for a disk of no bytes, whose footer would be the start of the
    /// file, as in a dynamic VHD; [`Kind::Exists`](cairn_base::Kind::Exists) if there is something of that name; what the operating system says.
    pub fn create(path: &Path, size: u64, id: Option<Guid>) -> Result<FixedVhdWriter> {
        FixedVhdWriter::over(|| Target::create(path), size, id, false)
    }

    /// As [`create`](FixedVhdWriter::create), to a file that is open for reading and writing. If it may hold data, what is neither
    /// written nor kept becomes zeros.
    ///
    /// # Errors
    /// As [`create`](FixedVhdWriter::create), but for what is there already.
    pub fn onto(
        file: File,
        path: &Path,
        size: u64,
        id: Option<Guid>,
        may_hold_data: bool,
    ) -> Result<FixedVhdWriter> {
        FixedVhdWriter::over(|| Target::of(file, path), size, id, may_hold_data)
    }

    fn over(
        target: impl FnOnce() -> Result<Target>,
        size: u64,
        id: Option<Guid>,
        may_hold_data: bool,
    ) -> Result<FixedVhdWriter> {
        let size = made::disk_size(size)?;
        if size == 0 {
            return Err(Error::unsupported(
                "a fixed VHD has at least one sector, and the disk has none",
            )
            .advise("write it as raw"));
        }
        let target = target()?;
        // The footer comes last: until then nobody takes the file for an image. One that is there goes with what is behind the
        // disk, and that of a dynamic VHD with its first sector.
        target.set_size(size)?;
        if may_hold_data {
            let mut begins = *COOKIE;
            target.read(0, &mut begins)?;
            if begins == *COOKIE {
                target.zero(0..SECTOR)?;
            }
        }
        Ok(FixedVhdWriter {
            whole: Whole::new(target, 0, size, may_hold_data),
            id: id_or_random(id)?,
        })
    }
}

impl DiskWriter for FixedVhdWriter {
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
        let disk_size = self.whole.size();
        let (target, data_bytes) = self.whole.finish()?;
        let footer = made::fixed_footer(disk_size, self.id, now());
        target.write(disk_size, &footer)?;
        Ok(Written {
            disk_size,
            file_size: disk_size.saturating_add(to_u64(footer.len())),
            data_bytes,
            sync: target.sync()?,
        })
    }
}
