//! A schedule: what several processes do with a store, in an order that follows from a seed.

use crate::disk::{Dice, End};
use crate::machine::{Lie, Machine};
use crate::model::Model;
use crate::operations::{Actor, Crowd, Operation, any};
use crate::process::{Beside, Process};
use crate::quiet;
use crate::world::Ticking;
use cairn_store::{CutParameters, Store};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Processes that may be within each other.
const PROCESSES: usize = 3;
/// What stands on points, and about how many calls it has; and what others do between these so that it shows whether they heed it.
const STANDS: [(Operation, usize); 6] = [
    (Operation::BackUp, 100),
    (Operation::BackUp, 100),
    (Operation::BackUp, 100),
    (Operation::BackUp, 100),
    (Operation::Read, 30),
    (Operation::Hold, 20),
];
const UNDER_IT: [Operation; 3] = [Operation::Forget, Operation::Prune, Operation::Prune];

/// A machine, the processes on it, and what is known.
pub struct Schedule {
    machine: Mutex<Machine>,
    actors: [Mutex<Arc<Actor>>; PROCESSES],
    model: Mutex<Model>,
    crowd: Crowd,
    crashes: AtomicU64,
    wrong: Mutex<Vec<String>>,
    /// What was begun, for whoever looks for what went wrong.
    log: Mutex<Vec<String>>,
}

/// Small numbers as often as large ones.
fn magnitude(dice: &mut Dice, most: u32) -> u64 {
    let bits = dice.below(most as usize + 1);
    1 + dice.below(1 << bits) as u64
}

fn actor(machine: &Machine) -> Arc<Actor> {
    Arc::new(Actor::new(Process::new(machine)))
}

impl Schedule {
    pub fn new() -> Arc<Schedule> {
        let machine = Machine::with(Default::default(), Lie::None);
        let cut = CutParameters::FastCdc {
            min: 2048,
            average: 8192,
            max: 32768,
        };
        Store::create_with(Arc::new(machine.clone()), cut, 0, &Ticking).unwrap();
        Arc::new(Schedule {
            actors: [(); PROCESSES].map(|()| Mutex::new(actor(&machine))),
            machine: Mutex::new(machine),
            model: Mutex::default(),
            crowd: Crowd::default(),
            crashes: AtomicU64::new(0),
            wrong: Mutex::default(),
            log: Mutex::default(),
        })
    }

    /// Operations and crashes so far.
    pub fn counts(&self) -> (u64, u64) {
        (self.crowd.count(), self.crashes.load(Ordering::SeqCst))
    }

    /// What was wrong, and what was done until then.
    pub fn wrong(&self) -> Option<String> {
        let wrong = self.wrong.lock().unwrap();
        let first = wrong.first()?;
        Some(format!("{first}\n{}", self.log.lock().unwrap().join("\n")))
    }

    fn machine(&self) -> Machine {
        self.machine.lock().unwrap().clone()
    }

    fn actor(&self, number: usize) -> Arc<Actor> {
        self.actors[number].lock().unwrap().clone()
    }

    fn note(&self, what: String) {
        self.log.lock().unwrap().push(what);
    }

    /// Lets a process do something once, and notes what is wrong.
    fn act(&self, number: usize, depth: usize, operation: Operation, dice: &mut Dice) {
        let actor = self.actor(number);
        let space = "  ".repeat(depth);
        self.note(format!("{space}{number} {operation:?}"));
        let outcome = actor.act(operation, &self.model, &self.crowd, dice);
        let died = actor.process.is_dead();
        self.note(format!(
            "{space}{number} {operation:?} {outcome:?} died {died}"
        ));
        match outcome {
            Err(why) if !died => {
                let why = format!("{operation:?}: {why}");
                self.wrong.lock().unwrap().push(why);
            }
            _ => {}
        }
    }

    /// A process that was killed is followed by another one.
    fn revive(&self, number: usize) {
        let machine = self.machine();
        let dead = self.actor(number).process.is_dead();
        if dead && !machine.is_dead() {
            self.crashes.fetch_add(1, Ordering::SeqCst);
            *self.actors[number].lock().unwrap() = actor(&machine);
        }
    }

    /// What others do between the calls of a process, by chance.
    fn some(self: &Arc<Self>, busy: &[usize], dice: &mut Dice) -> VecDeque<Beside> {
        let acts = (0..1 + dice.below(3)).map(|_| {
            let mut dice = Dice::new(dice.next());
            let (after, operation) = (magnitude(&mut dice, 9), any(&mut dice));
            self.beside(after, operation, busy.to_vec(), dice)
        });
        acts.collect()
    }

