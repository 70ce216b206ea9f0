//! Comparing the stored bytes of a pack with the tags of its frames, without decoding: at the speed of the disk.

use crate::hash::Keys;
use crate::pack::{PackReader, TocChunk, TocFrame};
use cairn_base::AlignedBuffer;
use std::ops::ControlFlow;

/// Bytes that are read at once, so that what is not in the page cache is read past it.
const PIECE: u64 = 1 << 20;
/// Reads begin and end at multiples of this.
const BLOCK: u64 = 4096;

/// A frame with its chunks.
type Frame<'a> = (&'a TocFrame, &'a [TocChunk]);
/// Hears of each frame whether its bytes could be read and match its tag.
pub type Told<'a> = dyn FnMut(&TocFrame, &[TocChunk], bool) + 'a;

/// Compares frames with their tags; one per thread, its buffer is used again.
pub struct TagChecker {
    buffer: AlignedBuffer,
}

impl Default for TagChecker {
    fn default() -> TagChecker {
        TagChecker {
            buffer: AlignedBuffer::new(usize::try_from(PIECE + 2 * BLOCK).unwrap_or(0)),
        }
    }
}

impl TagChecker {
    /// Reads all frames of a pack, some at a time. `before` is told how many bytes are read next, and may break it off.
    pub fn check(
        &mut self,
        keys: &Keys,
        pack: &PackReader,
        before: &mut dyn FnMut(u64) -> ControlFlow<()>,
        told: &mut Told<'_>,
    ) -> ControlFlow<()> {
        let frames: Vec<Frame<'_>> = pack.frames().collect();
        let mut rest = &frames[..];
        while let Some((first, _)) = rest.first() {
            let start = u64::from(first.offset) / BLOCK * BLOCK;
            let fits = |(frame, _): &&Frame<'_>| end_of(frame).saturating_sub(start) <= PIECE;
            let count = rest.iter().take_while(fits).count().max(1);
            let (group, later) = rest.split_at(count.min(rest.len()));
            let stored = group.iter().map(|(frame, _)| u64::from(frame.stored));
            before(stored.sum())?;
            self.group(keys, pack, start, group, told);
            rest = later;
        }
        ControlFlow::Continue(())
    }

    fn group(
        &mut self,
        keys: &Keys,
        pack: &PackReader,
        start: u64,
        group: &[Frame<'_>],
        told: &mut Told<'_>,
    ) {
        let end = group.last().map_or(start, |(frame, _)| end_of(frame));
        let end = end.next_multiple_of(BLOCK).min(pack.footer().length);
        let length = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
        let mut read: Option<&[u8]> = None;
        if let Some(bytes) = self.buffer.get_mut(..length)
            && pack.read(start, bytes).is_ok()
        {
            read = Some(bytes);
        }
        for (frame, chunks) in group {
            let from = u64::from(frame.offset).saturating_sub(start);
            let from = usize::try_from(from).unwrap_or(usize::MAX);
            let stored = usize::try_from(frame.stored).unwrap_or(usize::MAX);
            let stored = read
                .and_then(|bytes| bytes.get(from..))
                .and_then(|bytes| bytes.get(..stored));
            let good = stored.is_some_and(|stored| keys.frame_tag(stored) == frame.tag);
            told(frame, chunks, good);
        }
    }
}

fn end_of(frame: &TocFrame) -> u64 {
    u64::from(frame.offset).saturating_add(u64::from(frame.stored))
}
