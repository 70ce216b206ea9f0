//! A private layer for writing over a disk that must not change: what is written goes to scratch files, everything else is
//! still read from the base.
//!
//! ```
//! use cairn::{Overlay, ReadAt};
//! # use std::sync::Arc;
//! # fn main() -> cairn::Result<()> {
//! # let temp = tempfile::tempdir().unwrap();
//! let base: Arc<dyn ReadAt> = Arc::new(vec![5u8; 100_000]);
//! let disk = Overlay::temporary(base.clone(), Some(temp.path()))?; // gone when it is dropped
//! disk.write_at(70_000, b"written")?;
//! let mut start = [0; 8];
//! disk.read_exact_at(69_999, &mut start)?;
//! assert_eq!(&start, b"\x05written");
//! # base.read_exact_at(69_999, &mut start)?;
//! # assert_eq!(start, [5; 8]);
//! # Ok(())
//! # }
//! ```
//!
//! Bytes lie in sparse files at the place that they have on the disk; a map beside them says of each unit of 4 KiB whether it is the
//! base's, the overlay's own, or zeros. The file system finds room for the data, which it does well, so there is no allocation to get wrong, and the
//! map alone decides what counts: it is written after the data that it speaks of is durable. The map is in memory as far as it is used, in bounded space.

mod files;
mod folders;
mod inflight;
mod map;
mod page;
mod scratch;
#[cfg(test)]
mod tests;

pub use files::OverlayBase;

use cairn_base::read_at::{check_range, clip};
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result};
use files::{Files, PART};
use inflight::InFlight;
use map::{HEAD_LEN, Map};
use page::{State, UNIT};
use parking_lot::Mutex;
use scratch::Scratch;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Zeros are written in pieces of so many bytes.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
/// Ranges that become zeros without being written are taken in pieces that end at multiples of this, so that memory for the map stays bounded.
const AT_ONCE: u64 = 4 << 30;

/// A disk that can be written to, over one that stays as it is. Shared by threads.
///
/// It promises what a disk with a volatile cache does: a write that has ended is read by all that begin later; it is durable (if the overlay is kept)
/// when a [`flush`](Overlay::flush) that began after it has ended; what was not flushed may be lost, wholly or in parts, when the system goes
/// down, and bytes that nobody wrote stay as they were. After a failed write its range, and nothing else, holds old or new bytes.
pub struct Overlay {
    base: Arc<dyn ReadAt>,
    size: u64,
    map: Map,
    data: Vec<Arc<dyn Scratch>>,
    is_kept: bool,
    writers: InFlight,
    flushing: Mutex<()>,
    /// Whether anything was written since the last flush began.
    touched: AtomicBool,
    /// Why the data may not be what was written: nothing is read or written any more.
    lost: OnceLock<Error>,
}

impl Overlay {
    /// An overlay in scratch files without a name in `folder` (made if it is not there), or where `TMPDIR` says, or in `/var/tmp`. It is gone when
    /// it is dropped, or when the process ends, however that comes.
    ///
    /// # Errors
    /// As the operating system reports.
    pub fn temporary(base: Arc<dyn ReadAt>, folder: Option<&Path>) -> Result<Overlay> {
        let files = files::temporary(folder, base.size())?;
        Ok(Overlay::of(base, files, false))
    }

    /// Where scratch files go unless somebody says otherwise: `TMPDIR`, or `/var/tmp`.
    pub fn default_folder() -> PathBuf {
        folders::default_folder()
    }

    /// The overlay of this base that is kept in `folder`, made if it is not there.
    ///
    /// # Errors
    /// [`Kind::Exists`](crate::Kind::Exists) if one of a disk of another size is there, [`Kind::Busy`](crate::Kind::Busy) if another process has it,
    /// [`Kind::Damaged`](crate::Kind::Damaged) or [`Kind::Unsupported`](crate::Kind::Unsupported) if it cannot be read,
    /// [`Kind::Unsupported`](crate::Kind::Unsupported) also if the base's id is all zeros, [`Kind::Invalid`](crate::Kind::Invalid) if the disk's name is none; as the operating system reports.
    pub fn kept(base: Arc<dyn ReadAt>, folder: &Path, of: &OverlayBase) -> Result<Overlay> {
        let files = files::kept(folder, of, base.size())?;
        Overlay::found(base, files)
    }

