//! What our own synchronisation is made of, in one place: a model checker compiles the same sources with its own in their stead
//! (`tests/model`).

pub(crate) use parking_lot::{Condvar, Mutex};
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
pub(crate) use std::time::Instant;
