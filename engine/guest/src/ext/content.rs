//! The bytes of a file.

use super::group::Core;
use super::inode::{Inode, flag};
use super::mapping::{Mapping, Segment};
use super::number::clamp;
use crate::volume::{Extent, ExtentSink, Reading};
use cairn_base::read_at::{check_range, clip};
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result};
use std::ops::Range;
use std::sync::Arc;

/// Runs of a file that are kept in memory when it is opened; files in more pieces are looked up at each read.
const KEPT: usize = 1024;
/// Runs listed by one question for the parts that hold data; the rest is said to be data.
const LISTED: usize = 1 << 17;
/// Look-ups for one run, or for the runs kept, at most: a damaged map can be in pieces that merge without end.
const MERGED: usize = 64;

/// A file whose blocks lie on the device.
pub(super) struct Content {
    core: Arc<Core>,
    mapping: Mapping,
    size: u64,
    /// All runs, from block 0 to the end, where they are few.
    runs: Option<Vec<Segment>>,
}

impl Content {
    pub fn new(core: Arc<Core>, inode: &Inode) -> Content {
        let mapping = Mapping::of(inode, core.sb.metadata_csum());
        let mut content = Content {
            core,
            mapping,
            size: inode.size,
            runs: None,
        };
        // A damaged map is told by the reads that meet the damage; the rest stays readable.
        content.runs = content.collect().unwrap_or(None);
        content
    }

    fn end_block(&self) -> u64 {
        self.size.div_ceil(u64::from(self.core.sb.block_size))
    }

    fn collect(&self) -> Result<Option<Vec<Segment>>> {
        let mut runs: Vec<Segment> = Vec::new();
        let (mut at, mut steps) = (0, 0usize);
        while at < self.end_block() {
            steps = steps.saturating_add(1);
            if steps > KEPT.saturating_mul(MERGED) {
                return Ok(None);
            }
            let segment = self.mapping.find(&self.core.blocks, at)?;
            at = segment.end();
            if let Some(last) = runs.last_mut().filter(|last| follows(last, &segment)) {
                last.blocks = last.blocks.saturating_add(segment.blocks);
            } else if runs.len() >= KEPT {
                return Ok(None);
            } else {
                runs.push(segment);
            }
        }
        Ok(Some(runs))
    }

    /// The run from `block` on, merged with what follows it without a gap up to `end`.
    fn run(&self, block: u64, end: u64) -> Result<Segment> {
        if let Some(runs) = &self.runs {
            let index = runs.partition_point(|run| run.end() <= block);
            let run = runs
                .get(index)
                .ok_or_else(|| Error::damaged("a file's map ends before the file"))?;
            let skip = block.saturating_sub(run.logical);
            return Ok(Segment {
                logical: block,
                blocks: run.blocks.saturating_sub(skip),
                physical: run.physical.map(|first| first.saturating_add(skip)),
            });
        }
        let mut run = self.mapping.find(&self.core.blocks, block)?;
        for _ in 0..MERGED {
            if run.end() >= end {
                break;
            }
            // Damage behind this run is told when it is its turn.
            match self.mapping.find(&self.core.blocks, run.end()) {
                Ok(next) if follows(&run, &next) => {
                    run.blocks = run.blocks.saturating_add(next.blocks)
                }
                _ => break,
            }
        }
        Ok(run)
    }

    /// Tells `sink` where the content lies on the device. `stream` and `packing` are those of [`Extent`].
    pub fn extents(&self, stream: Option<u32>, packing: u32, sink: ExtentSink<'_>) -> Result<()> {
        self.walk(0..self.size, |part, at| {
            let Some(at) = at else { return Ok(true) };
            let length = part.end.saturating_sub(part.start);
            let extent = Extent {
                place: at..at.saturating_add(length),
                stream,
                offset: part.start,
                reading: Reading {
                    valid: self.size,
                    packing,
                },
            };
            Ok(sink(extent).is_continue())
        })
    }

