//! Disks that cannot be read for a while.

use cairn_base::read_at::check_range;
use cairn_base::{Error, ReadAt, Result};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// ETIMEDOUT: a server does not answer.
pub const TIMED_OUT: i32 = 110;
/// EIO: a bad sector.
pub const BAD_SECTOR: i32 = 5;

/// A disk in memory that fails when it is told to.
pub struct Failing {
    bytes: Vec<u8>,
    bad: Mutex<(Range<u64>, i32)>,
    /// How many reads go well before one fails as a server does that does not answer.
    left: AtomicU64,
}

impl Failing {
    pub fn new(bytes: Vec<u8>) -> Arc<Failing> {
        Arc::new(Failing {
            bytes,
            bad: Mutex::new((0..0, 0)),
            left: AtomicU64::new(u64::MAX),
        })
    }

    /// From now on what touches `range` fails, with the number `code` of the system.
    pub fn fail(&self, range: Range<u64>, code: i32) {
        *self.bad.lock().unwrap() = (range, code);
    }

    /// From now on all can be read.
    pub fn heal(&self) {
        self.fail(0..0, 0);
        self.left.store(u64::MAX, Ordering::Relaxed);
    }

    /// One read fails, once `count` others went well.
    pub fn fail_after(&self, count: u64) {
        self.left.store(count, Ordering::Relaxed);
    }

    /// Whether the read that was to fail was made.
    pub fn has_failed(&self) -> bool {
        self.left.load(Ordering::Relaxed) > u64::MAX / 2
    }
}

fn failed(code: i32, offset: u64) -> Error {
    let error = io::Error::from_raw_os_error(code);
    Error::io("cannot read the disk", Path::new("/disk"), error).at_offset(offset)
}

impl ReadAt for Failing {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size(), offset, buffer.len())?;
        // Behind 0 comes the largest number: no other read fails.
        if self.left.fetch_sub(1, Ordering::Relaxed) == 0 {
            return Err(failed(TIMED_OUT, offset));
        }
        let (bad, code) = self.bad.lock().unwrap().clone();
        if offset < bad.end && offset + buffer.len() as u64 > bad.start {
            return Err(failed(code, offset));
        }
        self.bytes.read_exact_at(offset, buffer)
    }
}
