//! The base block: the first bytes of a hive, and of each of its logs.

use crate::ntfs::time_of_ticks;
use cairn_base::{Error, Result, Time, View};

/// Bytes of it that mean something; a hive's bins begin at 4096, a log's entries here.
pub const LENGTH: usize = 512;
/// Where the checksum of everything before it lies.
const CHECKSUM: usize = 508;
/// The type of a hive.
pub const PRIMARY: u32 = 0;
/// The type of a log with entries (Windows 8.1 and later).
pub const LOG_OF_ENTRIES: u32 = 6;
/// Big data came with this version.
const BIG_DATA: u32 = 4;

/// What the base block says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseBlock {
    /// Counted up before the hive is written.
    pub primary: u32,
    /// The same after it was written.
    pub secondary: u32,
    /// When it was written last: 100 ns since 1601.
    pub ticks: u64,
    minor: u32,
    /// Hive or log.
    pub file_type: u32,
    /// The root key's cell.
    pub root: u32,
    /// Bytes of all bins.
    pub size: u32,
}

impl BaseBlock {
    /// Decodes it.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) without signature or with a wrong checksum; [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for other
    /// versions than 1.3 to 1.6.
    pub fn parse(view: View<'_>) -> Result<BaseBlock> {
        if view.slice(0, 4)? != b"regf" {
            return Err(view.damaged(0, "it has no signature"));
        }
        if view.u32_le(CHECKSUM)? != checksum(view.slice(0, CHECKSUM)?) {
            return Err(view.damaged(CHECKSUM, "its checksum is wrong"));
        }
        let (major, minor) = (view.u32_le(20)?, view.u32_le(24)?);
        if major != 1 || !(3..=6).contains(&minor) {
            return Err(Error::unsupported(format!(
                "a registry hive of version {major}.{minor}; 1.3 to 1.6 are read"
            )));
        }
        Ok(BaseBlock {
            primary: view.u32_le(4)?,
            secondary: view.u32_le(8)?,
            ticks: view.u64_le(12)?,
            minor,
            file_type: view.u32_le(28)?,
            root: view.u32_le(36)?,
            size: view.u32_le(40)?,
        })
    }

    /// Whether it was being written, or has logs that were not taken over.
    pub fn is_dirty(&self) -> bool {
        self.primary != self.secondary
    }

    /// When it was written last.
    pub fn written(&self) -> Time {
        time_of_ticks(self.ticks)
    }

    /// Whether long values are in pieces.
    pub fn has_big_data(&self) -> bool {
        self.minor >= BIG_DATA
    }
}

/// All words of 32 bits, exclusive or; two values are kept free.
pub fn checksum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks_exact(4);
    let sum = words.fold(0, |sum, word| {
        sum ^ word.try_into().map_or(0, u32::from_le_bytes)
    });
    match sum {
        0 => 1,
        u32::MAX => u32::MAX - 1,
        sum => sum,
    }
}
