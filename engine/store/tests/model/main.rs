//! Our own synchronisation in every order of its threads that chance finds: the sources of the product, compiled with a model
//! checker's locks and threads. It also finds threads that wait for ever.
//!
//! MODEL_ROUNDS=N  orders that are tried of each (default as below)
#![cfg(test)]

mod claiming;
#[allow(
    dead_code,
    reason = "the product's source, of which not all is asked here"
)]
#[path = "../../src/claims.rs"]
mod claims;
#[path = "../../src/backup/gate.rs"]
mod gate;
mod passing;
mod sync;

/// Tries so many orders.
fn check(rounds: usize, run: impl Fn() + Send + Sync + 'static) {
    let asked = std::env::var("MODEL_ROUNDS").ok();
    let rounds = asked.and_then(|text| text.parse().ok()).unwrap_or(rounds);
    shuttle::check_random(run, rounds);
    println!("COUNTED: {rounds} orders of threads");
}
