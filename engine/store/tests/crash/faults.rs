//! Each call fails in turn, once or from then on.

use crate::disk::End;
use crate::machine::{Fault, Lie};
use crate::scenarios::{Scenario, named, prepared};
use crate::{chosen, number};
use cairn_base::Kind;

const KINDS: [Kind; 3] = [Kind::Full, Kind::Io, Kind::Denied];

/// Lets each call fail. Answers how many faults there were, and what was wrong.
fn fail_everywhere(
    scenario: &Scenario,
    changes: bool,
    lasting: bool,
    seed: u64,
) -> (u64, Vec<String>) {
    let ready = prepared(scenario, Lie::None);
    let mut wrong = Vec::new();
    let mut count = 0;
    for at in 0.. {
        let what = format!("{}/{at}", scenario.name);
        let kind = KINDS[usize::try_from((at + seed) % 3).unwrap()];
        let mut world = ready.on(ready.machine.copy());
        // A call that fails may look like damage that nobody knew.
        world.lists.clear();
        world.machine.fail(Some(Fault {
            at,
            changes,
            lasting,
            kind,
        }));
        let outcome = (scenario.act)(&mut world);
        if world.machine.faults() == 0 {
            assert!(outcome.is_ok(), "{what}: {outcome:?}");
            break;
        }
        world.machine.fail(None);
        if !chosen(&what) {
            continue;
        }
        count += 1;
        let fault = format!(
            "CRASH_SEED={seed} CRASH_ONLY='{what}' ({kind:?}, changes {changes}, lasting {lasting})"
        );
        if let Err(error) = &outcome
            && error.kind() != kind
        {
            wrong.push(format!("{fault}: told as {:?}: {error}", error.kind()));
        }
        if let Err(error) = world.check_after(End::Killed, 0) {
            wrong.push(format!("{fault}: {error}"));
        }
    }
    (count, wrong)
}

fn nothing_is_lost(scenarios: &[&str]) {
    let seed = number("CRASH_SEED", 0);
    for scenario in scenarios.iter().map(|name| named(name)) {
        let mut all = Vec::new();
        let mut faults = 0;
        // Any one call; writing from some call on, as on a disk that is full.
        for (changes, lasting) in [(false, false), (true, true)] {
            let (count, wrong) = fail_everywhere(scenario, changes, lasting, seed);
            faults += count;
            all.extend(wrong);
        }
        println!(
            "{}: {faults} faults, {} violations",
            scenario.name,
            all.len()
        );
        println!("COUNTED: {faults} faults");
        assert!(all.is_empty(), "{:#?}", &all[..all.len().min(5)]);
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
fn early_publications_and_merges() {
    nothing_is_lost(&["backup with checkpoints", "merging of small packs"]);
}

#[test]
fn prunes() {
    nothing_is_lost(&["prune"]);
}

#[test]
fn forgetting() {
    nothing_is_lost(&["forgetting", "forgetting all"]);
}

#[test]
fn repairs() {
    nothing_is_lost(&["repair of damaged packs", "repair with a list of damage"]);
}