    /// One that is kept, as whoever had it last left it.
    fn found(base: Arc<dyn ReadAt>, files: Files) -> Result<Overlay> {
        files.settle()?;
        Ok(Overlay::of(base, files, true))
    }

    fn of(base: Arc<dyn ReadAt>, files: Files, is_kept: bool) -> Overlay {
        Overlay {
            size: base.size(),
            base,
            map: Map::new(files.map, files.id),
            data: files.data,
            is_kept,
            writers: InFlight::default(),
            flushing: Mutex::new(()),
            touched: AtomicBool::new(false),
            lost: OnceLock::new(),
        }
    }

    /// What it lies over.
    pub fn base(&self) -> &Arc<dyn ReadAt> {
        &self.base
    }

    /// Bytes that the scratch files take on their disk.
    pub fn scratch_bytes(&self) -> u64 {
        self.data.iter().map(|part| part.used()).sum()
    }

    fn check(&self, offset: u64, count: usize) -> Result<()> {
        if let Some(error) = self.lost.get() {
            return Err(error.clone());
        }
        check_range(self.size, offset, count)
    }

    /// Writes `bytes` at `offset`.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::Kind::Invalid) if the range ends beyond the disk, [`Kind::Full`](crate::Kind::Full) if the scratch disk is full; as the
    /// operating system and the base report.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.check(offset, bytes.len())?;
        if bytes.is_empty() {
            return Ok(());
        }
        self.make_room()?;
        let range = offset..offset.saturating_add(to_u64(bytes.len()));
        let _claim = self.writers.claim(units_around(&range));
        self.write_claimed(&range, bytes)
    }

    /// Makes `range` read as zeros. With `allocate` the scratch files take the room, so that later writes to it find some; otherwise
    /// what they have of it is given back.
    ///
    /// # Errors
    /// As [`write_at`](Overlay::write_at).
    pub fn write_zeroes(&self, range: Range<u64>, allocate: bool) -> Result<()> {
        self.check_long(&range)?;
        if allocate {
            for piece in pieces(range, to_u64(ZEROS.len())) {
                self.write_at(piece.start, ZEROS.get(..length(&piece)).unwrap_or_default())?;
            }
            return Ok(());
        }
        for piece in pieces(range, AT_ONCE) {
            self.make_room()?;
            let whole = self.units_inside(&piece);
            let _claim = self.writers.claim(units_around(&piece));
            if whole.is_empty() {
                self.zero_edge(piece)?;
                continue;
            }
            let (begin, end) = (whole.start * UNIT, (whole.end * UNIT).min(self.size));
            self.zero_edge(piece.start..begin)?;
            self.zero_edge(end..piece.end)?;
            self.zero_units(whole)?;
        }
        Ok(())
    }

    /// Gives back the room of `range`: the units of 4 KiB that lie in it as a whole read as zeros from now on, its edges stay as they are.
    ///
    /// # Errors
    /// As [`write_at`](Overlay::write_at).
    pub fn trim(&self, range: Range<u64>) -> Result<()> {
        self.check_long(&range)?;
        for piece in pieces(range, AT_ONCE) {
            let whole = self.units_inside(&piece);
            if whole.is_empty() {
                continue;
            }
            self.make_room()?;
            let _claim = self.writers.claim(whole.clone());
            self.zero_units(whole)?;
        }
        Ok(())
    }

    /// Makes durable what was written before, if the overlay is kept: first the data, then the map. Of any overlay it tells
    /// whether writing has failed behind the scenes.
    ///
    /// # Errors
    /// As the operating system reports. If the data, or the map of one that is not kept, could not be written nobody knows what of it is there: the overlay answers nothing
    /// else from then on.
    pub fn flush(&self) -> Result<()> {
        self.check(0, 0)?;
        let _turn = self.flushing.lock();
        if !self.touched.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        self.write_down(true)
            .inspect_err(|_| self.touched.store(true, Ordering::Release))
    }

    /// Writes the map back when much of it has changed.
    fn make_room(&self) -> Result<()> {
        if !self.map.is_full() {
            return Ok(());
        }
        let _turn = self.flushing.lock();
        if self.map.is_full() {
            self.write_down(self.is_kept)?;
        }
        Ok(())
    }

    /// With `flushing` locked.
    fn write_down(&self, sync: bool) -> Result<()> {
        // Only what the map says before the data is durable.
        let changed = if self.is_kept || !sync {
            self.map.changed()
        } else {
            Vec::new()
        };
        if sync {
            for part in &self.data {
                part.sync()
                    .map_err(|e| self.lost.get_or_init(|| e).clone())?;
            }
        }
        self.map.write(&changed)?;
        if self.is_kept {
            self.map.sync()?;
        } else if sync {
            // Pages that were written back and forgotten may not have arrived: what they said is not known any more.
            self.map
                .sync()
                .map_err(|e| self.lost.get_or_init(|| e).clone())?;
        }
        self.map.settle(&changed);
        Ok(())
    }

    fn check_long(&self, range: &Range<u64>) -> Result<()> {
        self.check(range.start, 0)?;
        if range.start > range.end || range.end > self.size {
            return Err(
                Error::invalid(format!("a range beyond the end of {} bytes", self.size))
                    .at_offset(range.start),
            );
        }
        Ok(())
    }

    /// The units that lie in `range` as a whole. The last one of the disk may be short.
    fn units_inside(&self, range: &Range<u64>) -> Range<u64> {
        let first = range.start.div_ceil(UNIT);
        let end = if range.end == self.size {
            range.end.div_ceil(UNIT)
        } else {
            range.end / UNIT
        };
        first..end.max(first)
    }

    /// With the units around `range` claimed.
    fn write_claimed(&self, range: &Range<u64>, bytes: &[u8]) -> Result<()> {
        let units = units_around(range);
        let whole = self.units_inside(range);
        let whole = whole.start * UNIT..(whole.end * UNIT).min(self.size);
        if whole.is_empty() {
            // Within one unit, or two that it does not fill.
            let middle = (units.start + 1) * UNIT;
            let first = range.start..range.end.min(middle);
            let second = first.end..range.end;
            self.write_edge(first.clone(), part(bytes, range, &first))?;
            self.write_edge(second.clone(), part(bytes, range, &second))?;
        } else {
            let (first, last) = (range.start..whole.start, whole.end..range.end);
            self.write_edge(first.clone(), part(bytes, range, &first))?;
            self.write_edge(last.clone(), part(bytes, range, &last))?;
            self.write_data(whole.start, part(bytes, range, &whole))?;
        }
        self.map.set(units, State::Own)?;
        self.touched.store(true, Ordering::Release);
        Ok(())
    }

    /// Writes a part of one unit. If the unit is not the overlay's own yet the rest comes from where it is now.
    fn write_edge(&self, range: Range<u64>, bytes: &[u8]) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let unit = range.start / UNIT;
        let begin = unit * UNIT;
        let state = self.map.state(unit)?;
        if state == State::Own {
            return self.write_data(range.start, bytes);
        }
        // The disk's last unit may be short.
        let mut whole = vec![0; length(&(begin..self.size.min(begin + UNIT)))];
        if state == State::Base {
            self.base.read_exact_at(begin, &mut whole)?;
        }
        let at = length(&(begin..range.start));
        whole[at..at + bytes.len()].copy_from_slice(bytes);
        self.write_data(begin, &whole)
    }

    /// Zeros in a part of one unit, which is claimed.
    fn zero_edge(&self, range: Range<u64>) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        // Not filling a unit it may still touch two.
        let middle = (range.start / UNIT + 1) * UNIT;
        for piece in [range.start..range.end.min(middle), middle..range.end] {
            if piece.is_empty() || self.map.state(piece.start / UNIT)? == State::Zero {
                continue;
            }
            let zeros = ZEROS.get(..length(&piece)).unwrap_or_default();
            self.write_claimed(&piece, zeros)?;
        }
        Ok(())
    }

    /// Zeros in whole units, which are claimed.
    fn zero_units(&self, units: Range<u64>) -> Result<()> {
        self.map.set(units.clone(), State::Zero)?;
        self.touched.store(true, Ordering::Release);
        let end = units.end.saturating_mul(UNIT);
        let mut next = units.start.saturating_mul(UNIT);
        while let Some((part, inside)) = self.place(next, end.saturating_sub(next)) {
            next = next.saturating_add(inside.end - inside.start);
            part.punch(inside);
        }
        Ok(())
    }

    /// The file of data that has the disk's bytes from `offset` on, and where it has those of them that are among the first `wanted`; `None` if `wanted` is 0.
    fn place(&self, offset: u64, wanted: u64) -> Option<(&Arc<dyn Scratch>, Range<u64>)> {
        let inside = offset % PART;
        let part = usize::try_from(offset / PART).ok()?;
        let file = self.data.get(part).filter(|_| wanted > 0)?;
        let begin = HEAD_LEN + inside;
        Some((file, begin..begin + wanted.min(PART - inside)))
    }

    fn write_data(&self, mut offset: u64, mut bytes: &[u8]) -> Result<()> {
        while let Some((file, at)) = self.place(offset, to_u64(bytes.len())) {
            let (now, rest) = bytes.split_at(length(&at));
            file.write(at.start, now)?;
            (bytes, offset) = (rest, offset.saturating_add(to_u64(now.len())));
        }
        Ok(())
    }

    fn read_data(&self, mut offset: u64, mut buffer: &mut [u8]) -> Result<()> {
        while let Some((file, at)) = self.place(offset, to_u64(buffer.len())) {
            let (now, rest) = buffer.split_at_mut(length(&at));
            offset = offset.saturating_add(to_u64(now.len()));
            file.read(at.start, now)?;
            buffer = rest;
        }
        Ok(())
    }

    /// Where the bytes of `range` are.
    fn runs(&self, range: &Range<u64>) -> Result<Vec<(Range<u64>, State)>> {
        let mut runs = self.map.runs(units_around(range))?;
        for (units, _) in &mut runs {
            let bytes = units.start.saturating_mul(UNIT)..units.end.saturating_mul(UNIT);
            *units = bytes.start.max(range.start)..bytes.end.min(range.end);
        }
        Ok(runs)
    }
}

