//! Recovery points and disk images as a file system: read-only, but for raw disks where that is wished.
//!
//! `SEMANTICS.md` beside this crate says what every operation promises. From the ground up:
//!
//! - [`failure`]: why an operation fails, and its errno
//! - [`journal`]: what goes wrong, told in lines
//! - [`look`]: owners and modes as they are shown, names compared without regard to case
//! - [`inode`]: stable inode numbers without a table of visited files
//! - [`paths`]: numbers of paths below `versions`
//! - [`stat`]: what is said of a node
//! - [`node`]: what there is: machines, points, disks, volumes, entries of guests
//! - [`catalog`], [`changes`]: machines and points as they are now, and the points that are open; when lists were seen to change
//! - [`holds`]: points that stay open because the kernel knows of something in them
//! - [`past`]: the versions of a file, and all names that a folder ever had
//! - [`extents`]: holes, for `SEEK_HOLE`, `SEEK_DATA` and allocated blocks
//! - [`writable`]: disks that can be written to, each in a private overlay
//! - [`tree`]: the whole file system, without a kernel
//! - [`awake`]: processors that do not sleep between two requests
//! - [`asker`]: what the kernel is asked to forget, and what is closed because the store has forgotten it
//! - [`workers`], [`adapter`]: requests of the kernel brought to the tree
//! - [`device`], [`ground`], [`stale`], [`mount`]: mounting, what must not be covered, mounts that lost their program, unmounting
#![cfg_attr(
    not(test),
    warn(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

pub mod adapter;
pub mod asker;
pub mod awake;
pub mod catalog;
pub mod changes;
pub mod device;
pub mod extents;
pub mod failure;
pub mod ground;
pub mod holds;
pub mod inode;
pub mod journal;
pub mod look;
pub mod mount;
pub mod node;
pub mod past;
pub mod paths;
pub mod stale;
pub mod stat;
pub mod tree;
pub mod workers;
pub mod writable;

pub use failure::Failure;
pub use look::Look;
pub use mount::{MountOptions, Mounted, Unmounted, mount_image, mount_store};
pub use stat::Stat;
pub use tree::Tree;
pub use writable::Scratch;
