//! Cluster numbers and the clusters of a volume.

use super::run_list::RunList;
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result};
use std::sync::Arc;

/// A cluster number on the volume ("logical cluster number").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lcn(pub u64);

/// A cluster number within an attribute ("virtual cluster number").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vcn(pub u64);

/// The volume as bytes and clusters: the only door to the device below.
#[derive(Clone)]
pub struct Clusters {
    device: Arc<dyn ReadAt>,
    /// Bytes, a power of two from 512 to 2 MiB.
    size: u32,
    /// Number of clusters the boot sector gives the volume.
    count: u64,
}

impl Clusters {
    /// `size` is a power of two, as the boot sector's decoder checked.
    pub fn new(device: Arc<dyn ReadAt>, size: u32, count: u64) -> Clusters {
        Clusters {
            device,
            size: size.max(1),
            count,
        }
    }

    /// Bytes of a cluster.
    pub fn size(&self) -> u64 {
        u64::from(self.size)
    }

    /// Number of clusters.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Bytes of the device below, which may be fewer than the volume claims.
    pub fn device_size(&self) -> u64 {
        self.device.size()
    }

    /// `clusters` in bytes.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if no disk is that large.
    pub fn bytes(&self, clusters: u64) -> Result<u64> {
        clusters
            .checked_mul(self.size())
            .filter(|&bytes| i64::try_from(bytes).is_ok())
            .ok_or_else(|| Error::damaged(format!("cluster number {clusters} is impossible")))
    }

    /// Fills `buffer` from `offset` of the volume.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) beyond the end of the device: the volume says that something
    /// is where nothing can be.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        match offset.checked_add(to_u64(buffer.len())) {
            Some(end) if end <= self.device.size() => self.device.read_exact_at(offset, buffer),
            _ => Err(
                Error::damaged("the file system points beyond the end of its volume")
                    .at_offset(offset),
            ),
        }
    }

    /// Fills `buffer` from `offset` of what `runs` cover; holes read as zeros.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) where no run is, or where a run points beyond the volume.
    pub fn read_runs(&self, runs: &RunList, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let mut rest = buffer;
        let mut at = offset;
        while !rest.is_empty() {
            let vcn = Vcn(at.checked_div(self.size()).unwrap_or(0));
            let within = at & self.size().saturating_sub(1);
            let Some(run) = runs.at(vcn) else {
                return Err(Error::damaged(format!(
                    "no clusters are allocated for byte {at} of a stream that claims to be longer"
                )));
            };
            let left = self.bytes(run.clusters)?.saturating_sub(within);
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
            let Some((now, later)) = rest.split_at_mut_checked(take) else {
                break;
            };
            match run.lcn {
                None => now.fill(0),
                Some(lcn) => self.read(self.bytes(lcn.0)?.saturating_add(within), now)?,
            }
            at = at.saturating_add(to_u64(take));
            rest = later;
        }
        Ok(())
    }

    /// Hints that `length` bytes from `offset` of the volume are read soon.
    pub fn will_need(&self, offset: u64, length: u64) {
        self.device.will_need(offset..offset.saturating_add(length));
    }
}
