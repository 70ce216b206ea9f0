//! What goes wrong while the mount is in use, told in lines: each once a minute at most, and not many at once.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The same line is told again after this time.
const AGAIN: Duration = Duration::from_secs(60);
/// Lines at once.
const BURST: u32 = 20;
/// After a burst a line may be told in each such time.
const PACE: Duration = Duration::from_secs(3);
/// Lines that are remembered.
const REMEMBERED: usize = 256;

/// Receives a line without a newline.
pub type Sink = Arc<dyn Fn(&str) + Send + Sync>;

/// Where lines go, and which were told.
#[derive(Default)]
pub struct Journal {
    sink: Option<Sink>,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    lines: HashMap<String, Instant>,
    /// Lines that may be told at once, and since when.
    left: u32,
    since: Option<Instant>,
    /// Lines that were left out since one was told.
    missed: u64,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").finish_non_exhaustive()
    }
}

impl Journal {
    /// One that tells `sink`.
    pub fn new(sink: Sink) -> Journal {
        Journal {
            sink: Some(sink),
            told: Mutex::default(),
        }
    }

    /// Tells a line, unless it was told lately or there are too many. What would play with a terminal is written as `\u{1b}`: guests give names.
    pub fn tell(&self, line: &str) {
        let Some(sink) = &self.sink else { return };
        let line = &*tame(line);
        let missed = self.told.lock().admit(line, Instant::now());
        // Not under the lock: where it goes may be slow.
        match missed {
            None => {}
            Some(0) => sink(line),
            Some(missed) => sink(&format!("{line} ({missed} other messages were left out)")),
        }
    }
}

/// Without control characters, line ends, and what turns the direction of writing.
fn tame(line: &str) -> String {
    let is_wild = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut tamed = String::with_capacity(line.len());
    for c in line.chars() {
        if is_wild(c) {
            tamed.extend(c.escape_unicode());
        } else {
            tamed.push(c);
        }
    }
    tamed
}

impl Told {
    /// Whether a line is told now, and how many were not since the last one.
    fn admit(&mut self, line: &str, now: Instant) -> Option<u64> {
        let since = |when: &Instant| now.saturating_duration_since(*when);
        if self.lines.get(line).is_some_and(|when| since(when) < AGAIN) {
            return None;
        }
        match self.since {
            None => (self.left, self.since) = (BURST, Some(now)),
            Some(when) => {
                let earned = since(&when).as_secs().checked_div(PACE.as_secs());
                let earned = u32::try_from(earned.unwrap_or(0)).unwrap_or(BURST);
                if earned > 0 {
                    self.left = self.left.saturating_add(earned).min(BURST);
                    self.since = Some(now);
                }
            }
        }
        let Some(left) = self.left.checked_sub(1) else {
            self.missed = self.missed.saturating_add(1);
            return None;
        };
        self.left = left;
        self.lines.retain(|_, when| since(when) < AGAIN);
        if self.lines.len() >= REMEMBERED {
            self.lines.clear();
        }
        self.lines.insert(line.to_string(), now);
        Some(std::mem::take(&mut self.missed))
    }
}

#[cfg(test)]
mod tests;
