//! The table of DESIGN.md: each pair at once.

use crate::operations::{ALL, Operation};
use crate::world::{Known, check, copy, create, open, past};
use cairn_base::Kind;
use cairn_store::Store;
use std::path::Path;
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
    known: &[Known],
) -> Vec<Known> {
    let busy = pair[0].machine() == pair[1].machine();
    let start = Barrier::new(2);
    std::thread::scope(|scope| {
        let threads = pair.map(|operation| {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                let once = |_| operation.run(path, shared, known, busy);
                (0..TIMES).filter_map(once).collect::<Vec<Known>>()
            })
        });
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    })
}

fn every_pair(is_shared: bool) {
    let temporary = tempfile::tempdir().unwrap();
    let before = temporary.path().join("before");
    let known = past(&before);
    for round in 0..rounds() {
        for (number, one) in ALL.into_iter().enumerate() {
            for other in &ALL[number..] {
                let pair = [one, *other];
                println!("round {round}: {pair:?}");
                let path = temporary.path().join("store");
                copy(&before, &path);
                let shared = is_shared.then(|| open(&path).unwrap());
                let mut all = known.clone();
                let made = at_once(&path, pair, shared.as_ref(), &known);
                // Backups that do not exclude each other are all made; of those that do, at least one.
                let backups = pair
                    .iter()
                    .filter(|operation| operation.machine().is_some())
                    .count();
                if backups == 2 && pair[0].machine() == pair[1].machine() {
                    assert!(!made.is_empty());
                } else {
                    assert_eq!(made.len(), backups * TIMES);
                }
                all.extend(made);
                check(&path, &all);
                drop(shared);
                std::fs::remove_dir_all(&path).unwrap();
            }
        }
    }
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
        check(&path, &[]);
    }
}
