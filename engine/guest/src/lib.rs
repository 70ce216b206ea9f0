//! Partition tables and guest file systems, read from anything that implements [`ReadAt`](cairn_base::ReadAt):
//! no kernel driver, no hypervisor, no root.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

pub mod ext;
pub mod ldm;
pub mod ntfs;
pub mod partition;
pub mod probe;
pub mod volume;

pub use partition::{Partition, PartitionTable, TableKind};
pub use probe::{Detected, open_volume};
pub use volume::{
    Attributes, DirEntry, DirSink, EntryId, EntryKind, Extent, ExtentSink, Note, RangeSink,
    Reading, StreamInfo, Volume, VolumeInfo,
};
