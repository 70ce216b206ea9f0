//! A backup: plan, read, cut and hash, look up, compress, seal, publish. Bounded memory, threads, no async.
//!
//! Workers take regions in disk order and do everything for a region that needs no order: read, hash, cut, look up,
//! compress. The calling thread takes their results in disk order, writes frames to packs and leaves to the map. One more
//! thread seals packs, so that nobody waits for a disk to sync.

pub mod assemble;
pub mod changed;
pub mod compare;
pub mod gate;
pub mod level;
pub mod plan;
pub mod region;
pub mod run;
pub mod seal;
pub mod sink;
pub mod work;
pub mod worker;

pub use level::Level;
pub use run::{BackupOptions, BackupReport, ChangeSource, DiskInput, Images, backup};
