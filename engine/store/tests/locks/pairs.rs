//! The table of DESIGN.md: each pair at once.

use crate::operations::{ALL, Around, Operation};
use crate::world::{Known, check, copy, create, hurt, open, past};
use cairn_base::{Kind, Silent};
use cairn_store::{Store, repair};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};

/// Each of a pair is done so often, so that they meet at more than one moment.
const TIMES: usize = 3;

fn rounds() -> usize {
    let asked = std::env::var("LOCKS_ROUNDS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Does the pair at once and answers the points that were made.
fn at_once(
    path: &Path,
    pair: [Operation; 2],
    shared: Option<&Arc<Store>>,
    around: Around<'_>,
) -> Vec<Known> {
    let start = Barrier::new(2);
    std::thread::scope(|scope| {
        let threads = pair.map(|operation| {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                let once = |times| operation.run(path, shared, Around { times, ..around });
                (0..TIMES).filter_map(once).collect::<Vec<Known>>()
            })
        });
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    })
}

/// A store before anything is done at once, and its points.
struct Before {
    path: PathBuf,
    known: Vec<Known>,
    doomed: Vec<Known>,
}

/// Does the pair at once, in a copy of the store of `before`, and checks what became of it.
fn one_pair(before: &Before, path: &Path, pair: [Operation; 2], is_shared: bool, is_hurt: bool) {
    copy(&before.path, path);
    if is_hurt {
        hurt(path);
    }
    let shared = is_shared.then(|| open(path).unwrap());
    let around = Around {
        known: &before.known,
        doomed: &before.doomed,
        forgets: pair.contains(&Operation::Forget),
        times: 0,
        busy: pair[0].machine() == pair[1].machine(),
        hurt: is_hurt,
    };
    let made = at_once(path, pair, shared.as_ref(), around);
    // Backups that do not exclude each other are all made; of those that do, at least one.
    let backups = pair
        .iter()
        .filter(|operation| operation.machine().is_some())
        .count();
    if backups == 2 && around.busy {
        assert!(!made.is_empty());
    } else {
        assert_eq!(made.len(), backups * TIMES);
    }
    if is_hurt {
        let report = repair(&open(path).unwrap(), &Silent).unwrap();
        assert_eq!(report.left, [] as [String; 0]);
    }
    let left = check(path, &[&before.known[..], &made].concat(), &before.doomed);
    // The last one is pinned. Others may be for a moment, when somebody wants to forget them.
    let (last, others) = left.split_last().unwrap();
    assert!(*last);
    if !pair.contains(&Operation::Pin) || !around.forgets {
        assert!(others.iter().all(|there| *there != around.forgets));
    }
    drop(shared);
    std::fs::remove_dir_all(path).unwrap();
}

fn every_pair(is_shared: bool) {
    let temporary = tempfile::tempdir().unwrap();
    let before = [0, 25].map(|parity| {
        let path = temporary.path().join(format!("before-{parity}"));
        let (known, doomed) = past(&path, parity, TIMES + 1);
        Before {
            path,
            known,
            doomed,
        }
    });
    let path = temporary.path().join("store");
    let mut count = 0;
    for round in 0..rounds() {
        for (number, one) in ALL.into_iter().enumerate() {
            for other in &ALL[number..] {
                let pair = [one, *other];
                println!("round {round}: {pair:?}");
                one_pair(&before[0], &path, pair, is_shared, false);
                count += 1;
                if pair.iter().any(|operation| operation.repairs()) {
                    println!("round {round}: {pair:?}, damaged");
                    one_pair(&before[1], &path, pair, is_shared, true);
                    count += 1;
                }
            }
        }
    }
    println!("COUNTED: {count} pairs of operations, each {TIMES} times at once");
}

#[test]
fn in_one_process() {
    every_pair(true);
}

#[test]
fn in_processes_of_their_own() {
    every_pair(false);
}

#[test]
fn of_many_that_make_a_store_one_does() {
    for _ in 0..20 * rounds() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("store");
        std::fs::create_dir(&path).unwrap();
        let start = Barrier::new(4);
        let made = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| {
                scope.spawn(|| {
                    start.wait();
                    match create(&path) {
                        Ok(_) => true,
                        Err(error) => {
                            assert_eq!(error.kind(), Kind::Exists, "{error}");
                            false
                        }
                    }
                })
            });
            threads.map(|thread| thread.join().unwrap())
        });
        let count = made.iter().filter(|made| **made).count();
        assert_eq!(count, 1, "one makes the store, the others find it");
        let store = open(&path).unwrap();
        assert_eq!(store.warnings(), [] as [String; 0]);
        check(&path, &[], &[]);
    }
}
