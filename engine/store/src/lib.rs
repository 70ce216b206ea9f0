//! The store of Cairn: recovery points of disks, cut into chunks, each stored once, in packs that are never changed.
//!
//! - [`cut`], [`gear`], [`hash`], [`frame`], [`map`]: what a disk becomes
//! - [`pack`], [`parity`], [`index`], [`contents`], [`state`], [`header`], [`policy`], [`damage`], [`layout`]: how it lies on disk (`engine/FORMAT.md` has every byte)
//! - [`store`], [`session`], [`publish`], [`catalog`], [`compact`]: who may do what, and in which order
//! - [`backup`], [`read`], [`tree`], [`disk`], [`region`], [`difference`](mod@difference), [`verify`], [`repair`], [`prune`](mod@prune), [`stats`](mod@stats): what a front-end does with it
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::as_conversions))]

pub mod backup;
pub mod cache;
pub mod catalog;
pub mod changes;
pub mod claims;
pub mod codec;
pub mod compact;
pub mod contents;
pub mod cut;
pub mod damage;
pub mod difference;
pub mod disk;
pub mod doctor;
pub mod frame;
pub mod gear;
pub mod hash;
pub mod header;
pub mod index;
pub mod layout;
pub mod map;
#[doc(hidden)]
pub mod mistake;
pub mod names;
pub mod pack;
pub mod parity;
pub mod point;
pub mod policy;
pub mod proof;
pub mod prune;
pub mod publish;
pub mod read;
mod recent;
pub mod region;
pub mod repair;
pub mod session;
pub mod state;
pub mod stats;
pub mod store;
mod sync;
pub mod tree;
pub mod verify;

pub use backup::{BackupOptions, BackupReport, ChangeSource, DiskInput, Images, Level, backup};
pub use changes::{Change, ChangeList, Changes};
pub use cut::CutParameters;
pub use difference::{ChangeSink, Detail, difference};
pub use disk::StoredDisk;
pub use names::PointName;
pub use point::{
    Consistency, DiskRecord, ImageFacts, ImageState, Origin, Point, PointRecord, ToldBy,
};
pub use proof::{ProofSummary, Proofs};
pub use prune::{PruneOptions, PruneReport, prune, prune_with};
pub use read::ChunkReader;
pub use region::{RegionMap, RegionRead, RegionReader, RegionReads};
pub use repair::{RepairReport, Repaired, rebuild_state, repair};
pub use session::{Session, SessionKind};
pub use stats::{
    Locality, MachineStats, MachineUsage, PointUsage, StoreStats, Totals, Usage, UsageOptions,
    locality, stats, usage,
};
pub use store::Store;
pub use tree::Tree;
pub use verify::{Damage, Depth, Pick, VerifyOptions, VerifyReport, verify, verify_with};