/// The units that `range` touches.
fn units_around(range: &Range<u64>) -> Range<u64> {
    range.start / UNIT..range.end.div_ceil(UNIT)
}

/// `range` in pieces that end at multiples of `step`.
fn pieces(range: Range<u64>, step: u64) -> impl Iterator<Item = Range<u64>> {
    let mut next = range.start;
    std::iter::from_fn(move || {
        let end = range.end.min((next / step + 1).saturating_mul(step));
        let piece = next..end;
        next = end.max(next);
        (!piece.is_empty()).then_some(piece)
    })
}

/// Length of a range of memory.
fn length(range: &Range<u64>) -> usize {
    usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX)
}

/// Of the bytes of `range` those of `inner`.
fn part<'a>(bytes: &'a [u8], range: &Range<u64>, inner: &Range<u64>) -> &'a [u8] {
    let at = length(&(range.start..inner.start));
    let end = at.saturating_add(length(inner));
    bytes.get(at..end).unwrap_or_default()
}

impl ReadAt for Overlay {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.check(offset, buffer.len())?;
        if buffer.is_empty() {
            return Ok(());
        }
        let range = offset..offset.saturating_add(to_u64(buffer.len()));
        let mut left = buffer;
        for (run, state) in self.runs(&range)? {
            let (now, rest) = left.split_at_mut(length(&run));
            match state {
                State::Base => self.base.read_exact_at(run.start, now)?,
                State::Own => self.read_data(run.start, now)?,
                State::Zero => now.fill(0),
            }
            left = rest;
        }
        Ok(())
    }

    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        self.check(0, 0)?;
        let range = clip(range, self.size);
        let mut found: Vec<Range<u64>> = Vec::new();
        let mut push = |extent: Range<u64>| match found.last_mut() {
            Some(last) if last.end == extent.start => last.end = extent.end,
            _ => found.push(extent),
        };
        if range.is_empty() {
            return Ok(found);
        }
        for (run, state) in self.runs(&range)? {
            match state {
                State::Base => self.base.data_extents(run)?.into_iter().for_each(&mut push),
                State::Own => push(run),
                State::Zero => {}
            }
        }
        Ok(found)
    }

    fn will_need(&self, range: Range<u64>) {
        self.base.will_need(range);
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        // Whoever wants to know flushes before.
        if self.is_kept {
            drop(self.flush());
        }
    }
}
