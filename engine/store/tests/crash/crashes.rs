//! Every scenario, stopped before each call that changes something.

use crate::dying::die_everywhere;
use crate::machine::Lie;
use crate::number;
use crate::scenarios::{named, prepared};

fn nothing_is_lost(scenarios: &[&str]) {
    let (seed, rounds) = (number("CRASH_SEED", 0), number("CRASH_ROUNDS", 1));
    nothing_is_lost_with(scenarios, seed, rounds);
}

fn nothing_is_lost_with(scenarios: &[&str], seed: u64, rounds: u64) {
    for scenario in scenarios.iter().map(|name| named(name)) {
        let (_, calls, syncs) = {
            let mut world = prepared(scenario, Lie::None);
            let before = world.machine.counts();
            (scenario.act)(&mut world).unwrap();
            let after = world.machine.counts();
            (after.0 - before.0, after.1 - before.1, after.2 - before.2)
        };
        let (count, wrong) = die_everywhere(scenario, Lie::None, seed, rounds, usize::MAX);
        println!(
            "{}: {calls} changing calls, {syncs} of them syncs; {count} crashes, {} violations",
            scenario.name,
            wrong.len()
        );
        println!("COUNTED: {calls} changing calls to crash before");
        println!("COUNTED: {syncs} syncs among them");
        println!("COUNTED: {count} crashes");
        assert!(wrong.is_empty(), "{:#?}", &wrong[..wrong.len().min(5)]);
    }
}

#[test]
fn init_and_backups() {
    nothing_is_lost(&["init", "first backup", "unchanged backup"]);
}

#[test]
fn backups_with_a_base() {
    nothing_is_lost(&["next backup", "backup of what changed"]);
}

#[test]
fn early_publications() {
    // Seed 4 finds a state that was renamed into place by a process that was killed then, and lost with the power, after its manifest
    // had been swept.
    let (seed, rounds) = (number("CRASH_SEED", 4), number("CRASH_ROUNDS", 1));
    nothing_is_lost_with(&["backup with checkpoints"], seed, rounds);
}

#[test]
fn backups_at_once() {
    nothing_is_lost(&["two backups at once"]);
}

#[test]
fn merges() {
    nothing_is_lost(&["merging of small packs"]);
}

#[test]
fn forgetting() {
    nothing_is_lost(&[
        "forgetting",
        "forgetting all",
        "a backup after all was forgotten",
    ]);
}

#[test]
fn mending() {
    nothing_is_lost(&["backup after the loss of a slot and a header"]);
}

#[test]
fn prunes() {
    nothing_is_lost(&[
        "prune",
        "prune that finds what it condemned needed again",
        "backup after a prune that waits",
    ]);
}

#[test]
fn repairs() {
    nothing_is_lost(&[
        "repair of damaged packs",
        "repair of packs and a lost segment",
        "repair after a backup that was killed",
    ]);
}

#[test]
fn known_damage() {
    nothing_is_lost(&[
        "repair with a list of damage",
        "backup with a list of damage",
        "verification with a list of damage",
    ]);
}
