//! Disks that can be written to: each point's disk under a private overlay, made when something is written to it.

use crate::catalog::OpenPoint;
use crate::failure::{Failure, Result};
use crate::node::PointRef;
use cairn::{Error, Overlay, OverlayBase, ReadAt};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

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
    making: Mutex<()>,
    /// Keeps what the disk stands on from being deleted.
    _point: Arc<OpenPoint>,
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
        let id = point.key.as_ref().map(|key| key.id.0);
        let disk = || WritableDisk {
            scratch: self.scratch.clone(),
            base: view.disk().clone(),
            origin: OverlayBase {
                id: id.unwrap_or_else(|| view.origin()),
                disk: view.name().to_string(),
            },
            overlay: OnceLock::new(),
            making: Mutex::new(()),
            _point: open.clone(),
        };
        let mut dropped = Vec::new();
        let disk = {
            let mut disks = self.disks.lock();
            // Those that nobody has open and nobody wrote to: the point behind each is not to be kept open.
            let idle = |disk: &Arc<WritableDisk>| {
                disk.overlay.get().is_none() && Arc::strong_count(disk) == 1
            };
            let gone: Vec<Key> = disks
                .iter()
                .filter(|(_, disk)| idle(disk))
                .map(|(key, _)| *key)
                .collect();
            dropped.extend(gone.iter().filter_map(|key| disks.remove(key)));
            disks
                .entry((point.slot, position))
                .or_insert_with(|| Arc::new(disk()))
                .clone()
        };
        // Closing may take a while: not under the lock.
        drop(dropped);
        if disk.is_kept_already() {
            disk.overlay()?;
        }
        Ok(disk)
    }

    /// Makes durable what was written, where it is kept.
    ///
    /// # Errors
    /// Those of the first disk that fails; the others are done nevertheless.
    pub fn flush(&self) -> Result<()> {
        let disks: Vec<Arc<WritableDisk>> = self.disks.lock().values().cloned().collect();
        let failed = disks.iter().filter_map(|disk| disk.flush().err()).next();
        failed.map_or(Ok(()), Err)
    }
}

impl WritableDisk {
    fn is_kept_already(&self) -> bool {
        match &self.scratch.folder {
            Some(folder) if self.scratch.keep => self.origin.is_in(folder),
            _ => false,
        }
    }

    fn current(&self) -> &dyn ReadAt {
        match self.overlay.get() {
            Some(overlay) => overlay,
            None => &*self.base,
        }
    }

    /// The overlay, made if there is none yet.
    fn overlay(&self) -> cairn::Result<&Overlay> {
        if let Some(overlay) = self.overlay.get() {
            return Ok(overlay);
        }
        let _turn = self.making.lock();
        if let Some(overlay) = self.overlay.get() {
            return Ok(overlay);
        }
        let (base, folder) = (self.base.clone(), self.scratch.folder.as_deref());
        let made = match folder {
            Some(folder) if self.scratch.keep => Overlay::kept(base, folder, &self.origin)?,
            folder => Overlay::temporary(base, folder)?,
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
        Ok(self.overlay()?.write_at(offset, bytes)?)
    }

    /// Makes zeros of what of `range` lies on the disk, and gives its room back.
    ///
    /// # Errors
    /// As [`Overlay::write_zeroes`].
    pub fn zero(&self, range: Range<u64>) -> Result<()> {
        let end = range.end.min(self.base.size());
        let range = range.start.min(end)..end;
        if range.is_empty() {
            return Ok(());
        }
        Ok(self.overlay()?.write_zeroes(range, false)?)
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
