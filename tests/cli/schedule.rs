//! Commands at once, by chance: backups, forgetting, pruning, restores, verification, and a mount that is read, some of them killed. When all is
//! quiet every point is there and restores, and the store takes what a new one with the same points would.
//!
//! SCHEDULE_SEED=N    another order (default 1); a failure prints it
//! SCHEDULE_ROUNDS=N  so many times as many rounds (default 1)

use super::against::{Dice, number};
use super::bench::{Answer, Bench, Running, text, time_of};
use super::mount::{Mounted, have_fuse};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Rounds, and commands of each besides two prunes.
const ROUNDS: u64 = 60;
const TOGETHER: u64 = 4;
/// Microseconds in which most commands end.
const MOMENTS: u64 = 24_000;
const MACHINES: [&str; 3] = ["a", "b", "c"];

/// A point that was reported, and the image that it is of.
#[derive(Debug, Clone)]
struct Known {
    id: String,
    machine: &'static str,
    image: String,
}

#[derive(Debug)]
enum What {
    BackUp(&'static str, String),
    /// Of these.
    Forget(Vec<Known>),
    Prune,
    Restore(Known, String),
    Verify,
}

struct World {
    bench: Bench,
    dice: Dice,
    images: u64,
    /// Oldest first.
    alive: Vec<Known>,
    /// Of which nobody knows whether they were forgotten.
    doomed: Vec<Known>,
    gone: HashSet<String>,
    /// Backups that never said how they ended.
    unsaid: Vec<(&'static str, String)>,
    commands: u64,
    killed: u64,
    prunes_killed: u64,
}

impl World {
    fn new() -> World {
        let mut world = World {
            bench: Bench::new(),
            dice: Dice::of("SCHEDULE_SEED"),
            images: 0,
            alive: Vec::new(),
            doomed: Vec::new(),
            gone: HashSet::new(),
            unsaid: Vec::new(),
            commands: 0,
            killed: 0,
            prunes_killed: 0,
        };
        for number in 0..9 {
            let machine = MACHINES[number % 3];
            let image = world.image();
            let made = world.back_up("store", machine, &image);
            world.made(&made, machine, image);
        }
        world
    }

    /// A disk that shares its beginning with all others, and its end with none.
    fn image(&mut self) -> String {
        self.images += 1;
        let name = format!("{}.raw", self.images);
        let shared = self.bench.noise("shared", 7, 300_000);
        let path = self.bench.noise(&name, 5000 + self.images, 300_000);
        let all = [fs::read(shared).unwrap(), fs::read(&path).unwrap()].concat();
        fs::write(&path, all).unwrap();
        name
    }

    fn back_up(&self, store: &str, machine: &str, image: &str) -> Value {
        let time = time_of(image);
        let arguments = ["--json", "--machine", machine, "--time", &time, image];
        let made = self
            .bench
            .expect(0, &[&["backup", store], &arguments[..]].concat());
        made.json()
    }

    fn made(&mut self, made: &Value, machine: &'static str, image: String) {
        let id = made["point"].as_str().unwrap().to_string();
        self.alive.push(Known { id, machine, image });
    }

    fn bytes(&self, image: &str) -> Vec<u8> {
        fs::read(self.bench.path(image)).unwrap()
    }

    /// Some points of which a machine has newer ones.
    fn choose_doomed(&mut self) -> Vec<Known> {
        let machine = MACHINES[self.dice.below(3) as usize];
        let of = self.alive.iter().filter(|known| known.machine == machine);
        let ids: Vec<String> = of.map(|known| known.id.clone()).collect();
        let Some((_, older)) = ids.split_last() else {
            return Vec::new();
        };
        let chosen: HashSet<&String> = older.iter().filter(|_| self.dice.below(2) == 0).collect();
        let (chosen, left) = std::mem::take(&mut self.alive)
            .into_iter()
            .partition(|known| chosen.contains(&known.id));
        self.alive = left;
        chosen
    }

    fn choose(&mut self) -> What {
        match self.dice.below(8) {
            0..3 => {
                let machine = MACHINES[self.dice.below(3) as usize];
                What::BackUp(machine, self.image())
            }
            3..5 => match self.choose_doomed() {
                none if none.is_empty() => What::Verify,
                some => {
                    self.doomed.extend(some.iter().cloned());
                    What::Forget(some)
                }
            },
            5 => What::Prune,
            6 => {
                let at = self.dice.below(self.alive.len() as u64) as usize;
                let target = format!("restored-{}", self.dice.below(u64::MAX));
                What::Restore(self.alive[at].clone(), target)
            }
            _ => What::Verify,
        }
    }

