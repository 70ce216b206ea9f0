//! The index: chunk id to places. Immutable, sorted, memory-mapped segments, each with a filter in front.

pub mod filter;
pub mod merge;
pub mod page;
pub mod place;
pub mod segment;
pub mod set;
pub mod write;

pub use place::{Entry, Place};
pub use segment::Segment;
pub use set::IndexSet;
pub use write::SegmentWriter;
