//! Files of a machine in all its recovery points: which path was there, in which versions, and from which point to which.
//!
//! - [`criteria`]: what is looked for
//! - [`glob`]: patterns of names
//! - [`letters`]: the drive letters of volumes
//! - [`found`]: what is told
//! - [`doubts`]: why what was found may be wrong
//! - [`walk`]: one volume, folder by folder
//! - [`versions`]: what was found so far, in bounded memory
//! - [`merge`]: what is found in a volume, and what was found before
//! - [`search`]: the points one after the other

mod criteria;
mod doubts;
mod found;
mod glob;
mod letters;
mod merge;
mod search;
mod versions;
mod walk;

pub use criteria::{Criteria, Lettered};
pub use found::{FileVersion, FindEvent, FindSink};
pub use glob::Glob;
pub use search::find_files;
