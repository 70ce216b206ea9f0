//! How long work reports: the library never prints, it tells a [`Monitor`].

/// A stage of long work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Disks are read, cut, hashed and stored; bytes of disk.
    Backup,
    /// Disks are written back; bytes of disk.
    Restore,
    /// Packs are read and checked; bytes stored.
    VerifyPacks,
    /// Maps of points are walked; bytes of disk.
    VerifyPoints,
    /// Files are copied out of a point; bytes of file.
    Copy,
    /// Maps are walked to find out what is needed; bytes of disk.
    Mark,
    /// What is still needed of packs is copied; bytes of packs.
    Rewrite,
    /// Two points are compared; bytes of disk.
    Compare,
    /// Maps are walked to count what points need; bytes of disk.
    Count,
    /// Files are looked for in point after point; bytes of disk.
    Find,
    /// The tables of a disk image are walked; bytes of tables, or of disk.
    Check,
}

/// Receives progress and non-fatal problems. All methods may be called by several threads at once.
pub trait Monitor: Send + Sync {
    /// `stage` begins; `total` is the number of bytes expected, 0 if unknown.
    fn begin(&self, _stage: Stage, _total: u64) {}
    /// `amount` more bytes of `stage` are done.
    fn advance(&self, _stage: Stage, _amount: u64) {}
    /// `stage` is over.
    fn finish(&self, _stage: Stage) {}
    /// Something is wrong that does not stop the work; a sentence.
    fn warn(&self, _warning: &str) {}
    /// Whether the user asked to stop; long work looks often and ends without harm.
    fn stop_requested(&self) -> bool {
        false
    }
}

/// Says nothing and never stops.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Monitor for Silent {}
