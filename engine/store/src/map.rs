//! The map of a disk: a fixed tree over disk offsets, made of chunks.
//!
//! A leaf covers one region of 4 MiB, a node 256 children. The map is canonical: equal disks have equal roots, so two
//! points are compared by walking two trees and skipping equal ids.

pub mod build;
pub mod holes;
pub mod leaf;
pub mod node;
pub mod shape;

pub use build::MapBuilder;
pub use leaf::{Extent, Leaf, Part};
pub use shape::{REGION, Shape};
