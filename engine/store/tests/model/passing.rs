//! The gate between workers and the one who writes in order.

use crate::check;
use crate::gate::Gate;
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::sync::mpsc::channel;
use shuttle::sync::{Arc, Mutex};
use shuttle::thread;
use std::collections::BTreeSet;

const WINDOW: u64 = 2;
const WORKERS: usize = 3;

/// Workers take `tasks` tasks; the writer ends after `written` of them, and then closes the gate.
fn pass(tasks: u64, written: u64) {
    let gate = Arc::new(Gate::new(WINDOW));
    let (next, done) = (Arc::new(Mutex::new(0)), Arc::new(AtomicU64::new(0)));
    let (send, receive) = channel();
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            let (gate, next, done, send) = (gate.clone(), next.clone(), done.clone(), send.clone());
            thread::spawn(move || {
                loop {
                    let task = {
                        let mut next = next.lock().unwrap();
                        *next += 1;
                        *next - 1
                    };
                    if task >= tasks || !gate.enter(task) {
                        return;
                    }
                    // Counted before the gate is told, so never less than the gate knows.
                    let before = done.load(Ordering::SeqCst);
                    assert!(task < before + WINDOW, "task {task} with {before} written");
                    if send.send(task).is_err() {
                        return;
                    }
                }
            })
        })
        .collect();
    drop(send);
    let (mut early, mut at) = (BTreeSet::new(), 0);
    while at < written
        && let Ok(task) = receive.recv()
    {
        early.insert(task);
        assert!(
            early.len() as u64 <= WINDOW,
            "more waits than the window allows"
        );
        while early.remove(&at) {
            at += 1;
        }
        done.store(at, Ordering::SeqCst);
        gate.advance(at);
    }
    drop(receive);
    gate.close();
    for worker in workers {
        worker.join().unwrap();
    }
    assert!(at >= written.min(tasks));
}

#[test]
fn the_window_holds_and_nobody_waits_for_ever() {
    check(2000, || pass(6, 6));
}

#[test]
fn who_gives_up_lets_everybody_go() {
    check(2000, || pass(6, 2));
}
