//! Every operation against every other, as the table in DESIGN.md says: in threads that share the store, as the front-ends of one
//! process do, and in threads that open it themselves, as processes do. Processes that are killed are in `tests/cli/against.rs`.
//!
//! Pairs with a repair are done twice: in a store that is whole, and in one of which packs are damaged within their parity.
//!
//! LOCKS_ROUNDS=N  so many rounds of each pair (default 1)
#![cfg(test)]

mod operations;
mod pairs;
mod world;