    fn start(&mut self, what: &What) -> Running {
        self.commands += 1;
        let mut arguments = Vec::new();
        let time;
        match what {
            What::BackUp(machine, image) => {
                time = time_of(image);
                arguments.extend(["backup", "store", "--json", "--machine", machine]);
                arguments.extend(["--time", &time, image]);
            }
            What::Forget(points) => {
                arguments.extend(["forget", "store"]);
                arguments.extend(points.iter().map(|known| &*known.id));
            }
            What::Prune => arguments.extend(["prune", "store", "--max-unused", "0%"]),
            What::Restore(known, target) => {
                arguments.extend(["restore", "store", &known.id, "--to", target]);
            }
            What::Verify => arguments.extend(["verify", "store"]),
        }
        let output = match what {
            What::BackUp(..) => Stdio::piped(),
            _ => Stdio::null(),
        };
        self.bench.start_into(output, &arguments)
    }

    /// Several at once, of which some are killed, two prunes among them; the mount is read meanwhile.
    fn round(&mut self, mounted: bool) {
        let first = self.dice.below(TOGETHER + 1);
        let mut running: Vec<(Running, What)> = Vec::new();
        for number in 0..TOGETHER + 2 {
            let what = match number == first || number == first + 1 {
                true => What::Prune,
                false => self.choose(),
            };
            let mut command = self.start(&what);
            if self.dice.below(3) == 0 {
                self.dice.pause(MOMENTS / 2);
                command.signal_if_alive("KILL");
            } else {
                self.dice.pause(MOMENTS / 4);
            }
            running.push((command, what));
        }
        if mounted {
            self.read_mount();
        }
        let mut machines = HashMap::new();
        for (_, what) in &running {
            if let What::BackUp(machine, _) = what {
                *machines.entry(*machine).or_insert(0) += 1;
            }
        }
        for (mut command, what) in running {
            let (status, answer) = command.end();
            if status.signal() == Some(9) {
                self.was_killed(what, &answer);
            } else {
                self.ended(what, status.code(), &answer, &machines);
            }
        }
    }

    fn was_killed(&mut self, what: What, answer: &Answer) {
        self.killed += 1;
        match what {
            What::BackUp(machine, image) if answer.stdout.is_empty() => {
                self.unsaid.push((machine, image));
            }
            What::BackUp(machine, image) => self.made(&answer.json(), machine, image),
            What::Prune => self.prunes_killed += 1,
            What::Restore(_, target) => {
                drop(fs::remove_dir_all(self.bench.path(&target)));
            }
            What::Forget(_) | What::Verify => {}
        }
    }

    fn ended(
        &mut self,
        what: What,
        code: Option<i32>,
        answer: &Answer,
        machines: &HashMap<&str, i32>,
    ) {
        let code = code.unwrap();
        let said = format!("{what:?}: {code}, {}", answer.stderr);
        match what {
            What::BackUp(machine, image) if code == 0 => {
                self.made(&answer.json(), machine, image);
            }
            // Refused, when two back up the same machine.
            What::BackUp(machine, _) => assert!(code == 5 && machines[machine] > 1, "{said}"),
            What::Forget(points) => {
                assert_eq!(code, 0, "{said}");
                let ids: HashSet<String> = points.into_iter().map(|known| known.id).collect();
                self.doomed.retain(|known| !ids.contains(&known.id));
                self.gone.extend(ids);
            }
            // Somebody merges, or prunes.
            What::Prune => assert!([0, 5].contains(&code), "{said}"),
            What::Restore(known, target) if code == 0 => {
                let restored = fs::read(self.bench.path(&target).join("disk0.raw")).unwrap();
                assert!(restored == self.bytes(&known.image), "{said}");
                fs::remove_dir_all(self.bench.path(&target)).unwrap();
            }
            What::Restore(known, _) => {
                let there = self.alive.iter().any(|other| other.id == known.id);
                assert!(code == 1 && !there, "{said}");
            }
            What::Verify => assert_eq!(code, 0, "{said}"),
        }
    }

    /// Where the mount shows the disk of an image.
    fn shown(&self, machine: &str, image: &str) -> PathBuf {
        let time = time_of(image).replace(':', "-");
        let folder = self.bench.path("mnt").join(machine);
        folder.join(time).join("disks/disk0.raw")
    }

    /// Every disk in the mount is what it was; one is gone only if somebody forgets it.
    fn read_mount(&self) {
        let images = (1..=self.images).map(|number| format!("{number}.raw"));
        let images: Vec<String> = images.collect();
        for machine in MACHINES {
            let of = images
                .iter()
                .map(|image| (self.shown(machine, image), image));
            let of: HashMap<PathBuf, &String> = of.collect();
            for time in fs::read_dir(self.bench.path("mnt").join(machine)).unwrap() {
                let time = time.unwrap().path();
                if time.ends_with("latest") || time.ends_with("versions") {
                    continue;
                }
                let path = time.join("disks/disk0.raw");
                let image = of[&path];
                match fs::read(&path) {
                    Ok(bytes) => assert!(bytes == self.bytes(image), "{}", text(&path)),
                    Err(error) => {
                        let gone = [ErrorKind::NotFound, ErrorKind::StaleNetworkFileHandle];
                        let gone = gone.contains(&error.kind());
                        let sure = self.alive.iter().any(|known| known.image == *image);
                        assert!(gone && !sure, "{}: {error}", text(&path));
                    }
                }
            }
        }
    }

