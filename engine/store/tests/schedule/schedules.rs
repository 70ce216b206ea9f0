//! The schedules that are run.

use crate::disk::Dice;
use crate::schedule::Schedule;
use std::sync::Arc;

fn number(name: &str, otherwise: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Runs so many schedules, of some rounds each, between which all is quiet now and then.
fn run(what: &str, count: u64, round: impl Fn(&Arc<Schedule>, &mut Dice)) {
    let first = number("SCHEDULE_SEED", 0);
    let count = count * number("SCHEDULE_ROUNDS", 1);
    let (mut operations, mut crashes) = (0, 0);
    let mut wrong = Vec::new();
    for seed in first..first + count {
        let mut dice = Dice::new(seed);
        let schedule = Schedule::new();
        for last in [false, false, true] {
            round(&schedule, &mut dice);
            if last || dice.toss() {
                schedule.rest();
            }
        }
        let counts = schedule.counts();
        operations += counts.0;
        crashes += counts.1;
        if let Some(why) = schedule.wrong() {
            wrong.push(format!("SCHEDULE_SEED={seed} {what}: {why}"));
        }
    }
    println!("COUNTED: {count} random schedules {what}");
    println!("COUNTED: {operations} operations in random schedules");
    println!("COUNTED: {crashes} crashes in random schedules");
    let number = wrong.len();
    println!("{number} violations");
    if let Some(first) = wrong.first() {
        let all: Vec<&str> = wrong.iter().filter_map(|w| w.lines().next()).collect();
        panic!("{number} violations:\n{}\n\n{first}", all.join("\n"));
    }
}

#[test]
fn one_within_the_other() {
    run("one within the other", 150, |schedule, dice| {
        schedule.one_within_the_other(dice);
    });
}

#[test]
fn at_once() {
    run("at once", 10, |schedule, dice| schedule.at_once(dice));
}
