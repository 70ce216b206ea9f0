//! Parity: Reed-Solomon shards over a file's bytes, so that damaged sectors of it can be computed from the others.
//!
//! The bytes are divided into shards of 4 KiB, and these into stripes of at most 4 MiB. Each stripe has parity shards: as many
//! damaged shards of it, wherever they are, can be restored as it has whole parity shards. Which ones are damaged is told by a table of
//! checksums, written twice.

pub mod encode;
pub mod restore;
pub mod shape;
pub mod table;

pub use encode::{Area, Encoder};
pub use restore::Restorer;
pub use shape::Shape;
