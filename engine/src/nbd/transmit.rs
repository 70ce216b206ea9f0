//! A connection after the handshake: requests are read one after the other, carried out by several threads, and answered as they
//! are done. What is in flight is bounded: in number, and in bytes.

use super::budget::{Budget, Claim};
use super::execute::{Executor, memory};
use super::handshake::{Agreed, broken};
use super::protocol::{Command, MAX_PAYLOAD, REQUEST_LEN, Request};
use cairn_base::Monitor;
use cairn_base::read_at::clip;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Bytes of requests and replies in memory, for each connection: more than the largest request.
const MAX_BYTES: u64 = 40 << 20;
/// Requests that wait, for each connection.
const MAX_WAITING: usize = 128;
/// Threads of a connection. Many wait for the disk below.
const MAX_WORKERS: usize = 16;
/// How far ahead of a reader that goes from one end to the other the disk is told what comes next, in bytes.
const AHEAD: u64 = 16 << 20;

struct Job<'a> {
    request: Request,
    payload: Vec<u8>,
    /// What is read soon.
    ahead: Option<Range<u64>>,
    cost: u64,
    /// Of the memory of all; the last field, given back last.
    _claim: Claim<'a>,
}

#[derive(Default)]
struct State<'a> {
    waiting: VecDeque<Job<'a>>,
    bytes: u64,
    workers: usize,
    idle: usize,
    is_closed: bool,
}

struct Queue<'a> {
    state: Mutex<State<'a>>,
    more: Condvar,
    room: Condvar,
    budget: &'a Budget,
}

/// Follows one who reads from one end to the other, if anybody does.
#[derive(Default)]
struct Follower {
    expected: u64,
    told: u64,
}

impl Follower {
    /// What to tell the disk below when `range` is read next.
    fn next(&mut self, range: &Range<u64>) -> Option<Range<u64>> {
        let follows = range.start == self.expected && range.start > 0;
        self.expected = range.end;
        if !follows {
            self.told = range.end;
            return None;
        }
        if self.told > range.end.saturating_add(AHEAD / 2) {
            return None;
        }
        let begin = self.told.max(range.end);
        self.told = range.end.saturating_add(AHEAD);
        Some(begin..self.told)
    }
}

/// Serves a client until it goes away.
///
/// # Errors
/// As the stream reports, and for a client that does not keep to the protocol.
pub(super) fn transmit<R: Read, W: Write + Send>(
    reader: &mut R,
    writer: W,
    agreed: &Agreed,
    monitor: &dyn Monitor,
    budget: &Budget,
) -> io::Result<()> {
    let executor = Executor::new(agreed, writer, monitor);
    let queue = Queue {
        state: Mutex::default(),
        more: Condvar::new(),
        room: Condvar::new(),
        budget,
    };
    std::thread::scope(|scope| {
        let _closes = Closes(&queue);
        let mut follower = Follower::default();
        loop {
            let mut bytes = [0; REQUEST_LEN];
            reader.read_exact(&mut bytes)?;
            let request = Request::parse(&bytes).map_err(|e| broken(&e.to_string()))?;
            let length = match request.command {
                Command::Disconnect => return Ok(()),
                Command::Write if request.length > MAX_PAYLOAD => {
                    return Err(broken("a write that is too long"));
                }
                Command::Write => usize::try_from(request.length).unwrap_or_default(),
                _ => 0,
            };
            let cost = memory(&request, agreed.structured);
            let claim = queue.make_room(cost)?;
            let mut payload = vec![0; length];
            reader.read_exact(&mut payload)?;
            let ahead = (request.command == Command::Read)
                .then(|| follower.next(&request.range()))
                .flatten();
            if queue.push(Job {
                request,
                payload,
                ahead,
                cost,
                _claim: claim,
            }) {
                std::thread::Builder::new()
                    .name("nbd request".to_string())
                    .spawn_scoped(scope, || queue.work(&executor, agreed))?;
            }
        }
    })
}

/// Whoever waits goes home when the reader does.
struct Closes<'a, 'b>(&'a Queue<'b>);

impl Drop for Closes<'_, '_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<'a> Queue<'a> {
    fn close(&self) {
        self.state.lock().is_closed = true;
        self.more.notify_all();
        self.room.notify_all();
        self.budget.wake();
    }

    /// Waits until there is room for a request, here and among all, and takes it.
    fn make_room(&self, cost: u64) -> io::Result<Claim<'a>> {
        let mut state = self.state.lock();
        while !state.is_closed
            && (state.waiting.len() >= MAX_WAITING
                || state.bytes > 0 && state.bytes + cost > MAX_BYTES)
        {
            self.room.wait(&mut state);
        }
        if state.is_closed {
            return Err(broken("a client that takes no replies"));
        }
        state.bytes += cost;
        drop(state);
        let is_alone = || {
            let state = self.state.lock();
            (!state.is_closed).then_some(state.bytes == cost)
        };
        self.budget
            .claim(cost, is_alone)
            .ok_or_else(|| broken("a client that takes no replies, or the server ends"))
    }

    /// Whether one more thread should work.
    fn push(&self, job: Job<'a>) -> bool {
        let mut state = self.state.lock();
        state.waiting.push_back(job);
        if state.idle >= state.waiting.len() || state.workers >= MAX_WORKERS {
            self.more.notify_one();
            return false;
        }
        state.workers += 1;
        true
    }

    fn next(&self) -> Option<Job<'a>> {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.waiting.pop_front() {
                self.room.notify_one();
                return Some(job);
            }
            if state.is_closed {
                return None;
            }
            state.idle += 1;
            self.more.wait(&mut state);
            state.idle -= 1;
        }
    }

    fn work<W: Write>(&self, executor: &Executor<'_, W>, agreed: &Agreed) {
        while let Some(job) = self.next() {
            let done = catch_unwind(AssertUnwindSafe(|| {
                if let Some(ahead) = job.ahead.clone() {
                    let disk = &agreed.export.disk;
                    disk.will_need(clip(ahead, disk.size()));
                }
                executor.execute(&job.request, &job.payload)
            }));
            let sent = done.unwrap_or_else(|_| executor.unexpected(&job.request));
            let mut state = self.state.lock();
            state.bytes = state.bytes.saturating_sub(job.cost);
            self.room.notify_one();
            drop(state);
            if sent.is_err() {
                // Nobody listens: what is left is for nobody.
                // Not while the lock is held: it comes after that of the memory of all.
                let left = std::mem::take(&mut self.state.lock().waiting);
                drop(left);
                self.close();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_on_is_followed_and_who_jumps_is_not() {
        let mut follower = Follower::default();
        let step = 1 << 20;
        assert_eq!(follower.next(&(0..step)), None);
        assert_eq!(
            follower.next(&(step..2 * step)),
            Some(2 * step..2 * step + AHEAD)
        );
        // Told once, not with every request.
        assert_eq!(follower.next(&(2 * step..3 * step)), None);
        assert_eq!(follower.next(&(500 * step..501 * step)), None);
        assert_eq!(follower.next(&(0..step)), None);
    }
}
