//! Clusters: where the data of a FAT or exFAT volume lies, and the only door to its device.

use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result};
use std::sync::Arc;

/// The first cluster's number: 0 and 1 mean something else in the table.
pub const FIRST: u32 = 2;

/// The clusters of a volume.
#[derive(Clone)]
pub struct Heap {
    device: Arc<dyn ReadAt>,
    /// Where the first cluster begins, in bytes.
    start: u64,
    /// Bytes of a cluster, a power of two.
    size: u32,
    count: u32,
}

impl Heap {
    /// `count` clusters of `size` bytes from byte `start` of `device` on; the boot sector's decoder checked them.
    pub fn new(device: Arc<dyn ReadAt>, start: u64, size: u32, count: u32) -> Heap {
        Heap {
            device,
            start,
            size: size.max(1),
            count,
        }
    }

    /// Bytes of a cluster.
    pub fn size(&self) -> u64 {
        u64::from(self.size)
    }

    /// Number of clusters.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether there is a cluster with this number.
    pub fn holds(&self, cluster: u32) -> bool {
        cluster
            .checked_sub(FIRST)
            .is_some_and(|number| number < self.count)
    }

    /// Where `cluster` begins, in bytes of the volume.
    pub fn place(&self, cluster: u32) -> u64 {
        u64::from(cluster.saturating_sub(FIRST))
            .saturating_mul(self.size())
            .saturating_add(self.start)
    }

    /// The cluster that holds this byte of the volume.
    pub fn cluster_at(&self, position: u64) -> Option<u32> {
        let number = position
            .checked_sub(self.start)?
            .checked_div(self.size())
            .and_then(|number| u32::try_from(number).ok())?;
        number
            .checked_add(FIRST)
            .filter(|&cluster| self.holds(cluster))
    }

    /// How many clusters `bytes` take; more than there are if that is more than 32 bits count.
    pub fn clusters_of(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(self.size())).unwrap_or(u32::MAX)
    }

    /// Fills `buffer` from byte `position` of the volume.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) beyond the end of the device: the volume says that something
    /// is where nothing can be.
    pub fn read(&self, position: u64, buffer: &mut [u8]) -> Result<()> {
        match position.checked_add(to_u64(buffer.len())) {
            Some(end) if end <= self.device.size() => self.device.read_exact_at(position, buffer),
            _ => Err(
                Error::damaged("the file system points beyond the end of its volume")
                    .at_offset(position),
            ),
        }
    }

    /// Hints that `length` bytes from byte `position` of the volume on are read soon.
    pub fn will_need(&self, position: u64, length: u64) {
        self.device
            .will_need(position..position.saturating_add(length));
    }
}
