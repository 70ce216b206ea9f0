//! What a store is asked to do while the power fails or calls do.

use crate::machine::Lie;
use crate::world::{How, World, noise};
use cairn_base::{Folder, LockMode, ReadAt, Result, Silent};
use cairn_store::{Session, SessionKind, layout, verify};
use std::sync::{Arc, Mutex};

/// Something to do, and what was done before.
pub struct Scenario {
    pub name: &'static str,
    pub before: fn(&mut World) -> Result<()>,
    pub act: fn(&mut World) -> Result<()>,
}

pub const ALL: &[Scenario] = &[
    Scenario {
        name: "init",
        before: |_| Ok(()),
        act: World::init,
    },
    Scenario {
        name: "first backup",
        before: World::init,
        act: |world| one(world, &disk(1), &How::default()),
    },
    Scenario {
        name: "next backup",
        before: with_first,
        act: |world| one(world, &next(), &How::default()),
    },
    Scenario {
        name: "unchanged backup",
        before: with_first,
        act: |world| one(world, &disk(1), &How::default()),
    },
    Scenario {
        name: "backup of what changed",
        before: with_first,
        act: |world| {
            let changed = Some(std::iter::once(50_000..90_000).collect());
            one(
                world,
                &next(),
                &How {
                    changed,
                    checkpoint: None,
                },
            )
        },
    },
    Scenario {
        name: "backup with checkpoints",
        before: with_first,
        act: |world| {
            one(
                world,
                &noise(150_000, 5),
                &How {
                    changed: None,
                    checkpoint: Some(4),
                },
            )
        },
    },
    Scenario {
        name: "two backups at once",
        before: with_first,
        act: two,
    },
    Scenario {
        name: "merging of small packs",
        before: with_small,
        act: |world| one(world, &disk(1), &How::default()),
    },
    Scenario {
        name: "backup after the loss of a slot and a header",
        before: |world| {
            with_first(world)?;
            world.hurt = true;
            world.machine.lose("state.1");
            world.machine.lose("header.0");
            Ok(())
        },
        act: |world| one(world, &next(), &How::default()),
    },
    Scenario {
        name: "prune",
        before: with_waste,
        act: |world| world.prune().map(|_| ()),
    },
    Scenario {
        name: "prune that finds what it condemned needed again",
        before: with_revived,
        act: |world| world.prune().map(|_| ()),
    },
    Scenario {
        name: "backup after a prune that waits",
        before: |world| {
            with_waste(world)?;
            let folder: Arc<dyn Folder> = Arc::new(world.machine.clone());
            let writer = Session::begin(folder, SessionKind::Write, &[])?;
            assert!(world.prune()?.waiting_packs > 0);
            drop(writer);
            Ok(())
        },
        // Of what is condemned it sees all again.
        act: |world| {
            let seen = forgotten();
            world.backup("again", &seen, &How::default()).map(|_| ())
        },
    },
    Scenario {
        name: "forgetting",
        before: |world| with_points(world, 5),
        act: |world| world.forget("m", &[1, 3, 4]),
    },
    Scenario {
        name: "forgetting all",
        before: |world| with_points(world, 2),
        act: |world| world.forget("m", &[1, 2]),
    },
    Scenario {
        name: "a backup after all was forgotten",
        before: |world| {
            with_points(world, 2)?;
            world.forget("m", &[1, 2])
        },
        act: |world| one(world, &disk(1), &How::default()),
    },
    Scenario {
        name: "repair of damaged packs",
        before: |world| {
            world.parity = 25;
            with_first(world)?;
            one(world, &next(), &How::default())?;
            spoil_packs(world);
            Ok(())
        },
        act: World::repair,
    },
    Scenario {
        name: "repair of packs and a lost segment",
        before: |world| {
            world.parity = 25;
            with_first(world)?;
            spoil_packs(world);
            world.hurt = true;
            let segment = world.machine.paths();
            let segment = segment.iter().find(|path| path.starts_with("index/"));
            world.machine.spoil(segment.unwrap(), u64::MAX);
            Ok(())
        },
        act: World::repair,
    },
    Scenario {
        name: "repair after a backup that was killed",
        before: with_killed,
        act: World::repair,
    },
    Scenario {
        name: "repair with a list of damage",
        before: with_list,
        act: World::repair,
    },
    Scenario {
        name: "backup with a list of damage",
        before: with_list,
        act: |world| one(world, &disk(1), &How::default()),
    },
    Scenario {
        name: "verification with a list of damage",
        before: |world| {
            with_list(world)?;
            // More than the list says.
            let pack = largest_pack(world);
            world.machine.spoil(&pack, 80_000);
            // What it will say.
            let mut other = world.on(world.machine.copy());
            other.verify()?;
            assert_ne!(other.list()?, world.list()?);
            Ok(())
        },
        act: World::verify,
    },
];

/// The scenario of this name.
pub fn named(name: &str) -> &'static Scenario {
    ALL.iter().find(|scenario| scenario.name == name).unwrap()
}

/// Runs what was done before.
pub fn prepared(scenario: &Scenario, lie: Lie) -> World {
    let mut world = World::new(lie);
    (scenario.before)(&mut world).unwrap();
    if world.lossy {
        let mut done = world.on(world.machine.copy());
        (scenario.act)(&mut done).unwrap();
        world.lists = vec![world.list().unwrap(), done.list().unwrap()];
    }
    world
}

