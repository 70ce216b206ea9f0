//! Keeps workers from running ahead of the writer: memory is bounded by the window, whatever the disk's size.

use crate::sync::{Condvar, Mutex};

/// Lets tasks begin that are less than a window ahead of the oldest one not yet written.
pub struct Gate {
    state: Mutex<State>,
    moved: Condvar,
    window: u64,
}

struct State {
    written: u64,
    closed: bool,
}

impl Gate {
    /// A gate for `window` tasks at once.
    pub fn new(window: u64) -> Gate {
        Gate {
            state: Mutex::new(State {
                written: 0,
                closed: false,
            }),
            moved: Condvar::new(),
            window,
        }
    }

    /// Waits until task number `task` may begin; `false` if the backup ends.
    pub fn enter(&self, task: u64) -> bool {
        let mut state = self.state.lock();
        while !state.closed && task >= state.written.saturating_add(self.window) {
            self.moved.wait(&mut state);
        }
        !state.closed
    }

    /// `written` tasks are done.
    pub fn advance(&self, written: u64) {
        self.state.lock().written = written;
        self.moved.notify_all();
    }

    /// Nobody enters any more.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.moved.notify_all();
    }
}