    /// All that was reported and not forgotten is there, as it was; and nothing else.
    fn check_points(&mut self) {
        let listed = self.bench.points();
        let doomed = std::mem::take(&mut self.doomed);
        for point in &listed {
            let id = point["point"].as_str().unwrap();
            assert!(!self.gone.contains(id), "{id} was forgotten");
            let out = self.bench.expect(0, &["restore", "store", id, "--to", "-"]);
            let mut known = self.alive.iter().chain(&doomed);
            if let Some(known) = known.find(|known| known.id == id) {
                assert!(out.stdout == self.bytes(&known.image), "{known:?}");
                if doomed.iter().any(|other| other.id == id) {
                    self.alive.push(known.clone());
                }
                continue;
            }
            // Published, and killed before it could say so.
            let is = |(machine, image): &&(&'static str, String)| {
                point["machine"] == *machine && out.stdout == self.bytes(image)
            };
            let unsaid = self.unsaid.iter().find(is);
            let (machine, image) = unsaid.expect("somebody's point").clone();
            let id = id.to_string();
            self.alive.push(Known { id, machine, image });
        }
        let left = |known: &&Known| listed.iter().any(|point| point["point"] == *known.id);
        let there = self.alive.iter().filter(left).count();
        assert_eq!(there, self.alive.len(), "{listed:?}");
        assert_eq!(there, listed.len());
    }

    /// Nothing is left that no point needs: a new store with the same points has as many chunks, and takes as much.
    fn check_leaks(&self) {
        let prune = ["prune", "store", "--max-unused", "0%", "--json"];
        // A pack that was condemned and is needed again is looked into by the next one.
        (0..2).for_each(|_| drop(self.bench.expect(0, &prune)));
        let again = self.bench.expect(0, &prune).json();
        for none in [
            "dead_packs",
            "rewritten_packs",
            "deleted_packs",
            "waiting_packs",
            "unused_bytes",
            "lost_chunks",
        ] {
            assert_eq!(again[none], 0, "{none}: {again}");
        }
        self.bench.expect(0, &["init", "fresh"]);
        for known in &self.alive {
            self.back_up("fresh", known.machine, &known.image);
        }
        let fresh = ["prune", "fresh", "--max-unused", "0%", "--json"];
        let fresh = self.bench.expect(0, &fresh).json();
        for same in ["points", "chunks", "map_nodes"] {
            assert_eq!(again[same], fresh[same], "{same}");
        }
        let pack_bytes = |store: &str| {
            let stats = self.bench.expect(0, &["stats", store, "--json"]).json();
            assert_eq!(stats["points"], self.alive.len(), "{stats}");
            let files = self.bench.store_files(&format!("../{store}/packs"));
            let sizes = files.iter().map(|path| path.metadata().unwrap().len());
            sizes.sum::<u64>()
        };
        let (bytes, least) = (pack_bytes("store"), pack_bytes("fresh"));
        println!("{bytes} bytes of packs, {least} in a fresh store");
        assert!(bytes <= least + least / 10, "{bytes} for {least}");
        assert!(self.bench.store_files("sessions").is_empty());
        let doctor = self.bench.expect(0, &["doctor", "store", "--json"]).json();
        assert_eq!(doctor["temporary"], serde_json::json!([]));
    }
}

#[test]
fn by_chance_and_killed() {
    let mut world = World::new();
    let mut mounted = have_fuse().then(|| Mounted::new(&world.bench, "store"));
    // A disk that somebody has open while its point is forgotten.
    let first = world.alive.remove(0);
    let shown = world.shown(first.machine, &first.image);
    let mut open = mounted.is_some().then(|| File::open(shown).unwrap());
    world.bench.expect(0, &["forget", "store", &first.id]);
    world.gone.insert(first.id.clone());
    let rounds = ROUNDS * number("SCHEDULE_ROUNDS", 1);
    for round in 0.. {
        // On a machine that is too quick for us there are some more.
        if round >= rounds && (world.prunes_killed > 0 || round >= 20 * rounds) {
            break;
        }
        world.round(mounted.is_some());
    }
    assert!(world.prunes_killed > 0, "no prune was met while it ran");
    if let Some(open) = &mut open {
        let mut bytes = Vec::new();
        open.read_to_end(&mut bytes).unwrap();
        assert!(bytes == world.bytes(&first.image), "{first:?}");
    }
    drop(open);
    if let Some(mounted) = &mut mounted {
        let folder = world.bench.path("mnt");
        let unmounted = Command::new("fusermount3")
            .args(["-u", text(&folder)])
            .status();
        assert!(unmounted.unwrap().success());
        mounted.has_ended();
    }
    world.check_points();
    world.bench.expect(0, &["verify", "store", "--deep"]);
    world.check_leaks();
    world.check_points();
    world.bench.expect(0, &["verify", "store", "--deep"]);
    println!("COUNTED: {} commands in random schedules", world.commands);
    println!(
        "COUNTED: {} commands in random schedules killed",
        world.killed
    );
    println!(
        "COUNTED: {} prunes in random schedules killed",
        world.prunes_killed
    );
}
