//! Where the header says that tables lie which only a check looks at: all of the active L1 table, reference counts, snapshots, bitmaps.

use super::extensions::{Bitmaps, Extensions};
use super::header::Header;
use crate::align::to_usize;
use cairn_base::read_at::read_vec;
use cairn_base::{ReadAt, Result, View};

/// Where the header's fields stand ("Header").
pub(super) const L1_SIZE: u64 = 36;
pub(super) const L1_OFFSET: u64 = 40;
pub(super) const REFCOUNT_TABLE: u64 = 48;
pub(super) const REFCOUNT_TABLE_CLUSTERS: u64 = 56;
pub(super) const SNAPSHOT_COUNT: u64 = 60;
pub(super) const SNAPSHOTS: u64 = 64;
pub(super) const INCOMPATIBLE: u64 = 72;
pub(super) const REFCOUNT_ORDER: u64 = 96;

/// Version 2 has counts of 16 bits.
const ORDER_2: u32 = 4;
/// The bit of `autoclear_features` that says that the bitmaps are as the extension says.
const HAS_BITMAPS: u64 = 1;

/// What the first cluster says.
pub(super) struct Roots {
    /// Entries of the active L1 table, also those that the disk does not need.
    pub(super) l1_entries: u64,
    /// Where the refcount table begins, in bytes.
    pub(super) refcount_table: u64,
    /// Clusters of the refcount table.
    pub(super) refcount_table_clusters: u64,
    /// A count has 2 to the power of this many bits; not checked.
    pub(super) refcount_order: u32,
    /// Where the snapshot table begins, and entries of it.
    pub(super) snapshots: (u64, u64),
    /// The bitmaps, if they are valid.
    pub(super) bitmaps: Option<Bitmaps>,
}

impl Roots {
    /// Those of `image`, whose header was read before.
    ///
    /// # Errors
    /// What the image says when it is read; [`Kind::Damaged`](cairn_base::Kind::Damaged) if it was changed since.
    pub(super) fn read(image: &dyn ReadAt, header: &Header) -> Result<Roots> {
        let length = to_usize(image.size().min(header.cluster_size()))?;
        let head = read_vec(image, 0, length)?;
        let view = View::new(&head, "QCOW2 header", 0);
        let u32_at = |at: u64| view.u32_be(to_usize(at)?);
        let u64_at = |at: u64| view.u64_be(to_usize(at)?);
        let refcount_order = match header.version {
            2 => ORDER_2,
            _ => u32_at(REFCOUNT_ORDER)?,
        };
        let has_bitmaps = header.autoclear & HAS_BITMAPS != 0;
        let extensions = Extensions::parse(&head, header)?;
        Ok(Roots {
            l1_entries: u32_at(L1_SIZE)?.into(),
            refcount_table: u64_at(REFCOUNT_TABLE)?,
            refcount_table_clusters: u32_at(REFCOUNT_TABLE_CLUSTERS)?.into(),
            refcount_order,
            snapshots: (u64_at(SNAPSHOTS)?, u32_at(SNAPSHOT_COUNT)?.into()),
            bitmaps: extensions.bitmaps.filter(|_| has_bitmaps),
        })
    }

    /// Entries of the refcount table.
    pub(super) fn refcount_entries(&self, header: &Header) -> u64 {
        let bytes = self.refcount_table_clusters << header.cluster_bits;
        bytes >> 3
    }
}
