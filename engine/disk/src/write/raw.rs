//! Raw images: a sparse file, or a block device.

use super::edges::Edges;
use super::target::Target;
use super::whole::Whole;
use super::{DiskWriter, Written};
use cairn_base::Result;
use cairn_base::read_at::{check_range, clip};
use cairn_base::units::to_u64;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

/// Writes a raw image.
pub struct RawWriter {
    whole: Whole,
    file_size: u64,
    /// What is written last.
    edges: Option<Edges>,
}

impl RawWriter {
    /// Makes a new file of exactly `size` bytes, all holes.
    ///
    /// # Errors
    /// [`Kind::Exists`](cairn_base::Kind::Exists) if there is something of that name; what the operating system says.
    pub fn create(path: &Path, size: u64) -> Result<RawWriter> {
        RawWriter::over(Target::create(path)?, size, false)
    }

    /// Writes to a file or block device that is open for reading and writing. Of a device the first and the last MiB are made zeros at once, and written
    /// when everything else is on stable storage. A file becomes exactly `size` bytes long;
    /// what a device has behind them is left alone. With `target_may_hold_data` everything that is neither written nor kept
    /// becomes zeros when the writer is finished; without it the caller knows that the target reads as zeros.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) if a device is smaller than the disk.
    pub fn onto(
        file: File,
        path: &Path,
        size: u64,
        target_may_hold_data: bool,
    ) -> Result<RawWriter> {
        let writer = RawWriter::over(Target::of(file, path)?, size, target_may_hold_data)?;
        if writer.whole.target().is_device() {
            writer.edges_last()
        } else {
            Ok(writer)
        }
    }

    fn edges_last(mut self) -> Result<RawWriter> {
        let edges = Edges::of(self.whole.size());
        let target = self.whole.target();
        for range in edges.ranges() {
            target.zero(range.clone())?;
        }
        target.sync()?;
        self.edges = Some(edges);
        Ok(self)
    }

    fn over(target: Target, size: u64, may_hold_data: bool) -> Result<RawWriter> {
        Ok(RawWriter {
            file_size: target.set_size(size)?,
            whole: Whole::new(target, 0, size, may_hold_data),
            edges: None,
        })
    }
}

impl DiskWriter for RawWriter {
    fn size(&self) -> u64 {
        self.whole.size()
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        let Some(edges) = &self.edges else {
            return self.whole.write(offset, data);
        };
        check_range(self.whole.size(), offset, data.len())?;
        edges.keep(offset, data.len(), &|from, to| {
            if let Some(from) = data.get(from) {
                to.copy_from_slice(from);
            }
        });
        let range = offset..offset.saturating_add(to_u64(data.len()));
        let between = edges.between(&range);
        let within = |at: u64| usize::try_from(at.saturating_sub(offset)).unwrap_or(0);
        let inner = data.get(within(between.start)..within(between.end));
        let inner = inner.unwrap_or_default();
        self.whole.write(between.start, inner)?;
        self.whole
            .count(to_u64(data.len().saturating_sub(inner.len())));
        self.whole.keep(range);
        Ok(())
    }

    fn write_zeros(&self, range: Range<u64>) -> Result<()> {
        let range = clip(range, self.whole.size());
        let Some(edges) = &self.edges else {
            return self.whole.zero(range);
        };
        let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        edges.keep(range.start, length, &|_, to| to.fill(0));
        self.whole.zero(edges.between(&range))?;
        self.whole.keep(range);
        Ok(())
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
        let mut sync = target.sync()?;
        if let Some(edges) = self.edges {
            for (at, bytes) in edges.into_parts() {
                target.write(at, &bytes)?;
            }
            sync = sync.saturating_add(target.sync()?);
        }
        Ok(Written {
            disk_size,
            file_size: self.file_size,
            data_bytes,
            sync,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_come_last() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("device");
        for size in [5u64 << 20, (3 << 19) + 512, 4096] {
            let length = usize::try_from(size).unwrap();
            std::fs::write(&path, vec![0xee; length]).unwrap();
            let wanted: Vec<u8> = (0..length).map(|at| (at / 512 % 251) as u8).collect();
            let hole = length / 8 * 3..length / 8 * 5;
            let file = File::options().read(true).write(true).open(&path).unwrap();
            let writer = RawWriter::over(Target::of(file, &path).unwrap(), size, true).unwrap();
            let writer = writer.edges_last().unwrap();
            for (at, part) in wanted.chunks(100_000).enumerate() {
                let at = at * 100_000;
                let data = at..at + part.len();
                if !(hole.start < data.end && data.start < hole.end) {
                    writer.write_at(to_u64(at), part).unwrap();
                }
            }
            let before = std::fs::read(&path).unwrap();
            let edge = length.min(1 << 20);
            assert!(before[..edge].iter().all(|byte| *byte == 0), "{size}");
            assert!(
                before[length - edge..].iter().all(|byte| *byte == 0),
                "{size}"
            );
            for (at, part) in wanted.chunks(100_000).enumerate() {
                let at = at * 100_000;
                let data = at..at + part.len();
                if hole.start < data.end && data.start < hole.end {
                    writer.write_at(to_u64(at), part).unwrap();
                }
            }
            writer
                .write_zeros(to_u64(hole.start)..to_u64(hole.end))
                .unwrap();
            Box::new(writer).finish().unwrap();
            let mut wanted = wanted;
            wanted[hole].fill(0);
            assert!(std::fs::read(&path).unwrap() == wanted, "{size}");
        }
    }
}
