//! Keeps processors from sleeping while requests follow each other closely.
//!
//! Whoever reads through a mount waits for each answer, and so does this process for each request: both sleep and are woken thousands of
//! times a second. Waking a processor that sleeps costs some 50 microseconds on a virtual machine (it left to its host), and as
//! much in the deeper states of a real one: more than most requests take. The kernel lets a privileged process say how long waking may
//! take (`Documentation/power/pm_qos_interface.rst`): for as long as the file stays open, and no longer.

use parking_lot::{Condvar, Mutex};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const DEVICE: &str = "/dev/cpu_dma_latency";
const DRIVER: &str = "/sys/devices/system/cpu/cpuidle/current_driver";
/// Microseconds that waking may take. The shallowest state of a real processor stays allowed.
const SHALLOW: i32 = 2;
/// The idle driver of virtual machines leaves to the host unless it may take no time at all.
const AT_ONCE: i32 = 0;
/// No wish: what the kernel itself starts with.
const WHATEVER: i32 = 2_000_000_000;
/// How often it is looked whether requests still come.
const LOOK: Duration = Duration::from_millis(20);
/// So many requests between two looks are worth it.
const CLOSE: u64 = 16;

/// Tells the kernel. Without the right to, it does nothing.
#[derive(Default)]
pub struct Awake {
    shared: Option<Arc<Shared>>,
}

struct Shared {
    asked: AtomicU64,
    /// Whether the thread waits to be called.
    waits: AtomicBool,
    state: Mutex<State>,
    called: Condvar,
}

#[derive(Default)]
struct State {
    called: bool,
    ended: bool,
}

impl Awake {
    /// Of this process.
    pub fn new() -> Awake {
        let Ok(device) = OpenOptions::new().write(true).open(DEVICE) else {
            return Awake::default();
        };
        Awake::with(device, wish(Path::new(DRIVER)))
    }

    fn with(device: File, wish: i32) -> Awake {
        let shared = Arc::new(Shared {
            asked: AtomicU64::new(0),
            waits: AtomicBool::new(true),
            state: Mutex::default(),
            called: Condvar::new(),
        });
        let of = shared.clone();
        let started = std::thread::Builder::new()
            .name("cairn-awake".into())
            .spawn(move || of.watch(device, wish));
        Awake {
            shared: started.is_ok().then_some(shared),
        }
    }

    /// A request has come.
    pub fn asked(&self) {
        let Some(shared) = &self.shared else { return };
        let before = shared.asked.fetch_add(1, Ordering::Relaxed);
        // Not for every single one: what comes now and then may take its time.
        if before % CLOSE == 0
            && shared.waits.load(Ordering::Relaxed)
            && shared.waits.swap(false, Ordering::Relaxed)
        {
            shared.state.lock().called = true;
            shared.called.notify_one();
        }
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.state.lock().ended = true;
            shared.called.notify_one();
        }
    }
}

/// What to ask of the driver that this file names.
fn wish(driver: &Path) -> i32 {
    match std::fs::read_to_string(driver) {
        Ok(name) if name.trim() == "haltpoll" => AT_ONCE,
        _ => SHALLOW,
    }
}

impl Shared {
    fn watch(&self, mut device: File, wish: i32) {
        // Opening it says "at once".
        let mut said = device.write_all(&WHATEVER.to_ne_bytes());
        let mut state = self.state.lock();
        while said.is_ok() {
            while !state.called && !state.ended {
                self.called.wait(&mut state);
            }
            state.called = false;
            let mut awake = false;
            let mut before = self.asked.load(Ordering::Relaxed);
            while !state.ended {
                self.called.wait_for(&mut state, LOOK);
                let now = self.asked.load(Ordering::Relaxed);
                let busy = now.saturating_sub(before) >= CLOSE;
                before = now;
                if busy != awake && said.is_ok() {
                    let value = if busy { wish } else { WHATEVER };
                    said = device.write_all(&value.to_ne_bytes());
                    awake = busy;
                }
                if !busy {
                    break;
                }
            }
            // Closing the file takes back what was said.
            if state.ended {
                return;
            }
            self.waits.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
