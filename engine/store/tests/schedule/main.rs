//! Random schedules: backups, forgetting, pins, pruning, reading, verification, merges and repairs, one within the other and at once, in processes
//! that are killed and machines whose power fails, against a plain copy of every disk. Nothing that was reported is lost, nothing that was
//! forgotten comes back, and when all is quiet a prune leaves nothing that nobody needs.
//!
//! SCHEDULE_SEED=N    begins with another seed (default 0); a failure prints its own
//! SCHEDULE_ROUNDS=N  so many times as many schedules (default 1)
#![cfg(test)]
#![allow(dead_code, reason = "the tests of crashes use all of their parts")]

#[path = "../crash/acts.rs"]
mod acts;
#[path = "../crash/disk.rs"]
mod disk;
#[path = "../crash/machine.rs"]
mod machine;
mod model;
mod operations;
mod process;
mod quiet;
mod schedule;
mod schedules;
#[path = "../crash/world.rs"]
mod world;
