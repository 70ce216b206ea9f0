//! How fast a verification may read, so that a machine that is in use stays usable.

use cairn_base::Clock;
use parking_lot::Mutex;
use std::num::NonZeroU64;
use std::time::Duration;

/// Longest time without a look whether the work is to stop.
const LOOK: Duration = Duration::from_millis(100);

/// Shared by the threads that read: together they keep the limit.
pub struct Pace<'a> {
    clock: &'a dyn Clock,
    /// Bytes a second.
    limit: Option<NonZeroU64>,
    /// When what was let through until now is paid for.
    paid: Mutex<Duration>,
}

impl<'a> Pace<'a> {
    /// At most `limit` bytes in each second, as `clock` counts them.
    pub fn new(limit: Option<NonZeroU64>, clock: &'a dyn Clock) -> Pace<'a> {
        Pace {
            clock,
            limit,
            paid: Mutex::new(Duration::ZERO),
        }
    }

    /// Returns when `bytes` may be read, or when `stop` says that nothing is to be read any more.
    pub fn take(&self, bytes: u64, stop: &dyn Fn() -> bool) {
        let Some(limit) = self.limit else {
            return;
        };
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(limit.get());
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let begin = {
            let mut paid = self.paid.lock();
            let begin = (*paid).max(self.clock.ticks());
            *paid = begin.saturating_add(cost);
            begin
        };
        loop {
            let left = begin.saturating_sub(self.clock.ticks());
            if left.is_zero() || stop() {
                return;
            }
            self.clock.wait(left.min(LOOK));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::Time;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Time passes only when somebody waits.
    #[derive(Default)]
    struct Patient(AtomicU64);

    impl Clock for Patient {
        fn now(&self) -> Time {
            Time::default()
        }
        fn ticks(&self) -> Duration {
            Duration::from_nanos(self.0.load(Ordering::SeqCst))
        }
        fn wait(&self, time: Duration) {
            assert!(time <= LOOK && !time.is_zero());
            let nanos = u64::try_from(time.as_nanos()).unwrap();
            self.0.fetch_add(nanos, Ordering::SeqCst);
        }
    }

    #[test]
    fn no_second_has_more_than_the_limit() {
        let clock = Patient::default();
        let pace = Pace::new(NonZeroU64::new(1_000_000), &clock);
        let mut reads = Vec::new();
        for number in 0..200u64 {
            let bytes = 1000 + number * 337 % 50_000;
            pace.take(bytes, &|| false);
            reads.push((clock.ticks(), bytes));
        }
        for (first, (begin, _)) in reads.iter().enumerate() {
            let second = reads[first..]
                .iter()
                .take_while(|(at, _)| *at < *begin + Duration::from_secs(1));
            let sum: u64 = second.map(|(_, bytes)| bytes).sum();
            // The last one may be under way when the second ends.
            assert!(sum <= 1_000_000 + 51_000, "{sum}");
        }
        // It is not slower than it must be, either.
        let all: u64 = reads.iter().map(|(_, bytes)| bytes).sum();
        assert!(clock.ticks() <= Duration::from_micros(all));
    }

    #[test]
    fn many_threads_keep_the_limit_together() {
        let clock = Patient::default();
        let pace = Pace::new(NonZeroU64::new(1_000_000), &clock);
        let reads = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for thread in 0..6u64 {
                let (clock, pace, reads) = (&clock, &pace, &reads);
                scope.spawn(move || {
                    for number in 0..60 {
                        let bytes = 1000 + (thread * 60 + number) * 337 % 50_000;
                        pace.take(bytes, &|| false);
                        reads.lock().push((clock.ticks(), bytes));
                    }
                });
            }
        });
        let mut reads = reads.into_inner();
        reads.sort_unstable();
        for (first, (begin, _)) in reads.iter().enumerate() {
            let second = reads[first..]
                .iter()
                .take_while(|(at, _)| *at < *begin + Duration::from_secs(1));
            let sum: u64 = second.map(|(_, bytes)| bytes).sum();
            // Of each thread one may be under way at either end.
            assert!(sum <= 1_000_000 + 2 * 6 * 51_000, "{sum}");
        }
    }

    #[test]
    fn without_a_limit_and_after_a_stop_nobody_waits() {
        let clock = Patient::default();
        Pace::new(None, &clock).take(u64::MAX, &|| false);
        let slow = Pace::new(NonZeroU64::new(1), &clock);
        slow.take(u64::MAX, &|| false);
        slow.take(1, &|| true);
        assert_eq!(clock.ticks(), Duration::ZERO);
    }
}