    /// Others take away what a process may stand on, at some moment.
    fn under(self: &Arc<Self>, busy: &[usize], calls: usize, dice: &mut Dice) -> VecDeque<Beside> {
        let mut most = calls;
        let acts = UNDER_IT.into_iter().map(|operation| {
            let after = dice.below(most) as u64;
            most = 1 + calls / 8;
            self.beside(after, operation, busy.to_vec(), Dice::new(dice.next()))
        });
        acts.collect()
    }

    fn beside(
        self: &Arc<Self>,
        after: u64,
        operation: Operation,
        busy: Vec<usize>,
        mut dice: Dice,
    ) -> Beside {
        let schedule = self.clone();
        Beside {
            after,
            act: Box::new(move || schedule.step(busy, operation, &mut dice)),
        }
    }

    /// Lets a process do something, with others between its calls; one of them, or the machine, may die on the way.
    fn step(self: &Arc<Self>, busy: Vec<usize>, mut operation: Operation, dice: &mut Dice) {
        let free: Vec<usize> = (0..PROCESSES).filter(|at| !busy.contains(at)).collect();
        let number = free[dice.below(free.len())];
        let depth = busy.len();
        let process = self.actor(number).process.clone();
        let mut inside = busy;
        inside.push(number);
        if depth == 0 && dice.below(5) < 2 {
            let calls;
            (operation, calls) = STANDS[dice.below(STANDS.len())];
            process.beside(self.under(&inside, calls, dice));
        } else if inside.len() < PROCESSES && dice.below(3) > 0 {
            process.beside(self.some(&inside, dice));
        }
        if dice.below(8) == 0 {
            process.die_at(magnitude(dice, 7));
        }
        if dice.below(30) == 0 {
            self.machine().die_at(magnitude(dice, 7));
        }
        self.act(number, depth, operation, dice);
        if operation == Operation::Hold {
            self.act(number, depth, Operation::ReadHeld, dice);
        }
        process.beside(VecDeque::new());
        process.spare();
        self.revive(number);
    }

    /// Some steps, one after the other, until the power fails.
    pub fn one_within_the_other(self: &Arc<Self>, dice: &mut Dice) {
        for _ in 0..3 + dice.below(8) {
            self.step(Vec::new(), any(dice), dice);
            if self.machine().is_dead() || !self.wrong.lock().unwrap().is_empty() {
                break;
            }
        }
        self.stop(dice);
    }

    /// Two processes of two threads each at once; one may be killed, or the power fail.
    pub fn at_once(self: &Arc<Self>, dice: &mut Dice) {
        if dice.toss() {
            self.actor(0).process.die_at(magnitude(dice, 11));
        }
        if dice.below(4) == 0 {
            self.machine().die_at(magnitude(dice, 12));
        }
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let mut dice = Dice::new(dice.next());
                scope.spawn(move || {
                    for _ in 0..4 {
                        let operation = any(&mut dice);
                        self.act(thread / 2, thread, operation, &mut dice);
                    }
                });
            }
        });
        (0..PROCESSES).for_each(|number| self.actor(number).process.spare());
        self.stop(dice);
    }

    /// Everything ends: as it should, killed, or with the power.
    fn stop(&self, dice: &mut Dice) {
        let machine = self.machine();
        let ends = [End::Synced, End::Journal, End::Anything, End::Killed];
        let power = ends[dice.below(3)];
        let end = match dice.below(4) {
            _ if machine.is_dead() => Some(power),
            0 => Some(power),
            1 => Some(End::Killed),
            _ => None,
        };
        let next = match end {
            Some(end) => {
                self.crashes.fetch_add(1, Ordering::SeqCst);
                self.note(format!("all stops: {end:?}"));
                machine.after(end, dice.next())
            }
            None => machine.copy(),
        };
        for slot in &self.actors {
            if end.is_some() {
                slot.lock().unwrap().process.kill();
            }
            *slot.lock().unwrap() = actor(&next);
        }
        *self.machine.lock().unwrap() = next;
    }

    /// Nobody does anything: is everything as it must be?
    pub fn rest(&self) {
        if !self.wrong.lock().unwrap().is_empty() {
            return;
        }
        self.note("all is quiet".to_string());
        let mut model = self.model.lock().unwrap();
        if let Err(why) = quiet::check(&self.machine(), &mut model) {
            self.wrong.lock().unwrap().push(why);
        }
    }
}
