//! The files an overlay stands on.

use cairn_base::units::to_u64;
use cairn_base::{Error, Result};
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::File;
use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A file that grows where it is written to, and may have holes.
pub(super) trait Scratch: Send + Sync {
    /// Fills `buffer`. What was never written reads as zeros, also beyond the end.
    ///
    /// # Errors
    /// As the operating system reports.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()>;

    /// Writes all of `bytes`; after an error any part of them.
    ///
    /// # Errors
    /// [`Kind::Full`](crate::Kind::Full) if the disk is; as the operating system reports.
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Gives back the room of bytes that nobody reads any more, where the file system can.
    fn punch(&self, range: Range<u64>);

    /// Makes durable what was written.
    ///
    /// # Errors
    /// As the operating system reports. Then nobody knows what of it is.
    fn sync(&self) -> Result<()>;

    /// Bytes of disk it takes, as far as is known.
    fn used(&self) -> u64;
}

/// A file of this machine.
pub(super) struct ScratchFile {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

impl ScratchFile {
    pub(super) fn new(file: File, path: &Path) -> ScratchFile {
        ScratchFile {
            file,
            path: path.to_path_buf(),
        }
    }
}

impl Scratch for ScratchFile {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(to_u64(done));
            match self.file.read_at(rest, at) {
                Ok(0) => {
                    rest.fill(0);
                    return Ok(());
                }
                Ok(length) => done += length,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => {
                    return Err(
                        Error::io("cannot read the scratch file", &self.path, e).at_offset(at)
                    );
                }
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|e| {
            Error::io("cannot write the scratch file", &self.path, e).at_offset(offset)
        })
    }

    fn punch(&self, range: Range<u64>) {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let length = range.end.saturating_sub(range.start);
        // The room is not needed for anything to be right.
        let _not_everywhere = fallocate(&self.file, flags, range.start, length);
    }

    fn sync(&self) -> Result<()> {
        self.file
            .sync_data()
            .map_err(|e| Error::io("cannot make the scratch file durable", &self.path, e))
    }

    fn used(&self) -> u64 {
        let found = self.file.metadata();
        found.map_or(0, |found| found.blocks().saturating_mul(512))
    }
}