    /// Walks the runs of `range` (bytes): the range of the file and where its first byte lies on the device.
    fn walk(
        &self,
        range: Range<u64>,
        mut each: impl FnMut(Range<u64>, Option<u64>) -> Result<bool>,
    ) -> Result<()> {
        let shift = self.core.sb.block_shift;
        let unit = u64::from(self.core.sb.block_size);
        let mut at = range.start;
        while at < range.end {
            let block = at >> shift;
            let run = self.run(block, range.end.div_ceil(unit))?;
            let end = run
                .end()
                .saturating_mul(unit)
                .min(range.end)
                .max(at.saturating_add(1));
            let inner = at.saturating_sub(block.saturating_mul(unit));
            let device = run
                .physical
                .map(|first| self.core.blocks.offset(first).saturating_add(inner));
            if !each(at..end, device)? {
                return Ok(());
            }
            at = end;
        }
        Ok(())
    }
}

fn follows(last: &Segment, next: &Segment) -> bool {
    match (last.physical, next.physical) {
        (None, None) => true,
        (Some(first), Some(second)) => first.saturating_add(last.blocks) == second,
        _ => false,
    }
}

impl ReadAt for Content {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size, offset, buffer.len())?;
        let end = offset.saturating_add(to_u64(buffer.len()));
        let device = self.core.blocks.device();
        let mut rest = buffer;
        self.walk(offset..end, |range, at| {
            let length = clamp(range.end.saturating_sub(range.start));
            let (part, behind) = std::mem::take(&mut rest)
                .split_at_mut_checked(length)
                .ok_or_else(|| Error::damaged("a run is longer than what was asked for"))?;
            rest = behind;
            match at {
                None => part.fill(0),
                Some(at) => {
                    if at
                        .checked_add(to_u64(length))
                        .is_none_or(|end| end > device.size())
                    {
                        return Err(Error::damaged(
                            "file content lies beyond the end of the device",
                        )
                        .at_offset(at));
                    }
                    device.read_exact_at(at, part)?;
                }
            }
            Ok(true)
        })
    }

    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let range = clip(range, self.size);
        let mut extents: Vec<Range<u64>> = Vec::new();
        let mut runs = 0usize;
        self.walk(range.clone(), |part, at| {
            runs = runs.saturating_add(1);
            let last = runs >= LISTED;
            let part = if last { part.start..range.end } else { part };
            if at.is_some() || last {
                match extents.last_mut() {
                    Some(before) if before.end == part.start => before.end = part.end,
                    _ => extents.push(part),
                }
            }
            Ok(!last)
        })?;
        Ok(extents)
    }

    fn will_need(&self, range: Range<u64>) {
        // Only where it costs no look-up.
        if self.runs.is_some() {
            let device = self.core.blocks.device();
            let _ = self.walk(clip(range, self.size), |part, at| {
                if let Some(at) = at {
                    let length = part.end.saturating_sub(part.start);
                    device.will_need(at..at.saturating_add(length));
                }
                Ok(true)
            });
        }
    }
}

/// The content of a file kept in its inode: 60 bytes in place of the block pointers, the rest in the attribute
/// `system.data`.
///
/// # Errors
/// Damaged if the inode holds less than the file's size.
pub(super) fn inline(inode: &Inode, more: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = inode.area.to_vec();
    bytes.extend_from_slice(more);
    if to_u64(bytes.len()) < inode.size {
        return Err(Error::damaged(format!(
            "inode {} holds less content than its size says",
            inode.number
        )));
    }
    bytes.truncate(clamp(inode.size));
    Ok(bytes)
}

/// Refuses content that is not plain bytes.
pub(super) fn check_plain(inode: &Inode) -> Result<()> {
    if inode.has(flag::ENCRYPTED) {
        return Err(
            Error::unsupported(format!("inode {} is encrypted (fscrypt)", inode.number))
                .advise("only the guest itself, with its key, reads it"),
        );
    }
    if inode.has(flag::COMPRESSED) {
        return Err(Error::unsupported(format!(
            "inode {} is compressed (e2compr)",
            inode.number
        )));
    }
    Ok(())
}
