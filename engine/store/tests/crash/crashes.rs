//! Everything stops before each call that changes something.

use crate::disk::End;
use crate::machine::Lie;
use crate::scenarios::{ALL, Scenario, prepared};
use crate::{chosen, number};

/// Dies at every changing call of the scenario, and checks what is left in several ways. Answers how many times, and what was wrong.
fn die_everywhere(scenario: &Scenario, lie: Lie, first: u64, rounds: u64) -> (u64, Vec<String>) {
    let ready = prepared(scenario, lie);
    let mut wrong = Vec::new();
    let mut count = 0;
    for call in 0.. {
        let what = format!("{}/{call}", scenario.name);
        let mut world = ready.on(ready.machine.copy());
        world.machine.die_at(call);
        let outcome = (scenario.act)(&mut world);
        let died = world.machine.is_dead();
        if chosen(&what) {
            for seed in first..first + rounds {
                // Each seed a kill, a failure of the power, and both one after the other.
                let powers = [End::Synced, End::Journal, End::Anything];
                let power = powers[usize::try_from((call + seed) % 3).unwrap()];
                for end in [End::Killed, power] {
                    count += 1;
                    if let Err(error) = world.check_after(end, seed * 1_000_003 + call) {
                        wrong.push(format!(
                            "CRASH_SEED={seed} CRASH_ONLY='{what}' ({end:?}): {error}"
                        ));
                    }
                }
                count += 1;
                let ends = if seed % 2 == 0 {
                    [End::Killed, power]
                } else {
                    [power, End::Killed]
                };
                if let Err(error) = world.check_after_two(ends, seed * 7919 + call * 31) {
                    wrong.push(format!(
                        "CRASH_SEED={seed} CRASH_ONLY='{what}' (twice, {ends:?}): {error}"
                    ));
                }
            }
        }
        if !died {
            assert!(outcome.is_ok(), "{what}: {outcome:?}");
            break;
        }
    }
    (count, wrong)
}

fn nothing_is_lost(scenarios: &[&str]) {
    let (seed, rounds) = (number("CRASH_SEED", 0), number("CRASH_ROUNDS", 1));
    nothing_is_lost_with(scenarios, seed, rounds);
}

fn nothing_is_lost_with(scenarios: &[&str], seed: u64, rounds: u64) {
    let of = |name: &&str| ALL.iter().find(|scenario| scenario.name == *name).unwrap();
    for scenario in scenarios.iter().map(of) {
        let (_, calls, syncs) = {
            let mut world = prepared(scenario, Lie::None);
            let before = world.machine.counts();
            (scenario.act)(&mut world).unwrap();
            let after = world.machine.counts();
            (after.0 - before.0, after.1 - before.1, after.2 - before.2)
        };
        let (count, wrong) = die_everywhere(scenario, Lie::None, seed, rounds);
        println!(
            "{}: {calls} changing calls, {syncs} of them syncs; {count} crashes, {} violations",
            scenario.name,
            wrong.len()
        );
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
fn repairs() {
    nothing_is_lost(&[
        "repair of damaged packs",
        "repair of packs and a lost segment",
    ]);
}

/// The checks must be able to fail: a store on a machine that lies loses something, and they see it.
#[test]
fn the_alarm_rings() {
    let first = ALL
        .iter()
        .find(|scenario| scenario.name == "first backup")
        .unwrap();
    for lie in [Lie::FolderSync, Lie::PackSync, Lie::FileSync, Lie::WrongBit] {
        let (_, wrong) = die_everywhere(first, lie, 0, 3);
        assert!(!wrong.is_empty(), "{lie:?} was not noticed");
    }
}
