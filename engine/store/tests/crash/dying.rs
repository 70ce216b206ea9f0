//! Everything stops before each call that changes something.

use crate::chosen;
use crate::disk::End;
use crate::machine::Lie;
use crate::scenarios::{Scenario, prepared};

/// Dies at every changing call of the scenario, and checks what is left in several ways. Ends when
/// `enough` is wrong. Answers how many times it died, and what was wrong.
pub fn die_everywhere(
    scenario: &Scenario,
    lie: Lie,
    first: u64,
    rounds: u64,
    enough: usize,
) -> (u64, Vec<String>) {
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
        if !died && let Err(error) = &outcome {
            wrong.push(format!("{what}: {error}"));
        }
        if !died || wrong.len() >= enough {
            break;
        }
    }
    (count, wrong)
}
