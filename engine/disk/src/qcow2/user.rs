//! Who uses clusters of the file, for the check.

use std::fmt;
use std::ops::Range;

/// Who.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// The first cluster.
    Header,
    /// The L1 table of an [`Of`].
    L1(Of),
    /// The L2 table of an entry of that.
    L2(Of, u64),
    /// A cluster of the guest.
    Cluster(Of, u64),
    /// A cluster of the guest that is compressed: several share clusters of the file.
    Compressed(Of, u64),
    /// The refcount table.
    RefcountTable,
    /// The refcount block of an entry of that.
    RefcountBlock(u64),
    /// The snapshot table.
    Snapshots,
    /// The bitmap directory.
    BitmapDirectory,
    /// The table of a bitmap, counted from 1.
    BitmapTable(u64),
    /// A cluster of a bitmap, counted from 1.
    BitmapPart(u64, u64),
}

/// Whose L1 table it is: 0 is the disk as it is now, 1 its first snapshot, and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Of(pub(super) u64);

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Header => f.write_str("the header"),
            Owner::L1(Of(0)) => f.write_str("the active L1 table"),
            Owner::L1(Of(snapshot)) => write!(f, "the L1 table of snapshot {snapshot}"),
            Owner::L2(Of(0), table) => write!(f, "L2 table {table}"),
            Owner::L2(Of(snapshot), table) => write!(f, "L2 table {table} of snapshot {snapshot}"),
            Owner::Cluster(of, number) => write!(f, "cluster {number} of {of}"),
            Owner::Compressed(of, number) => write!(f, "compressed cluster {number} of {of}"),
            Owner::RefcountTable => f.write_str("the refcount table"),
            Owner::RefcountBlock(block) => write!(f, "refcount block {block}"),
            Owner::Snapshots => f.write_str("the snapshot table"),
            Owner::BitmapDirectory => f.write_str("the bitmap directory"),
            Owner::BitmapTable(bitmap) => write!(f, "the table of bitmap {bitmap}"),
            Owner::BitmapPart(bitmap, part) => write!(f, "part {part} of bitmap {bitmap}"),
        }
    }
}

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("the disk"),
            snapshot => write!(f, "snapshot {snapshot}"),
        }
    }
}

impl Owner {
    /// Whether there is anybody with whom it may share a cluster: L2 tables and what they lead to.
    pub(super) fn may_be_shared(self) -> bool {
        matches!(
            self,
            Owner::L2(..) | Owner::Cluster(..) | Owner::Compressed(..)
        )
    }

    /// Whether both may use one cluster of the file if it is counted twice: what a snapshot has in common with the disk or another one, and what is
    /// compressed.
    pub(super) fn may_share(self, other: Owner) -> bool {
        match (self, other) {
            (Owner::Compressed(..), Owner::Compressed(..)) => true,
            (Owner::L2(one, _), Owner::L2(other, _))
            | (Owner::Cluster(one, _), Owner::Cluster(other, _)) => one != other,
            _ => false,
        }
    }
}

/// Bytes of the file that somebody uses: they lie within it, but for less than a cluster at its end.
#[derive(Debug, Clone)]
pub(super) struct Use {
    /// Who.
    pub(super) owner: Owner,
    /// The bytes.
    pub(super) bytes: Range<u64>,
    /// Where in the file that is written.
    pub(super) written_at: u64,
    /// Whether the entry says that nobody else does (COPIED); `None` if it cannot say so.
    pub(super) is_copied: Option<bool>,
}

/// What walks over all uses.
pub(super) trait Visitor {
    /// These bytes are used.
    ///
    /// # Errors
    /// What keeps the walk from going on.
    fn uses(&mut self, found: &Use) -> cairn_base::Result<()>;

    /// An entry says what cannot be.
    fn wrong(&mut self, topic: crate::check::Topic, written_at: u64, what: &dyn Fn() -> String);

    /// Something is not looked at although nothing may be wrong with it.
    fn passed_over(&mut self, _written_at: u64, _what: &dyn Fn() -> String) {}

    /// So many bytes of tables more were read.
    ///
    /// # Errors
    /// [`Kind::Interrupted`](cairn_base::Kind::Interrupted) if the user asked to stop.
    fn advance(&mut self, bytes: u64) -> cairn_base::Result<()>;

    /// Whether the entries of L2 tables are to be looked at.
    fn wants_clusters(&self) -> bool {
        true
    }
}
