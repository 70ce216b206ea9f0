//! Ground floor of Cairn. Everything here is plain: no knowledge of stores, disk images or file systems.
//!
//! - [`error`]: one error type, small stable [`Kind`]s, and where it happened
//! - [`read_at`]: the one narrow door to bytes, positional and shared by threads
//! - [`section`]: a range of something readable, as something readable
//! - [`view`]: bounded decoding of hostile bytes
//! - [`ids`], [`time`], [`units`]: the words the other floors share
//! - [`aligned`], [`cold`]: memory for transfers past the page cache, and large reads past it
//! - [`folder`]: the only door to the files of a store
//! - [`pages`]: index pages read in place from a memory map, or by positional reads
//! - [`monitor`], [`clock`]: how long work reports, and what time it is
#![cfg_attr(
    not(test),
    warn(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

pub mod aligned;
pub mod clock;
pub mod cold;
mod direct;
pub mod error;
pub mod folder;
pub mod ids;
pub mod local;
#[allow(unsafe_code)]
pub mod mapped;
pub mod monitor;
pub mod pages;
pub mod read_at;
pub mod section;
pub mod time;
pub mod units;
pub mod view;

pub use aligned::AlignedBuffer;
pub use clock::{Clock, SystemClock};
pub use error::{Error, Kind, Result};
pub use folder::{Folder, FolderStamp, LockMode, Space};
pub use ids::{ChunkId, PackId, PointId, SegmentId, SessionId};
pub use local::LocalFolder;
pub use monitor::{Monitor, Silent, Stage};
pub use pages::Pages;
pub use read_at::ReadAt;
pub use section::Section;
pub use time::Time;
pub use view::View;
