//! What time it is: a trait, so that tests can turn the clock back.

use crate::time::Time;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Tells the time, and waits.
pub trait Clock: Send + Sync {
    /// Now, in UTC.
    fn now(&self) -> Time;

    /// Time that passed since some moment of this process; never goes back.
    fn ticks(&self) -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }

    /// Returns when `time` has passed.
    fn wait(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Time {
        let now = SystemTime::now();
        match now.duration_since(UNIX_EPOCH) {
            Ok(since) => Time {
                seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
                nanos: since.subsec_nanos(),
            },
            // A clock before 1970 is a broken clock; zero is as good as any answer and sorts first.
            Err(_) => Time::default(),
        }
    }
}
