//! Whether a file has the same content in two volumes. If its content lies at the same places in both, in the same order and with the same holes, only what of
//! these places differs between the disks is read.

use cairn_base::units::to_u64;
use cairn_base::{Error, Monitor, ReadAt, Result};
use cairn_guest::{EntryId, Extent, StreamInfo, Volume};
use cairn_store::Changes;
use std::ops::{ControlFlow, Range};

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;
/// Extents that are compared at once.
const EXTENTS: usize = 1 << 16;
/// Content of which the extents are asked for at once.
const WINDOW: u64 = 1 << 30;
/// Streams up to this length may lie in a file's own record.
const RESIDENT: u64 = 4096;

/// A volume on a disk of one of the points.
pub struct Place<'a> {
    /// Its file system.
    pub volume: &'a dyn Volume,
    /// The disk.
    pub disk: &'a dyn ReadAt,
    /// Where the volume begins on the disk, in bytes.
    pub start: u64,
}

/// The same volume in two points.
pub struct Places<'a> {
    /// In the older one.
    pub old: Place<'a>,
    /// In the newer one.
    pub new: Place<'a>,
    /// Where their disks may differ; none if that says nothing.
    pub changes: Option<&'a Changes>,
    /// Can end it.
    pub monitor: &'a dyn Monitor,
}

impl Places<'_> {
    /// Whether all content is the same: of files of one size, and of their named streams.
    ///
    /// # Errors
    /// As reading does; [`Kind::Interrupted`](cairn_base::Kind::Interrupted) on request.
    pub fn same_content(&self, ids: [EntryId; 2], size: u64) -> Result<bool> {
        let [old, new] = ids;
        let streams = streams(self.new.volume, new)?;
        if streams != self::streams(self.old.volume, old)? {
            return Ok(false);
        }
        let mut extents = 0usize;
        if let Some(same) = self.same_extents(ids, &mut extents)? {
            if !same {
                return Ok(false);
            }
            // What lies in the files' own records has no extents.
            let may_be_resident = extents == 0 || (!streams.is_empty() && size <= RESIDENT);
            if size > 0 && may_be_resident && !self.same_main(ids)? {
                return Ok(false);
            }
            for stream in streams.iter().filter(|stream| stream.size <= RESIDENT) {
                if !self.same_stream(ids, &stream.name)? {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        if !self.same_main([old, new])? {
            return Ok(false);
        }
        for stream in &streams {
            if !self.same_stream(ids, &stream.name)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn same_main(&self, [old, new]: [EntryId; 2]) -> Result<bool> {
        let files = [self.old.volume.open(old)?, self.new.volume.open(new)?];
        self.same_bytes(&*files[0], &*files[1])
    }

    fn same_stream(&self, [old, new]: [EntryId; 2], name: &[u8]) -> Result<bool> {
        let old = self.old.volume.open_stream(old, name)?;
        let new = self.new.volume.open_stream(new, name)?;
        self.same_bytes(&*old, &*new)
    }

    /// If the content lies at the same places, and follows from them in the same way: whether the bytes there are the same. `None` if not. The number of
    /// extents is added to `count`.
    fn same_extents(&self, [old, new]: [EntryId; 2], count: &mut usize) -> Result<Option<bool>> {
        let Some(changes) = self.changes.filter(|_| self.old.start == self.new.start) else {
            return Ok(None);
        };
        let mut same = true;
        loop {
            let window = extents(self.old.volume, old, *count)?;
            if window != extents(self.new.volume, new, *count)? {
                return Ok(None);
            }
            if window.is_empty() {
                return Ok(Some(same));
            }
            *count += window.len();
            for extent in &window {
                let start = self.new.start.saturating_add(extent.place.start);
                let end = self.new.start.saturating_add(extent.place.end);
                for change in changes.within(start..end) {
                    same = same && self.same_range(self.old.disk, self.new.disk, change.range)?;
                }
            }
            if !same && window.len() == EXTENTS {
                // What follows does not matter any more.
                return Ok(Some(false));
            }
        }
    }

    fn same_bytes(&self, old: &dyn ReadAt, new: &dyn ReadAt) -> Result<bool> {
        if old.size() != new.size() {
            return Ok(false);
        }
        let mut at = 0;
        while at < new.size() {
            let end = at.saturating_add(WINDOW).min(new.size());
            let mut data = old.data_extents(at..end)?;
            data.extend(new.data_extents(at..end)?);
            data.sort_unstable_by_key(|range| range.start);
            for range in data {
                // Both may have it.
                let start = range.start.max(at);
                if start < range.end {
                    if !self.same_range(old, new, start..range.end)? {
                        return Ok(false);
                    }
                    at = range.end;
                }
            }
            at = end;
        }
        Ok(true)
    }

    fn same_range(&self, old: &dyn ReadAt, new: &dyn ReadAt, range: Range<u64>) -> Result<bool> {
        if range.end > old.size().min(new.size()) {
            return Ok(false);
        }
        let (mut before, mut after) = (Vec::new(), Vec::new());
        let mut at = range.start;
        while at < range.end {
            if self.monitor.stop_requested() {
                return Err(Error::interrupted());
            }
            let rest = usize::try_from(range.end - at).unwrap_or(PIECE);
            before.resize(rest.min(PIECE), 0);
            after.resize(rest.min(PIECE), 0);
            old.read_exact_at(at, &mut before)?;
            new.read_exact_at(at, &mut after)?;
            if before != after {
                return Ok(false);
            }
            at = at.saturating_add(to_u64(before.len()));
        }
        Ok(true)
    }
}

/// The named streams, in the order of names.
fn streams(volume: &dyn Volume, id: EntryId) -> Result<Vec<StreamInfo>> {
    let mut streams = volume.streams(id)?;
    streams.sort_unstable_by(|a, b| (&a.name, a.size).cmp(&(&b.name, b.size)));
    Ok(streams)
}

/// The next extents of a file, without the first `skip`.
fn extents(volume: &dyn Volume, id: EntryId, skip: usize) -> Result<Vec<Extent>> {
    let mut window = Vec::new();
    let mut number = 0usize;
    volume.extents(id, &mut |extent| {
        number += 1;
        if number > skip {
            window.push(extent);
        }
        if window.len() == EXTENTS {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    Ok(window)
}
