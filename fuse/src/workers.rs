//! Threads that step in when all event loops are busy, so that one thing that hangs never keeps the mount from hearing
//! of the others.
//!
//! A request runs on the loop that received it while another loop is free to listen. The last free loop gives its
//! request away and goes on listening.

use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Threads beyond the event loops. Requests that wait for one longer than there are so many wait in line.
const MOST: usize = 128;
/// How long a thread waits for more work before it ends.
const IDLE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// The threads.
pub struct Workers {
    loops: usize,
    busy: AtomicUsize,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    idle: usize,
    threads: usize,
}

impl Workers {
    /// Beside so many event loops.
    pub fn new(loops: usize) -> Workers {
        Workers {
            loops,
            busy: AtomicUsize::new(0),
            shared: Arc::default(),
        }
    }

    /// Runs `job`, here or on another thread. A job that panics ends alone.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) {
        let others = self.busy.fetch_add(1, Ordering::Relaxed);
        if others.saturating_add(1) < self.loops {
            alone(job);
        } else {
            self.shared.give(Box::new(job));
        }
        self.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

fn alone(job: impl FnOnce()) {
    // What the job answers with says that it failed when it is dropped unanswered; the panic itself was reported.
    let _ = catch_unwind(AssertUnwindSafe(job));
}

impl Shared {
    fn give(self: &Arc<Self>, job: Job) {
        let mut state = self.state.lock();
        state.jobs.push_back(job);
        if state.jobs.len() <= state.idle {
            self.more.notify_one();
            return;
        }
        if state.threads >= MOST {
            return;
        }
        let shared = self.clone();
        let started = std::thread::Builder::new()
            .name("cairn-worker".into())
            .spawn(move || shared.work());
        match started {
            Ok(_) => state.threads = state.threads.saturating_add(1),
            // No thread to be had: whoever is there gets to it; with nobody there, do it here.
            Err(_) if state.threads > 0 => {}
            Err(_) => {
                let jobs: Vec<Job> = state.jobs.drain(..).collect();
                drop(state);
                jobs.into_iter().for_each(alone);
            }
        }
    }

    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                alone(job);
                state = self.state.lock();
                continue;
            }
            state.idle = state.idle.saturating_add(1);
            let waited = self.more.wait_for(&mut state, IDLE);
            state.idle = state.idle.saturating_sub(1);
            if waited.timed_out() && state.jobs.is_empty() {
                state.threads = state.threads.saturating_sub(1);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
