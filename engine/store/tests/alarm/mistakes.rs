//! Each mistake, and who notices it.

use crate::dying::die_everywhere;
use crate::machine::{Lie, Machine};
use crate::scenarios::{named, prepared};
use crate::world::{How, World, noise};
use cairn_base::{Folder, ReadAt, Silent};
use cairn_store::mistake::{Mistake, make};
use cairn_store::pack::{Footer, footer::FOOTER_LEN};
use cairn_store::parity::table::{self, Sum, sum_of};
use cairn_store::session::publish_lock;
use cairn_store::verify;

/// What a check says.
type Checked = Result<(), String>;

/// The check passes, and does not when the mistake is made; what it says then has this in it.
fn notices(mistake: Mistake, says: &str, check: impl Fn() -> Checked) {
    {
        let _none = make(None);
        check().unwrap();
    }
    fails(mistake, says, check);
}

/// The check, which passes in other tests, does not when the mistake is made.
fn fails(mistake: Mistake, says: &str, check: impl Fn() -> Checked) {
    let _made = make(Some(mistake));
    let error = check().expect_err("nobody noticed");
    println!("{mistake:?}: {error}");
    println!("COUNTED: 1 deliberate mistakes noticed");
    assert!(error.contains(says), "{error}");
}

/// Nothing is wrong wherever the scenario is stopped.
fn survives(scenario: &str, lie: Lie, rounds: u64) -> Checked {
    let (_, wrong) = die_everywhere(named(scenario), lie, 0, rounds, 1);
    wrong.into_iter().next().map_or(Ok(()), Err)
}

#[test]
fn a_machine_that_lies() {
    let lies = [
        Lie::FolderSync,
        Lie::PackSync,
        Lie::FileSync,
        Lie::PacksLate,
        Lie::WrongBit,
    ];
    let _none = make(None);
    for lie in lies {
        let error = survives("first backup", lie, 3).expect_err("nobody noticed");
        println!("{lie:?}: {error}");
        println!("COUNTED: 1 deliberate mistakes noticed");
    }
}

#[test]
fn folders_of_packs_that_are_not_synced() {
    fails(Mistake::FoldersUnsynced, "", || {
        survives("first backup", Lie::None, 1)
    });
}

#[test]
fn an_index_that_is_published_before_its_packs() {
    fails(Mistake::IndexFirst, "", || {
        survives("first backup", Lie::None, 1)
    });
}

#[test]
fn old_packs_that_are_deleted_before_new_ones_are_public() {
    for scenario in ["merging of small packs", "repair of damaged packs"] {
        fails(Mistake::OldPacksGone, "", || {
            survives(scenario, Lie::None, 1)
        });
    }
}

#[test]
fn places_in_packs_that_were_merged() {
    notices(Mistake::StaleEntries, "", || {
        let scenario = named("merging of small packs");
        let mut world = prepared(scenario, Lie::None);
        (scenario.act)(&mut world).map_err(|e| e.to_string())?;
        world.check()
    });
}

/// A store with parity, or without, of which a bit in the data of each pack is wrong.
fn spoilt(parity: u32) -> World {
    let mut world = World::new(Lie::None);
    world.parity = parity;
    world.init().unwrap();
    world
        .backup("m", &noise(100_000, 1), &How::default())
        .unwrap();
    for path in packs(&world.machine) {
        world.machine.spoil(&path, 5000);
    }
    world
}

fn packs(machine: &Machine) -> Vec<String> {
    let paths = machine.paths().into_iter();
    paths.filter(|path| path.starts_with("packs/")).collect()
}

#[test]
fn chunks_that_are_given_out_unchecked() {
    notices(Mistake::ChunksUnchecked, "wrong bytes", || {
        let world = spoilt(25);
        world.check_points(&world.store().unwrap())
    });
}

#[test]
fn parity_that_is_believed() {
    notices(Mistake::ParityUnchecked, "wrong bytes", || {
        let world = spoilt(25);
        packs(&world.machine)
            .iter()
            .for_each(|path| forge(&world.machine, path));
        // What is lost is said to be lost.
        match world.check_points(&world.store().unwrap()) {
            Err(error) if error.contains("wrong bytes") => Err(error),
            Err(_) => Ok(()),
            Ok(()) => Err("forged parity damages nothing".to_string()),
        }
    });
}

/// Gives the pack's tables checksums that are right for what lies in it now, so that its parity takes all of it for whole.
fn forge(machine: &Machine, path: &str) {
    let file = machine.open(path).unwrap();
    let mut bytes = vec![0; file.size() as usize];
    file.read_exact_at(0, &mut bytes).unwrap();
    let footer = Footer::decode(&bytes[bytes.len() - FOOTER_LEN..], file.size()).unwrap();
    let shape = footer.shape().unwrap().unwrap();
    let mut sums: Vec<Sum> = table::read(&bytes, footer.pack, &shape)
        .unwrap()
        .into_iter()
        .map(Option::unwrap)
        .collect();
    for stripe in 0..shape.stripes() {
        for shard in 0..shape.data_of(stripe) {
            let range = shape.data_range(stripe, shard);
            let mut now = bytes[range.start as usize..range.end as usize].to_vec();
            now.resize(4096, 0);
            sums[shape.first_sum(stripe) + shard] = sum_of(&now);
        }
    }
    let table = table::encode(footer.pack, &sums);
    for at in shape.tables() {
        bytes[at as usize..at as usize + table.len()].copy_from_slice(&table);
    }
    machine.put(path, &bytes);
}

#[test]
fn damage_that_a_backup_does_not_hear_of() {
    notices(Mistake::DamageUnheard, "point", || {
        let mut world = spoilt(0);
        let report = verify(&world.store().unwrap(), false, &Silent).map_err(|e| e.to_string())?;
        if report.is_clean() {
            return Err("the damage was not found".to_string());
        }
        let bytes = noise(100_000, 1);
        world
            .backup("n", &bytes, &How::default())
            .map_err(|e| e.to_string())?;
        world.check_points(&world.store().unwrap())
    });
}

#[test]
fn publications_that_do_not_wait() {
    fails(Mistake::PublishUnlocked, "", || {
        let mut world = prepared(named("next backup"), Lie::None);
        let machine = world.machine.clone();
        // Somebody publishes, and does not end before the backup has gone as far as it can.
        let held = publish_lock(&machine).unwrap();
        let (done, ended) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let point = world.backup("n", &noise(50_000, 3), &How::default());
                done.send(point.is_ok()).unwrap();
            });
            let ended = ended.recv_timeout(std::time::Duration::from_secs(60));
            drop(held);
            match ended {
                Ok(_) => Err("somebody published while another one did".to_string()),
                Err(_) => Ok(()),
            }
        })
    });
}
