//! The store on a disk that loses what was not synced, and on one that fails: at every call, nothing that was reported is lost.
//!
//! CRASH_SEED=N    begins with another seed (default 0)
//! CRASH_ROUNDS=N  so many seeds for each call (default 1)
//! CRASH_ONLY="SCENARIO/CALL"  only this one, as a failure prints it
#![cfg(test)]

mod acts;
mod crashes;
mod disk;
mod dying;
mod faults;
mod leftovers;
#[allow(dead_code, reason = "the tests of the alarm use all of its lies")]
mod machine;
mod scenarios;
mod slots;
mod world;

/// A number from the environment.
fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

/// Whether this is to be run, if only one is.
fn chosen(what: &str) -> bool {
    std::env::var("CRASH_ONLY").map_or(true, |only| only == what)
}