fn largest_pack(world: &World) -> String {
    let store = world.store().unwrap();
    let packs = store.live_packs();
    let largest = packs.iter().max_by_key(|row| row.length).unwrap();
    layout::pack(largest.id)
}

/// A pack that is damaged beyond its parity, and a list that says so; and others that can be repaired.
fn with_list(world: &mut World) -> Result<()> {
    world.parity = 25;
    with_first(world)?;
    one(world, &next(), &How::default())?;
    let pack = largest_pack(world);
    // All of its parity and three sectors of frames.
    let sectors = 25..40u64;
    for sector in [1, 5, 9].into_iter().chain(sectors) {
        world.machine.spoil(&pack, sector * 4096 + 100);
    }
    for path in world.machine.paths() {
        if path.starts_with("packs/") && path != pack {
            world.machine.spoil(&path, 70);
        }
    }
    world.lossy = true;
    let report = verify(&world.store()?, false, &Silent)?;
    assert!(!report.damaged.is_empty() && !world.list()?.is_empty());
    Ok(())
}

/// A backup was killed when its packs had their names and nothing named them yet; and a segment is lost, so that nobody sweeps.
fn with_killed(world: &mut World) -> Result<()> {
    with_first(world)?;
    let packs = |world: &World| {
        let paths = world.machine.paths();
        paths
            .iter()
            .filter(|path| path.starts_with("packs/"))
            .count()
    };
    for call in 0.. {
        let mut other = world.on(world.machine.copy());
        other.machine.die_at(call);
        let outcome = one(&mut other, &next(), &How::default());
        assert!(outcome.is_err(), "it was never killed in between");
        // As a process that is killed leaves it: what was not synced is not durable yet.
        other.machine = other.machine.copy();
        let live = other.store()?.live_packs().len();
        if packs(&other) == live + 2 {
            *world = other;
            break;
        }
    }
    world.hurt = true;
    world.spoilt = true;
    let segment = world.machine.paths();
    let segment = segment.iter().find(|path| path.starts_with("index/"));
    world.machine.spoil(segment.unwrap(), u64::MAX);
    Ok(())
}

/// Damages a sector of each pack, the header of one.
fn spoil_packs(world: &mut World) {
    world.spoilt = true;
    let paths = world.machine.paths();
    let packs = paths.iter().filter(|path| path.starts_with("packs/"));
    for (number, path) in (0u64..).zip(packs) {
        world
            .machine
            .spoil(path, [5000, 10][usize::from(number == 1)]);
    }
}

fn disk(seed: u64) -> Vec<u8> {
    let mut bytes = noise(120_000, seed);
    bytes[30_000..60_000].fill(0);
    bytes
}

fn next() -> Vec<u8> {
    let mut bytes = disk(1);
    bytes[50_000..90_000].copy_from_slice(&noise(40_000, 2));
    bytes
}

fn one(world: &mut World, bytes: &[u8], how: &How) -> Result<()> {
    world.backup("m", bytes, how).map(|_| ())
}

fn with_first(world: &mut World) -> Result<()> {
    world.init()?;
    one(world, &disk(1), &How::default())
}

/// What was backed up as a machine that is forgotten.
fn forgotten() -> Vec<u8> {
    [disk(1), noise(60_000, 77)].concat()
}

/// Packs that nothing needs, and some of which something does.
fn with_waste(world: &mut World) -> Result<()> {
    world.init()?;
    world.backup("old", &forgotten(), &How::default())?;
    one(world, &next(), &How::default())?;
    world.backup("old", &noise(50_000, 78), &How::default())?;
    world.wasteful = true;
    world.forget("old", &[1, 2])
}

/// A disk that prunes its store when it is read.
struct Prunes {
    bytes: Arc<Vec<u8>>,
    world: Mutex<Option<World>>,
}

impl ReadAt for Prunes {
    fn size(&self) -> u64 {
        self.bytes.size()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        if let Some(mut world) = self.world.lock().unwrap().take() {
            assert!(world.prune()?.waiting_packs > 0);
        }
        self.bytes.read_exact_at(offset, buffer)
    }
}

/// A backup began before a prune, and relies on what that condemned.
fn with_revived(world: &mut World) -> Result<()> {
    with_waste(world)?;
    world.doubled = true;
    let bytes = Arc::new(forgotten());
    let source = Prunes {
        bytes: bytes.clone(),
        world: Mutex::new(Some(world.clone())),
    };
    world.backup_from("again", &bytes, Arc::new(source), &How::default())?;
    assert!(!world.store()?.state().condemned.is_empty());
    Ok(())
}

/// Points of small disks.
fn with_points(world: &mut World, count: u64) -> Result<()> {
    world.init()?;
    (0..count).try_for_each(|number| one(world, &noise(9_000, 200 + number), &How::default()))
}

/// Many packs that nobody has merged yet.
fn with_small(world: &mut World) -> Result<()> {
    world.init()?;
    let merging = world
        .machine
        .lock("locks/merge", LockMode::Exclusive, false)?;
    for number in 0..16 {
        one(world, &noise(9_000, 100 + number), &How::default())?;
    }
    drop(merging);
    Ok(())
}

fn two(world: &mut World) -> Result<()> {
    let shared = noise(60_000, 7);
    let with = |seed| [shared.clone(), noise(30_000, seed)].concat();
    let points = world.backup_two([("m", with(8)), ("n", with(9))]);
    points.into_iter().try_for_each(|point| point.map(|_| ()))
}
