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

pub mod bitlocker;
pub mod dos;
pub mod exfat;
pub mod ext;
pub mod fat;
pub mod hive;
pub mod ldm;
pub mod mounted_devices;
pub mod ntfs;
pub mod partition;
pub mod probe;
pub mod volume;

pub use bitlocker::{BitLockerInfo, Keys, ProtectorInfo};
pub use fat::CodePage;
pub use partition::{DeviceId, Partition, PartitionTable, TableKind};
pub use probe::{Detected, ReadOptions, open_volume, open_volume_with};
pub use volume::{
    Attributes, DirEntry, DirSink, EntryId, EntryKind, Extent, ExtentSink, LinkTarget, Note,
    RangeSink, Reading, StreamInfo, Volume, VolumeInfo,
};
