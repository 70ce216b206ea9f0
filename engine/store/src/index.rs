//! The index: chunk id to places. Immutable, sorted, memory-mapped segments, made of blocks with a filter each.

pub mod block;
pub mod check;
pub mod filter;
pub mod footer;
pub mod fuse;
pub mod marks;
pub mod merge;
pub mod packs;
pub mod page;
pub mod place;
pub mod policy;
pub mod resident;
pub mod search;
pub mod segment;
pub mod set;
pub mod table;
pub mod write;

pub use place::{Entry, Place};
pub use segment::Segment;
pub use set::{IndexSet, Numbered};
pub use table::PackRow;
pub use write::{SegmentWriter, write_segment};
