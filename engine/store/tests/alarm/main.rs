//! The checks must be able to fail: mistakes that are made on purpose, by the machine or by the store itself, are each noticed by the
//! checks that the other tests use; and without a mistake the same checks notice nothing.
//!
//! Release builds cannot make mistakes, so there is nothing to test in them.
#![cfg(test)]
#![cfg(debug_assertions)]
#![allow(dead_code, reason = "the tests of crashes use all of their parts")]

#[path = "../crash/acts.rs"]
mod acts;
#[path = "../crash/disk.rs"]
mod disk;
#[path = "../crash/dying.rs"]
mod dying;
#[path = "../crash/machine.rs"]
mod machine;
mod mistakes;
#[path = "../crash/scenarios.rs"]
mod scenarios;
#[path = "../crash/world.rs"]
mod world;

/// Whether this is to be run: everything is.
fn chosen(_what: &str) -> bool {
    true
}
