//! The hive's bins: all cells, by their offset behind the base block; and what a log has of them.

use super::log::{Replay, SECTOR};
use cairn_base::read_at::read_vec;
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result, View};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where the bins begin in the file.
pub const START: u64 = 4096;
/// Bytes of a cell that are read at most: a list of 65,535 subkeys fits, and so does the longest value of before big data.
const MAX_CELL: usize = 1 << 20;

/// The bins of a hive.
pub struct Bins {
    file: Arc<dyn ReadAt>,
    size: u64,
    /// Sectors of 512 bytes that a log has newer, by their number.
    newer: BTreeMap<u64, [u8; SECTOR]>,
}

impl Bins {
    /// `size` is what the base block says.
    pub fn new(file: Arc<dyn ReadAt>, size: u32) -> Bins {
        Bins {
            file,
            size: size.into(),
            newer: BTreeMap::new(),
        }
    }

    /// Lays what a log has over them.
    pub fn overlay(&mut self, replay: Replay) {
        self.size = replay.size.into();
        self.newer = replay.sectors;
    }

    /// Where a cell lies in the file.
    pub fn place(&self, at: u32) -> u64 {
        START.saturating_add(at.into())
    }

    /// The content of the cell at `at`, or its first `most` bytes.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if there is no cell in use.
    pub fn cell(&self, at: u32, most: usize) -> Result<Vec<u8>> {
        let start = u64::from(at);
        let head = self.read(start, 4)?;
        let size = View::new(&head, "cell", self.place(at)).i32_le(0)?;
        // Cells in use have their size below zero.
        let length = usize::try_from(size.unsigned_abs()).unwrap_or(usize::MAX);
        let damaged = |why| Error::damaged(why).at_offset(self.place(at));
        if size >= 0 {
            return Err(damaged("a cell of the registry hive is not in use"));
        }
        let Some(length) = length.checked_sub(4).filter(|_| at.is_multiple_of(8)) else {
            return Err(damaged("no cell of a registry hive is there"));
        };
        self.read(start.saturating_add(4), length.min(most).min(MAX_CELL))
    }

    /// `length` bytes, no more than [`MAX_CELL`].
    fn read(&self, at: u64, length: usize) -> Result<Vec<u8>> {
        let end = at.saturating_add(to_u64(length));
        let beyond = || {
            Error::damaged("a cell lies beyond the end of the registry hive")
                .at_offset(START.saturating_add(at))
        };
        if end > self.size {
            return Err(beyond());
        }
        let in_file = self.file.size().saturating_sub(START);
        let there = usize::try_from(in_file.saturating_sub(at)).unwrap_or(usize::MAX);
        let mut bytes = match there.min(length) {
            0 => Vec::new(),
            there => read_vec(&*self.file, START.saturating_add(at), there)?,
        };
        bytes.resize(length, 0);
        let step = to_u64(SECTOR);
        let first = at.checked_div(step).unwrap_or(0);
        for number in first..end.div_ceil(step) {
            let sector = number.saturating_mul(step);
            match self.newer.get(&number) {
                Some(newer) => lay(&mut bytes, at, sector, newer),
                // A log may make a hive longer than its file, and must have all of that.
                None if sector.saturating_add(step).min(end) > in_file => return Err(beyond()),
                None => {}
            }
        }
        Ok(bytes)
    }
}

/// Lays a sector at `sector` over bytes at `at`, where both are.
fn lay(bytes: &mut [u8], at: u64, sector: u64, newer: &[u8; SECTOR]) {
    let skipped = |from: u64| usize::try_from(from).unwrap_or(usize::MAX);
    let into = skipped(sector.saturating_sub(at));
    let from = skipped(at.saturating_sub(sector));
    if let (Some(target), Some(source)) = (bytes.get_mut(into..), newer.get(from..)) {
        for (byte, new) in target.iter_mut().zip(source) {
            *byte = *new;
        }
    }
}
