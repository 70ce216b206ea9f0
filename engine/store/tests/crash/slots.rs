//! The newest slot of the state is lost, in the middle of a prune, or after one that was cut short: no point loses anything, and work goes on.

use crate::disk::End;
use crate::machine::Lie;
use crate::number;
use crate::scenarios::{Scenario, named, prepared};

const SCENARIOS: [&str; 2] = ["prune", "prune that finds what it condemned needed again"];

fn cut_short(scenario: &Scenario, seed: u64) -> (u64, Vec<String>) {
    let ready = prepared(scenario, Lie::None);
    let mut wrong = Vec::new();
    for call in 0.. {
        let mut world = ready.on(ready.machine.copy());
        world.machine.die_at(call);
        let _whatever = (scenario.act)(&mut world);
        let died = world.machine.is_dead();
        let powers = [End::Synced, End::Journal, End::Anything];
        let power = powers[usize::try_from((call + seed) % 3).unwrap()];
        for end in [End::Killed, power] {
            let machine = world.machine.after(end, seed * 1_000_003 + call);
            let mut after = world.on(machine);
            after.machine.lose_slot();
            after.hurt = true;
            if let Err(error) = after.check() {
                wrong.push(format!(
                    "{}/{call} seed {seed} ({end:?}): {error}",
                    scenario.name
                ));
            }
        }
        if !died {
            return (call, wrong);
        }
    }
    unreachable!("there is an end to its calls")
}

fn in_the_middle(scenario: &Scenario) -> (u64, Vec<String>) {
    let ready = prepared(scenario, Lie::None);
    let mut wrong = Vec::new();
    let total = {
        let mut world = ready.on(ready.machine.copy());
        let before = world.machine.counts().1;
        (scenario.act)(&mut world).unwrap();
        world.machine.counts().1 - before
    };
    for call in 0..=total {
        let mut world = ready.on(ready.machine.copy());
        world.machine.lose_slot_at(call);
        let outcome = (scenario.act)(&mut world);
        world.hurt = true;
        if let Err(error) = outcome {
            wrong.push(format!("{}/{call}: {error}", scenario.name));
        }
        if let Err(error) = world.check() {
            wrong.push(format!("{}/{call} in the middle: {error}", scenario.name));
        }
    }
    (total, wrong)
}

fn tell(scenario: &Scenario, count: u64, wrong: &[String]) {
    println!(
        "{}: {count} calls, {} violations",
        scenario.name,
        wrong.len()
    );
    println!("COUNTED: {count} calls at which a slot was lost");
    assert!(wrong.is_empty(), "{:#?}", &wrong[..wrong.len().min(5)]);
}

#[test]
fn after_a_prune_that_was_cut_short() {
    for scenario in SCENARIOS.map(named) {
        let first = number("CRASH_SEED", 0);
        for seed in first..first + number("CRASH_ROUNDS", 1) {
            let (count, wrong) = cut_short(scenario, seed);
            tell(scenario, count, &wrong);
        }
    }
}

#[test]
fn while_it_goes_on() {
    for scenario in SCENARIOS.map(named) {
        let (count, wrong) = in_the_middle(scenario);
        tell(scenario, count, &wrong);
    }
}
