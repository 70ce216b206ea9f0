//! Disks that can be written to: each point's disk under a private overlay, made when something is written to it.

use crate::catalog::OpenPoint;
use crate::failure::{Failure, Result};
use crate::node::PointRef;
use crate::stat::BLOCK;
use cairn::{DiskView, Error, Kind, Overlay, OverlayBase, ReadAt, Time};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

/// Where what is written goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scratch {
    /// The folder, made if it is not there; without one `TMPDIR`, or `/var/tmp`.
    pub folder: Option<PathBuf>,
    /// It stays there for the next mount, and what an earlier one kept there shows again. Needs a folder.
    pub keep: bool,
}

/// A disk of a point, by the point's slot and the disk's position.
type Key = (u32, u16);

/// The disks of a mount that are open or were written to.
pub struct Overlays {
    scratch: Arc<Scratch>,
    disks: Mutex<HashMap<Key, Arc<WritableDisk>>>,
}

/// A disk that can be written to. Reading it gives what was written last, or the point's bytes.
pub struct WritableDisk {
    scratch: Arc<Scratch>,
    base: Arc<dyn ReadAt>,
    origin: OverlayBase,
    overlay: OnceLock<Overlay>,
    /// Whether this mount has begun to make it.
    making: Mutex<bool>,
    /// What the kernel has cached may be something else: the bytes changed behind its back.
    changed: AtomicBool,
    last: Mutex<Option<Time>>,
    /// Keeps what the disk stands on from being deleted.
    _point: Arc<OpenPoint>,
}

/// What is known of what was written to a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// When something was last written, if anything was.
    pub last: Option<Time>,
    /// About how many bytes the scratch files take.
    pub bytes: u64,
}

impl Overlays {
    /// None yet.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn::Kind::Invalid) if they are to be kept nowhere.
    pub fn new(scratch: Scratch) -> cairn::Result<Overlays> {
        if scratch.keep && scratch.folder.is_none() {
            return Err(Error::invalid("no folder to keep what is written in"));
        }
        Ok(Overlays {
            scratch: Arc::new(scratch),
            disks: Mutex::default(),
        })
    }

    /// The folder in which scratch files are made.
    pub fn folder(&self) -> PathBuf {
        let named = self.scratch.folder.clone();
        named.unwrap_or_else(Overlay::default_folder)
    }

    /// The disk of an open point at a position.
    ///
    /// # Errors
    /// [`Kind::NotFound`](cairn::Kind::NotFound) if there is none; as [`Overlay::kept`] where an overlay was kept.
    pub fn disk(
        &self,
        point: &PointRef,
        position: u16,
        open: &Arc<OpenPoint>,
    ) -> Result<Arc<WritableDisk>> {
        let view = open.disk(position)?;
        let disk = || WritableDisk {
            scratch: self.scratch.clone(),
            base: view.disk().clone(),
            origin: origin(point, view),
            overlay: OnceLock::new(),
            making: Mutex::new(false),
            changed: AtomicBool::new(false),
            last: Mutex::new(None),
            _point: open.clone(),
        };
        let mut disks = self.disks.lock();
        let dropped = take_idle(&mut disks);
        let disk = disks
            .entry((point.slot, position))
            .or_insert_with(|| Arc::new(disk()))
            .clone();
        // Closing may take a while: not under the lock.
        drop(disks);
        drop(dropped);
        if disk.scratch.has(&disk.origin) {
            disk.overlay(true)?;
        }
        Ok(disk)
    }

    /// Closes those that nobody has open and nobody wrote to.
    pub fn close_idle(&self) {
        let dropped = take_idle(&mut self.disks.lock());
        // Not under the lock, as above.
        drop(dropped);
    }

    /// What was written to the disk of an open point: to a kept one whenever and by whomever.
    ///
    /// # Errors
    /// [`Kind::NotFound`](cairn::Kind::NotFound) if there is no such disk.
    pub fn written(
        &self,
        point: &PointRef,
        position: u16,
        open: &Arc<OpenPoint>,
    ) -> Result<Written> {
        let origin = origin(point, open.disk(position)?);
        if let Some(folder) = self.scratch.kept_in() {
            return Ok(Written::of_kept(folder, &origin));
        }
        let disk = self.disks.lock().get(&(point.slot, position)).cloned();
        let written = disk.and_then(|disk| {
            Some(Written {
                bytes: disk.overlay.get()?.scratch_bytes(),
                last: *disk.last.lock(),
            })
        });
        Ok(written.unwrap_or_default())
    }

    /// Makes durable what was written, where it is kept.
    ///
    /// # Errors
    /// Those of the first disk that fails; the others are done nevertheless.
    pub fn flush(&self) -> Result<()> {
        let disks: Vec<Arc<WritableDisk>> = self.disks.lock().values().cloned().collect();
        each(disks.iter().map(|disk| disk.flush()))
    }
}

/// The first error, when all is done.
fn each(done: impl Iterator<Item = Result<()>>) -> Result<()> {
    done.fold(Ok(()), Result::and)
}

/// Those that nobody has open and nobody wrote to: the point behind each is not to be kept open.
fn take_idle(disks: &mut HashMap<Key, Arc<WritableDisk>>) -> Vec<Arc<WritableDisk>> {
    let is_idle =
        |disk: &Arc<WritableDisk>| disk.overlay.get().is_none() && Arc::strong_count(disk) == 1;
    let idle = disks.iter().filter(|(_, disk)| is_idle(disk));
    let idle: Vec<Key> = idle.map(|(key, _)| *key).collect();
    idle.iter().filter_map(|key| disks.remove(key)).collect()
}

