//! The compression level that suits the speed of the source.
//!
//! Where the processors are what everything waits for, a lower level makes the backup faster at little cost in space; where
//! they wait for the source (or the store's disk), a higher one costs no time.

use cairn_base::{Error, Result};
use std::time::Duration;

/// How much work compression may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Always this zstd level, 1 to 19.
    Fixed(i32),
    /// As high as costs no time, 1 to 9.
    Auto,
}

impl Default for Level {
    fn default() -> Level {
        Level::Fixed(3)
    }
}

impl Level {
    /// `auto`, or a number from 1 to 19.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) for anything else.
    pub fn parse(text: &str) -> Result<Level> {
        if text == "auto" {
            return Ok(Level::Auto);
        }
        match text.parse() {
            Ok(level) if (1..=19).contains(&level) => Ok(Level::Fixed(level)),
            _ => Err(Error::invalid(format!("`{text}` is no compression level"))
                .advise("say auto, or a number from 1 to 19")),
        }
    }

    /// The zstd level to begin with.
    pub fn first(self) -> i32 {
        match self {
            Level::Fixed(level) => level,
            Level::Auto => STEPS.get(FIRST).copied().unwrap_or(3),
        }
    }
}

/// The levels that `auto` chooses from.
const STEPS: [i32; 6] = [1, 2, 3, 5, 7, 9];
/// Where it begins.
const FIRST: usize = 2;
/// Regions that are looked at together.
const WINDOW: u32 = 4;
/// More than this share of the time spent waiting: there is time for a higher level.
const IDLE: f64 = 0.5;
/// Less than this: the processors are what everything waits for.
const BUSY: f64 = 0.25;

/// One worker's choice of a level.
#[derive(Debug)]
pub struct Pace {
    level: Level,
    step: usize,
    waited: Duration,
    worked: Duration,
    regions: u32,
}

impl Pace {
    /// Begins with the first level.
    pub fn new(level: Level) -> Pace {
        Pace {
            level,
            step: FIRST,
            waited: Duration::ZERO,
            worked: Duration::ZERO,
            regions: 0,
        }
    }

    /// Notes a region with something new in it: how long the worker waited for it and how long it worked on it.
    /// The new level, if it is time for another one.
    pub fn note(&mut self, waited: Duration, worked: Duration) -> Option<i32> {
        if self.level != Level::Auto {
            return None;
        }
        self.waited += waited;
        self.worked += worked;
        self.regions += 1;
        if self.regions < WINDOW {
            return None;
        }
        let all = (self.waited + self.worked).as_secs_f64();
        let idle = self.waited.as_secs_f64() / all.max(f64::MIN_POSITIVE);
        self.regions = 0;
        self.waited = Duration::ZERO;
        self.worked = Duration::ZERO;
        let step = if idle > IDLE {
            (self.step + 1).min(STEPS.len() - 1)
        } else if idle < BUSY {
            self.step.saturating_sub(1)
        } else {
            self.step
        };
        if step == self.step {
            return None;
        }
        self.step = step;
        STEPS.get(step).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(1);
    const LONG: Duration = Duration::from_millis(10);

    #[test]
    fn the_level_follows_who_waits() {
        let mut pace = Pace::new(Level::Auto);
        let mut levels = Vec::new();
        for _ in 0..5 * WINDOW {
            levels.extend(pace.note(LONG, SHORT));
        }
        assert_eq!(levels, [5, 7, 9]);
        levels.clear();
        for _ in 0..9 * WINDOW {
            levels.extend(pace.note(SHORT, LONG));
        }
        assert_eq!(levels, [7, 5, 3, 2, 1]);
        for _ in 0..3 * WINDOW {
            assert_eq!(pace.note(SHORT * 6, LONG), None);
        }
        let mut fixed = Pace::new(Level::Fixed(4));
        for _ in 0..9 * WINDOW {
            assert_eq!(fixed.note(LONG, SHORT), None);
        }
    }

    #[test]
    fn levels_are_named() {
        assert_eq!(Level::parse("auto").unwrap(), Level::Auto);
        assert_eq!(Level::parse("19").unwrap(), Level::Fixed(19));
        for bad in ["0", "20", "-1", "", "Auto", "3.5"] {
            assert!(Level::parse(bad).is_err(), "{bad}");
        }
    }
}
