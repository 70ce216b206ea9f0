//! The threads of a restore: each reads, checks and writes regions of its own.

use super::Restored;
use super::plan::{Found, Plan};
use cairn_base::AlignedBuffer;
use cairn_base::units::to_u64;
use cairn_base::{Error, Monitor, Result, Stage};
use cairn_disk::DiskWriter;
use cairn_store::map::{Leaf, REGION};
use cairn_store::{RegionMap, RegionReader, StoredDisk};
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What is written is widened to whole blocks of this size, so that it can be written directly.
const BLOCK: usize = 4096;
/// Threads at most: each holds a region.
const MAX_THREADS: usize = 8;

/// What the threads share.
struct Work<'a> {
    stored: &'a StoredDisk,
    writer: &'a dyn DiskWriter,
    /// Whether what the target has is looked at, and kept where it is right.
    resume: bool,
    monitor: &'a dyn Monitor,
    plan: Plan<'a>,
    stop: AtomicBool,
    kept: AtomicU64,
}

/// Writes `stored` by `writer` and finishes it. With `resume` only what differs from what the target has.
pub(super) fn restore_disk(
    stored: &StoredDisk,
    writer: Box<dyn DiskWriter>,
    resume: bool,
    monitor: &dyn Monitor,
) -> Result<Restored> {
    let size = stored.tree().shape().size();
    monitor.begin(Stage::Restore, size);
    let found = |found: Found| match found {
        Found::Data(range) => writer.reserve(range),
        Found::Zeros(range) => {
            monitor.advance(Stage::Restore, range.end.saturating_sub(range.start));
            Ok(())
        }
    };
    let work = Work {
        stored,
        writer: &*writer,
        resume,
        monitor,
        plan: Plan::new(stored, &found),
        stop: AtomicBool::new(false),
        kept: AtomicU64::new(0),
    };
    let result = work.run();
    let kept = work.kept.load(Ordering::Relaxed);
    monitor.finish(Stage::Restore);
    result?;
    let written = writer.finish()?;
    Ok(Restored {
        disk_bytes: size,
        data_bytes: written.data_bytes,
        resumed_bytes: kept,
        sync: written.sync,
    })
}

impl Work<'_> {
    fn run(&self) -> Result<()> {
        // While some wait for the disk, others decode.
        let threads = std::thread::available_parallelism()
            .map_or(2, usize::from)
            .saturating_mul(2)
            .min(MAX_THREADS);
        let failed = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    if let Err(error) = self.worker() {
                        self.stop.store(true, Ordering::Relaxed);
                        // The first one counts.
                        failed.lock().get_or_insert(error);
                    }
                });
            }
        });
        failed.into_inner().map_or(Ok(()), Err)
    }

    fn worker(&self) -> Result<()> {
        let mut reader = RegionReader::new(self.stored.tree());
        let mut buffer = AlignedBuffer::new(usize::try_from(REGION).unwrap_or(0));
        while !self.stop.load(Ordering::Relaxed) {
            if self.monitor.stop_requested() {
                return Err(Error::interrupted());
            }
            let Some(region) = self.plan.next()? else {
                break;
            };
            let length = self.stored.tree().shape().region_length(region);
            let bytes = buffer
                .get_mut(..usize::try_from(length).unwrap_or(0))
                .unwrap_or_default();
            self.region(&mut reader, region, bytes)?;
            self.monitor.advance(Stage::Restore, length);
        }
        Ok(())
    }

    fn region(&self, reader: &mut RegionReader, region: u64, bytes: &mut [u8]) -> Result<()> {
        let RegionMap::Leaf(leaf) = reader.map(region)? else {
            return Ok(());
        };
        let start = region.saturating_mul(REGION);
        let at = |within: usize| start.saturating_add(to_u64(within));
        let data = leaf.data();
        let missing = if self.resume {
            for data in &data {
                let bytes = bytes.get_mut(data.clone()).unwrap_or_default();
                self.writer.read_back(at(data.start), bytes)?;
                self.writer.keep(at(data.start)..at(data.end));
            }
            Some(reader.missing(&leaf, bytes))
        } else {
            None
        };
        let is_missing = |number: usize| match &missing {
            Some(missing) => missing.get(number).copied().unwrap_or(true),
            None => true,
        };
        reader.read(region, &leaf, &is_missing, bytes)?;
        let to_write = match &missing {
            None => data,
            Some(_) => {
                let (to_write, kept) = differing(&leaf, &data, &is_missing);
                self.kept.fetch_add(kept, Ordering::Relaxed);
                to_write
            }
        };
        for range in to_write {
            let bytes = bytes.get(range.clone()).unwrap_or_default();
            self.writer.write_at(at(range.start), bytes)?;
        }
        Ok(())
    }
}

/// What is to be written if only some extents are missing: whole blocks, within the `data` of the region. And the
/// bytes of the others.
fn differing(
    leaf: &Leaf,
    data: &[Range<usize>],
    is_missing: &dyn Fn(usize) -> bool,
) -> (Vec<Range<usize>>, u64) {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut kept = 0u64;
    let mut runs = data.iter().peekable();
    for (number, part) in leaf.parts().enumerate() {
        if part.extent.chunk.is_none() {
            continue;
        }
        if !is_missing(number) {
            kept = kept.saturating_add(u64::from(part.extent.length));
            continue;
        }
        // Runs of data begin at whole blocks, and end at one or where the disk ends.
        while runs.next_if(|run| run.end <= part.start).is_some() {}
        let limit = runs.peek().map_or(part.end(), |run| run.end);
        let start = part.start.saturating_sub(part.start % BLOCK);
        let end = part.end().next_multiple_of(BLOCK).min(limit);
        match ranges.last_mut() {
            Some(last) if last.end >= start => last.end = last.end.max(end),
            _ => ranges.push(start..end),
        }
    }
    (ranges, kept)
}