fn origin(point: &PointRef, view: &DiskView) -> OverlayBase {
    let id = point.key.as_ref().map(|key| key.id.0);
    OverlayBase {
        id: id.unwrap_or_else(|| view.origin()),
        disk: view.name().to_string(),
    }
}

impl Scratch {
    /// The folder in which what is written is kept, if it is.
    fn kept_in(&self) -> Option<&Path> {
        self.folder.as_deref().filter(|_| self.keep)
    }

    /// Whether an overlay of `origin` is kept already.
    fn has(&self, origin: &OverlayBase) -> bool {
        self.kept_in().is_some_and(|folder| origin.is_in(folder))
    }
}

impl Written {
    /// As the files of data of a kept overlay tell (`engine/FORMAT.md`, section 23): nothing if there are none.
    fn of_kept(folder: &Path, origin: &OverlayBase) -> Written {
        let base: String = origin
            .id
            .iter()
            .take(8)
            .map(|it| format!("{it:02x}"))
            .collect();
        let file = |number: u32| folder.join(format!("{base}-{}.data{number}", origin.disk));
        let files = (0..).map_while(|number| std::fs::metadata(file(number)).ok());
        files.fold(Written::default(), |all, found| Written {
            last: all.last.max(Some(Time {
                seconds: found.mtime(),
                nanos: u32::try_from(found.mtime_nsec()).unwrap_or(0),
            })),
            bytes: all
                .bytes
                .saturating_add(found.blocks().saturating_mul(BLOCK)),
        })
    }
}

fn now() -> Time {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Time {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: since.subsec_nanos(),
    }
}

impl WritableDisk {
    /// Whether what the kernel has cached of it is what it is.
    pub fn is_as_cached(&self) -> bool {
        !self.changed.load(Ordering::Acquire)
    }

    fn current(&self) -> &dyn ReadAt {
        match self.overlay.get() {
            Some(overlay) => overlay,
            None => &*self.base,
        }
    }

    /// The overlay: for somebody who `opens` the disk the one that is kept, else made if there is none yet.
    ///
    /// One that others kept since the disk was opened is none to write to: whoever has it open has read the base.
    fn overlay(&self, opens: bool) -> cairn::Result<&Overlay> {
        if let Some(overlay) = self.overlay.get() {
            return Ok(overlay);
        }
        let mut begun = self.making.lock();
        if let Some(overlay) = self.overlay.get() {
            return Ok(overlay);
        }
        if opens {
            self.changed.store(true, Ordering::Release);
        } else if !*begun && self.scratch.has(&self.origin) {
            let why = "somebody else wrote to the kept disk since it was opened";
            return Err(Error::new(Kind::Busy, why).advise("close it and open it again"));
        } else {
            *begun = true;
        }
        let base = self.base.clone();
        let made = match self.scratch.kept_in() {
            Some(folder) => Overlay::kept(base, folder, &self.origin)?,
            None => Overlay::temporary(base, self.scratch.folder.as_deref())?,
        };
        Ok(self.overlay.get_or_init(|| made))
    }

    /// Writes `bytes` at `offset`: all of them, or an error.
    ///
    /// # Errors
    /// [`Failure::BeyondDisk`] if they end beyond the disk; [`Kind::Full`](cairn::Kind::Full) if the scratch folder is; as [`Overlay::write_at`].
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let end = offset.checked_add(cairn::units::to_u64(bytes.len()));
        if end.is_none_or(|end| end > self.base.size()) {
            return Err(Failure::BeyondDisk);
        }
        let written = self.overlay(false)?.write_at(offset, bytes);
        // Also if it failed: a part of it may be there.
        *self.last.lock() = Some(now());
        Ok(written?)
    }

    /// Makes zeros of what of `range` lies on the disk, and gives its room back. If that fails the kernel, which thinks that nothing was done,
    /// still has what was there.
    ///
    /// # Errors
    /// As [`Overlay::write_zeroes`].
    pub fn zero(&self, range: Range<u64>) -> Result<()> {
        let end = range.end.min(self.base.size());
        let range = range.start.min(end)..end;
        if range.is_empty() {
            return Ok(());
        }
        let written = self.overlay(false)?.write_zeroes(range, false);
        *self.last.lock() = Some(now());
        if written.is_err() {
            self.changed.store(true, Ordering::Release);
        }
        Ok(written?)
    }

    /// Makes durable what was written, if it is kept; says in any case whether writing failed behind the scenes.
    ///
    /// # Errors
    /// As [`Overlay::flush`].
    pub fn flush(&self) -> Result<()> {
        match self.overlay.get() {
            Some(overlay) => Ok(overlay.flush()?),
            None => Ok(()),
        }
    }
}

impl ReadAt for WritableDisk {
    fn size(&self) -> u64 {
        self.base.size()
    }
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> cairn::Result<()> {
        self.current().read_exact_at(offset, buffer)
    }
    fn data_extents(&self, range: Range<u64>) -> cairn::Result<Vec<Range<u64>>> {
        self.current().data_extents(range)
    }
    fn will_need(&self, range: Range<u64>) {
        self.current().will_need(range);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_keeps_nothing_else_from_being_done() {
        let mut done = Vec::new();
        let all = (0..4).map(|number| {
            done.push(number);
            match number {
                1 => Err(Failure::FixedSize),
                2 => Err(Failure::BeyondDisk),
                _ => Ok(()),
            }
        });
        assert!(matches!(each(all), Err(Failure::FixedSize)));
        assert_eq!(done, [0, 1, 2, 3]);
        assert!(each(std::iter::empty()).is_ok());
    }
}
