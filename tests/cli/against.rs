//! Every command against every other, one of which is killed at some moment: what was reported is there, what was not is whole or
//! not there at all, and the next writer clears away what the dead one left.
//!
//! AGAINST_SEED=N    other moments (default 1); a failure prints it
//! AGAINST_ROUNDS=N  so many rounds of all pairs (default 1)

use super::bench::{Answer, Bench, Running, text, time_of};
use super::mount::{Mounted, have_fuse};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

/// No command here takes longer, on a common machine; so a moment before this mostly meets it.
const MOMENTS: u64 = 60_000;

pub(super) fn number(name: &str, otherwise: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// A small generator of numbers: xorshift.
pub(super) struct Dice(u64);

impl Dice {
    fn new() -> Dice {
        Dice::of("AGAINST_SEED")
    }

    /// Of the seed in the environment, which is printed.
    pub(super) fn of(name: &str) -> Dice {
        let seed = number(name, 1);
        println!("{name}={seed}");
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// Waits for a moment.
    pub(super) fn pause(&mut self, microseconds: u64) {
        std::thread::sleep(Duration::from_micros(self.below(microseconds)));
    }
}

/// What is run; the exit codes it may have while others run, and whether it may be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    BackUp(&'static str),
    Restore,
    Verify,
    VerifyQuick,
    Points,
    Stats,
    Ls,
    Cat,
    Init,
    Repair,
    Doctor,
    /// All points but the last of a machine that nobody else looks at.
    Forget,
    Pin,
    Prune,
}

const VICTIMS: [Act; 9] = [
    Act::BackUp("m"),
    Act::BackUp("new"),
    Act::Restore,
    Act::Verify,
    Act::Cat,
    Act::Repair,
    Act::Forget,
    Act::Pin,
    Act::Prune,
];
const OTHERS: [Act; 14] = [
    Act::BackUp("m"),
    Act::BackUp("n"),
    Act::Restore,
    Act::Verify,
    Act::VerifyQuick,
    Act::Points,
    Act::Stats,
    Act::Ls,
    Act::Cat,
    Act::Repair,
    Act::Doctor,
    Act::Forget,
    Act::Pin,
    Act::Prune,
];

/// How it was while a command ran.
#[derive(Clone, Copy)]
struct Beside {
    /// Whether the other one did the same, to the same machine.
    busy: bool,
    /// Whether a pack was damaged, within its parity.
    hurt: bool,
}

/// A store, and what is known of its points.
struct World {
    bench: Bench,
    dice: Dice,
    images: u64,
    /// By the id of a point: the image it is of.
    reported: HashMap<String, String>,
    /// Images of backups that never said how they ended, by machine.
    unsaid: Vec<(String, String)>,
    /// Points that somebody wanted to forget, and their images: they are whole or gone.
    doomed: HashMap<String, String>,
    /// Points that somebody said to have forgotten.
    gone: HashSet<String>,
    /// The newest point of the machine of which points are forgotten.
    last: Option<String>,
}

impl World {
    fn new() -> World {
        let mut world = World {
            bench: Bench::new(),
            dice: Dice::new(),
            images: 0,
            reported: HashMap::new(),
            unsaid: Vec::new(),
            doomed: HashMap::new(),
            gone: HashSet::new(),
            last: None,
        };
        // Enough of them that small packs are merged while others run.
        for number in 0..10 {
            let machine = if number % 2 == 0 { "m" } else { "n" };
            let image = world.image();
            let made = world.bench.backup(machine, &[&image]);
            world.note(&made, image);
        }
        world
    }

    /// A new image: what all have, and something of its own.
    fn image(&mut self) -> String {
        self.images += 1;
        let name = format!("{}.raw", self.images);
        let shared = self.bench.noise("shared", 7, 300_000);
        let path = self.bench.noise(&name, 1000 + self.images, 300_000);
        let (shared, own) = (fs::read(shared).unwrap(), fs::read(&path).unwrap());
        fs::write(&path, [shared, own].concat()).unwrap();
        name
    }

    fn note(&mut self, made: &Value, image: String) {
        let id = made["point"].as_str().unwrap().to_string();
        self.reported.insert(id, image);
    }

    /// Makes a point after which the one before may be forgotten.
    fn doom(&mut self) {
        let image = self.image();
        let time = time_of(&image);
        let arguments = ["--json", "--machine", "doomed", "--time", &time, &image];
        let arguments = [&["backup", "store"], &arguments[..]].concat();
        let made = self.bench.expect(0, &arguments).json();
        self.note(&made, image);
        let id = made["point"].as_str().unwrap().to_string();
        if let Some(before) = self.last.replace(id) {
            let image = self.reported.remove(&before).unwrap();
            self.doomed.insert(before, image);
        }
    }

    fn start(&mut self, act: Act) -> (Running, Option<String>) {
        if act == Act::Forget {
            self.doom();
        }
        let is_backup = matches!(act, Act::BackUp(_));
        let image = if is_backup {
            self.image()
        } else {
            String::new()
        };
        let target = format!("restored-{}", self.dice.below(u64::MAX));
        let arguments: Vec<&str> = match act {
            Act::BackUp(machine) => vec!["backup", "store", "--json", "--machine", machine, &image],
            Act::Restore => vec!["restore", "store", "m@latest", "--to", &target],
            Act::Verify => vec!["verify", "store"],
            Act::VerifyQuick => vec!["verify", "store", "--quick"],
            Act::Points => vec!["points", "store", "--json"],
            Act::Stats => vec!["stats", "store", "--json"],
            Act::Ls => vec!["ls", "store", "m@latest"],
            Act::Cat => vec!["cat", "store", "m@latest:/disk0"],
            Act::Init => vec!["init", "store"],
            Act::Repair => vec!["verify", "store", "--repair"],
            Act::Doctor => vec!["doctor", "store"],
            Act::Forget => vec!["forget", "store", "--machine", "doomed", "--keep-last", "1"],
            Act::Pin => vec!["pin", "store", "m@latest"],
            Act::Prune => vec!["prune", "store", "--max-unused", "0%"],
        };
        let output = if is_backup {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        let running = self.bench.start_into(output, &arguments);
        (running, is_backup.then_some(image))
    }

    /// What became of a command that was not killed.
    fn ended(
        &mut self,
        act: Act,
        code: Option<i32>,
        answer: &Answer,
        image: Option<String>,
        beside: Beside,
    ) {
        let Some(image) = image else {
            let expected: &[i32] = match act {
                Act::Init => &[1],
                // Others merge or repair, or have just repaired what was found.
                Act::Repair if beside.hurt => &[0, 4, 5],
                Act::Verify | Act::VerifyQuick | Act::Doctor if beside.hurt => &[0, 4],
                Act::Restore | Act::Cat | Act::Ls if beside.hurt => &[0, 3],
                Act::Prune if beside.hurt => &[0, 3, 4, 5],
                // Others merge.
                Act::Prune => &[0, 5],
                // A backup that was killed is told of.
                Act::Doctor => &[0, 3],
                _ => &[0],
            };
            let is_expected = code.is_some_and(|code| expected.contains(&code));
            assert!(is_expected, "{act:?}: {code:?}, {}", answer.stderr);
            if act == Act::Forget && !beside.busy {
                self.gone.extend(self.doomed.drain().map(|(id, _)| id));
            }
            return;
        };
        if beside.busy && code == Some(5) {
            assert!(answer.stdout.is_empty());
            return;
        }
        let is_expected = code == Some(0) || beside.hurt && code == Some(3);
        assert!(is_expected, "{act:?}: {code:?}, {}", answer.stderr);
        self.note(&answer.json(), image);
    }

    /// Damages a sector of the largest pack, within its parity.
    fn hurt(&self) {
        let packs = self.bench.store_files("packs");
        let size = |path: &PathBuf| fs::metadata(path).unwrap().len();
        let largest = packs.iter().max_by_key(|path| size(path)).unwrap();
        let mut bytes = fs::read(largest).unwrap();
        bytes[1000..1300].fill(0xee);
        fs::write(largest, bytes).unwrap();
    }

    fn pair(&mut self, victim: Act, other: Act) {
        println!("{victim:?} is killed beside {other:?}");
        println!("COUNTED: 1 pairs of commands of which one is killed");
        let beside = Beside {
            busy: victim == other,
            hurt: [victim, other].contains(&Act::Repair),
        };
        if beside.hurt {
            self.hurt();
        }
        let (mut first, first_image) = self.start(victim);
        self.dice.pause(MOMENTS / 8);
        let (mut second, second_image) = self.start(other);
        self.dice.pause(MOMENTS);
        first.signal_if_alive("KILL");
        let (status, answer) = first.end();
        if status.signal() == Some(9) {
            match (first_image, answer.stdout.is_empty(), victim) {
                (Some(image), true, Act::BackUp(machine)) => {
                    self.unsaid.push((machine.to_string(), image))
                }
                (Some(image), false, _) => self.note(&answer.json(), image),
                _ => {}
            }
        } else {
            self.ended(victim, status.code(), &answer, first_image, beside);
        }
        let (status, answer) = second.end();
        self.ended(other, status.code(), &answer, second_image, beside);
        if beside.hurt {
            // Whatever became of the repair that was killed, the next one does all of it.
            self.bench.expect(0, &["verify", "store", "--repair"]);
        }
        self.check(2);
    }

    /// Everything checks; the points that were made last, `points` of them, restore as what they are; and the next writer clears up.
    fn check(&mut self, points: usize) {
        self.bench.expect(0, &["verify", "store"]);
        let listed = self.bench.points();
        for id in self.reported.keys() {
            assert!(
                listed.iter().any(|point| point["point"] == id.as_str()),
                "{id} is gone"
            );
        }
        let mut ids = listed.iter().map(|point| point["point"].as_str().unwrap());
        let back = ids.find(|id| self.gone.contains(*id));
        assert_eq!(back, None, "what was forgotten is listed");
        for point in listed.iter().rev().take(points) {
            let id = point["point"].as_str().unwrap();
            let out = self.bench.expect(0, &["restore", "store", id, "--to", "-"]);
            let is = |image: &String| fs::read(self.bench.path(image)).unwrap() == out.stdout;
            match self.reported.get(id).or(self.doomed.get(id)) {
                Some(image) => assert!(is(image), "{id} has wrong bytes"),
                // Published, and killed before it could say so.
                None => {
                    let mut unsaid = self.unsaid.iter();
                    assert!(
                        unsaid
                            .any(|(machine, image)| point["machine"] == machine.as_str()
                                && is(image))
                    );
                }
            }
        }
        let image = self.image();
        let made = self.bench.backup("after", &[&image]);
        self.note(&made, image);
        assert_eq!(self.bench.store_files("sessions"), Vec::<PathBuf>::new());
    }
}

#[test]
fn whoever_is_killed_beside_whomever() {
    let mut world = World::new();
    for _ in 0..number("AGAINST_ROUNDS", 1) {
        for victim in VICTIMS {
            for other in OTHERS {
                world.pair(victim, other);
            }
        }
        world.pair(Act::BackUp("n"), Act::Init);
    }
    world.check(usize::MAX);
}

#[test]
fn a_mount_goes_on_whatever_happens_beside_it() {
    if !have_fuse() {
        return;
    }
    let mut world = World::new();
    let mut mounted = Mounted::new(&world.bench, "store");
    let times = fs::read_dir(world.bench.path("mnt/m")).unwrap();
    let mut disks: Vec<_> = times
        .map(|time| time.unwrap().path().join("disks/disk0.raw"))
        .collect();
    disks.sort();
    let shown_too = ["latest", "versions"].map(|name| world.bench.path("mnt/m").join(name));
    disks.retain(|disk| !shown_too.iter().any(|other| disk.starts_with(other)));
    assert_eq!(disks.len(), 5);
    for (victim, disk) in [Act::BackUp("m"), Act::BackUp("new"), Act::Verify]
        .into_iter()
        .zip(&disks)
    {
        let image = disks.iter().position(|other| other == disk).unwrap() * 2 + 1;
        let expected = fs::read(world.bench.path(&format!("{image}.raw"))).unwrap();
        let (mut running, made) = world.start(victim);
        world.dice.pause(MOMENTS);
        let read = fs::read(disk).unwrap();
        running.signal_if_alive("KILL");
        assert!(read == expected, "{} of {}", image, text(disk));
        let (status, answer) = running.end();
        match (status.signal(), made, victim) {
            (Some(_), Some(image), Act::BackUp(machine)) if answer.stdout.is_empty() => {
                world.unsaid.push((machine.to_string(), image));
            }
            (_, Some(image), _) => world.note(&answer.json(), image),
            _ => {}
        }
        world.bench.expect(0, &["verify", "store"]);
        let image = world.image();
        let made = world.bench.backup("m", &[&image]);
        world.note(&made, image);
        // What is published is there, seconds later at most.
        let latest = fs::read(world.bench.path("mnt/m/latest/disks/disk0.raw")).unwrap();
        assert_eq!(latest.len(), expected.len());
    }
    let unmounted = std::process::Command::new("fusermount3")
        .args(["-u", text(&world.bench.path("mnt"))])
        .status();
    assert!(unmounted.unwrap().success());
    mounted.has_ended();
    world.check(usize::MAX);
}

#[test]
fn an_init_that_is_killed_can_be_made_again_or_was_done() {
    let mut dice = Dice::new();
    let bench = Bench::new();
    bench.noise("a.raw", 5, 1 << 20);
    for round in 0..12 * number("AGAINST_ROUNDS", 1) {
        let store = format!("other-{round}");
        let mut init = bench.start(&["init", &store]);
        dice.pause(MOMENTS / 8);
        init.signal_if_alive("KILL");
        init.end();
        let again = bench.run(&["init", &store]);
        assert!(matches!(again.status.code(), Some(0 | 1)), "{again:?}");
        // A header that is not there yet is written by the first writer, with a warning.
        let first = bench.run(&["backup", &store, "--machine", "m", "a.raw"]);
        assert!(matches!(first.status.code(), Some(0 | 3)), "{first:?}");
        bench.expect(0, &["backup", &store, "--machine", "m", "a.raw"]);
        bench.expect(0, &["verify", &store]);
    }
}
